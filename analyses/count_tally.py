"""What a counting run adds to: the counts of the corpus, and those of blocks of its documents for some words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from geometry.cooccurrence import PairCounter
from geometry.count_files import read_block_counters, read_counter, write_blocks, write_counts
from geometry.document_counts import by_block

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from geometry.weightings import Weighting


@dataclass(frozen=True)
class Plan:
    """What is counted.

    Attributes:
        words: by number.
        apart: those of them that are counted by block.
        blocks: number of blocks of documents; 0 for none.
        weighting: the window.
    """

    words: tuple[str, ...]
    apart: tuple[str, ...]
    blocks: int
    weighting: Weighting

    def numbers_apart(self) -> NDArray[np.int32]:
        """Number of each word among those that are counted by block, -1 for the others; (V,), and -1 at the end."""
        numbers = {word: i for i, word in enumerate(self.apart)}
        return np.array([*(numbers.get(word, -1) for word in self.words), -1], dtype=np.int32)


@dataclass
class Tally:
    """Counts so far.

    Attributes:
        plan: what is counted.
        whole: counts of all words.
        blocks: counts of the words apart, one a block of documents; together they are a part of the whole.
    """

    plan: Plan
    whole: PairCounter
    blocks: list[PairCounter]

    @classmethod
    def empty(cls, plan: Plan, *, threads: int = 1) -> Tally:
        """Nothing counted yet."""
        size = max(1, len(plan.apart))
        blocks = [PairCounter(size, plan.weighting) for _ in range(plan.blocks)]
        return cls(plan, PairCounter(len(plan.words), plan.weighting, threads=threads), blocks)

    def update(self, ids: NDArray[np.int32], lengths: NDArray[np.int64], keys: NDArray[np.int64]) -> None:
        """Take in documents: see :meth:`geometry.cooccurrence.PairCounter.update`.

        Args:
            ids: words by number, -1 for a word that keeps its place.
            lengths: words in each document.
            keys: of :func:`geometry.document_counts.document_keys`.
        """
        self.whole.update(ids, lengths)
        if self.blocks:
            apart = self.plan.numbers_apart()[ids]
            for block, some, of in by_block(apart, lengths, keys % len(self.blocks)):
                self.blocks[block].update(some, of)

    def merge(self, other: Tally) -> None:
        """Add everything that another tally of the same plan has counted."""
        self.whole.merge(other.whole)
        for block, more in zip(self.blocks, other.blocks, strict=True):
            block.merge(more)

    def state(self) -> list[dict[str, NDArray]]:
        """All counts as arrays, the whole first, for another process."""
        return [counter.state() for counter in (self.whole, *self.blocks)]

    @classmethod
    def from_state(cls, plan: Plan, state: Sequence[Mapping[str, NDArray]]) -> Tally:
        """Make the tally whose :meth:`state` this was."""
        whole, *blocks = (PairCounter.from_state(one, plan.weighting.name) for one in state)
        return cls(plan, whole, blocks)

    def save(self, folder: Path, notes: Mapping[str, Any]) -> None:
        """Write all counts into a folder, see :mod:`geometry.count_files`."""
        write_counts(folder, self.whole, self.plan.words, notes)
        write_blocks(folder, self.blocks, self.plan.apart)

    @classmethod
    def read(cls, plan: Plan, folder: Path, *, threads: int = 1) -> Tally:
        """Read what :meth:`save` wrote, to add more to it."""
        return cls(plan, read_counter(folder, threads=threads), read_block_counters(folder))
