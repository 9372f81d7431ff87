import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geometry.checks import ShapeError
from geometry.histogram import LogHistogram


def filled(values):
    histogram = LogHistogram()
    histogram.update(values)
    return histogram


def test_quantiles_agree_with_numpy_to_the_stated_resolution():
    values = np.random.default_rng(0).lognormal(0, 3, 5001)
    answer = filled(values).answer()
    for share in (0.01, 0.25, 0.5, 0.9, 0.999):
        exact = np.quantile(values, share, method="inverted_cdf")
        assert answer.at(share) == pytest.approx(exact, rel=0.006)


@given(st.lists(st.floats(0, 1e9), min_size=2, max_size=40), st.data())
def test_any_split_in_any_order_is_the_whole(values, data):
    cut = data.draw(st.integers(1, len(values) - 1))
    parts = filled(values[cut:])
    parts.merge(LogHistogram.from_state(filled(values[:cut]).state()))
    np.testing.assert_array_equal(parts.answer().counts, filled(values).answer().counts)


def test_zeros_are_counted_as_exactly_zero_and_giants_as_infinite():
    assert filled([0.0, 0.0, 5.0]).answer().median == 0.0
    assert filled([1e30]).answer().median == np.inf


def test_one_giant_moves_the_mean_but_not_the_median():
    assert filled([1.0] * 99 + [1e6]).answer().median == pytest.approx(1, rel=0.006)


@pytest.mark.parametrize("bad", [[-1.0], [np.nan], [np.inf]])
def test_refuses_what_is_no_size_and_counts_nothing_of_it(bad):
    histogram = LogHistogram()
    with pytest.raises(ShapeError, match="finite and not negative"):
        histogram.update([1.0, *bad])
    assert histogram.answer().n == 0


def test_refuses_quantiles_of_nothing_and_foreign_states():
    with pytest.raises(ShapeError, match="needs numbers"):
        LogHistogram().answer().at(0.5)
    with pytest.raises(ShapeError, match="share in"):
        filled([1.0]).answer().at(1.5)
    with pytest.raises(ShapeError, match="expected"):
        LogHistogram.from_state({"counts": np.zeros(3, np.int64)})
