"""The numbers of a figure as one table, for a spreadsheet or a paper's own plot."""

from __future__ import annotations

import csv
import io
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from analyses.report import FigureSpec

    Data = Mapping[str, Any]
    Row = Mapping[str, Any]


def as_csv(figure: FigureSpec) -> str:
    """Write a figure's numbers as comma-separated values, with floors and ceilings in columns of their own.

    Args:
        figure: one figure of a report.

    Returns:
        A heading and one line a value. Numbers have six significant digits (report.json has all); unknown ones are
        empty. A text that a spreadsheet would take for a formula begins with an apostrophe.

    Examples:
        >>> from analyses.report import FigureSpec
        >>> print(as_csv(FigureSpec("a", "heat", "", {"values": [[0.5]], "rows": [1], "columns": ["k"]})))
        row,column,value
        1,k,0.5
        <BLANKLINE>
    """
    rows = list(TABLES[figure.plot](figure.data))
    columns = list(dict.fromkeys(name for row in rows for name in row))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
    writer.writerow({name: _cell(name) for name in columns})
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return stream.getvalue()


def heat_cells(data: Data) -> Iterator[Row]:
    """List the cells of a heat map, row by row.

    Args:
        data: ``values``, ``rows`` and ``columns``, as :func:`analyses.plots.heat` takes them.

    Yields:
        ``row`` and ``column`` (labels) and ``value``.
    """
    for name, values in zip(data["rows"], data["values"], strict=True):
        for column, value in zip(data["columns"], values, strict=True):
            yield {"row": name, "column": column, "value": value}


def _losses(data: Data) -> Iterator[Row]:
    for name in ("train", "validation"):
        found = data.get(name) or {"x": (), "y": ()}
        for x, y in zip(found["x"], found["y"], strict=True):
            yield {"series": name, data.get("x_label", "step"): x, "value": y}


def _layers(data: Data) -> Iterator[Row]:
    layers = data["layers"]
    for one in data["series"]:
        # what belongs to the whole figure stands under every series
        floor, ceiling = (one.get(kind) or data.get(kind) for kind in ("null", "ceiling"))
        for i, layer in enumerate(layers):
            yield {
                "series": one["name"],
                data.get("x_label", "layer"): layer,
                **_measured(one, i),
                **_floor(floor, i),
                **_ceiling(ceiling, i),
            }


def _spectra(data: Data) -> Iterator[Row]:
    for panel in data["panels"]:
        for one in panel["series"]:
            for i, value in enumerate(one["values"]):
                yield {"panel": panel.get("title", ""), "series": one["name"], "index": i + 1, "value": value}
        for i in range(len((panel.get("null") or {"low": ()})["low"])):
            yield {
                "panel": panel.get("title", ""),
                "series": "null",
                "index": i + 1,
                **_floor(panel["null"], i),
            }


def _bars(data: Data) -> Iterator[Row]:
    for one in data["series"]:
        for i, group in enumerate(data["groups"]):
            yield {
                "series": one["name"],
                "group": " ".join(group.split()),  # a figure breaks long names over lines
                **_measured(one, i),
                **_floor(data.get("floor"), i),
                **_ceiling(data.get("ceiling"), i),
            }


def _circuit(data: Data) -> Iterator[Row]:
    names = [f"{data['rows'][node['row']]} {data['columns'][node['column']]}" for node in data["nodes"]]
    for name, node in zip(names, data["nodes"], strict=True):
        yield {"module": name, "value": node["value"], "kept": node["kept"]}
    for edge in data["edges"]:
        yield {
            "module": names[edge["one"]],
            "with": names[edge["other"]],
            "value": edge["value"],
            "interval without 0": edge["sure"],
        }


def _blocks(data: Data) -> Iterator[Row]:
    # a hundred items have 10,000 pairs: one a line would be five times as long as the matrix is
    for panel in data["panels"]:
        for name, values in zip(data["labels"], panel["values"], strict=True):
            yield {"panel": panel["title"], "row": name} | dict(zip(data["labels"], values, strict=True))


def _manifold(data: Data) -> Iterator[Row]:
    for panel in data["panels"]:
        for i, label in enumerate(data["labels"]):
            point = dict(zip(data["axes"], panel["points"][i], strict=True))
            yield {"panel": panel["title"], "of": "item", "name": label, **point}
        for i, place in enumerate(panel["curve"]):
            point = dict(zip(data["axes"], place, strict=True))
            yield {"panel": panel["title"], "of": "curve", "name": i, **point}


def _places(data: Data) -> Iterator[Row]:
    for label, true, decoded in zip(data["labels"], data["true"], data["decoded"], strict=True):
        sides = {"true": true, "decoded": decoded}
        yield {"name": label} | {
            f"{side}, degrees {way}": place[i]
            for side, place in sides.items()
            for i, way in enumerate(("north", "east"))
        }


def _curves(data: Data) -> Iterator[Row]:
    x_name = data["x_label"] or "x"
    for at, panel in enumerate(data["panels"]):
        name = panel.get("title") or panel.get("y_label") or str(at)
        for one in (*panel["series"], *(panel.get("lines") or ())):
            for i, x in enumerate(one["x"]):
                yield {"panel": name, "series": one["name"], x_name: x, **_measured(one, i)}
        floor = panel.get("floor") or {"x": ()}
        for i, x in enumerate(floor["x"]):
            yield {"panel": name, "series": floor.get("name", "floor"), x_name: x, **_floor(floor, i)}


def _forest(data: Data) -> Iterator[Row]:
    for panel in data["panels"]:
        ends = {end: panel[end] for end in ("floor", "ceiling") if panel.get(end) is not None}
        for i, row in enumerate(data["rows"]):
            yield {"panel": panel["title"], "row": row, **_measured(panel, i), **ends}


TABLES: dict[str, Callable[[Data], Iterator[Row]]] = {
    "loss_curve": _losses,
    "by_layer": _layers,
    "spectra": _spectra,
    "heat": heat_cells,
    "threshold_map": heat_cells,
    "bars": _bars,
    "circuit": _circuit,
    "blocks": _blocks,
    "manifold": _manifold,
    "places": _places,
    "curves": _curves,
    "forest": _forest,
}
"""Kind of figure -> its rows; one for each of :data:`analyses.plots.PLOTS`."""


def _measured(one: Data, i: int) -> Row:
    """Give the value at a place, with its interval where there is one."""
    ends = {end: _at(one[end], i) for end in ("low", "high") if one.get(end) is not None}
    return {"value": _at(one["values"], i), **ends}


def _floor(found: Data | None, i: int) -> Row:
    """Give the floor at a place; its middle is called mean or value."""
    named = {"low": "low", "mean": "mean", "value": "mean", "high": "high"}
    ends = [end for end in named if found is not None and found.get(end) is not None]
    return {f"floor {named[end]}": _at(found[end], i) for end in ends} if found is not None else {}


def _ceiling(found: object, i: int) -> Row:
    if found is None:
        return {}
    if isinstance(found, dict):
        found = found["values"] if "values" in found else found["value"]
    return {"ceiling": _at(found, i)}


def _at(values: Any, i: int) -> Any:
    """Take one of many numbers; a single one stands for all."""
    return values[i] if isinstance(values, list | tuple) else values


def _cell(value: object) -> object:
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else ""
    # what a spreadsheet would run as a formula is shown to it as text
    return f"'{value}" if isinstance(value, str) and value[:1] in {"=", "+", "-", "@", "\t", "\r"} else value
