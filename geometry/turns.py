"""Did the principal subspace of the activations turn, or does a handful of huge coordinates hide that it did?

Language models have a few coordinates of enormous variance. They own the first principal directions of base and
adapted model alike, whose angles are then 0 whatever the adapter does. So the same question is asked three
times: of the activations as they are, without those coordinates, and in a metric in which all directions vary
alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geometry.checks import ShapeError, rows
from geometry.spectra import relative_gap, spectrum
from geometry.subspaces import principal_angles

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from geometry.spectra import Spectrum


@dataclass(frozen=True, eq=False)
class Turns:
    """Principal angles between top-k subspaces of base and adapted activations, in radians, largest first.

    Attributes:
        raw: of the activations as they are, shape (k,).
        trimmed: without outlier coordinates, shape (k,).
        whitened: between the subspaces of ``raw``, in the metric in which base activations vary (nearly) alike
            in all directions, shape (k,). A subspace that leaks into directions in which the base hardly
            varies turns far here, and hardly at all in ``raw``.
        gap: the smaller of both sides' relative gaps behind the k-th eigenvalue, 0 to 1; near 0 the subspaces
            of ``raw`` and ``whitened`` are arbitrary, see :func:`geometry.spectra.relative_gap`.
        gap_trimmed: the same without outlier coordinates.
        dropped: number of outlier coordinates.
    """

    raw: NDArray[np.float64]
    trimmed: NDArray[np.float64]
    whitened: NDArray[np.float64]
    gap: float
    gap_trimmed: float
    dropped: int


def turns(
    cov_base: ArrayLike, cov_adapted: ArrayLike, k: int, *, outlier: float = 50.0, shrinkage: float = 0.1
) -> Turns:
    """Compare the top-k principal subspaces of base and adapted activations three ways.

    The angles' floor is the same measurement between halves of the base documents, and between base and random
    adapters.

    Args:
        cov_base: Cov(base), shape (d, d).
        cov_adapted: Cov(adapted), shape (d, d).
        k: dimension of the subspaces, at least 1 and below the number of coordinates kept.
        outlier: a coordinate is dropped from ``trimmed`` whose variance, in base or adapted, exceeds this many
            times the median over coordinates of the same model.
        shrinkage: s of the metric C_s = (1 - s) C + s tr(C) / d I of the base in ``whitened``, in (0, 1]. It
            bounds how much a direction of hardly any variance can count; 1 makes ``whitened`` equal ``raw``.

    Returns:
        Angles, gaps and the number of coordinates dropped.

    Raises:
        ShapeError: the two are no covariances of the same width, k does not fit, the shrinkage is outside (0, 1],
            or the base does not vary.

    Examples:
        A huge first coordinate hides that the second and third trade places:

        >>> found = turns(np.diag([1e4, 2, 1, 1, 1]), np.diag([1e4, 1, 2, 1, 1]), 1)
        >>> np.rad2deg(found.raw), np.rad2deg(found.trimmed), found.dropped
        (array([0.]), array([90.]), 1)
    """
    cov_base, cov_adapted = rows(cov_base, "cov_base"), rows(cov_adapted, "cov_adapted")
    if cov_base.shape != cov_adapted.shape:
        raise ShapeError(f"cov_adapted: expected {cov_base.shape} like cov_base, got {cov_adapted.shape}")
    if not 0 < shrinkage <= 1:
        raise ShapeError(f"shrinkage: expected a number above 0 and at most 1, got {shrinkage}")
    base, adapted = spectrum(cov_base), spectrum(cov_adapted)
    if base.values[0] == 0:
        raise ShapeError("turns: the base activations do not vary at all; there is no subspace to turn")
    kept = ~(_stands_out(cov_base, outlier) | _stands_out(cov_adapted, outlier))
    if not 1 <= k < kept.sum():
        raise ShapeError(f"turns: k must be at least 1 and below the {kept.sum()} coordinates kept, got {k}")
    trimmed = (base, adapted)
    if not kept.all():
        trimmed = spectrum(cov_base[np.ix_(kept, kept)]), spectrum(cov_adapted[np.ix_(kept, kept)])
    return Turns(
        raw=_angles(base, adapted, k),
        trimmed=_angles(*trimmed, k),
        whitened=_whitened(base, adapted, k, shrinkage),
        gap=min(relative_gap(side.values, k) for side in (base, adapted)),
        gap_trimmed=min(relative_gap(side.values, k) for side in trimmed),
        dropped=int(np.sum(~kept)),
    )


def _stands_out(cov: NDArray[np.float64], times: float) -> NDArray[np.bool_]:
    variances = np.diag(cov)
    return variances > times * np.median(variances)


def _angles(base: Spectrum, adapted: Spectrum, k: int) -> NDArray[np.float64]:
    return principal_angles(base.top(k).vectors, adapted.top(k).vectors)


def _whitened(base: Spectrum, adapted: Spectrum, k: int, shrinkage: float) -> NDArray[np.float64]:
    """Angles between C_s^(-1/2) U_base and C_s^(-1/2) U_adapted, in the eigenbasis of C."""
    metric = (1 - shrinkage) * base.values + shrinkage * base.values.mean()
    scale = 1 / np.sqrt(metric)[:, None]
    # both sides are turned into the base's eigenbasis, which changes no angle between them
    return principal_angles(scale * np.eye(len(metric), k), scale * (base.vectors.T @ adapted.top(k).vectors))
