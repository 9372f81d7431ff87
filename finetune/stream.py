"""What pretraining reads: documents packed into one line of tokens, and the rows of every step.

Step s always reads the same rows, whatever happened before: that is what makes resuming exact.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from finetune.exercises import MASKED, copying, denoising, exercises, pack, sentences, unneutralising
from finetune.folders import replace_file
from geometry.checks import InputError
from geometry.corpora import documents

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from transformers import PreTrainedTokenizerBase

    from finetune.neutralise import Engine
    from finetune.pretrain import PretrainRecipe

UNIT = 256
"""Tokens of one row of exercises; sequence lengths are multiples of it."""


@dataclass(frozen=True)
class Stream:
    """Everything that a run reads, packed once: text as one line of tokens, exercises as rows.

    Attributes:
        text: (n,) token ids, documents separated by the end token.
        held_out: (m,) token ids of documents that no step reads.
        exercise_ids, exercise_labels: (rows, unit), labels masked on prompts.
    """

    text: np.ndarray
    held_out: np.ndarray
    exercise_ids: np.ndarray
    exercise_labels: np.ndarray


class Plan:
    """Which rows each step reads: a pure function of the recipe and the sizes of the stream.

    Within a stage the rows of text and of exercises are shuffled together; each row of a stream is in
    one stage and one step only.
    """

    def __init__(self, recipe: PretrainRecipe, stream: Stream) -> None:
        self.recipe, self.stream = recipe, stream
        self.stages: list[tuple[int, int, int, np.ndarray]] = []  # length, text start, unit start, row order
        text_at, unit_at, unit = 0, 0, stream.exercise_ids.shape[1]
        rng = np.random.default_rng([recipe.seed, 1])
        for share, length in recipe.stages:
            if recipe.batch_tokens % length or length % unit:
                raise InputError(
                    f"stage length {length}: it has to divide batch_tokens ({recipe.batch_tokens}) "
                    f"and be a multiple of {unit}"
                )
            rows = int(share * recipe.tokens / recipe.batch_tokens) * (recipe.batch_tokens // length)
            drills = round(rows * recipe.exercise_share)
            order = rng.permutation(np.concatenate([np.arange(rows - drills), -1 - np.arange(drills)]))
            self.stages.append((length, text_at, unit_at, order))
            text_at += (rows - drills) * length
            unit_at += drills * (length // unit)
        if text_at + 1 > len(stream.text) or unit_at > len(stream.exercise_ids):
            raise InputError(
                f"the corpus gives {len(stream.text)} tokens and {len(stream.exercise_ids)} exercise rows, "
                f"the recipe needs {text_at + 1} and {unit_at}; lower `tokens` or add corpora"
            )

    @property
    def steps(self) -> int:
        """Number of steps of the whole run."""
        return sum(len(order) * length // self.recipe.batch_tokens for length, _, _, order in self.stages)

    def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Give the inputs and the labels (next tokens, masked where not trained) of a step.

        Returns:
            Two int64 tensors of shape (rows, length), rows * length = batch_tokens.
        """
        for length, text_at, unit_at, order in self.stages:
            rows = self.recipe.batch_tokens // length
            if step < len(order) // rows:
                picked = order[step * rows : (step + 1) * rows]
                pieces = [
                    self._text(text_at + r * length, length)
                    if r >= 0
                    else self._drill(unit_at, -1 - r, length)
                    for r in picked
                ]
                ids, labels = (torch.from_numpy(np.stack(side)) for side in zip(*pieces, strict=True))
                return ids, labels
            step -= len(order) // rows
        raise IndexError(f"step {step} is beyond the plan")

    def _text(self, start: int, length: int) -> tuple[np.ndarray, np.ndarray]:
        piece = self.stream.text[start : start + length + 1].astype(np.int64)
        return piece[:-1], piece[1:]

    def _drill(self, unit_at: int, row: int, length: int) -> tuple[np.ndarray, np.ndarray]:
        units = length // self.stream.exercise_ids.shape[1]
        chosen = slice(unit_at + row * units, unit_at + (row + 1) * units)
        labels = self.stream.exercise_labels[chosen].reshape(-1).astype(np.int64)
        return self.stream.exercise_ids[chosen].reshape(-1).astype(np.int64), np.append(labels[1:], MASKED)


