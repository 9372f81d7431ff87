"""Planted directions are found in the place where they were planted; chance gives what its formula says."""

import numpy as np
import pytest

from geometry.alignment import (
    WeightSVD,
    amplification,
    band_energies,
    best_matches,
    intruders,
    leading,
    live_ranks,
    phi,
    phi_by_chance,
    update_cosine,
)
from geometry.checks import ShapeError
from geometry.nulls import haar_basis, matched_random
from geometry.spectra import LowRank
from geometry.subspaces import overlap


def random_update(rng, out=12, width=9, r=3):
    return LowRank(rng.standard_normal((out, r)), rng.standard_normal((r, width)), 0.7)


def test_ranks_below_a_hundredth_of_the_largest_are_dead():
    assert live_ranks([5.0, 0.05, 0.049]) == 2
    assert live_ranks([0.0, 0.0]) == 0
    with pytest.raises(ShapeError, match="share"):
        live_ranks([1.0], share=0)


def test_phi_is_the_overlap_of_the_leading_directions(rng):
    u, v = haar_basis(10, 4, rng), haar_basis(10, 3, rng)
    expected = [[overlap(u[:, :i], v[:, :j]) for j in (1, 2, 3)] for i in (1, 2, 3, 4)]
    np.testing.assert_allclose(phi(u, v), expected, rtol=1e-9)


def test_phi_of_directions_with_themselves_is_one_and_does_not_see_signs(rng):
    u = haar_basis(10, 4, rng)
    np.testing.assert_allclose(phi(u, -u), 1.0, rtol=1e-12)


def test_phi_of_random_directions_is_at_the_haar_level(rng):
    mean, sd = phi_by_chance(20, 3, 2)
    samples = np.array([phi(haar_basis(20, 3, rng), haar_basis(20, 2, rng)) for _ in range(2000)])
    np.testing.assert_allclose(mean, np.maximum.outer([1, 2, 3], [1, 2]) / 20)
    np.testing.assert_allclose(samples.mean(0), mean, atol=5 * sd.max() / np.sqrt(2000))
    np.testing.assert_allclose(samples.std(0), sd, rtol=0.12)


def test_the_cosine_is_that_of_the_dense_products_and_of_any_gauge(rng):
    one, other = random_update(rng), random_update(rng, r=2)
    dense = [u.dense().ravel() / np.linalg.norm(u.dense()) for u in (one, other)]
    assert update_cosine(one, other) == pytest.approx(dense[0] @ dense[1], rel=1e-12)
    m = rng.standard_normal((3, 3))
    turned = LowRank(one.b @ m, np.linalg.solve(m, one.a), one.scale)
    assert update_cosine(turned, other) == pytest.approx(update_cosine(one, other), rel=1e-9)
    assert update_cosine(one, LowRank(-one.b, one.a)) == pytest.approx(-1)


def test_random_updates_have_cosines_of_known_spread(rng):
    one, other = random_update(rng), random_update(rng)
    samples = [update_cosine(matched_random(one, rng), matched_random(other, rng)) for _ in range(2000)]
    assert np.mean(samples) == pytest.approx(0, abs=5 / np.sqrt(108 * 2000))
    assert np.std(samples) == pytest.approx(1 / np.sqrt(108), rel=0.1)


def test_energy_is_found_in_the_band_where_it_was_planted(rng):
    weight = WeightSVD.of(rng.standard_normal((30, 20)))
    planted = weight.left[:, [4, 5]]  # third of ten bands of two
    np.testing.assert_allclose(
        band_energies(planted, [2.0, 1.0], weight.left), [0, 0, 1] + [0] * 8, atol=1e-12
    )
    outside = np.linalg.svd(weight.left)[0][:, -1:]
    np.testing.assert_allclose(band_energies(outside, [1.0], weight.left)[-1], 1.0)


