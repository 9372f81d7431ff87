"""Numbers of modules, in rows of layers and columns of projections, and the words and cells for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from analyses.digits import digits
from analyses.report import FigureSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LONGEST = 8
"""A table lists at most this many modules; report.json has all."""


_ACROSS = 12
"""So many columns have room for their numbers."""


def layer_map(records: Sequence[dict[str, Any]], values: Sequence[float | None]) -> dict[str, Any]:
    """Lay one number of each module out by layer and projection, the layers across where they fit.

    Few projections of many layers would make tall columns of wide cells.
    """
    layers = sorted({r["layer"] for r in records}, key=lambda layer: -1 if layer is None else layer)
    projections = list(dict.fromkeys(r["projection"] for r in records))
    places = {(r["layer"], r["projection"]): v for r, v in zip(records, values, strict=True)}
    grid = [[places.get((layer, projection)) for projection in projections] for layer in layers]
    named = ["outside" if layer is None else layer for layer in layers]
    if len(projections) < len(layers) <= _ACROSS:
        turned = [list(column) for column in zip(*grid, strict=True)]
        return {"rows": short_names(projections), "columns": named, "values": turned, "x_label": "layer"}
    return {"rows": named, "columns": short_names(projections), "values": grid, "y_label": "layer"}


def by_projection(
    records: Sequence[dict[str, Any]], key: str, name: str, label: str, *, says: tuple[str, str]
) -> FigureSpec:
    """Draw one number of each module by layer, a panel for each projection, with its null.

    Args:
        records: of modules, each with a number and its null under ``key``.
        key: which number.
        name: of the figure.
        label: what the number is.
        says: a sentence on how to read it, and the name of its null.
    """
    layers = sorted({r["layer"] for r in records if r["layer"] is not None}) or [0]
    projections = list(dict.fromkeys(r["projection"] for r in records))
    series = []
    for projection, short in zip(projections, short_names(projections), strict=True):
        found = {r["layer"]: r[key] for r in records if r["projection"] == projection}
        own = [found.get(layer, found.get(None) if len(found) == 1 else None) for layer in layers]
        null: dict[str, Any] = {
            end: [r["null"][end] if r and "null" in r else None for r in own]
            for end in ("mean", "low", "high")
        }
        null["name"] = says[1]
        series.append({"name": short, "values": [r and r["value"] for r in own], "null": null})
    caption = f"By layer, {label}. {says[0]} The band is that of {says[1]}."
    return FigureSpec(name, "by_layer", caption, {"layers": layers, "y_label": label, "series": series})


def short_names(projections: Sequence[str]) -> list[str]:
    """Drop what comes before the last point, where the names still differ then.

    Examples:
        >>> short_names(["self_attn.q_proj", "mlp.up_proj"]), short_names(["attn.c_proj", "mlp.c_proj"])
        (['q_proj', 'up_proj'], ['attn.c_proj', 'mlp.c_proj'])
    """
    last = [name.rsplit(".", 1)[-1] for name in projections]
    return last if len(set(last)) == len(last) else list(projections)


def count_verdicts(records: Iterable[dict[str, Any]], null: str) -> str:
    """Count verdicts over modules, in the only words that are allowed."""
    words = [r["null"]["verdict"] for r in records if "null" in r]
    first = {"above": "above", "not distinguishable": "not distinguishable from", "below": "below"}
    found = [word for word in first if word in words]
    counts = [f"{word} in {words.count(word)}" for word in found[1:]]
    if not found:
        return "there is nothing to compare"
    return ", ".join([
        f"{first[found[0]]} {null} in {words.count(found[0])} of {len(words)} modules",
        *counts,
    ])


def cell(record: dict[str, Any] | None) -> Any:
    """A number with its null, as a cell of a table."""
    if record is None or "null" not in record:
        return record and record["value"]
    null = record["null"]
    shown = {"value": record["value"], "null": {"low": null["low"], "high": null["high"]}}
    return shown | {"p": null.get("p"), "verdict": null["verdict"]}


def place(record: dict[str, Any]) -> str:
    """Name a module by its layer and projection."""
    return (
        record["projection"] if record["layer"] is None else f"layer {record['layer']} {record['projection']}"
    )


def said(verdict: str) -> str:
    """Put a verdict before the name of its null."""
    return "not distinguishable from" if verdict == "not distinguishable" else verdict


def percent(share: float) -> str:
    """Write a share in percent."""
    return f"{digits(100 * share, 2)} %"


def span(values: set[Any]) -> str:
    """Write the smallest and the largest of some numbers, or the one that they all are."""
    low, high = min(values), max(values)
    return digits(low) if digits(low) == digits(high) else f"{digits(low)} to {digits(high)}"
