"""Looking at many layers costs what it should: the level is kept, and a real outlier is still found."""

import dataclasses
import json

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from geometry.checks import ShapeError
from geometry.familywise import max_over
from geometry.nulls import null_of, p_two_sided


def correlated(rng, rows, layers, *, draw):
    """Rows whose layers depend on each other, each layer in its own units."""
    noise = draw(rng, (rows, layers + 3))
    smooth = sum(noise[:, i : i + layers] for i in range(4))
    return smooth * np.logspace(-3, 3, layers) + np.linspace(-1e3, 1e3, layers)


DRAWS = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "heavy tails": lambda rng, shape: rng.standard_t(1.5, shape),
    "skewed": lambda rng, shape: rng.lognormal(sigma=1.5, size=shape),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
@pytest.mark.parametrize("n", [4, 9])
def test_the_level_is_exact_for_any_distribution_and_any_dependence(draw, n):
    rng = np.random.default_rng(n)
    studies = 800
    p = np.empty(studies)
    for i in range(studies):
        x = correlated(rng, n + 1, 12, draw=draw)
        p[i] = max_over(x[0], x[1:]).p
    # without ties the rank of the observed row is uniform: each of the n + 1 values of p is equally likely
    counts = np.bincount(np.rint(p * (n + 1)).astype(int), minlength=n + 2)[1:]
    assert counts.sum() == studies
    assert scipy.stats.chisquare(counts).pvalue > 1e-4


def test_it_keeps_silent_where_layers_one_by_one_would_speak():
    rng = np.random.default_rng(0)
    studies, layers, n = 400, 24, 39
    single, best, normal = 0, 0, 0
    for _ in range(studies):
        x = rng.standard_normal((n + 1, layers))
        single += min(p_two_sided(o, s) for o, s in zip(x[0], x[1:].T, strict=True)) <= 0.05
        found = max_over(x[0], x[1:])
        best += found.p <= 0.05
        normal += found.p_normal <= 0.05
    # 1 - 0.95 ** 24 = 0.71 of all studies of nothing show a layer
    assert single / studies > 0.55
    for rejected in (best, normal):
        assert abs(rejected / studies - 0.05) < 4 * np.sqrt(0.05 * 0.95 / studies)


def test_one_real_layer_among_many_is_found_and_no_other():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((40, 24))
    x[0, 7] -= 12.0
    found = max_over(x[0], x[1:])
    assert (found.where, found.p, found.n) == (7, 1 / 40, 39)
    assert found.t < -8
    assert found.p_normal < 1e-6
    assert [layer for layer, p in enumerate(found.adjusted) if p <= 0.05] == [7]
    assert json.loads(json.dumps(dataclasses.asdict(found)))["where"] == 7


def test_each_row_is_studentised_against_all_others():
    x = np.random.default_rng(2).standard_normal((6, 3))
    slow = np.array([
        [
            (x[i, l] - np.delete(x[:, l], i).mean())
            / (np.delete(x[:, l], i).std(ddof=1) * np.sqrt(1 + 1 / 5))
            for l in range(3)
        ]
        for i in range(6)
    ])
    found = max_over(x[0], x[1:])
    assert found.t == pytest.approx(slow[0, found.where])
    assert found.p == np.mean(np.abs(slow).max(axis=1) >= np.abs(slow[0]).max())
    for layer in range(3):
        assert found.adjusted[layer] == np.mean(np.abs(slow).max(axis=1) >= abs(slow[0, layer]))


def test_one_layer_is_a_null_of_its_own():
    samples = np.random.default_rng(3).standard_normal(9)
    for observed in (0.3, 2.5, -4.0):
        found = max_over([observed], samples[:, None])
        null = null_of(observed, samples)
        assert abs(found.t) == pytest.approx(
            abs(observed - null.mean) / (null.band[1] - null.mean) * scipy.stats.t(8).ppf(0.975)
        )
        assert (found.p_normal < 0.05) == (null.verdict() != "not distinguishable")


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(2, 12),
    layers=st.integers(1, 8),
    scale=st.sampled_from([1e-3, 1.0, 1e3]),
)
def test_units_order_and_sign_of_the_layers_do_not_matter(seed, n, layers, scale):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n + 1, layers))
    found = max_over(x[0], x[1:])
    assert 1 / (n + 1) <= found.p == min(found.adjusted) <= 1
    assert 0 < found.p_normal <= 1
    units = scale * rng.uniform(0.5, 2, layers) * rng.choice([-1, 1], layers)
    order = rng.permutation(layers)
    y = (x * units)[:, order]
    again = max_over(y[0], y[1:])
    assert order[again.where] == found.where
    assert again.p == found.p
    assert np.array(again.adjusted).tolist() == np.array(found.adjusted)[order].tolist()


def test_rounding_is_no_outlier_and_a_null_without_spread_is():
    assert max_over([0.1 + 0.2, 0.0], [[0.3, 0.0]] * 9).p == 1.0
    found = max_over([0.3001, 0.0], [[0.3, 0.0]] * 9)
    assert (found.where, found.p) == (0, 0.1)
    assert np.isfinite(found.t)
    # three tied counts have no spread to be normal with
    assert found.p_normal == max_over([9.0], [[8.0]] * 3).p_normal == 1.0


def test_rows_that_do_not_fit_are_refused():
    with pytest.raises(ShapeError, match=r"at least 2 rows \(n, L\), got \(1, 2\)"):
        max_over([0.0, 1.0], [[0.0, 1.0]])
    with pytest.raises(ShapeError, match=r"observed: expected \(n, 3\), got \(1, 2\)"):
        max_over([0.0, 1.0], np.zeros((4, 3)))
    with pytest.raises(ShapeError, match="one number for each"):
        max_over(np.zeros((2, 3)), np.zeros((4, 3)))
    with pytest.raises(ShapeError, match="one number for each"):
        max_over([], np.zeros((4, 0)))
    with pytest.raises(ShapeError, match="samples: holds NaN"):
        max_over([0.0], [[0.0], [np.nan]])
