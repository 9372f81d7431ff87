"""Figures are pure functions of numbers: what is asserted is what a reader can see or lose."""

import copy
import json
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from matplotlib.collections import PolyCollection

from analyses import marks, plots
from geometry.checks import DataError

SVG = "{http://www.w3.org/2000/svg}"
NULL = {
    "name": "3 random adapters",
    "mean": [0.1, 0.1, 0.2],
    "low": [0.0, 0.05, 0.1],
    "high": [0.2, 0.2, 0.3],
}
SERIES = {"name": "style", "values": [0.2, None, 0.5], "low": [0.1, None, 0.4], "high": [0.3, None, 0.6]}
DATA = {
    "loss_curve": {
        "train": {"x": [1, 2, 3, 4], "y": [4.0, 3.0, 2.5, 2.4]},
        "validation": {"x": [2, 4], "y": [3.1, 2.6]},
    },
    "by_layer": {"layers": [-1, 0, 1], "series": [SERIES], "null": NULL, "ceiling": 0.9, "y_label": "size"},
    "spectra": {
        "panels": [
            {
                "title": f"layer {i}",
                "series": [{"name": "style", "values": [1.0, 0.1, 0.0]}],
                "null": {"low": [0.9, 0.2, 0.0], "high": [1.0, 0.3, 0.1]},
            }
            for i in range(5)
        ]
    },
    "heat": {"values": [[0.1, None], [0.3, 1.0]], "rows": ["a", "b"], "columns": ["c", "d"], "label": "overlap"},
    "bars": {
        "groups": ["copy", "base", "adapted"],
        "series": [{"name": "accuracy", "values": [0.1, 0.2, 0.8], "low": [0, 0.1, 0.7], "high": [0.2, 0.3, 0.9]}],
        "floor": {"name": "plain text", "low": 0.02, "high": 0.08, "value": 0.05},
        "ceiling": {"name": "references", "value": 0.96},
        "y_label": "share",
    },
    "curves": {
        "x_label": "position",
        "x_log": True,
        "beyond": 500,
        "beyond_name": "beyond the stated length",
        "panels": [
            {
                "title": f"layer {i}",
                "series": [{"name": "base", "x": [10, 100, 1000], **{k: [v, v, v] for k, v in
                            (("values", 2.0), ("low", 1.9), ("high", 2.1))}}],
                "lines": [{"name": "even attention", "x": [10, 1000], "values": [2.3, 6.9]}],
                "floor": {"x": [10, 1000], "low": 0.5, "high": 1.0, "name": "without the needle"},
                "y_label": "entropy (nats)",
            }
            for i in range(4)
        ],
    },
    "blocks": {
        "panels": [{"title": t, "values": [[None, 0.5, v], [0.5, None, 1.0], [v, 1.0, None]]}
                   for t, v in (("corpus", 0.1), ("kernel", 0.2))],
        "labels": ["Mon", "Tue", "Wed"],
        "label": "M*",
    },
    "manifold": {
        "panels": [{"title": f"{t}: R² 0.9", "points": [[0.0, 0.1], [1.0, 0.0], [0.5, 0.9]],
                    "curve": [[0.0, 0.0], [1.0, 0.0], [0.5, 0.8]]} for t in ("corpus", "model")],
        "labels": ["Mon", "Tue", "Wed"],
        "closed": True,
        "connected": True,
        "axes": ["mode 1", "mode 2"],
    },
    "places": {
        "true": [[52.5, 13.4], [-36.8, 174.8], [0.0, -78.5]],
        "decoded": [[50.0, 10.0], [-30.0, -170.0], [5.0, -70.0]],
        "labels": ["Berlin", "Auckland", "Quito"],
        "named": [0, 1],
    },
    "forest": {
        "rows": ["prompt", "adapter", "rules"],
        "panels": [
            {"title": title, "values": [0.1, 0.6, None], "low": [0.0, 0.5, None], "high": [0.2, 0.7, None],
             "floor": 0.0, "ceiling": 1.0, "limits": [-0.05, 1.05]}
            for title in ("J", "style", "content")
        ],
        "groups": [0, 1, 2],
        "floor_name": "copied input",
        "ceiling_name": "references",
    },
    "circuit": {
        "rows": [0, 1],
        "columns": ["q", "v", "up"],
        "nodes": [{"row": 0, "column": 0, "value": 0.3, "kept": True},
                  {"row": 1, "column": 0, "value": 0.1, "kept": True},
                  {"row": 1, "column": 2, "value": -0.02, "kept": False}],
        "edges": [{"one": 0, "other": 1, "value": 0.05, "sure": True},
                  {"one": 0, "other": 2, "value": -0.04, "sure": True},
                  {"one": 1, "other": 2, "value": 0.2, "sure": False}],
        "label": "style lost (nats)",
        "edge_label": "joint effect (nats)",
    },
    "threshold_map": {
        "values": [[0.1, None], [0.3, 1.0]],
        "rows": ["Today is {}", "In a template that is much longer than there is room for, {} is cut"],
        "columns": ["emb", "0"],
        "label": "overlap",
        "threshold": 0.25,
        "x_label": "layer",
    },
}  # fmt: skip


