"""How symmetric a co-occurrence matrix is: does it depend on nothing but the distance of its items?

All scores take a symmetric matrix over the items in latent order (M*, PMI, a Gram matrix of hidden states) and
leave its diagonal out. Chance is in every docstring, and :mod:`geometry.label_nulls` measures it on the matrix
itself: with few items chance is high, and seven weekdays reach a circulant share of .28 one time in twenty.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geometry.checks import ShapeError
from geometry.layouts import cycle, line, pairs_of, square
from geometry.rsa import partial_correlation, ranks

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from geometry.layouts import Layout

SATURATED = 1.9
"""Median of M* above which it is no longer graded: co-occurrence 40 times that of chance."""


@dataclass(frozen=True)
class SymmetryFraction:
    """Share of the variation between pairs that their lag explains.

    Attributes:
        value: 0 (none) to 1 (pairs of one lag are all alike).
        chance: mean for independent entries, (lags - 1) / (pairs - 1): 1/13 round a cycle of 12.
        lags: number of classes of pairs.
        pairs: number of pairs.
    """

    value: float
    chance: float
    lags: int
    pairs: int

    @property
    def chance_high(self) -> float:
        """What 95 % of matrices of independent normal entries stay below.

        Their share has the law Beta((lags - 1) / 2, (pairs - lags) / 2), as R^2 does in any regression on
        groups.
        """
        from scipy.special import betaincinv

        return float(betaincinv((self.lags - 1) / 2, (self.pairs - self.lags) / 2, 0.95))

    @property
    def adjusted(self) -> float:
        """The value with chance at 0 and symmetry at 1, comparable between numbers of items."""
        return (self.value - self.chance) / (1 - self.chance)


@dataclass(frozen=True)
class PeriodicOrOpen:
    """Does the order close on itself?

    Attributes:
        periodic: partial Spearman correlation with nearness round the cycle, given nearness along the line.
        open: the converse.
        seam: Spearman correlation with nearness round the cycle over the pairs that are nearer across the seam
            (more than n / 2 steps apart along the line): positive for a cycle, negative for a line, 0 by chance.
    """

    periodic: float
    open: float
    seam: float


def symmetry_fraction(matrix: ArrayLike, layout: Layout) -> SymmetryFraction:
    """Share of the off-diagonal variation that depends on the lag alone.

    1 - ||M - P M||^2 / ||M - mean||^2 over pairs, with P the mean over pairs of one lag: the projection on
    circulant matrices for a cycle, on Toeplitz matrices for a line, on functions of distance for a sphere. A
    permutation of the items that maps lags to lags (x -> 7 x round 12) leaves it as it is, so a high value does
    not say that near items are alike: see :func:`monotonicity`.

    Args:
        matrix: symmetric, items in latent order, shape (n, n).
        layout: where the items lie.

    Returns:
        The share with its chance. For independent normal entries 95 % of values are below .16 (cycle of 12),
        .27 (line of 12), .28 (cycle of 7), .49 (line of 7).

    Raises:
        ShapeError: another number of items than the layout, or all pairs are equal.

    Examples:
        >>> from geometry.layouts import cycle
        >>> symmetry_fraction(-cycle(12).distance, cycle(12))
        SymmetryFraction(value=1.0, chance=0.0769..., lags=6, pairs=66)
    """
    pairs, lag = _pairs(matrix, layout), pairs_of(layout.lags)
    count = np.bincount(lag)
    within = pairs - (np.bincount(lag, weights=pairs) / count)[lag]
    about = pairs - pairs.mean()
    total = about @ about
    if total <= (1e-13 * np.abs(pairs).max(initial=0.0)) ** 2 * len(pairs):
        raise ShapeError("matrix: all pairs of items are equal; there is nothing that a lag could explain")
    value = float(np.clip(1 - within @ within / total, 0.0, 1.0))
    return SymmetryFraction(value, (len(count) - 1) / (len(pairs) - 1), len(count), len(pairs))


def monotonicity(matrix: ArrayLike, layout: Layout) -> float:
    """Spearman correlation of likeness with nearness over pairs.

    Args:
        matrix: symmetric, items in latent order, shape (n, n).
        layout: where the items lie.

    Returns:
        1 (the nearer, the more alike, without exception) to -1; 0 by chance.

    Raises:
        ShapeError: another number of items than the layout, or all pairs are equal.

    Examples:
        >>> from geometry.layouts import line
        >>> round(monotonicity(-(line(5).distance ** 2), line(5)), 12)
        1.0
    """
    pairs = _pairs(matrix, layout)
    nearness = -pairs_of(layout.distance)
    return partial_correlation(ranks(pairs), ranks(nearness), np.empty((len(pairs), 0)))


def periodic_or_open(matrix: ArrayLike) -> PeriodicOrOpen:
    """Tell a cycle from a line: are the first and last item as close as neighbours?

    The Fourier profile cannot: an exponential kernel of width 4.2 over 12 items has a first-harmonic share of
    .589 round a cycle and of .571 along a line. The pairs across the seam can.

    Args:
        matrix: symmetric, items in latent order, shape (n, n), n >= 5.

    Returns:
        Three correlations, each -1 to 1, 0 by chance; a partial one is 0 where the other distance explains
        the matrix without remainder.

    Raises:
        ShapeError: fewer than 5 items, not symmetric, or all pairs are equal.

    Examples:
        >>> from geometry.layouts import cycle, line
        >>> [round(periodic_or_open(-of(12).distance).seam, 12) for of in (cycle, line)]
        [1.0, -1.0]
    """
    matrix = square(matrix, "matrix")
    n = len(matrix)
    if n < 5:
        raise ShapeError(f"matrix: {n} items have too few pairs across the seam; 5 are needed")
    pairs = ranks(_pairs(matrix, cycle(n)))
    around, along = (ranks(-pairs_of(layout.distance)) for layout in (cycle(n), line(n)))
    across = pairs_of(line(n).distance) > n / 2
    none = np.empty((int(across.sum()), 0))
    return PeriodicOrOpen(
        periodic=_beyond(pairs, around, along),
        open=_beyond(pairs, along, around),
        seam=partial_correlation(ranks(pairs[across]), ranks(around[across]), none),
    )


def saturated(target: ArrayLike) -> bool:
    """Whether M* is too near its bound of 2 to tell pairs apart; then use PMI.

    Args:
        target: M* over items, shape (n, n).

    Returns:
        True where the median over pairs is above 1.9.

    Examples:
        >>> saturated([[2.0, 1.98], [1.98, 2.0]])
        True
    """
    return bool(np.median(pairs_of(square(target, "target"))) > SATURATED)


def _beyond(pairs: NDArray[np.float64], nearness: NDArray[np.float64], rival: NDArray[np.float64]) -> float:
    try:
        return partial_correlation(pairs, nearness, rival[:, None])
    except ShapeError:
        return 0.0


def _pairs(matrix: ArrayLike, layout: Layout) -> NDArray[np.float64]:
    return pairs_of(square(matrix, "matrix", layout.n))