def test_random_energy_is_spread_by_the_width_of_the_bands(rng):
    weight = WeightSVD.of(rng.standard_normal((30, 20)))
    samples = [band_energies(haar_basis(30, 2, rng), [3.0, 1.0], weight.left, bands=4) for _ in range(800)]
    np.testing.assert_allclose(np.mean(samples, axis=0), [5 / 30] * 4 + [10 / 30], atol=0.02)


def test_amplification_is_strong_along_directions_that_the_weight_lacks(rng):
    weight = WeightSVD.of(rng.standard_normal((12, 9)))
    dense = (weight.left * weight.values) @ weight.right.T

    def along(i, size=2.0):
        return LowRank(weight.left[:, [i]] * size, weight.right[:, [i]].T)

    for i in (0, 8):
        assert amplification(along(i), dense) == pytest.approx(2.0 / weight.values[i])
    assert amplification(LowRank([[1.0], [0.0]], [[0.0, 1.0]]), np.eye(2)) == np.inf


def test_leading_directions_are_those_of_the_svd(rng):
    for shape in ((14, 9), (9, 14), (9, 9)):
        matrix = rng.standard_normal(shape)
        u, _, vt = np.linalg.svd(matrix)
        left, right = leading(matrix, 3)
        np.testing.assert_allclose(np.abs(np.sum(left * u[:, :3], axis=0)), 1, rtol=1e-9)
        np.testing.assert_allclose(np.abs(np.sum(right * vt[:3].T, axis=0)), 1, rtol=1e-9)


def test_a_planted_intruder_is_counted_and_a_scaled_singular_vector_is_not(rng):
    weight = rng.standard_normal((40, 30)) * 0.1
    svd = WeightSVD.of(weight)

    def counts(update):
        left, _ = leading(weight + update, 5)
        return intruders(best_matches(left, svd.left), ks=(1, 5), thresholds=(0.5, 0.9))

    grown = 9 * np.outer(svd.left[:, 3], svd.right[:, 3])
    assert counts(grown)[0].tolist() == [0, 0]
    spread = svd.left @ np.full(30, 30**-0.5)
    planted = 9 * np.outer(spread, haar_basis(30, 1, rng))
    assert counts(planted)[0].tolist() == [1, 1]
    assert counts(np.zeros_like(weight)).sum() == 0


def test_counts_grow_with_the_threshold_and_with_k(rng):
    grid = intruders(rng.random(20), ks=(5, 10, 20), thresholds=(0.3, 0.6, 0.9))
    assert (np.diff(grid, axis=0) >= 0).all()
    assert (np.diff(grid, axis=1) >= 0).all()


def test_what_cannot_be_compared_is_refused(rng):
    zero = LowRank(np.zeros((12, 2)), np.ones((2, 9)))
    one = random_update(rng)
    with pytest.raises(ShapeError, match="10 dimensions"):
        phi(haar_basis(10, 2, rng), haar_basis(11, 2, rng))
    with pytest.raises(ShapeError, match="zero"):
        update_cosine(one, zero)
    with pytest.raises(ShapeError, match="same weight"):
        update_cosine(one, random_update(rng, out=11))
    with pytest.raises(ShapeError, match="no more bands"):
        band_energies(haar_basis(10, 2, rng), [1, 1], haar_basis(10, 5, rng), bands=6)
    with pytest.raises(ShapeError, match="no energy"):
        band_energies(haar_basis(10, 2, rng), [0, 0], haar_basis(10, 5, rng), bands=5)
    with pytest.raises(ShapeError, match="like its update"):
        amplification(one, np.ones((9, 12)))
    with pytest.raises(ShapeError, match="is zero"):
        amplification(zero, np.ones((12, 9)))
    with pytest.raises(ShapeError, match="k must be"):
        leading(np.ones((3, 4)), 4)
    with pytest.raises(ShapeError, match="use one space"):
        best_matches(haar_basis(10, 2, rng), haar_basis(11, 2, rng))


@pytest.fixture
def rng():
    return np.random.default_rng(0)
