"""The page: one HTML file that needs no network and no other file, and says everything without its script."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from analyses.digits import decimals, digits, measured
from analyses.figure_tables import TABLES, as_csv, heat_cells
from analyses.plots import inline

if TYPE_CHECKING:
    from analyses.report import FigureSpec, Report, TableSpec


def page(report: Report, vectors: Mapping[str, str]) -> str:
    """Lay a report out as HTML.

    Args:
        report: what to show.
        vectors: figure name -> SVG text.

    Returns:
        A whole document. Everything that came from data is escaped; and were it not, the page's own policy lets the
        browser run no script but ours and fetch nothing.
    """
    templates = environment()
    assert templates.loader is not None
    script = templates.loader.get_source(templates, "report.js")[0]
    return templates.get_template("report.html.j2").render(
        report=report,
        script=Markup(script),
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        drawing=lambda figure: drawing(figure, vectors[figure.name]),
        numeric=numeric,
        cells=cells,
        csv_link=csv_link,
        manifest=list(flat(report.manifest)),
    )


def environment() -> Environment:
    """Give what every page is rendered with: everything escaped, a name that is not given is an error."""
    found = Environment(
        loader=PackageLoader("analyses"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"code": code, "slug": slug, "entry": entry}
    return found


def drawing(figure: FigureSpec, vector: str) -> Markup:
    """Give the figure as an inline SVG that a screen reader announces with its alternative text."""
    body = inline(vector, figure.name)
    if figure.plot in {"heat", "threshold_map"}:
        body = _with_values(body, figure)
    label = escape(alternative(figure))
    return Markup(body.replace("<svg", f'<svg role="img" aria-label="{label}"', 1))


def csv_link(figure: FigureSpec) -> str:
    """Give the figure's numbers as the address of a file to save, which is inside the page itself."""
    return f"data:text/csv;charset=utf-8,{quote(as_csv(figure), safe=',-.')}"


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
    ranges = [f"{name} from {digits(min(v))} to {digits(max(v))}" for name, v in _ranges(figure).items()]
    return f"{head}: {'; '.join(ranges)}." if ranges else f"{head}."


def cells(table: TableSpec) -> list[list[tuple[str, tuple[str, ...], float | None]]]:
    """Write the cells of a table: what is read first, the lines of small print under it, and what it sorts by.

    Numbers of one column get the same digits after the point, where their sizes allow it.
    """
    columns = []
    for column in zip(*table.rows, strict=True):
        plain = [value.get("value") if isinstance(value, Mapping) else value for value in column]
        places = decimals(plain)
        written = [_cell(value, places) for value in column]
        columns.append([(*cell, _number(value)) for cell, value in zip(written, plain, strict=True)])
    return [list(row) for row in zip(*columns, strict=True)]


def numeric(table: TableSpec) -> list[bool]:
    """Tell of each column whether it holds numbers, and so is aligned to the right."""
    return [not any(_is_text(row[i]) for row in table.rows) for i in range(len(table.columns))]


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


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _with_values(body: str, figure: FigureSpec) -> str:
    """Let every cell of a heat map say what it is when the pointer rests on it.

    Matplotlib writes one path a cell, row by row; a large map is one picture instead, and stays as it is.
    """
    mesh = re.search(rf'<g id="{figure.name}-QuadMesh_1">.*?</g>', body, flags=re.DOTALL)
    named = [
        escape(f"{cell['row']}, {cell['column']}: {digits(cell['value'])}")
        for cell in heat_cells(figure.data)
    ]
    if mesh is None or mesh.group().count("<path") != len(named):
        return body
    label = iter(named)
    told = re.sub(
        r"(<path[^>]*?)/>",
        lambda found: f"{found.group(1)}><title>{next(label)}</title></path>",
        mesh.group(),
    )
    return body[: mesh.start()] + told + body[mesh.end() :]


def _is_text(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, Mapping) and "marked" in value)


def _marked(stretches: Iterable[tuple[str, bool]]) -> Markup:
    """Write a text whose new stretches stand out; every stretch is escaped."""
    return Markup("").join(Markup("<ins>{}</ins>").format(text) if new else text for text, new in stretches)


def _ranges(figure: FigureSpec) -> dict[str, list[float]]:
    """Collect what each series holds, in the order of the figure."""
    found: dict[str, list[float]] = {}
    for row in TABLES[figure.plot](figure.data):
        name = " ".join(str(row[key]) for key in ("panel", "series") if row.get(key))
        points = {name or "values": row["value"]} if "value" in row else _places(name, row)
        for key, value in points.items():
            if value is not None:
                found.setdefault(key, []).append(float(value))
    return found


def _places(name: str, row: Mapping[str, Any]) -> dict[str, float]:
    """Name the coordinates of an item that has a place and no value."""
    return {f"{name}, {axis}".removeprefix(", "): x for axis, x in row.items() if isinstance(x, float)}
