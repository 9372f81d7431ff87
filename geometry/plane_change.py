"""What became of a concept's plane: turned away, bent within itself, or only larger.

A change of a cloud of items has three parts that mean different things. The plane of its leading components may
turn in the space of the model (principal angles); its shape, whatever way it lies, may bend (Procrustes); and it
may grow or shrink.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geometry.checks import ShapeError, rows
from geometry.mode_match import procrustes
from geometry.subspaces import principal_angles

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class PlaneChange:
    """From one cloud to another over the same items.

    Attributes:
        turn: largest principal angle between the planes of the leading components, in degrees, 0 to 90.
        bend: 1 - R^2 of the second cloud's leading components laid over those of the first by rotation,
            reflection and one scale: 0 where the shape is the same, up to 1.
        growth: log2 of the ratio of root mean squared distances from the mean; 1 is twice as large.
    """

    turn: float
    bend: float
    growth: float


def plane_of(points: ArrayLike, k: int) -> NDArray[np.float64]:
    """The plane of the k leading principal components.

    Args:
        points: rows, one an item, shape (n, d).
        k: dimensions of it.

    Returns:
        Orthonormal columns, shape (d, k).

    Raises:
        ShapeError: the points span fewer dimensions.

    Examples:
        >>> abs(plane_of([[0.0, 0.0, 5.0], [0.0, 2.0, 0.0], [0.0, -2.0, 0.0], [0.0, 0.0, -5.0]], 1)).round(12).T
        array([[0., 0., 1.]])
    """
    points = rows(points, "points")
    _, s, vt = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)
    if int(np.sum(s > 1e-10 * np.abs(points).max(initial=0.0))) < k:
        raise ShapeError(f"points: span fewer than {k} dimensions; are the items all equal?")
    return vt[:k].T


def plane_change(before: ArrayLike, after: ArrayLike, k: int) -> PlaneChange:
    """Compare two clouds of the same items in one space.

    Args:
        before: rows, shape (n, d).
        after: rows of the same items in the same order, shape (n, d).
        k: leading components that are looked at.

    Returns:
        Turn, bend and growth; all 0 for equal clouds.

    Raises:
        ShapeError: other shapes, or clouds that span fewer than k dimensions.

    Examples:
        >>> x = np.array([[1.0, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0]])
        >>> turned = x @ np.array([[1.0, 0, 0], [0, 0.5, 0.75**0.5], [0, -(0.75**0.5), 0.5]])
        >>> found = plane_change(x, 2 * turned, 2)
        >>> round(found.turn, 9), round(found.bend, 9), round(found.growth, 9)
        (60.0, 0.0, 1.0)
    """
    before, after = rows(before, "before"), rows(after, "after")
    if before.shape != after.shape:
        raise ShapeError(f"after: expected shape {before.shape} like before, got {after.shape}")
    turn = principal_angles(plane_of(before, k), plane_of(after, k))[0]
    about = [side - side.mean(axis=0) for side in (before, after)]
    curve = about[0] @ plane_of(before, k)
    sizes = [float(np.sum(side**2)) for side in about]
    return PlaneChange(
        turn=float(np.rad2deg(turn)),
        bend=1.0 - procrustes(after, curve).r2,
        growth=float(np.log2(sizes[1] / sizes[0]) / 2),
    )
