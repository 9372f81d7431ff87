"""Where the items of a concept lie: round a cycle, along a line, on a grid, on the globe.

A :class:`Layout` is what a claim of symmetry is about. It says how far apart any two items are and which pairs
the claim holds to be alike; everything in :mod:`geometry.symmetry`, :mod:`geometry.lattice` and
:mod:`geometry.probes` is asked of a layout, and knows nothing of words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from geometry.checks import ShapeError, rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

Kind = Literal["cycle", "line", "grid", "sphere", "part"]

EARTH_KM = 6371.0088
"""Mean radius of the Earth."""


@dataclass(frozen=True)
class Layout:
    """Items in latent order, and what is known of where they lie.

    Attributes:
        kind: ``cycle``, ``line``, ``grid`` or ``sphere``; ``part`` where items of one of these are missing, so
            that what needs equal steps (harmonics, roundness, closure) is not asked.
        distance: between any two items, shape (n, n), symmetric, zero diagonal; in steps, or in km on a sphere.
        lags: class of each pair, shape (n, n), symmetric; pairs of one class are alike if the statistics are
            symmetric. Classes are numbered from 0, the diagonal is -1.
        targets: what a linear probe should read off, shape (n, t): (cos, sin), position in [-1, 1], one
            position for each axis of a grid, or a point of the unit sphere.
    """

    kind: Kind
    distance: NDArray[np.float64]
    lags: NDArray[np.int64]
    targets: NDArray[np.float64]

    @property
    def n(self) -> int:
        """Number of items."""
        return len(self.distance)


def cycle(n: int) -> Layout:
    """Items at equal steps round a circle, such as months.

    Args:
        n: number of items, at least 3.

    Returns:
        Distances min(|i - j|, n - |i - j|) in steps; floor(n / 2) lags.

    Raises:
        ShapeError: fewer than 3 items.

    Examples:
        >>> cycle(12).distance[0]
        array([0., 1., 2., 3., 4., 5., 6., 5., 4., 3., 2., 1.])
    """
    _at_least_three(n)
    steps = _steps(n)
    around = np.minimum(steps, n - steps)
    angle = 2 * np.pi * np.arange(n) / n
    targets = np.column_stack([np.cos(angle), np.sin(angle)])
    return Layout("cycle", around.astype(np.float64), around - 1, targets)


def line(n: int) -> Layout:
    """Items at equal steps along a line with two ends, such as years.

    Args:
        n: number of items, at least 3.

    Returns:
        Distances |i - j| in steps; n - 1 lags; targets in [-1, 1].

    Raises:
        ShapeError: fewer than 3 items.

    Examples:
        >>> line(4).lags[0]
        array([-1,  0,  1,  2])
    """
    _at_least_three(n)
    steps = _steps(n)
    return Layout("line", steps.astype(np.float64), steps - 1, np.linspace(-1, 1, n)[:, None])


def grid(shape: Sequence[int]) -> Layout:
    """Items on a rectangular grid with edges, the last axis fastest.

    Args:
        shape: number of steps along each axis, at least 2 each, such as (10, 10).

    Returns:
        Euclidean distances in steps; one lag for each set of absolute differences.

    Raises:
        ShapeError: no axis, or an axis with fewer than 2 steps.

    Examples:
        >>> grid((2, 2)).distance[0].round(3)
        array([0.   , 1.   , 1.   , 1.414])
    """
    shape = tuple(int(side) for side in shape)
    if not shape or min(shape) < 2 or np.prod(shape) < 3:
        raise ShapeError(f"grid: expected at least 2 steps along each axis, got {shape}; drop that axis")
    places = np.stack(np.meshgrid(*(np.arange(side) for side in shape), indexing="ij"), axis=-1)
    places = places.reshape(-1, len(shape))
    apart = np.abs(places[:, None] - places)
    code = apart @ np.array([int(np.prod([1, *shape[axis + 1 :]])) for axis in range(len(shape))])
    lags = np.unique(code, return_inverse=True)[1].reshape(code.shape) - 1
    targets = 2 * places / (np.array(shape) - 1) - 1
    return Layout("grid", np.sqrt(np.sum(apart**2, axis=-1, dtype=np.float64)), lags, targets)


def sphere(latitude_longitude: ArrayLike, *, bins: int = 12) -> Layout:
    """Places on the globe, alike by great-circle distance.

    Distances are continuous, so pairs are put into classes of equal size by their distance.

    Args:
        latitude_longitude: degrees north and east, shape (n, 2).
        bins: number of distance classes, at least 2.

    Returns:
        Great-circle distances in km on a globe of radius 6371.0088 km; targets on the unit sphere.

    Raises:
        ShapeError: fewer than 3 places, latitudes beyond 90 or longitudes beyond 180 degrees, fewer than 2
            bins, or fewer pairs than bins.

    Examples:
        From the pole to two points of the equator, and between those:

        >>> places = sphere([[90, 0], [0, 0], [0, 90]], bins=2)
        >>> (places.distance / EARTH_KM * 2 / np.pi).round(6)
        array([[0., 1., 1.],
               [1., 0., 1.],
               [1., 1., 0.]])
    """
    degrees = rows(latitude_longitude, "coordinates", 2)
    _at_least_three(len(degrees))
    if np.any(np.abs(degrees) > (90.0, 180.0)):
        raise ShapeError("coordinates: expected (latitude, longitude) within 90 and 180 degrees; swap them?")
    points = unit_sphere(degrees)
    distance = great_circle(points[:, None], points)
    np.fill_diagonal(distance, 0.0)
    return Layout("sphere", distance, distance_bins(distance, bins), points)


def part(layout: Layout, keep: Sequence[int]) -> Layout:
    """Some items of a layout, at the distances that they have in the whole.

    Args:
        layout: the whole.
        keep: indices of the items, rising, at least 3.

    Returns:
        The same layout where all are kept, and of places on the globe a globe; else a layout of kind ``part``.
        Classes of pairs that have no pair left are gone.

    Raises:
        ShapeError: fewer than 3 items, or indices that do not rise within the layout.

    Examples:
        The months without May still have June next to July, and April two steps from June:

        >>> part(cycle(12), [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11]).distance[3, :6]
        array([3., 2., 1., 0., 2., 3.])
    """
    chosen = np.asarray(keep, dtype=np.int64)
    _at_least_three(len(chosen))
    if np.any(np.diff(chosen) <= 0) or chosen[0] < 0 or chosen[-1] >= layout.n:
        raise ShapeError(f"part: expected rising indices below {layout.n}, got {list(keep)}")
    if len(chosen) == layout.n:
        return layout
    here = np.ix_(chosen, chosen)
    found = np.unique(layout.lags[here], return_inverse=True)[1].reshape(len(chosen), -1) - 1
    kind = "sphere" if layout.kind == "sphere" else "part"
    return Layout(kind, layout.distance[here], found, layout.targets[chosen])


def unit_sphere(latitude_longitude: ArrayLike) -> NDArray[np.float64]:
    """Points of the unit sphere from degrees north and east, shape (n, 2) to (n, 3).

    Examples:
        >>> unit_sphere([[0, 90]]).round(6) + 0.0
        array([[0., 1., 0.]])
    """
    latitude, longitude = np.deg2rad(rows(latitude_longitude, "coordinates", 2)).T
    level = np.cos(latitude)
    return np.column_stack([level * np.cos(longitude), level * np.sin(longitude), np.sin(latitude)])


def great_circle(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Great-circle distance in km between points of the unit sphere, shapes (..., 3), broadcast.

    From half the chord, 2 arcsin(|a - b| / 2) (the haversine formula), so that small distances keep their
    digits.

    Examples:
        >>> round(float(great_circle(np.array([0.0, 0, 1]), np.array([0.0, 0, -1]))), 2)
        20015.11
    """
    chord = np.linalg.norm(one - other, axis=-1)
    return EARTH_KM * 2 * np.arcsin(np.minimum(chord / 2, 1.0))


