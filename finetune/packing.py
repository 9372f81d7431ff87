"""Corpora packed into the tokens that a pretraining run reads: text, held-out documents and exercises."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np

from finetune.exercises import copying, denoising, exercises, pack, sentences, unneutralising
from finetune.folders import replace_file
from finetune.mixture import apart
from finetune.pretrain_recipe import UNIT
from finetune.stream import Stream, layout
from geometry.checks import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase

    from finetune.neutralise import Engine
    from finetune.pretrain_recipe import PretrainRecipe

HELD_OUT_TOKENS = 60_000
"""Tokens of the held-out documents that are kept, at most."""
HELD_OUT_LENGTH = 512
"""Tokens of one row on which the held-out loss is measured."""
_TEXTS_AT_ONCE = 512
_SENTENCES_AT_ONCE = 10_000
_SENTENCES_OF_A_PIECE = 3


def tokenise(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, n: int) -> tuple[np.ndarray, int]:
    """Encode texts, each closed by the end token, until n tokens are there or the texts end.

    Args:
        texts: documents or pieces.
        tokenizer: of at most 65,535 tokens, with an end-of-text token.
        n: most tokens to give.

    Returns:
        (at most n,) token ids, uint16, and the number of texts that they are from. A text that spells a
        special token is text.
    """
    out = [np.zeros(0, np.uint16)]
    held = begun = 0
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        chunk = texts[start : start + _TEXTS_AT_ONCE]
        for ids in tokenizer(chunk, add_special_tokens=False, split_special_tokens=True)["input_ids"]:
            if held >= n:
                return np.concatenate(out)[:n], begun
            out.append(np.array([*ids, tokenizer.eos_token_id], np.uint16))
            held += len(out[-1])
            begun += 1
    return np.concatenate(out)[:n], begun


def drills(
    texts: Iterable[str], tokenizer: PreTrainedTokenizerBase, n: int, *, engine: Engine | None, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Make rows of rewriting exercises from the sentences of texts, at most three of each.

    With an engine two in five exercises undo a round trip, two copy, one repairs noise; without one
    they copy and repair half and half.

    Args:
        texts: where the sentences are from.
        tokenizer: with an end-of-text token.
        n: rows to make.
        engine: round-trip translator, or None.
        seed: of the choice, the noise and the order.

    Returns:
        ids and labels, both (n, UNIT), int32; fewer rows if the texts end before.

    Raises:
        InputError: the engine failed.
    """
    rng = np.random.default_rng([seed, 3])
    made = [pack([], tokenizer, UNIT)]
    rows = 0
    items = (s for text in texts for s in _sample(sentences(text), rng))
    while rows < n and (block := list(itertools.islice(items, _SENTENCES_AT_ONCE))):
        drilled = [e for pairs in _kinds(block, engine, rng) for e in exercises(pairs, rng)]
        rng.shuffle(drilled)
        made.append(pack(drilled, tokenizer, UNIT))
        rows += len(made[-1][0])
    ids, labels = (np.concatenate(side)[:n] for side in zip(*made, strict=True))
    return ids, labels


def _kinds(block: list[str], engine: Engine | None, rng: np.random.Generator) -> list[list[tuple[str, str]]]:
    """Deal sentences out to the kinds of exercises."""
    if engine is None:
        half = len(block) // 2
        return [copying(block[:half]), denoising(block[half:], rng)]
    first, second = int(len(block) * 0.4), int(len(block) * 0.6)
    return [
        copying(block[:first]),
        denoising(block[first:second], rng),
        unneutralising(block[second:], engine),
    ]


def _sample(items: list[str], rng: np.random.Generator) -> list[str]:
    """Take a few sentences of a piece, so that the exercises come from many documents."""
    if len(items) <= _SENTENCES_OF_A_PIECE:
        return items
    return [items[i] for i in sorted(rng.choice(len(items), _SENTENCES_OF_A_PIECE, replace=False))]


def prepare(
    paths: Sequence[str | Path],
    tokenizer: PreTrainedTokenizerBase,
    recipe: PretrainRecipe,
    *,
    work: Path,
    engine: Engine | None = None,
) -> Stream:
    """Pack everything that the recipe reads, or load what an earlier run of the same recipe packed.

    Text comes from the beginning of the mixture and exercises from what follows it, so that no sentence
    is in both; the documents of :func:`finetune.mixture.apart` are held out from either.

    Args:
        paths: corpora; all their texts are held in memory while they are packed.
        tokenizer: of the recipe.
        recipe: says how much is needed.
        work: folder that keeps ``stream.npz``; the caller sees to it that it is of this very request.
        engine: round-trip translator for the exercises, or None.

    Returns:
        The stream; shorter than the recipe needs, which :class:`Plan` refuses, where the corpora end.

    Raises:
        DataError: a corpus cannot be read, or nothing can be held out.
        InputError: the held-out documents are too short to measure on, or the engine failed.
    """
    file = work / "stream.npz"
    if not file.exists():
        arrays = _packed(paths, tokenizer, recipe, engine)
        replace_file(file, lambda fresh: _savez(fresh, arrays))
    with np.load(file) as stored:
        return Stream(**{name: stored[name] for name in stored.files})


def held_out_texts(stream: Stream, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Give the held-out documents back as texts.

    Args:
        stream: from :func:`prepare`.
        tokenizer: the one that it was packed with.

    Returns:
        One text for each document; the last may be cut.

    Raises:
        InputError: they have fewer than two sentences of :func:`finetune.exercises.sentences`, on which
            copying is measured.
    """
    ends = np.flatnonzero(stream.held_out == tokenizer.eos_token_id)
    texts = [
        tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        for ids in np.split(stream.held_out, ends + 1)
    ]
    if sum(len(sentences(text)) for text in texts) < 2:
        raise InputError("the held-out documents have no two sentences of 5 to 30 words to copy; add corpora")
    return [text for text in texts if text]


def _packed(
    paths: Sequence[str | Path],
    tokenizer: PreTrainedTokenizerBase,
    recipe: PretrainRecipe,
    engine: Engine | None,
) -> dict[str, np.ndarray]:
    mixture = apart(paths, recipe.seed)
    held_out, _ = tokenise(mixture.held_out, tokenizer, HELD_OUT_TOKENS)
    if len(held_out) <= HELD_OUT_LENGTH:
        raise InputError(
            f"the held-out documents have {len(held_out)} tokens, and {HELD_OUT_LENGTH + 1} are needed to "
            "measure on; add corpora"
        )
    last = layout(recipe)[-1]
    # A batch more text than is read, and exercises from the next whole chunk, with what is left of this one
    # last: the order in which the shipped model was packed.
    wanted = round(recipe.tokens * (1 - recipe.exercise_share)) + recipe.batch_tokens
    text, begun = tokenise(mixture.training, tokenizer, max(last.text_end + 1, wanted))
    after = math.ceil(begun / _TEXTS_AT_ONCE) * _TEXTS_AT_ONCE
    rest = mixture.training[after:] + mixture.training[begun:after]
    ids, labels = drills(rest, tokenizer, last.unit_end, engine=engine, seed=recipe.seed)
    return {"text": text, "held_out": held_out, "exercise_ids": ids, "exercise_labels": labels}


def _savez(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with path.open("wb") as file:
        np.savez(file, **arrays)
