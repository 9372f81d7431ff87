"""Two sets of directions beside each other: is each of one set also in the other?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from geometry.checks import ShapeError, rows

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def best_matches(ours: ArrayLike, theirs: ArrayLike) -> NDArray[np.float64]:
    """Cosine of each direction with the one of another set that is most like it.

    Args:
        ours: (n, d) directions, of any length but 0.
        theirs: (m, d).

    Returns:
        (n,) the largest cosine of each, -1 to 1. The more there are of theirs, the larger it is by chance: compare
        with random directions.

    Raises:
        ShapeError: two widths, or a direction of length 0.

    Examples:
        >>> best_matches([[1.0, 0.0], [1.0, 1.0]], [[2.0, 0.0], [-1.0, 0.0]]).round(3).tolist()
        [1.0, 0.707]
    """
    one, other = _unit(ours, "ours"), _unit(theirs, "theirs")
    if one.shape[1] != other.shape[1]:
        raise ShapeError(
            f"directions of width {one.shape[1]} and {other.shape[1]}; compare sets of one width"
        )
    return (one @ other.T).max(axis=1)


def shaped_directions(covariance: ArrayLike, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw random directions where activations vary most: x = C^(1/2) z, scaled to length 1.

    Args:
        covariance: (d, d) C.
        n: how many.
        rng: source of chance.

    Returns:
        (n, d) unit vectors.

    Raises:
        ShapeError: not a square matrix.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> abs(shaped_directions(np.diag([1.0, 0.0]), 2, rng)).tolist()
        [[1.0, 0.0], [1.0, 0.0]]
    """
    c = rows(covariance, "covariance")
    if c.shape[0] != c.shape[1]:
        raise ShapeError(f"covariance: expected a square matrix, got {c.shape}")
    values, vectors = np.linalg.eigh(c)
    drawn = rng.normal(size=(n, len(c))) * np.sqrt(values.clip(min=0.0)) @ vectors.T
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def _unit(directions: ArrayLike, name: str) -> NDArray[np.float64]:
    found = rows(directions, name)
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    if not (lengths > 0).all():
        raise ShapeError(f"{name}: a direction has length 0; leave it out")
    return found / lengths
