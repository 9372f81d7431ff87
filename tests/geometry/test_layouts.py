"""Layouts are metrics with the symmetries that they claim."""

import numpy as np
import pytest

from geometry.checks import ShapeError
from geometry.layouts import (
    EARTH_KM,
    cycle,
    distance_bins,
    great_circle,
    grid,
    line,
    part,
    sphere,
    square,
    unit_sphere,
)

CITIES = [[51.5, -0.13], [40.7, -74.0], [-33.9, 151.2], [35.7, 139.7], [-23.5, -46.6], [1.3, 103.8]]
LAYOUTS = {"cycle": cycle(7), "line": line(6), "grid": grid((2, 3)), "sphere": sphere(CITIES, bins=3)}


@pytest.mark.parametrize("kind", LAYOUTS)
def test_distances_are_a_metric_and_lags_are_classes_of_pairs(kind):
    layout = LAYOUTS[kind]
    d, n = layout.distance, layout.n
    assert layout.kind == kind
    np.testing.assert_allclose(d, d.T)
    assert np.all(d + np.eye(n) > 0) and not np.diag(d).any()
    assert np.all(d[:, :, None] + d[None] >= d[:, None] - 1e-9)
    np.testing.assert_array_equal(layout.lags, layout.lags.T)
    assert np.all(np.diag(layout.lags) == -1)
    off = layout.lags[~np.eye(n, dtype=bool)]
    np.testing.assert_array_equal(np.unique(off), np.arange(off.max() + 1))
    assert layout.targets.shape[0] == n


@pytest.mark.parametrize(
    ("layout", "lags"), [(cycle(12), 6), (cycle(7), 3), (line(12), 11), (grid((3, 4)), 11)]
)
def test_number_of_lags(layout, lags):
    assert layout.lags.max() + 1 == lags


@pytest.mark.parametrize("kind", ["cycle", "line", "grid"])
def test_pairs_of_one_lag_are_equally_far(kind):
    layout = LAYOUTS[kind]
    for lag in range(layout.lags.max() + 1):
        assert np.ptp(layout.distance[layout.lags == lag]) == 0


def test_grid_lags_tell_axes_apart():
    two = grid((3, 3))
    across, down = two.lags[0, 1], two.lags[0, 3]
    assert across != down and two.distance[0, 1] == two.distance[0, 3]


def test_great_circle_is_the_haversine_of_the_textbook():
    lat, lon = np.deg2rad(np.array(CITIES)).T
    h = (
        np.sin((lat[:, None] - lat) / 2) ** 2
        + np.cos(lat[:, None]) * np.cos(lat) * np.sin((lon[:, None] - lon) / 2) ** 2
    )
    np.testing.assert_allclose(LAYOUTS["sphere"].distance, 2 * EARTH_KM * np.arcsin(np.sqrt(h)), atol=1e-6)
    near = unit_sphere([[0, 0], [0, 1e-7]])
    assert great_circle(near[0], near[1]) == pytest.approx(EARTH_KM * np.deg2rad(1e-7), rel=1e-6)


def test_bins_are_of_equal_size_and_ordered():
    d = sphere(CITIES, bins=3)
    upper = np.triu_indices(6, 1)
    assert np.bincount(d.lags[upper]).tolist() == [5, 5, 5]
    order = np.argsort(d.distance[upper])
    assert np.all(np.diff(d.lags[upper][order]) >= 0)


def test_ties_share_a_bin():
    assert distance_bins(cycle(12).distance, 20).max() + 1 == 6


@pytest.mark.parametrize(
    "make", [lambda: cycle(2), lambda: line(1), lambda: sphere([[0, 0], [1, 1]], bins=2)]
)
def test_two_items_have_no_order(make):
    with pytest.raises(ShapeError, match="at least 3 items"):
        make()


@pytest.mark.parametrize("shape", [(), (1, 4), (2,)])
def test_a_grid_needs_steps(shape):
    with pytest.raises(ShapeError, match="grid"):
        grid(shape)


def test_swapped_coordinates_are_refused():
    with pytest.raises(ShapeError, match="swap them"):
        sphere([[151.2, -33.9], [0, 0], [1, 1]])


@pytest.mark.parametrize("bins", [1, 16])
def test_impossible_bins_are_refused(bins):
    with pytest.raises(ShapeError, match="2 to 15 classes"):
        distance_bins(LAYOUTS["sphere"].distance, bins)


@pytest.mark.parametrize(
    ("matrix", "match"),
    [
        ([[0, 1, 2]], "one row and one column"),
        ([[0, 1], [2, 0]], "not symmetric"),
        ([[0, np.nan], [0, 0]], "NaN"),
    ],
)
def test_what_is_no_matrix_over_items_is_refused(matrix, match):
    with pytest.raises(ShapeError, match=match):
        square(matrix, "m")


def test_a_part_keeps_distances_and_the_whole_is_no_part():
    year = cycle(12)
    few = part(year, [0, 1, 3, 11])
    assert few.kind == "part" and few.n == 4
    np.testing.assert_array_equal(few.distance[0], [0, 1, 3, 1])
    assert few.lags[0, 1] == few.lags[0, 3] == 0 and few.lags[0, 2] == few.lags.max() - 1
    assert part(year, range(12)) is year
    assert part(LAYOUTS["sphere"], [0, 2, 4]).kind == "sphere"


@pytest.mark.parametrize("keep", [[0, 1, 12], [2, 1, 0], [-1, 0, 1], [0, 0, 1]])
def test_a_part_of_what_is_not_there_is_refused(keep):
    with pytest.raises(ShapeError, match="rising indices"):
        part(cycle(12), keep)
