"""How many planted features each kind of dictionary finds, with its processor seconds: one thread, two starts.

python -m benchmarks.planted_features 400000 1600000
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import torch

from finetune.dictionary_training import train_dictionaries
from geometry.live.dictionary import KINDS, Recipe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from geometry.live.dictionary import Dictionary

WIDTH, TRUE, SIZE, ACTIVE = 64, 128, 192, 5
FEATURES = torch.nn.functional.normalize(
    torch.randn(TRUE, WIDTH, generator=torch.Generator().manual_seed(0)), dim=-1
)


def planted(first: int) -> Iterator[Tensor]:
    """Rows that are each a sum of five of 128 random directions in 64 dimensions, and a constant; without end."""
    while True:
        chance = torch.Generator().manual_seed(1 + first)
        on = torch.rand(4096, TRUE, generator=chance) < ACTIVE / TRUE
        yield (on * (0.5 + torch.rand(4096, TRUE, generator=chance))) @ FEATURES + 0.3
        first += 1


def told(dictionary: Dictionary) -> str:
    """Share of planted features with a cosine above 0.9, explained variance, and active features, on new rows."""
    rows = torch.cat([next(planted(10**6 + i)) for i in range(4)])
    activations = dictionary.encode(rows)
    missed = (rows - dictionary.decode(activations)).square().sum()
    found = ((dictionary.features @ FEATURES.T).max(dim=0).values > 0.9).float().mean()
    explained = 1 - missed / (rows - rows.mean(dim=0)).square().sum()
    active = (activations > 0).sum(dim=1).float().mean()
    return f"found {float(found):.2f}  explained {float(explained):.2f}  active {float(active):.1f}"


def main() -> None:
    torch.set_num_threads(1)
    for rows in map(int, sys.argv[1:]):
        for kind in KINDS:
            start = time.process_time()
            found = train_dictionaries(planted, Recipe(kind, SIZE, ACTIVE, rows), [0, 1])
            seconds = (time.process_time() - start) / 2
            print(f"{rows} {kind}: {seconds:.1f} s; untrained {told(found.untrained)}", flush=True)
            for seed, dictionary in enumerate(found.dictionaries):
                print(f"  start {seed}: {told(dictionary)}", flush=True)


if __name__ == "__main__":
    main()
