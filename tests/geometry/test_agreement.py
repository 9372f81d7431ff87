"""Correlations see order or size, nothing else, and refuse what has neither."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from geometry.agreement import correlation, rank_correlation
from geometry.checks import ShapeError


def test_they_equal_scipys_with_ties():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 5, (2, 50)).astype(float)
    assert rank_correlation(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)
    assert correlation(x, y) == pytest.approx(stats.pearsonr(x, y).statistic)


def test_ranks_do_not_see_a_monotone_map_and_sizes_do():
    x = np.arange(1.0, 20)
    assert rank_correlation(x, np.exp(x)) == pytest.approx(1)
    assert correlation(x, np.exp(x)) < 0.8


def test_what_has_no_order_has_no_correlation():
    assert rank_correlation([1.0, 2.0], [3.0, 3.0]) is None
    assert correlation([1.0, 1.0], [3.0, 4.0]) is None


def test_what_does_not_fit_is_refused():
    for x, y in (([1.0], [1.0]), ([1.0, 2.0], [1.0]), ([[1.0, 2.0]], [[1.0, 2.0]])):
        with pytest.raises(ShapeError, match="two vectors"):
            correlation(x, y)
    with pytest.raises(ShapeError, match="not finite"):
        rank_correlation([1.0, np.nan], [1.0, 2.0])