def texts(figure):
    return [element.text for element in ET.fromstring(plots.svg(figure)).iter(f"{SVG}text")]


def bands(axes):
    return [c for c in axes.collections if isinstance(c, PolyCollection)]


def test_every_plot_has_an_example_here():
    assert DATA.keys() == plots.PLOTS.keys()


@pytest.mark.parametrize("plot", DATA)
def test_the_same_numbers_give_the_same_bytes_and_are_left_as_they_were(plot):
    data = copy.deepcopy(DATA[plot])
    first, second = plots.draw(plot, data), plots.draw(plot, json.loads(json.dumps(data)))
    assert plots.svg(first) == plots.svg(second)
    assert plots.png(first) == plots.png(second)
    assert data == DATA[plot]


@pytest.mark.parametrize("plot", DATA)
def test_drawing_leaves_no_global_state(plot):
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    plots.svg(plots.draw(plot, DATA[plot]))
    assert dict(mpl.rcParams) == before


def test_other_numbers_give_another_picture():
    other = copy.deepcopy(DATA["by_layer"])
    other["series"][0]["values"][0] = 0.21
    assert plots.svg(plots.draw("by_layer", other)) != plots.svg(plots.draw("by_layer", DATA["by_layer"]))


@pytest.mark.parametrize(
    ("plot", "words"),
    [
        ("loss_curve", ["train", "validation", "best: 2.60 at step 4", "loss (nats per token)", "step"]),
        ("by_layer", ["emb", "0", "1", "layer", "size", "style", "3 random adapters", "ceiling"]),
        ("spectra", ["layer 4", "singular value / largest", "index", "random adapters"]),
        ("heat", ["overlap", "a", "d", "0.10", "1.00"]),
        ("bars", ["adapted", "plain text", "references", "0.800 [0.700, 0.900]"]),
        ("curves", ["layer 3", "base", "even attention", "without the needle", "beyond the stated length"]),
        ("blocks", ["corpus", "kernel", "M*", "Mon"]),
        ("manifold", ["corpus: R² 0.9", "model: R² 0.9", "Mon", "Wed"]),
        ("places", ["Berlin", "Auckland", "true place", "read off the model", "degrees east"]),
        ("threshold_map", ["Today is {}", "In a template that is much longer than …", "overlap", "emb"]),
    ],
)
def test_text_stays_text_with_units_floors_and_ceilings_named(plot, words):
    assert set(words) <= set(texts(plots.draw(plot, DATA[plot])))


