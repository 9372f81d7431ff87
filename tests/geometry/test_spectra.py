"""Planted spectra come back; ranks count what they say; low-rank updates equal their dense products."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from geometry.checks import ShapeError
from geometry.moments import PairedMoments
from geometry.spectra import (
    LowRank,
    effective_rank,
    participation_ratio,
    participation_ratio_about_zero_unbiased,
    participation_ratio_unbiased,
    rank_for_energy,
    relative_gap,
    spectrum,
    stable_rank,
)

COUNTS = (effective_rank, participation_ratio, stable_rank)
energies = arrays(np.float64, st.integers(1, 20), elements=st.one_of(st.floats(0, 10), st.floats(0, 1e300)))


def turned(values, seed):
    """A symmetric matrix of prescribed eigenvalues, and its eigenvectors."""
    q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(values), len(values))))
    return (q * values) @ q.T, q


def test_a_planted_spectrum_is_found_again():
    values = np.array([5.0, 2.0, 1.0, 1e-3, 1e-6])
    matrix, vectors = turned(values, seed=0)
    found = spectrum(matrix)
    np.testing.assert_allclose(found.values, values, atol=1e-14)
    np.testing.assert_allclose(np.abs(np.sum(found.vectors * vectors, axis=0)), 1.0, rtol=1e-9)


def test_the_vectors_rebuild_the_matrix_and_do_not_depend_on_the_solver_s_sign():
    matrix, _ = turned(np.arange(1.0, 9.0), seed=1)
    found = spectrum(matrix)
    np.testing.assert_allclose((found.vectors * found.values) @ found.vectors.T, matrix, atol=1e-13)
    largest = np.abs(found.vectors).argmax(axis=0)
    assert (found.vectors[largest, range(8)] > 0).all()


def test_rounding_below_zero_is_zero():
    tall = np.random.default_rng(2).standard_normal((3, 40))
    found = spectrum(tall.T @ tall)
    assert found.values.min() >= 0
    assert found.values[3:].max() < 1e-12 * found.values[0]


def test_top_directions_are_the_first():
    found = spectrum(turned(np.arange(1.0, 6.0), seed=3)[0])
    top = found.top(2)
    np.testing.assert_array_equal(top.values, found.values[:2])
    np.testing.assert_array_equal(top.vectors, found.vectors[:, :2])
    for k in (0, 6):
        with pytest.raises(ShapeError, match="k must be 1 to 5"):
            found.top(k)


@pytest.mark.parametrize(
    ("matrix", "advice"),
    [
        (np.zeros((3, 4)), "pass a covariance, not rows"),
        (np.zeros((0, 0)), "pass a covariance, not rows"),
        ([[1.0, 2.0], [0.0, 1.0]], "not symmetric"),
        ([[1.0, 0.0], [0.0, -1.0]], "an eigenvalue is -1"),
        ([[np.nan]], "NaN"),
    ],
)
def test_what_is_no_covariance_is_refused(matrix, advice):
    with pytest.raises(ShapeError, match=advice):
        spectrum(matrix)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("k", [1, 3, 17])
def test_k_equal_energies_count_as_k(count, k):
    values = np.concatenate([np.full(k, 0.3), np.zeros(5)])
    assert count(values) == pytest.approx(k, rel=1e-12)


@pytest.mark.parametrize("count", COUNTS)
@given(values=energies, factor=st.floats(1e-3, 1e3))
def test_counts_lie_between_one_and_all_and_ignore_scale_and_order(count, values, factor):
    # scaling a number below the smallest normal one rounds it, perhaps to 0, and no law survives that
    values = np.where(values * factor < np.finfo(np.float64).tiny, 0.0, values)
    found = count(values)
    if not values.any():
        assert found == 0.0
        return
    assert 1 - 1e-9 <= found <= np.count_nonzero(values) * (1 + 1e-9)
    assert count(values[::-1] * factor) == pytest.approx(found, rel=1e-9)


@given(values=energies)
def test_counts_are_ordered_as_renyi_entropies_are(values):
    # exponentials of the Renyi entropies of orders infinity, 2 and 1
    assert stable_rank(values) <= participation_ratio(values) * (1 + 1e-9)
    assert participation_ratio(values) <= effective_rank(values) * (1 + 1e-9)


@pytest.mark.parametrize(("share", "k"), [(0.05, 1), (0.1, 1), (0.11, 2), (0.9, 9), (1.0, 10)])
def test_rank_for_energy_of_equal_energies(share, k):
    assert rank_for_energy(np.full(10, 0.1), share) == k


def test_rank_for_energy_takes_the_largest_first_and_stops_at_the_support():
    assert rank_for_energy([0.0, 1.0, 9.0], 0.9) == 1
    assert rank_for_energy([0.0, 1.0, 9.0], 1.0) == 2
    assert rank_for_energy([0.0, 0.0], 0.9) == 0


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, np.nan])
def test_a_share_is_a_share(share):
    with pytest.raises(ShapeError, match="share: expected"):
        rank_for_energy([1.0], share)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("values", [[], [[1.0]], [1.0, -1e-9], [np.inf]])
def test_energies_are_a_vector_of_non_negative_numbers(count, values):
    with pytest.raises(ShapeError, match="values: "):
        count(values)


def stats_of(diff):
    moments = PairedMoments(diff.shape[1])
    moments.update(np.zeros_like(diff), diff)
    return moments.answer()


def test_the_participation_ratio_without_bias_finds_the_truth_from_few_rows():
    rng = np.random.default_rng(4)
    scales = np.linspace(0.5, 2.0, 40)
    truth = participation_ratio(scales**2)
    found, plain = [], []
    for _ in range(200):
        stats = stats_of(5.0 + rng.exponential(size=(30, 40)) * scales)
        found.append(participation_ratio_unbiased(stats))
        plain.append(participation_ratio(spectrum(stats.cov_diff).values))
    assert np.mean(found) == pytest.approx(truth, rel=0.05)
    assert np.mean(plain) < 0.7 * truth


def test_the_uncentred_participation_ratio_without_bias_finds_the_truth():
    rng = np.random.default_rng(5)
    mean = np.zeros(40)
    mean[0] = 3.0
    truth = participation_ratio(np.diag(np.eye(40) + np.outer(mean, mean)))
    found = [
        participation_ratio_about_zero_unbiased(stats_of(mean + rng.standard_normal((30, 40))))
        for _ in range(300)
    ]
    assert np.mean(found) == pytest.approx(truth, rel=0.05)


def test_the_uncentred_estimate_is_the_average_over_pairs_of_rows():
    diff = np.random.default_rng(6).standard_normal((12, 3)) + 1.0
    gram = diff @ diff.T
    pairs = ~np.eye(12, dtype=bool)
    energy = np.outer(np.diag(gram), np.diag(gram))
    expected = energy[pairs].mean() / (gram**2)[pairs].mean()
    assert participation_ratio_about_zero_unbiased(stats_of(diff)) == pytest.approx(expected, rel=1e-12)


def test_no_estimate_is_none_not_nan():
    # orthogonal differences: no two rows share a direction, so nothing can be said of the covariance
    assert participation_ratio_about_zero_unbiased(stats_of(np.eye(4))) is None
    assert participation_ratio_unbiased(stats_of(np.eye(6))) is None
    assert participation_ratio_unbiased(stats_of(np.zeros((6, 2)))) is None


def test_too_few_rows_for_a_ratio():
    with pytest.raises(ShapeError, match="at least 4 rows"):
        participation_ratio_unbiased(stats_of(np.ones((3, 2))))
    with pytest.raises(ShapeError, match="at least 2 rows"):
        participation_ratio_about_zero_unbiased(stats_of(np.ones((1, 2))))


def lowrank(out, r, width, seed, scale=0.7):
    rng = np.random.default_rng(seed)
    return LowRank(rng.standard_normal((out, r)), rng.standard_normal((r, width)), scale)


@pytest.mark.parametrize(("out", "r", "width"), [(20, 4, 30), (30, 4, 20), (5, 1, 5), (3, 8, 40), (40, 8, 3)])
@pytest.mark.parametrize("scale", [2.0, -0.5, 0.0])
def test_the_factors_say_what_the_dense_product_says(out, r, width, scale):
    update = lowrank(out, r, width, seed=out + r, scale=scale)
    dense = scale * update.b @ update.a
    m = min(out, r, width)
    u, s, vt = update.svd()
    assert (u.shape, s.shape, vt.shape) == ((out, m), (m,), (m, width))
    np.testing.assert_allclose(
        update.singular_values(), np.linalg.svd(dense, compute_uv=False)[:m], rtol=1e-12, atol=1e-14
    )
    np.testing.assert_allclose(s, update.singular_values(), rtol=1e-12)
    np.testing.assert_allclose(u * s @ vt, dense, atol=1e-12)
    np.testing.assert_array_equal(update.dense(), dense)
    assert update.norm() == pytest.approx(np.linalg.norm(dense), rel=1e-12)
    assert (update.shape, update.rank) == ((out, width), r)


def test_moving_a_matrix_between_the_factors_changes_nothing():
    update = lowrank(20, 4, 30, seed=7)
    gauge = np.random.default_rng(8).standard_normal((4, 4))
    same = LowRank(update.b @ gauge, np.linalg.solve(gauge, update.a), update.scale)
    np.testing.assert_allclose(same.singular_values(), update.singular_values(), rtol=1e-10)
    # ... while the factors themselves are not the same
    assert not np.allclose(np.linalg.norm(same.b, axis=0), np.linalg.norm(update.b, axis=0))


def test_inner_product_is_the_dense_one_also_between_ranks():
    one, two = lowrank(20, 4, 30, seed=9), lowrank(20, 7, 30, seed=10, scale=-2.0)
    assert one.inner(two) == pytest.approx(np.sum(one.dense() * two.dense()), rel=1e-12)
    assert one.inner(one) == pytest.approx(one.norm() ** 2, rel=1e-12)


def test_a_low_rank_update_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        lowrank(3, 1, 3, seed=0).scale = 2.0


def test_updates_that_do_not_fit_are_refused():
    with pytest.raises(ShapeError, match=r"expected b \(out, r\) and a \(r, in\), got \(3, 2\) and \(4, 3\)"):
        LowRank(np.ones((3, 2)), np.ones((4, 3)))
    with pytest.raises(ShapeError, match="expected b"):
        LowRank(np.ones((3, 0)), np.ones((0, 3)))
    with pytest.raises(ShapeError, match="a: holds NaN"):
        LowRank(np.ones((3, 1)), [[np.nan]])
    with pytest.raises(ShapeError, match="scale must be a finite number"):
        LowRank(np.ones((3, 1)), np.ones((1, 3)), np.inf)
    with pytest.raises(ShapeError, match="compare the same weight"):
        lowrank(3, 1, 4, seed=0).inner(lowrank(4, 1, 3, seed=0))


def test_a_gap_says_whether_a_top_subspace_is_defined():
    assert relative_gap([1.0, 4.0, 4.0], 1) == 0.0
    assert relative_gap([1.0, 4.0, 4.0], 2) == 0.75
    assert relative_gap([4.0, 0.0], 1) == 1.0
    assert relative_gap([4.0, 0.0, 0.0], 2) == 0.0
    assert relative_gap([1e300, 5e299], 1) == pytest.approx(0.5)
    for k in (0, 3):
        with pytest.raises(ShapeError, match=f"k must be 1 to 2, below the 3 energies, got {k}"):
            relative_gap([3.0, 2.0, 1.0], k)
