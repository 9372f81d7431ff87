"""The published measures against references written from their definitions, with loops, on small data.

Nothing here is clever: sums over rows, pairs and quadruples as the papers write them, or another library.
"""

from itertools import permutations
from math import perm

import numpy as np
import pytest
import scipy.linalg
from sklearn.cross_decomposition import CCA

from geometry.moments import PairedMoments
from geometry.nulls import haar_basis
from geometry.similarity import linear_cka, mean_cca, procrustes_distance, svcca, unbiased_cka
from geometry.spectra import effective_rank, participation_ratio, spectrum
from geometry.subspaces import overlap, principal_angles


def related(n, p, q, seed):
    """Two sets of rows that share two directions."""
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((n, 2))
    x = shared @ rng.standard_normal((2, p)) + rng.standard_normal((n, p)) + 3.0
    y = shared @ rng.standard_normal((2, q)) + rng.standard_normal((n, q)) - 1.0
    return x, y


def covariances(x, y):
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    return x.T @ x / len(x), y.T @ y / len(x), x.T @ y / len(x)


def paired(base, adapted):
    moments = PairedMoments(base.shape[1])
    for part in np.array_split(np.arange(len(base)), 3):
        moments.update(base[part], adapted[part])
    return moments.answer()


def hsic_over_quadruples(x, y):
    """HSIC_1 as a U-statistic: every ordered choice of four different rows (Song et al. 2012, eq. 2)."""
    k, l, total = x @ x.T, y @ y.T, 0.0
    for i, j, q, r in permutations(range(len(x)), 4):
        total += k[i, j] * (l[i, j] + l[q, r] - 2 * l[i, q])
    return total / perm(len(x), 4)


def hsic_of_centred_kernels(x, y):
    """HSIC_0, the biased one: centred kernels, entry by entry."""
    n, total = len(x), 0.0
    k, l = x @ x.T, y @ y.T
    for i in range(n):
        for j in range(n):
            centred = [m[i, j] - m[i].mean() - m[:, j].mean() + m.mean() for m in (k, l)]
            total += centred[0] * centred[1]
    return total / n**2


@pytest.mark.parametrize("seed", range(3))
def test_unbiased_cka_is_the_average_over_all_quadruples_of_rows(seed):
    x, y = related(9, 3, 3, seed)
    parts = hsic_over_quadruples(x, y), hsic_over_quadruples(x, x), hsic_over_quadruples(y, y)
    found = unbiased_cka(paired(x, y))
    np.testing.assert_allclose((found.hsic_cross, found.hsic_base, found.hsic_adapted), parts, rtol=1e-9)
    assert found.cka == pytest.approx(parts[0] / np.sqrt(parts[1] * parts[2]), rel=1e-9)


def test_linear_cka_is_the_ratio_of_centred_kernels():
    x, y = related(20, 4, 6, seed=3)
    parts = [hsic_of_centred_kernels(*pair) for pair in ((x, y), (x, x), (y, y))]
    assert linear_cka(*covariances(x, y)) == pytest.approx(parts[0] / np.sqrt(parts[1] * parts[2]), rel=1e-10)


def test_procrustes_distance_is_what_scipy_s_rotation_leaves_and_no_rotation_leaves_less():
    x, y = related(40, 3, 3, seed=4)
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    turn, _ = scipy.linalg.orthogonal_procrustes(y, x)

    def left(q):
        return np.sqrt(sum(np.sum((a - b @ q) ** 2) for a, b in zip(x, y, strict=True)) / len(x))

    found = procrustes_distance(*covariances(x, y))
    assert found == pytest.approx(left(turn), rel=1e-12)
    rng = np.random.default_rng(5)
    assert all(left(haar_basis(3, 3, rng)) >= found for _ in range(300))


