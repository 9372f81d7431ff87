"""The permutation test keeps its level, ceilings and intervals cover what was planted."""

from __future__ import annotations

import numpy as np
import pytest

from geometry.block_resampling import halved_overlaps, intervals, jackknife_halfwidth, permuted_overlap
from geometry.checks import DataError, ShapeError
from geometry.document_blocks import BlockMoments, BlockStats, joint_basis
from geometry.nulls import haar_basis
from geometry.spectra import spectrum

M, K = 12, 3


def group(scales, documents, rng, tokens=20, document_spread=0.5):
    """Documents of tokens = shared part + own part, both spread as the columns of ``scales``."""
    n, second = np.full(documents, tokens), []
    for _ in range(documents):
        z = document_spread * rng.normal(size=(1, M)) + rng.normal(size=(tokens, M))
        rows = z @ scales.T
        second.append(rows.T @ rows)
    second = np.array(second)
    return BlockStats(n, second, np.trace(second, axis1=1, axis2=2))


def spread(directions):
    """Energy falling as 1 / i^2 along the columns."""
    return directions / np.arange(1, M + 1)


def turned(share, rng):
    """Directions of which the first K have the overlap ``share`` with the first K axes, one direction swapped."""
    angle = np.arccos(np.sqrt(1 - K * (1 - share)))
    axes = np.eye(M)
    axes[[K - 1, K], K - 1] = np.cos(angle), np.sin(angle)
    axes[[K - 1, K], K] = -np.sin(angle), np.cos(angle)
    return axes


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("tokens", [(20, 20), (60, 6)])
def test_one_subspace_is_rejected_no_more_often_than_the_level(rng, tokens):
    scales = spread(haar_basis(M, M, rng))
    p = [
        permuted_overlap(group(scales, 16, rng, tokens[0]), group(scales, 30, rng, tokens[1]), K, 99, rng).p
        for _ in range(300)
    ]
    # three standard deviations of 300 trials above the nominal level
    for level in (0.05, 0.2):
        assert np.mean(np.array(p) <= level) <= level + 3 * np.sqrt(level * (1 - level) / 300)


def test_blocks_of_equal_size_give_uniform_p_values(rng):
    scales = spread(haar_basis(M, M, rng))
    p = [
        permuted_overlap(group(scales, 16, rng, 8), group(scales, 16, rng, 8), K, 99, rng).p
        for _ in range(300)
    ]
    for level in (0.1, 0.5, 0.9):
        assert np.mean(np.array(p) <= level) == pytest.approx(level, abs=4 * np.sqrt(0.25 / 300))


def test_the_level_holds_inside_the_joint_basis_of_the_very_groups(rng):
    """The basis is made from the groups that are tested; with the union of their own tops this fails."""
    width, k, trials = 60, 2, 200
    scales = haar_basis(width, width, rng) / np.arange(1, width + 1) ** 0.4
    p = []
    for _ in range(trials):
        rows = [rng.normal(size=(20, 30, width)) @ scales.T for _ in range(2)]
        basis = joint_basis(*(spectrum(np.einsum("btd,bte->de", r, r)) for r in rows), 8 * k)
        held = [BlockMoments(basis, 20) for _ in rows]
        for moments, of_group in zip(held, rows, strict=True):
            moments.update(of_group.reshape(-1, width), np.repeat(np.arange(20), 30))
        one, other = (moments.answer() for moments in held)
        assert min(one.outside, other.outside) > 0.2
        p.append(permuted_overlap(one, other, k, 99, rng).p)
    for level in (0.05, 0.2):
        assert np.mean(np.array(p) <= level) <= level + 3 * np.sqrt(level * (1 - level) / trials)


def test_orthogonal_subspaces_lie_below_every_split(rng):
    axes = np.eye(M)
    one, other = group(spread(axes), 16, rng), group(spread(axes[:, ::-1]), 16, rng)
    found = permuted_overlap(one, other, K, 199, rng)
    assert found.observed < 0.05 < found.samples.min()
    assert found.p == 1 / 200


