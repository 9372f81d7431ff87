"""The planted shape and width come back, and noise is not explained on pairs that were held out."""

from itertools import pairwise

import numpy as np
import pytest

from geometry.checks import ShapeError
from geometry.kernels import SHAPES, fit_kernels, width_interval
from geometry.lattice import exponential, wrapped
from geometry.layouts import cycle, line

YEARS = line(40)


def noisy(matrix, sd, seed=0):
    m = np.random.default_rng(seed).standard_normal(matrix.shape)
    return matrix + sd * (m + m.T)


@pytest.mark.parametrize(
    ("shape", "matrix", "width"),
    [
        ("exponential", np.exp(-YEARS.distance / 6), 6),
        ("gaussian", np.exp(-((YEARS.distance / 8) ** 2) / 2), 8),
        ("power", 1 / (1 + YEARS.distance / 3), 3),
        ("linear", -YEARS.distance / 39, None),
        ("plateau", np.exp(-np.maximum(0, YEARS.distance - 0.3 * 39) / 5), 5),
    ],
)
def test_a_planted_shape_comes_back(shape, matrix, width):
    best = fit_kernels(noisy(0.5 + 2 * matrix, 0.02), YEARS, np.random.default_rng(0))[0]
    assert best.shape == shape and best.held_out > 0.9
    assert best(YEARS.distance[0, 5]) == pytest.approx(0.5 + 2 * matrix[0, 5], abs=0.02)
    if width:
        assert best.width == pytest.approx(width, rel=0.05)


def test_the_kernel_round_a_cycle_is_the_wrapped_one():
    layout = cycle(12)
    matrix = 0.7 + 1.4 * wrapped(exponential(4.2), 12)(layout.distance)
    fits = {fit.shape: fit for fit in fit_kernels(matrix, layout, np.random.default_rng(0))}
    found = fits["exponential"]
    assert found.width == pytest.approx(4.2, rel=1e-3) and found.amplitude == pytest.approx(1.4, rel=1e-3)
    assert found.period == 12 and found.r2 == pytest.approx(1)
    off = ~np.eye(12, dtype=bool)
    np.testing.assert_allclose(found(layout.distance)[off], matrix[off], rtol=1e-6)


def test_noise_is_not_predicted():
    m = noisy(np.zeros((40, 40)), 1.0)
    for fit in fit_kernels(m, YEARS, np.random.default_rng(0)):
        assert fit.held_out < 0.02 and fit.r2 >= 0


def test_all_shapes_are_fitted_best_first():
    fits = fit_kernels(noisy(np.exp(-YEARS.distance / 6), 0.1), YEARS, np.random.default_rng(0))
    assert {fit.shape for fit in fits} == set(SHAPES)
    assert all(a.held_out >= b.held_out - 1e-8 for a, b in pairwise(fits))


def test_the_interval_of_the_width_covers_it():
    replicates = [noisy(np.exp(-YEARS.distance / 6), 0.1, seed) for seed in range(30)]
    low, high = width_interval(replicates, YEARS, "exponential")
    assert low < 6 < high < 8


def test_what_cannot_be_fitted_is_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(ShapeError, match="too few to hold some out"):
        fit_kernels(np.eye(4), line(4), rng)
    with pytest.raises(ShapeError, match="all pairs of items are equal"):
        fit_kernels(np.eye(40), YEARS, rng)
    with pytest.raises(ShapeError, match="at least 20"):
        width_interval([np.eye(40)] * 3, YEARS, "exponential")
    with pytest.raises(ShapeError, match="expected one of"):
        width_interval([np.eye(40)] * 20, YEARS, "wave")
