"""Rewriting exercises for pretraining: copy, repair and un-translate sentences in the prompt of `train`.

A model of a few million parameters does not learn to rewrite from a few hundred pairs. Shown many
rewriting tasks while it is pretrained, it only has to learn the style from an adapter.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from finetune.prompts import IGNORED, completion, render

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from transformers import PreTrainedTokenizerBase

    from finetune.neutralise import Engine

    Row = tuple[list[int], list[int]]
    """Token ids and their labels."""

SENTENCE_END = re.compile(r"(?<=[.!?]) +(?=[A-Z\"'])")
OPEN_ROWS = 32
"""Rows that first-fit packing keeps open: more fill better, but mix exercises from further apart."""
FAITHFUL = 40
"""Lowest chrF, in [0, 100], of a round trip that still says what its sentence said."""


@dataclass(frozen=True)
class Exercise:
    """One document of rewriting pairs of the same kind, shown one after the other.

    Attributes:
        pairs: one to four (source, target) texts.
    """

    pairs: tuple[tuple[str, str], ...]


def sentences(document: str, *, shortest: int = 5, longest: int = 30) -> list[str]:
    """Split a document into sentences of a bounded number of words, dropping the others.

    Args:
        document: any text; line breaks count as spaces.
        shortest: fewest words.
        longest: most words.

    Returns:
        The sentences in order, each on one line. A full stop before a space and a capital or a quotation
        mark ends one, so an abbreviation may cut a sentence in two.

    Examples:
        >>> sentences("It rained all day long. Did it? Then the sun came out again.")
        ['It rained all day long.', 'Then the sun came out again.']
    """
    parts = SENTENCE_END.split(" ".join(document.split()))
    return [part for part in parts if shortest <= len(part.split()) <= longest]


def copying(items: Sequence[str]) -> list[tuple[str, str]]:
    """Make pairs whose target is their source.

    Examples:
        >>> copying(["It rained."])
        [('It rained.', 'It rained.')]
    """
    return [(item, item) for item in items]


def denoising(items: Sequence[str], rng: np.random.Generator) -> list[tuple[str, str]]:
    """Make pairs whose source has lost, swapped or gained words of the target (as in BART, Lewis 2020).

    Args:
        items: sentences; their words are also what foreign words are drawn from.
        rng: source of chance.

    Returns:
        (source, target) for each sentence, in order. A word in ten is left out, one in ten replaced, and
        in about one place in twelve two neighbours change places.

    Examples:
        >>> denoising(["one two three four five six seven"], np.random.default_rng(4))
        [('one two three five six seven', 'one two three four five six seven')]
    """
    words = [word for item in items for word in item.split()]
    return [(_noisy(item.split(), words, rng), item) for item in items]


def _noisy(sentence: list[str], words: list[str], rng: np.random.Generator) -> str:
    out = []
    for word in sentence:
        luck = rng.random()
        if luck < 0.1:
            continue
        out.append(words[rng.integers(len(words))] if luck < 0.2 else word)
    for i in range(len(out) - 1):
        if rng.random() < 0.08:
            out[i], out[i + 1] = out[i + 1], out[i]
    return " ".join(out) or sentence[0]


def unneutralising(items: Sequence[str], engine: Engine) -> list[tuple[str, str]]:
    """Make pairs from the round trip of a sentence back to the sentence.

    Args:
        items: sentences.
        engine: translates them there and back.

    Returns:
        (round trip, sentence), in order; without those that came back empty, unchanged, or with a
        sentence chrF (Popovic 2015) of at most ``FAITHFUL``.

    Raises:
        InputError: the engine failed.
    """
    from sacrebleu.metrics import CHRF

    chrf = CHRF()
    trips = engine.round_trip(items)
    return [
        (trip, item)
        for trip, item in zip(trips, items, strict=True)
        if trip and trip != item and chrf.sentence_score(trip, [item]).score > FAITHFUL
    ]


def exercises(pairs: Iterable[tuple[str, str]], rng: np.random.Generator) -> Iterator[Exercise]:
    """Group pairs of one kind into documents of one to four, half of them single.

    Args:
        pairs: (source, target) texts.
        rng: draws the sizes.

    Yields:
        Exercises that hold the pairs in order. Up to three pairs at the end, too few for the size that
        was drawn, are left out.
    """
    group: list[tuple[str, str]] = []
    size = _size(rng)
    for pair in pairs:
        group.append(pair)
        if len(group) == size:
            yield Exercise(tuple(group))
            group, size = [], _size(rng)


def _size(rng: np.random.Generator) -> int:
    return int(rng.choice([1, 2, 3, 4], p=[0.5, 0.25, 0.15, 0.1]))


def pack(
    items: Sequence[Exercise], tokenizer: PreTrainedTokenizerBase, length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Lay exercises into rows without cutting any.

    An exercise of one pair has the very ids and labels of :func:`finetune.prompts.encode`; one of more
    has the ids of its last pair with the others as examples, and bears loss on the answer of each.

    Args:
        items: the exercises, in the order to lay them.
        tokenizer: with an end-of-text token, and without opening tokens of its own.
        length: tokens a row.

    Returns:
        ids and labels, both (rows, length), int32, not shifted. A label is the token's id where it
        belongs to an answer or to the end of an exercise, and :data:`finetune.prompts.IGNORED` on prompts
        and on the filling at the end of a row. Exercises longer than a row are left out.
    """
    encoded = _encode(items, tokenizer) if items else []
    packed = list(_first_fit((row for row in encoded if len(row[0]) <= length), length))
    ids = np.full((len(packed), length), tokenizer.eos_token_id, np.int32)
    labels = np.full((len(packed), length), IGNORED, np.int32)
    for i, (row_ids, row_labels) in enumerate(packed):
        ids[i, : len(row_ids)] = row_ids
        labels[i, : len(row_labels)] = row_labels
    return ids, labels


def _first_fit(rows: Iterable[Row], length: int) -> Iterator[Row]:
    """Join rows into longer ones; of more than ``OPEN_ROWS`` that still have room, the fullest is closed."""
    room: list[Row] = []
    for ids, labels in rows:
        for open_ids, open_labels in room:
            if len(open_ids) + len(ids) <= length:
                open_ids.extend(ids)
                open_labels.extend(labels)
                break
        else:
            room.append((ids, labels))
        if len(room) > OPEN_ROWS:
            room.sort(key=lambda row: len(row[0]))
            yield room.pop()
    yield from room


def _encode(items: Sequence[Exercise], tokenizer: PreTrainedTokenizerBase) -> Iterator[Row]:
    """Encode piece by piece, so that the mask falls on the very tokens of the prompts."""
    pieces = [
        piece
        for item in items
        for number, (source, target) in enumerate(item.pairs)
        for piece in (("\n\n" if number else "") + render(source), completion(target))
    ]
    # A text that spells "<|endoftext|>" must not be able to end the task.
    encoded = iter(tokenizer(pieces, add_special_tokens=False, split_special_tokens=True)["input_ids"])
    for item in items:
        ids: list[int] = []
        labels: list[int] = []
        for prompt, answer in itertools.islice(zip(encoded, encoded, strict=True), len(item.pairs)):
            ids += prompt + answer
            labels += [IGNORED] * len(prompt) + answer
        yield [*ids, tokenizer.eos_token_id], [*labels, tokenizer.eos_token_id]
