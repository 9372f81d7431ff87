"""May it be said that a concept shows its symmetry? Gates, each with its number, and the one that failed.

The rule is fixed: nothing in it is fitted to the set that is judged. (Two gates, that a cycle closes and that
a line is graded, were added after planted and real sets had fooled the rest.) A matrix of co-occurrence must
depend on the lag beyond what 99 % of shuffled labels do, near items must be more alike, a cycle must close
and a line must not, a line must be graded and no step between two groups, and likeness must survive what
spelling and frequency explain. A cloud of hidden states must have the predicted first mode beyond the best
that shuffled labels reach over all layers and templates looked at, a cycle must be round, and it too must
survive spelling and frequency. Where a planted symmetry would have been missed, the verdict is that nothing
can be told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from geometry.checks import ShapeError, rows
from geometry.circles import mode_isotropy
from geometry.cloud_scores import nearness
from geometry.familywise import max_over
from geometry.gates import LEVEL, ROUND, SYMMETRIC, Gate, SymmetryVerdict
from geometry.label_nulls import (
    other_orders,
    shuffled_alignments,
    shuffled_correlations,
    shuffled_first_shares,
    shuffled_fractions,
)
from geometry.layouts import pairs_of, square
from geometry.nulls import Null, null_of
from geometry.symmetry import monotonicity, periodic_or_open

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from geometry.lattice import Modes
    from geometry.layouts import Layout

_WITHIN = 999  # shuffles inside the two groups of a line


def judge(
    matrix: ArrayLike,
    layout: Layout,
    nuisances: Mapping[str, ArrayLike],
    rng: np.random.Generator,
    *,
    draws: int = 999,
) -> SymmetryVerdict:
    """Judge a co-occurrence matrix.

    Args:
        matrix: M* or PMI over the items in latent order, shape (n, n).
        layout: where the items lie.
        nuisances: named matrices over the same items, of :func:`geometry.nuisances.nuisance_matrices`.
        rng: source of the shuffles.
        draws: number of shuffles where the orders cannot be enumerated; at least 99, or no p is below .01.

    Returns:
        The verdict, with the power of its first gate where that failed.

    Raises:
        ShapeError: sizes differ, no nuisance, fewer than 99 draws, or a matrix in which all pairs are equal.

    Examples:
        >>> from geometry.layouts import cycle
        >>> rng, year = np.random.default_rng(0), cycle(12)
        >>> length = np.abs(np.subtract.outer(*[rng.integers(3, 9, 12)] * 2))
        >>> judge(-year.distance, year, {"length": length}, rng).sentence
        'shows the symmetry'
    """
    matrix = square(matrix, "matrix", layout.n)
    orders = _orders(layout, nuisances, draws, rng)
    fraction, *shuffled = shuffled_fractions(matrix, layout, orders)
    null = _null(fraction, shuffled)
    gates = [
        Gate(
            "statistics: symmetric", float(fraction), SYMMETRIC, null.p, null.p <= SYMMETRIC,
            f"{fraction:.2f} of the variation is by lag, shuffled {null.mean:.2f}, p = {null.p:.3g}",
        ),
        _near(matrix, layout),
        *_closed(matrix, layout, "statistics"),
        *_graded([matrix], 0, layout, "statistics", rng),
        _surviving([matrix], 0, layout, orders, nuisances, "statistics"),
    ]  # fmt: skip
    power = None if gates[0].passed else detection_rate(matrix, layout, rng)
    return SymmetryVerdict(tuple(gates), power)


def judge_clouds(
    clouds: Sequence[ArrayLike],
    prediction: Modes,
    layout: Layout,
    nuisances: Mapping[str, ArrayLike],
    rng: np.random.Generator,
    *,
    draws: int = 999,
) -> SymmetryVerdict:
    """Judge hidden states of one concept, at every layer and template that was looked at.

    The first mode is asked for at all of them at once, with the same shuffles everywhere, and its p value is
    corrected for having looked (:func:`geometry.familywise.max_over`). The other gates are asked where it
    stands out most; the one with a p value is corrected too, for the place was chosen.

    Args:
        clouds: rows in latent order, one cloud a layer and template, shapes (n, d).
        prediction: modes of the kernel over the same items.
        layout: where the items lie.
        nuisances: named matrices over the same items.
        rng: source of the shuffles.
        draws: number of shuffles where the orders cannot be enumerated, at least 99.

    Returns:
        The verdict; its ``where`` and the ``because`` of its first gate say which cloud was judged.

    Raises:
        ShapeError: no cloud, sizes differ, no nuisance, fewer than 99 draws, or a cloud of equal rows.

    Examples:
        >>> from geometry.lattice import modes
        >>> from geometry.layouts import cycle
        >>> rng, year = np.random.default_rng(0), cycle(12)
        >>> predicted = modes(-year.distance)
        >>> length = np.abs(np.subtract.outer(*[rng.integers(3, 9, 12)] * 2))
        >>> judge_clouds([predicted.coordinates], predicted, year, {"length": length}, rng).sentence
        'shows the symmetry'
    """
    if not clouds:
        raise ShapeError("clouds: expected at least one; capture a layer first")
    points = [_cloud(cloud, at, layout) for at, cloud in enumerate(clouds)]
    orders = _orders(layout, nuisances, draws, rng)
    scores = np.column_stack([_first_mode(cloud, prediction, layout, orders) for cloud in points])
    chances = _chances(scores)
    # many places may have the least p that the shuffles can give: of those, where the score is farthest out
    out = (scores[0] - scores[1:].mean(axis=0)) / np.maximum(scores[1:].std(axis=0), 1e-12)
    at = int(np.lexsort((-out.round(6), chances))[0])
    where = at * len(points) // len(chances)
    near = [nearness(cloud) for cloud in points]
    gates = [
        Gate(
            "cloud: first mode", float(scores[0, at]), LEVEL, float(chances[at]), bool(chances[at] <= LEVEL),
            f"{scores[0, at]:.2f} at cloud {where}, p = {chances[at]:.3g} over {len(points)} clouds",
        ),
        *_round(points[where], layout),
        *_closed(near[where], layout, "cloud"),
        *_graded(near, where, layout, "cloud", rng),
        _surviving(near, where, layout, orders, nuisances, "cloud"),
    ]  # fmt: skip
    return SymmetryVerdict(tuple(gates), where=where)


def detection_rate(
    matrix: ArrayLike, layout: Layout, rng: np.random.Generator, *, share: float = 0.5, trials: int = 50
) -> float:
    """How often the first gate would find a planted symmetry.

    Nearness is mixed into the matrix with shuffled labels, so that it explains ``share`` of the variance of
    otherwise the same entries.

    Args:
        matrix: symmetric, shape (n, n).
        layout: where the items lie.
        rng: source of chance.
        share: of the variance that is planted, 0 to 1.
        trials: number of planted matrices.

    Returns:
        Share of trials with p at most .01 against 199 shuffles (or all orders), 0 to 1.

    Raises:
        ShapeError: another number of items than the layout, or all pairs are equal.

    Examples:
        >>> from geometry.layouts import line
        >>> noise = np.random.default_rng(0).standard_normal((30, 30))
        >>> detection_rate(noise + noise.T, line(30), np.random.default_rng(1), trials=10)
        1.0
    """
    matrix = square(matrix, "matrix", layout.n)
    spread = pairs_of(matrix).std()
    if spread == 0:
        raise ShapeError("matrix: all pairs of items are equal; there is nothing to plant a symmetry in")
    signal = -layout.distance / pairs_of(layout.distance).std() * np.sqrt(share)
    found = 0
    for _ in range(trials):
        order = rng.permutation(layout.n)
        planted = signal + np.sqrt(1 - share) * matrix[np.ix_(order, order)] / spread
        if np.ptp(pairs_of(planted)) < 1e-9:  # five items: a shuffled cycle can cancel the planted one
            continue
        fraction, *shuffled = shuffled_fractions(planted, layout, _with_true(other_orders(layout, 199, rng)))
        found += _null(fraction, shuffled).p <= SYMMETRIC
    return found / trials


def _orders(
    layout: Layout, nuisances: Mapping[str, ArrayLike], draws: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    if not nuisances:
        raise ShapeError(
            "nuisances: expected at least one; give nuisance_matrices(words), or nothing is ruled out"
        )
    for name, nuisance in nuisances.items():
        square(nuisance, f"nuisance {name}", layout.n)
    if draws < 99:
        raise ShapeError(f"draws: expected at least 99 shuffles, got {draws}; no p could be below .01")
    return _with_true(other_orders(layout, draws, rng))


def _with_true(orders: NDArray[np.int64]) -> NDArray[np.int64]:
    """The true order first."""
    return np.vstack([np.arange(orders.shape[1]), orders])


def _null(observed: float, shuffled: Sequence[float]) -> Null:
    """As :func:`geometry.nulls.null_of`, for orders that must tie with the true one and differ by rounding."""
    return null_of(observed - 1e-9, shuffled)


def _cloud(points: ArrayLike, at: int, layout: Layout) -> NDArray[np.float64]:
    cloud = rows(points, f"cloud {at}")
    if len(cloud) != layout.n:
        raise ShapeError(f"cloud {at}: expected {layout.n} rows, one an item, got {len(cloud)}")
    if not np.ptp(cloud, axis=0).max(initial=0.0) > 1e-12 * np.abs(cloud).max(initial=0.0):
        raise ShapeError(
            f"cloud {at}: all items are equal; leave out the layers where their texts are the same"
        )
    return cloud


def _first_mode(
    cloud: NDArray[np.float64], prediction: Modes, layout: Layout, orders: NDArray[np.int64]
) -> NDArray[np.float64]:
    aligned = shuffled_alignments(cloud, prediction, orders)
    if layout.kind != "cycle":
        return aligned[:, None]
    return np.column_stack([shuffled_first_shares(cloud, orders), aligned])


def _near(matrix: NDArray[np.float64], layout: Layout) -> Gate:
    value = monotonicity(matrix, layout)
    return Gate(
        "statistics: near is alike", value, 0.0, None, value > 0, f"Spearman {value:.2f} with nearness"
    )


def _closed(matrix: NDArray[np.float64], layout: Layout, of: str) -> list[Gate]:
    if layout.kind not in {"cycle", "line"} or layout.n < 5:
        return []
    found = periodic_or_open(matrix)
    value = found.periodic - found.open
    name = f"{of}: closed"
    if layout.kind == "line":
        name, value = f"{of}: open", -value
    because = f"partial Spearman {found.periodic:.2f} round a cycle, {found.open:.2f} along a line"
    return [Gate(name, value, 0.0, None, value > 0, because)]


def _graded(
    matrices: Sequence[NDArray[np.float64]],
    where: int,
    layout: Layout,
    of: str,
    rng: np.random.Generator,
) -> list[Gate]:
    """Does the order matter inside the two groups of neighbours that explain most? Shuffled inside them."""
    if layout.kind != "line" or layout.n < 6:
        return []
    pairs = pairs_of(matrices[where])
    cuts = range(3, layout.n - 2)
    sides = np.array([pairs_of(np.equal.outer(*[np.arange(layout.n) < cut] * 2)) for cut in cuts])
    cut = cuts[int(np.argmax([abs(np.corrcoef(side, pairs)[0, 1]) for side in sides]))]
    orders = np.tile(np.arange(layout.n), (_WITHIN, 1))
    orders = np.hstack([rng.permuted(orders[:, :cut], axis=1), rng.permuted(orders[:, cut:], axis=1)])
    found = shuffled_correlations(matrices, layout, _with_true(orders), [])
    value, p = _at(found, where)
    because = f"Spearman {value:.2f} with nearness, shuffled before and after item {cut}: p = {p:.3g}"
    return [Gate(f"{of}: graded", value, LEVEL, p, p <= LEVEL, because)]


def _round(cloud: NDArray[np.float64], layout: Layout) -> list[Gate]:
    if layout.kind != "cycle":
        return []
    value = mode_isotropy(cloud)
    return [Gate("cloud: round", value, ROUND, None, value > ROUND, f"isotropy {value:.2f}, {ROUND} needed")]


def _chances(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """P values of the first row against the others, corrected for the number of columns."""
    null = max_over(scores[0], scores[1:])
    # the correction counts both sides; what is weaker than chance shows nothing
    return np.where(scores[0] > scores[1:].mean(axis=0), null.adjusted, 1.0)


def _at(found: NDArray[np.float64], where: int) -> tuple[float, float]:
    """One score of the first row and its p value against the others, corrected if it is one of several."""
    chance = _null(found[0, 0], found[1:, 0]).p if found.shape[1] == 1 else float(_chances(found)[where])
    return float(found[0, where]), chance


def _surviving(
    matrices: Sequence[NDArray[np.float64]],
    where: int,
    layout: Layout,
    orders: NDArray[np.int64],
    nuisances: Mapping[str, ArrayLike],
    of: str,
) -> Gate:
    """The partial correlation at one of the matrices; it was chosen among all, so all are looked at."""
    name, given = f"{of}: beyond spelling and frequency", ", ".join(nuisances)
    try:
        found = shuffled_correlations(matrices, layout, orders, list(nuisances.values()))
    except ShapeError:
        return Gate(name, None, LEVEL, None, False, f"nothing is left once {given} are taken out")
    value, p = _at(found, where)
    because = f"partial Spearman {value:.2f} given {given}, p = {p:.3g}"
    return Gate(name, value, LEVEL, p, p <= LEVEL, because)
