"""Numbers of modules, in rows of layers and columns of projections, and the words and cells for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from analyses.digits import digits

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LONGEST = 24
"""A table lists at most this many modules; report.json has all."""


def layer_map(records: Sequence[dict[str, Any]], values: Sequence[float | None]) -> dict[str, Any]:
    """Lay one number of each module out in rows of layers and columns of projections."""
    layers = sorted({r["layer"] for r in records}, key=lambda layer: -1 if layer is None else layer)
    columns = list(dict.fromkeys(r["projection"] for r in records))
    places = {(r["layer"], r["projection"]): v for r, v in zip(records, values, strict=True)}
    return {
        "rows": ["outside" if layer is None else layer for layer in layers],
        "columns": short_names(columns),
        "values": [[places.get((layer, column)) for column in columns] for layer in layers],
        "y_label": "layer",
    }


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
    phrases = {
        "above": f"above {null}",
        "not distinguishable": f"not distinguishable from {null}",
        "below": f"below {null}",
    }
    counts = [
        f"{phrase} in {words.count(w)} of {len(words)} modules" for w, phrase in phrases.items() if w in words
    ]
    return ", ".join(counts) or "there is nothing to compare"


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
