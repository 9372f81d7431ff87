"""What of a change can touch a behaviour, to first order: sections and claims of a diff's page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from analyses.digits import digits
from analyses.report import FigureSpec, Section, TableSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

Facts = dict[str, Any]

SHOWN = 5
"""Directions of each layer that the table lists."""


def first_order_claims(facts: Facts) -> list[str]:
    """One sentence for each metric: the direction that matters most, and where it stands by energy."""
    found = facts.get("first_order") or {}
    return [_claim(found, group) for group in found.get("groups", {})]


def first_order_sections(facts: Facts) -> list[Section]:
    """Gradients beside differences: effects, effect-ranked directions, shares, and the third definition."""
    found = facts.get("first_order")
    if found is None:
        return []
    title = "What of the change can touch behaviour"
    if "left_out" in found:
        return [Section(title, (f"Not asked: {found['left_out']}.",))]
    silent = found["without_questions"]
    if not found["groups"]:
        return [
            Section(
                title, (f"Not asked: {_list(silent)} texts bring no facts with foils and no style pairs.",)
            )
        ]
    return [_touching(found, title, silent), _directions(found), *_third(found)]


def _touching(found: Facts, title: str, silent: Sequence[str]) -> Section:
    metrics = (
        f"On {group}: m = {one['metric']}; {one['items']} of {one['items_in_file']} questions."
        for group, one in found["groups"].items()
    )
    text = [
        "The metric m of a behaviour is differentiated at every state of the base, on the base's own weights. "
        + " ".join(metrics)
        + " To first order the adapter changes it by the sum of gradient times difference over all states.",
        "At a block this counts what the difference there does through the base's later blocks; what the adapter "
        "adds in those is not in it, so only at the last block could the sum be complete. Correlation over items and "
        "the ratio of sums say how much of the truth it is. A ratio of a mean change near 0 means nothing.",
        f"The share of E|d|² inside the top-{found['k']} gradient subspace is how much of the change the behaviour "
        "can feel at all. It is small wherever the behaviour has few handles, so only a share beside those of random "
        "adapters says anything.",
    ]
    if silent:
        text.append(f"Without questions, so without a metric: {_list(silent)}.")
    return Section(title, tuple(text), (_completeness(found), _share_figure(found)), (_effect_table(found),))


def _completeness(found: Facts) -> FigureSpec:
    series = []
    for group in found["groups"]:
        records = [r["correlation"] for r in found["effects"] if r["group"] == group]
        series.append({"name": group, "values": [r["value"] for r in records], **_band(records, -1.0)})
    return FigureSpec(
        "first-order",
        "by_layer",
        "Correlation over items of the first-order effect with the true change of the metric, over the band of "
        "random adapters with the same singular values. High for random adapters too: it says that first order "
        "holds, not that the change is meant.",
        {
            "layers": _layers(found["effects"]),
            "y_label": "correlation over items",
            "y_limits": [-1, 1],
            "series": series,
        },
    )


def _share_figure(found: Facts) -> FigureSpec:
    series = []
    for metric, states in dict.fromkeys((r["metric"], r["states"]) for r in found["shares"]):
        records = [r for r in found["shares"] if (r["metric"], r["states"]) == (metric, states)]
        name = f"{metric} gradients, {states} states"
        series.append({"name": name, "values": [r["value"] for r in records], **_band(records, 0.0)})
    chance = found["shares"][0]["chance"]
    return FigureSpec(
        "gradient-share",
        "by_layer",
        f"Share of E|d|² inside the top-{found['k']} gradient subspace of a metric, by the states at "
        f"which differences are taken; the band is that of random adapters. Uniform directions would give "
        f"{digits(chance, 2)}.",
        {"layers": _layers(found["shares"]), "y_label": "share of E|d|²", "series": series},
    )


def _effect_table(found: Facts) -> TableSpec:
    rows = []
    for r in found["effects"]:
        true = found["groups"][r["group"]]["change"]
        rows.append((r["group"], r["layer"], r["effect"], true, _cell(r["correlation"]), _cell(r["ratio"])))
    return TableSpec(
        "Mean change of the metric, to first order and in truth; the grey line is the band of random adapters.",
        ("group", "layer", "first order", "truth", "correlation over items", "ratio of sums"),
        tuple(rows),
    )


def _directions(found: Facts) -> Section:
    strongest = {group: _strongest(found, group) for group in found["groups"]}
    tables = []
    for group, layer in strongest.items():
        (record,) = [r for r in found["effects"] if (r["group"], r["layer"]) == (group, layer)]
        rows = tuple(
            (
                d["direction"],
                {"value": d["e"], "low": _end(d, -1), "high": _end(d, 1)},
                d["energy"],
                d["e"] / record["effect"] if record["effect"] else None,
            )
            for d in record["directions"][:SHOWN]
        )
        tables.append(
            TableSpec(
                f"{group}, layer {layer}: difference directions by the size of their first-order effect on "
                f"{found['groups'][group]['metric'].split(',')[0]}, with its 95 % interval over items.",
                ("rank by energy", "effect", "share of E|d|²", "share of the whole effect"),
                rows,
            )
        )
    return Section(
        "Which directions matter, by effect and by energy",
        (
            "A direction can hold much of the change and do nothing. Each difference direction u has the effect "
            "E[(gradient · u)(u · d)], in units of the metric, and all directions together the whole first-order "
            "effect. Shown is the layer below the last where first order tells items apart best; the others are in "
            "`report.json`. Effects of opposite sign cancel, so shares of the whole may exceed 1.",
        ),
        tables=tuple(tables),
    )


def _third(found: Facts) -> list[Section]:
    sections = []
    for pair in dict.fromkeys(r["pair"] for r in found["overlaps"]):
        records = [r for r in found["overlaps"] if r["pair"] == pair]
        name = " and ".join(records[0]["groups"])
        ends = [[r["chance"] + sign * 1.96 * r["chance_sd"] for r in records] for sign in (-1, 1)]
        figure = FigureSpec(
            f"gradients-{pair.lower()}",
            "by_layer",
            f"Overlap of the top-{found['k']} gradient subspaces of two metrics. The grey band is that of uniformly "
            "random subspaces, far too low a floor for a real network; the dashed line is the split-half ceiling.",
            {
                "layers": [r["layer"] for r in records],
                "y_label": "overlap (0 to 1)",
                "y_limits": [0, 1],
                "series": [{"name": name, "values": [r["value"] for r in records]}],
                "null": {
                    "name": "uniform subspaces",
                    "mean": [r["chance"] for r in records],
                    "low": [max(0.0, low) for low in ends[0]],
                    "high": ends[1],
                },
                "ceiling": {"name": "ceiling (split halves)", "values": [r["ceiling"] for r in records]},
            },
        )
        rows = tuple((r["layer"], r["value"], r["ceiling"], r["chance"], r["between"]) for r in records)
        columns = ("layer", "overlap", "ceiling", "chance (uniform)", "from chance (0) to ceiling (1)")
        table = TableSpec("Overlaps of gradient subspaces.", columns, rows)
        text = (
            "A third definition of whether the two are kept apart: not where texts are moved, but where the base's "
            "behaviours are steered from. It does not depend on the adapter. A low ceiling means that the gradients "
            "of two halves of the questions hardly agree, and that little can be told."
        )
        sections.append(Section(f"Do the gradients of {name} lie apart?", (text,), (figure,), (table,)))
    return sections


def _strongest(found: Facts, group: str) -> int:
    """The layer below the last at which first order tells items apart best; the last if there is no other."""
    records = [r for r in found["effects"] if r["group"] == group]
    return max(records[:-1] or records, key=lambda r: r["correlation"]["value"] or 0.0)["layer"]


def _claim(found: Facts, group: str) -> str:
    layer = _strongest(found, group)
    (record,) = [r for r in found["effects"] if (r["group"], r["layer"]) == (group, layer)]
    shares = [r for r in found["shares"] if r["metric"] == r["states"] == group and "null" in r]
    first = record["directions"][0]
    told = (
        f"At layer {layer} the difference direction with the largest first-order effect on {group} is number "
        f"{first['direction']} by energy, with {digits(100 * first['energy'], 2)} % of it"
    )
    if not shares:
        return f"{told}."
    above = sum(r["null"]["verdict"] == "above" for r in shares)
    return (
        f"{told}; the share of the change on {group} texts that {group} can feel is above the random-adapter null "
        f"in {above} of {len(shares)} layers."
    )


def _layers(records: Sequence[dict[str, Any]]) -> list[int]:
    return list(dict.fromkeys(r["layer"] for r in records))


def _band(records: Sequence[dict[str, Any]], lowest: float) -> dict[str, Any]:
    if not all("null" in r for r in records):
        return {}
    ends = {e: [min(1.0, max(lowest, r["null"][e])) for r in records] for e in ("mean", "low", "high")}
    return {"null": {"name": "random adapters of the same strength"} | ends}


def _end(direction: dict[str, Any], sign: int) -> float | None:
    return None if direction["se"] is None else direction["e"] + sign * 1.96 * direction["se"]


def _cell(record: dict[str, Any]) -> dict[str, Any]:
    if "null" not in record:
        return {"value": record["value"]}
    return {"value": record["value"], "null": {end: record["null"][end] for end in ("low", "high")}}


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)
