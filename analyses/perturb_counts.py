"""Counting a stream of texts in blocks of documents, so that a number gets an interval by leaving blocks out."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from geometry.checks import DataError
from geometry.cooccurrence import Cooccurrence, PairCounter
from geometry.words import closed_up, cut

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from geometry.weightings import Weighting
    from geometry.words import Letters

BATCH = 2000
"""Texts that are cut at a time."""


def vocabulary_of(
    texts: Iterable[str], size: int, members: Sequence[str], letters: Letters
) -> tuple[str, ...]:
    """The most frequent words of a corpus, members among them whatever their frequency.

    Args:
        texts: the corpus.
        size: number of words.
        members: words that must be there.
        letters: how text is cut.

    Returns:
        Members first, then others by falling frequency; fewer if the corpus has fewer.

    Raises:
        DataError: a member never occurs.
    """
    seen: Counter[str] = Counter()
    for batch in _batches(texts):
        words = cut(batch, letters, _phrases(members))
        seen.update(dict(zip(words.names, words.frequencies().tolist(), strict=True)))
    if absent := [member for member in members if not seen[member]]:
        raise DataError(f"{', '.join(absent)}: never seen in the corpus; leave them out of the concept")
    chosen = set(members)
    others = (word for word, n in seen.most_common() if word not in chosen and n)
    return *members, *islice(others, max(0, size - len(members)))


def counted_in_blocks(
    texts: Iterable[str],
    words: Sequence[str],
    how: tuple[Letters, Weighting],
    *,
    members: Sequence[str] = (),
    blocks: int = 1,
    tell: Callable[[int], None] = lambda texts: None,
) -> list[Cooccurrence]:
    """Count the pairs of a vocabulary, each block of documents for itself; other words are removed before.

    Args:
        texts: the corpus; document i goes to block i mod ``blocks``, whatever was edited in it.
        words: the vocabulary.
        how: letters and window.
        members: words of the vocabulary that may be phrases.
        blocks: number of blocks.
        tell: is told how many texts are done.

    Returns:
        Counts of each block over the same words.
    """
    letters, weighting = how
    counters = [PairCounter(len(words), weighting) for _ in range(blocks)]
    numbers = {word: i for i, word in enumerate(words)}
    done = 0
    for batch in _batches(texts):
        for block, counter in enumerate(counters):
            own = batch[(block - done) % blocks :: blocks]
            found = cut(own, letters, _phrases(members))
            counter.update(*closed_up(found.numbered(numbers), found.lengths))
        done += len(batch)
        tell(done)
    return [counter.answer(words) for counter in counters]


def whole_of(parts: Sequence[Cooccurrence]) -> Cooccurrence:
    """Counts of all blocks together."""
    upper = parts[0].upper
    for part in parts[1:]:
        upper = upper + part.upper
    return _with(
        parts[0],
        upper,
        np.sum([part.unigrams for part in parts], axis=0),
        (sum(part.tokens for part in parts), sum(part.total for part in parts)),
    )


def without_block(whole: Cooccurrence, part: Cooccurrence) -> Cooccurrence:
    """Counts of all blocks but one."""
    upper = whole.upper - part.upper
    upper.eliminate_zeros()
    return _with(
        whole,
        upper,
        whole.unigrams - part.unigrams,
        (whole.tokens - part.tokens, whole.total - part.total),
    )


def _with(like: Cooccurrence, upper, unigrams: np.ndarray, sizes: tuple[int, int]) -> Cooccurrence:  # noqa: ANN001
    return Cooccurrence(like.words, upper, unigrams, *sizes, like.weighting)


def _phrases(members: Sequence[str]) -> list[str]:
    return [member for member in members if " " in member]


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    stream = iter(texts)
    while batch := list(islice(stream, BATCH)):
        yield batch
