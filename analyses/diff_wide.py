"""Models too wide for d x d matrices: the same accumulators as sketches, with the error that they make.

A :class:`WideSide` answers what can be asked of the differences alone. Measures that need exact matrices of base
and difference together are left out, and the page says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from geometry.moments import Moments
from geometry.sketch import Sketch
from geometry.spectra import Spectrum, spectrum

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geometry.sketch import SketchStats

EXACT_WIDTH = 3072
"""Widest model whose moments are kept exactly: 75 MB a matrix."""

SKETCH_COLUMNS = 256
"""Random directions of a sketch; the first eighth of what comes back can be relied on."""


def sketch_columns(width: int) -> int:
    """Random directions that a sketch of this width gets."""
    return min(SKETCH_COLUMNS, max(1, width // 2))


@dataclass(frozen=True, eq=False)
class Moved:
    """Second moments of differences, exact or from a sketch.

    Attributes:
        n: tokens.
        mean: E[d], (d,).
        trace: E|d|^2.
        spectrum: of E[d d^T]: all d directions, or those of the sketch.
        unseen: share of E|d|^2 that the spectrum leaves out; 0 where it is exact.
    """

    n: int
    mean: NDArray[np.float64]
    trace: float
    spectrum: Spectrum
    unseen: float = 0.0

    @property
    def mean_share(self) -> float:
        """|E d|^2 / E|d|^2 without bias; 0 where nothing moved."""
        if not self.trace or self.n < 2:
            return 0.0
        square = float(self.mean @ self.mean)
        return (square - (self.trace - square) / (self.n - 1)) / self.trace


def differences(width: int, exact_width: int = EXACT_WIDTH) -> Moments | Sketch:
    """An accumulator of differences: exact up to a width, a sketch beyond it."""
    return Moments(width) if width <= exact_width else Sketch(width, columns=sketch_columns(width))


def moved(held: Moments | Sketch) -> Moved:
    """Freeze what :func:`differences` made.

    Raises:
        ShapeError: no rows yet.
    """
    if isinstance(held, Sketch):
        return _of_sketch(held.about_zero())
    found = held.answer()
    trace = float(np.trace(found.cov) + found.mean @ found.mean)
    return Moved(found.n, found.mean, trace, spectrum(found.cov + np.outer(found.mean, found.mean)))


def _of_sketch(found: SketchStats) -> Moved:
    unseen = found.residual_trace / found.trace if found.trace > 0 else 0.0
    return Moved(found.n, found.mean, found.trace, found.spectrum, unseen)


@dataclass(frozen=True, eq=False)
class SketchedStats:
    """What two models do to the same tokens, as far as sketches know.

    Attributes:
        base: of the base rows, about their mean.
        diff: of the differences, about zero.
    """

    base: SketchStats
    diff: SketchStats

    @property
    def n(self) -> int:
        """Number of paired rows."""
        return self.diff.n

    @property
    def mean_base(self) -> NDArray[np.float64]:
        """E[x], (d,)."""
        return self.base.mean

    @property
    def mean_diff(self) -> NDArray[np.float64]:
        """E[d], (d,)."""
        return self.diff.mean

    @property
    def mean_square_diff(self) -> float:
        """E|d|^2."""
        return self.diff.trace

    @property
    def mean_shift_share_unbiased(self) -> float:
        """Share of E|d|^2 that is one constant shift, the numerator without bias."""
        return self.moved.mean_share

    @cached_property
    def moved(self) -> Moved:
        """The differences alone."""
        return _of_sketch(self.diff)


class PairedSketches:
    """Accumulates base rows and differences as :class:`geometry.moments.PairedMoments` does, in d l numbers.

    Args:
        width: the number of columns d.
    """

    def __init__(self, width: int) -> None:
        columns = sketch_columns(width)
        self._base, self._diff = Sketch(width, columns=columns), Sketch(width, columns=columns, seed=1)

    @property
    def n(self) -> int:
        """Number of paired rows so far."""
        return self._diff.n

    def update(self, base: NDArray, adapted: NDArray) -> None:
        """Add the rows of both models on the same tokens, (n, d) each."""
        base = base.astype(np.float64)
        self._base.update(base)
        self._diff.update(adapted - base)

    def merge(self, other: PairedSketches) -> None:
        """Add everything that another one has seen."""
        self._base.merge(other._base)
        self._diff.merge(other._diff)

    def answer(self) -> SketchedStats:
        """Freeze what was seen so far.

        Raises:
            ShapeError: no rows yet.
        """
        return SketchedStats(self._base.answer(), self._diff.about_zero())
