"""Spread of attention rows: theorems, and the slow obvious way as oracle."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geometry.checks import ShapeError
from geometry.dispersion import (
    RowSums,
    chain_rule,
    distance_edges,
    gaussian_entropy,
    least_entropy,
    log_odds,
    log_slope,
    merged,
    part_entropy,
    row_sums,
    spread,
)


def obvious(s):
    s = s[np.isfinite(s)]
    p = np.exp(s - s.max())
    p /= p.sum()
    mean = (p * s).sum()
    return {
        "visible": len(s),
        "log_z": np.log(np.exp(s - s.max()).sum()) + s.max(),
        "entropy": -(p[p > 0] * np.log(p[p > 0])).sum(),
        "participation": 1 / (p * p).sum(),
        "largest": p.max(),
        "sensitivity": (p * (s - mean) ** 2).sum(),
        "logit_mean": s.mean(),
        "logit_variance": s.var(),
    }


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(2, 60), st.floats(0.1, 300))
def test_any_split_gives_what_the_whole_row_gives(seed, n, sd):
    rng = np.random.default_rng(seed)
    s = rng.normal(scale=sd, size=n) + rng.normal(scale=100)
    s[rng.random(n) < 0.2] = -np.inf
    s[rng.integers(n)] = 0.0
    cut = int(rng.integers(1, n))
    halves = row_sums(s[:cut]).merge(row_sums(s[cut:]))
    for sums in (row_sums(s), halves, row_sums(s[cut:]).merge(row_sums(s[:cut]))):
        found = spread(sums)
        for name, value in obvious(s).items():
            assert np.isclose(getattr(found, name), value, rtol=1e-9, atol=1e-9 * sd**2), name


def test_many_parts_merge_at_once_in_any_order():
    rng = np.random.default_rng(0)
    s = rng.normal(size=(5, 12, 7)) * 3
    parts = row_sums(s)
    order = rng.permutation(12)
    shuffled = RowSums(*(part[:, order] for part in vars(parts).values()))
    whole = spread(row_sums(s.reshape(5, -1)))
    for found in (spread(merged(parts)), spread(merged(shuffled))):
        for name, value in vars(whole).items():
            np.testing.assert_allclose(getattr(found, name), value, rtol=1e-10, err_msg=name)


def test_a_row_that_sees_nothing_is_zero_and_says_nothing_in_a_merge():
    nothing = row_sums(np.full(4, -np.inf))
    assert all(value == 0 for value in vars(spread(nothing)).values())
    some = row_sums([-50.0, -51.0])
    for sums in (nothing.merge(some), some.merge(nothing)):
        assert spread(sums).entropy == pytest.approx(float(spread(some).entropy), abs=1e-14)
        assert spread(sums).visible == 2


def test_the_chain_rule_holds_for_any_parts():
    s = np.random.default_rng(1).normal(scale=4, size=100)
    group = np.random.default_rng(2).integers(0, 5, 100)
    parts = [row_sums(s[group == g]) for g in range(5)]
    z = np.array([np.exp(part.shift) * part.z for part in parts])
    inner = np.array([part_entropy(part.z, part.u) for part in parts])
    assert chain_rule(z / z.sum(), inner) == pytest.approx(float(spread(row_sums(s)).entropy), abs=1e-12)


def test_a_sink_that_holds_nearly_everything_leaves_the_rest_its_digits():
    s = np.concatenate([[60.0], np.random.default_rng(0).normal(size=500)])
    rest = row_sums(s[1:] - 60.0)
    assert part_entropy(rest.z, rest.u) == pytest.approx(obvious(s[1:])["entropy"], abs=1e-12)
    sink = row_sums(s[:1])
    odds = log_odds(sink.z, np.exp(rest.shift) * rest.z)
    assert odds == pytest.approx(60.0 - obvious(s[1:])["log_z"], abs=1e-10)
    assert log_odds([0.0, 1.0, 0.0], [1.0, 0.0, 0.0]).tolist() == [-np.inf, np.inf, 0.0]


@pytest.mark.parametrize(("sd", "slope"), [(1, 0.999), (2, 0.956), (3, 0.718)])
def test_gaussian_logits_dilute_by_less_than_the_uniform_ones_though_nothing_is_in_focus(sd, slope):
    """Why a slope below 1 proves nothing by itself; H follows the formula while the spread is small."""
    rng, n = np.random.default_rng(0), np.array([512, 2048, 8192])
    h = [spread(row_sums(rng.normal(scale=sd, size=(800, k)))).entropy.mean() for k in n]
    assert log_slope(n, h) == pytest.approx(slope, abs=0.02)
    if sd < 3:
        assert h[-1] == pytest.approx(float(gaussian_entropy(n[-1], sd)), abs=0.03)
    else:
        assert h[-1] > gaussian_entropy(n[-1], sd) + 0.2, "past freezing the formula must fail"


def test_a_fixed_gap_loses_its_needle_at_slope_minus_one():
    rng, m, gap = np.random.default_rng(0), 8, 6.0
    n, needles = np.array([512, 2048, 8192, 32768]), rng.normal(size=(60, m)) + gap
    found = []
    for k in n:  # the same needles in longer and longer haystacks
        haystacks = [np.exp(rng.normal(size=k - m)).sum() for _ in needles]
        found.append(log_odds(np.exp(needles).sum(axis=1), haystacks).mean())
    assert log_slope(n, found) == pytest.approx(-1, abs=0.02)


def test_a_bounded_range_of_logits_cannot_stay_focused():
    s = np.random.default_rng(0).uniform(-1, 1, size=(50, 4096))
    found = spread(row_sums(s))
    assert (found.entropy >= least_entropy(4096, 2.0)).all()
    assert least_entropy(4, 100.0) == 0


def test_distance_buckets_are_powers_of_two_and_hold_every_distance():
    assert distance_edges(1).tolist() == [0]
    for length in (2, 3, 17, 1024, 1025):
        edges = distance_edges(length)
        assert edges[-1] <= length - 1 < 2 * max(edges[-1], 1)


def test_impossible_rows_are_refused_in_one_line():
    for bad in ([], [np.nan, 1.0], [np.inf]):
        with pytest.raises(ShapeError, match="logits"):
            row_sums(bad)
    with pytest.raises(ShapeError, match="not above 0"):
        log_slope([0, 2], [1.0, 2.0])
    with pytest.raises(ShapeError, match="two different"):
        log_slope([4, 4], [1.0, 2.0])
