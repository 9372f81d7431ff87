"""What the sections of a diff's page share: finding records, drawing them over their floor, saying verdicts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from analyses.digits import digits
from analyses.report import FigureSpec, TableSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

Facts = dict[str, Any]
Record = dict[str, Any]

RANDOM = "random adapters of the same strength"


def pick(facts: Facts, measure: str, group: str) -> list[Record]:
    """The records of one measure and group, one a layer, in the order of the layers."""
    found = {r["layer"]: r for r in facts["measures"] if r["measure"] == measure and r["group"] == group}
    return [found[layer] for layer in facts["layers"] if layer in found]


def pairs(facts: Facts) -> list[str]:
    """Names of the pairs of groups that are compared."""
    return list(dict.fromkeys(r["group"] for r in facts["measures"] if r["measure"] == "overlap"))


def most_moved(facts: Facts, group: str) -> int:
    """The layer at which a group's median token moves most."""
    return max(pick(facts, "size", group), key=lambda r: r["value"])["layer"]


def band(records: Sequence[Record]) -> dict[str, Any] | None:
    """The null of some records as a band to draw, None where one of them has none.

    None of what is drawn with it can be negative, so neither can a band that reads as "what chance gives".
    """
    if not records or any("null" not in r for r in records):
        return None
    ends = {key: [max(0.0, r["null"][key]) for r in records] for key in ("mean", "low", "high")}
    return {"name": RANDOM, **ends}


def layered(facts: Facts, measure: str, *, name: str, label: str, caption: str, **axis: Any) -> FigureSpec:
    """One number by layer, a panel a group, over the band of the random adapters."""
    series = []
    layers = [r["layer"] for r in pick(facts, measure, next(iter(facts["groups"])))]
    for group in facts["groups"]:
        records = [r for r in pick(facts, measure, group) if r["layer"] in layers]
        series.append({"name": group, "values": [r["value"] for r in records], "null": band(records)})
    return FigureSpec(
        name, "by_layer", caption, {"layers": layers, "y_label": label, "series": series, **axis}
    )


def by_layer_table(facts: Facts, caption: str, columns: dict[str, str]) -> TableSpec:
    """Measures side by side, a row for each group and layer; those that were not taken are left out.

    Args:
        facts: of the diff.
        caption: of the table.
        columns: measure -> heading.
    """
    taken = {r["measure"] for r in facts["measures"]}
    shown = {measure: heading for measure, heading in columns.items() if measure in taken}
    rows = []
    for group in facts["groups"]:
        found = {m: {r["layer"]: r for r in pick(facts, m, group)} for m in shown}
        for layer in facts["layers"]:
            if any(layer in by_layer for by_layer in found.values()):
                cells = (cell(by_layer.get(layer)) for by_layer in found.values())
                rows.append((group, layer, *cells))
    return TableSpec(caption, ("group", "layer", *shown.values()), tuple(rows))


def cell(record: Record | None) -> Any:
    """A number with its null, p and verdict, as tables write it."""
    if record is None:
        return None
    written = {"value": record["value"]}
    if "null" in record:
        null = record["null"]
        ends = {"low": null["low"], "high": null["high"]}
        written |= {"p": null["p"], "null": ends, "verdict": null["verdict"]}
    return written


def verdicts(records: Sequence[Record]) -> str:
    """Count the verdicts of a measure over layers, in the only words that are allowed."""
    words = [r["null"]["verdict"] for r in records if "null" in r]
    if not words:
        return "there is no null to compare with"
    said = [(w, words.count(w)) for w in ("above", "not distinguishable", "below") if w in words]
    parts = [
        f"{w}{' the' if w != 'not distinguishable' else ' from the'} random-adapter null" for w, _ in said
    ]
    counts = [f"{part} in {n} of {len(words)} layers" for part, (_, n) in zip(parts, said, strict=True)]
    return ", ".join(counts)


def over_all_layers(facts: Facts, measure: str, group: str) -> str:
    """Say the p value of a measure corrected for having looked at all layers, with its resolution."""
    found = [r for r in facts["over_layers"] if (r["measure"], r["group"]) == (measure, group)]
    if not found:
        return ""
    one = found[0]
    return (
        f" Over all layers at once p = {digits(one['p'], 2)}, with {one['n']} random adapters never below "
        f"{digits(1 / (1 + one['n']), 2)}; {digits(one['p_normal'], 2)} if they are normal."
    )


def spread_layers(layers: Sequence[int]) -> set[int]:
    """First, middle and last: enough to see how something changes with depth."""
    return {layers[0], layers[len(layers) // 2], layers[-1]}
