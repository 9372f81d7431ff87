"""How many directions carry how much: eigenvalues, the ranks read off them, and low-rank updates.

All ranks here take *energies*: eigenvalues of a covariance or second moment, that is squared singular
values. Pass ``lowrank.singular_values() ** 2`` for a weight update. Say in every label whether the matrix was
centred: uncentred, the first direction is often nothing but the mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geometry.checks import ShapeError, rows
from geometry.moments import ROUNDING, unbiased_square

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from geometry.moments import PairedStats

# what a covariance that was stored in float32 may lack in symmetry or positivity, beside its largest entry
_UNEVEN = 1e-6


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Eigenvalues and eigenvectors of a symmetric positive semi-definite matrix.

    Attributes:
        values: energies, largest first, none negative, shape (k,).
        vectors: orthonormal eigenvectors in columns, in the same order, shape (d, k). The largest coordinate
            of each is positive.
    """

    values: NDArray[np.float64]
    vectors: NDArray[np.float64]

    def top(self, k: int) -> Spectrum:
        """The k directions of most energy.

        Args:
            k: how many, 1 to the number there are.

        Returns:
            A spectrum of k values and k columns.

        Raises:
            ShapeError: there are not k directions.

        Examples:
            >>> spectrum([[1.0, 0.0], [0.0, 4.0]]).top(1).vectors
            array([[0.],
                   [1.]])
        """
        if not 1 <= k <= len(self.values):
            raise ShapeError(f"top: k must be 1 to {len(self.values)}, got {k}")
        return Spectrum(self.values[:k], self.vectors[:, :k])


def spectrum(matrix: ArrayLike) -> Spectrum:
    """Decompose a covariance or second moment.

    Args:
        matrix: symmetric and positive semi-definite up to rounding, shape (d, d).

    Returns:
        All d directions; eigenvalues that rounding made negative are 0.

    Raises:
        ShapeError: not square, not finite, not symmetric, or clearly negative in some direction.

    Examples:
        >>> spectrum([[2.0, 1.0], [1.0, 2.0]]).values
        array([3., 1.])
    """
    matrix = rows(matrix, "spectrum")
    if matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise ShapeError(f"spectrum: expected (d, d), got {matrix.shape}; pass a covariance, not rows")
    largest = np.abs(matrix).max()
    if np.abs(matrix - matrix.T).max() > _UNEVEN * largest:
        raise ShapeError("spectrum: the matrix is not symmetric; pass a covariance, or use an SVD")
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    if values[0] < -_UNEVEN * len(values) * largest:
        raise ShapeError(
            f"spectrum: an eigenvalue is {values[0]:.3g}; pass a covariance, which has none below 0"
        )
    return Spectrum(np.maximum(values[::-1], 0.0), signed(vectors[:, ::-1]))


