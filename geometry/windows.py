"""Compiled loops of counting: one dense row at a time, whatever the size of the vocabulary.

A matrix of all pairs fits no cache, so adding to it pair by pair waits for memory at every step. Here the tokens are
first sorted by word; then the row of one word is filled from all its windows, in an array that stays in the cache,
and what is not zero is kept. Rows are kept from the diagonal on, since the matrix is symmetric.
"""

from __future__ import annotations

import numpy as np
from numba import njit

TOUCHED = 64
"""Windows whose memory is asked for together, before any of them is read: the waits overlap."""

SKIPPED = 64
"""Columns that are passed over together where all of them are 0; inside, none is asked whether it is."""

SMALL = 2**31 - 1
"""Rows whose counts stay below this are added up in 32 bits, so that more of them stays in the cache."""


@njit(cache=True, nogil=True)
def lay_out(ids, lengths, window, unigrams, places):  # noqa: ANN001, ANN201 - compiled, for any arrays
    """Lay documents out with a window of no words after each, so that no window of a word reaches the next.

    Args:
        ids: word ids, documents one after the other; below 0 for what is no word.
        lengths: (documents,) ids in each.
        window: longest distance L.
        unigrams: (V,) is added to.
        places: ``len(ids) + window * len(lengths)`` unsigned places to fill; no word becomes V.
    """
    size = len(unigrams)
    p, at = 0, 0
    for length in lengths:
        for _ in range(length):
            word = ids[p]
            if word < 0:
                places[at] = size
            else:
                places[at] = word
                unigrams[word] += 1
            p += 1
            at += 1
        places[at : at + window] = size
        at += window


@njit(cache=True, nogil=True)
def sort_positions(tokens, size, positions):  # noqa: ANN001, ANN201
    """Sort the places of words by word.

    Args:
        tokens: word ids, unsigned; ``size`` is no word.
        size: number of words V.
        positions: (``len(tokens)``,) unsigned, to fill: word i stands at ``positions[starts[i]:starts[i + 1]]``,
            ascending.

    Returns:
        ``starts``, (V + 1,).
    """
    starts = np.zeros(size + 2, np.int64)
    for token in tokens:
        starts[np.uint64(token) + np.uint64(1)] += 1
    for i in range(size + 1):
        starts[i + 1] += starts[i]
    at = starts[: size + 1].copy()
    for p in range(np.uint64(len(tokens))):
        word = np.uint64(tokens[p])
        positions[at[word]] = p
        at[word] += 1  # what is no word comes last
    return starts[: size + 1]


@njit(cache=True, nogil=True)
def count_rows(tokens, starts, positions, weights, old, first, size):  # noqa: ANN001, ANN201
    """Count the neighbours of some words, on top of what was counted before.

    Args:
        tokens: word ids, unsigned, with at least ``len(weights)`` ids ``size`` at both ends and between documents.
        starts: of :func:`sort_positions`.
        positions: of :func:`sort_positions`.
        weights: what a neighbour at distance 1, 2, ... adds, (L,) int64.
        old: sparse rows of words ``first``, ``first + 1``, ... as ``(indptr, indices, data)``.
        first: the first of the words.
        size: number of words V.

    Returns:
        The rows from the diagonal on, as sparse as ``old``, columns ascending.
    """
    indptr, data = old[0], old[2]
    n = len(indptr) - 1
    room, most = 0, np.int64(0)
    for i in range(n):
        places = starts[first + i + 1] - starts[first + i]
        room += min(size - first - i, indptr[i + 1] - indptr[i] + 2 * len(weights) * places)
        most = max(most, places)
    most *= 2 * weights.sum()  # no column of the row can gain more
    if most + (data.max() if len(data) else 0) <= SMALL:
        row = np.zeros(size + 1, np.int32)
        return _counted(tokens, starts, positions, weights.astype(np.int32), old, first, row, room)
    row = np.zeros(size + 1, np.int64)
    return _counted(tokens, starts, positions, weights, old, first, row, room)


