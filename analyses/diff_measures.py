"""The numbers of a diff at one layer: accumulators, and what is read off them with its null and ceiling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from geometry.checks import DataError
from geometry.histogram import LogHistogram
from geometry.moments import PairedMoments
from geometry.nulls import haar_overlap, null_of, p_two_sided
from geometry.spectra import effective_rank, rank_for_energy, spectrum
from geometry.subspaces import overlap, principal_angles

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from analyses.diff_kept import Kept
    from finetune.paired import PairedBatch
    from geometry.moments import PairedStats
    from geometry.spectra import Spectrum

SHOWN_VALUES = 24
"""How many singular values of a spectrum are kept for the page."""


@dataclass
class Tally:
    """Everything that is accumulated about one layer and one group of texts; fixed size.

    ``halves`` hold the adapter's moments over two halves of the documents, ``randoms`` those of each
    random adapter over all of them. Sizes are |d| / |h| of each token, attention sinks apart.
    """

    width: int
    n_random: int
    halves: list[PairedMoments] = field(init=False)
    randoms: list[PairedMoments] = field(init=False)
    sizes: list[LogHistogram] = field(init=False)
    sink_sizes: LogHistogram = field(init=False)

    def __post_init__(self) -> None:
        self.halves = [PairedMoments(self.width) for _ in range(2)]
        self.randoms = [PairedMoments(self.width) for _ in range(self.n_random)]
        self.sizes = [LogHistogram() for _ in range(1 + self.n_random)]
        self.sink_sizes = LogHistogram()

    def update(self, rows: np.ndarray, half: np.ndarray, sink: np.ndarray) -> None:
        """Take in rows (V, n, d) of base, adapter and random adapters at n tokens.

        Args:
            rows: residual stream of each side.
            half: (n,) 0 or 1, the half of the documents that each token belongs to.
            sink: (n,) True at attention sinks, which are tallied apart.
        """
        base = rows[0].astype(np.float64)
        norms = np.linalg.norm(base, axis=1)
        moved = [np.linalg.norm(side - base, axis=1) / norms for side in rows[1:].astype(np.float64)]
        self.sink_sizes.update(moved[0][sink])
        for histogram, sizes in zip(self.sizes, moved, strict=True):
            histogram.update(sizes[~sink])
        for side, moments in enumerate(self.randoms, start=2):
            moments.update(rows[0, ~sink], rows[side, ~sink])
        for part, moments in enumerate(self.halves):
            kept = ~sink & (half == part)
            moments.update(rows[0, kept], rows[1, kept])

    def whole(self) -> PairedStats:
        """The adapter's moments over both halves."""
        both = PairedMoments(self.width)
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


def _record(
    measure: str, group: str, layer: int, value: float | None, null: list[float] | None = None, **more: Any
) -> dict[str, Any]:
    """One number with its floor, in the form that every figure and table reads."""
    record = {"measure": measure, "group": group, "layer": layer, "value": value, **more}
    if null and len(null) > 1 and value is not None:
        found = null_of(value, null)
        record["null"] = {
            "mean": found.mean,
            "low": found.band[0],
            "high": found.band[1],
            "samples": null,
            "p": p_two_sided(value, null),
            "n": found.n,
            "verdict": found.verdict(),
        }
    return record


@dataclass(frozen=True, eq=False)
class Side:
    """What one adapter does to one group at one layer, with its spectra computed once.

    Attributes:
        stats: moments of base rows and differences.
        k: dimension of its subspaces.
    """

    stats: PairedStats
    k: int

    @cached_property
    def moved(self) -> Spectrum:
        """Directions of E[d d^T], the mean shift among them."""
        return spectrum(self.stats.second_diff)

    @cached_property
    def subspace(self) -> NDArray[np.float64]:
        """The k directions that hold most of E[d d^T], in columns (d, k)."""
        return self.moved.top(self.k).vectors

    @cached_property
    def base(self) -> NDArray[np.float64]:
        """The k principal directions of the base activations, in columns (d, k)."""
        return spectrum(self.stats.cov_base).top(self.k).vectors

    @property
    def turn(self) -> float:
        """Mean principal angle in degrees between top-k subspaces of base and adapted activations."""
        if not self.active:
            return 0.0  # the same matrix twice; rounding must not make an angle of it
        return _mean_angle(self.base, spectrum(self.stats.cov_adapted).top(self.k).vectors)

    @property
    def active(self) -> bool:
        """Whether anything moved."""
        return self.stats.mean_square_diff > 0


MEASURES: dict[str, Callable[[Side], float]] = {
    "mean_share": lambda side: side.stats.mean_shift_share_unbiased,
    "effective_rank": lambda side: effective_rank(side.moved.values),
    "effective_rank_centred": lambda side: effective_rank(spectrum(side.stats.cov_diff).values),
    "k90": lambda side: float(rank_for_energy(side.moved.values, 0.9)),
    "turn": lambda side: side.turn,
}


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


def measures(sides: Sides, tally: Tally, *, group: str, layer: int) -> list[dict[str, Any]]:
    """Read size, mean share, ranks, turn and split-half overlap of one group at one layer, with nulls."""
    n = sides.whole.stats.n
    sizes = [h.answer().median for h in tally.sizes]
    sinks = tally.sink_sizes.answer()
    sink_median = sinks.median if sinks.n else None
    size = _record("size", group, layer, sizes[0], sizes[1:], n=n, sinks=sinks.n, sink_median=sink_median)
    records = [size]
    for name, measure in MEASURES.items():
        null = [measure(side) for side in sides.randoms]
        records.append(_record(name, group, layer, measure(sides.whole), null, n=n))
    records[-1]["sampling"] = _mean_angle(sides.halves[0].base, sides.halves[1].base)
    if sides.whole.active:
        chance = haar_overlap(tally.width, sides.whole.k, sides.whole.k)[0]
        records.append(_record("split_half", group, layer, sides.reliability, n=n, chance=chance))
    return records


def _mean_angle(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(np.degrees(principal_angles(a, b)).mean())


def between(first: Kept, second: Kept, name: str, layer: int) -> list[dict[str, Any]]:
    """Overlap of two groups' difference subspaces, between chance, null and ceiling."""
    if not (first.active and second.active):
        return []
    a, b = first.subspace(), second.subspace()
    null = [overlap(first.subspace(side), second.subspace(side)) for side in first.randoms]
    chance, chance_sd = haar_overlap(len(a), first.k, second.k)
    angles = np.degrees(principal_angles(a, b))
    more = {
        "n": min(first.n, second.n),
        "ceiling": float(np.sqrt(first.reliability * second.reliability)),
        "chance": chance,
        "chance_sd": chance_sd,
        "angles": [float(angle) for angle in angles],
    }
    return [_record("overlap", name, layer, overlap(a, b), null, **more)]


def spectrum_record(sides: Sides, *, group: str, layer: int) -> dict[str, Any]:
    """Shares of E|d|^2 along each direction, largest first, for the adapter and each random one."""

    def shares(side: Side) -> list[float]:
        values = side.moved.values
        return [float(v) for v in (values / (values.sum() or 1.0))[:SHOWN_VALUES]]

    null = [shares(side) for side in sides.randoms]
    return {"group": group, "layer": layer, "values": shares(sides.whole), "null": null}