def signed(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same directions, each with its largest coordinate positive.

    Args:
        vectors: directions in columns, shape (d, k).

    Returns:
        Columns that do not depend on which sign a solver chose, shape (d, k).
    """
    leading = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=0)[None], axis=0)
    return vectors * np.where(leading < 0, -1.0, 1.0)


def effective_rank(values: ArrayLike) -> float:
    """Exponential of the entropy of the energies (Roy and Vetterli 2007, on energies).

    Args:
        values: energies, none negative, shape (k,), any order.

    Returns:
        Between 1 and k; k equal energies give k. 0 if all are 0: nothing has no directions.

    Raises:
        ShapeError: not a non-empty vector of finite numbers >= 0.

    Examples:
        >>> round(effective_rank([2.0, 2.0, 2.0, 0.0]), 12)
        3.0
    """
    values = _scaled_energies(values)
    if not values.any():
        return 0.0
    shares = values / values.sum()
    shares = shares[shares > 0]
    return float(np.exp(-np.sum(shares * np.log(shares))))


def participation_ratio(values: ArrayLike) -> float:
    """Squared sum of the energies over the sum of their squares, (tr C)^2 / tr C^2.

    Biased downwards when C comes from few rows; :func:`participation_ratio_unbiased` is not.

    Args:
        values: energies, none negative, shape (k,), any order.

    Returns:
        Between 1 and k; k equal energies give k. 0 if all are 0.

    Raises:
        ShapeError: not a non-empty vector of finite numbers >= 0.

    Examples:
        >>> participation_ratio([4.0, 4.0, 2.0, 2.0])
        3.6
    """
    values = _scaled_energies(values)
    return float(values.sum() ** 2 / np.sum(values**2)) if values.any() else 0.0


def stable_rank(values: ArrayLike) -> float:
    """Sum of the energies over the largest, tr C / ||C||_2.

    Args:
        values: energies, none negative, shape (k,), any order.

    Returns:
        Between 1 and k; 0 if all are 0.

    Raises:
        ShapeError: not a non-empty vector of finite numbers >= 0.

    Examples:
        >>> stable_rank([4.0, 1.0, 1.0])
        1.5
    """
    values = _scaled_energies(values)
    return float(values.sum())


def rank_for_energy(values: ArrayLike, share: float) -> int:
    """How many of the largest energies hold a share of the sum.

    Args:
        values: energies, none negative, shape (k,), any order.
        share: in (0, 1], 0.9 for the rank often called k90.

    Returns:
        The smallest such number, 1 to k; 0 if all energies are 0.

    Raises:
        ShapeError: the share is outside (0, 1], or not a non-empty vector of finite numbers >= 0.

    Examples:
        >>> rank_for_energy([5.0, 3.0, 1.0, 1.0], 0.8)
        2
    """
    if not 0 < share <= 1:
        raise ShapeError(f"share: expected a number above 0 and at most 1, got {share}")
    held = np.cumsum(np.sort(_scaled_energies(values))[::-1])
    # ten energies of 0.1 do not add up to 1.0 in binary
    return int(np.searchsorted(held, share * held[-1] * (1 - 1e-12))) + 1 if held[-1] > 0 else 0


def relative_gap(values: ArrayLike, k: int) -> float:
    """How far the k-th largest energy stands above the next, (v_k - v_{k+1}) / v_k.

    Near 0 the span of the top k directions is arbitrary: its last members trade places with what follows at
    the least noise, and an angle to it means little. Choose another k.

    Args:
        values: energies, none negative, shape (m,), any order.
        k: dimension of the top subspace, 1 to m - 1.

    Returns:
        0 (a tie) to 1 (nothing after the k-th); 0 where the k-th energy is itself 0.

    Raises:
        ShapeError: k is not in 1 to m - 1, or not a non-empty vector of finite numbers >= 0.

    Examples:
        >>> relative_gap([8.0, 4.0, 1.0], 2)
        0.75
    """
    values = np.sort(_scaled_energies(values))[::-1]
    if not 1 <= k < len(values):
        raise ShapeError(f"gap: k must be 1 to {len(values) - 1}, below the {len(values)} energies, got {k}")
    return float((values[k - 1] - values[k]) / values[k - 1]) if values[k - 1] > 0 else 0.0


def participation_ratio_unbiased(stats: PairedStats) -> float | None:
    """Participation ratio of the centred differences, (tr C)^2 / tr C^2, each part without bias.

    Both parts are the estimators of Himeno and Yamada (2014, "Estimations for some functions of covariance
    matrix in high dimension under non-normality"), for independent rows. Tokens of one text are not quite
    independent: compare halves of the documents as well.

    Args:
        stats: moments of at least 4 rows.

    Returns:
        The ratio, or None where the estimate of tr C^2 is not positive: too few rows to tell.

    Raises:
        ShapeError: fewer than 4 rows.

    Examples:
        >>> from geometry.moments import PairedMoments
        >>> pairs = PairedMoments(2)
        >>> signs = [[1, 1], [1, -1], [-1, 1], [-1, -1]]
        >>> pairs.update([[0, 0]] * 1000, signs * 250)
        >>> round(participation_ratio_unbiased(pairs.answer()), 1)
        2.0
    """
    n, trace = stats.n, float(np.trace(stats.cov_diff))
    quartic = float(stats.quartic[2, 2])
    below = unbiased_square(n, stats.cov_diff, trace**2, quartic)
    squares = 2 * float(np.sum(stats.cov_diff**2)) + (n * n - 3 * n + 1) * trace**2
    above = n / ((n - 1) * (n - 2) * (n - 3)) * (squares - (n - 1) * quartic)
    return above / below if below > 0 else None


def participation_ratio_about_zero_unbiased(stats: PairedStats) -> float | None:
    """Participation ratio of the uncentred differences, (tr S)^2 / tr S^2 with S = E[d d^T], without bias.

    (E|d|^2)^2 and tr S^2 are averages over pairs of different rows, hence ((sum |d|^2)^2 - sum |d|^4) over
    (||sum d d^T||_F^2 - sum |d|^4).

    Args:
        stats: moments of at least 2 rows.

    Returns:
        The ratio, or None where the estimate of tr S^2 is not positive: too few rows to tell.

    Raises:
        ShapeError: fewer than 2 rows.

    Examples:
        >>> from geometry.moments import PairedMoments
        >>> pairs = PairedMoments(2)
        >>> pairs.update([[0, 0]] * 3, [[1, 1]] * 3)
        >>> round(participation_ratio_about_zero_unbiased(pairs.answer()), 12)
        1.0
    """
    if stats.n < 2:
        raise ShapeError(f"participation ratio: needs at least 2 rows, got {stats.n}; give more text")
    energy = stats.n * stats.mean_square_diff**2
    below = stats.n * float(np.sum(stats.second_diff**2)) - stats.fourth_diff
    return (energy - stats.fourth_diff) / below if below > ROUNDING * energy else None


@dataclass(frozen=True, eq=False)
class LowRank:
    """An update scale * b @ a of a weight, such as LoRA's, that is never multiplied out.

    The factors mean nothing one by one (any invertible r x r matrix can move between them); the methods give
    what is left unchanged by that.

    Attributes:
        b: what is written, shape (out, r).
        a: what is read, shape (r, in).
        scale: a factor on the product, alpha / r in plain LoRA.

    Raises:
        ShapeError: the factors do not fit together, or hold values that are not finite.

    Examples:
        >>> update = LowRank(b=[[3.0], [4.0]], a=[[0.0, 2.0]], scale=0.5)
        >>> float(update.norm()), update.dense()
        (5.0, array([[0., 3.],
               [0., 4.]]))
    """

    b: NDArray[np.float64]
    a: NDArray[np.float64]
    scale: float = 1.0

    def __post_init__(self) -> None:
        b, a = rows(self.b, "b"), rows(self.a, "a")
        if b.shape[1] != a.shape[0] or not b.size or not a.size:
            raise ShapeError(f"low rank: expected b (out, r) and a (r, in), got {b.shape} and {a.shape}")
        if not np.isfinite(self.scale):
            raise ShapeError(f"low rank: scale must be a finite number, got {self.scale}")
        object.__setattr__(self, "b", b)
        object.__setattr__(self, "a", a)
        object.__setattr__(self, "scale", float(self.scale))

    @property
    def shape(self) -> tuple[int, int]:
        """Shape (out, in) of the product."""
        return self.b.shape[0], self.a.shape[1]

    @property
    def rank(self) -> int:
        """Number r of columns of b; the product has this rank or less."""
        return self.b.shape[1]

    def svd(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Singular vectors and values of the product, from QR of each factor and an SVD of the small core.

        Returns:
            ``u`` (out, m), ``s`` (m,) largest first, ``vt`` (m, in), m = min(r, out, in), such that
            u * s @ vt is the product.
        """
        left, core_b = np.linalg.qr(self.b)
        right, core_a = np.linalg.qr(self.a.T)
        u, s, vt = np.linalg.svd(self.scale * (core_b @ core_a.T), full_matrices=False)
        return left @ u, s, vt @ right.T

    def singular_values(self) -> NDArray[np.float64]:
        """Singular values of the product, largest first, shape (min(r, out, in),)."""
        core = np.linalg.qr(self.b, mode="r") @ np.linalg.qr(self.a.T, mode="r").T
        return np.linalg.svd(self.scale * core, compute_uv=False)

    def dense(self) -> NDArray[np.float64]:
        """The product itself, shape (out, in)."""
        return self.scale * (self.b @ self.a)

    def norm(self) -> float:
        """Frobenius norm of the product."""
        return float(np.linalg.norm(self.singular_values()))

    def inner(self, other: LowRank) -> float:
        """Frobenius inner product with another update of the same weight.

        Args:
            other: an update of the same shape, of any rank.

        Returns:
            Sum over entries of the product of both; divided by both norms, the cosine of two adapters.

        Raises:
            ShapeError: the shapes differ.
        """
        if self.shape != other.shape:
            raise ShapeError(
                f"low rank: shapes {self.shape} and {other.shape} differ; compare the same weight"
            )
        return float(self.scale * other.scale * np.sum((self.b.T @ other.b) * (self.a @ other.a.T)))


def _scaled_energies(values: ArrayLike) -> NDArray[np.float64]:
    """Energies as shares of the largest, so that no square or sum of them leaves the range of float64."""
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or not values.size:
        raise ShapeError(f"values: expected one or more energies (k,), got shape {values.shape}")
    if not np.isfinite(values).all() or values.min() < 0:
        raise ShapeError("values: energies must be finite and >= 0; spectrum() gives such")
    return values / (values.max() or 1.0)
