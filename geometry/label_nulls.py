"""What scores of symmetry would be if labels said nothing: shuffles, spectra without a shape, matched words.

An order says which item stands at which place: ``matrix[np.ix_(order, order)]`` and ``points[order]``. Orders
that a turn or a reflection of the layout makes equal are one order: a cycle of 7 has 360, so that no p value is
below 1/360 there. Few items are enumerated and give exact p values; more are sampled. The statistics here are
computed for thousands of orders at once, and are the same as those of :mod:`geometry.symmetry`,
:mod:`geometry.circles` and :mod:`geometry.mode_match`.
"""

from __future__ import annotations

from itertools import permutations
from math import factorial
from typing import TYPE_CHECKING

import numpy as np

from geometry.checks import ShapeError, rows
from geometry.layouts import pairs_of, square
from geometry.nulls import haar_basis
from geometry.rsa import nuisance_ranks, ranks, unexplained

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

    from geometry.lattice import Modes
    from geometry.layouts import Layout

EXACT = 3000
"""Layouts with at most this many distinct orders are enumerated: cycles to 8 items, lines to 7."""

_BLOCK = 4_000_000  # numbers held at once


def count_orders(layout: Layout) -> int:
    """How many orders of the items are different: (n - 1)! / 2 round a cycle, n! / 2 along a line, else n!.

    Examples:
        >>> from geometry.layouts import cycle
        >>> count_orders(cycle(7)), count_orders(cycle(8)), count_orders(cycle(12))
        (360, 2520, 19958400)
    """
    match layout.kind:
        case "cycle":
            return factorial(layout.n - 1) // 2
        case "line":
            return factorial(layout.n) // 2
        case _:
            return factorial(layout.n)


