"""How a head keeps to what matters as its context grows: needles, rivals, places and slopes.

The theory that is tested: with scores that do not depend on length, the weight A of m relevant keys among n
satisfies logit A = log(sum over them of e^s / mu) - log(n - m), so its log-odds fall along log n with slope -1
(PAPerBench, arXiv 2602.15028, theorem 6.1, at finite n). It says nothing of heads whose scores grow with length.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from geometry.checks import ShapeError
from geometry.dispersion import log_slope

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]

FIRST_ROW = 64
"""Rows that see fewer keys say more of the start of a text than of its length; slopes leave them out."""


def position_slope(visible: ArrayLike, entropy: ArrayLike, *, least: int = FIRST_ROW) -> Array:
    """Slope of entropy along log n over the rows of one pass: 1 is dilution, 0 a focus of fixed size.

    Args:
        visible: (R,) keys that each row sees.
        entropy: (..., R) nats.
        least: rows that see fewer keys are left out.

    Returns:
        dH / d log n, shape (...).

    Raises:
        ShapeError: fewer than two different numbers of keys are left, as in a window that is full.
    """
    n, h = np.asarray(visible, np.float64), np.asarray(entropy, np.float64)
    kept = n >= least
    if not kept.any():
        raise ShapeError(f"rows: none sees {least} keys; take a longer text, or a lower number")
    return log_slope(n[kept], h[..., kept])


def subset_slope(visible: ArrayLike, entropy: ArrayLike, *, least: int = FIRST_ROW) -> Array:
    """What dilution alone does: the slope of entropy along log n over nested random subsets of a row's own keys.

    A row whose logits were drawn independently of their place has this slope across lengths too, and it is below 1
    when logits spread widely. A slope across positions says something of learned focus only where it is below this.

    Args:
        visible: (R, S) keys of each subset that the row sees, S nested subsets.
        entropy: (..., R, S) entropy within each.
        least: rows whose smallest subset has fewer keys are left out.

    Returns:
        Mean slope over rows, shape (...).

    Raises:
        ShapeError: no row is left.
    """
    n, h = np.asarray(visible, np.float64), np.asarray(entropy, np.float64)
    kept = n.min(axis=-1) >= least
    if not kept.any():
        raise ShapeError(f"rows: no smallest subset has {least} keys; take a longer text, or fewer subsets")
    return log_slope(n[kept], h[..., kept, :]).mean(axis=-1)


def odds_slope(length: ArrayLike, relevant: ArrayLike, log_odds: ArrayLike) -> Array:
    """Slope of a needle's log-odds along log(n - m) over lengths: -1 if scores do not change with length.

    Args:
        length: (K,) or (..., K) keys that the row sees, n.
        relevant: likewise, needle keys among them, m.
        log_odds: (..., K) log(A / (1 - A)), nats.

    Returns:
        Shape (...).

    Raises:
        ShapeError: fewer than two lengths, or no key outside of the needle.

    Examples:
        A fixed advantage of 3 nats for each of 2 keys:

        >>> n = np.array([100.0, 1000.0, 10000.0])
        >>> round(float(odds_slope(n, 2, np.log(2 * np.exp(3) / (n - 2)))), 9)
        -1.0
    """
    rest = np.asarray(length, np.float64) - np.asarray(relevant, np.float64)
    return log_slope(rest, log_odds)


def needed_gap(n: ArrayLike, relevant: ArrayLike, mass: ArrayLike) -> Array:
    """By how many nats relevant scores must exceed the rest (in log-mean-exp) to hold a weight at length n.

    Args:
        n: keys in sight.
        relevant: needle keys, m.
        mass: weight to hold, in (0, 1).

    Returns:
        log((n - m) / m) + log(mass / (1 - mass)), nats.

    Examples:
        >>> round(float(needed_gap(32768, 8, 0.5)), 2)
        8.32
    """
    n, m, a = (np.asarray(x, np.float64) for x in (n, relevant, mass))
    return np.log((n - m) / m) + np.log(a / (1 - a))


def output_change_bound(
    mass: ArrayLike, other_mass: ArrayLike, needle_norm: ArrayLike, rest_norm: ArrayLike
) -> Array:
    """Most that a head's output can differ between two contexts that differ in the needle alone.

    ||h - h'|| <= (A + A') max_needle ||v|| + |A - A'| max_rest ||v||. The identity printed for corollary 6.3 of arXiv
    2602.15028 leaves the second term out: weights of other keys change too when the needle's keys do.

    Args:
        mass: weight A of the needle in the one context.
        other_mass: weight A' in the other.
        needle_norm: largest norm of a value of either needle.
        rest_norm: largest norm of another value.

    Returns:
        The bound, in units of the values.
    """
    a, b = np.asarray(mass, np.float64), np.asarray(other_mass, np.float64)
    return (a + b) * np.asarray(needle_norm, np.float64) + np.abs(a - b) * np.asarray(rest_norm, np.float64)


def lift(mass: ArrayLike, relevant: ArrayLike, visible: ArrayLike) -> Array:
    """A group's weight over what even attention gives it, A / (m / n); 1 is no preference, 0 where it is not seen.

    Examples:
        >>> float(lift(0.5, 10, 1000))
        50.0
    """
    a, m, n = (np.asarray(x, np.float64) for x in (mass, relevant, visible))
    return np.divide(a * n, m, out=np.zeros(np.broadcast_shapes(a.shape, m.shape, n.shape)), where=m > 0)


def rival_margin(
    needle: ArrayLike, rivals: ArrayLike, needle_keys: ArrayLike, rival_keys: ArrayLike
) -> Array:
    """By how many nats a needle's mean e^s exceeds that of its rivals, from their weights in the same row.

    log(A_needle / m_needle) - log(A_rivals / m_rivals): the normaliser cancels, so this is log-mean-exp of the
    needle's logits minus that of the rivals'. Add log(m_needle / m_rivals) for the odds against all of them.

    Args:
        needle: weight of the needle, above 0.
        rivals: weight of the rivals, above 0.
        needle_keys: number of the needle's keys.
        rival_keys: number of the rivals' keys.

    Returns:
        Nats.

    Examples:
        >>> round(float(rival_margin(0.5, 0.25, 10, 100)), 3)
        2.996
    """
    a, b, m, k = (np.asarray(x, np.float64) for x in (needle, rivals, needle_keys, rival_keys))
    return np.log(a) - np.log(b) - np.log(m) + np.log(k)


def ends_over_middle(values: ArrayLike) -> tuple[Array, Array]:
    """Primacy and recency of a curve over depths: its first and its last value minus the mean of those between.

    Args:
        values: (..., D), from the start of a context to its end, D at least 3.

    Returns:
        Primacy and recency, each (...), in the unit of the values; both are above 0 on a U-curve.

    Raises:
        ShapeError: fewer than three depths.

    Examples:
        >>> [float(x) for x in ends_over_middle([0.9, 0.5, 0.4, 0.6, 0.8])]
        [0.4, 0.30000000000000004]
    """
    x = np.asarray(values, np.float64)
    if x.ndim < 1 or x.shape[-1] < 3:
        raise ShapeError(f"depths: primacy and recency need a middle, got {x.shape}; ask for three or more")
    middle = x[..., 1:-1].mean(axis=-1)
    return x[..., 0] - middle, x[..., -1] - middle


def sink_share(mass: ArrayLike, least: float = 0.3) -> Array:
    """Share of heads that keep more than a given weight on the sink, Sink^eps of Gu et al. (arXiv 2410.10781).

    Args:
        mass: (..., H), a head's mean weight on the first tokens.
        least: eps.

    Returns:
        Shape (...), 0 to 1.

    Examples:
        >>> float(sink_share([0.9, 0.1, 0.5, 0.2]))
        0.5
    """
    return (np.asarray(mass, np.float64) > least).mean(axis=-1)


def retrieval_score(largest_key: ArrayLike, copied_from: ArrayLike) -> Array:
    """How often a head looks most at the very token that comes next (Wu et al., arXiv 2404.15574).

    Args:
        largest_key: (..., R), the key with the largest weight, in the rows after which a needle's tokens are
            written.
        copied_from: (R,), where in the needle each of these tokens stands.

    Returns:
        Share of rows, shape (...). Chance is one over the keys in sight.

    Raises:
        ShapeError: no row.

    Examples:
        >>> retrieval_score([[7, 8, 9], [7, 0, 0]], [7, 8, 9]).round(2).tolist()
        [1.0, 0.33]
    """
    wanted = np.asarray(copied_from)
    if not wanted.size:
        raise ShapeError("rows: none, so nothing could be copied; give the rows before the answer's tokens")
    return (np.asarray(largest_key) == wanted).mean(axis=-1)
