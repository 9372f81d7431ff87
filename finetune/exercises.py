"""Rewriting exercises for pretraining: copy, repair and un-translate sentences in the prompt of `train`.

A model of a few million parameters does not learn to rewrite from a few hundred pairs. Shown many
rewriting tasks while it is pretrained, it only has to learn the style from an adapter.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from finetune.prompts import render

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from transformers import PreTrainedTokenizerBase

    from finetune.neutralise import Engine

SENTENCE_END = re.compile(r"(?<=[.!?]) +(?=[A-Z\"'])")
MASKED = -100
OPEN_ROWS = 32
"""Rows that first-fit packing keeps open: more fill better, but mix exercises from further apart."""


@dataclass(frozen=True)
class Exercise:
    """One document of up to four rewriting pairs of the same kind, query last."""

    pairs: tuple[tuple[str, str], ...]


def sentences(document: str, *, shortest: int = 5, longest: int = 30) -> list[str]:
    """Split a document into sentences of a bounded number of words, dropping the others."""
    parts = SENTENCE_END.split(" ".join(document.split()))
    return [part for part in parts if shortest <= len(part.split()) <= longest]


def copying(items: Sequence[str]) -> list[tuple[str, str]]:
    """Make pairs whose target is their source."""
    return [(item, item) for item in items]


def denoising(items: Sequence[str], rng: np.random.Generator) -> list[tuple[str, str]]:
    """Make pairs whose source has lost, swapped or gained words of the target (as in BART, Lewis 2020)."""
    words = [word for item in items for word in item.split()]
    return [(_noisy(item.split(), words, rng), item) for item in items]


def _noisy(sentence: list[str], words: list[str], rng: np.random.Generator) -> str:
    """Drop a word in ten, replace a word in ten by a foreign one, and swap some neighbours."""
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
    """Make pairs from the round trip of a sentence back to the sentence, without those that drifted."""
    from sacrebleu.metrics import CHRF

    chrf = CHRF()
    trips = engine.round_trip(items)
    return [
        (trip, item)
        for trip, item in zip(trips, items, strict=True)
        if trip and trip != item and chrf.sentence_score(trip, [item]).score > 40
    ]


def exercises(pairs: Iterable[tuple[str, str]], rng: np.random.Generator) -> Iterator[Exercise]:
    """Group pairs of one kind into documents of one to four, half of them single."""
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
    items: Iterable[Exercise], tokenizer: PreTrainedTokenizerBase, length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Lay exercises into rows without cutting any.

    Args:
        items: the exercises, in the order to lay them.
        tokenizer: with an end token.
        length: tokens a row.

    Returns:
        ids and labels, both (rows, length), int32. Labels are ``MASKED`` wherever the token belongs to a
        prompt or to the filling at the end of a row. Exercises longer than a row are left out.
    """
    end = tokenizer.eos_token_id
    closed: list[tuple[list[int], list[int]]] = []
    bins: list[tuple[list[int], list[int]]] = []
    for item in items:
        ids, labels = _encode(item, tokenizer)
        if len(ids) > length:
            continue
        for row in bins:
            if len(row[0]) + len(ids) <= length:
                row[0].extend(ids)
                row[1].extend(labels)
                break
        else:
            bins.append((ids, labels))
        if len(bins) > OPEN_ROWS:
            bins.sort(key=lambda row: len(row[0]))
            closed.append(bins.pop())
    closed += bins
    if not closed:
        return np.zeros((0, length), np.int32), np.zeros((0, length), np.int32)
    filled = [(i + [end] * (length - len(i)), l + [MASKED] * (length - len(l))) for i, l in closed]
    ids_array, labels_array = (
        np.array(side, np.int32).reshape(-1, length) for side in zip(*filled, strict=True)
    )
    return ids_array, labels_array


def _encode(item: Exercise, tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Encode piece by piece, so that the mask falls on the very tokens of the prompt."""
    ids: list[int] = []
    labels: list[int] = []
    for number, (source, target) in enumerate(item.pairs):
        prompt = ("\n\n" if number else "") + render(source)
        prompt_ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        target_ids = tokenizer(f" {target}", add_special_tokens=False)["input_ids"]
        ids += prompt_ids + target_ids
        labels += [MASKED] * len(prompt_ids) + target_ids
    return [*ids, tokenizer.eos_token_id], [*labels, tokenizer.eos_token_id]
