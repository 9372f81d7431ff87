"""A planted turn is seen through huge coordinates, and leaks into quiet directions are seen in the metric."""

import numpy as np
import pytest

from geometry.checks import ShapeError
from geometry.nulls import haar_basis
from geometry.subspaces import principal_angles
from geometry.turns import turns


def planted(angle, *, huge=0.0, d=12, k=3, seed=0):
    """Covariances whose top k directions are turned by one angle out of their span, all k of them."""
    rng = np.random.default_rng(seed)
    axes = haar_basis(d, d, rng)
    values = np.r_[np.full(k, 9.0), np.ones(d - k)]
    turned = axes.copy()
    turned[:, :k] = np.cos(angle) * axes[:, :k] + np.sin(angle) * axes[:, k : 2 * k]
    turned[:, k : 2 * k] = -np.sin(angle) * axes[:, :k] + np.cos(angle) * axes[:, k : 2 * k]
    both = [(v * values) @ v.T for v in (axes, turned)]
    if huge:
        # two coordinates more, before and after, that belong to nobody
        both = [np.block([[huge * np.eye(2), np.zeros((2, d))], [np.zeros((d, 2)), c]]) for c in both]
    return both


def test_a_planted_turn_comes_back():
    found = turns(*planted(0.3), 3)
    np.testing.assert_allclose(found.raw, 0.3)
    np.testing.assert_array_equal(found.trimmed, found.raw)
    assert found.dropped == 0
    assert found.gap == found.gap_trimmed == pytest.approx(8 / 9)


def test_huge_coordinates_hide_a_turn_and_dropping_them_shows_it():
    found = turns(*planted(0.3, huge=1e5), 3)
    # two of three directions belong to the coordinates that both sides share
    np.testing.assert_allclose(found.raw, [0.3, 0.0, 0.0], atol=0.35)
    assert np.sum(found.raw < 1e-6) == 2
    np.testing.assert_allclose(found.trimmed, 0.3)
    assert found.dropped == 2
    assert found.gap < 0.01  # ties within the three: the raw subspace is arbitrary, and says so
    assert found.gap_trimmed == pytest.approx(8 / 9)


def test_a_coordinate_that_only_the_adapter_makes_huge_is_dropped_too():
    base, adapted = planted(0.0)
    adapted = adapted + np.diag(np.eye(12)[4] * 1e4)
    found = turns(base, adapted, 3)
    assert found.dropped == 1
    np.testing.assert_allclose(found.trimmed, 0.0, atol=1e-7)
    assert found.raw[0] > 0.5


def test_the_whitened_angle_is_the_angle_of_whitened_subspaces():
    base, adapted = planted(0.2, seed=1)
    shrunk = 0.7 * base + 0.3 * np.trace(base) / 12 * np.eye(12)
    values, vectors = np.linalg.eigh(shrunk)
    whiten = (vectors / np.sqrt(values)) @ vectors.T
    top = [np.linalg.eigh(c)[1][:, -3:] for c in (base, adapted)]
    expected = principal_angles(whiten @ top[0], whiten @ top[1])
    found = turns(base, adapted, 3, shrinkage=0.3)
    np.testing.assert_allclose(found.whitened, expected, rtol=1e-8)
    # tan of it grows by the ratio of the spreads in and out of the subspace
    out, within = 0.7 + 0.3 * 3, 0.7 * 9 + 0.3 * 3
    np.testing.assert_allclose(found.whitened, np.arctan(np.tan(0.2) * np.sqrt(within / out)), rtol=1e-8)
    np.testing.assert_allclose(turns(base, adapted, 3, shrinkage=1.0).whitened, found.raw, rtol=1e-8)


def test_a_rotation_that_both_sides_share_turns_nothing_but_moves_the_outliers():
    base, adapted = planted(0.3, huge=1e3)
    turn = haar_basis(14, 14, np.random.default_rng(2))
    shared = turns(turn @ base @ turn.T, turn @ adapted @ turn.T, 5)
    own = turns(base, adapted, 5)
    np.testing.assert_allclose(shared.raw, own.raw, atol=1e-7)
    np.testing.assert_allclose(shared.whitened, own.whitened, atol=1e-7)
    assert (shared.dropped, own.dropped) == (0, 2)


def test_an_identity_adapter_turns_nothing():
    base, _ = planted(0.3, huge=1e4)
    found = turns(base, base, 4)
    for angles in (found.raw, found.trimmed, found.whitened):
        np.testing.assert_allclose(angles, 0.0, atol=1e-14)


def test_what_cannot_turn_is_refused():
    base, adapted = planted(0.3, huge=1e4)
    for k in (0, 12):
        with pytest.raises(ShapeError, match=f"below the 12 coordinates kept, got {k}"):
            turns(base, adapted, k)
    with pytest.raises(ShapeError, match=r"expected \(14, 14\) like cov_base"):
        turns(base, np.eye(3), 1)
    for shrinkage in (0.0, 1.5):
        with pytest.raises(ShapeError, match="shrinkage"):
            turns(base, adapted, 1, shrinkage=shrinkage)
    with pytest.raises(ShapeError, match="do not vary at all"):
        turns(np.zeros((3, 3)), np.eye(3), 1)
