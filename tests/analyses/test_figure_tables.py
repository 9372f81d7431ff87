"""Every number of a figure is in its table, and comes back from it."""

import csv
import io
import math

import pytest

from analyses import plots
from analyses.figure_tables import TABLES, as_csv
from analyses.report import FigureSpec
from tests.analyses.test_plots import DATA

# what says where or how a thing is drawn, and is no measurement
LAYOUT = {"row", "rows", "column", "columns", "one", "other", "y_limits", "limits", "named", "threshold",
          "groups", "beyond"}  # fmt: skip


def numbers(data):
    if isinstance(data, dict):
        return [n for key, value in data.items() if key not in LAYOUT for n in numbers(value)]
    if isinstance(data, list | tuple):
        return [n for value in data for n in numbers(value)]
    return [data] if isinstance(data, int | float) and not isinstance(data, bool) else []


def test_every_plot_has_a_table():
    assert TABLES.keys() == plots.PLOTS.keys()


@pytest.mark.parametrize("plot", DATA)
def test_every_number_of_a_figure_is_in_its_table(plot):
    rows = list(csv.reader(io.StringIO(as_csv(FigureSpec("a", plot, "", DATA[plot])))))
    assert len({len(row) for row in rows}) == 1 and len(rows) > 1
    found = {cell for row in rows[1:] for cell in row}
    wanted = {f"{n:.6g}" if isinstance(n, float) else str(n) for n in numbers(DATA[plot]) if math.isfinite(n)}
    assert wanted - found == set()


def test_a_name_that_the_figure_breaks_over_lines_stays_one_cell():
    figure = FigureSpec("a", "bars", "", DATA["bars"] | {"groups": ["one\n×1", *DATA["bars"]["groups"][1:]]})
    assert "one ×1" in as_csv(figure).splitlines()[1].split(",")


def test_floor_and_ceiling_of_the_figure_stand_beside_each_series():
    data = {
        "layers": [-1, 0],
        "series": [{"name": "a", "values": [1.0, None], "low": [0.5, None], "high": [2.0, None]},
                   {"name": "b", "values": [3.0, 4.0], "null": {"low": 0.1, "high": [0.2, 0.3]}}],
        "ceiling": 9.0,
        "null": {"low": [0.0, 0.01], "high": 0.02, "mean": 0.015},
        "y_label": "size",
    }  # fmt: skip
    table = as_csv(FigureSpec("a", "by_layer", "", data)).splitlines()
    assert table == [
        "series,layer,value,low,high,floor low,floor mean,floor high,ceiling",
        "a,-1,1,0.5,2,0,0.015,0.02,9",
        "a,0,,,,0.01,0.015,0.02,9",
        "b,-1,3,,,0.1,,0.2,9",
        "b,0,4,,,0.1,,0.3,9",
    ]


@pytest.mark.parametrize("name", ["=1+1", "@x", "-x", "+x", "\tx"])
def test_no_name_becomes_a_formula_of_a_spreadsheet(name):
    data = {"values": [[-0.5]], "rows": [name], "columns": ['a "quoted", one']}
    assert list(csv.reader(io.StringIO(as_csv(FigureSpec("a", "heat", "", data))))) == [
        ["row", "column", "value"],
        [f"'{name}", 'a "quoted", one', "-0.5"],
    ]
