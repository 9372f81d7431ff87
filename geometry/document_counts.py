"""Counts of a concept's items: spellings added up, and whole documents resampled.

Words of one document go together, so that counts which are resampled as if every pair were drawn for itself
understate the error of a ratio at least threefold. Here the documents of a corpus are dealt to some thirty blocks,
each counted for itself; a bootstrap draw adds up as many blocks, drawn with replacement.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from geometry.checks import DataError
from geometry.cooccurrence import Cooccurrence

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

LEAST_BLOCKS = 8
"""Fewer blocks give no interval: their spread is hardly known."""


def document_keys(texts: Sequence[str]) -> NDArray[np.int64]:
    """A number for each document, of its text alone: modulo the number of blocks, the block that it is dealt to.

    It does not depend on what else is counted, or in which order.

    Examples:
        >>> document_keys(["the same", "another", "the same"]) % 32
        array([20, 24, 20])
    """
    return np.array([zlib.crc32(text.encode("utf-8", "surrogatepass")) for text in texts], dtype=np.int64)


def by_block(
    ids: NDArray[np.int32], lengths: NDArray[np.int64], block: NDArray[np.int64]
) -> Iterator[tuple[int, NDArray[np.int32], NDArray[np.int64]]]:
    """Part documents by their blocks.

    Args:
        ids: (n,) words, documents one after the other.
        lengths: (documents,) words in each.
        block: (documents,) the block of each.

    Yields:
        Each block that has documents, with their ids and lengths.

    Examples:
        >>> parted = by_block(np.array([7, 8, 9]), np.array([1, 2]), np.array([1, 0]))
        >>> [(b, ids.tolist(), lengths.tolist()) for b, ids, lengths in parted]
        [(0, [8, 9], [2]), (1, [7], [1])]
    """
    of_words = np.repeat(block, lengths)
    for b in np.unique(block).tolist():
        yield b, ids[of_words == b], lengths[block == b]


def pooled(stats: Cooccurrence, spellings: Mapping[str, Sequence[str]]) -> Cooccurrence:
    """Count several words as one: exactly what counting would have found, had the text had one spelling only.

    Args:
        stats: counts.
        spellings: item -> words of the vocabulary that stand for it, none of them for two items.

    Returns:
        Counts of the items, in their order; places and the weight of all pairs stay.

    Raises:
        DataError: an item without a word, a word that stands for two items or that was not counted.

    Examples:
        >>> from geometry.cooccurrence import PairCounter
        >>> from geometry.weightings import flat
        >>> counter = PairCounter(3, flat(1))
        >>> counter.update([0, 1, 2, 0], [4])
        >>> stats = counter.answer(["Sep", "July", "Sept"])
        >>> pooled(stats, {"September": ["Sep", "Sept"], "July": ["July"]}).counts.toarray()
        array([[2, 2],
               [2, 0]])
    """
    words = [word for found in spellings.values() for word in found]
    if empty := [item for item, found in spellings.items() if not found]:
        raise DataError(f"{empty[0]}: has no word that was counted; leave it out")
    if len(set(words)) < len(words):
        twice = next(word for word in words if words.count(word) > 1)
        raise DataError(f"{twice}: stands for two items; keep one of them, or count with case kept")
    block, seen = stats.block(words), stats.unigrams[stats.of(words)]
    item = np.repeat(np.arange(len(spellings)), [len(found) for found in spellings.values()])
    starts = np.searchsorted(item, np.arange(len(spellings)))
    pairs = np.add.reduceat(np.add.reduceat(block, starts, axis=0), starts, axis=1)
    return Cooccurrence(
        words=tuple(spellings),
        upper=sparse.csr_array(np.triu(pairs)),
        unigrams=np.add.reduceat(seen, starts),
        tokens=stats.tokens,
        total=stats.total,
        weighting=stats.weighting,
    )


def resampled_ratios(
    blocks: Sequence[Cooccurrence], draws: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Rho of resampled corpora: as many blocks of documents as there are, with replacement.

    Args:
        blocks: counts of disjoint parts of the documents, of about equal size, over the same words.
        draws: number of corpora.
        rng: source of chance.

    Returns:
        P_ij / (P_i P_j) of each, shape (draws, n, n); 0 where two never meet there, and 1 where one of them does
        not occur, about which nothing is known then.

    Raises:
        DataError: fewer than :data:`LEAST_BLOCKS` blocks, or other words in one of them.

    Examples:
        Equal blocks leave no doubt:

        >>> from geometry.cooccurrence import PairCounter
        >>> from geometry.weightings import flat
        >>> counter = PairCounter(2, flat(2))
        >>> counter.update([0, 1] * 50, [100])
        >>> equal = [counter.answer(["a", "b"])] * 8
        >>> resampled_ratios(equal, 2, np.random.default_rng(0))[:, 0, 1].round(3)
        array([1.005, 1.005])
    """
    if len(blocks) < LEAST_BLOCKS:
        raise DataError(f"blocks: expected at least {LEAST_BLOCKS} blocks of documents, got {len(blocks)}")
    words = blocks[0].words
    if any(block.words != words for block in blocks):
        raise DataError("blocks: have other words; count them with one list of words")
    pairs = np.array([block.block(words) for block in blocks], dtype=np.float64)
    seen = np.array([block.unigrams for block in blocks], dtype=np.float64)
    sizes = np.array([(block.tokens, block.total) for block in blocks], dtype=np.float64)
    weights = rng.multinomial(len(blocks), np.full(len(blocks), 1 / len(blocks)), draws).astype(np.float64)
    tokens, total = (weights @ sizes).T
    share = (weights @ seen) / tokens[:, None]
    met = np.tensordot(weights, pairs, 1) / total[:, None, None]
    chance = share[:, :, None] * share[:, None, :]
    return np.divide(met, chance, out=np.ones_like(met), where=chance > 0)
