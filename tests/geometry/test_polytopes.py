"""Regular polytopes have the dimensionalities that the paper names; no set of directions has more than its rank."""

import numpy as np
import pytest

from geometry.checks import ShapeError
from geometry.nulls import haar_basis
from geometry.polytopes import NAMES, feature_dimensionality, polytopes


def ring(k):
    angle = 2 * np.pi * np.arange(k) / k
    return np.stack([np.cos(angle), np.sin(angle)])


def antiprism():
    """Two squares, one turned by 45 degrees, at heights that make the directions a tight frame."""
    low, high = (
        ring(4),
        np.stack([
            np.cos(np.pi / 4 + np.pi / 2 * np.arange(4)),
            np.sin(np.pi / 4 + np.pi / 2 * np.arange(4)),
        ]),
    )
    flat = np.concatenate([low, high], axis=1) * np.sqrt(2 / 3)
    return np.concatenate([flat, np.r_[np.ones(4), -np.ones(4)][None] * np.sqrt(1 / 3)])


SHAPES = {
    "alone": np.eye(1),
    "digon": np.array([[1.0, -1.0]]),
    "triangle": ring(3),
    "tetrahedron": np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1.0]]).T / np.sqrt(3),
    "pentagon": ring(5),
    "square antiprism": antiprism(),
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_regular_polytope_shares_its_dimensions_evenly(name):
    w = SHAPES[name]
    (group,) = polytopes(w)
    assert group.name == name
    assert (len(group.features), group.dimensions) in NAMES
    np.testing.assert_allclose(feature_dimensionality(w), group.dimensions / len(group.features), atol=1e-12)


def test_polytopes_in_orthogonal_subspaces_are_found_in_any_basis_and_order():
    rng = np.random.default_rng(0)
    size = sum(len(w) for w in SHAPES.values())
    w, at, names = np.zeros((size, 0)), 0, []
    for name, shape in SHAPES.items():
        block = np.zeros((size, shape.shape[1]))
        block[at : at + len(shape)] = shape
        w, at, names = np.concatenate([w, block], axis=1), at + len(shape), [*names, name]
    order = rng.permutation(w.shape[1])
    turned = haar_basis(size, size, rng) @ w[:, order]
    assert sorted(group.name for group in polytopes(turned)) == sorted(names)
    np.testing.assert_allclose(feature_dimensionality(turned), feature_dimensionality(w)[order])
    assert sum(feature_dimensionality(turned)) == pytest.approx(size)


def test_dimensionalities_never_add_up_to_more_than_the_rank():
    rng = np.random.default_rng(1)
    for _ in range(50):
        m, n = rng.integers(1, 8), rng.integers(1, 20)
        w = rng.normal(size=(m, n)) * rng.exponential(size=n)
        found = feature_dimensionality(w)
        assert ((found >= 0) & (found <= 1 + 1e-12)).all()
        assert found.sum() <= np.linalg.matrix_rank(w) + 1e-9


def test_what_is_uneven_or_off_centre_has_no_name_and_what_is_short_is_in_no_group():
    assert [g.name for g in polytopes([[1.0, 1.0]])] == ["2 in 1"]
    assert [g.name for g in polytopes([[1.0, -0.6, -0.6], [0.0, 0.5, -0.2]])] == ["3 in 2"]
    assert polytopes([[0.3, 0.2]]) == ()
    np.testing.assert_array_equal(feature_dimensionality([[0.0, 2.0]]), [0.0, 1.0])
    for function in (polytopes, feature_dimensionality):
        with pytest.raises(ShapeError):
            function([1.0, 2.0])
