"""Does a cloud have the modes that the theory predicts: subspaces, spectrum, and the curve itself?

Eigenvectors inside a degenerate pair can be turned into each other, so they are compared pair by pair, as
planes, and never one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geometry.checks import ShapeError, rows

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from geometry.lattice import Modes


@dataclass(frozen=True)
class ModeAlignment:
    """Principal components of a cloud against predicted modes.

    Attributes:
        pairs: for each group of equal predicted eigenvalues (a pair, round a cycle), the mean squared cosine
            between its plane and the principal components of the same positions, 0 to 1.
        chance: the same for a random cloud, size of the group / (n - 1).
        cumulative: g(k) = ||U_k^T V_k||^2 / k for k at the end of each group, 0 to 1.
        ends: those k; g(k) is k / (n - 1) by chance.
    """

    pairs: tuple[float, ...]
    chance: tuple[float, ...]
    cumulative: tuple[float, ...]
    ends: tuple[int, ...]

    @property
    def area(self) -> float:
        """Mean of (g(k) - chance) / (1 - chance) over the ends below n - 1: 0 by chance, 1 at best."""
        n = self.ends[0] / self.chance[0] + 1
        kept = [(g, k / (n - 1)) for g, k in zip(self.cumulative, self.ends, strict=True) if k < n - 1.5]
        return float(np.mean([(g - floor) / (1 - floor) for g, floor in kept])) if kept else 0.0


@dataclass(frozen=True)
class SpectrumMatch:
    """Two spectra over the same modes.

    Attributes:
        cosine: of the shares, 0 to 1.
        flat: the cosine that a flat profile would have with the second spectrum, the floor of ``cosine``: .75
            for the months of English Wikipedia.
        log_r2: share of the variation of the second's log shares that the first's meet, with slope 1: 1 (equal),
            0 (as good as flat) and below.
    """

    cosine: float
    flat: float
    log_r2: float


@dataclass(frozen=True)
class Procrustes:
    """A cloud laid over a predicted curve by a rotation, a reflection, a shift and one scale.

    Attributes:
        r2: share of the curve's variance that is met, 0 to 1.
        scale: by which the cloud was multiplied.
        laid: the cloud on the curve's coordinates, shape (n, k), to be drawn with it.
    """

    r2: float
    scale: float
    laid: NDArray[np.float64]


def principal_coordinates(points: ArrayLike) -> NDArray[np.float64]:
    """Rows about their mean in their own principal axes: the same distances in at most n - 1 dimensions.

    Args:
        points: rows, shape (n, d), n >= 2.

    Returns:
        Shape (n, min(n - 1, d)), widest axis first.

    Raises:
        ShapeError: not rows of finite numbers, or fewer than 2.

    Examples:
        >>> np.abs(principal_coordinates([[0.0, 0, 0], [0, 3, 4]]))
        array([[2.5],
               [2.5]])
    """
    points = rows(points, "points")
    if len(points) < 2:
        raise ShapeError(f"points: expected at least 2 items, got {len(points)}")
    u, s, _ = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)
    return (u * s)[:, : len(points) - 1]


def mode_alignment(points: ArrayLike, prediction: Modes) -> ModeAlignment:
    """Compare principal components of a cloud with predicted modes, group by group and cumulatively.

    g(k) and its chance line are from Nava and Wyart 2026 (arXiv 2605.23821).

    Args:
        points: rows in latent order, shape (n, d).
        prediction: of :func:`geometry.lattice.modes` over the same items. Groups beyond the rank of the cloud
            are left out.

    Returns:
        Alignments with their chance.

    Raises:
        ShapeError: another number of items than the prediction, or a cloud with fewer dimensions than the
            first group.

    Examples:
        >>> from geometry.lattice import cycle_modes
        >>> square = cycle_modes([2.0, 1.0, 0.0, 1.0])
        >>> round(mode_alignment(square.coordinates, square).pairs[0], 12)
        1.0
    """
    n = len(prediction.vectors)
    points = rows(points, "points")
    if len(points) != n:
        raise ShapeError(f"points: expected {n} rows, one an item of the prediction, got {len(points)}")
    u, s, _ = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)
    rank = int(np.sum(s > 1e-10 * s[0])) if s[0] > 0 else 0
    groups = [group for group in prediction.groups() if group.stop <= rank]
    if not groups:
        raise ShapeError(
            f"points: span {rank} dimensions, fewer than the first predicted group; add dimensions"
        )
    squares = (u.T @ prediction.vectors) ** 2
    sizes = [group.stop - group.start for group in groups]
    pairs = [float(squares[g, g].sum()) / size for g, size in zip(groups, sizes, strict=True)]
    cumulative = [float(squares[: g.stop, : g.stop].sum()) / g.stop for g in groups]
    return ModeAlignment(
        pairs=tuple(min(1.0, share) for share in pairs),
        chance=tuple(size / (n - 1) for size in sizes),
        cumulative=tuple(min(1.0, share) for share in cumulative),
        ends=tuple(group.stop for group in groups),
    )


def spectrum_match(values: ArrayLike, reference: ArrayLike) -> SpectrumMatch:
    """Compare two spectra mode by mode, after each is divided by its sum.

    Args:
        values: powers or absolute eigenvalues, one a mode or pair, shape (k,), k >= 2, positive.
        reference: of the same modes, from a corpus or a kernel.

    Returns:
        Cosine and R^2 on logs, with what a flat profile would reach.

    Raises:
        ShapeError: lengths differ, fewer than 2 modes, or a value that is not positive.

    Examples:
        >>> spectrum_match([2.0, 1.0], [4.0, 2.0])
        SpectrumMatch(cosine=1.0, flat=0.948..., log_r2=1.0)
    """
    one, other = (_shares(side, name) for side, name in ((values, "values"), (reference, "reference")))
    if len(one) != len(other):
        raise ShapeError(f"reference: expected {len(one)} values like the first spectrum, got {len(other)}")
    logs, left = np.log(other), np.log(other) - np.log(one)
    total = np.sum((logs - logs.mean()) ** 2)
    log_r2 = float(1 - np.sum((left - left.mean()) ** 2) / total) if total > 0 else 0.0
    return SpectrumMatch(_cosine(one, other), _cosine(np.ones(len(other)), other), log_r2)


def paired_shares(n: int) -> NDArray[np.float64]:
    """Shares of a flat spectrum over the harmonics of n items: 2 / (n - 1), half that for the alternating one.

    Examples:
        >>> paired_shares(4)
        array([0.66666667, 0.33333333])
    """
    shares = np.full(n // 2, 2 / (n - 1))
    if n % 2 == 0:
        shares[-1] /= 2
    return shares


def procrustes(points: ArrayLike, curve: ArrayLike) -> Procrustes:
    """Lay the leading principal components of a cloud over a predicted curve.

    As many components are used as the curve has columns, so that a cloud in a thousand dimensions cannot fit
    anything. The best rotation and scale are those of Schoenemann (1966): R^2 = ||A^T B||_*^2 / (||A||^2
    ||B||^2).

    Args:
        points: rows in latent order, shape (n, d), d >= k.
        curve: predicted coordinates, shape (n, k).

    Returns:
        R^2 (by chance about k / (n - 1) and more, for the rotation is fitted), the scale and the laid cloud.

    Raises:
        ShapeError: lengths differ, a side does not vary, or the cloud has fewer dimensions than the curve.

    Examples:
        >>> found = procrustes([[0.0, 0.0], [0.0, 2.0], [4.0, 0.0]], [[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
        >>> round(found.r2, 12), round(found.scale, 12)
        (1.0, 0.5)
    """
    curve = rows(curve, "curve")
    cloud = principal_coordinates(points)
    n, k = curve.shape
    if len(cloud) != n or cloud.shape[1] < k:
        raise ShapeError(f"points: expected {n} rows in {k} or more dimensions, got {np.shape(points)}")
    cloud, centre = cloud[:, :k], curve.mean(axis=0)
    about = curve - centre
    sizes = float(np.sum(cloud**2)), float(np.sum(about**2))
    if min(sizes) == 0:
        raise ShapeError("procrustes: the points or the curve do not vary")
    u, s, vt = np.linalg.svd(cloud.T @ about)
    scale = float(s.sum()) / sizes[0]
    r2 = min(1.0, float(s.sum()) ** 2 / (sizes[0] * sizes[1]))
    return Procrustes(r2, scale, scale * cloud @ u @ vt + centre)


def _shares(values: ArrayLike, name: str) -> NDArray[np.float64]:
    values = rows(np.atleast_2d(values), name)[0]
    if len(values) < 2 or np.any(values <= 0):
        raise ShapeError(f"{name}: expected at least 2 positive values; leave out modes without energy")
    return values / values.sum()


def _cosine(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return min(1.0, float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other))))