def distance_bins(distance: ArrayLike, bins: int) -> NDArray[np.int64]:
    """Put pairs into classes of equal size by distance, nearest first.

    Pairs at the same distance fall into one class, so there may be fewer classes than asked for.

    Args:
        distance: between any two items, shape (n, n), symmetric.
        bins: number of classes, at least 2 and at most the number of pairs.

    Returns:
        Class of each pair, from 0; -1 on the diagonal; shape (n, n).

    Raises:
        ShapeError: not square, or no such number of classes.

    Examples:
        >>> distance_bins([[0, 1, 2], [1, 0, 3], [2, 3, 0]], 3)
        array([[-1,  0,  1],
               [ 0, -1,  2],
               [ 1,  2, -1]])
    """
    distance = square(distance, "distance")
    upper = np.triu_indices(len(distance), 1)
    pairs = distance[upper]
    if not 2 <= bins <= len(pairs):
        raise ShapeError(f"bins: expected 2 to {len(pairs)} classes for {len(pairs)} pairs, got {bins}")
    edges = np.quantile(pairs, np.arange(1, bins) / bins)
    found = np.unique(np.searchsorted(edges, pairs, side="left"), return_inverse=True)[1]
    lags = np.full(distance.shape, -1)
    lags[upper] = found
    lags.T[upper] = found
    return lags


def square(matrix: ArrayLike, name: str, n: int | None = None) -> NDArray[np.float64]:
    """Check a symmetric matrix over items, and return it in float64.

    Args:
        matrix: shape (n, n).
        name: what the caller calls it; used in the message.
        n: number of items that is expected, if it is known.

    Returns:
        The same values, shape (n, n).

    Raises:
        ShapeError: not square, of another size, not symmetric to 1e-6 of its largest entry, or not finite.

    Examples:
        >>> square([[0, 1], [1, 0]], "distance").shape
        (2, 2)
    """
    matrix = rows(matrix, name, n)
    if matrix.shape[0] != matrix.shape[1]:
        raise ShapeError(f"{name}: expected one row and one column for each item, got {matrix.shape}")
    if np.abs(matrix - matrix.T).max(initial=0.0) > 1e-6 * np.abs(matrix).max(initial=0.0):
        raise ShapeError(f"{name}: is not symmetric; take (m + m.T) / 2 if the sides mean the same")
    return matrix


def pairs_of(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Entries above the diagonal, row by row, shape (n (n - 1) / 2,).

    Examples:
        >>> pairs_of(np.array([[0, 1, 2], [1, 0, 3], [2, 3, 0]]))
        array([1, 2, 3])
    """
    return matrix[np.triu_indices(len(matrix), 1)]


def _steps(n: int) -> NDArray[np.int64]:
    return np.abs(np.subtract.outer(np.arange(n), np.arange(n)))


def _at_least_three(n: int) -> None:
    if n < 3:
        raise ShapeError(f"layout: expected at least 3 items, got {n}; two items have no order")
