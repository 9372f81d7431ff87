"""How well a rewriting keeps the content: BLEU, chrF and numbers, each with its interval.

Every score is computed once on all items and again on resampled items, so it carries a 95 % interval. The
resampling is drawn once by :func:`bootstrap_draws` and handed to every score that is to be compared: two
systems judged on the same draws give a paired interval for their difference, see :func:`gain`.

Copying the input scores well on content. A table of scores is only fair with the copied input in it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from finetune.entities import numbers
from geometry.checks import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from sacrebleu.metrics.base import Metric

_TAIL = 2.5
"""Per cent of the resampled scores outside a 95 % interval, on each side."""


@dataclass(frozen=True)
class Score:
    """A score over items, with the interval that resampling the items gives.

    Attributes:
        name: what is measured.
        value: over all items together.
        low: lower end of the 95 % percentile interval.
        high: upper end.
        items: the score of each item alone, shape (n,); NaN for an item that does not count.
        resampled: the score on each draw, shape (b,).
        draws: the draws, shape (b, n); two scores on the same draws may be compared.
        counts: of each item, shape (n, k); what ``measure`` is computed from.
        measure: takes counts summed over items, shape (k,), and returns the score.
        signature: of the software that computed it.
    """

    name: str
    value: float
    low: float
    high: float
    items: NDArray[np.float64] = field(repr=False)
    resampled: NDArray[np.float64] = field(repr=False)
    draws: NDArray[np.int32] = field(repr=False)
    counts: NDArray[np.generic] = field(repr=False)
    measure: Callable[[NDArray[np.generic]], float] = field(repr=False)
    signature: str = ""

    @property
    def n(self) -> int:
        """Number of items."""
        return len(self.items)


@dataclass(frozen=True)
class Gain:
    """The difference of two scores on the same items: its value and paired 95 % interval."""

    name: str
    value: float
    low: float
    high: float

    @property
    def sure(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0


def bootstrap_draws(n: int, rng: np.random.Generator, *, times: int = 1000) -> NDArray[np.int32]:
    """Draw items with replacement (Efron 1979), as often as there are items, many times over.

    Args:
        n: number of items, at least 1.
        rng: source of chance.
        times: number of draws, b.

    Returns:
        Item numbers, shape (b, n).

    Raises:
        DataError: there are no items.

    Examples:
        >>> bootstrap_draws(3, np.random.default_rng(0), times=2).shape
        (2, 3)
    """
    if n < 1:
        raise DataError("nothing to score: give at least one text")
    return rng.integers(n, size=(times, n), dtype=np.int32)


def document_draws(
    documents: Sequence[str], rng: np.random.Generator, *, times: int = 1000
) -> NDArray[np.int32]:
    """Draw whole documents with replacement: sentences of one document are not independent of each other.

    Documents are drawn until they have as many items as there are, and the last one is cut there.

    Args:
        documents: the document of each item.
        rng: source of chance.
        times: number of draws, b.

    Returns:
        Item numbers, shape (b, n).

    Raises:
        DataError: there are no items.

    Examples:
        >>> draws = document_draws(["a", "a", "b", "b"], np.random.default_rng(0), times=50)
        >>> draws.shape, bool(np.all(draws[:, ::2] + 1 == draws[:, 1::2]))
        ((50, 4), True)
    """
    members: dict[str, list[int]] = {}
    for item, document in enumerate(documents):
        members.setdefault(document, []).append(item)
    if not members:
        raise DataError("nothing to score: give at least one text")
    blocks = [np.array(items, dtype=np.int32) for items in members.values()]
    sizes = np.array([len(block) for block in blocks])
    most = -(-len(documents) // int(sizes.min()))
    draws = np.empty((times, len(documents)), dtype=np.int32)
    for row in draws:
        chosen = rng.integers(len(blocks), size=most)
        enough = int(np.searchsorted(np.cumsum(sizes[chosen]), len(documents))) + 1
        row[:] = np.concatenate([blocks[i] for i in chosen[:enough]])[: len(documents)]
    return draws


def bleu(outputs: Sequence[str], references: Sequence[str], draws: NDArray[np.int32]) -> Score:
    """Corpus BLEU against one reference each (Papineni et al. 2002; Post 2018, arXiv 1804.08771).

    Args:
        outputs: the texts to judge; an empty one counts as what it is, and scores 0.
        references: what they should be, in the same order.
        draws: from :func:`bootstrap_draws`.

    Returns:
        The score in [0, 100]. Items are sentence BLEU with effective order, without which a short
        perfect sentence would score 0.

    Raises:
        DataError: the numbers of outputs, references and drawn items differ.

    Examples:
        >>> texts = ["the cat sat on the mat", "so it did"]
        >>> round(bleu(texts, texts, bootstrap_draws(2, np.random.default_rng(0))).value)
        100
    """
    from sacrebleu.metrics import BLEU

    return _corpus_score("BLEU", BLEU(), BLEU(effective_order=True), (outputs, references, draws))


def chrf(outputs: Sequence[str], references: Sequence[str], draws: NDArray[np.int32]) -> Score:
    """Corpus chrF against one reference each (Popović 2015): character n-grams up to 6, beta 2.

    Args:
        outputs: the texts to judge.
        references: what they should be, in the same order.
        draws: from :func:`bootstrap_draws`.

    Returns:
        The score in [0, 100]; items are sentence chrF.

    Raises:
        DataError: the numbers of outputs, references and drawn items differ.

    Examples:
        >>> chrf(["abc"], ["xyz"], bootstrap_draws(1, np.random.default_rng(0))).value
        0.0
    """
    from sacrebleu.metrics import CHRF

    return _corpus_score("chrF", CHRF(), CHRF(), (outputs, references, draws))


def mean_score(name: str, items: NDArray[np.float64], draws: NDArray[np.int32]) -> Score:
    """Make a score that is the mean of its items.

    Args:
        name: what is measured.
        items: of each item, shape (n,); NaN does not count.
        draws: from :func:`bootstrap_draws` or :func:`document_draws`.

    Returns:
        The mean; NaN where no item counts.

    Raises:
        DataError: the draws are for another number of items.

    Examples:
        >>> mean_score("kept", np.array([1.0, np.nan, 0.0]), np.array([[0, 1, 2]])).value
        0.5
    """
    if len(items) != draws.shape[1]:
        raise DataError(f"{len(items)} items and draws for {draws.shape[1]}: these must be the same items")
    counted = ~np.isnan(items)
    counts = np.stack([np.where(counted, items, 0.0), counted.astype(np.float64)], axis=1)
    return score_of_sums(name, counts, lambda sums: _share(*sums), draws)


def numbers_kept(outputs: Sequence[str], sources: Sequence[str], draws: NDArray[np.int32]) -> Score:
    """Share of the numbers written in digits in the sources that come back in the outputs.

    Numbers are compared without their thousands commas, and counted as often as they occur.

    Args:
        outputs: the texts to judge.
        sources: the texts that were rewritten, in the same order.
        draws: from :func:`bootstrap_draws`.

    Returns:
        The share in [0, 1], over all numbers together; NaN where no source has any. The items are the
        shares of each text.

    Raises:
        DataError: the numbers of outputs, sources and drawn items differ.

    Examples:
        >>> draws = bootstrap_draws(2, np.random.default_rng(0))
        >>> numbers_kept(["1000 men", "2 of 4"], ["1,000 men", "3 of 4"], draws).value
        0.666...
    """
    _require_same_length(outputs, sources, draws)
    wanted = [numbers(text) for text in sources]
    kept = [(w & numbers(text)).total() for w, text in zip(wanted, outputs, strict=True)]
    counts = np.array([kept, [w.total() for w in wanted]], dtype=np.float64).T
    return score_of_sums("numbers kept", counts, lambda sums: _share(*sums), draws)


def gain(new: Score, old: Score) -> Gain:
    """Compare two scores of the same kind on the same items and draws.

    Args:
        new: the score that should be higher.
        old: the score that it is compared with.

    Returns:
        new - old with the 95 % interval of the paired bootstrap (Koehn 2004).

    Raises:
        DataError: the scores are of different kinds or on different draws.

    Examples:
        >>> draws = bootstrap_draws(2, np.random.default_rng(0))
        >>> gain(chrf(["ab", "cd"], ["ab", "cd"], draws), chrf(["", ""], ["ab", "cd"], draws)).value
        100.0
    """
    if new.name != old.name or not np.array_equal(new.draws, old.draws):
        raise DataError(f"{new.name} and {old.name} cannot be compared: score both on the same draws")
    low, high = _interval(new.resampled - old.resampled)
    return Gain(new.name, new.value - old.value, low, high)


def score_of_sums(
    name: str,
    counts: NDArray[np.float64],
    measure: Callable[[NDArray[np.float64]], float],
    draws: NDArray[np.int32],
) -> Score:
    """Make a score of any measure that is computed from counts summed over the items.

    Args:
        name: what is measured.
        counts: of each item, shape (n, k).
        measure: takes summed counts, shape (k,), and returns the score.
        draws: from :func:`bootstrap_draws` for n items.

    Returns:
        The score; items are the measure of each item alone.

    Examples:
        >>> hits = np.array([[1.0, 1.0], [0.0, 1.0]])
        >>> score_of_sums("hits", hits, lambda s: s[0] / s[1], np.array([[0, 0], [1, 1]])).high
        0.975
    """
    resampled = np.array([measure(counts[draw].sum(axis=0)) for draw in draws])
    items = np.array([measure(row) for row in counts])
    whole = measure(counts.sum(axis=0))
    return Score(name, whole, *_interval(resampled), items, resampled, draws, counts, measure)


def _corpus_score(
    name: str, corpus: Metric, sentence: Metric, data: tuple[Sequence[str], Sequence[str], NDArray[np.int32]]
) -> Score:
    outputs, references, draws = data
    _require_same_length(outputs, references, draws)
    # sacrebleu's own bootstrap draws from a generator that cannot be handed in, so no two systems could
    # share their draws: take its per-sentence counts and let it score their sums.
    counts = np.array(corpus._extract_corpus_statistics(list(outputs), [list(references)]), dtype=np.int64)

    def measure(sums: NDArray[np.int64]) -> float:
        return float(corpus._compute_score_from_stats(sums.tolist()).score)

    resampled = np.array([measure(counts[draw].sum(axis=0)) for draw in draws])
    items = np.array([
        sentence.sentence_score(o, [r]).score for o, r in zip(outputs, references, strict=True)
    ])
    signature = str(corpus.get_signature())
    whole = measure(counts.sum(axis=0))
    return Score(name, whole, *_interval(resampled), items, resampled, draws, counts, measure, signature)


def _require_same_length(outputs: Sequence[str], others: Sequence[str], draws: NDArray[np.int32]) -> None:
    if not len(outputs) == len(others) == draws.shape[1]:
        raise DataError(
            f"{len(outputs)} outputs, {len(others)} texts to compare with and draws for {draws.shape[1]}: "
            "these must be the same items"
        )


def _interval(resampled: NDArray[np.float64]) -> tuple[float, float]:
    valid = resampled[~np.isnan(resampled)]
    if not len(valid):
        return float("nan"), float("nan")
    low, high = np.percentile(valid, [_TAIL, 100 - _TAIL])
    return float(low), float(high)


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")
