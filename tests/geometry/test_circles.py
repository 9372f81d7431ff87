"""Harmonics obey Parseval and the automorphisms of the cycle; a block is no circle, whatever its first share."""

import numpy as np
import pytest

from geometry.checks import ShapeError
from geometry.circles import circle_fit, fourier_profile, mode_isotropy
from geometry.lattice import cycle_modes, exponential, modes, wrapped
from geometry.layouts import cycle, line

NEAR = wrapped(exponential(4.2), 12)(cycle(12).distance)
CIRCLE = cycle_modes(NEAR[0]).coordinates
OPEN = modes(exponential(4.2)(line(12).distance)).coordinates
BLOCK = (np.arange(12) < 5).astype(float)[:, None]


def noise(d, rng):
    return rng.standard_normal((12, d))


def test_first_shares_of_circle_line_and_block_to_their_printed_digits():
    assert fourier_profile(CIRCLE).first == pytest.approx(0.589, abs=5e-4)
    assert fourier_profile(OPEN).first == pytest.approx(0.571, abs=5e-4)
    assert fourier_profile(BLOCK).first == pytest.approx(0.796, abs=5e-4)


@pytest.mark.parametrize(("d", "high", "sets"), [(2304, 0.19, 300), (5, 0.32, 3000)])
def test_noise_has_two_elevenths_in_each_harmonic(d, high, sets):
    rng = np.random.default_rng(0)
    shares = np.array([fourier_profile(noise(d, rng)).shares for _ in range(sets)])
    np.testing.assert_allclose(shares.mean(axis=0), [2 / 11] * 5 + [1 / 11], atol=0.005)
    assert np.quantile(shares[:, 0], 0.95) == pytest.approx(high, abs=0.01)


@pytest.mark.parametrize("n", [4, 7, 12])
def test_parseval(n):
    points = np.random.default_rng(n).standard_normal((n, 6)) + 3
    assert fourier_profile(points).powers.sum() == pytest.approx(np.sum((points - points.mean(axis=0)) ** 2))


def test_times_seven_swaps_the_first_and_the_fifth_harmonic_and_keeps_the_others():
    points = noise(9, np.random.default_rng(0)) + 4 * CIRCLE[:, :9]
    before = fourier_profile(points).powers
    after = fourier_profile(points[7 * np.arange(12) % 12]).powers
    np.testing.assert_allclose(after, before[[4, 1, 2, 3, 0, 5]])
    assert before[0] > 2 * before[4]


def test_profiles_do_not_change_when_the_cloud_is_turned_or_the_cycle_is():
    rng = np.random.default_rng(1)
    points = CIRCLE + 0.1 * noise(11, rng)
    turned = np.roll(points @ np.linalg.qr(rng.standard_normal((11, 11)))[0], 3, axis=0)[::-1] + 5
    np.testing.assert_allclose(fourier_profile(turned).powers, fourier_profile(points).powers)
    assert mode_isotropy(turned) == pytest.approx(mode_isotropy(points))


def test_entropy_runs_from_one_harmonic_to_all():
    angle = 2 * np.pi * np.arange(12) / 12
    assert fourier_profile(np.column_stack([np.cos(angle), np.sin(angle)])).entropy == pytest.approx(
        0, abs=1e-9
    )
    flat = fourier_profile(np.eye(13))
    np.testing.assert_allclose(flat.shares, 1 / 6)
    assert flat.entropy == pytest.approx(1)


def test_a_circle_is_round_and_a_block_is_not():
    rng = np.random.default_rng(2)
    assert mode_isotropy(CIRCLE) == pytest.approx(1)
    assert mode_isotropy(CIRCLE, harmonic=2) == pytest.approx(1)
    assert mode_isotropy(BLOCK) == 0.0
    assert mode_isotropy(BLOCK @ np.ones((1, 64)) / 8 + 0.3 * noise(64, rng) / 8) < 0.3
    drowned = [mode_isotropy(BLOCK @ np.ones((1, 64)) / 8 + noise(64, rng) / 8) for _ in range(50)]
    assert 0.4 < np.mean(drowned) < 0.6
    assert mode_isotropy(OPEN) > 0.7  # roundness does not tell a horseshoe; periodic_or_open does


def test_a_clock_is_in_order_and_closes():
    found = circle_fit(CIRCLE)
    assert found.in_order and found.r2 == pytest.approx(1) and found.order_error == pytest.approx(0, abs=1e-9)
    assert found.closure == pytest.approx(1)
    assert circle_fit(CIRCLE[::-1]).in_order
    swapped = circle_fit(CIRCLE[[1, 0, *range(2, 12)]])
    assert not swapped.in_order and swapped.order_error > 0


def test_a_horseshoe_is_in_order_but_does_not_close():
    found = circle_fit(OPEN)
    assert found.in_order and found.closure > 4


def test_noise_in_the_plane_has_the_printed_roundness_and_no_order():
    rng = np.random.default_rng(3)
    assert circle_fit(rng.standard_normal((4000, 2))).r2 == pytest.approx(np.pi / 4, abs=0.01)
    found = [circle_fit(noise(20, rng)) for _ in range(400)]
    assert np.mean([one.order_error for one in found]) == pytest.approx(0.71, abs=0.03)
    assert not any(one.in_order for one in found)


def test_what_cannot_be_a_circle_is_refused():
    with pytest.raises(ShapeError, match="at least 4 items"):
        fourier_profile(np.eye(3))
    with pytest.raises(ShapeError, match="all items are equal"):
        fourier_profile(np.ones((12, 3)))
    with pytest.raises(ShapeError, match="harmonic"):
        mode_isotropy(CIRCLE, harmonic=6)
    with pytest.raises(ShapeError, match="no energy"):
        mode_isotropy(np.cos(np.pi * np.arange(12) / 3)[:, None])
    with pytest.raises(ShapeError, match="one line"):
        circle_fit(np.arange(12.0)[:, None] * [1, 2])
