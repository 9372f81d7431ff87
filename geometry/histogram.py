"""Medians and other quantiles of positive numbers that stream by, in fixed memory.

Sizes of differences span many orders of magnitude, and a few attention sinks are a thousand times larger
than the rest; a mean says nothing there, and an exact median would need every number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geometry.checks import ShapeError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

LOWEST, HIGHEST, PER_DECADE = 1e-12, 1e12, 200
"""Range and resolution: neighbouring edges differ by 1.16 %, so a quantile is right to 0.6 %."""

_BINS = round(np.log10(HIGHEST / LOWEST)) * PER_DECADE


@dataclass(frozen=True, eq=False)
class Quantiles:
    """Counts of positive numbers in logarithmic bins, frozen.

    Attributes:
        n: how many numbers.
        counts: shape (bins + 2,): below the range (zeros among them), each bin, above it.
    """

    n: int
    counts: NDArray[np.int64]

    def at(self, share: float) -> float:
        """The number below which a share of all lies, right to 0.6 % inside the range.

        Args:
            share: in [0, 1]; 0.5 is the median.

        Returns:
            The geometric middle of the bin; exactly 0 for numbers below ``LOWEST``; infinity above
            ``HIGHEST``.

        Raises:
            ShapeError: nothing was counted, or the share is outside [0, 1].
        """
        if not self.n or not 0 <= share <= 1:
            raise ShapeError(f"quantile {share} of {self.n} numbers: needs numbers and a share in [0, 1]")
        place = int(np.searchsorted(np.cumsum(self.counts), max(1, np.ceil(share * self.n))))
        if place == 0:
            return 0.0
        return float(LOWEST * 10 ** ((place - 0.5) / PER_DECADE)) if place <= _BINS else np.inf

    @property
    def median(self) -> float:
        """The number that half of all lie below."""
        return self.at(0.5)


class LogHistogram:
    """Counts positive numbers in logarithmic bins; exact under any split and any order.

    Examples:
        >>> histogram = LogHistogram()
        >>> histogram.update([1.0, 2.0, 4000.0])
        >>> round(histogram.answer().median, 1)
        2.0
    """

    def __init__(self) -> None:
        self._counts = np.zeros(_BINS + 2, np.int64)

    def update(self, values: ArrayLike) -> None:
        """Count some numbers.

        Args:
            values: any shape, finite and not negative.

        Raises:
            ShapeError: a value is negative or not finite; nothing of the call is counted then.
        """
        values = np.asarray(values, np.float64).ravel()
        if not np.isfinite(values).all() or (values < 0).any():
            raise ShapeError("histogram: counts numbers that are finite and not negative, such as norms")
        with np.errstate(divide="ignore"):
            place = np.floor(np.log10(values / LOWEST) * PER_DECADE)
        bins = np.clip(place, -1, _BINS).astype(np.int64) + 1
        self._counts += np.bincount(bins, minlength=_BINS + 2)

    def merge(self, other: LogHistogram) -> None:
        """Add the counts of another histogram."""
        self._counts += other._counts

    def state(self) -> dict[str, NDArray[np.int64]]:
        """Arrays to store, read back by :meth:`from_state`."""
        return {"counts": self._counts.copy()}

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[np.int64]]) -> LogHistogram:
        """Make the histogram that a :meth:`state` came from.

        Raises:
            ShapeError: the counts are not of this histogram's bins.
        """
        counts = np.asarray(state["counts"])
        if counts.shape != (_BINS + 2,):
            raise ShapeError(f"histogram state: expected ({_BINS + 2},), got {counts.shape}")
        made = cls()
        made._counts += counts
        return made

    def answer(self) -> Quantiles:
        """Freeze the counts."""
        return Quantiles(int(self._counts.sum()), self._counts.copy())
