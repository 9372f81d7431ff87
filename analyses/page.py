"""The page: one HTML file that needs no network, no script and no other file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from analyses.digits import decimals, digits, measured
from analyses.plots import inline

if TYPE_CHECKING:
    from analyses.report import FigureSpec, Report, TableSpec


def page(report: Report, vectors: Mapping[str, str]) -> str:
    """Lay a report out as HTML.

    Args:
        report: what to show.
        vectors: figure name -> SVG text.

    Returns:
        A whole document. Everything that came from data is escaped.
    """
    environment = Environment(
        loader=PackageLoader("analyses"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"code": code, "slug": slug, "entry": entry}
    return environment.get_template("report.html.j2").render(
        report=report,
        drawing=lambda figure: drawing(figure, vectors[figure.name]),
        numeric=numeric,
        cells=cells,
        manifest=list(flat(report.manifest)),
    )


def drawing(figure: FigureSpec, vector: str) -> Markup:
    """Give the figure as an inline SVG that a screen reader announces with its alternative text."""
    body = inline(vector, figure.name)
    label = escape(alternative(figure))
    return Markup(body.replace("<svg", f'<svg role="img" aria-label="{label}"', 1))


def alternative(figure: FigureSpec) -> str:
    """Say in words what a figure holds: its kind, its series and the range of each.

    Examples:
        >>> from analyses.report import FigureSpec
        >>> data = {"layers": [0, 1], "series": [{"name": "style", "values": [0.1, 0.4]}], "y_label": "size"}
        >>> alternative(FigureSpec("size", "by_layer", "Size by layer.", data))
        'Line chart, size: style from 0.100 to 0.400.'
    """
    kinds = {
        "loss_curve": "Loss curve",
        "by_layer": "Line chart",
        "spectra": "Scree plots",
        "heat": "Heat map",
        "bars": "Bar chart",
        "circuit": "Circuit",
        "threshold_map": "Heat map",
        "blocks": "Heat maps side by side",
        "manifold": "Items in space",
        "places": "Map",
        "curves": "Curves",
        "forest": "Dots with intervals",
    }
    label = figure.data.get("y_label") or figure.data.get("label")
    head = f"{kinds[figure.plot]}, {label}" if label else kinds[figure.plot]
    ranges = [f"{name} from {digits(min(v))} to {digits(max(v))}" for name, v in _series(figure) if v]
    return f"{head}: {'; '.join(ranges)}." if ranges else f"{head}."


def cells(table: TableSpec) -> list[list[tuple[str, tuple[str, ...]]]]:
    """Write the cells of a table: what is read first, and the lines of small print under it.

    Numbers of one column get the same digits after the point, where their sizes allow it.
    """
    columns = []
    for column in zip(*table.rows, strict=True):
        places = decimals([value.get("value") if isinstance(value, Mapping) else value for value in column])
        columns.append([_cell(value, places) for value in column])
    return [list(row) for row in zip(*columns, strict=True)]


def numeric(table: TableSpec, column: int) -> bool:
    """Tell whether a column holds numbers, and so is aligned to the right."""
    return not any(_is_text(row[column]) for row in table.rows)


def code(text: str) -> Markup:
    """Escape a text, set what stands between backticks as code, and link other pages of this machine.

    Examples:
        >>> str(code("run `a<b` now"))
        'run <code>a&lt;b</code> now'
        >>> str(code("see [its page](../diff/report.html)"))
        'see <a href="../diff/report.html">its page</a>'
    """
    linked = re.sub(r"\[([^\[\]]+)\]\(([\w./-]+\.html)\)", r'<a href="\2">\1</a>', str(escape(text)))
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", linked))


def slug(text: str) -> str:
    """Make a fragment identifier of a heading.

    Examples:
        >>> slug("Style and fact, side by side")
        'style-and-fact-side-by-side'
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "section"


def flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """List the leaves of nested mappings by dotted name.

    Examples:
        >>> flat({"seed": 0, "versions": {"torch": "2.13"}})
        [('seed', 0), ('versions.torch', '2.13')]
    """
    leaves: list[tuple[str, Any]] = []
    for key, value in values.items():
        name = f"{prefix}{key}"
        leaves += flat(value, f"{name}.") if isinstance(value, Mapping) else [(name, value)]
    return leaves


def entry(value: object) -> str:
    """Write a leaf of the manifest: exact, never rounded."""
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return "not recorded" if value is None else str(value)


def _cell(value: object, places: int | None) -> tuple[str, tuple[str, ...]]:
    if isinstance(value, Mapping) and "marked" in value:
        return _marked(value["marked"]), ()
    if isinstance(value, Mapping):
        return measured(value, places)
    return digits(value, places=places), ()


def _is_text(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, Mapping) and "marked" in value)


def _marked(stretches: Iterable[tuple[str, bool]]) -> Markup:
    """Write a text whose new stretches stand out; every stretch is escaped."""
    return Markup("").join(Markup("<ins>{}</ins>").format(text) if new else text for text, new in stretches)


def _series(figure: FigureSpec) -> list[tuple[str, list[float]]]:
    data = figure.data
    if figure.plot == "loss_curve":
        named = [(name, data[name]["y"]) for name in ("train", "validation") if data.get(name)]
    elif figure.plot in {"heat", "threshold_map"}:
        named = [("values", [value for row in data["values"] for value in row])]
    elif figure.plot == "blocks":
        named = [(panel["title"], [x for row in panel["values"] for x in row]) for panel in data["panels"]]
    elif figure.plot == "places":
        named = [("degrees north", [row[0] for row in data["true"]])]
    elif figure.plot == "manifold":
        named = [
            (f"{panel['title']}, {axis}", [row[i] for row in panel["points"]])
            for panel in data["panels"]
            for i, axis in enumerate(data["axes"])
        ]
    elif figure.plot == "forest":
        named = [(panel["title"], panel["values"]) for panel in data["panels"]]
    elif figure.plot in {"spectra", "curves"}:
        named = [
            (f"{panel.get('title', '')} {one['name']}".strip(), one["values"])
            for panel in data["panels"]
            for one in panel["series"]
        ]
    else:
        named = [(one["name"], one["values"]) for one in data["series"]]
    return [(name, [float(value) for value in values if value is not None]) for name, values in named]
