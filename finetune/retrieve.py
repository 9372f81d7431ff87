"""Examples for a prompt: the training pairs whose styled side is most like a text.

Liu & Koehn (arXiv 2602.15013) search among the *target* sides, since it is the style that an example has to
show. In training the query is a pair's own target, and the pair itself is left out; when a text is rewritten
its target is not known, so a sketch of it is the query (:func:`finetune.prompted.sketch_first`).

Likeness is BM25 over words (bm25s), or the cosine of the embeddings of any encoder, exact and one matrix product
for a batch of queries: on one core 100,000 embeddings are searched in half of the time that faiss takes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np

from finetune.entities import numbers, words
from geometry.checks import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bm25s import BM25
    from numpy.typing import NDArray

    from finetune.pairs import Pair

_QUERIES = 256
"""Queries that are scored together: bounds the memory to so many rows of scores."""

_SPARE = 16
"""Candidates beyond those wanted that are ranked first: some will be too near to a query's own pair."""


class Likeness(Protocol):
    """Says how like each query is to each of the texts that it was made of."""

    def __call__(self, queries: Sequence[str]) -> NDArray[np.floating]:
        """Return scores, shape (queries, texts); higher is more alike."""
        ...


@dataclass(frozen=True, eq=False)
class Bm25:
    """Okapi BM25 over words and numbers, in Lucene's variant (Robertson & Zaragoza 2009; Kamphuis et al. 2020).

    The score of a text d for a query q is the sum over the tokens t of q, repeated ones counted again, of
    idf(t) tf / (tf + k1 (1 - b + b |d| / mean |d|)), with tf the count of t in d, |d| its tokens, and idf(t)
    = ln(1 + (n - df + 0.5) / (df + 0.5)). All of it but the sum is computed once, by bm25s (Lù 2024).
    """

    _index: BM25 = field(repr=False)
    _vocabulary: dict[str, int] = field(repr=False)
    _texts: int = field(repr=False)

    @classmethod
    def of(cls, texts: Sequence[str], *, k1: float = 1.5, b: float = 0.75) -> Self:
        """Index texts.

        Args:
            texts: what is searched; at least one.
            k1: how soon a repeated word stops adding, above 0.
            b: how much longer texts are held back, in [0, 1].

        Returns:
            The index.

        Raises:
            DataError: there is no text, or k1 or b is out of range.

        Examples:
            >>> index = Bm25.of(["the cat sat", "the dog ran", "a cat and a cat"])
            >>> index(["cat"]).argsort()[0, ::-1].tolist()
            [2, 0, 1]
        """
        import bm25s

        if not len(texts) or k1 <= 0 or not 0 <= b <= 1:
            raise DataError("BM25 needs a text to search, k1 above 0 and b in [0, 1]")
        vocabulary: dict[str, int] = {}
        tokens = [[vocabulary.setdefault(t, len(vocabulary)) for t in _tokens(text)] for text in texts]
        index = bm25s.BM25(k1=k1, b=b, method="lucene", dtype="float64")
        if vocabulary:
            index.index((tokens, vocabulary), show_progress=False)
        return cls(index, vocabulary, len(texts))

    def __call__(self, queries: Sequence[str]) -> NDArray[np.float64]:
        """Score texts: shape (queries, texts), at least 0. Words that no text has add nothing."""
        scores = np.zeros((len(queries), self._texts))
        for row, query in zip(scores, queries, strict=True):
            known = [self._vocabulary[t] for t in _tokens(query) if t in self._vocabulary]
            if known:
                row[:] = self._index.get_scores_from_ids(known)
        return scores


@dataclass(frozen=True, eq=False)
class Cosine:
    """The cosine of embeddings; zero for a text without any.

    Attributes:
        embed: texts -> rows of length 1, shape (n, d), such as a :class:`finetune.embedder.Embedder`.
    """

    embed: Callable[[Sequence[str]], NDArray[np.floating]]
    _rows: NDArray[np.floating] = field(repr=False)

    @classmethod
    def of(cls, texts: Sequence[str], embed: Callable[[Sequence[str]], NDArray[np.floating]]) -> Self:
        """Embed the texts that are searched."""
        return cls(embed, embed(texts))

    def __call__(self, queries: Sequence[str]) -> NDArray[np.floating]:
        """Score texts: shape (queries, texts), in [-1, 1]."""
        return self.embed(queries) @ self._rows.T


