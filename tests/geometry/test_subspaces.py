"""Planted angles come back; what should not matter does not, and what should does."""

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from geometry.checks import ShapeError
from geometry.nulls import haar_basis
from geometry.subspaces import (
    capture,
    coordinate_concentration,
    matrix_cosine,
    orthonormal,
    overlap,
    principal_angles,
)

PLANTED = np.array([1.4, 0.9, 0.3, 1e-3, 1e-6, 1e-9])
seeds = st.integers(0, 2**32 - 1)


def rotation(d, rng):
    return np.linalg.qr(rng.standard_normal((d, d)))[0]


def planted(angles, d, seed):
    """Two orthonormal bases with these principal angles, in random coordinates and in random order."""
    rng = np.random.default_rng(seed)
    k = len(angles)
    axes, _ = np.linalg.qr(rng.standard_normal((d, 2 * k)))
    a = axes[:, :k]
    b = a * np.cos(angles) + axes[:, k:] * np.sin(angles)
    return a @ rotation(k, rng), b @ rotation(k, rng)


@pytest.mark.parametrize("d", [12, 40, 41, 512])
@pytest.mark.parametrize("seed", range(5))
def test_planted_angles_come_back_from_one_and_a_half_to_a_billionth(d, seed):
    a, b = planted(PLANTED, d, seed)
    np.testing.assert_allclose(principal_angles(a, b), PLANTED, rtol=1e-6)
    np.testing.assert_allclose(principal_angles(b, a), PLANTED, rtol=1e-6)


@pytest.mark.parametrize(
    "angles", [[np.pi / 2, 1e-9], [np.pi / 2 - 1e-9, np.pi / 4, 1e-9], [1e-9], [0.7] * 5]
)
def test_right_angles_and_repeated_angles_come_back(angles):
    a, b = planted(np.array(angles), 40, seed=0)
    found = principal_angles(a, b)
    np.testing.assert_allclose(found, angles, rtol=1e-6)
    # near a right angle it is the complement that must keep its digits
    np.testing.assert_allclose(np.cos(found), np.cos(angles), rtol=1e-6, atol=1e-15)


def test_scipy_agrees_where_scipy_can():
    a, b = planted(PLANTED, 40, seed=1)
    np.testing.assert_allclose(principal_angles(a, b), scipy.linalg.subspace_angles(a, b), atol=1e-5)
    rng = np.random.default_rng(2)
    for k1, k2 in ((1, 1), (3, 7), (7, 3), (10, 15)):
        a, b = rng.standard_normal((20, k1)), rng.standard_normal((20, k2))
        expected = scipy.linalg.subspace_angles(a, b)
        np.testing.assert_allclose(principal_angles(a, b), expected, atol=1e-5)


@settings(deadline=None, max_examples=60)
@given(seed=seeds, d=st.integers(1, 12), k1=st.integers(1, 12), k2=st.integers(1, 12))
def test_angles_are_symmetric_and_do_not_depend_on_basis_or_shared_rotation(seed, d, k1, k2):
    rng = np.random.default_rng(seed)
    k1, k2 = min(k1, d), min(k2, d)
    a, b = rotation(d, rng)[:, :k1], rotation(d, rng)[:, :k2]
    angles = principal_angles(a, b)
    assert angles.shape == (min(k1, k2),)
    assert (np.diff(angles) <= 1e-14).all()
    assert angles[-1] >= 0
    assert angles[0] <= np.pi / 2 + 1e-15
    turn, change = rotation(d, rng), rotation(k1, rng) * rng.uniform(0.01, 100, k1)
    for same in (
        principal_angles(b, a),
        principal_angles(turn @ a, turn @ b),
        principal_angles(a @ change, b),
    ):
        np.testing.assert_allclose(same, angles, atol=1e-13)
    assert overlap(a, b) == pytest.approx(np.mean(np.cos(angles) ** 2), abs=1e-12)
    assert overlap(b, a @ change) == pytest.approx(overlap(a, b), abs=1e-12)