def other_orders(layout: Layout, draws: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Orders to put beside the true one: all others where there are few, random ones elsewhere.

    With all others, (1 + #{as large}) / (1 + n) of :func:`geometry.nulls.null_of` is the exact p value.

    Args:
        layout: where the items lie.
        draws: how many to draw where they cannot be enumerated, at least 2.
        rng: source of chance; not used where they are enumerated.

    Returns:
        Orders in rows, shape (count, n).

    Raises:
        ShapeError: fewer than 2 draws, or a cycle of 3, which has one order only.

    Examples:
        >>> from geometry.layouts import cycle
        >>> len(other_orders(cycle(7), 999, np.random.default_rng(0)))
        359
    """
    if draws < 2:
        raise ShapeError(f"draws: expected at least 2 shuffles, got {draws}")
    if count_orders(layout) < 3:
        raise ShapeError("layout: three items round a cycle have one order; there is nothing to shuffle")
    if layout.kind in {"cycle", "line"} and count_orders(layout) <= EXACT:
        return np.array([order for order in _distinct(layout) if order != tuple(range(layout.n))])
    return rng.permuted(np.tile(np.arange(layout.n), (draws, 1)), axis=1)


def shuffled_fractions(matrix: ArrayLike, layout: Layout, orders: NDArray[np.int64]) -> NDArray[np.float64]:
    """:func:`geometry.symmetry.symmetry_fraction` for each order of the items, shape (len(orders),).

    Raises:
        ShapeError: another number of items than the layout, or all pairs are equal.

    Examples:
        Three of the 360 orders of a circulant matrix over 7 items are circulant too, x -> 2 x among them:

        >>> from geometry.layouts import cycle
        >>> week, rng = cycle(7), np.random.default_rng(0)
        >>> found = shuffled_fractions(-week.distance ** 1.5, week, other_orders(week, 2, rng))
        >>> int(np.sum(found > 1 - 1e-9)) + 1
        3
    """
    matrix = square(matrix, "matrix", layout.n)
    pairs = pairs_of(matrix) - pairs_of(matrix).mean()
    if np.abs(pairs).max() <= 1e-12 * np.abs(matrix).max():
        raise ShapeError("matrix: all pairs of items are equal; there is nothing that a lag could explain")
    lag = pairs_of(layout.lags)
    mean_of = np.eye(int(lag.max()) + 1)[lag] / np.sqrt(np.bincount(lag))
    found = [
        np.sum((block @ mean_of) ** 2, axis=1) for block in _shuffled(matrix, orders, pairs_of(matrix).mean())
    ]
    return np.concatenate(found) / (pairs @ pairs)


def shuffled_correlations(
    matrices: Sequence[ArrayLike], layout: Layout, orders: NDArray[np.int64], nuisances: Sequence[ArrayLike]
) -> NDArray[np.float64]:
    """Partial Spearman correlation of likeness and nearness given nuisances, for each order and matrix.

    What the nuisances leave of nearness is shuffled (double semi-partialing: Dekker, Krackhardt and Snijders
    2007), so that nuisances stay with their items and with the matrix. Ranks of nuisances and their squares are
    taken out, as long as three pairs are left for each: where the matrix follows the nuisance alone, and that
    follows the order, ranks alone reject 14 % of sets of 30 items at level 5 %, with squares it is 4 %
    (simulated).

    Args:
        matrices: symmetric, over the same items in latent order, shapes (n, n): one, or one a layer.
        layout: where the items lie.
        orders: shape (m, n).
        nuisances: symmetric matrices over the same items.

    Returns:
        Correlations, shape (m, number of matrices).

    Raises:
        ShapeError: sizes differ, or less than 0.1 % of the variance of nearness or of a matrix is left.

    Examples:
        >>> from geometry.layouts import cycle
        >>> year = cycle(12)
        >>> shuffled_correlations([-year.distance], year, np.arange(12)[None], []).round(12)
        array([[1.]])
    """
    given = _given(nuisances, layout.n)
    left = [unexplained(ranks(pairs_of(square(one, "matrix", layout.n))), given) for one in matrices]
    lefts = np.column_stack([side / np.linalg.norm(side) for side in left])
    residual = np.zeros((layout.n, layout.n))
    residual[np.triu_indices(layout.n, 1)] = unexplained(ranks(-pairs_of(layout.distance)), given)
    basis = _basis(given)
    found = []
    for block in _shuffled(residual + residual.T, np.argsort(orders, axis=1), 0.0):
        # what the nuisances explain has no part in the products, only in the lengths
        free = np.sum(block**2, axis=1) - np.sum((block @ basis) ** 2, axis=1)
        found.append(block @ lefts / np.sqrt(np.maximum(free, 1e-300))[:, None])
    return np.concatenate(found)


def shuffled_first_shares(points: ArrayLike, orders: NDArray[np.int64]) -> NDArray[np.float64]:
    """First-harmonic share of :func:`geometry.circles.fourier_profile` for each order, shape (m,).

    Examples:
        >>> angle = 2 * np.pi * np.arange(5) / 5
        >>> shuffled_first_shares(np.column_stack([np.cos(angle), np.sin(angle)]), np.arange(5)[None]).round(12)
        array([1.])
    """
    points = rows(points, "points")
    n = len(points)
    about = points - points.mean(axis=0)
    # only inner products enter: n numbers an item hold them all
    u, s, _ = np.linalg.svd(about, full_matrices=False)
    wave = np.exp(-2j * np.pi * np.arange(n) / n)
    weights = np.empty(orders.shape, dtype=complex)
    np.put_along_axis(weights, orders, np.broadcast_to(wave, orders.shape), axis=1)
    return 2 * np.sum(np.abs(weights @ (u * s)) ** 2, axis=1) / n / np.sum(about**2)


def shuffled_alignments(
    points: ArrayLike, prediction: Modes, orders: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Alignment of the first predicted group for each order, as in :func:`geometry.mode_match.mode_alignment`.

    Args:
        points: rows, shape (n, d).
        prediction: modes over the same items.
        orders: shape (m, n).

    Returns:
        Mean squared cosines, 0 to 1, shape (m,).

    Examples:
        >>> from geometry.lattice import cycle_modes
        >>> four = cycle_modes([2.0, 1.0, 0.0, 1.0])
        >>> shuffled_alignments(four.coordinates, four, np.array([[0, 1, 2, 3], [0, 2, 1, 3]])).round(12)
        array([1. , 0.5])
    """
    points = rows(points, "points")
    group = prediction.groups()[0]
    u = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)[0][:, group]
    v = prediction.vectors[:, group]
    return np.sum(np.einsum("mnk,nl->mkl", u[orders], v) ** 2, axis=(1, 2)) / v.shape[1]


def shuffled(score: Callable[[NDArray[np.int64]], float], orders: NDArray[np.int64]) -> NDArray[np.float64]:
    """Any score of an order, for each order, shape (len(orders),): for scores that have no faster way.

    Args:
        score: takes an order, shape (n,).
        orders: shape (m, n).

    Examples:
        >>> shuffled(lambda order: float(order[0]), np.array([[2, 0, 1], [1, 2, 0]]))
        array([2., 1.])
    """
    return np.array([score(order) for order in orders])


def spectrum_matched(points: ArrayLike, rng: np.random.Generator) -> NDArray[np.float64]:
    """A cloud with the same spectrum and no shape: the same principal variances along random item vectors.

    Tells whether a score is owed to the items or only to how many dimensions the cloud has.

    Args:
        points: rows, shape (n, d), n >= 2.
        rng: source of chance.

    Returns:
        Rows of mean zero whose singular values are those of the centred points, shape (n, min(n - 1, d)).

    Raises:
        ShapeError: fewer than 2 rows.

    Examples:
        >>> spectrum_matched([[0.0, 3.0], [4.0, 0.0]], np.random.default_rng(0)).round(12).__abs__()
        array([[2.5],
               [2.5]])
    """
    points = rows(points, "points")
    n = len(points)
    if n < 2:
        raise ShapeError(f"points: expected at least 2 items, got {n}")
    values = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)[: n - 1]
    noise = rng.standard_normal((n, len(values)))
    vectors, r = np.linalg.qr(noise - noise.mean(axis=0))
    return vectors * np.where(np.diag(r) < 0, -1.0, 1.0) * values @ haar_basis(len(values), len(values), rng)


