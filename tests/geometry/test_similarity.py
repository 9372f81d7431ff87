"""Streamed similarities equal slow ones on the rows themselves, and forgive exactly what they should."""

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from geometry.checks import ShapeError
from geometry.moments import PairedMoments
from geometry.similarity import linear_cka, mean_cca, procrustes_distance, svcca, unbiased_cka

MEASURES = (linear_cka, procrustes_distance, mean_cca, svcca)


def rotation(d, rng):
    return np.linalg.qr(rng.standard_normal((d, d)))[0]


def related(n, p, q, seed):
    """Two sets of rows that share two directions."""
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((n, 2))
    x = shared @ rng.standard_normal((2, p)) + rng.standard_normal((n, p))
    y = shared @ rng.standard_normal((2, q)) + rng.standard_normal((n, q))
    return x, y


def covariances(x, y):
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    return x.T @ x / len(x), y.T @ y / len(x), x.T @ y / len(x)


def streamed(base, adapted, chunk=37):
    moments = PairedMoments(base.shape[1])
    for start in range(0, len(base), chunk):
        moments.update(base[start : start + chunk], adapted[start : start + chunk])
    return moments.answer()


def kernel_hsic(x, y):
    """HSIC_1 as Song et al. (2012) write it, with two n x n kernels."""
    n = len(x)
    k, l = x @ x.T, y @ y.T
    np.fill_diagonal(k, 0.0)
    np.fill_diagonal(l, 0.0)
    total = np.trace(k @ l) + k.sum() * l.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (k @ l).sum()
    return total / (n * (n - 3))


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(4, 50), d=st.integers(1, 12), chunk=st.integers(1, 50))
def test_streamed_hsic_is_the_kernel_form(seed, n, d, chunk):
    base, adapted = related(n, d, d, seed)
    found = unbiased_cka(streamed(base + 3.0, adapted - 5.0, chunk))
    parts = kernel_hsic(base, adapted), kernel_hsic(base, base), kernel_hsic(adapted, adapted)
    np.testing.assert_allclose(
        (found.hsic_cross, found.hsic_base, found.hsic_adapted),
        parts,
        rtol=1e-10,
        atol=1e-10 * max(map(abs, parts)),
    )


def test_streamed_cka_is_the_kernel_form_beside_a_massive_coordinate():
    base, adapted = related(200, 16, 16, seed=0)
    parts = kernel_hsic(base, adapted), kernel_hsic(base, base), kernel_hsic(adapted, adapted)
    spike = np.zeros(16)
    spike[3] = 1000.0
    found = unbiased_cka(streamed(base + spike, adapted + spike))
    assert found.cka == pytest.approx(parts[0] / np.sqrt(parts[1] * parts[2]), rel=1e-10)


def test_noise_has_no_likeness_without_bias_and_much_with_it():
    rng = np.random.default_rng(1)
    base, adapted = rng.standard_normal((300, 256)), rng.standard_normal((300, 256))
    stats = streamed(base, adapted)
    assert linear_cka(stats.cov_base, stats.cov_adapted, stats.cross_adapted) == pytest.approx(0.46, abs=0.01)
    assert abs(unbiased_cka(stats).cka) < 0.01


def test_an_identity_adapter_is_alike():
    base, _ = related(50, 8, 8, seed=2)
    found = unbiased_cka(streamed(base, base.copy()))
    assert found.cka == pytest.approx(1.0, rel=1e-14)
    assert found.hsic_cross == found.hsic_base == found.hsic_adapted


def test_cka_forgives_rotation_and_scale_of_one_side_but_no_other_map():
    rng = np.random.default_rng(3)
    base, _ = related(400, 6, 6, seed=4)
    assert unbiased_cka(streamed(base, 3 * base @ rotation(6, rng))).cka == pytest.approx(1.0)
    assert unbiased_cka(streamed(base, base * [1, 1, 1, 1, 1, 9.0])).cka < 0.9


def test_too_few_rows_to_tell_is_none_not_nan():
    # mutually orthogonal rows: every pair of different rows says that nothing varies
    for adapted in (np.zeros((6, 6)), 2 * np.eye(6), np.eye(6)[::-1]):
        found = unbiased_cka(streamed(np.eye(6), adapted))
        assert found.cka is None
        assert np.isfinite([found.hsic_cross, found.hsic_base, found.hsic_adapted]).all()
    with pytest.raises(ShapeError, match="at least 4 rows"):
        unbiased_cka(streamed(np.eye(3), np.eye(3)))


