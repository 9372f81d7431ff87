"""How much of a score is left when something is taken away: own co-occurrences, helper words, dimensions.

If a concept's geometry were made by its own words alone, it would go with their co-occurrences. If it is
collective, carried by all the words that share its latent variable, it stays, and with H such helpers its error
falls like 1 / sqrt(H) (Karkada et al. 2026).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geometry.checks import ShapeError, rows
from geometry.layouts import square

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike, NDArray

    Score = Callable[[NDArray[np.float64]], float]


@dataclass(frozen=True)
class Curve:
    """A score along something that is taken away, with its spread over random choices.

    Attributes:
        at: how much was kept: helpers or dimensions.
        mean: mean score at each, same length.
        low: 2.5 % quantile over choices; equal to the mean where there is no choice.
        high: 97.5 % quantile.
    """

    at: tuple[int, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def zeroed_block(target: ArrayLike, members: Sequence[int]) -> NDArray[np.float64]:
    """The target with the members' own block set to 0, as if they met no more often than chance.

    Args:
        target: M* or PMI over the vocabulary, shape (V, V).
        members: indices of the concept's words.

    Returns:
        A copy; all pairs of two members are 0, the diagonal too.

    Raises:
        ShapeError: not symmetric, or a member outside it.

    Examples:
        >>> zeroed_block([[1.0, 2.0], [2.0, 3.0]], [1])
        array([[1., 2.],
               [2., 0.]])
    """
    target = square(target, "target").copy()
    target[np.ix_(_inside(members, len(target)), members)] = 0.0
    return target


def collective_index(zeroed: float, full: float) -> float:
    """Score with the own block zeroed over the full score: 1 (all collective) to 0 (all its own).

    Raises:
        ShapeError: the full score is not above 0, so that there is nothing to keep.

    Examples:
        >>> collective_index(0.25, 0.5)
        0.5
    """
    if not full > 0:
        raise ShapeError(
            f"collective index: the full score is {full:.3g}; there is nothing that could be kept"
        )
    return zeroed / full


def thinned_pairs(
    counts: ArrayLike, members: Sequence[int], keep: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Drop co-occurrences of two members at random, each kept with the same probability.

    Args:
        counts: symmetric whole numbers, shape (V, V).
        members: indices of the concept's words.
        keep: probability, 0 to 1.
        rng: source of chance.

    Returns:
        Counts of the same shape; only pairs of members differ, and they stay symmetric.

    Raises:
        ShapeError: not symmetric, a member outside it, negative or fractional counts, or no probability.

    Examples:
        >>> thinned_pairs([[4, 6], [6, 2]], [0, 1], 0.0, np.random.default_rng(0))
        array([[0, 0],
               [0, 0]])
    """
    table = square(counts, "counts")
    inside = _inside(members, len(table))
    if np.any(table < 0) or np.any(table % 1):
        raise ShapeError("counts: expected whole numbers of at least 0; give raw counts, not weighted ones")
    if not 0 <= keep <= 1:
        raise ShapeError(f"keep: expected a probability, 0 to 1, got {keep}")
    table = table.astype(np.int64)
    block = np.triu(table[np.ix_(inside, inside)])
    kept = rng.binomial(block, keep)
    table[np.ix_(inside, inside)] = kept + np.triu(kept, 1).T
    return table


def dimension_curve(embedding: ArrayLike, score: Score, dimensions: Sequence[int]) -> Curve:
    """Score of the leading columns of an embedding.

    Args:
        embedding: the concept's rows of a spectral embedding, columns by falling eigenvalue, shape (n, d).
        score: takes points, shape (n, k).
        dimensions: numbers of columns, each 1 to d.

    Returns:
        One value for each; no spread.

    Raises:
        ShapeError: a number of columns that the embedding does not have.

    Examples:
        >>> dimension_curve([[1.0, 2.0], [3.0, 4.0]], lambda x: float(x.sum()), [1, 2]).mean
        (4.0, 10.0)
    """
    embedding = rows(embedding, "embedding")
    if bad := [k for k in dimensions if not 1 <= k <= embedding.shape[1]]:
        raise ShapeError(f"dimensions: expected 1 to {embedding.shape[1]}, got {bad[0]}")
    values = tuple(score(embedding[:, :k]) for k in dimensions)
    return Curve(tuple(dimensions), values, values, values)


def helper_curve(
    target: ArrayLike, members: Sequence[int], score: Score, sizes: Sequence[int], rng: np.random.Generator
) -> Curve:
    """Score of the members when they are embedded among H random helpers, their own block zeroed.

    Args:
        target: M* or PMI over members and all possible helpers, shape (V, V).
        members: indices of the concept's words; all others may help.
        score: takes the members' principal coordinates of |target|, shape (n, n + H).
        sizes: numbers of helpers, each 1 to V - n.
        rng: source of the choice; 20 choices for each size.

    Returns:
        Mean and 95 % quantiles over choices.

    Raises:
        ShapeError: not symmetric, a member outside it, or more helpers than there are.

    Examples:
        >>> from geometry.latent import SeasonalCorpus
        >>> from geometry.circles import fourier_profile
        >>> target = SeasonalCorpus(48, (0.9,)).ratio() - 1
        >>> first = lambda points: fourier_profile(points).first
        >>> curve = helper_curve(target, range(0, 48, 4), first, [4, 36], np.random.default_rng(0))
        >>> curve.mean[1] > 0.99 and curve.mean[0] > 0.5
        True
    """
    target = square(target, "target")
    inside = _inside(members, len(target))
    outside = np.setdiff1d(np.arange(len(target)), inside)
    if bad := [size for size in sizes if not 1 <= size <= len(outside)]:
        raise ShapeError(f"helpers: expected 1 to {len(outside)}, got {bad[0]}")
    found = []
    for size in sizes:
        draws = [np.concatenate([inside, rng.choice(outside, size, replace=False)]) for _ in range(20)]
        found.append([score(_embedded(target[np.ix_(draw, draw)], len(inside))) for draw in draws])
    low, high = np.quantile(found, [0.025, 0.975], axis=1)
    mean = np.mean(found, axis=1)
    return Curve(tuple(sizes), *(tuple(map(float, side)) for side in (mean, low, high)))


def _embedded(target: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    values, vectors = np.linalg.eigh(zeroed_block(target, range(n)))
    return vectors[:n] * np.sqrt(np.abs(values))


def _inside(members: Sequence[int], size: int) -> NDArray[np.int64]:
    found = np.asarray(members, dtype=np.int64)
    if not len(found) or found.min() < 0 or found.max() >= size or len(np.unique(found)) < len(found):
        raise ShapeError(f"members: expected distinct indices below {size}")
    return found
