"""p values keep their promise under the null; closed forms match simulation; random twins match spectra."""

import dataclasses
import json

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from geometry.checks import ShapeError
from geometry.nulls import (
    Null,
    activation_shaped,
    activation_shaped_overlaps,
    between_chance_and_ceiling,
    haar_basis,
    haar_largest_cosine,
    haar_overlap,
    matched_random,
    null_of,
    p_two_sided,
)
from geometry.spectra import LowRank
from geometry.subspaces import overlap, principal_angles

numbers = st.floats(-1e6, 1e6)


def test_a_number_beside_its_samples():
    null = null_of(3.0, [1.0, 2.0, 3.0, 4.0])
    assert null == Null(observed=3.0, mean=2.5, sd=pytest.approx(np.std([1, 2, 3, 4], ddof=1)), p=0.6, n=4)
    assert json.loads(json.dumps(dataclasses.asdict(null)))["n"] == 4


@given(observed=numbers, samples=st.lists(numbers, min_size=2, max_size=30))
def test_p_is_never_zero_nor_above_one_and_counts_ties(observed, samples):
    for p in (null_of(observed, samples).p, p_two_sided(observed, samples)):
        assert 1 / (1 + len(samples)) <= p <= 1
    assert null_of(max(samples), samples).p >= 2 / (1 + len(samples))
    assert null_of(min(samples), samples).p == 1.0
    mirrored = p_two_sided(-observed, [-s for s in samples])
    assert mirrored == p_two_sided(observed, samples)


@pytest.mark.parametrize("n", [3, 19, 99])
@pytest.mark.parametrize("p_of", [lambda o, s: null_of(o, s).p, p_two_sided], ids=["upper", "two-sided"])
def test_p_values_are_valid_under_the_null(n, p_of):
    rng = np.random.default_rng(n)
    draws = rng.lognormal(size=(4000, n + 1))
    p = np.array([p_of(row[0], row[1:]) for row in draws])
    assert p.min() > 0
    for level in (0.01, 0.05, 0.1, 0.25, 0.5):
        assert np.mean(p <= level) <= level + 4 * np.sqrt(level * (1 - level) / 4000)
    if (n + 1) % 20 == 0:
        # valid, and not wastefully so: the level is reached where n + 1 allows it
        assert np.mean(p <= 0.1) == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize("n", [2, 3, 8])
def test_one_number_in_twenty_leaves_the_band_under_the_null(n):
    rng = np.random.default_rng(n)
    draws = 5 + 2 * rng.standard_normal((4000, n + 1))
    verdicts = [null_of(row[0], row[1:]).verdict() for row in draws]
    outside = np.mean([v != "not distinguishable" for v in verdicts])
    assert outside == pytest.approx(0.05, abs=0.015)
    assert abs(verdicts.count("above") - verdicts.count("below")) < 4 * np.sqrt(4000 * 0.05)


def test_the_band_is_student_s():
    null = null_of(0.0, [1.0, 2.0, 3.0])
    half = scipy.stats.t(2).ppf(0.975) * np.sqrt(4 / 3)
    np.testing.assert_allclose(null.band, (2 - half, 2 + half))


@pytest.mark.parametrize(("observed", "verdict"), [(8, "above"), (4, "not distinguishable"), (-4, "below")])
def test_verdicts(observed, verdict):
    assert null_of(observed, [1.0, 2.0, 3.0]).verdict() == verdict


def test_rounding_is_not_a_difference_from_a_null_without_spread():
    third = 0.1 + 0.2
    assert null_of(third, [0.3, 0.3]).verdict() == "not distinguishable"
    assert null_of(0.0, [0.0, 0.0]).verdict() == "not distinguishable"
    assert null_of(0.3001, [0.3, 0.3]).verdict() == "above"


@pytest.mark.parametrize("compare", [null_of, p_two_sided])
def test_samples_are_a_vector_of_finite_numbers(compare):
    for samples in ([], [1.0], [[1.0, 2.0]], 3.0):
        with pytest.raises(ShapeError, match="at least 2 samples"):
            compare(0.0, samples)
    for observed, samples in ((np.nan, [1.0, 2.0]), (0.0, [1.0, np.inf])):
        with pytest.raises(ShapeError, match="not finite"):
            compare(observed, samples)


