"""Edit the kernel of a concept: which lags co-occur how often, by resampling sentences; and controls of equal size.

The kernel is counted over sentences: how often two members that are a lag apart stand in one sentence together.
Weights that depend on nothing but the lags in a sentence, and are as near to 1 as possible (least relative entropy:
exponential tilting, Csiszar 1975), bring it to any other kernel. Sentences without two members keep weight 1.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from geometry.checks import DataError, ShapeError
from geometry.corpus_edits import sentences, together
from geometry.layouts import pairs_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from geometry.corpus_edits import Found, Members, Rewrite
    from geometry.layouts import Layout

    Corpus = Callable[[], Iterable[str]]

LARGEST_WEIGHT = 100.0
"""Largest weight of a sentence; a kernel that needs more would be made of copies of a few sentences."""

_STEPS = 200


@dataclass(frozen=True)
class Tilt:
    """Weights of sentences that bring the kernel where it is wanted.

    Attributes:
        logs: log weight of one pair at each lag; a sentence has the product over its pairs.
        lags: class of each pair of members, (n, n).
        before: pairs of members that stand in one sentence, by lag.
        after: the same with each sentence counted by its weight.
        effective: (sum w)^2 / sum w^2 over sentences with two or more members, as a share of their number: how
            much of the evidence is left, 0 to 1.
    """

    logs: tuple[float, ...]
    lags: NDArray[np.int64]
    before: tuple[float, ...]
    after: tuple[float, ...]
    effective: float

    def weight(self, found: Found) -> float:
        """Weight of a sentence with these members; 1 if they are fewer than two."""
        return float(np.exp(_lags(found, self.lags, len(self.logs)) @ np.array(self.logs)))


def companies(texts: Iterable[str], members: Members) -> Counter[tuple[int, ...]]:
    """Count which members stand in one sentence: sets of two or more -> number of sentences.

    Args:
        texts: the corpus.
        members: of the concept.

    Examples:
        >>> from geometry.corpus_edits import Members
        >>> companies(["June or May. May. May, June!"], Members(("May", "June")))
        Counter({(0, 1): 2})
    """
    seen: Counter[tuple[int, ...]] = Counter()
    for text in texts:
        if members.pattern.search(text):
            found = map(members.found, sentences(text))
            seen.update(tuple(sorted(set(own))) for own in found if together(own))
    return seen


def other_calendar(layout: Layout) -> NDArray[np.int64]:
    """An order that is as symmetric as the true one and has other neighbours: item i moves to place order[i].

    Round a cycle i -> u i mod n with the u below n / 2 that is largest and has no factor in common with n (5 for
    12 months: January is followed by June): lags stay lags, so that the kernel is the same numbers in another
    order, and harmonic 1 of the true order becomes harmonic u. Elsewhere the items of even places come first.

    Raises:
        ShapeError: a cycle of fewer than 5 items or of 6, which has no other calendar.

    Examples:
        >>> from geometry.layouts import cycle, line
        >>> other_calendar(cycle(12))
        array([ 0,  5, 10,  3,  8,  1,  6, 11,  4,  9,  2,  7])
        >>> other_calendar(line(5))
        array([0, 3, 1, 4, 2])
    """
    n, items = layout.n, np.arange(layout.n)
    if layout.kind != "cycle":
        return np.argsort(np.concatenate([items[::2], items[1::2]]))
    units = [u for u in range(2, (n + 1) // 2) if np.gcd(u, n) == 1]
    if not units:
        raise ShapeError(f"layout: a cycle of {n} has no other calendar; name 5 items, or 7 and more")
    return items * units[-1] % n


def moved(matrix: ArrayLike, order: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float64]:
    """A matrix over items as it is when item i is called order[i]: entry (order[i], order[j]) is what (i, j) was.

    Examples:
        >>> moved([[0, 1, 2], [1, 0, 3], [2, 3, 0]], [1, 0, 2])
        array([[0., 1., 3.],
               [1., 0., 2.],
               [3., 2., 0.]])
    """
    back = np.argsort(order)
    return np.asarray(matrix, dtype=np.float64)[np.ix_(back, back)]


def kernel_of(seen: Mapping[tuple[int, ...], int], layout: Layout) -> NDArray[np.float64]:
    """Mean number of sentences a pair, by lag, shape (lags,).

    Args:
        seen: of :func:`companies`.
        layout: where the members lie.

    Examples:
        >>> from geometry.layouts import cycle
        >>> kernel_of({(0, 1): 10, (1, 2, 3): 5}, cycle(5))
        array([4., 1.])
    """
    size = np.bincount(pairs_of(layout.lags))
    return _pairs(seen, layout) / size


def reordered_kernel(kernel: ArrayLike, layout: Layout) -> NDArray[np.float64]:
    """The kernel that the other calendar would have: mean over the pairs that it puts at each lag.

    Examples:
        >>> from geometry.layouts import cycle
        >>> reordered_kernel([6.0, 5.0, 4.0, 3.0, 2.0, 1.0], cycle(12))
        array([2., 5., 4., 3., 6., 1.])
    """
    lags = pairs_of(layout.lags)
    there = pairs_of(moved(layout.lags, other_calendar(layout))).astype(np.int64)
    return np.bincount(lags, weights=np.asarray(kernel)[there]) / np.bincount(lags)


def flat_kernel(kernel: ArrayLike, layout: Layout) -> NDArray[np.float64]:
    """All lags alike, with as many pairs in all.

    Examples:
        >>> from geometry.layouts import cycle
        >>> flat_kernel([3.0, 1.0], cycle(5))
        array([2., 2.])
    """
    size = np.bincount(pairs_of(layout.lags))
    return np.full(len(size), np.asarray(kernel) @ size / size.sum())


def tilt(seen: Mapping[tuple[int, ...], int], layout: Layout, kernel: ArrayLike) -> Tilt:
    """Find the weights that give a kernel.

    Args:
        seen: of :func:`companies`.
        layout: where the members lie.
        kernel: wanted mean number of sentences a pair, by lag, all positive.

    Returns:
        The weights; ``after`` meets the kernel to 1e-6.

    Raises:
        ShapeError: another number of lags, or one that is not positive.
        DataError: a lag at which no two members ever stand together, or a kernel that no weights up to 100 give.

    Examples:
        >>> from geometry.layouts import cycle
        >>> found = tilt({(0, 1): 10, (0, 2): 5}, cycle(5), [1.0, 2.0])
        >>> round(found.weight((0, 1)), 9), round(found.weight((0, 2)), 9), found.weight((3,))
        (0.5, 2.0, 1.0)
    """
    size = np.bincount(pairs_of(layout.lags))
    wanted = np.asarray(kernel, dtype=np.float64)
    if wanted.shape != size.shape or not (wanted > 0).all():
        raise ShapeError(f"kernel: expected {len(size)} positive numbers, one a lag")
    sets = [own for own in seen if len(own) > 1]
    if not sets:
        raise DataError("kernel: no two members ever stand in one sentence; take a larger corpus")
    table = np.array([_lags(own, layout.lags, len(size)) for own in sets])
    counts = np.array([seen[own] for own in sets], dtype=np.float64)
    if not (counts @ table).all():
        raise DataError("kernel: at some lag no two members ever stand in one sentence; take a larger corpus")
    logs = _solved(table, counts, wanted * size)
    weights = np.exp(table @ logs)
    return Tilt(
        logs=tuple(logs.tolist()),
        lags=layout.lags,
        before=tuple((counts @ table).tolist()),
        after=tuple(((counts * weights) @ table).tolist()),
        effective=float((counts @ weights) ** 2 / (counts @ weights**2) / counts.sum()),
    )


def shuffled_weights(
    seen: Mapping[tuple[int, ...], int], found: Tilt, rng: np.random.Generator
) -> Callable[[Found], float]:
    """The control of a resampling: the same weights, dealt to sentences with two members regardless of lag.

    Args:
        seen: of :func:`companies`.
        found: the weights.
        rng: source of the deal.

    Returns:
        For :func:`geometry.corpus_edits.repeated`; one number is drawn for each sentence with two members.
    """
    counts = np.array(list(seen.values()), dtype=np.float64)
    weights, upto = [found.weight(own) for own in seen], np.cumsum(counts / counts.sum())

    def weight(own: Found) -> float:
        if not together(own):
            return 1.0
        return weights[min(int(np.searchsorted(upto, rng.random(), side="right")), len(weights) - 1)]

    return weight


def size_matched(corpus: Corpus, members: Members, rng: np.random.Generator) -> Rewrite:
    """The control of deleting sentences with two members: as many others, equally long.

    Args:
        corpus: begins the corpus anew each time; it is read once here, and once by who deletes.
        members: of the concept.
        rng: source of the choice.

    Returns:
        For :func:`geometry.corpus_edits.rewritten`, over the same corpus and once: it deletes sentences with at
        most one member, for each length in words as many as there are with two or more, or of the nearest length
        where these are too few.

    Raises:
        DataError: fewer sentences than must be deleted.
    """

    def stratum(sentence: str, found: Found) -> int | None:
        return None if together(found) else len(sentence.split())

    wanted: Counter[int] = Counter()
    there: Counter[int] = Counter()
    for sentence, found in _sentences(corpus(), members):
        (wanted if together(found) else there)[len(sentence.split())] += 1
    return _drawn(_nearest(wanted, there), there, stratum, rng)


def member_matched(corpus: Corpus, members: Members, rng: np.random.Generator) -> Rewrite:
    """The same, but each member loses as many occurrences: sentences in which it stands once and alone go.

    Args:
        corpus: begins the corpus anew each time.
        members: of the concept.
        rng: source of the choice.

    Returns:
        For :func:`geometry.corpus_edits.rewritten`, over the same corpus and once. More sentences go than there
        are with two members, since each takes only one along.

    Raises:
        DataError: a member that stands alone in fewer sentences than it must lose.
    """

    def stratum(_: str, found: Found) -> int | None:
        return found[0] if len(found) == 1 else None

    wanted: Counter[int] = Counter()
    there: Counter[int] = Counter()
    for _, found in _sentences(corpus(), members):
        if together(found):
            wanted.update(found)
        elif len(found) == 1:
            there[found[0]] += 1
    if short := [i for i in wanted if wanted[i] > there[i]]:
        raise DataError(f"control: {members.names[short[0]]!r} stands alone in too few sentences to match")
    return _drawn(wanted, there, stratum, rng)


def _sentences(texts: Iterable[str], members: Members) -> Iterable[tuple[str, Found]]:
    return ((sentence, members.found(sentence)) for text in texts for sentence in sentences(text))


def _nearest(wanted: Mapping[int, int], there: Mapping[int, int]) -> Counter[int]:
    """Move what a length has too few of to the nearest length that has more."""
    if sum(wanted.values()) > sum(there.values()):
        raise DataError("control: fewer sentences without two members than with them; take a larger corpus")
    found = Counter({length: min(n, there[length]) for length, n in wanted.items()})
    for length, n in sorted(wanted.items()):
        missing = n - min(n, there[length])
        for near in sorted(there, key=lambda other: (abs(other - length), other)):
            taken = min(missing, there[near] - found[near])
            found[near] += taken
            missing -= taken
            if not missing:
                break
    return found


def _drawn(
    wanted: Mapping[Hashable, int],
    there: Mapping[Hashable, int],
    stratum: Callable[[str, Found], Hashable | None],
    rng: np.random.Generator,
) -> Rewrite:
    """Delete exactly so many of each stratum, all choices equally likely (Knuth, algorithm 3.4.2 S)."""
    wanted, left = Counter(wanted), Counter(there)

    def rewrite(sentence: str, found: Found) -> str:
        own = stratum(sentence, found)
        if own is None or not left[own]:
            return sentence
        goes = rng.random() * left[own] < wanted[own]
        left[own] -= 1
        wanted[own] -= goes
        return "" if goes else sentence

    return rewrite


def _lags(found: Sequence[int], lags: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """How many pairs of different members are at each lag."""
    pairs = [lags[i, j] for i, j in combinations(sorted(set(found)), 2)]
    return np.bincount(np.array(pairs, dtype=np.int64), minlength=size)


def _pairs(seen: Mapping[tuple[int, ...], int], layout: Layout) -> NDArray[np.float64]:
    size = int(layout.lags.max()) + 1
    return np.sum([n * _lags(own, layout.lags, size) for own, n in seen.items()], axis=0, dtype=np.float64)


def _solved(
    table: NDArray[np.int64], counts: NDArray[np.float64], wanted: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Newton's method on the dual, sum n exp(a . theta) - wanted . theta, which is convex."""

    def dual(logs: NDArray[np.float64]) -> float:
        return float(counts @ np.exp(np.minimum(table @ logs, 700.0)) - wanted @ logs)

    logs = np.zeros(len(wanted))
    for _ in range(_STEPS):
        weighted = counts * np.exp(table @ logs)
        off = weighted @ table - wanted
        if np.all(np.abs(off) <= 1e-10 * wanted):
            break
        curvature = (table * weighted[:, None]).T @ table + 1e-12 * np.diag(wanted)
        step, size = np.linalg.solve(curvature, off), 1.0
        while dual(logs - size * step) > dual(logs) - 1e-4 * size * (off @ step) and size > 1e-9:
            size /= 2
        logs = logs - size * step
    largest = float(np.exp((table @ logs).max()))
    if not np.all(np.abs((counts * np.exp(table @ logs)) @ table - wanted) <= 1e-3 * wanted):
        raise DataError("kernel: no weights of sentences give it; ask for one nearer to what is there")
    if largest > LARGEST_WEIGHT:
        raise DataError(
            f"kernel: some sentences would have to stand there {largest:.0f} times; ask for a nearer one"
        )
    return logs
