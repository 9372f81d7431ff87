"""Common directions are those that were planted in all; the cosine of spectra is that of the matrices."""

from __future__ import annotations

import numpy as np
import pytest

from geometry.checks import ShapeError
from geometry.common_subspace import common_directions, spectrum_cosine
from geometry.nulls import haar_basis
from geometry.spectra import spectrum
from geometry.subspaces import matrix_cosine, principal_angles


@pytest.fixture
def rng():
    return np.random.default_rng(4)


def test_planted_common_directions_come_first_and_the_rest_belongs_to_one(rng):
    q = haar_basis(60, 14, rng)
    shared, own = q[:, :2], q[:, 2:].reshape(60, 3, 4)
    found = common_directions([
        np.hstack([shared, own[:, i]]) @ rng.standard_normal((6, 6)) for i in range(3)
    ])
    np.testing.assert_allclose(found.values, [1] * 2 + [1 / 3] * 12 + [0] * 4, atol=1e-12)
    assert principal_angles(found.vectors[:, :2], shared).max() < 1e-7
    assert found.shared_by_all() == 2
    np.testing.assert_allclose(found.shares.mean(axis=1), found.values, atol=1e-12)


def test_for_two_subspaces_the_eigenvalues_are_those_of_their_angles(rng):
    u, v = haar_basis(30, 4, rng), haar_basis(30, 4, rng)
    cosines = np.cos(principal_angles(u, v))
    expected = np.sort(np.concatenate([(1 + cosines) / 2, (1 - cosines) / 2]))[::-1]
    np.testing.assert_allclose(common_directions([u, v]).values, expected, atol=1e-12)


def test_neither_order_nor_a_shared_rotation_matters_and_one_subspace_is_common_to_itself(rng):
    bases = [haar_basis(20, 3, rng) for _ in range(3)]
    turn = haar_basis(20, 20, rng)
    values = common_directions(bases).values
    np.testing.assert_allclose(common_directions(bases[::-1]).values, values, atol=1e-12)
    np.testing.assert_allclose(common_directions([turn @ b for b in bases]).values, values, atol=1e-12)
    assert common_directions([bases[0]] * 3).shared_by_all() == 3
    assert common_directions([haar_basis(400, 3, rng) for _ in range(3)]).shared_by_all() == 0


def test_the_cosine_of_whole_spectra_is_that_of_the_matrices_and_blind_to_scale(rng):
    factors = rng.standard_normal((2, 12, 12))
    one, other = (f @ f.T for f in factors)
    found = spectrum_cosine(spectrum(one), spectrum(7 * other))
    assert found == pytest.approx(matrix_cosine(one, other))
    assert spectrum_cosine(spectrum(one), spectrum(one)) == pytest.approx(1)


def test_what_cannot_be_compared_is_refused(rng):
    with pytest.raises(ShapeError, match="one or more"):
        common_directions([])
    with pytest.raises(ShapeError, match="one dimension"):
        common_directions([np.eye(3)[:, :1], np.eye(4)[:, :1]])
    with pytest.raises(ShapeError, match="3 and 4 dimensions"):
        spectrum_cosine(spectrum(np.eye(3)), spectrum(np.eye(4)))
    with pytest.raises(ShapeError, match="is zero"):
        spectrum_cosine(spectrum(np.eye(3)), spectrum(np.zeros((3, 3))))
