"""Simulated heads: those that dilute, those that scale their scores, and what the bounds promise of both."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geometry.checks import ShapeError
from geometry.dispersion import log_slope, part_entropy, row_sums, spread
from geometry.focus import (
    ends_over_middle,
    lift,
    needed_gap,
    odds_slope,
    output_change_bound,
    position_slope,
    retrieval_score,
    rival_margin,
    sink_share,
    subset_slope,
)  # fmt: skip

LENGTHS = np.array([512, 2048, 8192, 32768])


def softmax(s):
    p = np.exp(s - s.max())
    return p / p.sum()


def simulated_odds(gap_of, rng, relevant=8):
    """One prompt: the needle is the same at every length, what hides it is drawn anew."""
    found, needle = [], rng.normal(size=relevant)
    for n in LENGTHS:
        s = rng.normal(size=n)
        s[:relevant] = needle + gap_of(n)
        p = softmax(s)
        found.append(np.log(p[:relevant].sum() / p[relevant:].sum()))
    return found


@pytest.mark.parametrize("gap", [2.0, 5.0, 8.0])
def test_a_fixed_gap_dilutes_with_slope_minus_one(gap):
    rng = np.random.default_rng(0)
    odds = [simulated_odds(lambda _: gap, rng) for _ in range(200)]
    slopes = odds_slope(LENGTHS, 8, odds)
    assert slopes.mean() == pytest.approx(-1.0, abs=0.02)


def test_a_gap_that_grows_with_log_n_does_not_dilute():
    rng = np.random.default_rng(1)
    odds = [simulated_odds(lambda n: 1.0 + np.log(n), rng) for _ in range(200)]
    assert odds_slope(LENGTHS, 8, odds).mean() == pytest.approx(0.0, abs=0.02)


@pytest.mark.parametrize("mass", [0.1, 0.5, 0.9])
def test_the_needed_gap_is_just_enough(mass):
    n, m = 5000, 8
    s = np.zeros(n)
    s[:m] = needed_gap(n, m, mass)
    assert softmax(s)[:m].sum() == pytest.approx(mass)


@pytest.mark.parametrize(("sd", "slope"), [(1.0, 0.999), (2.0, 0.956), (3.0, 0.718)])
def test_gaussian_logits_have_the_known_slopes_which_their_own_subsets_tell(sd, slope):
    """Reference slopes: an independent simulation over n = 512 to 16,384."""
    rng = np.random.default_rng(2)
    lengths = np.array([512, 1024, 2048, 4096, 8192, 16384])
    across, within = [], []
    for _ in range(60):
        across.append([float(spread(row_sums(rng.normal(0, sd, n))).entropy) for n in lengths])
        row = rng.normal(0, sd, 16384)
        subsets = [row_sums(row[: 16384 >> level]) for level in range(6)]
        within.append([float(part_entropy(s.z, s.u)) for s in subsets])
    measured = position_slope(lengths, np.mean(across, axis=0))
    null = subset_slope((16384 >> np.arange(6))[None], np.mean(within, axis=0)[None])
    assert float(measured) == pytest.approx(slope, abs=0.03)
    assert float(null) == pytest.approx(float(measured), abs=0.06)


def test_a_head_that_looks_at_a_fixed_number_of_keys_is_below_its_null():
    n = np.unique(np.geomspace(64, 4096, 40).astype(int))
    focused = np.full((2, len(n)), np.log(8.0))
    assert position_slope(n, focused) == pytest.approx([0.0, 0.0], abs=1e-12)
    # eight keys, halved at random with all others, are four: the null sees dilution where there is none
    assert float(subset_slope([[1024, 512, 256]], np.log([[8, 4, 2]]))) == pytest.approx(1.0)


def test_rows_that_see_little_are_left_out():
    n = np.array([1, 2, 4, 100, 1000])
    h = np.array([9.0, 9.0, 9.0, *np.log([100, 1000])])
    assert float(position_slope(n, h)) == pytest.approx(1.0)
    assert float(log_slope(n, h)) < 0
    with pytest.raises(ShapeError, match="none sees 64 keys"):
        position_slope([1, 2], [0.0, 0.1])
    with pytest.raises(ShapeError, match="no smallest subset has 64 keys"):
        subset_slope([[128, 32]], [[1.0, 0.5]])
    with pytest.raises(ShapeError, match="two different"):
        position_slope([100, 100], [0.0, 0.1])


@given(st.integers(0, 10_000), st.integers(1, 5), st.floats(-3, 6))
def test_the_repaired_bound_holds_and_the_printed_one_may_not(seed, m, gap):
    rng = np.random.default_rng(seed)
    n, d = 40, 6
    scores, values = rng.normal(size=n), rng.normal(size=(n, d))
    changed, other = scores.copy(), values.copy()
    scores[:m] += gap
    changed[:m], other[:m] = rng.normal(size=m), rng.normal(size=(m, d))
    p, q = softmax(scores), softmax(changed)
    norms = np.linalg.norm(values, axis=1), np.linalg.norm(other, axis=1)
    bound = output_change_bound(
        p[:m].sum(), q[:m].sum(), max(norms[0][:m].max(), norms[1][:m].max()), norms[0][m:].max()
    )
    assert np.linalg.norm(p @ values - q @ other) <= bound * (1 + 1e-12)


def test_without_its_second_term_the_bound_fails():
    """Needle values of 0: all change of the output comes from the weights that the other keys gain."""
    values = np.array([[0.0], [1.0]])
    p, q = softmax(np.array([5.0, 0.0])), softmax(np.array([-5.0, 0.0]))
    moved = abs(float((p @ values - q @ values)[0]))
    assert moved > 0.9
    assert output_change_bound(p[0], q[0], 0.0, 0.0) < moved <= output_change_bound(p[0], q[0], 0.0, 1.0)


def test_even_attention_has_lift_one_and_what_is_not_seen_none():
    assert lift(np.full(3, 0.01), 10, 1000).tolist() == [1.0, 1.0, 1.0]
    assert lift(0.0, 0, 1000) == 0.0


@given(st.floats(-4, 4), st.integers(1, 9), st.integers(1, 30))
def test_the_margin_over_rivals_is_that_of_their_logits_whatever_else_is_in_sight(margin, m, k):
    rng = np.random.default_rng(0)
    s = np.concatenate([np.full(m, 1.0 + margin), np.full(k, 1.0), rng.normal(size=50) * 3])
    p = softmax(s)
    found = rival_margin(p[:m].sum(), p[m : m + k].sum(), m, k)
    assert float(found) == pytest.approx(margin, abs=1e-9)


def test_primacy_and_recency_of_a_u_and_of_a_flat_curve():
    primacy, recency = ends_over_middle([[0.8, 0.5, 0.5, 0.9], [0.5, 0.5, 0.5, 0.5]])
    assert primacy == pytest.approx([0.3, 0.0])
    assert recency == pytest.approx([0.4, 0.0])
    with pytest.raises(ShapeError, match="need a middle"):
        ends_over_middle([0.1, 0.2])


def test_a_copying_head_scores_one_and_no_row_is_refused():
    assert retrieval_score(np.array([[3, 4], [4, 3]]), [3, 4]).tolist() == [1.0, 0.0]
    assert sink_share([[0.31, 0.29], [0.0, 0.1]]).tolist() == [0.5, 0.0]
    with pytest.raises(ShapeError, match="nothing could be copied"):
        retrieval_score([[]], [])
