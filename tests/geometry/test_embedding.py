import numpy as np
import pytest
from scipy import sparse

from geometry.checks import DataError, ShapeError
from geometry.embedding import product, spectral_embedding
from geometry.latent import SeasonalCorpus
from geometry.targets import SymmetricTarget


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def random_target(size, rng, constant=-2.0):
    entries = np.triu(np.where(rng.random((size, size)) < 0.2, rng.gamma(2.0, 1.0, (size, size)), 0))
    return SymmetricTarget(sparse.csr_array(entries), constant)


@pytest.mark.parametrize("constant", [-2.0, 0.0])
def test_lanczos_finds_what_dense_eigh_finds(rng, constant):
    target = random_target(150, rng, constant)
    dense = target.dense()
    values, vectors = np.linalg.eigh(dense)
    order = np.argsort(-np.abs(values))[:12]
    found = spectral_embedding(target, 12, rng)
    np.testing.assert_allclose(found.values, values[order], rtol=1e-8)
    np.testing.assert_allclose(np.abs(np.sum(found.modes * vectors[:, order], axis=0)), 1, atol=1e-6)
    np.testing.assert_allclose(dense @ found.modes, found.modes * found.values, atol=1e-5)


def test_the_product_is_that_of_the_dense_matrix(rng):
    target = random_target(40, rng)
    x = rng.standard_normal((40, 3))
    np.testing.assert_allclose(product(target) @ x, target.dense() @ x, atol=1e-11)


def test_negative_eigenvalues_keep_their_sign_and_their_place(rng):
    target = SymmetricTarget(sparse.csr_array(np.diag([-5.0, 3.0, 1.0, 0.5])), 0.0)
    found = spectral_embedding(target, 2, rng)
    np.testing.assert_allclose(found.values, [-5, 3])
    np.testing.assert_allclose(found.rows, [[np.sqrt(5), 0], [0, np.sqrt(3)], [0, 0], [0, 0]], atol=1e-12)


def test_a_hidden_season_comes_back_as_a_circle(rng):
    """M* of 60 seasonal words: one pair of eigenvalues N a^2 / 4, and words in order on a circle."""
    world = SeasonalCorpus(60, (0.6,))
    exact = 2 * (world.ratio() - 1) / (world.ratio() + 1)
    target = SymmetricTarget(sparse.csr_array(np.triu(exact + 2)), -2.0)
    found = spectral_embedding(target, 2, rng)
    np.testing.assert_allclose(found.values, 60 * 0.36 / 4, rtol=0.02)
    radius = np.hypot(*found.rows.T)
    np.testing.assert_allclose(radius, radius.mean(), rtol=0.01)
    steps = np.diff(np.unwrap(np.arctan2(*found.rows.T)))
    np.testing.assert_allclose(np.abs(steps), 2 * np.pi / 60, rtol=0.05)


def test_rows_approximate_the_absolute_target(rng):
    target = random_target(60, rng)
    values, vectors = np.linalg.eigh(target.dense())
    absolute = (vectors * np.abs(values)) @ vectors.T
    found = spectral_embedding(target, 59, rng)
    error = np.linalg.norm(found.rows @ found.rows.T - absolute, 2)
    assert error == pytest.approx(np.abs(values).min(), rel=1e-4)


def test_refuses_too_many_dimensions_and_says_when_nothing_converges(rng, monkeypatch):
    target = random_target(20, rng)
    for d in (0, 20):
        with pytest.raises(ShapeError, match="d: expected 1 to 19"):
            spectral_embedding(target, d, rng)

    def gives_up(*_, **__):
        from scipy.sparse.linalg import ArpackNoConvergence

        raise ArpackNoConvergence("none", np.empty(0), np.empty((0, 0)))

    monkeypatch.setattr("geometry.embedding.eigsh", gives_up)
    with pytest.raises(DataError, match="2 eigenvalues do not converge"):
        spectral_embedding(target, 2, rng)