def frequency_matched(
    members: Sequence[int], log_frequency: ArrayLike, rng: np.random.Generator, *, nearest: int = 20
) -> NDArray[np.int64]:
    """Other words of the same frequencies: for each member, one of the non-members nearest in log frequency.

    Args:
        members: indices of the concept's words in the vocabulary.
        log_frequency: of every word of the vocabulary, shape (V,).
        rng: source of chance.
        nearest: from how many candidates one is drawn.

    Returns:
        Distinct indices, none of them a member, in the order of the members, shape (len(members),).

    Raises:
        ShapeError: a member outside the vocabulary or named twice, or fewer than twice as many words as members.

    Examples:
        >>> frequency_matched([0], [5.0, 1.0, 4.9], np.random.default_rng(0), nearest=1)
        array([2])
    """
    logs = np.asarray(log_frequency, dtype=np.float64)
    chosen = np.asarray(members, dtype=np.int64)
    if len(np.unique(chosen)) < len(chosen) or np.any((chosen < 0) | (chosen >= len(logs))):
        raise ShapeError(f"members: expected distinct indices below {len(logs)}")
    if len(logs) < 2 * len(chosen):
        raise ShapeError(
            f"vocabulary: {len(logs)} words are too few to match {len(chosen)}; count more words"
        )
    free = np.ones(len(logs), dtype=bool)
    free[chosen] = False
    matched = np.empty(len(chosen), dtype=np.int64)
    for at in rng.permutation(len(chosen)):
        candidates = np.flatnonzero(free)
        order = np.argsort(np.abs(logs[candidates] - logs[chosen[at]]), kind="stable")[:nearest]
        matched[at] = rng.choice(candidates[order])
        free[matched[at]] = False
    return matched


def _distinct(layout: Layout) -> Iterator[tuple[int, ...]]:
    """Orders up to reversal, and for a cycle up to turns: item 0 first there."""
    if layout.kind == "cycle":
        yield from ((0, *rest) for rest in permutations(range(1, layout.n)) if rest[0] < rest[-1])
    else:
        yield from (order for order in permutations(range(layout.n)) if order[0] < order[-1])


def _shuffled(
    matrix: NDArray[np.float64], orders: NDArray[np.int64], less: float
) -> Iterator[NDArray[np.float64]]:
    """Pairs of the matrix in each order, minus a constant, in blocks of orders: shape (block, pairs)."""
    row, column = np.triu_indices(len(matrix), 1)
    size = max(1, _BLOCK // len(row))
    for start in range(0, len(orders), size):
        block = orders[start : start + size]
        yield matrix[block[:, row], block[:, column]] - less


def _given(nuisances: Sequence[ArrayLike], n: int) -> NDArray[np.float64]:
    linear = nuisance_ranks(nuisances, n)
    if 6 * linear.shape[1] > len(linear):
        return linear
    return np.hstack([linear, (linear - linear.mean(axis=0)) ** 2])


def _basis(given: NDArray[np.float64]) -> NDArray[np.float64]:
    """Orthonormal columns that span the constant and the given columns."""
    columns = np.column_stack([np.ones(len(given)), given - given.mean(axis=0)])
    u, s, _ = np.linalg.svd(
        columns / np.maximum(np.linalg.norm(columns, axis=0), 1e-300), full_matrices=False
    )
    return u[:, s > 1e-9]
