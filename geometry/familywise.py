"""Looking at many layers, or measures, at once: the chance that the best of them stands out by luck.

A model of L layers gives L numbers, each with its null. One in twenty leaves its own 95 % band by chance, so a
page of twenty layers shows one such layer of a random adapter. The remedy is to ask of every null sample what
was asked of the observed number: how far out it lies at the layer where it lies farthest out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geometry.checks import ShapeError, rows

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

# a spread this small beside the numbers themselves is rounding
_ROUNDING = 1e-12


@dataclass(frozen=True)
class MaxNull:
    """The farthest outlier among L numbers, and what it would be if there were nothing to see in any.

    Attributes:
        where: index of the number that lies farthest from its null, 0 to L - 1.
        t: how far: its distance from the mean of its n samples in units of what one more sample would
            scatter by, sqrt(1 + 1/n) sd; negative where it lies below.
        p: share of the n + 1 rows (samples and observed) that lie as far out at their farthest number, a
            multiple of 1 / (n + 1).
        p_normal: the same chance if the samples are normal: L times the two-sided p of ``t`` under Student's
            t with n - 1 degrees of freedom (Bonferroni), at most 1. With few samples ``p`` cannot be small;
            this one can, and rests on an assumption. Keep counts such as k90 out: few samples of a count tie,
            and anything is far from samples without spread. Numbers whose samples are all equal are skipped.
        adjusted: for each number, the share of rows that lie as far out anywhere; those at most a are the
            layers that stand out at family-wise level a. Length L; its smallest entry is ``p``.
        n: number of null samples.
    """

    where: int
    t: float
    p: float
    p_normal: float
    adjusted: tuple[float, ...]
    n: int


def max_over(observed: ArrayLike, samples: ArrayLike) -> MaxNull:
    """Put L numbers beside their null samples, and correct for having looked at L of them.

    The single-step max-T procedure (Westfall and Young 1993). Each of the n + 1 rows, the observed one among
    them, is studentised at every layer against the n other rows, and keeps its largest |t|. Since all rows are
    treated alike, ``p`` is at most a with probability at most a whenever the observed row is exchangeable with
    the samples: whatever their distribution and however the layers depend on each other. A row must therefore
    be one draw: the same random adapter at every layer.

    Args:
        observed: numbers at L layers (or of L measures), shape (L,); large and small both mean that there is
            something to see.
        samples: null values of them, one draw a row, shape (n, L), n >= 2.

    Returns:
        The farthest of the numbers, with its chance.

    Raises:
        ShapeError: shapes do not fit together, fewer than 2 samples, or values that are not finite.

    Examples:
        The second of two layers is far out, farther than any of four samples at either:

        >>> found = max_over([0.1, 9.0], [[0.0, 0.0], [0.2, 1.0], [0.1, 0.5], [0.3, -0.5]])
        >>> found.where, found.p, found.adjusted
        (1, 0.2, (1.0, 0.2))
    """
    samples = rows(samples, "samples")
    observed = rows(np.atleast_2d(observed), "observed", samples.shape[1])
    if len(observed) != 1 or not observed.size:
        raise ShapeError(f"observed: expected one number for each of L layers (L,), got {np.shape(observed)}")
    n = len(samples)
    if n < 2:
        raise ShapeError(f"samples: expected at least 2 rows (n, L), got {samples.shape}; draw more")
    t = _studentised(np.concatenate([observed, samples]))
    farthest = np.abs(t).max(axis=1)
    own = np.abs(t[0])
    spread = np.ptp(samples, axis=0) > 0
    # equal rows must count as equal, whatever order their sums were taken in
    as_far = farthest[None] >= own[:, None] * (1 - 1e-9)
    where = int(own.argmax())
    return MaxNull(
        where=where,
        t=float(t[0, where]),
        p=float(as_far[where].mean()),
        p_normal=_bonferroni(own[spread].max(initial=0.0), n, len(own)),
        adjusted=tuple(float(share) for share in as_far.mean(axis=1)),
        n=n,
    )


def _studentised(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each entry against the n others of its column, (x_i - mean) / (sqrt(1 + 1/n) sd), shape (n + 1, L)."""
    n = len(x) - 1
    least = _ROUNDING * np.abs(x).max(axis=0)
    t = np.zeros_like(x)
    for i, row in enumerate(x):
        others = np.delete(x, i, axis=0)
        gap = row - others.mean(axis=0)
        spread = np.sqrt(1 + 1 / n) * np.maximum(others.std(axis=0, ddof=1), least)
        # neither a gap nor a spread of rounding size means anything
        np.divide(gap, spread, out=t[i], where=np.abs(gap) > least)
    return t


def _bonferroni(t: float, n: int, looked_at: int) -> float:
    from scipy.special import stdtr

    return float(min(1.0, looked_at * 2 * stdtr(n - 1, -t)))
