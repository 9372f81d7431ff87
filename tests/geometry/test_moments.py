"""Any split, any order, any number of workers: the moments of the whole."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from geometry.checks import DataError, ShapeError
from geometry.moments import Moments, PairedMoments, unbiased_square

FIELDS = ("mean_base", "mean_diff", "cov_base", "cov_diff", "cross", "quartic", "fourth_diff")


def pairs(n, width, seed, *, spike=1000.0, step=0.1):
    """Base and adapted rows; the first coordinate is a massive activation."""
    rng = np.random.default_rng(seed)
    base = rng.standard_normal((n, width)) @ rng.standard_normal((width, width))
    base[:, 0] += spike
    return base, base + step * rng.standard_normal((n, width)) ** 2


def long_moments(base, adapted):
    """The slow and obvious answer: two passes in extended precision."""
    x = base.astype(np.longdouble)
    d = (adapted - base).astype(np.longdouble)
    n = len(x)
    xc, dc = x - x.mean(axis=0), d - d.mean(axis=0)
    q = np.stack([(xc * xc).sum(1), (xc * dc).sum(1), (dc * dc).sum(1)], axis=1)
    return {
        "mean_base": x.mean(axis=0),
        "mean_diff": d.mean(axis=0),
        "cov_base": xc.T @ xc / n,
        "cov_diff": dc.T @ dc / n,
        "cross": xc.T @ dc / n,
        "quartic": q.T @ q / n,
        "fourth_diff": (((d * d).sum(1)) ** 2).mean(),
    }


def assert_moments(stats, expected, rtol):
    for field in FIELDS:
        truth = np.asarray(expected[field], dtype=np.float64)
        # an entry of a matrix is judged against the matrix: a zero correlation has no relative error
        np.testing.assert_allclose(
            getattr(stats, field), truth, rtol=rtol, atol=rtol * np.abs(truth).max(), err_msg=field
        )


def merged_at_random(parts, rng):
    parts = list(parts)
    while len(parts) > 1:
        into = parts.pop(rng.integers(len(parts)))
        into.merge(parts.pop(rng.integers(len(parts))))
        parts.append(into)
    return parts[0]


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 60),
    width=st.integers(1, 5),
    cuts=st.lists(st.integers(0, 60), max_size=8),
    spike=st.sampled_from([0.0, 1000.0]),
)
def test_any_split_and_any_merge_order_is_the_whole(seed, n, width, cuts, spike):
    base, adapted = pairs(n, width, seed, spike=spike)
    rng = np.random.default_rng(seed)
    edges = sorted(min(c, n) for c in cuts)
    parts, singles = [], []
    for block in np.split(np.arange(n), edges):
        part, single = PairedMoments(width), Moments(width)
        for chunk in np.array_split(block, 2):
            part.update(base[chunk], adapted[chunk])
            single.update(base[chunk])
        parts.append(part)
        singles.append(single)
    expected = long_moments(base, adapted)
    assert_moments(merged_at_random(parts, rng).answer(), expected, rtol=1e-12)
    stats = merged_at_random(singles, rng).answer()
    assert stats.n == n
    scale = np.abs(expected["cov_base"]).max()
    np.testing.assert_allclose(stats.mean, expected["mean_base"].astype(float), rtol=1e-13, atol=1e-12)
    np.testing.assert_allclose(stats.cov, expected["cov_base"].astype(float), rtol=1e-12, atol=1e-12 * scale)


@pytest.mark.parametrize("chunk", [1, 7, 500])
def test_a_coordinate_of_mean_1000_costs_no_digits(chunk):
    base, adapted = pairs(500, 6, seed=0)
    moments = PairedMoments(6)
    for start in range(0, 500, chunk):
        moments.update(base[start : start + chunk], adapted[start : start + chunk])
    expected = long_moments(base, adapted)
    assert_moments(moments.answer(), expected, rtol=1e-13)
    # ... where the textbook formula loses half of them: the test can fail
    textbook = base.T @ base / 500 - np.outer(base.mean(axis=0), base.mean(axis=0))
    assert np.abs(textbook - expected["cov_base"])[0, 0] > 1e-11 * expected["cov_base"][0, 0]


def test_a_mean_that_drifts_costs_no_digits():
    base, adapted = pairs(400, 4, seed=1, spike=0.0)
    base = base + 1e4 * np.arange(400)[:, None]
    adapted = adapted + 1e4 * np.arange(400)[:, None]
    moments = PairedMoments(4)
    for start in range(0, 400, 8):
        moments.update(base[start : start + 8], adapted[start : start + 8])
    assert_moments(moments.answer(), long_moments(base, adapted), rtol=1e-11)


def test_numpy_is_an_oracle():
    base, adapted = pairs(50, 4, seed=2)
    moments = PairedMoments(4)
    moments.update(base, adapted)
    stats = moments.answer()
    diff = adapted - base
    np.testing.assert_allclose(stats.cov_adapted, np.cov(adapted.T, bias=True), atol=1e-10)
    np.testing.assert_allclose(stats.mean_adapted, adapted.mean(axis=0))
    np.testing.assert_allclose(stats.cross_adapted, np.cov(base.T, adapted.T, bias=True)[:4, 4:], atol=1e-10)
    np.testing.assert_allclose(stats.second_diff, diff.T @ diff / 50)
    assert stats.mean_square_diff == pytest.approx((diff**2).sum(axis=1).mean())
    assert stats.fourth_diff == pytest.approx(((diff**2).sum(axis=1) ** 2).mean())


def test_covariances_are_symmetric_to_the_last_bit():
    base, adapted = pairs(90, 7, seed=12)
    moments = PairedMoments(7)
    for chunk in np.array_split(np.arange(90), 11):
        moments.update(base[chunk], adapted[chunk])
    stats = moments.answer()
    for cov in (stats.cov_base, stats.cov_diff, stats.cov_adapted, stats.second_diff):
        np.testing.assert_array_equal(cov, cov.T)


def test_an_identity_adapter_differs_by_exactly_zero():
    base, _ = pairs(64, 5, seed=3)
    moments = PairedMoments(5)
    for chunk in np.array_split(base, 9):
        moments.update(chunk, chunk.copy())
    stats = moments.answer()
    for field in (stats.mean_diff, stats.cov_diff, stats.cross, stats.second_diff):
        assert not field.any()
    assert stats.mean_square_diff == 0.0
    assert stats.fourth_diff == 0.0
    assert stats.mean_shift_share_unbiased == 0.0


def test_mean_shift_share_is_unbiased_where_the_plain_share_is_not():
    rng = np.random.default_rng(4)
    shares, plain = [], []
    for _ in range(400):
        moments = PairedMoments(8)
        moments.update(np.zeros((6, 8)), rng.standard_normal((6, 8)))
        stats = moments.answer()
        shares.append(stats.mean_shift_share_unbiased)
        plain.append(stats.mean_diff @ stats.mean_diff / stats.mean_square_diff)
    assert abs(np.mean(shares)) < 3 * np.std(shares) / 20
    assert np.mean(plain) > 0.15


def test_mean_shift_share_is_the_published_formula():
    base, adapted = pairs(30, 3, seed=5)
    diff = adapted - base
    energy = (diff**2).sum()
    total = diff.sum(axis=0)
    expected = (total @ total - energy) / (30 * 29) / (energy / 30)
    moments = PairedMoments(3)
    moments.update(base, adapted)
    assert moments.answer().mean_shift_share_unbiased == pytest.approx(expected, rel=1e-12)


def test_unbiased_square_is_unbiased_for_rows_that_are_not_normal():
    rng = np.random.default_rng(6)
    mix = np.array([[1.0, 0.5, 0.0], [0.0, 1.0, -0.7]])
    truth = np.sum((mix @ mix.T) ** 2)
    found, plain = [], []
    for _ in range(4000):
        x = rng.exponential(size=(5, 3)) @ mix.T
        c = x - x.mean(axis=0)
        cov = c.T @ c / 5
        found.append(unbiased_square(5, cov, np.trace(cov) ** 2, np.mean((c * c).sum(axis=1) ** 2)))
        plain.append(np.sum(cov**2))
    assert abs(np.mean(found) - truth) < 4 * np.std(found) / np.sqrt(4000)
    assert abs(np.mean(plain) - truth) > 4 * np.std(plain) / np.sqrt(4000)


@pytest.mark.parametrize("kind", [Moments, PairedMoments])
def test_a_state_survives_the_disk_and_continues(kind):
    given_rows = pairs(20, 3, seed=7)[: 2 if kind is PairedMoments else 1]
    whole, first = kind(3), kind(3)
    for moments in (whole, first):
        moments.update(*[x[:11] for x in given_rows])
    resumed = kind.from_state(load(save(first.state())))
    for moments in (whole, resumed):
        moments.update(*[x[11:] for x in given_rows])
    for key, value in whole.state().items():
        np.testing.assert_array_equal(resumed.state()[key], value)


@pytest.mark.parametrize("kind", [Moments, PairedMoments])
def test_answers_and_states_are_not_changed_by_later_updates(kind):
    rng = np.random.default_rng(8)
    args = [rng.standard_normal((4, 2)) for _ in range(2 if kind is PairedMoments else 1)]
    moments = kind(2)
    moments.update(*args)
    state = moments.state()
    kept = {key: value.copy() for key, value in state.items()}
    answer = moments.answer()
    frozen = {key: np.copy(value) for key, value in vars(answer).items()}
    moments.update(*[3 * a for a in args])
    for key, value in kept.items():
        np.testing.assert_array_equal(state[key], value)
    for key, value in frozen.items():
        np.testing.assert_array_equal(getattr(answer, key), value)


@pytest.mark.parametrize("kind", [Moments, PairedMoments])
def test_merging_leaves_the_other_alone_and_nothing_changes_nothing(kind):
    rng = np.random.default_rng(9)
    args = [rng.standard_normal((4, 2)) for _ in range(2 if kind is PairedMoments else 1)]
    moments, empty = kind(2), kind(2)
    moments.update(*args)
    before = moments.state()
    moments.merge(empty)
    moments.update(*[a[:0] for a in args])
    empty.merge(moments)
    for key, value in before.items():
        np.testing.assert_array_equal(moments.state()[key], value)
        np.testing.assert_array_equal(empty.state()[key], value)


def test_rows_given_are_not_written_to():
    base, adapted = pairs(5, 2, seed=10)
    kept = base.copy(), adapted.copy()
    PairedMoments(2).update(base, adapted)
    np.testing.assert_array_equal(base, kept[0])
    np.testing.assert_array_equal(adapted, kept[1])


def test_float32_rows_are_summed_in_float64():
    base, adapted = (m.astype(np.float32) for m in pairs(300, 3, seed=11))
    moments = PairedMoments(3)
    moments.update(base, adapted)
    expected = long_moments(base.astype(np.float64), adapted.astype(np.float64))
    assert_moments(moments.answer(), expected, rtol=1e-12)


@pytest.mark.parametrize("width", [0, -1, 2.0, "3"])
@pytest.mark.parametrize("kind", [Moments, PairedMoments])
def test_a_width_is_a_positive_whole_number(kind, width):
    with pytest.raises(ShapeError, match="width: expected a whole number"):
        kind(width)


def test_wrong_rows_are_refused():
    with pytest.raises(ShapeError, match=r"x: expected \(n, 3\)"):
        Moments(3).update(np.zeros((2, 4)))
    with pytest.raises(ShapeError, match=r"base: expected \(n, 3\)"):
        PairedMoments(3).update(np.zeros((2, 4)), np.zeros((2, 3)))
    with pytest.raises(ShapeError, match=r"adapted: expected \(2, 3\) like base, got \(5, 3\)"):
        PairedMoments(3).update(np.zeros((2, 3)), np.zeros((5, 3)))


@pytest.mark.parametrize("kind", [Moments, PairedMoments])
def test_widths_do_not_mix(kind):
    with pytest.raises(ShapeError, match="width 2, the other 3"):
        kind(2).merge(kind(3))


@pytest.mark.parametrize("kind", [Moments, PairedMoments])
def test_no_rows_have_no_moments(kind):
    with pytest.raises(ShapeError, match="no rows yet"):
        kind(2).answer()


@pytest.mark.parametrize("kind", [Moments, PairedMoments])
def test_a_state_that_is_none_is_refused(kind):
    state = kind(2).state()
    with pytest.raises(DataError, match="written by state"):
        kind.from_state({})
    with pytest.raises(DataError, match="written by state"):
        kind.from_state(state | {"extra": np.zeros(1)})
    with pytest.raises(DataError, match="scatter has shape"):
        kind.from_state(state | {"scatter": np.zeros((1, 1))})


def test_too_few_rows_for_an_unbiased_estimate():
    moments = PairedMoments(2)
    moments.update(np.zeros((1, 2)), np.ones((1, 2)))
    with pytest.raises(ShapeError, match="at least 2 rows"):
        _ = moments.answer().mean_shift_share_unbiased
    with pytest.raises(ShapeError, match="at least 4 rows"):
        unbiased_square(3, np.eye(2), 4.0, 4.0)