def test_linear_cka_is_the_kernel_form():
    x, y = related(40, 5, 7, seed=5)
    centre = np.eye(40) - 1 / 40
    k, l = (centre @ (rows @ rows.T) @ centre for rows in (x, y))
    expected = np.sum(k * l) / (np.linalg.norm(k) * np.linalg.norm(l))
    assert linear_cka(*covariances(x, y)) == pytest.approx(expected, rel=1e-12)


def test_scipy_finds_the_same_best_rotation():
    x, y = related(60, 5, 5, seed=6)
    xc, yc = x - x.mean(axis=0), y - y.mean(axis=0)
    q, _ = scipy.linalg.orthogonal_procrustes(yc, xc)
    expected = np.sqrt(np.mean(np.sum((xc - yc @ q) ** 2, axis=1)))
    assert procrustes_distance(*covariances(x, y)) == pytest.approx(expected, rel=1e-12)


def test_procrustes_pads_the_narrower_side():
    x, y = related(60, 5, 3, seed=7)
    padded = np.hstack([y, np.zeros((60, 2))])
    assert procrustes_distance(*covariances(x, y)) == pytest.approx(
        procrustes_distance(*covariances(x, padded))
    )


def test_procrustes_distance_is_a_metric_up_to_rotation():
    rng = np.random.default_rng(8)
    for seed in range(20):
        x, y = related(30, 4, 4, seed)
        z = x + y + rng.standard_normal((30, 4))
        xy, yz, xz = (procrustes_distance(*covariances(*pair)) for pair in ((x, y), (y, z), (x, z)))
        assert xz <= xy + yz + 1e-12
        assert procrustes_distance(*covariances(y, x)) == pytest.approx(xy)
        assert procrustes_distance(*covariances(x, x @ rotation(4, rng))) < 1e-6
        # the distance without a rotation is never smaller, and not blind to one
        assert np.sqrt(np.trace(np.cov((x - y).T, bias=True))) >= xy - 1e-12
    assert procrustes_distance(*covariances(x, 2 * x)) > 0.5


def test_canonical_correlations_are_cosines_of_angles_between_the_columns():
    x, y = related(50, 4, 6, seed=9)
    angles = scipy.linalg.subspace_angles(x - x.mean(axis=0), y - y.mean(axis=0))
    assert mean_cca(*covariances(x, y)) == pytest.approx(np.cos(angles).mean(), rel=1e-10)


def test_mean_cca_forgives_every_invertible_map_and_svcca_does_not():
    rng = np.random.default_rng(10)
    x, y = related(80, 4, 4, seed=11)
    bent = y @ rng.standard_normal((4, 4))
    assert mean_cca(*covariances(x, bent)) == pytest.approx(mean_cca(*covariances(x, y)), rel=1e-9)
    # three shared coordinates and one of noise, which carries nearly all the variance once it is stretched
    mostly_shared = np.hstack([x[:, :3], rng.standard_normal((80, 1))])
    assert svcca(*covariances(x, mostly_shared)) > 0.7
    assert svcca(*covariances(x, mostly_shared * [1, 1, 1, 100.0])) < 0.4


def test_svcca_is_mean_cca_where_all_directions_are_kept():
    pair = covariances(*related(80, 4, 6, seed=12))
    assert svcca(*pair, share=1.0) == pytest.approx(mean_cca(*pair), rel=1e-12)


def test_svcca_works_with_fewer_rows_than_dimensions():
    x, y = related(20, 30, 30, seed=13)
    assert 0 < svcca(*covariances(x, y), share=0.5) < 1
    with pytest.raises(ShapeError, match=r"cov_x: rank 19 of 30; .* use svcca"):
        mean_cca(*covariances(x, y))


@pytest.mark.parametrize("measure", MEASURES)
def test_a_rotation_of_either_side_is_forgiven(measure):
    rng = np.random.default_rng(14)
    x, y = related(60, 5, 4, seed=15)
    turned = measure(*covariances(x @ rotation(5, rng) + 7.0, y @ rotation(4, rng)))
    assert turned == pytest.approx(measure(*covariances(x, y)), rel=1e-9)


@pytest.mark.parametrize("measure", MEASURES)
def test_covariances_that_do_not_fit_are_refused(measure):
    with pytest.raises(ShapeError, match=r"got \(2, 2\), \(3, 3\) and \(3, 2\)"):
        measure(np.eye(2), np.eye(3), np.ones((3, 2)))
    with pytest.raises(ShapeError, match="does not vary at all"):
        measure(np.eye(2), np.zeros((3, 3)), np.zeros((2, 3)))
    with pytest.raises(ShapeError, match="cross: holds NaN"):
        measure(np.eye(2), np.eye(2), np.full((2, 2), np.nan))


def test_a_share_is_a_share():
    with pytest.raises(ShapeError, match="share: expected"):
        svcca(np.eye(2), np.eye(2), np.eye(2), share=0.0)
