"""Compiled sums over a tile of attention logits: one pass over each row while it is in the nearest cache.

What :class:`geometry.dispersion.RowSums` names is summed for every row of a tile, and with it whatever else
is a sum over keys: pieces of marked spans, distances, random subsets, the largest weights. Array code would
walk over the tile a dozen times. Logits are float32; hidden keys are at or below :data:`HIDDEN_BELOW`.
"""

# ruff: noqa: ANN001, ANN201 - compiled, for float32 arrays
from __future__ import annotations

import numpy as np
from numba import njit

HIDDEN_BELOW = np.float32(-1e29)
"""Logits at or below this belong to keys that are not seen."""

LANES = 64
"""Every so many keys make a lane; see :func:`lane_maxima`."""

_LOWEST = np.float32(-3e38)
_LOG2E = np.float32(1.44269504)
_LN2_HIGH = np.float32(0.693359375)
_LN2_LOW = np.float32(-2.12194440e-4)
_TINIEST = np.float32(-87.0)
_HALF, _ONE, _ZERO = np.float32(0.5), np.float32(1.0), np.float32(0.0)
# minimax polynomial of exp on [-ln 2 / 2, ln 2 / 2] (Cephes, expf)
_P0, _P1, _P2 = np.float32(1.9875691500e-4), np.float32(1.3981999507e-3), np.float32(8.3334519073e-3)
_P3, _P4, _P5 = np.float32(4.1665795894e-2), np.float32(1.6666665459e-1), np.float32(5.0000001201e-1)


@njit(cache=True, nogil=True)
def exponentials(s, shift, x, p, bits, powers):
    """Fill x with s - shift and p with e^x, to float32 accuracy; both 0 at hidden keys.

    Args:
        s: (K,) logits.
        shift: the largest of them.
        x: (K,), is filled.
        p: (K,), is filled; below e^-87 it is 0.
        bits: (K,) int32, is written over.
        powers: the same memory as float32.
    """
    for k in range(len(s)):
        seen = s[k] > HIDDEN_BELOW
        value = s[k] - shift if seen else _ZERO
        x[k] = value
        inside = max(value, _TINIEST)
        n = np.floor(inside * _LOG2E + _HALF)
        f = inside - n * _LN2_HIGH - n * _LN2_LOW
        y = ((((_P0 * f + _P1) * f + _P2) * f + _P3) * f + _P4) * f + _P5
        y = y * f * f + f + _ONE
        p[k] = y if seen and value >= _TINIEST else _ZERO
        bits[k] = (np.int32(n) + np.int32(127)) << np.int32(23)
    for k in range(len(s)):
        p[k] *= powers[k]


@njit(cache=True, nogil=True, fastmath=True)
def lane_maxima(s, lanes):
    """The largest logit of a row and of each of its lanes: of every 64th key, from the first, the second, ... on.

    Neighbours lie in different lanes, which is what lets the compiler take many keys in one step.

    Args:
        s: (K,) float32.
        lanes: (64,) is filled; lanes without a key are far below :data:`HIDDEN_BELOW`.

    Returns:
        The largest of all.
    """
    width = len(lanes)
    for lane in range(width):
        lanes[lane] = _LOWEST
    whole = len(s) // width * width
    for start in range(0, whole, width):
        part = s[start : start + width]
        for lane in range(width):
            lanes[lane] = max(lanes[lane], part[lane])
    for k in range(whole, len(s)):
        lanes[k - whole] = max(lanes[k - whole], s[k])
    found = lanes[0]
    for lane in range(1, width):
        found = max(found, lanes[lane])
    return found


@njit(cache=True, nogil=True, fastmath=True)
def add_row(x, p, norms, steps, whole, starts, stops, sums):
    """Sums of one row.

    Args:
        x: (K,) logits less their largest.
        p: (K,) e^x.
        norms: (K,) value norms.
        steps: (K,) the numbers 0 to K - 1, float32.
        whole: (5,) is filled: sums of p x^2, p^2, x, x^2, and p times the index of the key.
        starts: (P,) first key of each piece; the pieces make up the tile.
        stops: (P,) key after the last.
        sums: (3, P) is filled: sums of p, p x and p |v| over each piece.
    """
    v, z2, first, second, far = _ZERO, _ZERO, _ZERO, _ZERO, _ZERO
    for piece in range(len(starts)):
        z, u, n = _ZERO, _ZERO, _ZERO
        a, b = starts[piece], stops[piece]
        # slices count from 0, which is what lets the compiler use vectors
        xs, ps, ns, ks = x[a:b], p[a:b], norms[a:b], steps[a:b]
        for k in range(len(xs)):
            y = ps[k] * xs[k]
            z += ps[k]
            u += y
            v += y * xs[k]
            z2 += ps[k] * ps[k]
            first += xs[k]
            second += xs[k] * xs[k]
            n += ps[k] * ns[k]
            far += ps[k] * ks[k]
        sums[0, piece], sums[1, piece], sums[2, piece] = z, u, n
    whole[0], whole[1], whole[2], whole[3], whole[4] = v, z2, first, second, far


