"""How two updates of one weight lie to each other, and how an update lies to the weight that it changes.

Everything here depends on the product s B A alone. An invertible r x r matrix may move between the factors
without changing it, so entries, rows and columns of B and A are never compared; singular vectors are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geometry.checks import ShapeError, rows
from geometry.nulls import haar_overlap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from geometry.spectra import LowRank

DEAD = 0.01
"""Singular values below this share of the largest are called dead."""


def live_ranks(values: ArrayLike, share: float = DEAD) -> int:
    """How many singular values are at least a share of the largest.

    Args:
        values: singular values, largest first, shape (m,).
        share: above 0, at most 1.

    Returns:
        0 (all values are 0) to m.

    Raises:
        ShapeError: the share is outside (0, 1].

    Examples:
        >>> live_ranks([2.0, 1.0, 0.001])
        2
    """
    if not 0 < share <= 1:
        raise ShapeError(f"share: expected a number above 0 and at most 1, got {share}")
    values = np.asarray(values, dtype=np.float64)
    return int(np.sum(values >= share * values[0])) if values.any() else 0


def phi(u: ArrayLike, v: ArrayLike) -> NDArray[np.float64]:
    """Overlap of the first i directions of one update with the first j of another, for all i and j.

    phi(i, j) = ||U_i^T V_j||_F^2 / min(i, j) (Hu et al. 2021, eq. 4), from cumulative sums of squared
    cosines.

    Args:
        u: orthonormal directions in columns, the most important first, shape (d, k1).
        v: the same of the other update, shape (d, k2).

    Returns:
        Shape (k1, k2), entry [i - 1, j - 1] is phi(i, j), 0 (orthogonal) to 1 (one lies in the other).

    Raises:
        ShapeError: the directions live in different dimensions.

    Examples:
        >>> phi([[1, 0], [0, 1]], [[0, 1], [1, 0]])
        array([[0., 1.],
               [1., 1.]])
    """
    u = rows(u, "u")
    v = rows(v, "v")
    if len(u) != len(v):
        raise ShapeError(f"u lies in {len(u)} dimensions and v in {len(v)}; compare the same weight")
    shared = np.cumsum(np.cumsum((u.T @ v) ** 2, axis=0), axis=1)
    return np.minimum(shared / np.minimum.outer(*_counts(shared)), 1.0)


def phi_by_chance(d: int, k1: int, k2: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of :func:`phi` for uniformly random directions.

    Args:
        d: dimension they live in.
        k1: how many on the one side, 1 to d.
        k2: how many on the other, 1 to d.

    Returns:
        ``mean`` = max(i, j) / d and ``sd``, both (k1, k2).

    Raises:
        ShapeError: k1 or k2 is not in 1 to d.

    Examples:
        >>> phi_by_chance(4, 1, 2)[0]
        array([[0.25, 0.5 ]])
    """
    moments = [[haar_overlap(d, i, j) for j in range(1, k2 + 1)] for i in range(1, k1 + 1)]
    mean, sd = np.moveaxis(np.array(moments), 2, 0)
    return mean, sd


def update_cosine(one: LowRank, other: LowRank) -> float:
    """Cosine of two updates of one weight, <D1, D2>_F / (||D1||_F ||D2||_F), from r x r cores.

    For updates with uniformly random singular vectors it has mean 0 and standard deviation
    1 / sqrt(out * in), whatever their singular values.

    Args:
        one: an update.
        other: an update of the same shape, of any rank.

    Returns:
        -1 to 1.

    Raises:
        ShapeError: the shapes differ, or an update is zero and has no direction.

    Examples:
        >>> from geometry.spectra import LowRank
        >>> update_cosine(LowRank([[1.0], [1.0]], [[1.0]]), LowRank([[3.0], [0.0]], [[1.0]]))
        0.707...
    """
    norms = one.norm() * other.norm()
    if norms == 0:
        raise ShapeError("update cosine: an update is zero and has no direction; leave it out")
    return float(np.clip(one.inner(other) / norms, -1.0, 1.0))


@dataclass(frozen=True, eq=False)
class WeightSVD:
    """The singular vectors and values of a weight, taken once and asked many times.

    Attributes:
        left: left singular vectors in columns, shape (out, m), m = min(out, in).
        values: singular values, largest first, shape (m,).
        right: right singular vectors in columns, shape (in, m).
    """

    left: NDArray[np.float64]
    values: NDArray[np.float64]
    right: NDArray[np.float64]

    @classmethod
    def of(cls, weight: ArrayLike) -> WeightSVD:
        """Decompose a dense weight.

        Args:
            weight: shape (out, in).

        Returns:
            All its singular directions.

        Raises:
            ShapeError: not a matrix of finite numbers.

        Examples:
            >>> WeightSVD.of([[0.0, 2.0], [1.0, 0.0]]).values
            array([2., 1.])
        """
        left, values, right = np.linalg.svd(rows(weight, "weight"), full_matrices=False)
        return cls(left, values, right.T)


