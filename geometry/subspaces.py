"""Where directions point: angles between subspaces, and how much of one thing lies inside another.

A subspace of R^d is given by any independent vectors in columns, shape (d, k). Nothing here depends on which
vectors they are, nor on a rotation that both sides share; everything depends on a rotation of one side only,
since base and adapted model live in the same coordinates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from geometry.checks import ShapeError, rows
from geometry.spectra import spectrum

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def orthonormal(a: ArrayLike, name: str = "basis") -> NDArray[np.float64]:
    """An orthonormal basis of the span of the columns.

    Args:
        a: independent vectors in columns, shape (d, k), 1 <= k <= d.
        name: what the caller calls it; used in the message.

    Returns:
        Orthonormal columns of the same span, shape (d, k).

    Raises:
        ShapeError: not a (d, k) array of finite numbers, more columns than dimensions, or columns that depend
            on each other.

    Examples:
        >>> abs(orthonormal([[3.0], [4.0]]))
        array([[0.6],
               [0.8]])
    """
    if np.ndim(a) == 1:
        raise ShapeError(f"{name}: expected columns (d, k), got {np.shape(a)}; one direction is v[:, None]")
    a = rows(a, name)
    d, k = a.shape
    if not 1 <= k <= d:
        raise ShapeError(
            f"{name}: {k} columns cannot be a basis in {d} dimensions; put basis vectors in columns"
        )
    q, r = np.linalg.qr(a)
    lengths = np.linalg.norm(r, axis=0)
    # the scale of a column says nothing about its direction
    sizes = np.linalg.svd(r / np.where(lengths > 0, lengths, 1.0), compute_uv=False)
    rank = int(np.sum(sizes > d * np.finfo(np.float64).eps * sizes[0]))
    if rank < k:
        raise ShapeError(
            f"{name}: its {k} columns span only {rank} dimensions; drop the dependent ones, "
            f"or take spectrum(a @ a.T).top({max(rank, 1)}).vectors"
        )
    return q


def principal_angles(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """Principal angles between the spans of two sets of columns.

    Sines and cosines are both computed, and paired: the largest sine belongs to the smallest cosine (Björck
    and Golub 1973; Knyazev and Argentati 2002). So an angle of 1e-9 keeps its digits beside one of 1.4;
    scipy 1.17's ``subspace_angles`` pairs them in opposite orders and loses it.

    Args:
        a: independent vectors in columns, shape (d, k1).
        b: independent vectors in columns, shape (d, k2).

    Returns:
        min(k1, k2) angles in radians, 0 to pi/2, largest first. They are right to about 1e-15 times the
        condition number of the columns given.

    Raises:
        ShapeError: the columns live in different dimensions, outnumber them, or depend on each other.

    Examples:
        The first axis is shared, the second turned by 45 degrees out of the plane:

        >>> xy, turned = [[1, 0], [0, 1], [0, 0]], [[1, 0], [0, 1], [0, 1]]
        >>> np.rad2deg(principal_angles(xy, turned)).round(9)
        array([45.,  0.])
    """
    small, large = sorted(_bases(a, b), key=lambda basis: basis.shape[1])
    inside = large.T @ small
    sines = np.linalg.svd(small - large @ inside, compute_uv=False)
    cosines = np.linalg.svd(inside, compute_uv=False)
    return np.arctan2(sines, cosines[::-1])


def overlap(u: ArrayLike, v: ArrayLike) -> float:
    """Mean squared cosine of the principal angles, ||U^T V||_F^2 / min(k1, k2).

    This is phi(i, j) of LoRA (Hu et al. 2021, eq. 4). By chance it is max(k1, k2) / d, see
    :func:`geometry.nulls.haar_overlap`.

    Args:
        u: independent vectors in columns, shape (d, k1).
        v: independent vectors in columns, shape (d, k2).

    Returns:
        0 (orthogonal) to 1 (the smaller subspace lies in the larger).

    Raises:
        ShapeError: the columns live in different dimensions, outnumber them, or depend on each other.

    Examples:
        >>> round(overlap([[1, 0], [0, 1], [0, 0]], [[1, 0], [0, 1], [0, 1]]), 12)
        0.75
    """
    u, v = _bases(u, v)
    return min(1.0, float(np.sum((u.T @ v) ** 2)) / min(u.shape[1], v.shape[1]))


def capture(cov: ArrayLike, basis: ArrayLike) -> float:
    """Share of energy that a subspace holds, of what the best k directions could hold.

    tr(V^T C V) over the sum of the k largest eigenvalues of C: unlike the overlap of two top-k subspaces, it
    does not jump when two eigenvalues trade places.

    Args:
        cov: covariance or second moment C, shape (d, d).
        basis: independent vectors in columns, shape (d, k).

    Returns:
        0 to 1.

    Raises:
        ShapeError: C is no covariance, is zero, or has another d than the basis.

    Examples:
        >>> capture([[3.0, 0.0], [0.0, 1.0]], [[1.0], [1.0]])
        0.666...
    """
    top = spectrum(cov).values
    v = orthonormal(basis)
    if len(v) != len(top):
        raise ShapeError(f"basis: lies in {len(v)} dimensions, the covariance in {len(top)}; use one layer's")
    best = float(np.sum(top[: v.shape[1]]))
    if best == 0:
        raise ShapeError("capture: the covariance is zero; nothing changed, so there is no share to give")
    return min(1.0, float(np.sum(v * (np.asarray(cov, dtype=np.float64) @ v))) / best)


def matrix_cosine(c1: ArrayLike, c2: ArrayLike) -> float:
    """Cosine of two matrices as vectors, <C1, C2>_F / (||C1||_F ||C2||_F).

    Args:
        c1: a matrix, often a covariance, shape (p, q).
        c2: a matrix of the same shape.

    Returns:
        -1 to 1; for two covariances 0 (orthogonal supports) to 1 (proportional).

    Raises:
        ShapeError: shapes differ, values are not finite, or a matrix is zero.

    Examples:
        >>> matrix_cosine([[1.0, 0.0], [0.0, 1.0]], [[2.0, 0.0], [0.0, 0.0]])
        0.707...
    """
    c1, c2 = rows(c1, "c1"), rows(c2, "c2")
    if c1.shape != c2.shape:
        raise ShapeError(f"c2: expected {c1.shape} like c1, got {c2.shape}")
    norms = float(np.linalg.norm(c1)) * float(np.linalg.norm(c2))
    if norms == 0:
        raise ShapeError("matrix cosine: a matrix is zero; nothing changed, so it has no direction")
    return float(np.clip(np.sum(c1 * c2) / norms, -1.0, 1.0))


def coordinate_concentration(directions: ArrayLike, m: int = 3) -> NDArray[np.float64]:
    """Share of each direction's square that lies in its m largest coordinates.

    A direction with more than half of it in 3 of thousands of coordinates says that an outlier dimension
    moved; a uniformly random one has about 2 m ln(d / m) / d there.

    Args:
        directions: directions in columns, of any length but 0, shape (d, k).
        m: number of coordinates, 1 to d.

    Returns:
        m / d (all coordinates alike) to 1 (no other coordinate takes part), shape (k,).

    Raises:
        ShapeError: not a (d, k) array of finite numbers, a direction is zero, or m is not in 1 to d.

    Examples:
        >>> coordinate_concentration([[1.0, 1.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]], 1)
        array([0.25, 1.  ])
    """
    if np.ndim(directions) == 1:
        raise ShapeError(
            f"directions: expected columns (d, k), got {np.shape(directions)}; one direction is v[:, None]"
        )
    squares = np.sort(rows(directions, "directions") ** 2, axis=0)[::-1]
    if not 1 <= m <= len(squares):
        raise ShapeError(f"coordinates: m must be 1 to {len(squares)}, got {m}")
    energies = squares.sum(axis=0)
    if (energies == 0).any():
        raise ShapeError("directions: one of them is zero, and points nowhere")
    return squares[:m].sum(axis=0) / energies


def _bases(a: ArrayLike, b: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    left, right = orthonormal(a, "a"), orthonormal(b, "b")
    if len(left) != len(right):
        raise ShapeError(f"a lies in {len(left)} dimensions and b in {len(right)}; compare the same width")
    return left, right
