"""A collective geometry survives the loss of its own block; one made by its own words does not."""

import numpy as np
import pytest

from geometry.checks import ShapeError
from geometry.circles import fourier_profile, mode_isotropy
from geometry.latent import SeasonalCorpus
from geometry.lattice import modes
from geometry.robustness import collective_index, dimension_curve, helper_curve, thinned_pairs, zeroed_block

SEASON = SeasonalCorpus(120, (0.8,))
TARGET = 2 * (SEASON.ratio() - 1) / (SEASON.ratio() + 1)
MONTHS = list(range(0, 120, 10))


def first(points):
    return fourier_profile(points).first


def score(target):
    return first(modes(target).coordinates[MONTHS])


def test_a_zeroed_block_is_zero_and_nothing_else_changes():
    zeroed = zeroed_block(TARGET, MONTHS)
    inside = np.zeros((120, 120), dtype=bool)
    inside[np.ix_(MONTHS, MONTHS)] = True
    assert not zeroed[inside].any()
    np.testing.assert_array_equal(zeroed[~inside], TARGET[~inside])


def test_a_season_that_all_words_share_is_collective_and_a_private_one_is_not():
    assert collective_index(score(zeroed_block(TARGET, MONTHS)), score(TARGET)) > 0.9
    private = np.zeros((120, 120))
    private[np.ix_(MONTHS, MONTHS)] = TARGET[np.ix_(MONTHS, MONTHS)]
    rng = np.random.default_rng(0)
    noise = 1e-3 * rng.standard_normal((120, 120))
    private += noise + noise.T
    assert collective_index(score(zeroed_block(private, MONTHS)), score(private)) < 0.6


def test_more_helpers_restore_the_circle():
    curve = helper_curve(TARGET, MONTHS, mode_isotropy, [2, 12, 100], np.random.default_rng(0))
    assert curve.at == (2, 12, 100)
    assert curve.mean[0] < curve.mean[1] < curve.mean[2] and curve.mean[2] > 0.9
    assert all(low <= mean <= high for low, mean, high in zip(curve.low, curve.mean, curve.high, strict=True))


def test_a_curve_over_dimensions_sees_the_leading_columns():
    points = np.arange(12.0).reshape(3, 4)
    curve = dimension_curve(points, lambda x: float(x.shape[1]), [1, 4])
    assert curve.mean == (1.0, 4.0) == curve.low == curve.high


def test_thinned_pairs_keep_the_stated_share_and_stay_symmetric():
    rng = np.random.default_rng(1)
    counts = np.full((30, 30), 1000)
    thinned = thinned_pairs(counts, range(10), 0.3, rng)
    np.testing.assert_array_equal(thinned, thinned.T)
    assert thinned[:10, :10].mean() == pytest.approx(300, rel=0.02)
    assert np.all(thinned[10:] == 1000)
    np.testing.assert_array_equal(thinned_pairs(counts, range(10), 1.0, rng), counts)


def test_what_cannot_be_taken_away_is_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(ShapeError, match="distinct indices below 2"):
        zeroed_block(np.eye(2), [2])
    with pytest.raises(ShapeError, match="nothing that could be kept"):
        collective_index(0.5, 0.0)
    with pytest.raises(ShapeError, match="whole numbers"):
        thinned_pairs([[0.5]], [0], 0.5, rng)
    with pytest.raises(ShapeError, match="probability"):
        thinned_pairs([[1]], [0], 1.5, rng)
    with pytest.raises(ShapeError, match="1 to 2, got 3"):
        dimension_curve(np.eye(2), first, [3])
    with pytest.raises(ShapeError, match="1 to 108, got 109"):
        helper_curve(TARGET, MONTHS, first, [109], rng)
