"""The page of a circuit: what the facts of :mod:`analyses.circuit` mean, in figures and sentences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from analyses.digits import digits
from analyses.module_maps import layer_map, percent, place, said, short_names
from analyses.report import FigureSpec, Section, TableSpec

Facts = dict[str, Any]


def circuit_claims(facts: Facts) -> tuple[str, ...]:
    """The findings that open the page, a sentence each."""
    found, curve = facts["circuit"], facts["curves"]["components"]
    kept, of = len(found["kept"]), found["of"]
    has, goes = found["sufficiency"], found["necessity"]
    claims = [
        f"{kept} of {of} modules have {_share(has)} of the style effect on documents that did not choose them, "
        f"{_beside(has)} random sets of {kept} (mean {percent(has['null']['mean'])}).",
        f"Without these {kept}, {_share(goes)} of the effect goes, {_beside(goes)} taking {kept} random modules away "
        f"(mean {percent(goes['null']['mean'])}).",
        f"In the order of attribution the first {curve['enough']} of {curve['of']} rank components have "
        f"{_share(curve['enough_share'])}; random sets have {percent(facts['keep'])} on average {_when(curve)}.",
    ]
    fact = found["fact sufficiency"]
    if fact["value"] is not None:
        claims.append(f"The same {kept} modules have {_share(fact)} of the adapter's effect on the facts.")
    claims += [
        f"{Path(one['adapter']).name}: its circuit of {one['modules']} shares {one['shared']} modules with this one "
        f"({digits(one['shared_by_chance'])} by chance); attributions correlate at {digits(one['rank_correlation'])}."
        for one in facts["stability"]
    ]
    return tuple(claims)


def circuit_sections(facts: Facts) -> tuple[Section, ...]:
    """Everything that supports the findings, and what they do not show."""
    stability = [_stability(facts)] if facts["stability"] else []
    return (_tested(facts), _drawn(facts), _enough(facts), _maps(facts), *stability, _pitfalls(facts))


def _tested(facts: Facts) -> Section:
    rows = tuple(
        (metric, *(one[side] for side in ("base", "adapted", "effect")), one["sure"])
        for metric, one in facts["effects"].items()
    )
    told = facts["attribution"]
    return Section(
        "What was tested",
        (
            "Every module adds Σ gᵢ σᵢ uᵢ (vᵢ · x) to what the base's own module writes, with σᵢ, uᵢ, vᵢ of the "
            "singular value decomposition of its update, since the columns of B and A mean nothing one by one. All "
            "gates at 1 is the adapted model, all at 0 the base, exactly; a module is switched by all of its gates.",
            "The style is how much likelier the styled target is than the plain source as the answer, in nats a "
            "token; the fact margin is the true answer against its best foil, in nats.",
            f"Attribution is the integrated gradient over {told['points']} points between base and adapted model. "
            f"It adds up to {digits(told['sum'])} where the effect is {digits(told['effect'])}, and its order agrees "
            f"with that of switching modules off one by one at a correlation of {digits(told['rank_correlation'])}.",
            "The circuit: modules are visited from the least attributed on, and each is removed for good when the "
            f"rest still has {percent(facts['keep'])} of the style effect. This and the attribution read one half of "
            "the documents; all other numbers are of the other half, whose documents intervals resample.",
        ),
        tables=(
            TableSpec("What the whole adapter does.", ("metric", "base", "adapted", "effect", "sure"), rows),
        ),
    )


def _drawn(facts: Facts) -> Section:
    found = facts["circuit"]
    records = [facts["modules"][i] for i in found["kept"]]
    rows = tuple(
        (
            place(record),
            record["style"]["knock-out"],
            record["style"]["knock-in"],
        )
        for record in sorted(records, key=lambda r: -r["style"]["knock-out"]["value"])
    )
    columns = ("module", "goes without it", "it has alone")
    return Section(
        "The circuit",
        (
            "A line is an interaction of two modules while the rest of the circuit is on: what both add together "
            "beyond the sum of what each adds. Where it is positive one needs the other; where it is negative either "
            "can stand in for the other. It was measured between at most eight modules, those that are missed most.",
        ),
        figures=(_network(facts),),
        tables=(
            TableSpec(
                "The modules of the circuit: shares of the style effect, each switched alone.", columns, rows
            ),
            _interaction_table(facts),
        ),
    )


def _network(facts: Facts) -> FigureSpec:
    records, kept = facts["modules"], set(facts["circuit"]["kept"])
    layers = sorted({r["layer"] for r in records}, key=lambda layer: -1 if layer is None else layer)
    projections = list(dict.fromkeys(r["projection"] for r in records))
    nodes = [
        {
            "row": layers.index(r["layer"]),
            "column": projections.index(r["projection"]),
            "value": r["style"]["knock-out"]["value"],
            "kept": i in kept,
        }
        for i, r in enumerate(records)
    ]
    edges = [
        {"one": e["one"], "other": e["other"], "value": e["value"], "sure": e["low"] > 0 or e["high"] < 0}
        for e in facts["interactions"]
    ]
    return FigureSpec(
        "circuit",
        "circuit",
        "The adapter's modules. The area of a mark is the share of the style effect that goes when this module alone "
        "is switched off; lines are interactions whose interval leaves out 0.",
        {
            "rows": ["outside" if layer is None else layer for layer in layers],
            "columns": short_names(projections),
            "nodes": nodes,
            "edges": edges,
            "label": "share of the style effect that goes",
            "series": [{"name": "share that goes", "values": [node["value"] for node in nodes]}],
        },
    )


def _interaction_table(facts: Facts) -> TableSpec:
    strongest = sorted(facts["interactions"], key=lambda e: -abs(e["value"]))[:8]
    rows = tuple(
        (place(facts["modules"][e["one"]]), place(facts["modules"][e["other"]]), _estimate(e))
        for e in strongest
    )
    caption = "The strongest interactions, as shares of the style effect."
    return TableSpec(caption, ("module", "with", "interaction"), rows)


def _enough(facts: Facts) -> Section:
    found = facts["circuit"]
    rows = []
    for name, label in (
        ("sufficiency", "effect that it has alone"),
        ("necessity", "effect that goes without it"),
    ):
        rows.append((label, found[name], said(found[name]["null"]["verdict"]), found[f"fact {name}"]))
    curve = facts["curves"]["components"]
    rows.append((
        f"first {curve['enough']} rank components alone",
        curve["enough_share"],
        said(curve["enough_share"]["null"]["verdict"]),
        {"value": None, "low": None, "high": None},
    ))
    return Section(
        "How many are enough?",
        (
            "Faithfulness: the share of the style effect that the first k modules, or rank components, have alone, "
            "everything else switched off. The grey range is that of random sets of as many.",
        ),
        figures=(
            _curve_figure(facts, "modules", "modules, in the order of attribution"),
            _curve_figure(facts, "components", "rank components, in the order of attribution"),
        ),
        tables=(
            TableSpec(
                "The circuit beside random sets of as many parts; the null is the band in which one more of them "
                "would fall.",
                ("circuit", "style", "verdict", "fact margin"),
                tuple(rows),
            ),
        ),
    )


def _curve_figure(facts: Facts, kind: str, label: str) -> FigureSpec:
    curve = facts["curves"][kind]
    chance = [*curve["random"], [1.0]]
    null = {
        "low": [min(values) for values in chance],
        "high": [max(values) for values in chance],
        "mean": [sum(values) / len(values) for values in chance],
        "name": f"range of {facts['draws']} random sets",
    }
    series = {
        key + "s" * (key == "value"): [one[key] for one in curve["shares"]]
        for key in ("value", "low", "high")
    }
    return FigureSpec(
        f"faithfulness-{kind}",
        "by_layer",
        f"Share of the style effect that the first k {kind} have alone, on documents that did not choose them. All "
        "together have 1 by definition.",
        {
            "layers": curve["sizes"],
            "x_label": f"k {label}",
            "y_label": "share of the style effect",
            "series": [{"name": f"most attributed {kind}", **series}],
            "null": null,
            "ceiling": {"name": "asked for", "values": facts["keep"]},
        },
    )


def _maps(facts: Facts) -> Section:
    records = facts["modules"]
    told = {
        "knock-out": "Share of the {} effect that goes with each module alone.",
        "knock-in": "Share of the {} effect that each module has alone, all others switched off.",
    }
    figures = []
    for metric in ("style", "fact margin"):
        if not facts["effects"][metric]["sure"]:
            continue
        for measure, caption in told.items():
            values = [round(r[metric][measure]["value"], 3) for r in records]
            data = layer_map(records, values) | {"label": f"share of the {metric} effect", "centre": 0.0}
            name = f"{measure}-{metric}".replace(" ", "-")
            text = f"{caption.format(metric)} Shares need not add up to 1, since modules build on each other."
            figures.append(FigureSpec(name, "heat", text, data))
    values = [round(r["style"]["attribution"], 4) for r in records]
    data = layer_map(records, values) | {"label": "attribution, nats a token", "centre": 0.0}
    figures.append(
        FigureSpec(
            "attribution", "heat", "What integrated gradients attribute to each module for the style.", data
        )
    )
    absent = (
        "" if facts["effects"]["fact margin"]["sure"] else " There is no sure effect on the facts to divide."
    )
    return Section(
        "Which modules are missed, and which do it alone?",
        (f"Each module is switched off alone, and left on alone.{absent}",),
        figures=tuple(figures),
    )


def _stability(facts: Facts) -> Section:
    rows = tuple(
        (
            Path(one["adapter"]).name,
            one["modules"],
            one["shared"],
            one["shared_by_chance"],
            one["rank_correlation"],
        )
        for one in facts["stability"]
    )
    columns = (
        "adapter",
        "modules in its circuit",
        "shared",
        "shared by chance",
        "rank correlation of attributions",
    )
    return Section(
        "Is it the same in other adapters?",
        ("Each was attributed and pruned by itself on the same documents, with the same threshold.",),
        tables=(TableSpec("Circuits beside this one.", columns, rows),),
    )


def _pitfalls(facts: Facts) -> Section:
    return Section(
        "What this does not show",
        (
            "The circuit is one that pruning in one order found; another order can end in another set that is as "
            "good. The interactions above say where modules can stand in for each other.",
            "A module that is switched off leaves the others in a state that training never saw: sufficiency asks "
            "what is enough in that state.",
            "Greedy pruning keeps what it needs for the threshold on the half that chose it; on the other half the "
            "share can lie below it, and that is the number to quote.",
            f"With {facts['draws']} random sets of each size the range is that of these draws, not of all sets. "
            "They have as many parts, not updates of equal norm.",
            "The style is teacher-forced: what the model prefers, not what it writes.",
        ),
    )


def _when(curve: dict[str, Any]) -> str:
    """From how many components on, or that no smaller size that was tried is enough."""
    if curve["random_enough"] == curve["of"]:
        return f"at none of the sizes tried below {curve['of']}"
    return f"from {curve['random_enough']} on"


def _share(record: dict[str, Any]) -> str:
    return f"{percent(record['value'])} ({percent(record['low'])} to {percent(record['high'])})"


def _beside(record: dict[str, Any]) -> str:
    return said(record["null"]["verdict"])


def _estimate(record: dict[str, Any]) -> dict[str, float]:
    return {key: record[key] for key in ("value", "low", "high")}
