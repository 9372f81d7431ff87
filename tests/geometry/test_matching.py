"""A set matches itself, however it is turned and scaled; random directions follow the covariance."""

import numpy as np
import pytest

from geometry.checks import ShapeError
from geometry.matching import best_matches, shaped_directions

RNG = np.random.default_rng(0)


def test_a_set_matches_its_own_permutation_and_rescaling():
    ours = RNG.normal(size=(20, 6))
    theirs = (ours * RNG.uniform(0.5, 2.0, size=(20, 1)))[RNG.permutation(20)]
    assert np.allclose(best_matches(ours, theirs), 1.0)
    assert (best_matches(ours, -theirs) < 0.999).all()


def test_the_same_turn_of_both_sets_changes_nothing():
    ours, theirs = RNG.normal(size=(8, 5)), RNG.normal(size=(12, 5))
    turn = np.linalg.qr(RNG.normal(size=(5, 5)))[0]
    assert np.allclose(best_matches(ours, theirs), best_matches(ours @ turn, theirs @ turn))


def test_more_candidates_match_better():
    ours, theirs = RNG.normal(size=(50, 8)), RNG.normal(size=(400, 8))
    assert (best_matches(ours, theirs) >= best_matches(ours, theirs[:20])).all()
    assert best_matches(ours, theirs).mean() > best_matches(ours, theirs[:20]).mean() + 0.1


def test_random_directions_lie_where_the_covariance_is():
    turn = np.linalg.qr(RNG.normal(size=(4, 4)))[0]
    drawn = shaped_directions(turn @ np.diag([9.0, 1.0, 0.0, 0.0]) @ turn.T, 4000, np.random.default_rng(1))
    energy = np.square(drawn @ turn).mean(axis=0)
    # E x1^2 / (x1^2 + x2^2) of two normals with deviations 3 and 1 is 3 / (3 + 1)
    assert energy == pytest.approx([0.75, 0.25, 0.0, 0.0], abs=0.02)
    assert np.allclose(np.linalg.norm(drawn, axis=1), 1.0)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ShapeError, match="width"):
        best_matches(np.eye(3), np.eye(4))
    with pytest.raises(ShapeError, match="length 0"):
        best_matches(np.eye(3), np.zeros((1, 3)))
    with pytest.raises(ShapeError, match="square"):
        shaped_directions(np.ones((2, 3)), 4, RNG)
