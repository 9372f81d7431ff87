"""How features share the dimensions of a space: their dimensionality, and the polytopes that they form.

Elhage et al. 2022 (Toy Models of Superposition) found that features trained to share dimensions fall into groups
orthogonal to each other, each a small regular polytope, so that the share of a dimension that a feature gets is
sticky: 1/2 in a digon, 2/3 in a triangle, 3/4 in a tetrahedron, 2/5 in a pentagon, 3/8 in a square antiprism.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geometry.checks import rows

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

NAMES = {
    (1, 1): "alone",
    (2, 1): "digon",
    (3, 2): "triangle",
    (4, 3): "tetrahedron",
    (5, 2): "pentagon",
    (8, 3): "square antiprism",
}
"""Features and dimensions of a group -> its name. Other groups are called by these two numbers."""

REPRESENTED = 0.5
"""A feature counts as represented when its column is at least this long; trained ones lie near 0 or 1."""

TOUCHING = 0.2
"""Represented features belong to one group when the cosine between them is larger than this, in absolute value."""

UNEVEN = 0.05
"""A group is regular when the dimensionality of each member is this near to dimensions / features, and its centre,
relative to the length of a member, this near to the origin."""

FLAT = 0.02
"""Directions with less than this share of a group's energy are not counted among its dimensions."""


@dataclass(frozen=True)
class Polytope:
    """Features that share dimensions with each other and with no others.

    Attributes:
        features: their numbers, ascending.
        dimensions: how many dimensions they span.
        regular: whether they share them evenly, around the origin.
    """

    features: tuple[int, ...]
    dimensions: int
    regular: bool

    @property
    def name(self) -> str:
        """Such as ``digon``; ``6 in 3`` where it is not regular or has no name here."""
        size = (len(self.features), self.dimensions)
        return NAMES.get(size if self.regular else (0, 0), f"{size[0]} in {size[1]}")


def feature_dimensionality(w: ArrayLike) -> NDArray[np.float64]:
    """Share of a dimension that each feature has for itself (Elhage et al. 2022, "feature dimensionality").

    D_i = |w_i|^2 / sum_j (w_i / |w_i| . w_j)^2. The sum over all features is at most the rank of w, with equality
    where the features of each group form a tight frame.

    Args:
        w: directions of n features in columns, shape (m, n).

    Returns:
        (n,) in [0, 1]; 0 for a feature without direction.

    Raises:
        ShapeError: not a matrix, or a value that is not finite.

    Examples:
        >>> feature_dimensionality([[1.0, -1.0, 0.0], [0.0, 0.0, 2.0]])
        array([0.5, 0.5, 1. ])
    """
    w = rows(w, "features")
    squares = (w**2).sum(axis=0)
    shared = ((w.T @ w) ** 2).sum(axis=1)
    return np.divide(squares**2, shared, out=np.zeros_like(squares), where=shared > 0)


def polytopes(w: ArrayLike) -> tuple[Polytope, ...]:
    """Divide the represented features into groups that are orthogonal to each other.

    Args:
        w: directions of n features in columns, shape (m, n), with what is represented near length 1.

    Returns:
        The groups, by their first feature; features shorter than :data:`REPRESENTED` are in none.

    Raises:
        ShapeError: not a matrix, or a value that is not finite.

    Examples:
        >>> [p.name for p in polytopes([[1.0, -1.0, 0.0, 0.1], [0.0, 0.0, 1.0, 0.0]])]
        ['digon', 'alone']
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    w = rows(w, "features")
    lengths = np.linalg.norm(w, axis=0)
    there = np.flatnonzero(lengths >= REPRESENTED)
    if not len(there):
        return ()
    unit = w[:, there] / lengths[there]
    group = connected_components(csr_array(np.abs(unit.T @ unit) > TOUCHING), directed=False)[1]
    found = []
    for number in dict.fromkeys(group.tolist()):
        members = np.flatnonzero(group == number)
        energy = np.linalg.svd(unit[:, members], compute_uv=False) ** 2
        spanned = int((energy > FLAT * energy.sum()).sum())
        found.append(Polytope(tuple(there[members].tolist()), spanned, _regular(unit[:, members], spanned)))
    return tuple(found)


def _regular(unit: NDArray[np.float64], dimensions: int) -> bool:
    count = unit.shape[1]
    even = np.abs(feature_dimensionality(unit) - dimensions / count).max() <= UNEVEN
    return bool(count == 1 or (even and np.linalg.norm(unit.mean(axis=1)) <= UNEVEN))
