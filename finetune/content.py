"""What a rewriting kept of the content, and what it brought in: names, numbers, length, likeness."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np

from finetune.entities import names, numbers, words
from finetune.score import score_of_sums
from geometry.checks import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from sklearn.feature_extraction.text import TfidfVectorizer

    from finetune.score import Score


class Embedding(Protocol):
    """Texts as rows of length 1: a :class:`finetune.embedder.Embedder`, or :class:`CharGrams`."""

    name: str

    def __call__(self, texts: Sequence[str]) -> NDArray[np.floating]:
        """Embed texts, shape (n, d); zeros for one that has nothing to go by."""
        ...


@dataclass(frozen=True, eq=False)
class CharGrams:
    """Texts as weighted counts of runs of 3 to 5 characters inside words: likeness of wording, not of meaning.

    It is what there is without an encoder; two sentences that say the same in other words are strangers to it.

    Attributes:
        name: how it is called where its scores stand.
    """

    name: str = "character n-grams"
    _grams: TfidfVectorizer | None = field(default=None, repr=False)

    @classmethod
    def fit(cls, texts: Sequence[str]) -> Self:
        """Weigh n-grams by how rare they are among texts.

        Raises:
            DataError: no text has a word.
        """
        from sklearn.feature_extraction.text import TfidfVectorizer

        if not any(text.strip() for text in texts):
            raise DataError("likeness of content needs texts to weigh n-grams by; all are empty")
        grams = TfidfVectorizer(
            analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True, max_features=20_000
        )
        return cls(_grams=grams.fit(texts))

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Embed texts: shape (n, n-grams), rows of length 1 or 0."""
        return self._grams.transform(texts).toarray() if len(texts) else np.zeros((0, 0))


def names_kept(outputs: Sequence[str], sources: Sequence[str], draws: NDArray[np.int32]) -> Score:
    """Share of the names of the sources whose words come back in the outputs, wherever they stand there.

    Args:
        outputs: the texts to judge.
        sources: the texts that were rewritten, in the same order.
        draws: from :func:`finetune.score.bootstrap_draws`.

    Returns:
        The share in [0, 1]; NaN where no source has a name, see :func:`finetune.entities.names`.

    Raises:
        DataError: the numbers of outputs, sources and drawn items differ.

    Examples:
        >>> names_kept(["Anna saw him."], ["Then Anna saw Tom."], np.array([[0]])).value
        0.5
    """

    def kept(output: str, source: str) -> tuple[float, float]:
        wanted, has = names(source), set(words(output))
        found = sum(n for name, n in wanted.items() if set(words(name)) <= has)
        return found, wanted.total()

    return _ratio("names kept", kept, outputs, sources, draws)


def numbers_added(outputs: Sequence[str], sources: Sequence[str], draws: NDArray[np.int32]) -> Score:
    """Share of the numbers of the outputs that their sources do not have; NaN where no output has any.

    Args:
        outputs: the texts to judge.
        sources: the texts that were rewritten, in the same order.
        draws: from :func:`finetune.score.bootstrap_draws`.

    Returns:
        The share in [0, 1].

    Raises:
        DataError: the numbers of outputs, sources and drawn items differ.

    Examples:
        >>> numbers_added(["2 of 4"], ["3 of 4"], np.array([[0]])).value
        0.5
    """

    def added(output: str, source: str) -> tuple[float, float]:
        has = numbers(output)
        return (has - numbers(source)).total(), has.total()

    return _ratio("numbers added", added, outputs, sources, draws)


def length_ratio(outputs: Sequence[str], sources: Sequence[str], draws: NDArray[np.int32]) -> Score:
    """Words of the outputs for each word of the sources.

    Args:
        outputs: the texts to judge.
        sources: the texts that were rewritten, in the same order.
        draws: from :func:`finetune.score.bootstrap_draws`.

    Returns:
        The ratio; 1 where as much was written as was read.

    Raises:
        DataError: the numbers of outputs, sources and drawn items differ.

    Examples:
        >>> length_ratio(["a b c"], ["a b"], np.array([[0]])).value
        1.5
    """
    return _ratio("length", lambda o, s: (len(o.split()), len(s.split())), outputs, sources, draws)


def cosines(embed: Embedding, texts: Sequence[str], others: Sequence[str]) -> NDArray[np.float64]:
    """Return the cosine of each text and the other at its place, shape (n,), in [-1, 1]; 0 for an empty one."""
    return np.einsum("nd,nd->n", embed(texts), embed(others), dtype=np.float64)


def strangers(embed: Embedding, texts: Sequence[str], documents: Sequence[str]) -> float:
    """Return the mean cosine of texts of different documents: what likeness is where no content is shared.

    Args:
        embed: of the likeness.
        texts: n texts.
        documents: the document of each.

    Returns:
        The mean over all pairs of texts that are not of one document.

    Raises:
        DataError: all texts are of one document.
    """
    rows = np.asarray(embed(texts), dtype=np.float64)
    _, place = np.unique(np.asarray(documents), return_inverse=True)
    if place.max(initial=0) == 0:
        raise DataError("likeness of strangers needs texts of two documents or more; all are of one")
    sums = np.zeros((place.max() + 1, rows.shape[1]))
    np.add.at(sums, place, rows)
    within = np.einsum("kd,kd->", sums, sums)
    whole = rows.sum(axis=0)
    pairs = len(rows) ** 2 - np.sum(np.bincount(place) ** 2)
    return float((whole @ whole - within) / pairs)


def _ratio(
    name: str,
    count: Callable[[str, str], tuple[float, float]],
    outputs: Sequence[str],
    sources: Sequence[str],
    draws: NDArray[np.int32],
) -> Score:
    if not len(outputs) == len(sources) == draws.shape[1]:
        raise DataError(
            f"{len(outputs)} outputs, {len(sources)} sources and draws for {draws.shape[1]}: these must be the "
            "same items"
        )
    counts = np.array([count(o, s) for o, s in zip(outputs, sources, strict=True)], dtype=np.float64)
    return score_of_sums(name, counts, lambda s: float(s[0] / s[1]) if s[1] else float("nan"), draws)