def mixed(paths: Sequence[str | Path], seed: int, *, piece: int = 8_000) -> Iterator[str]:
    """Read several corpora as one, in a random order that keeps each at its own share throughout.

    Long documents are cut at line ends into pieces of about ``piece`` characters, so that no book fills
    a thousand steps in a row. All texts are held in memory while they are shuffled.
    """
    pieces = [p for path in paths for text in documents(path) for p in _pieces(text, piece)]
    for i in np.random.default_rng([seed, 2]).permutation(len(pieces)):
        yield pieces[i]


def _pieces(text: str, size: int) -> Iterator[str]:
    part: list[str] = []
    held = 0
    for line in text.splitlines(keepends=True):
        part.append(line)
        held += len(line)
        if held >= size:
            yield "".join(part)
            part, held = [], 0
    if part:
        yield "".join(part)


def tokenise(texts: Iterable[str], tokenizer: PreTrainedTokenizerBase, n: int) -> np.ndarray:
    """Encode texts, each closed by the end token, until n tokens are there or the texts end.

    Returns:
        (at most n,) token ids, uint16.
    """
    out: list[np.ndarray] = []
    held = 0
    texts = iter(texts)
    while held < n and (chunk := list(itertools.islice(texts, 512))):
        for ids in tokenizer(chunk, add_special_tokens=False)["input_ids"]:
            out.append(np.array([*ids, tokenizer.eos_token_id], np.uint16))
            held += len(out[-1])
    return np.concatenate(out)[:n] if out else np.zeros(0, np.uint16)


def drills(
    texts: Iterable[str], tokenizer: PreTrainedTokenizerBase, n: int, *, engine: Engine | None, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Make n rows of rewriting exercises from the sentences of a corpus.

    With an engine two in five exercises undo a round trip, two copy, one repairs noise; without one
    they copy and repair half and half.

    Returns:
        ids and labels, both (n, UNIT); fewer rows if the texts end before.
    """
    rng = np.random.default_rng([seed, 3])
    ids, labels = np.zeros((0, UNIT), np.int32), np.zeros((0, UNIT), np.int32)
    items = (s for text in texts for s in _sample(sentences(text), rng))
    while len(ids) < n and (block := list(itertools.islice(items, 10_000))):
        first, second = int(len(block) * 0.4), int(len(block) * (0.6 if engine else 0.5))
        kinds = [copying(block[:first]), denoising(block[first:second], rng)]
        if engine:
            kinds.append(unneutralising(block[second:], engine))
        else:
            kinds[0] += copying(block[second:])
        made = [e for kind in kinds for e in exercises(kind, rng)]
        rng.shuffle(made)
        new_ids, new_labels = pack(made, tokenizer, UNIT)
        ids, labels = np.concatenate([ids, new_ids]), np.concatenate([labels, new_labels])
    return ids[:n], labels[:n]


def _sample(items: list[str], rng: np.random.Generator) -> list[str]:
    """Take at most three sentences of a piece, so that the exercises come from many documents."""
    if len(items) <= 3:
        return items
    return [items[i] for i in sorted(rng.choice(len(items), 3, replace=False))]


def prepare(
    paths: Sequence[str | Path],
    tokenizer: PreTrainedTokenizerBase,
    recipe: PretrainRecipe,
    *,
    work: Path,
    engine: Engine | None = None,
) -> Stream:
    """Pack everything that the recipe reads, or load it if an earlier run packed it into ``work``.

    The first 60,000 tokens of the shuffled corpora are held out; exercises come from its tail, which
    the text stream of this recipe does not reach when the corpora are large enough.

    Raises:
        InputError: the corpora hold too little text for the recipe.
    """
    file = work / "stream.npz"
    if not file.exists():
        texts = mixed(paths, recipe.seed)
        held_out = tokenise(itertools.islice(texts, 60), tokenizer, 60_000)
        text = tokenise(
            texts, tokenizer, round(recipe.tokens * (1 - recipe.exercise_share)) + recipe.batch_tokens
        )
        wanted = round(recipe.tokens * recipe.exercise_share / UNIT) + 2 * recipe.batch_tokens // UNIT
        ids, labels = drills(texts, tokenizer, wanted, engine=engine, seed=recipe.seed)
        arrays = {"text": text, "held_out": held_out, "exercise_ids": ids, "exercise_labels": labels}
        replace_file(file, lambda temporary: _savez(temporary, arrays))
    with np.load(file) as stored:
        return Stream(**{name: stored[name] for name in stored.files})


def _savez(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with path.open("wb") as file:
        np.savez(file, **arrays)
