"""How alike two sets of rows are whatever the bases: CKA, Procrustes distance, canonical correlation.

Everything comes from covariances with divisor n, so from streamed moments::

    stats = pairs.answer()
    procrustes_distance(stats.cov_base, stats.cov_adapted, stats.cross_adapted)

These measures forgive a change of basis. A base model and its adapted version share one basis, where
forgiveness throws information away: CKA stays above 0.99 for adapters that change everything a reader sees.
Use them for gross change only, and :mod:`geometry.subspaces` for where the change points.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geometry.checks import ShapeError, rows
from geometry.moments import unbiased_square
from geometry.spectra import Spectrum, rank_for_energy, spectrum

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from geometry.moments import PairedStats

# |x|^2 and |y|^2 = |x + d|^2 in terms of (|x|^2, x.d, |d|^2), the products that PairedStats keeps
_BASE, _ADAPTED = np.array([1.0, 0.0, 0.0]), np.array([1.0, 2.0, 1.0])


@dataclass(frozen=True)
class UnbiasedCKA:
    """Linear CKA of base and adapted rows, with the three estimates that it is made of.

    Attributes:
        cka: at most about 1, near 0 for independent rows, possibly a little below; None where one of the two
            variances is not positive, that is where there are too few rows to tell.
        hsic_cross: unbiased ||Cov(base, adapted)||_F^2; can be negative.
        hsic_base: unbiased ||Cov(base)||_F^2.
        hsic_adapted: unbiased ||Cov(adapted)||_F^2.
    """

    cka: float | None
    hsic_cross: float
    hsic_base: float
    hsic_adapted: float


def unbiased_cka(stats: PairedStats) -> UnbiasedCKA:
    """Linear CKA of base and adapted rows from HSIC_1 (Song et al. 2012), streamed over any number of rows.

    The plain :func:`linear_cka` finds likeness in noise when rows are not many times more than dimensions:
    0.46 between independent Gaussian rows at n = 300, d = 256, where this gives 0.

    Args:
        stats: moments of at least 4 rows.

    Returns:
        The ratio and its parts.

    Raises:
        ShapeError: fewer than 4 rows.

    Examples:
        >>> from geometry.moments import PairedMoments
        >>> pairs = PairedMoments(1)
        >>> pairs.update([[0], [1], [2], [3], [4]], [[0], [-2], [-4], [-6], [-8]])
        >>> round(unbiased_cka(pairs.answer()).cka, 12)
        1.0
    """
    trace_base, trace_adapted = float(np.trace(stats.cov_base)), float(np.trace(stats.cov_adapted))
    cross = unbiased_square(
        stats.n, stats.cross_adapted, trace_base * trace_adapted, _BASE @ stats.quartic @ _ADAPTED
    )
    base = unbiased_square(stats.n, stats.cov_base, trace_base**2, _BASE @ stats.quartic @ _BASE)
    adapted = unbiased_square(
        stats.n, stats.cov_adapted, trace_adapted**2, _ADAPTED @ stats.quartic @ _ADAPTED
    )
    known = base > 0 and adapted > 0
    return UnbiasedCKA(
        cross / float(np.sqrt(base) * np.sqrt(adapted)) if known else None, cross, base, adapted
    )


def linear_cka(cov_x: ArrayLike, cov_y: ArrayLike, cross: ArrayLike) -> float:
    """Linear CKA, ||Cov(x, y)||_F^2 / (||Cov(x)||_F ||Cov(y)||_F) (Kornblith et al. 2019, eq. 3 and 4).

    Biased upwards by noise, see :func:`unbiased_cka`.

    Args:
        cov_x: Cov(x), shape (p, p).
        cov_y: Cov(y), shape (q, q).
        cross: Cov(x, y), shape (p, q).

    Returns:
        0 to 1; 1 for a rotation and rescaling of the same rows.

    Raises:
        ShapeError: shapes do not fit together, or x or y does not vary.

    Examples:
        >>> linear_cka([[4.0]], [[1.0]], [[1.0]])
        0.25
    """
    cov_x, cov_y, cross = _covariances(cov_x, cov_y, cross)
    return min(1.0, float(np.sum(cross**2) / (np.linalg.norm(cov_x) * np.linalg.norm(cov_y))))


def procrustes_distance(cov_x: ArrayLike, cov_y: ArrayLike, cross: ArrayLike) -> float:
    """Distance left after the best rotation, min over Q of sqrt(E|x - Q y|^2), both centred.

    sqrt(tr Cov(x) + tr Cov(y) - 2 ||Cov(x, y)||_*) (Williams et al. 2021). Beside sqrt(tr Cov(y - x)), the
    distance without a rotation, it tells how much of a change is a pure rotation. The square loses its
    digits below about 1e-16 of the variance, so distances below 1e-8 of the spread are rounding.

    Args:
        cov_x: Cov(x), shape (p, p).
        cov_y: Cov(y), shape (q, q); the narrower side is padded with zeros.
        cross: Cov(x, y), shape (p, q).

    Returns:
        A metric up to rotation, >= 0, in the units of the rows.

    Raises:
        ShapeError: shapes do not fit together, or x or y does not vary.

    Examples:
        >>> procrustes_distance([[4.0]], [[1.0]], [[-2.0]])
        1.0
    """
    cov_x, cov_y, cross = _covariances(cov_x, cov_y, cross)
    shared = np.linalg.svd(cross, compute_uv=False).sum()
    return float(np.sqrt(max(0.0, np.trace(cov_x) + np.trace(cov_y) - 2 * shared)))


def mean_cca(cov_x: ArrayLike, cov_y: ArrayLike, cross: ArrayLike) -> float:
    """Mean canonical correlation of x and y (Hotelling 1936): singular values of whitened Cov(x, y).

    Every direction counts alike, also those of hardly any variance, and it is 1 for any rows when p or q
    reaches n. :func:`svcca` keeps the directions that carry the variance.

    Args:
        cov_x: Cov(x), of full rank, shape (p, p).
        cov_y: Cov(y), of full rank, shape (q, q).
        cross: Cov(x, y), shape (p, q).

    Returns:
        0 to 1, the mean over min(p, q) correlations; unchanged by any invertible linear map of either side.

    Raises:
        ShapeError: shapes do not fit together, or a covariance has directions of no variance.

    Examples:
        >>> mean_cca([[4.0]], [[1.0]], [[1.0]])
        0.5
    """
    cov_x, cov_y, cross = _covariances(cov_x, cov_y, cross)
    return _mean_correlation(_full(cov_x, "cov_x"), _full(cov_y, "cov_y"), cross)


def svcca(cov_x: ArrayLike, cov_y: ArrayLike, cross: ArrayLike, *, share: float = 0.99) -> float:
    """Mean canonical correlation within the top principal directions of each side (Raghu et al. 2017).

    Args:
        cov_x: Cov(x), shape (p, p).
        cov_y: Cov(y), shape (q, q).
        cross: Cov(x, y), shape (p, q).
        share: variance to keep on each side, in (0, 1].

    Returns:
        0 to 1, the mean over the smaller number of directions kept.

    Raises:
        ShapeError: shapes do not fit together, x or y does not vary, or the share is outside (0, 1].

    Examples:
        The second coordinates carry no variance to speak of, and are left out:

        >>> svcca([[4.0, 0.0], [0.0, 1e-9]], [[1.0, 0.0], [0.0, 1e-9]], [[1.0, 0.0], [0.0, 0.0]])
        0.5
    """
    cov_x, cov_y, cross = _covariances(cov_x, cov_y, cross)
    x, y = spectrum(cov_x), spectrum(cov_y)
    x, y = x.top(rank_for_energy(x.values, share)), y.top(rank_for_energy(y.values, share))
    return _mean_correlation(x, y, cross)


def _mean_correlation(x: Spectrum, y: Spectrum, cross: NDArray[np.float64]) -> float:
    whitened = (x.vectors / np.sqrt(x.values)).T @ cross @ (y.vectors / np.sqrt(y.values))
    return float(np.minimum(np.linalg.svd(whitened, compute_uv=False), 1.0).mean())


def _full(cov: NDArray[np.float64], name: str) -> Spectrum:
    found = spectrum(cov)
    rank = int(np.sum(found.values > len(cov) * np.finfo(np.float64).eps * found.values[0]))
    if rank < len(cov):
        raise ShapeError(f"{name}: rank {rank} of {len(cov)}; give more rows than dimensions, or use svcca")
    return found


def _covariances(cov_x: ArrayLike, cov_y: ArrayLike, cross: ArrayLike) -> tuple[NDArray[np.float64], ...]:
    cov_x, cov_y = rows(cov_x, "cov_x"), rows(cov_y, "cov_y")
    cross = rows(cross, "cross")
    p, q = cross.shape
    if cov_x.shape != (p, p) or cov_y.shape != (q, q):
        raise ShapeError(
            f"covariances: expected cov_x (p, p), cov_y (q, q) and cross (p, q), "
            f"got {cov_x.shape}, {cov_y.shape} and {cross.shape}"
        )
    if not cov_x.any() or not cov_y.any():
        raise ShapeError("covariances: x or y does not vary at all; there is nothing to compare")
    return cov_x, cov_y, cross
