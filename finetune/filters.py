"""Which round trips become pairs: those that say the same as the sentence, in other words.

Reasons are asked in the order of ``REASONS``, and a sentence counts under the first that holds. Most round
trips that are lost are lost to what translation did to a name or a number.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from finetune.entities import names, numbers, words

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

    from numpy.typing import NDArray
    from sacrebleu.metrics.base import Metric

    from finetune.round_trips import Trip

REASONS = ("empty", "copy", "length", "numbers changed", "names changed", "untranslated", "drift")
"""Why a round trip becomes no pair, in the order in which it is asked."""

_LETTERS = 4
"""Shorter words are never called untranslated: many are spelt alike in two languages."""


@dataclass(frozen=True)
class Limits:
    """What a round trip may do to a sentence.

    Attributes:
        copied: chrF, in [0, 100], of trip and sentence above which the trip is a copy.
        shortest, longest: words of the trip for each word of the sentence.
        names_lost: share of the names of the sentence that may be missing, in [0, 1].
        similarity: lowest cosine of the embeddings of trip and sentence; None asks no embeddings.
    """

    copied: float = 95.0
    shortest: float = 0.5
    longest: float = 2.0
    names_lost: float = 0.0
    similarity: float | None = None


def faults(
    sentences: Sequence[str],
    trips: Sequence[Trip],
    limits: Limits,
    *,
    similarities: NDArray | None = None,
) -> list[str | None]:
    """Say of each round trip why it becomes no pair.

    Args:
        sentences: the originals.
        trips: theirs, in the same order.
        limits: what a trip may do.
        similarities: cosine of the embeddings of sentence and trip, shape (n,); needed if
            ``limits.similarity`` is set.

    Returns:
        One of ``REASONS`` for each, or None for one that becomes a pair.

    Examples:
        >>> from finetune.round_trips import Trip
        >>> said = ["Anna has 3 cats.", "It rained all day long."]
        >>> faults(said, [Trip("", "Anna has 4 cats."), Trip("", "All day there was rain.")], Limits())
        ['numbers changed', None]
    """
    vocabulary = frozenset(word for sentence in sentences for word in words(sentence))
    found = []
    for i, (sentence, trip) in enumerate(zip(sentences, trips, strict=True)):
        fault = _fault(sentence, trip, limits, vocabulary)
        if fault is None and limits.similarity is not None and not similarities[i] >= limits.similarity:
            fault = "drift"
        found.append(fault)
    return found


def _fault(sentence: str, trip: Trip, limits: Limits, vocabulary: AbstractSet[str]) -> str | None:
    if not words(trip.text):
        return "empty"
    if trip.text == sentence or likeness(trip.text, sentence) > limits.copied:
        return "copy"
    if not limits.shortest <= len(trip.text.split()) / len(sentence.split()) <= limits.longest:
        return "length"
    if numbers(sentence) != numbers(trip.text):
        return "numbers changed"
    named = names(sentence)
    kept = set(words(trip.text))
    if sum(not set(words(name)) <= kept for name in named) > limits.names_lost * len(named):
        return "names changed"
    if untranslated(sentence, trip, vocabulary):
        return "untranslated"
    return None


def untranslated(sentence: str, trip: Trip, vocabulary: AbstractSet[str]) -> set[str]:
    """List words of the pivot language that were left standing on the way back.

    Args:
        sentence: the original.
        trip: its round trip.
        vocabulary: English words, in lower case.

    Returns:
        Words of four letters or more that are in the trip and in the pivot's sentence, but neither in the
        original nor in the vocabulary.

    Examples:
        >>> from finetune.round_trips import Trip
        >>> untranslated("The hound barks.", Trip("El sabueso ladra.", "The sabueso barks."), set())
        {'sabueso'}
    """
    left = set(words(trip.text)) & set(words(trip.pivot)) - set(words(sentence)) - vocabulary
    return {word for word in left if len(word) >= _LETTERS}


def likeness(text: str, other: str) -> float:
    """Return chrF of a text against another, in [0, 100] (Popović 2015)."""
    return _chrf().sentence_score(text, [other]).score


@cache
def _chrf() -> Metric:
    from sacrebleu.metrics import CHRF

    return CHRF()
