"""A number is written down with its floor, alone or summed over modules."""

import numpy as np
import pytest

from analyses.floors import pooled, with_haar, with_null
from geometry.nulls import null_of


def test_the_null_of_a_number_is_that_of_the_geometry_package():
    record, null = with_null(2.0, [0.0, 1.0, 0.5]), null_of(2.0, [0.0, 1.0, 0.5])
    assert (record["null"]["mean"], record["null"]["sd"], record["null"]["n"]) == (null.mean, null.sd, null.n)
    assert (record["null"]["low"], record["null"]["high"]) == null.band


@pytest.mark.parametrize(
    ("value", "verdict"), [(0.5, "above"), (0.12, "not distinguishable"), (0.01, "below")]
)
def test_a_closed_form_null_gives_the_same_three_words(value, verdict):
    assert with_haar(value, 0.1, 0.02)["null"]["verdict"] == verdict
    assert with_haar(value, 0.01, 0.02)["null"]["low"] == 0


def test_sums_over_modules_meet_sums_of_the_same_draws():
    rng = np.random.default_rng(0)
    values, samples = rng.random((5, 2, 3)), rng.random((5, 4, 2, 3))
    grid = pooled(values, samples)
    for i in range(2):
        for j in range(3):
            expected = with_null(values[:, i, j].sum(), samples[:, :, i, j].sum(0).tolist())
            assert grid[i][j]["value"] == pytest.approx(expected["value"])
            assert grid[i][j]["null"]["mean"] == pytest.approx(expected["null"]["mean"])
