"""The rows of every step of a pretraining run.

Step s always reads the same rows, whatever happened before: that is what makes resuming exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from finetune.pretrain_recipe import UNIT
from finetune.prompts import IGNORED
from geometry.checks import InputError

if TYPE_CHECKING:
    from finetune.pretrain_recipe import PretrainRecipe


@dataclass(frozen=True)
class Stream:
    """Everything that a run reads, packed once: text as one line of tokens, exercises as rows.

    Attributes:
        text: (n,) token ids, each document closed by the end token; rows of it may begin in mid-sentence.
        held_out: (m,) token ids of whole documents that no step reads.
        exercise_ids, exercise_labels: (rows, UNIT), labels ignored on prompts; not shifted.
    """

    text: np.ndarray
    held_out: np.ndarray
    exercise_ids: np.ndarray
    exercise_labels: np.ndarray


@dataclass(frozen=True)
class Stage:
    """The steps of one sequence length, and the part of the stream that they read.

    Attributes:
        length: tokens of one row.
        rows: rows of all steps together.
        drills: how many of them are exercises.
        text_at: first token of the text.
        unit_at: first row of the exercises.
    """

    length: int
    rows: int
    drills: int
    text_at: int
    unit_at: int

    @property
    def text_end(self) -> int:
        """One past the last token of the text that is an input; it is a label."""
        return self.text_at + (self.rows - self.drills) * self.length

    @property
    def unit_end(self) -> int:
        """One past the last row of the exercises."""
        return self.unit_at + self.drills * (self.length // UNIT)


def layout(recipe: PretrainRecipe) -> list[Stage]:
    """Lay the stages of a recipe out one after the other over text and exercises.

    Examples:
        >>> from finetune.pretrain_recipe import PretrainRecipe
        >>> last = layout(PretrainRecipe())[-1]
        >>> last.length, last.text_end, last.unit_end
        (1024, 12735232, 8781)
    """
    stages: list[Stage] = []
    text_at = unit_at = 0
    for share, length in recipe.stages:
        steps = int(share * recipe.tokens / recipe.batch_tokens)
        rows = steps * (recipe.batch_tokens // length)
        stages.append(Stage(length, rows, round(rows * recipe.exercise_share), text_at, unit_at))
        text_at, unit_at = stages[-1].text_end, stages[-1].unit_end
    return stages


class Plan:
    """Which rows each step reads: a pure function of the recipe and the stream.

    Within a stage the rows of text and of exercises are shuffled together; each row of a stream is in
    one step at most.

    Args:
        recipe: its stages, batch, exercises and seed count.
        stream: what is read.

    Raises:
        InputError: the stream holds less than the recipe needs.
    """

    def __init__(self, recipe: PretrainRecipe, stream: Stream) -> None:
        self.stream, self.batch_tokens = stream, recipe.batch_tokens
        stages = layout(recipe)
        text, units = stages[-1].text_end + 1, stages[-1].unit_end
        if text > len(stream.text) or units > len(stream.exercise_ids):
            raise InputError(
                f"the corpora give {len(stream.text)} tokens and {len(stream.exercise_ids)} rows of exercises, "
                f"the recipe needs {text} and {units}; lower `tokens` or add corpora"
            )
        rng = np.random.default_rng([recipe.seed, 1])
        # rows of text are numbered 0, 1, ..., rows of exercises -1, -2, ...
        numbers = (np.concatenate([np.arange(s.rows - s.drills), -1 - np.arange(s.drills)]) for s in stages)
        self._stages = [(stage, rng.permutation(row)) for stage, row in zip(stages, numbers, strict=True)]

    @property
    def steps(self) -> int:
        """Number of steps of the whole run."""
        return sum(stage.rows * stage.length for stage, _ in self._stages) // self.batch_tokens

    def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Give the inputs and the labels of a step.

        Args:
            step: from 0 to ``steps - 1``.

        Returns:
            Two int64 tensors of shape (rows, length), rows * length = batch_tokens. A label is the next
            token, or :data:`finetune.prompts.IGNORED` where none is trained.

        Raises:
            IndexError: there is no such step.
        """
        stage, numbers = self._numbers(step)
        read = [self._row(stage, number) for number in numbers.tolist()]
        ids, labels = (torch.from_numpy(np.stack(side).astype(np.int64)) for side in zip(*read, strict=True))
        return ids, labels

    def _numbers(self, step: int) -> tuple[Stage, np.ndarray]:
        before = 0
        for stage, order in self._stages:
            rows = self.batch_tokens // stage.length
            if before <= step < before + stage.rows // rows:
                return stage, order[(step - before) * rows : (step - before + 1) * rows]
            before += stage.rows // rows
        raise IndexError(f"step {step} is not in the plan, which has {before}")

    def _row(self, stage: Stage, number: int) -> tuple[np.ndarray, np.ndarray]:
        if number >= 0:
            start = stage.text_at + number * stage.length
            piece = self.stream.text[start : start + stage.length + 1]
            return piece[:-1], piece[1:]
        units = stage.length // UNIT
        start = stage.unit_at + (-1 - number) * units
        ids = self.stream.exercise_ids[start : start + units].reshape(-1)
        labels = self.stream.exercise_labels[start : start + units].reshape(-1)
        return ids, np.append(labels[1:], IGNORED)
