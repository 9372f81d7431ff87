"""Fast nulls equal the scores that they stand for; orders are all there; p values are uniform where they must be."""

import itertools

import numpy as np
import pytest

from geometry.checks import ShapeError
from geometry.circles import fourier_profile
from geometry.label_nulls import (
    count_orders,
    frequency_matched,
    other_orders,
    shuffled,
    shuffled_alignments,
    shuffled_correlations,
    shuffled_first_shares,
    shuffled_fractions,
    spectrum_matched,
)
from geometry.lattice import exponential, modes, wrapped
from geometry.layouts import cycle, grid, line, pairs_of
from geometry.mode_match import mode_alignment
from geometry.nulls import null_of
from geometry.rsa import nuisance_ranks, partial_correlation, partial_rsa, ranks
from geometry.symmetry import symmetry_fraction


def noise(n, rng):
    m = rng.standard_normal((n, n))
    return m + m.T


def reordered(matrix, order):
    return matrix[np.ix_(order, order)]


def test_the_number_of_distinct_orders():
    assert [count_orders(layout) for layout in (cycle(7), cycle(8), line(5), grid((2, 2)))] == [
        360,
        2520,
        60,
        24,
    ]


@pytest.mark.parametrize("layout", [cycle(6), line(5)])
def test_enumerated_orders_are_all_and_different(layout):
    """Every permutation gives one of the enumerated distance matrices, and no two of those are equal."""
    orders = [np.arange(layout.n), *other_orders(layout, 2, np.random.default_rng(0))]
    seen = {reordered(layout.distance, np.argsort(order)).tobytes() for order in orders}
    every = {
        reordered(layout.distance, np.argsort(order)).tobytes()
        for order in itertools.permutations(range(layout.n))
    }
    assert len(seen) == len(orders) == count_orders(layout) and seen == every


def test_three_of_the_360_orders_of_a_week_are_wholly_circulant():
    week = cycle(7)
    kernel = wrapped(exponential(2), 7)(week.distance)
    found = shuffled_fractions(kernel, week, other_orders(week, 2, np.random.default_rng(0)))
    null = null_of(1.0 - 1e-9, found)
    assert null.p == pytest.approx(3 / 360) and null.n == 359


def test_many_items_are_sampled():
    orders = other_orders(cycle(12), 50, np.random.default_rng(0))
    assert orders.shape == (50, 12) and np.all(np.sort(orders, axis=1) == np.arange(12))
    assert len({tuple(order) for order in orders}) == 50


@pytest.mark.parametrize("layout", [cycle(12), line(9), grid((3, 4))])
def test_fast_nulls_are_the_slow_scores(layout):
    rng = np.random.default_rng(0)
    matrix, z = noise(layout.n, rng), noise(layout.n, rng)
    points = rng.standard_normal((layout.n, 20)) + 1
    predicted = modes(exponential(2)(layout.distance) + 0.01 * layout.distance)
    orders = other_orders(layout, 20, rng)[:20]
    np.testing.assert_allclose(
        shuffled_fractions(matrix, layout, orders),
        shuffled(lambda o: symmetry_fraction(reordered(matrix, o), layout).value, orders),
    )
    np.testing.assert_allclose(
        shuffled_correlations([z, matrix], layout, orders, [])[:, 1],
        shuffled(lambda o: partial_rsa(reordered(matrix, o), -layout.distance, []), orders),
        atol=1e-12,
    )
    np.testing.assert_allclose(
        shuffled_first_shares(points, orders), shuffled(lambda o: fourier_profile(points[o]).first, orders)
    )
    np.testing.assert_allclose(
        shuffled_alignments(points, predicted, orders),
        shuffled(lambda o: mode_alignment(points[o], predicted).pairs[0], orders),
    )
    true, ranked = np.arange(layout.n)[None], np.zeros_like(z)
    ranked[np.triu_indices(layout.n, 1)] = ranks(pairs_of(z)) - (layout.n * (layout.n - 1) / 2 + 1) / 2
    squares = (ranked + ranked.T) ** 2
    given = nuisance_ranks([z], layout.n)
    given = np.hstack([given, pairs_of(squares)[:, None]])
    expected = partial_correlation(ranks(pairs_of(matrix)), ranks(-pairs_of(layout.distance)), given)
    assert shuffled_correlations([matrix], layout, true, [z])[0, 0] == pytest.approx(expected)


