"""The directions in which most moves, and what they might be instead of a finding.

A top direction may be the mean state, a principal direction of the base, the direction of the attention sinks, or
a single huge coordinate. Each of these is listed, beside the same number for the top directions of random
adapters; and how well two halves of the documents agree on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analyses.diff_records import floor_under
from geometry.subspaces import coordinate_concentration

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from analyses.diff_measures import Side, Sides
    from analyses.diff_records import Record

SHOWN = 4
"""Top directions that are described."""

COORDINATES = 3
"""A direction whose weight sits in this many coordinates is one of outlier dimensions."""

WARN_ABOVE = 0.5


class SinkMean:
    """Sum of base states at attention sinks.

    Args:
        width: of the model.
    """

    def __init__(self, width: int) -> None:
        self.n, self.sum = 0, np.zeros(width)

    def update(self, base: NDArray) -> None:
        """Take in base rows (n, d) at sinks."""
        self.n += len(base)
        self.sum += base.astype(np.float64).sum(axis=0)

    @property
    def direction(self) -> NDArray[np.float64] | None:
        """Unit vector of the mean state at sinks; None without any."""
        length = float(np.linalg.norm(self.sum))
        return self.sum / length if length > 0 else None


def direction_records(sides: Sides, sinks: SinkMean, *, group: str, layer: int) -> list[Record]:
    """Describe the top directions of the differences.

    Args:
        sides: the adapter, its halves and random adapters at one layer of one group.
        sinks: mean base state at sinks there.
        group: of the texts.
        layer: block number.

    Returns:
        One record a direction: ``energy``, its share of E|d|^2; ``halves``, |cos| of the same direction in two
        halves of the documents; ``concentration`` with ``warn``; ``mean_state``, |cos| with the mean base state;
        ``base_share``, its share inside the top-k principal directions of the base; ``sinks``, |cos| with the mean
        state at sinks. All but the first two have ``value`` and ``null``, that of the random adapters' own
        directions of the same rank. Empty where nothing moved.
    """
    if not sides.whole.active:
        return []
    count = min(SHOWN, len(sides.whole.moved.values))
    own = _described(sides.whole, sides.whole, sinks, count)
    nulls = [_described(side, sides.whole, sinks, count) for side in sides.randoms]
    one, other = (half.moved.vectors[:, :count] for half in sides.halves)
    halves = np.abs(np.sum(one * other, axis=0))
    records = []
    for j in range(count):
        energy = float(sides.whole.moved.values[j]) / sides.whole.stats.mean_square_diff
        made: Record = {"group": group, "layer": layer, "direction": j + 1, "energy": energy}
        made["halves"] = float(halves[j])
        for name, values in own.items():
            value = None if values is None else float(values[j])
            floor = floor_under(value, [None if n[name] is None else float(n[name][j]) for n in nulls])
            made[name] = {"value": value} | ({"null": floor} if floor else {})
        made["warn"] = made["concentration"]["value"] > WARN_ABOVE
        records.append(made)
    return records


def _described(side: Side, base: Side, sinks: SinkMean, count: int) -> dict[str, NDArray | None]:
    """Numbers of the first directions of a side, one array a name; None where the reference is missing."""
    directions = side.moved.vectors[:, :count]
    mean = base.stats.mean_base
    length = float(np.linalg.norm(mean))
    toward = sinks.direction
    return {
        "concentration": coordinate_concentration(directions, COORDINATES),
        "mean_state": np.abs(mean @ directions) / length if length > 0 else None,
        "base_share": np.sum((base.base.T @ directions) ** 2, axis=0),
        "sinks": None if toward is None else np.abs(toward @ directions),
    }
