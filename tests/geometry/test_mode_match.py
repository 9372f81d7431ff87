"""Planted modes align, random clouds are at chance, and a rotation inside a degenerate pair changes nothing."""

import numpy as np
import pytest

from geometry.checks import ShapeError
from geometry.lattice import cycle_modes, exponential, modes, wrapped
from geometry.layouts import cycle, line
from geometry.mode_match import (
    mode_alignment,
    paired_shares,
    principal_coordinates,
    procrustes,
    spectrum_match,
)

YEAR = cycle_modes(wrapped(exponential(4.2), 12)(cycle(12).distance)[0])
MONTHS = np.array([0.50, 0.26, 0.12, 0.08, 0.03, 0.01])  # of English Wikipedia, by pairs of |eigenvalues|


def rotation(d, rng):
    return np.linalg.qr(rng.standard_normal((d, d)))[0]


def test_predicted_modes_align_wholly_also_when_pairs_are_turned():
    found = mode_alignment(YEAR.coordinates @ rotation(11, np.random.default_rng(0)), YEAR)
    np.testing.assert_allclose(found.pairs, 1)
    np.testing.assert_allclose(found.cumulative, 1)
    assert found.ends == (2, 4, 6, 8, 10, 11) and found.area == pytest.approx(1)
    turned = YEAR.coordinates.copy()
    turned[:, :2] = turned[:, :2] @ rotation(2, np.random.default_rng(1))
    np.testing.assert_allclose(mode_alignment(turned, YEAR).pairs, 1)


def test_random_clouds_align_by_chance():
    rng = np.random.default_rng(0)
    found = [mode_alignment(rng.standard_normal((12, 20)), YEAR) for _ in range(800)]
    np.testing.assert_allclose(np.mean([one.pairs for one in found], axis=0), found[0].chance, atol=0.02)
    np.testing.assert_allclose(found[0].chance, [2 / 11] * 5 + [1 / 11])
    ks = np.array(found[0].ends)
    np.testing.assert_allclose(np.mean([one.cumulative for one in found], axis=0), ks / 11, atol=0.02)
    assert np.mean([one.area for one in found]) == pytest.approx(0, abs=0.02)


def test_groups_beyond_the_rank_of_the_cloud_are_left_out():
    assert mode_alignment(YEAR.coordinates[:, :5], YEAR).ends == (2, 4)


def test_a_flat_profile_has_three_quarters_of_the_months_cosine():
    found = spectrum_match(paired_shares(12), MONTHS)
    assert found.cosine == pytest.approx(0.75, abs=0.005)
    assert spectrum_match(np.ones(6), MONTHS).log_r2 == pytest.approx(0)


def test_equal_spectra_match_at_any_scale():
    found = spectrum_match(7 * MONTHS, MONTHS)
    assert found.cosine == pytest.approx(1) and found.log_r2 == pytest.approx(1)
    assert found.flat == spectrum_match(MONTHS, 2 * MONTHS).flat


def test_paired_shares_sum_to_one():
    for n in (4, 7, 12):
        assert paired_shares(n).sum() == pytest.approx(1)


def test_principal_coordinates_keep_all_distances():
    points = np.random.default_rng(0).standard_normal((6, 40)) + 2
    found = principal_coordinates(points)
    assert found.shape == (6, 5)
    about = points - points.mean(axis=0)
    np.testing.assert_allclose(found @ found.T, about @ about.T, atol=1e-10)


def test_procrustes_undoes_rotation_reflection_shift_and_scale():
    rng = np.random.default_rng(2)
    curve = YEAR.coordinates[:, :4]
    moved = 3 * curve @ rotation(4, rng) @ np.eye(4, 30) @ rotation(30, rng) + rng.standard_normal(30)
    found = procrustes(moved, curve)
    assert found.r2 == pytest.approx(1) and found.scale == pytest.approx(1 / 3)
    np.testing.assert_allclose(found.laid, curve, atol=1e-9)


def test_procrustes_r2_is_what_the_laid_cloud_meets():
    rng = np.random.default_rng(3)
    curve = modes(exponential(5)(line(20).distance)).coordinates[:, :3]
    found = procrustes(curve + 0.3 * rng.standard_normal(curve.shape), curve)
    left = np.sum((found.laid - curve) ** 2)
    # the best scale in the other direction: R^2 is symmetric, the laid cloud is scaled onto the curve
    assert found.r2 == pytest.approx(1 - left / np.sum(curve**2)) and 0.3 < found.r2 < 1


def test_what_cannot_be_laid_or_aligned_is_refused():
    with pytest.raises(ShapeError, match="12 rows"):
        mode_alignment(np.eye(5), YEAR)
    with pytest.raises(ShapeError, match="fewer than the first"):
        mode_alignment(np.arange(12.0)[:, None], YEAR)
    with pytest.raises(ShapeError, match="positive"):
        spectrum_match([1.0, 0.0], [1.0, 1.0])
    with pytest.raises(ShapeError, match="2 values"):
        spectrum_match([1.0, 1.0], [1.0, 1.0, 1.0])
    with pytest.raises(ShapeError, match="at least 2"):
        principal_coordinates(np.ones((1, 3)))
    with pytest.raises(ShapeError, match="2 or more dimensions"):
        procrustes(np.arange(3.0)[:, None], np.eye(3)[:, :2])
    with pytest.raises(ShapeError, match="do not vary"):
        procrustes(np.eye(3), np.ones((3, 2)))