@njit(cache=True, nogil=True, fastmath=True)
def add_range(p, start, stop):
    """Sum of p over keys start to stop, which may lie outside of it."""
    z = _ZERO
    part = p[max(start, 0) : max(min(stop, len(p)), 0)]
    for k in range(len(part)):
        z += part[k]
    return z


@njit(cache=True, nogil=True, fastmath=True)
def add_chosen(p, x, chosen):
    """Sums of p and of p x over keys whose ``chosen`` is 1; it is 0 at all others."""
    z, u = _ZERO, _ZERO
    for k in range(len(p)):
        z += p[k] * chosen[k]
        u += p[k] * x[k] * chosen[k]
    return z, u


@njit(cache=True, nogil=True)
def least_of_largest(values, kept):
    """The k-th largest of some values.

    Args:
        values: (n,), at least k.
        kept: (k,) is filled with the k largest, ascending.

    Returns:
        The least of them.
    """
    kept[:] = -np.inf
    for value in values:
        if value <= kept[0]:
            continue
        place = 0
        while place + 1 < len(kept) and kept[place + 1] < value:
            kept[place] = kept[place + 1]
            place += 1
        kept[place] = value
    return kept[0]


@njit(cache=True, nogil=True)
def keep_largest(s, lanes, first_key, best, key, spare):
    """Update the largest logits of a row, ascending, with those of a tile.

    Args:
        s: (K,) logits.
        lanes: their maxima, see :func:`lane_maxima`; few lanes hold anything new, and only they are read.
        first_key: index of the first key of the tile.
        best: (k,) the k largest so far, ascending; minus infinity where there is none.
        key: index of the largest so far.
        spare: (k,), is written over.

    Returns:
        Index of the largest, the first of those that tie.
    """
    last = len(best) - 1
    floor = best[0]
    if floor == -np.inf and last < len(lanes):
        # no k-th largest yet: that of the lanes' maxima is a bound, and spares reading every lane
        floor = least_of_largest(lanes, spare)
    for lane in range(len(lanes)):
        if lanes[lane] < floor or lanes[lane] < best[0] or lanes[lane] <= HIDDEN_BELOW:
            continue
        for k in range(lane, len(s), len(lanes)):
            value = s[k]
            if value == best[last]:
                key = min(key, first_key + k)
            if value <= best[0] or value <= HIDDEN_BELOW:
                continue
            if value > best[last]:
                key = first_key + k
            place = 0
            while place < last and best[place + 1] < value:
                best[place] = best[place + 1]
                place += 1
            best[place] = value
    return key


@njit(cache=True, nogil=True)
def add_tile(
    s, group_rows, norms, starts, stops, bands, place, edges, low, high, first_key,
    shift, whole, sums, subsets, distances, best, keys,
):  # fmt: skip
    """Sum a tile of N rows and K keys.

    Args:
        s: (N, K) logits.
        group_rows: rows that share a key head.
        norms: (h, K) value norms of each key head.
        starts: (P,) first key of each piece.
        stops: (P,) key after its last.
        bands: (S, K) float32, 1 at the keys of each band of the random subsets.
        place: (R,) where each query stands, counted from the first key of the tile; rows repeat every R.
        edges: (E + 1,) lower edges of the distance buckets, and one beyond all distances.
        low: nearest bucket of the tile.
        high: farthest bucket of it.
        first_key: absolute index of the first key.
        shift: (N,), is filled with the largest logit.
        whole: (N, 5), is filled, see :func:`add_row`.
        sums: (N, 3, P), is filled.
        subsets: (N, 2, S), is filled: sums of p and p x over each band.
        distances: (N, high - low + 1), is filled: sums of p by bucket.
        best: (N, k), is updated, see :func:`keep_largest`.
        keys: (N,), is updated.
    """
    width = s.shape[1]
    x, p = np.empty(width, np.float32), np.empty(width, np.float32)
    bits = np.empty(width, np.int32)
    powers = bits.view(np.float32)
    steps = np.arange(width).astype(np.float32)
    lanes, spare = np.empty(LANES, np.float32), np.empty(best.shape[1], np.float32)
    for n in range(len(s)):
        row = s[n]
        top = max(lane_maxima(row, lanes), HIDDEN_BELOW)
        shift[n] = top
        exponentials(row, top, x, p, bits, powers)
        add_row(x, p, norms[n // group_rows], steps, whole[n], starts, stops, sums[n])
        for band in range(len(bands)):
            subsets[n, 0, band], subsets[n, 1, band] = add_chosen(p, x, bands[band])
        keys[n] = keep_largest(row, lanes, first_key, best[n], keys[n], spare)
        if low == high:
            distances[n, 0] = _ZERO
            for piece in range(len(starts)):
                distances[n, 0] += sums[n, 0, piece]
            continue
        at = place[n % len(place)]
        for bucket in range(low, high + 1):
            near, far = edges[bucket], edges[bucket + 1]
            mass = add_range(p, at - far + 1, at - near + 1)
            if near > 0:
                mass += add_range(p, at + near, at + far)
            distances[n, bucket - low] = mass
