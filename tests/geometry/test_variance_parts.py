"""Planted parts come back without bias, with texts of unequal length; where tokens are counted, they would not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from geometry.checks import DataError, ShapeError
from geometry.variance_parts import TextSums


def texts(rng, *, count, width, between, within, shift=0.0):
    """Rows of texts of 1 to 12 rows whose length says nothing about them."""
    lengths = rng.integers(1, 13, count)
    means = shift + np.sqrt(between / width) * rng.standard_normal((count, width))
    label = np.repeat(np.arange(count), lengths)
    return means[label] + np.sqrt(within / width) * rng.standard_normal((len(label), width)), label


@pytest.mark.parametrize(("between", "within", "shift"), [(3.0, 1.0, 0.5), (0.0, 2.0, 0.0), (0.2, 5.0, 0.1)])
def test_planted_parts_come_back_without_bias_from_few_texts(between, within, shift):
    rng = np.random.default_rng(0)
    found, counted = [], []
    for _ in range(1500):
        x, label = texts(rng, count=6, width=4, between=between, within=within, shift=shift)
        sums = TextSums(4)
        sums.update(x, label)
        parts = sums.answer()
        found.append((parts.constant, parts.between, parts.within))
        mean = x.mean(axis=0)
        counted.append(mean @ mean - np.sum((x - mean) ** 2) / (len(x) * (len(x) - 1)))
    found = np.array(found)
    error = found.mean(axis=0) - (4 * shift**2, between, within)
    assert np.all(np.abs(error) < 4 * found.std(axis=0) / np.sqrt(1500))
    # the same number with tokens as what is sampled finds a constant shift in what is the texts' own
    if between:
        bias = np.mean(counted) - 4 * shift**2
        assert bias > 4 * np.std(counted) / np.sqrt(1500)


def test_the_slow_and_obvious_analysis_of_variance():
    rng = np.random.default_rng(1)
    x, label = texts(rng, count=9, width=3, between=2.0, within=1.0, shift=4.0)
    own = [x[label == t] for t in range(9)]
    n, grand = len(x), x.mean(axis=0)
    inside = sum(np.sum((t - t.mean(axis=0)) ** 2) for t in own) / (n - 9)
    outside = sum(len(t) * np.sum((t.mean(axis=0) - grand) ** 2) for t in own) / 8
    lengths = np.array([len(t) for t in own])
    expected = (outside - inside) / ((n - (lengths**2).sum() / n) / 8)
    sums = TextSums(3)
    sums.update(x, label)
    parts = sums.answer()
    assert (parts.n, parts.texts) == (n, 9)
    assert parts.within == pytest.approx(inside)
    assert parts.between == pytest.approx(expected)
    assert parts.between_share == pytest.approx(expected / (expected + inside))


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), workers=st.integers(1, 4), spike=st.sampled_from([0.0, 1e4]))
def test_any_split_of_the_texts_is_the_whole(seed, workers, spike):
    rng = np.random.default_rng(seed)
    x, label = texts(rng, count=10, width=3, between=1.0, within=1.0)
    x[:, 0] += spike
    whole = TextSums(3)
    whole.update(x, label)
    parts = [TextSums(3) for _ in range(workers)]
    for t in rng.permutation(10):
        parts[rng.integers(workers)].update(x[label == t], label[label == t])
    for part in parts[1:]:
        parts[0].merge(part)
    for name, value in whole.state().items():
        np.testing.assert_allclose(parts[0].state()[name], value, rtol=1e-9, err_msg=name)


def test_the_parts_do_not_depend_on_a_rotation_nor_on_the_names_of_texts():
    rng = np.random.default_rng(2)
    x, label = texts(rng, count=8, width=5, between=1.0, within=2.0, shift=1.0)
    turn = np.linalg.qr(rng.standard_normal((5, 5)))[0]
    one, other = TextSums(5), TextSums(5)
    one.update(x, label)
    other.update(x @ turn, np.array([f"text {t * 7 % 8}" for t in label]))
    for name in ("constant", "between", "within"):
        assert getattr(one.answer(), name) == pytest.approx(getattr(other.answer(), name))


def test_shares():
    sums = TextSums(2)
    sums.update([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]], [0, 0, 1, 1])
    assert sums.answer().between_share == 1.0
    assert sums.answer().constant_share == pytest.approx(-1.0)  # half of one text each way: no shift at all
    sums = TextSums(2)
    sums.update(np.ones((4, 2)), [0, 0, 1, 1])
    assert sums.answer().constant_share == 1.0
    assert sums.answer().between_share is None
    sums = TextSums(2)
    sums.update(np.zeros((4, 2)), [0, 0, 1, 1])
    assert sums.answer().between_share is sums.answer().constant_share is None


def test_a_state_survives_the_disk():
    rng = np.random.default_rng(3)
    sums = TextSums(3)
    sums.update(*texts(rng, count=5, width=3, between=1.0, within=1.0))
    back = TextSums.from_state(load(save(sums.state())))
    assert back.answer() == sums.answer()
    with pytest.raises(DataError, match="was it written by"):
        TextSums.from_state({"n": 1})


def test_what_has_no_parts_is_refused():
    sums = TextSums(2)
    sums.update(np.zeros((0, 2)), np.zeros(0))
    for x, label in (([[1.0, 2.0]], [0]), ([[3.0, 4.0]], [0])):
        with pytest.raises(ShapeError, match="give two texts or more"):
            sums.answer()
        sums.update(x, label)
    with pytest.raises(ShapeError, match="2 rows of 2 texts"):
        sums.answer()
    with pytest.raises(ShapeError, match="one label for each of 1 rows"):
        sums.update([[1.0, 2.0]], [0, 1])
    with pytest.raises(ShapeError, match="widths 2 and 3 differ"):
        sums.merge(TextSums(3))