def canonical_by_eigenproblem(x, y):
    """Canonical correlations as the generalised eigenvalues of Hotelling's block problem."""
    cov_x, cov_y, cross = covariances(x, y)
    p, q = cross.shape
    left = np.block([[np.zeros((p, p)), cross], [cross.T, np.zeros((q, q))]])
    values = scipy.linalg.eigh(left, scipy.linalg.block_diag(cov_x, cov_y), eigvals_only=True)
    return values[::-1][: min(p, q)]


@pytest.mark.parametrize(("p", "q"), [(4, 4), (3, 6)])
def test_canonical_correlations_are_hotelling_s_and_scikit_learn_s(p, q):
    x, y = related(60, p, q, seed=6)
    expected = canonical_by_eigenproblem(x, y)
    assert mean_cca(*covariances(x, y)) == pytest.approx(expected.mean(), rel=1e-10)
    fitted = CCA(n_components=min(p, q), max_iter=10_000, tol=1e-12).fit(x, y)
    pairs = zip(*(scores.T for scores in fitted.transform(x, y)), strict=True)
    assert mean_cca(*covariances(x, y)) == pytest.approx(
        np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairs]), abs=1e-5
    )


def test_svcca_is_cca_of_the_rows_projected_on_their_principal_components():
    x, y = related(80, 6, 5, seed=7)
    x, y = x * [9, 5, 3, 1, 0.3, 0.1], y * [8, 4, 1, 0.2, 0.1]
    kept = []
    for side in (x, y):
        centred = side - side.mean(axis=0)
        u, s, _ = np.linalg.svd(centred, full_matrices=False)
        held, k = 0.0, 0
        while held < 0.95 * np.sum(s**2):
            held, k = held + s[k] ** 2, k + 1
        kept.append(u[:, :k] * s[:k])
    assert [side.shape[1] for side in kept] != [6, 5]
    expected = canonical_by_eigenproblem(*kept).mean()
    assert svcca(*covariances(x, y), share=0.95) == pytest.approx(expected, rel=1e-9)


def test_the_smallest_principal_angle_is_the_smallest_angle_between_any_two_vectors():
    rng = np.random.default_rng(8)
    a, b = haar_basis(5, 2, rng), haar_basis(5, 2, rng)
    # one vector of each plane for every pair of a thousand directions
    circle = np.linspace(0, np.pi, 1001)
    directions = np.stack([np.cos(circle), np.sin(circle)])
    cosines = np.abs((a @ directions).T @ (b @ directions))
    angles = principal_angles(a, b)
    assert np.arccos(cosines.max()) == pytest.approx(angles[-1], abs=1e-4)
    # the largest is the farthest that a vector of the one is from the whole of the other
    to_plane = np.linalg.norm((a @ directions).T @ b, axis=1)
    assert np.arccos(to_plane.min()) == pytest.approx(angles[0], abs=1e-4)
    squares = [(a[:, i] @ b[:, j]) ** 2 for i in range(2) for j in range(2)]
    assert overlap(a, b) == pytest.approx(sum(squares) / 2)


def test_a_planted_low_rank_change_comes_back_from_paired_rows():
    rng = np.random.default_rng(9)
    d, k, n = 60, 3, 4000
    directions, energies = haar_basis(d, k, rng), np.array([4.0, 3.0, 2.0])
    base = 5 * rng.standard_normal((n, d))
    base[:, 0] += 1000.0
    change = (rng.standard_normal((n, k)) * np.sqrt(energies)) @ directions.T
    stats = paired(base, base + change + 1e-3 * rng.standard_normal((n, d)))
    found = spectrum(stats.cov_diff)
    assert np.degrees(principal_angles(found.top(k).vectors, directions)).max() < 1
    assert effective_rank(found.values) == pytest.approx(effective_rank(energies), rel=0.05)
    assert participation_ratio(found.values) == pytest.approx(participation_ratio(energies), rel=0.05)
    # the difference of two covariances would not have done: its noise is the base's
    assert np.linalg.norm(stats.cov_adapted - stats.cov_base - stats.cov_diff) > np.linalg.norm(
        stats.cov_diff - (directions * energies) @ directions.T
    )
