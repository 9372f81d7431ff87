"""One pass over a group of texts: who takes part, and what is accumulated at every layer."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from analyses.diff_buckets import Buckets
from analyses.diff_directions import SinkMean
from analyses.diff_measures import Tally
from analyses.diff_variants import Flip, Variants
from finetune.adapter import ADAPTER, BASE, random_adapters
from finetune.null_adapters import HALF_RANDOM, flipped_adapter, half_random_adapters
from finetune.paired import paired_batches
from geometry.variance_parts import TextSums

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from finetune.adapter import Attached
    from finetune.paired import PairedBatch
    from finetune.pairs import Text

BATCH_ROWS = 8_192
"""Most tokens of a batch, all sides counted."""

MEMORY = 2 << 30
"""Bytes that the accumulators of the layers read in one pass may take; further layers read the texts again."""

HALF_RANDOMS = 3
"""Half-random adapters of each kind, at most."""


@dataclass(frozen=True)
class Cast:
    """The adapters that read the texts side by side.

    Attributes:
        randoms: spectrum-matched random adapters.
        halves: kind of half-random adapter -> their names.
        flipped: the adapter with its sign changed.
    """

    randoms: tuple[str, ...]
    halves: dict[str, tuple[str, ...]]
    flipped: str

    @classmethod
    def on(cls, attached: Attached, n_random: int, rng: np.random.Generator) -> Cast:
        """Put n_random random adapters, up to three of each half-random kind and the flipped one on a model."""
        few = min(n_random, HALF_RANDOMS)
        return cls(
            random_adapters(attached, n_random, rng),
            {kind: half_random_adapters(attached, kind, few, rng) for kind in HALF_RANDOM},
            flipped_adapter(attached),
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Base, adapter, random, half-random and flipped adapters, in the order of their rows."""
        halves = [name for names in self.halves.values() for name in names]
        return (BASE, ADAPTER, *self.randoms, *halves, self.flipped)


@dataclass(frozen=True, eq=False)
class Tokens:
    """What is known of n tokens beside their rows, each (n,).

    Attributes:
        half: 0 or 1, the half of the documents.
        position: in the text, from 0.
        text: which text.
        sink: True at attention sinks.
    """

    half: NDArray[np.int64]
    position: NDArray[np.int64]
    text: NDArray[np.int64]
    sink: NDArray[np.bool_]


@dataclass
class Reading:
    """Everything that is accumulated about one layer and one group.

    Attributes:
        tally: moments of adapter, halves and random adapters, and sizes.
        buckets: the same by position, coarser.
        variants: half-random adapters.
        flip: the adapter against itself with its sign changed.
        parts: differences of the adapter, and of each random one, text by text.
        sinks: mean base state at sinks.
    """

    width: int
    cast: Cast
    exact_width: int
    tally: Tally = field(init=False)
    buckets: Buckets = field(init=False)
    variants: Variants = field(init=False)
    flip: Flip = field(init=False)
    parts: list[TextSums] = field(init=False)
    sinks: SinkMean = field(init=False)

    def __post_init__(self) -> None:
        n = len(self.cast.randoms)
        kinds = {kind: len(names) for kind, names in self.cast.halves.items()}
        self.tally = Tally(self.width, n, self.exact_width)
        self.buckets = Buckets(self.width, 1 + n, self.exact_width)
        self.variants = Variants(self.width, kinds, self.exact_width)
        self.flip = Flip()
        self.parts = [TextSums(self.width) for _ in range(1 + n)]
        self.sinks = SinkMean(self.width)

    def update(self, rows: NDArray, tokens: Tokens) -> None:
        """Take in rows (V, n, d) of everybody in the cast."""
        matched = 2 + len(self.cast.randoms)
        self.tally.update(rows[:matched], tokens.half, tokens.sink)
        self.buckets.update(rows[:matched], tokens.position, tokens.sink)
        self.sinks.update(rows[0, tokens.sink])
        usual = rows[:, ~tokens.sink]
        base = usual[0].astype(np.float64)
        self.variants.update(base, usual[matched:-1])
        self.flip.update(base, usual[1], usual[-1])
        for sums, side in zip(self.parts, usual[1:matched], strict=True):
            sums.update(side - base, tokens.text[~tokens.sink])


def half_of(doc_id: str) -> int:
    """Deal documents to two halves by a hash of their name, whatever their order."""
    return hashlib.sha256(doc_id.encode()).digest()[0] & 1


def read_group(
    attached: Attached, texts: Sequence[Text], layers: Sequence[int], cast: Cast, *,
    exact_width: int, progress: Callable[[float], None],
) -> Iterator[tuple[int, Reading]]:  # fmt: skip
    """Run one group of texts through everybody, and hand out what was accumulated layer by layer.

    As many layers as :data:`MEMORY` holds are accumulated at once; the texts are read again for the others.

    Args:
        attached: the attached adapter.
        texts: of the group.
        layers: block numbers.
        cast: who takes part.
        exact_width: widest model whose moments are kept exactly.
        progress: is called with the share that is done.

    Yields:
        Block number and its accumulators, which nobody else holds.

    Raises:
        DataError: a text that is empty, or longer than the model's context.
    """
    portions = _portions(layers, attached.loaded.width, len(cast.randoms), exact_width)
    for number, portion in enumerate(portions):
        readings = {layer: Reading(attached.loaded.width, cast, exact_width) for layer in portion}
        room = max(256, BATCH_ROWS // len(cast.names))
        done = 0
        for batch in paired_batches(attached, texts, portion, names=cast.names, batch_tokens=room):
            _take_in(batch, readings, texts)
            done += len(batch.text_index)
            progress((number + done / len(texts)) / len(portions))
        for layer in portion:
            yield layer, readings.pop(layer)


def _take_in(batch: PairedBatch, readings: dict[int, Reading], texts: Sequence[Text]) -> None:
    chosen = batch.chosen
    row, position = (found.numpy() for found in chosen.nonzero(as_tuple=True))
    text = batch.text_index.numpy()[row]
    half = np.array([half_of(texts[i].doc_id) for i in batch.text_index.tolist()])[row]
    for layer, reading in readings.items():
        rows = batch.stream[layer][:, chosen].float().numpy()
        reading.update(rows, Tokens(half, position, text, batch.sinks(layer)[chosen].numpy()))


def _portions(layers: Sequence[int], width: int, n_random: int, exact_width: int) -> list[list[int]]:
    """Split layers so that the accumulators of each part fit into :data:`MEMORY`."""
    columns = width if width <= exact_width else 300
    # paired moments of halves and random adapters are 2 w x 2 w; four buckets a side, and half-random adapters
    matrices = 4 * (2 + n_random) + 4 * (1 + n_random) + 2 * HALF_RANDOMS
    at_once = max(1, MEMORY // (8 * width * columns * matrices))
    return [list(layers[i : i + at_once]) for i in range(0, len(layers), at_once)]