@pytest.mark.parametrize("plot", ["by_layer", "spectra", "bars"])
def test_floors_are_grey_and_nothing_else_is(plot):
    axes = plots.draw(plot, DATA[plot]).axes[0]
    (band,) = bands(axes)
    grey = np.array([int(marks.INK[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    np.testing.assert_allclose(band.get_facecolor()[0, :3], grey)
    assert marks.INK not in marks.PALETTE


def test_the_band_has_the_ends_that_it_was_given():
    (band,) = bands(plots.draw("by_layer", DATA["by_layer"]).axes[0])
    y = band.get_paths()[0].vertices[:, 1]
    assert (y.min(), y.max()) == (0.0, 0.3)


def test_a_band_is_seen_at_a_single_layer():
    data = {
        "layers": [3],
        "series": [{"name": "a", "values": [1.0]}],
        "null": {"low": 0.2, "high": 0.4, "mean": 0.3},
        "ceiling": [0.9],
        "y_label": "y",
    }
    (band,) = bands(plots.draw("by_layer", data).axes[0])
    assert np.ptp(band.get_paths()[0].vertices[:, 0]) > 0.1


def test_ceilings_are_dashed():
    lines = {line.get_label(): line for line in plots.draw("by_layer", DATA["by_layer"]).axes[0].lines}
    assert lines["ceiling"].is_dashed()
    assert not lines["style"].is_dashed()


def test_none_leaves_a_gap():
    line = next(
        line for line in plots.draw("by_layer", DATA["by_layer"]).axes[0].lines if line.get_label() == "style"
    )
    np.testing.assert_array_equal(np.isnan(line.get_ydata()), [False, True, False])


def test_series_with_floors_of_their_own_get_panels_with_one_axis():
    data = {
        "layers": [0, 1, 2],
        "series": [{**SERIES, "name": name, "null": NULL} for name in "abcd"],
        "y_label": "size",
    }
    figure = plots.draw("by_layer", data)
    assert [axes.get_title(loc="left") for axes in figure.axes] == list("abcd")
    assert len({axes.get_ylim() for axes in figure.axes}) == 1
    assert texts(figure).count("3 random adapters") == 1


def test_panels_above_a_hole_keep_their_tick_labels():
    figure = plots.draw("spectra", DATA["spectra"])
    figure.draw_without_rendering()
    shown = [
        any(label.get_visible() and label.get_text() for label in a.get_xticklabels()) for a in figure.axes
    ]
    assert shown == [False, False, True, True, True]


def test_a_logarithmic_axis_leaves_out_what_it_cannot_hold():
    data = {**DATA["by_layer"], "log": True}
    axes = plots.draw("by_layer", data).axes[0]
    assert axes.get_yscale() == "log"
    assert bands(axes)[0].get_paths()[0].vertices[:, 1].min() > 0


@pytest.mark.parametrize("plot", DATA)
def test_numbers_that_are_all_missing_still_make_a_figure(plot):
    def emptied(value, key=""):
        if isinstance(value, dict):
            return {k: emptied(v, k) for k, v in value.items()}
        if isinstance(value, list) and key in {"values", "y", "low", "high", "mean"}:
            return [emptied(v, key) if isinstance(v, list) else None for v in value]
        return [emptied(v) for v in value] if isinstance(value, list) else value

    plots.svg(plots.draw(plot, emptied(DATA[plot])))


def test_cells_are_written_only_where_there_is_room():
    big = {"values": np.eye(30).tolist(), "rows": range(30), "columns": range(30), "label": "overlap"}
    assert "1.00" not in texts(plots.draw("heat", big))


def test_cells_are_written_in_a_colour_that_reads_on_them():
    written = plots.draw("heat", {**DATA["heat"], "low": 0, "high": 1}).axes[0].texts
    colours = {text.get_text(): text.get_color() for text in written}
    assert colours == {"0.10": "white", "0.30": "white", "1.00": "black"}


def test_a_two_sided_scale_has_its_centre_in_the_middle():
    data = {"values": [[-1.0, 3.0]], "rows": ["a"], "columns": ["c", "d"], "label": "shift", "centre": 0}
    assert plots.draw("heat", data).axes[0].collections[0].get_clim() == (-3.0, 3.0)


@pytest.mark.parametrize(
    "names",
    [
        [f"a rather long name of a series, number {i}" for i in range(4)],
        ["adapter", "control adapter", "resampled templates (97.5 %)", "random adapters (range)"],
    ],
)
def test_long_names_never_make_a_legend_wider_than_the_figure(names):
    data = {"layers": [0, 1], "series": [{"name": n, "values": [1, 2]} for n in names], "y_label": "y"}
    figure = plots.draw("by_layer", data)
    figure.draw_without_rendering()
    (legend,) = figure.legends
    assert legend.get_window_extent().x1 <= figure.bbox.x1


def test_tokens_are_counted_in_millions():
    data = {"train": {"x": [1e6, 24e6], "y": [5, 3]}, "x_label": "tokens"}
    assert "20 M" in texts(plots.draw("loss_curve", data))


def test_an_inlined_figure_can_stand_beside_another():
    text = plots.svg(plots.draw("by_layer", DATA["by_layer"]))
    one, other = plots.inline(text, "one"), plots.inline(text, "other")
    ids = [set(re.findall(r'\bid="([^"]+)"', part)) for part in (one, other)]
    assert ids[0] and not ids[0] & ids[1]
    for part, known in zip((one, other), ids, strict=True):
        assert set(re.findall(r"(?:url\(#|href=\"#)([^)\"]+)", part)) <= known
        ET.fromstring(part)
    assert "<metadata" not in one
    assert not re.search(rf"(?<!, ){marks.INK}", one)


def test_saving_writes_both_formats(tmp_path):
    vector = plots.save(plots.draw("bars", DATA["bars"]), tmp_path / "bars")
    assert (tmp_path / "bars.svg").read_text() == vector
    assert (tmp_path / "bars.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in tmp_path.iterdir()} == {"bars.svg", "bars.png"}


def test_an_unknown_plot_is_refused_with_the_names_that_there_are():
    with pytest.raises(DataError, match="no plot 'pie'; choose one of loss_curve, by_layer"):
        plots.draw("pie", {})


@pytest.mark.parametrize(
    ("plot", "change"),
    [
        ("by_layer", {"series": None}),
        ("by_layer", {"layers": [0], "null": None}),
        ("by_layer", {"null": {"low": [0.1], "high": [0.2]}}),
        ("heat", {"columns": ["c"]}),
        ("bars", {"groups": ["copy"]}),
        ("spectra", {"panels": [{}]}),
    ],
)
def test_numbers_that_do_not_fit_the_plot_are_refused(plot, change):
    with pytest.raises(DataError, match=f"data of a '{plot}'"):
        plots.draw(plot, {**DATA[plot], **change})


def test_a_forest_has_a_row_for_each_system_and_a_panel_for_each_score():
    figure = plots.draw("forest", DATA["forest"])
    words = texts(figure)
    assert {"prompt", "adapter", "rules", "J", "style", "content", "copied input", "references"} <= set(words)
    assert words.count("prompt") == 2  # one list of names for each row of panels
    dots = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert [float(d.get_xdata()[0]) for d in dots][:2] == [0.1, 0.6]
