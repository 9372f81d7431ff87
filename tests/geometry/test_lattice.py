"""The theory's closed forms, its printed numbers, and dense diagonalisation agree."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geometry.checks import ShapeError
from geometry.closed_forms import exponential_cycle_values, open_modes, open_wavenumbers, probe_error_bound
from geometry.lattice import (
    Modes,
    cycle_modes,
    exponential,
    fourier_basis,
    gaussian,
    modes,
    probe_error,
    wrapped,
)
from geometry.layouts import cycle, grid, line


def around(n, width):
    return wrapped(exponential(width), n)(cycle(n).distance)


def test_eigenvalues_of_twelve_months_to_their_printed_digits():
    printed = [1.4795, 0.4548, 0.2337, 0.1572, 0.1269, 0.1185]
    np.testing.assert_allclose(exponential_cycle_values(12, 4.2), printed, atol=5e-5)
    dense = modes(around(12, 4.2)).values
    np.testing.assert_allclose(dense, [*np.repeat(printed[:5], 2), printed[5]], atol=1e-4)


@settings(deadline=None, max_examples=40)
@given(n=st.integers(3, 40), width=st.floats(0.3, 30))
def test_the_lattice_form_is_the_dense_one_at_any_size_and_width(n, width):
    closed = np.repeat(exponential_cycle_values(n, width), 2)[: n - 1]
    np.testing.assert_allclose(modes(around(n, width)).values, closed, rtol=1e-8, atol=1e-10)


def test_the_continuum_form_is_off_by_three_to_sixty_percent():
    sigma, k = 2 * 4.2 / 12, np.pi * np.arange(1, 7)
    continuum = 6 * 2 * sigma / (1 + (sigma * k) ** 2)
    off = 1 - continuum / exponential_cycle_values(12, 4.2)
    assert off[0] == pytest.approx(0.03, abs=0.005) and off[5] == pytest.approx(0.60, abs=0.02)


def test_second_over_first_eigenvalue_needs_twice_the_width():
    values = exponential_cycle_values(12, 3.2)
    assert values[1] / values[0] == pytest.approx(0.334, abs=5e-4)


@settings(deadline=None, max_examples=30)
@given(n=st.integers(3, 25), seed=st.integers(0, 2**32 - 1))
def test_any_circulant_matrix_has_fourier_modes(n, seed):
    """Proposition 1, also for kernels that are not positive."""
    half = np.random.default_rng(seed).standard_normal(n // 2 + 1)
    row = half[cycle(n).distance[0].astype(int)]
    matrix = row[np.mod(np.subtract.outer(np.arange(n), np.arange(n)), n)]
    found = cycle_modes(row)
    np.testing.assert_allclose(matrix @ found.vectors, found.vectors * found.values, atol=1e-10)
    np.testing.assert_allclose(found.vectors.T @ found.vectors, np.eye(n - 1), atol=1e-12)
    np.testing.assert_allclose(np.abs(modes(matrix).values), np.abs(found.values), atol=1e-10)


def test_open_boundary_modes_to_their_printed_digits():
    closed, dense = open_modes(321, 125, 6), modes(exponential(125)(line(321).distance))
    np.testing.assert_allclose(
        open_wavenumbers(250 / 321, 6) / np.pi, [0.674, 1.064, 1.581, 2.035, 2.551, 3.024], atol=5e-4
    )
    np.testing.assert_allclose(closed.values, [67.27, 32.16, 15.67, 9.69, 6.26, 4.49], atol=6e-3)
    np.testing.assert_allclose(dense.values[:6], closed.values, rtol=5e-4)
    assert np.all(np.abs(np.sum(closed.vectors * dense.vectors[:, :6], axis=0)) >= 0.9998)


def test_midpoints_keep_the_closed_form_right_for_twelve_items():
    closed, dense = open_modes(12, 4.2, 6), modes(exponential(4.2)(line(12).distance))
    assert np.all(np.abs(np.sum(closed.vectors * dense.vectors[:, :6], axis=0)) >= 0.9998)


def test_open_wavenumbers_are_the_robin_problem():
    """u'(1) = -u(1) / sigma for sin; the even ones solve the centred problem's condition."""
    sigma = 0.6
    k = open_wavenumbers(sigma, 9)
    np.testing.assert_allclose(np.tan(k[::2]), -sigma * k[::2], rtol=1e-8)
    np.testing.assert_allclose(np.tan(k[1::2]), k[1::2] / (1 + sigma * (1 + sigma) * k[1::2] ** 2), rtol=1e-8)
    assert np.all(np.diff(k) > 0)


@pytest.mark.parametrize("layout", [line(9), cycle(8), grid((3, 4))])
def test_coordinates_give_back_the_centred_kernel(layout):
    kernel = exponential(2.0)(layout.distance)
    centring = np.eye(layout.n) - 1 / layout.n
    found = modes(kernel).coordinates
    np.testing.assert_allclose(found @ found.T, centring @ kernel @ centring, atol=1e-12)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-12)


def test_degenerate_modes_are_grouped_and_opposite_signs_are_not():
    assert [g.stop - g.start for g in modes(around(12, 4.2)).groups()] == [2, 2, 2, 2, 2, 1]
    assert [g.stop - g.start for g in modes(exponential(3)(line(5).distance)).groups()] == [1, 1, 1, 1]
    assert Modes(np.array([1.0, -1.0]), np.eye(2)).groups() == (slice(0, 1), slice(1, 2))
    assert Modes(np.array([0.0, 0.0]), np.eye(2)).groups() == ()


def test_a_wrapped_kernel_is_the_sum_over_images():
    d = cycle(12).distance
    images = sum(np.exp(-np.abs(d + 12 * m) / 4.2) for m in range(-60, 61))
    np.testing.assert_allclose(around(12, 4.2), images, rtol=1e-12)
    np.testing.assert_allclose(wrapped(gaussian(0.5), 12)(d), gaussian(0.5)(d), atol=1e-30)


def test_a_kernel_that_does_not_fall_off_cannot_be_wrapped():
    with pytest.raises(ShapeError, match="too slowly"):
        wrapped(lambda d: 1 / (1 + d), 5)(np.arange(2.0))


def test_probe_error_of_open_lines_to_its_printed_digits():
    found = probe_error(
        modes(exponential(0.4 * 321)(line(321).distance)), line(321).targets, [1, 3, 5, 10, 30]
    )
    np.testing.assert_allclose(found, [0.056, 0.0105, 0.0035, 0.0008, 3e-5], rtol=0.02)


def test_probe_error_is_that_of_least_squares():
    layout = grid((3, 4))
    predicted = modes(exponential(2.0)(layout.distance))
    about = layout.targets - layout.targets.mean(axis=0)
    for rank in (1, 4):
        x = predicted.coordinates[:, :rank]
        left = about - x @ np.linalg.lstsq(x, about)[0]
        assert probe_error(predicted, layout.targets, [rank])[0] == pytest.approx(
            np.sum(left**2) / np.sum(about**2)
        )


@pytest.mark.parametrize("width", [5, 30, 200])
def test_proposition_four_bounds_the_error_round_a_cycle_and_needs_the_ball_of_volume_two(width):
    ranks = np.arange(2, 121, 2)
    x = np.linspace(-1, 1, 121)
    error = probe_error(modes(around(121, width)), x, ranks)
    assert np.all(error <= probe_error_bound(121, 1, ranks))
    assert not np.all(error <= 6 / np.pi**2 * 121**2 / (121**2 - 1) / (ranks - 0.5))


def test_the_bound_says_nothing_at_small_ranks():
    assert np.isinf(probe_error_bound(11, 2, [1]))[0]


def test_fourier_basis_is_orthonormal():
    for n in (3, 4, 7, 12):
        np.testing.assert_allclose(fourier_basis(n).T @ fourier_basis(n), np.eye(n - 1), atol=1e-12)
        np.testing.assert_allclose(fourier_basis(n).sum(axis=0), 0, atol=1e-12)


@pytest.mark.parametrize("row", [[1.0, 2.0, 3.0, 4.0], [1.0, 2.0]])
def test_a_row_that_is_not_even_is_refused(row):
    with pytest.raises(ShapeError, match="circulant"):
        cycle_modes(row)


@pytest.mark.parametrize("count", [0, 12])
def test_impossible_numbers_of_modes_are_refused(count):
    with pytest.raises(ShapeError, match="1 to 11 modes"):
        open_modes(12, 4.2, count)


@pytest.mark.parametrize(("targets", "match"), [(np.ones(5), "do not vary"), (np.arange(4.0), "one an item")])
def test_impossible_targets_are_refused(targets, match):
    with pytest.raises(ShapeError, match=match):
        probe_error(modes(exponential(1.0)(line(5).distance)), targets, [1])
