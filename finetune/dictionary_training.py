"""Dictionaries of a model's residual stream, trained on corpora and going on where they were killed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors.torch import load_file, save_file

from finetune.folders import clear_leftovers, whole_folder
from geometry.live.dictionary import Training, first_rows, train
from geometry.live.shuffled_rows import ShuffledRows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from geometry.live.dictionary import Dictionary, Recipe

    Opened = Callable[[int], Iterator[Tensor]]

ROOM = 65_536
"""Rows of the buffer."""

STATES = ("rows.safetensors", "dictionaries")
"""What a checkpoint holds: the buffer and the rows that training began with, and a folder of trainers."""


@dataclass(frozen=True, eq=False)
class Trained:
    """Dictionaries of one recipe and several seeds, and what they were trained on.

    Attributes:
        dictionaries: one a seed.
        untrained: the first as it was before its first step.
        centre: (d,) mean of the rows that training began with.
        covariance: (d, d) of the same rows.
        passes: how often the corpora were read to their end.
    """

    dictionaries: tuple[Dictionary, ...]
    untrained: Dictionary
    centre: NDArray[np.float64]
    covariance: NDArray[np.float64]
    passes: int


def train_dictionaries(
    opened: Opened,
    recipe: Recipe,
    seeds: Sequence[int],
    *,
    work: Path | None = None,
    every: int = 200,
    tell: Callable[[float], None] = lambda done: None,
) -> Trained:
    """Train one dictionary a seed, all on the same rows in the same order.

    Args:
        opened: number n -> the chunks of rows (rows, d) from the n-th on.
        recipe: how.
        seeds: of the starts; the first also gives the order of the rows.
        work: a folder for checkpoints; a training that was killed goes on from its last one, and gives the
            dictionaries that it would have given.
        every: steps between two checkpoints.
        tell: is called with the share that is done.

    Returns:
        The dictionaries.

    Raises:
        DataError: no row to train on.
        InputError: sae-lens is not installed.
    """
    rows = ShuffledRows(opened, room=max(ROOM, 2 * recipe.batch), batch=recipe.batch, seed=seeds[0])
    place = None if work is None else work / "checkpoint"
    kept = _read(place)
    first = first_rows(rows) if kept is None else kept["first"]
    training = Training(recipe, first.shape[1], seeds, first)
    untrained = training.untrained()
    if kept is not None and place is not None:
        training.restore(place / STATES[1])
        rows.restore(kept)

    def each(step: int) -> None:
        tell(step / recipe.steps)
        if place is not None and step % every == 0 and step < recipe.steps:
            _write(place, training, {"first": first, **rows.state()})

    train(training, rows, each)
    told = first.double().numpy()
    return Trained(tuple(training.finished()), untrained, told.mean(axis=0), np.cov(told.T), rows.passes)


def _read(place: Path | None) -> dict[str, Tensor] | None:
    if place is None:
        return None
    clear_leftovers(place)
    return load_file(place / STATES[0]) if (place / STATES[0]).is_file() else None


def _write(place: Path, training: Training, state: dict[str, Tensor]) -> None:
    """Put a checkpoint in the place of the last one; a kill leaves one of the two."""
    with whole_folder(place, known_by=STATES) as folder:
        training.save(folder / STATES[1])
        save_file(state, folder / STATES[0])