def band_energies(
    directions: ArrayLike, weights: ArrayLike, basis: ArrayLike, bands: int = 10
) -> NDArray[np.float64]:
    """Where the energy of some directions lies in an ordered basis, band by band.

    By chance a band holds its width over d, and what lies outside the basis (d - m) / d.

    Args:
        directions: orthonormal columns, such as singular vectors of an update, shape (d, k).
        weights: energy of each, such as squared singular values, shape (k,), none negative, not all 0.
        basis: orthonormal columns in order, such as singular vectors of the weight, shape (d, m).
        bands: how many bands of (nearly) equal width, 1 to m.

    Returns:
        Shares of the energy in each band, and last outside the basis: shape (bands + 1,), sum 1.

    Raises:
        ShapeError: dimensions differ, more bands than columns, or there is no energy.

    Examples:
        >>> band_energies([[0.6], [0.8]], [5.0], [[1, 0], [0, 1]], bands=2).round(2)
        array([0.36, 0.64, 0.  ])
    """
    basis = rows(basis, "basis")
    directions = rows(directions, "directions")
    weights = np.asarray(weights, dtype=np.float64)
    if len(directions) != len(basis) or not 1 <= bands <= basis.shape[1]:
        raise ShapeError(
            f"bands: {bands} bands of a basis {basis.shape} for directions {directions.shape}; "
            "use one space, and no more bands than the basis has columns"
        )
    if not weights.sum() > 0:
        raise ShapeError("bands: the directions hold no energy; leave an update that is zero out")
    held = (basis.T @ directions) ** 2 @ (weights / weights.sum())
    inside = np.array([part.sum() for part in np.array_split(held, bands)])
    return np.append(inside, max(0.0, 1.0 - inside.sum()))


def amplification(update: LowRank, weight: ArrayLike) -> float:
    """How much stronger an update is than the weight along the update's own directions.

    ||D||_F / ||U^T W V||_F with U, V the singular vectors of the update D that are not dead (Hu et al. 2021,
    section 7.3).

    Args:
        update: the update, not zero.
        weight: the weight that it changes, shape (out, in).

    Returns:
        A positive factor; large where the update strengthens what the weight hardly had. Infinite where the
        weight has nothing along these directions.

    Raises:
        ShapeError: another shape, or the update is zero.

    Examples:
        >>> from geometry.spectra import LowRank
        >>> amplification(LowRank([[0.0], [1.0]], [[0.0, 3.0]]), [[5.0, 0.0], [0.0, 0.5]])
        6.0
    """
    weight = rows(weight, "weight")
    if weight.shape != update.shape:
        raise ShapeError(f"weight: expected {update.shape} like its update, got {weight.shape}")
    u, s, vt = update.svd()
    k = live_ranks(s)
    if k == 0:
        raise ShapeError("amplification: the update is zero; leave it out")
    there = float(np.linalg.norm(u[:, :k].T @ weight @ vt[:k].T))
    return float(np.linalg.norm(s)) / there if there > 0 else float("inf")


def leading(matrix: NDArray[np.float64], k: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The top singular vectors of a dense matrix, much sooner than by its whole SVD.

    From the top eigenvectors of the smaller Gram matrix; squaring costs half the digits of small singular
    values, so this is for the largest ones.

    Args:
        matrix: shape (out, in).
        k: how many, at most min(out, in).

    Returns:
        ``left`` (out, k) and ``right`` (in, k), the most important first.

    Raises:
        ShapeError: k is not in 1 to min(out, in).

    Examples:
        >>> left, right = leading(np.array([[0.0, 2.0], [1.0, 0.0]]), 1)
        >>> abs(left).ravel(), abs(right).ravel()
        (array([1., 0.]), array([0., 1.]))
    """
    from scipy.linalg import eigh

    m = min(matrix.shape)
    if not 1 <= k <= m:
        raise ShapeError(f"leading: k must be 1 to {m}, got {k}")
    if matrix.shape[0] > matrix.shape[1]:
        right, left = leading(matrix.T, k)
        return left, right
    _, left = eigh(matrix @ matrix.T, subset_by_index=(m - k, m - 1))
    left = left[:, ::-1]
    right = matrix.T @ left
    lengths = np.linalg.norm(right, axis=0)
    return left, right / np.where(lengths > 0, lengths, 1.0)


def best_matches(directions: ArrayLike, basis: ArrayLike) -> NDArray[np.float64]:
    """For each direction, the largest |cosine| with any column of a basis.

    Args:
        directions: unit columns, shape (d, k).
        basis: unit columns, shape (d, m).

    Returns:
        Shape (k,), 0 to 1.

    Raises:
        ShapeError: the directions live in different dimensions.

    Examples:
        >>> best_matches([[0.6], [0.8]], [[1, 0], [0, 1]])
        array([0.8])
    """
    directions, basis = rows(directions, "directions"), rows(basis, "basis")
    if len(directions) != len(basis):
        raise ShapeError(
            f"directions lie in {len(directions)} dimensions and the basis in {len(basis)}; use one space"
        )
    return np.minimum(np.abs(basis.T @ directions).max(axis=0), 1.0)


def intruders(matches: ArrayLike, ks: Sequence[int], thresholds: Sequence[float]) -> NDArray[np.int64]:
    """Count intruder dimensions over a grid: top directions that resemble nothing in the weight.

    Shuttleworth et al. 2024 count the singular vectors among the top k of W0 + D whose |cosine| with *every*
    singular vector of W0 is below a threshold. One threshold is a choice, so this counts for several.

    Args:
        matches: :func:`best_matches` of the adapted weight's top directions, the most important first.
        ks: how many of them to look at; more than there are means all.
        thresholds: of |cosine|, 0 to 1.

    Returns:
        Shape (len(ks), len(thresholds)).

    Examples:
        >>> intruders([0.99, 0.2, 0.55], ks=(2, 3), thresholds=(0.3, 0.6))
        array([[1, 1],
               [1, 2]])
    """
    matches = np.asarray(matches, dtype=np.float64)
    return np.array([[int(np.sum(matches[:k] < eps)) for eps in thresholds] for k in ks])


def _counts(grid: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return np.arange(1, grid.shape[0] + 1), np.arange(1, grid.shape[1] + 1)
