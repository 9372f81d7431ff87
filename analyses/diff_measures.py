"""The moments of a diff at one layer: accumulators, and the sides that they freeze to."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from analyses.diff_wide import EXACT_WIDTH, PairedSketches, SketchedStats
from geometry.checks import DataError
from geometry.histogram import LogHistogram
from geometry.moments import PairedMoments
from geometry.spectra import Spectrum, spectrum
from geometry.subspaces import overlap

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from finetune.paired import PairedBatch
    from geometry.moments import PairedStats


@dataclass
class Tally:
    """Everything that is accumulated about one layer and one group of texts; fixed size.

    ``halves`` hold the adapter's moments over two halves of the documents, ``randoms`` those of each
    random adapter over all of them: exact ones up to ``exact_width``, sketches beyond. Sizes are |d| / |h| of
    each token, attention sinks apart.
    """

    width: int
    n_random: int
    exact_width: int = EXACT_WIDTH
    halves: list[PairedMoments | PairedSketches] = field(init=False)
    randoms: list[PairedMoments | PairedSketches] = field(init=False)
    sizes: list[LogHistogram] = field(init=False)
    sink_sizes: LogHistogram = field(init=False)

    def __post_init__(self) -> None:
        self.halves = [self._empty() for _ in range(2)]
        self.randoms = [self._empty() for _ in range(self.n_random)]
        self.sizes = [LogHistogram() for _ in range(1 + self.n_random)]
        self.sink_sizes = LogHistogram()

    def _empty(self) -> PairedMoments | PairedSketches:
        return (PairedMoments if self.width <= self.exact_width else PairedSketches)(self.width)

    def update(self, rows: np.ndarray, half: np.ndarray, sink: np.ndarray) -> None:
        """Take in rows (V, n, d) of base, adapter and random adapters at n tokens.

        Args:
            rows: residual stream of each side.
            half: (n,) 0 or 1, the half of the documents that each token belongs to.
            sink: (n,) True at attention sinks, which are tallied apart.
        """
        base = rows[0].astype(np.float64)
        norms = np.linalg.norm(base, axis=1)
        moved = [np.linalg.norm(side - base, axis=1) / norms for side in rows[1:]]
        self.sink_sizes.update(moved[0][sink])
        for histogram, sizes in zip(self.sizes, moved, strict=True):
            histogram.update(sizes[~sink])
        for side, moments in enumerate(self.randoms, start=2):
            moments.update(rows[0, ~sink], rows[side, ~sink])
        for part, moments in enumerate(self.halves):
            kept = ~sink & (half == part)
            moments.update(rows[0, kept], rows[1, kept])

    def whole(self) -> PairedStats | SketchedStats:
        """The adapter's moments over both halves."""
        both = self._empty()
        for moments in self.halves:
            both.merge(moments)
        return both.answer()


def tally(batch: PairedBatch, tallies: Mapping[int, Tally], half: NDArray[np.int64]) -> None:
    """Take in the chosen tokens of a batch at every layer.

    Args:
        batch: rows of base, adapter and random adapters.
        tallies: layer -> what it adds to.
        half: (B,) 0 or 1, the half of the documents that each text belongs to.
    """
    chosen = batch.chosen
    halves = np.broadcast_to(half[:, None], chosen.shape)[chosen.numpy()]
    for layer, one in tallies.items():
        rows = batch.stream[layer][:, chosen].float().numpy()
        one.update(rows, halves, batch.sinks(layer)[chosen].numpy())


@dataclass(frozen=True, eq=False)
class Side:
    """What one adapter does to one group at one layer, with its spectra computed once.

    Attributes:
        stats: moments of base rows and differences, exact or sketched.
        k: dimension of its subspaces.
    """

    stats: PairedStats | SketchedStats
    k: int

    @property
    def exact(self) -> bool:
        """Whether the moments are exact; sketches know base and difference apart, never jointly."""
        return not isinstance(self.stats, SketchedStats)

    @cached_property
    def moved(self) -> Spectrum:
        """Directions of E[d d^T], the mean shift among them."""
        return spectrum(self.stats.second_diff) if self.exact else self.stats.moved.spectrum

    @cached_property
    def principal(self) -> Spectrum:
        """Principal directions of the base activations."""
        return spectrum(self.stats.cov_base) if self.exact else self.stats.base.spectrum

    @property
    def unseen(self) -> float:
        """Share of E|d|^2 that the spectrum of the differences leaves out; 0 where it is exact."""
        return 0.0 if self.exact else self.stats.moved.unseen

    @property
    def subspace(self) -> NDArray[np.float64]:
        """The k directions that hold most of E[d d^T], in columns (d, k)."""
        return self.moved.vectors[:, : self.k]

    @property
    def base(self) -> NDArray[np.float64]:
        """The k principal directions of the base activations, in columns (d, k)."""
        return self.principal.vectors[:, : self.k]

    @property
    def active(self) -> bool:
        """Whether anything moved."""
        return self.stats.mean_square_diff > 0


@dataclass(frozen=True, eq=False)
class Sides:
    """Adapter, its two halves of documents, and random adapters, at one layer and group."""

    whole: Side
    halves: tuple[Side, Side]
    randoms: tuple[Side, ...]

    @classmethod
    def of(cls, tally: Tally, k: int, group: str) -> Sides:
        """Freeze a tally.

        Raises:
            DataError: too few tokens, in all or in one half, for subspaces of dimension k.
        """
        sizes = [m.n for m in tally.halves]
        if min(sizes) < 2 * k:
            raise DataError(
                f"group '{group}': halves of {sizes[0]} and {sizes[1]} tokens cannot carry subspaces of {k} "
                "dimensions; give more documents (doc_id) or lower --k"
            )
        first, second = (Side(m.answer(), k) for m in tally.halves)
        randoms = tuple(Side(m.answer(), k) for m in tally.randoms)
        return cls(Side(tally.whole(), k), (first, second), randoms)

    @property
    def reliability(self) -> float:
        """Overlap of the two halves' subspaces: what sampling alone lets through of a perfect overlap."""
        return overlap(self.halves[0].subspace, self.halves[1].subspace)