def test_between_chance_and_ceiling():
    place = {"chance": 0.2, "ceiling": 0.6}
    assert between_chance_and_ceiling(0.2, **place) == 0.0
    assert between_chance_and_ceiling(0.6, **place) == pytest.approx(1.0)
    assert between_chance_and_ceiling(0.1, **place) < 0
    assert between_chance_and_ceiling(0.5, chance=0.4, ceiling=0.4) is None


@given(seed=st.integers(0, 2**32 - 1), d=st.integers(1, 30), k=st.integers(1, 30))
def test_a_haar_basis_is_orthonormal_and_belongs_to_its_seed(seed, d, k):
    k = min(d, k)
    q = haar_basis(d, k, np.random.default_rng(seed))
    np.testing.assert_allclose(q.T @ q, np.eye(k), atol=1e-13)
    np.testing.assert_array_equal(q, haar_basis(d, k, np.random.default_rng(seed)))


def test_a_haar_basis_is_uniform():
    # an entry of a uniform orthogonal matrix has moments 0, 1/d and 3/(d(d+2)), the diagonal like any other:
    # plain QR fixes its signs instead
    d, rng = 4, np.random.default_rng(0)
    draws = np.array([haar_basis(d, d, rng) for _ in range(4000)])
    for entry in (draws[:, 0, 0], draws[:, 3, 3], draws[:, 1, 2]):
        assert abs(entry.mean()) < 4 * 0.5 / np.sqrt(4000)
        assert np.mean(entry**2) == pytest.approx(1 / d, rel=0.06)
        assert np.mean(entry**4) == pytest.approx(3 / (d * (d + 2)), rel=0.12)


@pytest.mark.parametrize(("d", "k1", "k2"), [(30, 3, 8), (12, 6, 6), (20, 15, 10), (5, 1, 1)])
def test_the_haar_overlap_is_what_simulation_gives(d, k1, k2):
    rng = np.random.default_rng(d)
    found = np.array([overlap(haar_basis(d, k1, rng), haar_basis(d, k2, rng)) for _ in range(2000)])
    mean, sd = haar_overlap(d, k1, k2)
    assert found.mean() == pytest.approx(mean, abs=4 * sd / np.sqrt(2000))
    assert found.std() == pytest.approx(sd, rel=0.08)


@pytest.mark.parametrize(("d", "k1", "k2"), [(1, 1, 1), (5, 5, 2), (5, 5, 5)])
def test_overlap_with_the_whole_space_is_certain(d, k1, k2):
    assert haar_overlap(d, k1, k2) == (1.0, 0.0)
    assert haar_largest_cosine(d, k1, k2) == 1.0


@pytest.mark.parametrize(
    ("d", "k1", "k2", "wide"), [(40, 4, 4, 12.0), (400, 40, 40, 2.0), (400, 20, 80, 2.0)]
)
def test_the_edge_is_where_the_largest_cosines_end(d, k1, k2, wide):
    rng = np.random.default_rng(d + k1)
    smallest = [
        np.rad2deg(principal_angles(haar_basis(d, k1, rng), haar_basis(d, k2, rng))[-1]) for _ in range(20)
    ]
    edge = np.rad2deg(np.arccos(haar_largest_cosine(d, k1, k2)))
    assert -0.5 < np.mean(smallest) - edge < wide


def test_the_published_edges():
    for (k, degrees), d in (((16, 73.4), 768), ((64, 56.4), 768)):
        assert np.rad2deg(np.arccos(haar_largest_cosine(d, k, k))) == pytest.approx(degrees, abs=0.1)


@pytest.mark.parametrize("k", [0, 6])
def test_a_subspace_fits_into_its_space(k):
    with pytest.raises(ShapeError, match="expected 1 to 5 dimensions of 5"):
        haar_basis(5, k, np.random.default_rng(0))
    for closed_form in (haar_overlap, haar_largest_cosine):
        for pair in ((k, 2), (2, k)):
            with pytest.raises(ShapeError, match="expected 1 to 5 dimensions of 5"):
                closed_form(5, *pair)


def test_an_activation_shaped_subspace_follows_the_activations():
    rng = np.random.default_rng(5)
    turn = haar_basis(20, 20, rng)
    cov = (turn * 100.0 ** -np.arange(20)) @ turn.T
    basis = activation_shaped(cov, 2, rng)
    np.testing.assert_allclose(basis.T @ basis, np.eye(2), atol=1e-13)
    # each direction has a tenth of the spread of the one before it: the span is nearly the first two
    assert overlap(basis, turn[:, :2]) > 0.9
    assert overlap(basis, turn[:, 2:]) < 0.1


