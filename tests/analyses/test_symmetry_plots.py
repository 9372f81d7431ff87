"""Pictures of geometry show what is there: order, closing, the shorter way across the date line, what is above."""

import copy

import numpy as np
import pytest

from analyses import plots
from geometry.checks import DataError

CIRCLE = np.column_stack([np.cos(np.arange(12) / 6 * np.pi), np.sin(np.arange(12) / 6 * np.pi)])
MONTHS = "January February March April May June July August September October November December".split()


def manifold(points, **more):
    data = {
        "panels": [{"title": "model", "points": points.tolist(), "curve": points.tolist()}],
        "labels": MONTHS[: len(points)] if len(points) <= 12 else [str(i) for i in range(len(points))],
        "closed": True,
        "connected": True,
        "axes": ["mode 1", "mode 2", "mode 3"][: points.shape[1]],
    }
    return data | more


def test_a_cycle_is_drawn_closed_and_a_line_open():
    closed = plots.draw("manifold", manifold(CIRCLE)).axes[0].lines[0].get_xydata()
    assert len(closed) == 13 and np.allclose(closed[0], closed[-1])
    opened = plots.draw("manifold", manifold(CIRCLE, closed=False)).axes[0].lines[0].get_xydata()
    assert len(opened) == 12


def test_one_unit_is_as_long_along_every_axis():
    axes = plots.draw("manifold", manifold(CIRCLE * [3.0, 1.0])).axes[0]
    assert axes.get_aspect() == 1.0
    assert axes.get_xlim()[1] > 3 and axes.get_ylim()[1] > 3


def test_places_have_no_curve_but_lines_to_where_they_should_be():
    points = np.random.default_rng(0).standard_normal((12, 2))
    data = manifold(points, connected=False, closed=False, hues=np.linspace(0, 1, 12).tolist())
    data["panels"][0]["curve"] = (points + 1).tolist()
    axes = plots.draw("manifold", data).axes[0]
    assert len(axes.lines) == 12
    np.testing.assert_allclose(axes.lines[3].get_xydata(), [points[3] + 1, points[3]])


def test_three_dimensions_have_short_names_where_these_tell_all_apart():
    solid = np.column_stack([CIRCLE, CIRCLE[:, 0] ** 2])
    axes = plots.draw("manifold", manifold(solid)).axes[0]
    assert [text.get_text().strip() for text in axes.texts] == [month[:3] for month in MONTHS]
    many = np.random.default_rng(0).standard_normal((40, 3))
    assert len(plots.draw("manifold", manifold(many)).axes[0].texts) == 8


def test_a_place_across_the_date_line_is_joined_the_shorter_way():
    data = {"true": [[0.0, 170.0]], "decoded": [[0.0, -170.0]], "labels": ["x"], "named": []}
    lines = [line.get_xdata() for line in plots.draw("places", data).axes[0].lines]
    assert any(np.allclose(line, [170.0, 190.0]) for line in lines)
    data = {"true": [[0.0, -170.0]], "decoded": [[0.0, 170.0]], "labels": ["x"], "named": []}
    lines = [line.get_xdata() for line in plots.draw("places", data).axes[0].lines]
    assert any(np.allclose(line, [-170.0, -190.0]) for line in lines)


@pytest.mark.parametrize("threshold", [0.25, -1.0, 2.0, 0.1, 1.0])
def test_a_template_map_turns_at_the_threshold_and_marks_what_is_above(threshold):
    values = [[0.1, None], [0.3, 1.0]]
    data = {
        "values": values,
        "rows": ["a {}", "{}"],
        "columns": ["emb", "0"],
        "label": "score",
        "x_label": "layer",
    }
    axes = plots.draw("threshold_map", data | {"threshold": threshold}).axes[0]
    mesh, dots = axes.collections
    assert mesh.norm.vcenter == threshold
    assert len(dots.get_offsets()) == sum(x is not None and x > threshold for row in values for x in row)


def test_blocks_share_one_scale_and_leave_what_is_empty():
    table = [[None, 0.0, 1.0], [0.0, None, 0.5], [1.0, 0.5, None]]
    data = {
        "panels": [{"title": "a", "values": table}, {"title": "b", "values": (3 * np.ones((3, 3))).tolist()}],
        "labels": ["x", "y", "z"],
        "label": "M*",
    }
    one, other = (axes.images[0] for axes in plots.draw("blocks", data).axes[:2])
    assert one.get_clim() == other.get_clim() and one.get_clim()[1] > 2
    assert np.isnan(np.asarray(one.get_array().filled(np.nan))).sum() == 3
    wrong = copy.deepcopy(data) | {"labels": ["x", "y"]}
    with pytest.raises(DataError, match="the data of a 'blocks'"):
        plots.draw("blocks", wrong)
