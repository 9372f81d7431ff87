"""Do two groups move in different directions? Resampling of whole documents, on their blocks alone.

Everything takes the :class:`~geometry.document_blocks.BlockStats` of two groups in one basis. "Subspace" is the
top-k eigenspace of a group's second moment inside that basis.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geometry.checks import DataError, ShapeError, rows
from geometry.nulls import between_chance_and_ceiling

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    from geometry.document_blocks import BlockStats

    Array = NDArray[np.float64]
    Count = Callable[[tuple[int, int], np.random.Generator], Array]

LEAST = 4
"""Fewest blocks of a group that can be resampled: two in each half."""


@dataclass(frozen=True)
class Interval:
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Permuted:
    """The overlap of two groups' subspaces beside that of random splits of their union.

    Attributes:
        observed: overlap of the two groups, 0 to 1.
        samples: (n,) overlaps of random splits of all blocks into parts of the two groups' numbers of rows.
        p: share of splits with an overlap no larger, (1 + #{sample <= observed}) / (1 + n).
    """

    observed: float
    samples: Array
    p: float


@dataclass(frozen=True, eq=False)
class Halved:
    """Overlaps between halves of documents, as means over random halvings.

    Attributes:
        first: one half of the first group with its other half.
        second: the same for the second group.
        across: a half of the one group with a half of the other.
        draws: (3, n) the three of them for halves of resampled documents, in which no document is in both.
    """

    first: float
    second: float
    across: float
    draws: Array

    @property
    def ceiling(self) -> float:
        """What ``across`` would be if both groups moved in one subspace: sqrt(first * second)."""
        return float(np.sqrt(self.first * self.second))

    def disattenuated(self, chance: float) -> Interval | None:
        """The overlap across groups on a scale from chance (0) to one and the same subspace (1).

        (across - chance) / (ceiling - chance): both ends are of half the documents, so their noise cancels
        (Spearman's correction for attenuation, less chance).

        Args:
            chance: the overlap where there is nothing to see, as of random adapters; taken as known.

        Returns:
            The number with its 95 % interval, see :func:`intervals`; not cut to 0..1. None where the ceiling is
            not above chance, so that nothing can be told.
        """
        value = _between(np.array([self.first, self.second, self.across]), chance)
        if value is None:
            return None
        drawn = [_between(means, chance) for means in self.draws.T]
        return hull_interval(value, np.array([d for d in drawn if d is not None]), -np.inf, np.inf)


def permuted_overlap(
    one: BlockStats, other: BlockStats, k: int, n: int, rng: np.random.Generator
) -> Permuted:
    """Test whether two groups' subspaces differ more than two random splits of their union do.

    Blocks of both groups are shuffled and dealt anew: to the smaller group until it has its number of rows
    again, to within half a block, and the rest to the larger. With blocks of equally many rows this is the exact
    permutation test. With unequal ones rows, not blocks, are kept, since it is they that make an estimated
    subspace noisy; the level is then approximate. A small p says that the groups differ, not by how much; they
    may differ because texts differ, whatever the adapter has learnt.

    Args:
        one: blocks of the one group.
        other: blocks of the other, in the same basis.
        k: dimension of the subspaces.
        n: number of random splits.
        rng: source of chance.

    Returns:
        The overlap with its null.

    Raises:
        DataError: a group has fewer than :data:`LEAST` blocks.

    Examples:
        Two groups of six blocks, each moved along an axis of its own:

        >>> from geometry.document_blocks import BlockStats
        >>> x, y = (BlockStats(np.full(6, 9), np.tile(np.diag(v), (6, 1, 1)), np.full(6, 1.0))
        ...         for v in ([2.0, 1.0], [1.0, 2.0]))
        >>> permuted_overlap(x, y, 1, 99, np.random.default_rng(0)).observed
        0.0
    """
    _require(one, other)
    small, large = sorted((one, other), key=lambda s: int(s.n.sum()))
    sizes = np.concatenate([small.n, large.n])
    seconds = np.concatenate([small.second, large.second])
    weights = np.stack([_dealt_anew(sizes, int(small.n.sum()), rng) for _ in range(n)])
    samples = _overlaps(_top(_sums(weights, seconds), k), _top(_sums(1 - weights, seconds), k))
    observed = float(_overlaps(_top(one.moment, k), _top(other.moment, k)))
    # rounding must not tell equal splits apart
    p = float((1 + np.sum(samples <= observed + 1e-12)) / (1 + n))
    return Permuted(observed, samples, p)


def halved_overlaps(one: BlockStats, other: BlockStats, k: int, n: int, rng: np.random.Generator) -> Halved:
    """Overlaps of halves of the documents, within the groups and across.

    Halves within a group and halves across have the same number of documents, so the same noise.

    Args:
        one: blocks of the one group.
        other: blocks of the other, in the same basis.
        k: dimension of the subspaces.
        n: number of random halvings, and of draws.
        rng: source of chance.

    Returns:
        The means, and what resampling makes of them.

    Raises:
        DataError: a group has fewer than :data:`LEAST` blocks.
    """
    _require(one, other)
    means = _halves(one, other, k, n, rng, _once).mean(axis=1).tolist()
    return Halved(*means, _halves(one, other, k, n, rng, _again))


def intervals(
    one: BlockStats, other: BlockStats, k: int, n: int, rng: np.random.Generator
) -> dict[str, Interval]:
    """Bootstrap over blocks how alike two groups' second moments are.

    Noise lowers an overlap, and a resample is noisier than the sample: the percentiles of the draws would never
    reach 1. Reversed about the value (the basic bootstrap of Davison and Hinkley 1997, section 5.2) they fall
    short in the middle of the scale. The interval is the hull of the two.

    Args:
        one: blocks of the one group.
        other: blocks of the other, in the same basis.
        k: dimension of the subspaces.
        n: number of bootstrap draws.
        rng: source of chance.

    Returns:
        ``overlap``; ``capture_first``, the energy of the first group inside the subspace of the second, over the
        most that k directions can hold; ``capture_second``, the other way round; ``matrix_cosine``. All are 0 to
        1 and of the moments inside the basis. The effective rank is not among them: it lives on the tail, which
        the basis cuts off.

    Raises:
        DataError: a group has fewer than :data:`LEAST` blocks.
    """
    _require(one, other)
    drawn = [_sums(_again((n, s.blocks), rng), s.second) for s in (one, other)]
    values, draws = _alike(one.moment[None], other.moment[None], k), _alike(*drawn, k)
    return {name: hull_interval(float(values[name][0]), draws[name], 0.0, 1.0) for name in values}


def hull_interval(value: float, draws: Array, lowest: float, highest: float) -> Interval:
    """The hull of the percentile interval and of its mirror image about the value, within bounds.

    Args:
        value: of the sample itself.
        draws: of resamples, shape (n,).
        lowest: that the number can be.
        highest: that it can be.

    Examples:
        >>> hull_interval(0.5, np.array([0.25, 0.25]), 0.0, 1.0)
        Interval(value=0.5, low=0.25, high=0.75)
    """
    low, high = np.quantile(draws, [0.025, 0.975])
    ends = np.clip([min(low, 2 * value - high), max(high, 2 * value - low)], lowest, highest)
    return Interval(value, *ends.tolist())


def jackknife_halfwidth(left_out: ArrayLike) -> float:
    """Half of the 95 % interval of a number, from leaving out one block of documents at a time (Tukey 1958).

    Args:
        left_out: the number without each of the blocks in turn, (n,), n >= 2.

    Returns:
        Student's quantile for n - 1 degrees of freedom times the jackknife's standard error
        sqrt((n - 1) / n sum (x_i - mean)^2); add it to the number, and take it off.

    Raises:
        ShapeError: fewer than 2 blocks, or numbers that are not finite.

    Examples:
        For a mean it is the classical interval: 1, 2, 3 without one each have means 2.5, 2 and 1.5.

        >>> round(jackknife_halfwidth([2.5, 2.0, 1.5]), 4)
        2.4841
    """
    from scipy.stats import t

    x = rows([left_out], "left_out")[0]
    if len(x) < 2:
        raise ShapeError(f"left_out: expected at least 2 blocks, got {len(x)}")
    error = np.sqrt((len(x) - 1) / len(x) * np.sum((x - x.mean()) ** 2))
    return float(t.ppf(0.975, len(x) - 1) * error)


def _require(one: BlockStats, other: BlockStats) -> None:
    fewest = min(one.blocks, other.blocks)
    if fewest < LEAST:
        raise DataError(
            f"resampling: a group has {fewest} documents with tokens to measure; give at least {LEAST}"
        )


def _sums(weights: Array, seconds: Array) -> Array:
    """Second moments of weighted blocks, (R, m, m), up to a factor."""
    return np.tensordot(weights, seconds, 1)


def _top(seconds: Array, k: int) -> Array:
    """Top-k eigenvectors of each matrix, (R, m, k)."""
    return np.linalg.eigh(seconds)[1][..., -k:]


def _overlaps(u: Array, v: Array) -> Array:
    """||U^T V||_F^2 / k of each pair of bases, (R,)."""
    return np.minimum(1.0, np.sum((np.swapaxes(u, -1, -2) @ v) ** 2, axis=(-1, -2)) / u.shape[-1])


def _dealt_anew(sizes: NDArray[np.int64], wanted: int, rng: np.random.Generator) -> Array:
    """1 for the blocks that, shuffled, come closest to a number of rows, 0 for the rest; none of both is empty."""
    order = rng.permutation(len(sizes))
    taken = np.argmin(np.abs(np.cumsum(sizes[order])[:-1] - wanted)) + 1
    weights = np.zeros(len(sizes))
    weights[order[:taken]] = 1.0
    return weights


def _alike(one: Array, other: Array, k: int) -> dict[str, Array]:
    """How alike each pair of second moments is, by every measure that :func:`intervals` names."""
    u, v = _top(one, k), _top(other, k)

    def captured(second: Array, basis: Array, own: Array) -> Array:
        held = [np.sum(b * (second @ b), axis=(-1, -2)) for b in (basis, own)]
        return np.minimum(1.0, held[0] / held[1])

    def product(a: Array, b: Array) -> Array:
        return np.sum(a * b, axis=(-1, -2))

    return {
        "overlap": _overlaps(u, v),
        "capture_first": captured(one, v, u),
        "capture_second": captured(other, u, v),
        "matrix_cosine": product(one, other) / np.sqrt(product(one, one) * product(other, other)),
    }


def _once(shape: tuple[int, int], rng: np.random.Generator) -> Array:
    """Every block once."""
    return np.ones(shape)


def _again(shape: tuple[int, int], rng: np.random.Generator) -> Array:
    """As many blocks with replacement as there are."""
    draws, blocks = shape
    return rng.multinomial(blocks, np.full(blocks, 1 / blocks), draws).astype(np.float64)


def _halves(
    one: BlockStats, other: BlockStats, k: int, n: int, rng: np.random.Generator, count: Count
) -> Array:
    """Overlaps within the first group, within the second, and across, for n random halvings, (3, n)."""
    tops = []
    for stats in (one, other):
        order = rng.permuted(np.tile(np.arange(stats.blocks), (n, 1)), axis=1)
        for part in np.array_split(order, 2, axis=1):
            weights = np.zeros((n, stats.blocks))
            np.put_along_axis(weights, part, count(part.shape, rng), axis=1)
            tops.append(_top(_sums(weights, stats.second), k))
    a, b, c, d = tops
    across = np.mean([_overlaps(x, y) for x in (a, b) for y in (c, d)], axis=0)
    return np.stack([_overlaps(a, b), _overlaps(c, d), across])


def _between(means: Array, chance: float) -> float | None:
    first, second, across = means.tolist()
    return between_chance_and_ceiling(across, chance=chance, ceiling=float(np.sqrt(first * second)))