def test_blocks_of_orders_change_nothing(monkeypatch):
    rng = np.random.default_rng(1)
    layout, matrix = cycle(12), noise(12, rng)
    orders = other_orders(layout, 33, rng)
    whole = shuffled_fractions(matrix, layout, orders)
    monkeypatch.setattr("geometry.label_nulls._BLOCK", 200)
    np.testing.assert_allclose(shuffled_fractions(matrix, layout, orders), whole)


def test_p_values_of_shuffled_sets_are_at_their_level():
    """A symmetric matrix with shuffled labels: 5 % of 500 sets have p at most .05, for every statistic."""
    rng = np.random.default_rng(2)
    layout = cycle(12)
    kernel = wrapped(exponential(4.2), 12)(layout.distance)
    predicted = modes(kernel)
    rejected = np.zeros(4)
    for _ in range(500):
        order = rng.permutation(12)
        matrix, z = reordered(kernel, order) + 0.1 * noise(12, rng), noise(12, rng)
        points = predicted.coordinates[order] @ rng.standard_normal((11, 30))
        orders = other_orders(layout, 99, rng)
        every = np.vstack([np.arange(12), orders])
        found = [
            shuffled_fractions(matrix, layout, every),
            shuffled_correlations([matrix], layout, every, [z])[:, 0],
            shuffled_first_shares(points, every),
            shuffled_alignments(points, predicted, every),
        ]
        rejected += [null_of(values[0], values[1:]).p <= 0.05 for values in found]
    # 500 x .05 = 25, standard deviation 4.9
    assert np.all((rejected >= 11) & (rejected <= 39)), rejected


def test_nearness_that_a_nuisance_explains_is_not_found_too_often():
    """Nuisance and nearness go together, and the matrix follows the nuisance alone, not linearly in ranks."""
    rng = np.random.default_rng(3)
    layout, rejected = line(30), 0
    for _ in range(200):
        logs = layout.targets[:, 0] + 0.4 * rng.standard_normal(30)
        z = np.abs(np.subtract.outer(logs, logs))
        found = shuffled_correlations(
            [-z + 0.3 * noise(30, rng)],
            layout,
            np.vstack([np.arange(30), other_orders(layout, 99, rng)]),
            [z],
        )
        rejected += null_of(found[0, 0], found[1:, 0]).p <= 0.05
    assert rejected <= 20  # 10 expected, standard deviation 3.1


def test_spectrum_matched_clouds_keep_the_spectrum_and_lose_the_shape():
    rng = np.random.default_rng(4)
    points = modes(wrapped(exponential(4.2), 12)(cycle(12).distance)).coordinates + 3
    clouds = [spectrum_matched(points, rng) for _ in range(300)]
    for cloud in clouds[:3]:
        np.testing.assert_allclose(
            np.linalg.svd(cloud, compute_uv=False),
            np.linalg.svd(points - points.mean(axis=0), compute_uv=False),
        )
        np.testing.assert_allclose(cloud.mean(axis=0), 0, atol=1e-12)
    assert np.mean([fourier_profile(cloud).first for cloud in clouds]) == pytest.approx(2 / 11, abs=0.02)


def test_matched_words_have_the_frequencies_of_the_members():
    rng = np.random.default_rng(5)
    logs = np.sort(rng.normal(size=5000))
    members = rng.choice(5000, 30, replace=False)
    found = frequency_matched(members, logs, rng)
    assert len(set(found)) == 30 and not set(found) & set(members)
    inside = (members > 50) & (members < 4950)
    assert np.abs(logs[found] - logs[members])[inside].max() < 0.1


def test_nulls_that_cannot_be_drawn_are_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(ShapeError, match="at least 2 shuffles"):
        other_orders(cycle(12), 1, rng)
    with pytest.raises(ShapeError, match="have one order"):
        other_orders(cycle(3), 99, rng)
    with pytest.raises(ShapeError, match="at least 2 items"):
        spectrum_matched(np.ones((1, 4)), rng)
    with pytest.raises(ShapeError, match="distinct indices"):
        frequency_matched([0, 0], [1.0, 2.0, 3.0, 4.0], rng)
    with pytest.raises(ShapeError, match="too few to match"):
        frequency_matched([0, 1], [1.0, 2.0, 3.0], rng)
    with pytest.raises(ShapeError, match="nothing is left"):
        shuffled_correlations([noise(5, rng)], line(5), np.arange(5)[None], [line(5).distance])