def same_item(pair: Pair, other: Pair) -> bool:
    """Whether two pairs are one, or say the same on a side: what must never be an example for the other."""
    return pair.id == other.id or pair.source == other.source or pair.target == other.target


def same_document(pair: Pair, other: Pair) -> bool:
    """Whether two pairs are one or of one document."""
    return pair.doc_id == other.doc_id or same_item(pair, other)


@dataclass(frozen=True, eq=False)
class ExampleBank:
    """Pairs that can be found by their targets.

    Attributes:
        pairs: to choose from.
        likeness: over their targets, in the same order.
    """

    pairs: Sequence[Pair]
    likeness: Likeness

    def nearest(
        self,
        queries: Sequence[str],
        k: int,
        *,
        own: Sequence[Pair] | None = None,
        apart: Callable[[Pair, Pair], bool] = same_item,
    ) -> list[tuple[Pair, ...]]:
        """Find the pairs whose targets are most like each query.

        Args:
            queries: sketches of targets, or targets.
            k: how many; fewer come where fewer may.
            own: the pair that each query is of, so that it is never its own example.
            apart: says which pairs are too near to be shown, of a query's own pair and another;
                :func:`same_item` or :func:`same_document`.

        Returns:
            For each query up to k pairs, the most alike last: it stands nearest to the question. Of equally
            like ones the earlier of the bank is taken.

        Raises:
            DataError: ``own`` does not name one pair for each query, or k is negative.
        """
        if k < 0 or (own is not None and len(own) != len(queries)):
            raise DataError("examples: ask for 0 or more, and name one own pair for each query")
        found: list[tuple[Pair, ...]] = []
        for start in range(0, len(queries), _QUERIES):
            scores = self.likeness(queries[start : start + _QUERIES])
            for at, row in enumerate(scores, start=start):
                found.append(self._best(row, k, None if own is None else own[at], apart))
        return found

    def _best(
        self,
        scores: NDArray[np.floating],
        k: int,
        own: Pair | None,
        apart: Callable[[Pair, Pair], bool],
    ) -> tuple[Pair, ...]:
        chosen: list[Pair] = []
        if not k:
            return ()
        for i in _descending(scores, 4 * k + _SPARE):
            other = self.pairs[i]
            if (own is None or not apart(own, other)) and not any(same_item(c, other) for c in chosen):
                chosen.append(other)
            if len(chosen) == k:
                break
        return tuple(reversed(chosen))


@dataclass(frozen=True, eq=False)
class SimilarShots:
    """Examples of a training pair: those whose targets are most like its own, never itself.

    It is what :func:`finetune.train.train` takes as ``examples`` (the similar k-shot of Liu & Koehn 2026).

    Attributes:
        bank: the training pairs.
        k: examples for each pair.
        apart: which pairs are too near to be shown.
    """

    bank: ExampleBank
    k: int
    apart: Callable[[Pair, Pair], bool] = same_item

    def __call__(self, pair: Pair) -> tuple[Pair, ...]:
        """Find the examples of a pair."""
        return self.bank.nearest([pair.target], self.k, own=[pair], apart=self.apart)[0]


def _descending(scores: NDArray[np.floating], first: int) -> Iterator[int]:
    """Places from the highest score down, ties in order; the first few are found without sorting the rest."""
    top = np.arange(len(scores))
    if first < len(scores):
        top = np.flatnonzero(scores >= np.partition(scores, -first)[-first])
        yield from top[np.argsort(-scores[top], kind="stable")]
        top = np.setdiff1d(np.arange(len(scores)), top, assume_unique=True)
    yield from top[np.argsort(-scores[top], kind="stable")]


def _tokens(text: str) -> list[str]:
    return [*words(text), *numbers(text).elements()]