def test_without_a_shape_it_is_uniform():
    rng = np.random.default_rng(6)
    found = activation_shaped_overlaps(np.full(30, 7.0), 3, 8, n=2000, rng=rng)
    mean, sd = haar_overlap(30, 3, 8)
    assert found.mean() == pytest.approx(mean, abs=4 * sd / np.sqrt(2000))
    assert found.std() == pytest.approx(sd, rel=0.08)


def test_overlaps_from_energies_alone_are_those_of_the_subspaces_themselves():
    rng = np.random.default_rng(7)
    energies = np.arange(1.0, 13.0) ** -1.5
    turn = haar_basis(12, 12, rng)
    cov = (turn * energies) @ turn.T
    quick = activation_shaped_overlaps(energies[::-1], 2, 3, n=1500, rng=rng)
    slow = [overlap(activation_shaped(cov, 2, rng), activation_shaped(cov, 3, rng)) for _ in range(1500)]
    assert scipy.stats.ks_2samp(quick, slow).pvalue > 1e-3
    # far above uniform chance, which is why it is worth drawing
    assert quick.mean() > haar_overlap(12, 2, 3)[0] + 0.15


def test_activations_that_vary_in_few_directions_carry_few():
    flat = np.diag([2.0, 1.0, 0.0])
    for k in (0, 3):
        with pytest.raises(ShapeError, match=f"vary in 2 directions, which cannot carry {k}"):
            activation_shaped(flat, k, np.random.default_rng(0))
        with pytest.raises(ShapeError, match="vary in 2 directions"):
            activation_shaped_overlaps([2.0, 1.0, 0.0], 1, k, n=3, rng=np.random.default_rng(0))
    for energies in ([[1.0]], [1.0, -1.0], [1.0, np.nan]):
        with pytest.raises(ShapeError, match="energies: expected finite numbers"):
            activation_shaped_overlaps(energies, 1, 1, n=2, rng=np.random.default_rng(0))


def update_of(out, r, width, scale=0.5, seed=0):
    rng = np.random.default_rng(seed)
    return LowRank(rng.standard_normal((out, r)), rng.standard_normal((r, width)), scale)


@pytest.mark.parametrize(("out", "r", "width"), [(40, 4, 30), (30, 1, 30), (3, 5, 20), (20, 5, 3)])
@pytest.mark.parametrize("scale", [2.0, -0.25, 0.0])
def test_a_random_twin_fits_where_the_update_was_and_has_its_singular_values(out, r, width, scale):
    update = update_of(out, r, width, scale)
    twin = matched_random(update, np.random.default_rng(1))
    assert (twin.b.shape, twin.a.shape, twin.scale) == (update.b.shape, update.a.shape, scale)
    np.testing.assert_allclose(
        twin.singular_values(), update.singular_values(), rtol=1e-13, atol=1e-14 * update.norm()
    )


def test_a_random_twin_overlaps_with_the_update_as_chance_does_on_both_sides():
    update = update_of(60, 6, 40)
    rng = np.random.default_rng(2)
    left, right = [], []
    for _ in range(300):
        twin = matched_random(update, rng)
        left.append(overlap(twin.b, update.b))
        right.append(overlap(twin.a.T, update.a.T))
    for found, d in ((left, 60), (right, 40)):
        mean, sd = haar_overlap(d, 6, 6)
        assert np.mean(found) == pytest.approx(mean, abs=4 * sd / np.sqrt(300))
    # ... while the update with itself does not
    assert overlap(update.b, update.b) == pytest.approx(1.0)


def test_a_random_twin_has_no_preferred_sign():
    update = update_of(6, 1, 5)
    rng = np.random.default_rng(3)
    cosines = [matched_random(update, rng).inner(update) / update.norm() ** 2 for _ in range(500)]
    assert abs(np.mean(cosines)) < 4 * np.std(cosines) / np.sqrt(500)


def test_an_inactive_update_has_an_inactive_twin():
    zero = LowRank(np.zeros((4, 2)), np.ones((2, 3)), 2.0)
    assert not matched_random(zero, np.random.default_rng(4)).dense().any()