def test_a_rotation_of_one_side_only_is_seen():
    a, b = planted(PLANTED, 40, seed=3)
    turned = rotation(40, np.random.default_rng(4)) @ b
    assert np.abs(principal_angles(a, turned) - PLANTED).max() > 0.1
    assert abs(overlap(a, turned) - overlap(a, b)) > 0.1


def test_a_subspace_has_no_angle_with_itself_or_with_one_that_holds_it():
    a, _ = planted(PLANTED, 40, seed=5)
    assert principal_angles(a, a).max() < 1e-14
    assert principal_angles(a, a[:, 2:4]).max() < 1e-14
    assert overlap(a, a[:, 2:4]) == pytest.approx(1.0, abs=1e-14)
    assert overlap(a, a) <= 1.0


def test_columns_of_very_different_length_are_still_a_basis():
    a, b = planted(PLANTED, 40, seed=6)
    scaled = a * 10.0 ** np.arange(-60, 60, 20)
    np.testing.assert_allclose(principal_angles(scaled, b), PLANTED, rtol=1e-6)


@settings(deadline=None, max_examples=40)
@given(seed=seeds, d=st.integers(1, 30), k=st.integers(1, 30))
def test_orthonormal_columns_span_what_was_given(seed, d, k):
    a = np.random.default_rng(seed).standard_normal((d, min(d, k)))
    q = orthonormal(a)
    np.testing.assert_allclose(q.T @ q, np.eye(q.shape[1]), atol=1e-13)
    np.testing.assert_allclose(q @ (q.T @ a), a, atol=1e-12)


@pytest.mark.parametrize(
    ("a", "advice"),
    [
        (np.ones((5, 2)), "its 2 columns span only 1 dimensions; drop the dependent ones"),
        (np.zeros((5, 1)), "its 1 columns span only 0 dimensions"),
        (np.eye(3)[:, [0, 1, 1]], "its 3 columns span only 2 dimensions"),
        (np.ones((2, 3)), "3 columns cannot be a basis in 2 dimensions; put basis vectors in columns"),
        (np.ones((4, 0)), "0 columns cannot be a basis"),
        (np.ones(4), r"one direction is v\[:, None\]"),
        (np.full((3, 1), np.nan), "NaN"),
    ],
)
def test_what_is_no_basis_is_refused_with_advice(a, advice):
    with pytest.raises(ShapeError, match="basis: .*" + advice):
        orthonormal(a)
    for refuse in (principal_angles, overlap):
        with pytest.raises(ShapeError, match="a: .*" + advice):
            refuse(a, np.eye(5)[:, :2])
        with pytest.raises(ShapeError, match="b: .*" + advice):
            refuse(np.eye(5)[:, :2], a)


def test_a_sum_of_other_columns_is_noticed_at_any_scale():
    rng = np.random.default_rng(7)
    a = rng.standard_normal((64, 6))
    a[:, 5] = 1e6 * (a[:, 0] - 2 * a[:, 3])
    with pytest.raises(ShapeError, match="its 6 columns span only 5"):
        orthonormal(a)


def test_widths_do_not_mix():
    for compare in (principal_angles, overlap):
        with pytest.raises(ShapeError, match="a lies in 4 dimensions and b in 5"):
            compare(np.eye(4)[:, :2], np.eye(5)[:, :2])


def covariance(values, seed):
    q = rotation(len(values), np.random.default_rng(seed))
    return (q * values) @ q.T, q


def test_the_top_directions_capture_everything_that_k_can():
    values = np.array([5.0, 3.0, 1.0, 0.5, 0.0])
    cov, q = covariance(values, seed=8)
    for k in range(1, 6):
        assert capture(cov, q[:, :k]) == pytest.approx(1.0, abs=1e-12)
    assert capture(cov, q[:, [1]]) == pytest.approx(3 / 5)
    assert capture(cov, q[:, [2, 4]]) == pytest.approx(1 / 8)
    assert capture(cov, q[:, [4]]) == pytest.approx(0.0, abs=1e-15)