def test_the_order_of_the_groups_does_not_matter(rng):
    one, other = group(spread(np.eye(M)), 8, rng, 50), group(spread(turned(0.75, rng)), 70, rng, 5)
    there, back = (
        permuted_overlap(*pair, K, 49, np.random.default_rng(7)) for pair in ((one, other), (other, one))
    )
    assert there.observed == pytest.approx(back.observed)
    np.testing.assert_allclose(there.samples, back.samples)


def test_halves_of_one_subspace_meet_their_ceiling(rng):
    scales = spread(haar_basis(M, M, rng))
    one, other = group(scales, 60, rng, 4), group(scales, 60, rng, 4)
    halved = halved_overlaps(one, other, K, 200, rng)
    assert 0.6 < halved.first < 0.999
    assert halved.across == pytest.approx(halved.ceiling, abs=0.05)
    found = halved.disattenuated(0.25)
    assert found.low <= 1 <= found.high
    assert found.value == pytest.approx(1, abs=0.1)


def test_disattenuation_recovers_an_overlap_that_noise_hides(rng):
    true, chance = 0.75, K / M
    one, other = group(spread(np.eye(M)), 40, rng, 6), group(spread(turned(true, rng)), 40, rng, 6)
    halved = halved_overlaps(one, other, K, 200, rng)
    found = halved.disattenuated(chance)
    wanted = (true - chance) / (1 - chance)
    assert halved.across < true
    assert found.low < wanted < found.high
    assert found.high - found.low < 0.8


def test_there_is_no_scale_where_the_ceiling_is_not_above_chance(rng):
    one = group(spread(np.eye(M)), 8, rng)
    assert halved_overlaps(one, one, K, 9, rng).disattenuated(1.0) is None


@pytest.mark.parametrize("true", [0.75, 1.0])
def test_intervals_cover_the_planted_overlap(rng, true):
    scales = spread(np.eye(M)), spread(turned(true, rng))
    covered = {"overlap": 0, "matrix_cosine": 0, "capture_first": 0, "capture_second": 0}
    c = [s @ s.T for s in scales]
    best = np.trace(c[0][:K, :K])
    other = turned(true, rng)[:, :K]
    truth = {
        "overlap": true,
        "matrix_cosine": np.sum(c[0] * c[1]) / np.linalg.norm(c[0]) / np.linalg.norm(c[1]),
        "capture_first": np.trace(other.T @ c[0] @ other) / best,
        "capture_second": np.trace(c[1][:K, :K]) / best,
    }
    for _ in range(100):
        found = intervals(group(scales[0], 40, rng), group(scales[1], 40, rng), K, 99, rng)
        for name, interval in found.items():
            assert 0 <= interval.low <= interval.value <= interval.high <= 1
            covered[name] += interval.low <= truth[name] + 1e-9 and truth[name] - 1e-9 <= interval.high
    assert min(covered.values()) >= 85, covered


def test_too_few_documents_are_refused(rng):
    one, few = group(spread(np.eye(M)), 8, rng), group(spread(np.eye(M)), 3, rng)
    for ask in (permuted_overlap, halved_overlaps, intervals):
        with pytest.raises(DataError, match="3 documents"):
            ask(one, few, K, 9, rng)


def test_the_jackknife_of_a_mean_is_the_classical_interval():
    from scipy import stats

    x = np.random.default_rng(0).normal(size=20)
    left_out = [np.delete(x, i).mean() for i in range(20)]
    low, high = stats.t.interval(0.95, 19, loc=x.mean(), scale=stats.sem(x))
    assert jackknife_halfwidth(left_out) == pytest.approx((high - low) / 2, rel=1e-9)
    with pytest.raises(ShapeError, match="at least 2 blocks"):
        jackknife_halfwidth([1.0])
