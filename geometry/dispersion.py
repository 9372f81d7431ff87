"""How far a row of attention is spread: exact sums that merge, and what is read off them.

A row of logits s over its visible keys has weights p = softmax(s). What is asked of it (entropy, normaliser,
participation ratio, variances) follows from six sums over keys, kept relative to a shift so that nothing
overflows. The sums of two sets of keys merge, so a row of any length is read tile by tile, in any split, and
the answer is that of the whole row. :mod:`geometry.live.attention` makes these sums inside a forward pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geometry.checks import ShapeError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]


@dataclass(frozen=True)
class RowSums:
    """Sums over a set of keys, one for each row; x = s - shift, and hidden keys count for nothing.

    Attributes:
        shift: any number near the largest logit; sums below are relative to it.
        visible: number of keys, n.
        z: sum of e^x.
        u: sum of x e^x.
        v: sum of x^2 e^x.
        z2: sum of e^2x.
        first: sum of x.
        second: sum of x^2.
    """

    shift: Array
    visible: Array
    z: Array
    u: Array
    v: Array
    z2: Array
    first: Array
    second: Array

    def merge(self, other: RowSums) -> RowSums:
        """The sums over both sets of keys, which must have no key in common."""
        both = ((getattr(self, name), getattr(other, name)) for name in self.__dataclass_fields__)
        return merged(RowSums(*(np.stack(np.broadcast_arrays(*pair), axis=-1) for pair in both)))


@dataclass(frozen=True)
class Spread:
    """What is known of each row; 0 everywhere for a row that sees no key.

    Attributes:
        visible: number of keys that it sees, n.
        log_z: logarithm of its normaliser, nats.
        entropy: H = -sum p log p, nats, in [0, log n].
        participation: 1 / sum p^2, in [1, n].
        largest: its largest weight.
        sensitivity: variance of the logits under p, nats^2: how fast H falls when logits are scaled up.
        logit_mean: mean of the logits over visible keys, every key counting once.
        logit_variance: their variance.
    """

    visible: Array
    log_z: Array
    entropy: Array
    participation: Array
    largest: Array
    sensitivity: Array
    logit_mean: Array
    logit_variance: Array


def row_sums(logits: ArrayLike) -> RowSums:
    """Sum over the last axis, in float64.

    Args:
        logits: (..., n); minus infinity where a key is hidden.

    Returns:
        Arrays of shape (...).

    Raises:
        ShapeError: no key at all, NaN, or plus infinity.
    """
    s = np.asarray(logits, dtype=np.float64)
    if s.ndim < 1 or not s.shape[-1]:
        raise ShapeError(f"logits: expected (..., n) with a key or more, got {s.shape}")
    if np.isnan(s).any() or np.isposinf(s).any():
        raise ShapeError("logits: hold NaN or plus infinity; minus infinity alone hides a key")
    seen = np.isfinite(s)
    shift = np.where(seen, s, -np.inf).max(axis=-1)
    shift = np.where(np.isfinite(shift), shift, 0.0)
    x = np.where(seen, s - shift[..., None], 0.0)
    p = np.where(seen, np.exp(x), 0.0)
    sums = (p, p * x, p * x * x, p * p, x, x * x)
    return RowSums(shift, seen.sum(axis=-1).astype(float), *(term.sum(axis=-1) for term in sums))


def merged(parts: RowSums) -> RowSums:
    """Merge sums over disjoint sets of keys.

    Args:
        parts: arrays of shape (..., P), a part along the last axis.

    Returns:
        Arrays of shape (...). The order of the parts changes nothing but the last digits.
    """
    shift, move = common_shift(parts.shift, parts.z)
    c = np.exp(move)
    u = c * (parts.u + move * parts.z)
    v = c * (parts.v + 2 * move * parts.u + move**2 * parts.z)
    first = parts.first + move * parts.visible
    second = parts.second + 2 * move * parts.first + move**2 * parts.visible
    terms = (parts.visible, c * parts.z, u, v, c * c * parts.z2, first, second)
    return RowSums(shift, *(term.sum(axis=-1) for term in terms))


def common_shift(shift: Array, z: Array) -> tuple[Array, Array]:
    """One shift for all parts of a row, and how far each part has to move to it.

    Args:
        shift: (..., P).
        z: (..., P) sums of e^x; a part that is 0 has no key and no say.

    Returns:
        (...) the largest shift of a part with a key (0 if there is none), and (..., P) the own shift of
        each part minus that, at most 0 and 0 for parts without a key.
    """
    has = z > 0
    top = np.where(has, shift, -np.inf).max(axis=-1)
    top = np.where(np.isfinite(top), top, 0.0)
    return top, np.where(has, shift - top[..., None], 0.0)


def spread(sums: RowSums) -> Spread:
    """Read a row off its sums.

    H = log z - u / z with both terms of one sign, so nothing cancels where logits are large.

    Args:
        sums: of whole rows, any shape; the shift must be the largest logit for ``largest`` to be right.

    Returns:
        Arrays of the same shape.

    Examples:
        Four equal logits, and one that rules:

        >>> even = spread(row_sums([0.0, 0.0, 0.0, 0.0]))
        >>> round(float(even.entropy), 6), float(even.participation), float(even.largest)
        (1.386294, 4.0, 0.25)
        >>> float(spread(row_sums([1000.0, 0.0])).entropy)
        0.0
        >>> float(spread(row_sums([-np.inf, -np.inf])).entropy)
        0.0
    """
    has = sums.visible > 0
    z = np.where(has, sums.z, 1.0)
    n = np.where(has, sums.visible, 1.0)
    mean = sums.u / z
    first = sums.first / n
    return Spread(
        visible=sums.visible,
        log_z=np.where(has, sums.shift + np.log(z), 0.0),
        entropy=np.where(has, np.maximum(np.log(z) - mean, 0.0), 0.0),
        participation=np.where(has, z * z / np.where(has, sums.z2, 1.0), 0.0),
        largest=np.where(has, 1 / z, 0.0),
        sensitivity=np.where(has, np.maximum(sums.v / z - mean**2, 0.0), 0.0),
        logit_mean=np.where(has, sums.shift + first, 0.0),
        logit_variance=np.where(has, np.maximum(sums.second / n - first**2, 0.0), 0.0),
    )


def part_entropy(z: ArrayLike, u: ArrayLike) -> Array:
    """Entropy within a part of the keys, as if the row saw nothing else.

    Args:
        z: sum of e^x over the part, any shift.
        u: sum of x e^x over it, same shift and shape.

    Returns:
        Nats; 0 where the part has no weight.
    """
    z, u = np.asarray(z, np.float64), np.asarray(u, np.float64)
    some = np.where(z > 0, z, 1.0)
    return np.where(z > 0, np.maximum(np.log(some) - u / some, 0.0), 0.0)


def chain_rule(masses: ArrayLike, entropies: ArrayLike) -> Array:
    """Entropy of the whole from that of its parts: H = H(masses) + sum of mass times entropy.

    Args:
        masses: (..., G), the weight of each part; they add to 1.
        entropies: (..., G), entropy within each part, nats.

    Returns:
        (...), nats.

    Examples:
        >>> float(chain_rule([0.5, 0.5], [np.log(2), np.log(2)])) == float(np.log(4))
        True
    """
    mass = np.asarray(masses, np.float64)
    between = -mass * np.log(np.where(mass > 0, mass, 1.0))
    return (between + mass * np.asarray(entropies, np.float64)).sum(axis=-1)


def log_odds(inside: ArrayLike, outside: ArrayLike) -> Array:
    """Log-odds of a part from two sums that were both accumulated; 1 minus a mass loses all digits near 1.

    Args:
        inside: weight of the part, on any scale, at least 0.
        outside: weight of all other keys, same scale and shape.

    Returns:
        log(inside / outside), nats; minus or plus infinity where one of them is 0, and 0 where both are.
    """
    a, b = np.asarray(inside, np.float64), np.asarray(outside, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        odds = np.log(a) - np.log(b)
    return np.where((a > 0) | (b > 0), odds, 0.0)


def log_slope(n: ArrayLike, values: ArrayLike) -> Array:
    """Least-squares slope of values on log n, such as dH / d log n.

    1 is dilution (H grows as log n does), 0 a focus that does not depend on length. A slope below 1 is no
    proof of focus: iid logits of wide spread have it too, see the subset null of the probe.

    Args:
        n: (k,) or (..., k), numbers of keys, all above 0.
        values: (..., k).

    Returns:
        (...).

    Raises:
        ShapeError: fewer than two different n in a row, or one that is not above 0.

    Examples:
        >>> round(float(log_slope([64, 256, 1024], np.log([64, 256, 1024]))), 6)
        1.0
    """
    counts, y = np.broadcast_arrays(np.asarray(n, np.float64), np.asarray(values, np.float64))
    if not (counts > 0).all():
        raise ShapeError("n: holds a number of keys that is not above 0; leave such rows out")
    x = np.log(counts)
    x = x - x.mean(axis=-1, keepdims=True)
    power = (x * x).sum(axis=-1)
    if not (power > 1e-12).all():
        raise ShapeError("n: a slope needs two different numbers of keys or more")
    return (x * (y - y.mean(axis=-1, keepdims=True))).sum(axis=-1) / power


def gaussian_entropy(n: ArrayLike, sd: float) -> Array:
    """Entropy that iid Gaussian logits of a small spread have: log n - sd^2 / 2.

    Holds while sd is well below its freezing point sqrt(2 log n) (random energy model, Derrida 1981).

    Args:
        n: numbers of keys.
        sd: standard deviation of the logits, nats.

    Returns:
        Nats, the shape of n.
    """
    return np.log(np.asarray(n, np.float64)) - sd**2 / 2


def least_entropy(n: ArrayLike, gap: ArrayLike) -> Array:
    """What a bounded range of logits promises at length n: H is at least log n - gap.

    With all logits within ``gap`` nats of each other no weight exceeds e^gap / n (Velickovic et al.,
    arXiv 2410.01104, lemma 2.1), so a head cannot stay focused unless its gap grows with log n.

    Args:
        n: numbers of keys.
        gap: largest minus smallest logit, nats.

    Returns:
        Nats, at least 0.
    """
    return np.maximum(np.log(np.asarray(n, np.float64)) - np.asarray(gap, np.float64), 0.0)


def distance_edges(length: int) -> NDArray[np.int64]:
    """Lower edges of the distance buckets 0, 1, 2-3, 4-7, 8-15, ... that a context needs.

    Args:
        length: tokens, at least 1.

    Returns:
        (E,) ascending from 0; a key at distance length - 1 lies in the last bucket.

    Examples:
        >>> distance_edges(9).tolist()
        [0, 1, 2, 4, 8]
    """
    top = max(int(length) - 1, 0).bit_length()
    return np.array([0, *(1 << i for i in range(top))], dtype=np.int64)