@njit(cache=True, nogil=True)
def _counted(tokens, starts, positions, weights, old, first, row, room):  # noqa: ANN001, ANN202
    """Count through a row of either width, the last entry of which takes what is no word."""
    indptr, indices, data = old
    n = len(indptr) - 1
    new_indptr = np.zeros(n + 1, np.int64)
    new_indices, new_data = np.empty(room + 1, np.int32), np.empty(room + 1, np.int64)
    for i in range(n):
        places = positions[starts[first + i] : starts[first + i + 1]]
        at, more = new_indptr[i], indptr[i + 1] - indptr[i]
        if len(places) == 0:  # nothing to add: no need to look through a whole row
            new_indices[at : at + more] = indices[indptr[i] : indptr[i + 1]]
            new_data[at : at + more] = data[indptr[i] : indptr[i + 1]]
            new_indptr[i + 1] = at + more
            continue
        _add(row, indices[indptr[i] : indptr[i + 1]], data[indptr[i] : indptr[i + 1]])
        _add_windows(row, tokens, places, weights)
        new_indptr[i + 1] = _take(row, first + i, new_indices, new_data, at)
    return new_indptr, new_indices[: new_indptr[n]].copy(), new_data[: new_indptr[n]].copy()


@njit(cache=True, nogil=True)
def add_rows(one, other, first, size):  # noqa: ANN001, ANN201
    """Add sparse rows of the same words.

    Args:
        one: rows of words ``first``, ``first + 1``, ... as ``(indptr, indices, data)``.
        other: the same.
        first: the first of the words.
        size: number of words V.

    Returns:
        The sums, as sparse, columns ascending.
    """
    n = len(one[0]) - 1
    room = 0
    for i in range(n):
        room += min(size - first - i, one[0][i + 1] - one[0][i] + other[0][i + 1] - other[0][i])
    new_indptr = np.zeros(n + 1, np.int64)
    new_indices, new_data = np.empty(room + 1, np.int32), np.empty(room + 1, np.int64)
    row = np.zeros(size + 1, np.int64)
    for i in range(n):
        for indptr, indices, data in (one, other):
            _add(row, indices[indptr[i] : indptr[i + 1]], data[indptr[i] : indptr[i + 1]])
        new_indptr[i + 1] = _take(row, first + i, new_indices, new_data, new_indptr[i])
    return new_indptr, new_indices[: new_indptr[n]].copy(), new_data[: new_indptr[n]].copy()


@njit(cache=True, nogil=True)
def _add(row, indices, data):  # noqa: ANN001, ANN202
    for e in range(len(indices)):
        row[indices[e]] += data[e]


@njit(cache=True, nogil=True)
def _add_windows(row, tokens, positions, weights):  # noqa: ANN001, ANN202
    # unsigned indices spare the check for negative ones, which takes as long as the sum
    one, length = np.uint64(1), np.uint64(len(weights))
    begin, end = np.uint64(0), np.uint64(len(positions))
    while begin < end:
        stop = min(begin + np.uint64(TOUCHED), end)
        touched = np.uint64(0)
        for s in range(begin, stop):
            p = np.uint64(positions[s])
            touched |= np.uint64(tokens[p - length]) | np.uint64(tokens[p + length])
        row[-1] = touched & np.uint64(1)  # so that the loop above is not optimised away
        for s in range(begin, stop):
            p = np.uint64(positions[s])
            for d in range(one, length + one):
                weight = weights[d - one]
                row[tokens[p + d]] += weight
                row[tokens[p - d]] += weight
        begin = stop


@njit(cache=True, nogil=True)
def _take(row, first, indices, data, at):  # noqa: ANN001, ANN202
    """Move what is not zero, from column ``first`` on, to the sparse arrays; return where it ends, the row empty.

    The arrays need room for one entry more: each column is written, and kept by moving on.
    """
    size = np.uint64(len(row) - 1)
    begin, at = np.uint64(first), np.uint64(at)
    while begin < size:
        stop = min(begin + np.uint64(SKIPPED), size)
        some = row[begin]
        for j in range(begin, stop):
            some |= row[j]
        if some != 0:
            for j in range(begin, stop):
                indices[at], data[at] = j, row[j]
                at += np.uint64(row[j] != 0)
        begin = stop
    row[:] = 0
    return np.int64(at)
