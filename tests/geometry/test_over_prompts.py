"""Intervals that cover, flips that keep their level, and discoveries that hold the share of false ones."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geometry.checks import ShapeError
from geometry.over_prompts import discoveries, flipped_signs, mean_over_prompts, share_of_prompts


@pytest.mark.parametrize("prompts", [3, 8, 30])
def test_intervals_of_means_cover_in_95_of_100_worlds(prompts):
    x = np.random.default_rng(0).normal(2.0, 3.0, size=(prompts, 4000))
    found = mean_over_prompts(x)
    covered = ((found.low <= 2.0) & (found.high >= 2.0)).mean()
    assert abs(covered - 0.95) < 0.015
    assert found.n == prompts


@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
def test_intervals_of_shares_cover_about_95_of_100_worlds_also_near_the_ends(share):
    hits = np.random.default_rng(1).random((20, 4000)) < share
    found = share_of_prompts(hits)
    assert ((found.low <= share) & (found.high >= share)).mean() > 0.92
    assert (found.low >= -1e-12).all() and (found.high <= 1 + 1e-12).all()
    assert (found.low <= found.value).all() and (found.value <= found.high).all()


def test_one_prompt_has_no_interval():
    found = mean_over_prompts([[1.0, 2.0]])
    assert found.value.tolist() == [1.0, 2.0]
    assert np.isnan(found.low).all() and np.isnan(found.high).all()
    assert found.record()["n"] == 1


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=7))
def test_flips_of_few_prompts_are_all_of_them(differences):
    x = np.array(differences)
    means = [
        abs(sum(s * d for s, d in zip(signs, x, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(x))
    ]
    expected = np.mean([mean >= abs(x.sum()) * (1 - 1e-9) for mean in means])
    p = flipped_signs(x, 10, np.random.default_rng(0))
    assert p == pytest.approx(expected)
    assert p >= 2 / 2 ** len(x) - 1e-12


@pytest.mark.parametrize("prompts", [9, 25])
def test_flips_keep_their_level_and_find_what_is_there(prompts):
    rng = np.random.default_rng(2)
    null = flipped_signs(rng.standard_t(3, size=(prompts, 2000)), 400, rng)
    assert (null <= 0.05).mean() <= 0.065
    assert (flipped_signs(rng.normal(2.0, 1.0, size=(prompts, 50)), 400, rng) <= 0.05).mean() > 0.95


def test_discoveries_hold_the_share_of_false_ones_and_find_nearly_all_that_is_there():
    rng = np.random.default_rng(3)
    false, found = [], []
    for _ in range(300):
        p = np.concatenate([rng.random(80), rng.beta(1, 2000, 20)]).reshape(10, 10)
        picked = discoveries(p, 0.1).ravel()
        false.append(picked[:80].sum() / max(1, picked.sum()))
        found.append(picked[80:].mean())
    assert np.mean(false) < 0.1
    assert np.mean(found) > 0.9


def test_discoveries_are_none_where_there_is_nothing():
    assert not discoveries([0.2, 0.9]).any()
    assert discoveries(np.zeros((2, 3))).all()
    assert discoveries(np.zeros(0)).shape == (0,)


@pytest.mark.parametrize("values", [[], 1.0, [np.nan], [[1.0], [np.inf]]])
@pytest.mark.parametrize(
    "ask", [mean_over_prompts, share_of_prompts, lambda x: flipped_signs(x, 5, np.random.default_rng(0))]
)
def test_what_is_no_number_of_each_prompt_is_refused(ask, values):
    with pytest.raises(ShapeError, match="prompts"):
        ask(values)


def test_other_wrong_numbers_are_refused():
    with pytest.raises(ShapeError, match="0 and 1 alone"):
        share_of_prompts([0.5])
    with pytest.raises(ShapeError, match="at least one flip"):
        flipped_signs([1.0], 0, np.random.default_rng(0))
    for p in ([-0.1], [1.1], [np.nan]):
        with pytest.raises(ShapeError, match="from 0 to 1"):
            discoveries(p)
