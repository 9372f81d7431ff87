"""Is one system better than another? Paired tests between all systems, corrected for how many there are.

Two systems answered the same items. If neither were better, each document's two answers could change places;
the p value is how often such exchanges give a difference as large as the one found (approximate randomisation,
Noreen 1989; for corpus scores such as BLEU: Riezler & Maxwell 2005). Whole documents change places, since
sentences of one document are not independent.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from finetune.score import gain
from geometry.checks import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from finetune.score import Score


@dataclass(frozen=True)
class Contest:
    """Two systems compared by one score.

    Attributes:
        score: its name.
        first, second: the systems.
        difference: score of the first less that of the second.
        low, high: 95 % interval of the difference, from the paired bootstrap.
        p: of exchanged documents, two-sided.
        p_corrected: the same after Holm's correction for all pairs of systems.
    """

    score: str
    first: str
    second: str
    difference: float
    low: float
    high: float
    p: float
    p_corrected: float

    @property
    def sure(self) -> bool:
        """Whether the corrected p is below 0.05."""
        return self.p_corrected < 0.05


def contests(
    scores: Mapping[str, Score], documents: Sequence[str], rng: np.random.Generator, *, times: int = 2000
) -> tuple[Contest, ...]:
    """Compare all pairs of systems by one score.

    Args:
        scores: system -> its score; all of one kind, on the same items and draws.
        documents: the document of each item.
        rng: source of chance.
        times: number of exchanges; p can be no smaller than 1 / (times + 1).

    Returns:
        One contest for each two systems, in the order of ``scores``.

    Raises:
        DataError: scores of different kinds, or on different draws.
    """
    pairs = list(combinations(scores, 2))
    gains = [gain(scores[a], scores[b]) for a, b in pairs]
    raw = [exchange_test(scores[a], scores[b], documents, rng, times=times) for a, b in pairs]
    return tuple(
        Contest(g.name, a, b, g.value, g.low, g.high, p, corrected)
        for (a, b), g, p, corrected in zip(pairs, gains, raw, holm(raw), strict=True)
    )


def exchange_test(
    new: Score, old: Score, documents: Sequence[str], rng: np.random.Generator, *, times: int = 2000
) -> float:
    """Test whether two systems differ, by exchanging their answers to whole documents.

    Args:
        new: score of one system.
        old: score of the other, of the same kind and on the same items.
        documents: the document of each item.
        rng: source of chance.
        times: number of random exchanges.

    Returns:
        Two-sided p in (0, 1]: (1 + exchanges with a difference at least as large) / (1 + times). 1 where a
        score is not defined.

    Raises:
        DataError: there is not one document for each item.

    Examples:
        Answers that are the same cannot be told apart:

        >>> from finetune.score import bootstrap_draws, mean_score
        >>> rng = np.random.default_rng(0)
        >>> same = mean_score("x", np.arange(6.0), bootstrap_draws(6, rng))
        >>> exchange_test(same, same, list("aabbcc"), rng)
        1.0
    """
    if not len(documents) == new.n == old.n:
        raise DataError(
            f"{len(documents)} documents for {new.n} and {old.n} items: name one for each item of both"
        )
    ours, theirs = (_by_document(score.counts, documents) for score in (new, old))
    observed = abs(new.value - old.value)
    if np.isnan(observed):
        return 1.0
    swapped = rng.integers(2, size=(times, len(ours))).astype(ours.dtype)
    change, total = theirs - ours, ours.sum(axis=0) + theirs.sum(axis=0)
    firsts = ours.sum(axis=0) + swapped @ change
    found = np.array([abs(new.measure(first) - new.measure(total - first)) for first in firsts])
    # rounding must not tell equal exchanges apart
    return float((1 + np.sum(found >= observed - 1e-9 * max(1.0, observed))) / (1 + times))


def holm(p: Sequence[float]) -> list[float]:
    """Correct p values so that the chance of any false alarm among them stays below the level (Holm 1979).

    Args:
        p: the values, in any order.

    Returns:
        Corrected values in the same order, at most 1.

    Examples:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    order = np.argsort(p, kind="stable")
    corrected, largest = np.ones(len(p)), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p) - rank) * p[i]))
        corrected[i] = largest
    return corrected.tolist()


def _by_document(counts: NDArray[np.generic], documents: Sequence[str]) -> NDArray[np.generic]:
    """Sum counts over the items of each document, (documents, k)."""
    _, place = np.unique(np.asarray(documents), return_inverse=True)
    sums = np.zeros((place.max() + 1, counts.shape[1]), dtype=counts.dtype)
    np.add.at(sums, place, counts)
    return sums
