"""Solved examples for the prompts of a training run: which pairs a pair is shown with."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geometry.checks import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from finetune.pairs import Pair


@dataclass(frozen=True)
class RandomShots:
    """Solved examples drawn by chance, others for every pair (the random k-shot of Liu & Koehn 2026).

    Attributes:
        pairs: to draw from: the training pairs.
        k: examples for each pair.
        seed: of the draws. A pair's examples depend on its id and the seed, not on the order of the pairs.

    Raises:
        DataError: there are fewer pairs than examples.
    """

    pairs: Sequence[Pair]
    k: int
    seed: int = 0

    def __post_init__(self) -> None:
        if self.k and self.k >= len(self.pairs):
            raise DataError(f"{self.k} examples cannot be drawn from {len(self.pairs)} pairs; ask for fewer")

    def __call__(self, pair: Pair) -> tuple[Pair, ...]:
        """Draw the examples of a pair: never itself, nor one with its source or its target."""
        if not self.k:
            return ()
        own = hashlib.sha256(pair.id.encode()).digest()
        rng = np.random.default_rng([self.seed, int.from_bytes(own[:8])])
        chosen: list[Pair] = []
        for i in rng.permutation(len(self.pairs)):
            other = self.pairs[i]
            if other.id != pair.id and other.source != pair.source and other.target != pair.target:
                chosen.append(other)
            if len(chosen) == self.k:
                break
        return tuple(chosen)
