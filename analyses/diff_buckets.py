"""Where in a text the difference lies: the same three numbers for the first tokens and for the later ones.

The first token is an attention sink of nearly every model, and the few after it are read without context; a mean
over all tokens hides both. Buckets are of token positions from the start of the text, its prompt included.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analyses.diff_records import floor_under
from analyses.diff_wide import EXACT_WIDTH, differences, moved
from geometry.histogram import LogHistogram
from geometry.spectra import effective_rank

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from analyses.diff_records import Record

STARTS = (0, 1, 5, 32)
"""First position of each bucket."""

NAMES = ("0", "1–4", "5–31", "32+")

LEAST = 8
"""Fewest tokens of a bucket that something is said about."""


class Buckets:
    """Moments and sizes of the differences of each side, bucket by bucket.

    Sinks after the first token are left out: they are tallied apart.

    Args:
        width: of the model.
        sides: how many: the adapter, then random adapters.
        exact_width: widest model whose moments are kept exactly.
    """

    def __init__(self, width: int, sides: int, exact_width: int = EXACT_WIDTH) -> None:
        self.moments = [[differences(width, exact_width) for _ in range(sides)] for _ in NAMES]
        self.sizes = [[LogHistogram() for _ in range(sides)] for _ in NAMES]

    def update(self, rows: NDArray, position: NDArray[np.int64], sink: NDArray[np.bool_]) -> None:
        """Take in rows (1 + sides, n, d), the base first, with the position (n,) of each token."""
        bucket = np.searchsorted(STARTS, position, side="right") - 1
        for b in np.unique(bucket):
            kept = (bucket == b) & (~sink | (position == 0))
            base = rows[0, kept].astype(np.float64)
            norms = np.linalg.norm(base, axis=1)
            for side, found in enumerate(rows[1:, kept]):
                change = found - base
                self.moments[b][side].update(change)
                self.sizes[b][side].update(np.linalg.norm(change, axis=1) / norms)


def bucket_records(buckets: Buckets, *, group: str, layer: int) -> list[Record]:
    """Size, mean share and effective rank of every bucket that holds enough tokens, with nulls.

    Args:
        buckets: what was accumulated at one layer of one group.
        group: of the texts.
        layer: block number.

    Returns:
        One record a bucket and measure: ``bucket`` beside what :func:`analyses.diff_records.record` holds.
    """
    records: list[Record] = []
    for name, moments, sizes in zip(NAMES, buckets.moments, buckets.sizes, strict=True):
        n = sizes[0].answer().n
        if n < LEAST:
            continue
        found = [moved(one) for one in moments]
        numbers = {
            "size": [one.answer().median for one in sizes],
            "mean_share": [one.mean_share for one in found],
            "effective_rank": [effective_rank(one.spectrum.values) for one in found],
        }
        for measure, (value, *null) in numbers.items():
            made = {"measure": measure, "bucket": name, "group": group, "layer": layer, "value": value}
            floor = floor_under(value, null)
            records.append(made | {"n": n} | ({"null": floor} if floor else {}))
    return records
