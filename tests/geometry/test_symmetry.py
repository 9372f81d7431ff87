"""Symmetric matrices are found symmetric, noise is at its printed chance, and the blind spots are where we say."""

import numpy as np
import pytest

from geometry.checks import ShapeError
from geometry.lattice import exponential, wrapped
from geometry.layouts import cycle, grid, line, sphere
from geometry.symmetry import monotonicity, periodic_or_open, saturated, symmetry_fraction

YEAR = cycle(12)
NEAR = wrapped(exponential(4.2), 12)(YEAR.distance)


def noise(n, rng):
    m = rng.standard_normal((n, n))
    return m + m.T


def places(n, rng):
    return np.column_stack([rng.uniform(-60, 60, n), rng.uniform(-180, 180, n)])


@pytest.mark.parametrize(
    "layout", [YEAR, line(9), grid((3, 4)), sphere(places(10, np.random.default_rng(0)))]
)
def test_functions_of_the_lag_are_wholly_symmetric(layout):
    values = np.random.default_rng(1).standard_normal(layout.lags.max() + 2)
    found = symmetry_fraction(values[layout.lags], layout)
    assert found.value == pytest.approx(1) and found.adjusted == pytest.approx(1)


@pytest.mark.parametrize(
    ("layout", "mean", "high"),
    [
        (cycle(12), 0.078, 0.16), (line(12), 0.152, 0.27), (cycle(7), 0.10, 0.28), (line(7), 0.25, 0.49),
        (cycle(24), 0.039, 0.07), (cycle(48), 0.02, 0.03),
    ],
)  # fmt: skip
def test_noise_is_at_its_printed_chance(layout, mean, high):
    rng = np.random.default_rng(0)
    found = [symmetry_fraction(noise(layout.n, rng), layout) for _ in range(2000)]
    values = np.array([one.value for one in found])
    assert found[0].chance == pytest.approx(mean, abs=0.002)
    assert found[0].chance_high == pytest.approx(high, abs=0.006)
    assert values.mean() == pytest.approx(found[0].chance, abs=0.004)
    assert np.mean(values > found[0].chance_high) == pytest.approx(0.05, abs=0.012)


def test_the_fraction_is_the_distance_to_the_projection():
    rng = np.random.default_rng(3)
    m = noise(12, rng)
    off = ~np.eye(12, dtype=bool)
    projected = np.zeros((12, 12))
    for lag in range(6):
        projected[YEAR.lags == lag] = m[YEAR.lags == lag].mean()
    expected = 1 - np.sum((m - projected)[off] ** 2) / np.sum((m[off] - m[off].mean()) ** 2)
    assert symmetry_fraction(m, YEAR).value == pytest.approx(expected)


def test_the_diagonal_scale_and_shift_do_not_matter():
    m = noise(12, np.random.default_rng(0)) + NEAR
    changed = 3 * m + 7 + np.diag(np.arange(12.0))
    assert symmetry_fraction(changed, YEAR).value == pytest.approx(symmetry_fraction(m, YEAR).value)
    assert monotonicity(changed, YEAR) == pytest.approx(monotonicity(m, YEAR))


@pytest.mark.parametrize("unit", [5, 7, 11])
def test_only_monotonicity_tells_an_automorphism_of_the_cycle(unit):
    order = unit * np.arange(12) % 12
    moved = NEAR[np.ix_(order, order)]
    assert symmetry_fraction(moved, YEAR).value == pytest.approx(1)
    assert monotonicity(NEAR, YEAR) == pytest.approx(1)
    assert (monotonicity(moved, YEAR) == pytest.approx(1)) is (unit == 11)


def test_a_cycle_closes_and_a_line_does_not():
    closed, along = periodic_or_open(NEAR), periodic_or_open(exponential(4.2)(line(12).distance))
    assert closed.seam == pytest.approx(1) and along.seam == pytest.approx(-1)
    assert closed.periodic > 0.9 and abs(closed.open) < 0.1
    assert along.open > 0.9 and abs(along.periodic) < 0.1


def test_noise_neither_closes_nor_opens():
    rng = np.random.default_rng(0)
    found = [periodic_or_open(noise(12, rng)) for _ in range(300)]
    for name in ("periodic", "open", "seam"):
        assert np.mean([getattr(one, name) for one in found]) == pytest.approx(0, abs=0.03)


def test_saturation_is_the_median_of_pairs():
    assert saturated(np.full((4, 4), 1.95)) and not saturated(np.full((4, 4), 1.5))


def test_matrices_that_cannot_be_judged_are_refused():
    with pytest.raises(ShapeError, match="all pairs of items are equal"):
        symmetry_fraction(np.eye(12), YEAR)
    with pytest.raises(ShapeError, match="nothing is left"):
        monotonicity(np.ones((12, 12)), YEAR)
    with pytest.raises(ShapeError, match="expected"):
        symmetry_fraction(np.eye(7), YEAR)
    with pytest.raises(ShapeError, match="across the seam"):
        periodic_or_open(np.eye(4))