def test_capture_does_not_depend_on_scale_basis_or_shared_rotation_but_on_one_sided_ones():
    rng = np.random.default_rng(9)
    cov, _ = covariance(np.arange(1.0, 9.0) ** 3, seed=10)
    basis, turn = rng.standard_normal((8, 3)), rotation(8, rng)
    held = capture(cov, basis)
    assert capture(7 * cov, basis @ rng.standard_normal((3, 3))) == pytest.approx(held)
    assert capture(turn @ cov @ turn.T, turn @ basis) == pytest.approx(held)
    assert abs(capture(cov, turn @ basis) - held) > 0.01


def test_capture_refuses_what_has_no_answer():
    with pytest.raises(ShapeError, match="lies in 3 dimensions, the covariance in 2"):
        capture(np.eye(2), np.eye(3)[:, :1])
    with pytest.raises(ShapeError, match="nothing changed"):
        capture(np.zeros((2, 2)), np.eye(2)[:, :1])
    with pytest.raises(ShapeError, match="pass a covariance"):
        capture(np.ones((2, 3)), np.eye(2)[:, :1])


def test_matrix_cosine_of_covariances():
    one, q = covariance(np.array([4.0, 2.0, 0.0, 0.0]), seed=11)
    other = (q * [0.0, 0.0, 1.0, 3.0]) @ q.T
    assert matrix_cosine(one, 5 * one) == pytest.approx(1.0)
    assert matrix_cosine(one, one) <= 1.0
    assert matrix_cosine(one, -one) == pytest.approx(-1.0)
    assert matrix_cosine(one, other) == pytest.approx(0.0, abs=1e-15)
    turn = rotation(4, np.random.default_rng(12))
    both = matrix_cosine(turn @ one @ turn.T, turn @ (one + other) @ turn.T)
    assert both == pytest.approx(matrix_cosine(one, one + other))
    assert matrix_cosine(turn @ one @ turn.T, one) < 0.99


def test_matrix_cosine_refuses_what_has_no_answer():
    with pytest.raises(ShapeError, match=r"c2: expected \(2, 2\) like c1, got \(3, 3\)"):
        matrix_cosine(np.eye(2), np.eye(3))
    with pytest.raises(ShapeError, match="nothing changed"):
        matrix_cosine(np.eye(2), np.zeros((2, 2)))


def test_an_outlier_direction_is_concentrated_and_a_random_one_is_not():
    rng = np.random.default_rng(20)
    spread = haar_basis(400, 400, rng)
    outlier = np.eye(400)[:, [3]] + 0.02 * spread[:, :1]
    found = coordinate_concentration(np.hstack([outlier, spread]))
    assert found[0] > 0.99
    # about 2 m ln(d / m) / d, see its docstring
    assert found[1:].mean() == pytest.approx(6 * np.log(400 / 3) / 400, rel=0.25)
    assert found[1:].max() < 0.2
    slow = [np.sort(column**2)[-3:].sum() for column in spread.T]
    np.testing.assert_allclose(found[1:], slow)


def test_concentration_does_not_depend_on_length_sign_or_order_of_coordinates():
    rng = np.random.default_rng(21)
    v = rng.standard_normal((9, 4))
    order = rng.permutation(9)
    np.testing.assert_allclose(coordinate_concentration(-5 * v[order]), coordinate_concentration(v))
    np.testing.assert_allclose(coordinate_concentration(v, 9), 1.0)
    assert np.all(coordinate_concentration(v, 2) >= 2 / 9)


def test_concentration_refuses_what_points_nowhere():
    with pytest.raises(ShapeError, match="points nowhere"):
        coordinate_concentration(np.zeros((3, 1)))
    with pytest.raises(ShapeError, match="one direction is"):
        coordinate_concentration([1.0, 2.0])
    for m in (0, 4):
        with pytest.raises(ShapeError, match=f"m must be 1 to 3, got {m}"):
            coordinate_concentration(np.eye(3), m)
