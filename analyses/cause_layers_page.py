"""Sections of a causal page over layers: where directions matter, and which blocks' own modules do."""

from __future__ import annotations

from typing import Any

from analyses.cause_claims import pick, selectivity_of
from analyses.report import FigureSpec, Section, TableSpec

Facts = dict[str, Any]

MAPS = {
    "necessity": "Share of the effect that goes with the top-k directions. It is small where later blocks write them "
    "again.",
    "sufficiency": "Share of the effect that the top-k directions keep alone, with the adapted blocks above. In late "
    "blocks little is left to do above, and in early ones much: compare with the controls.",
    "transplant": "Share of the effect that the top-k directions give when they are put into the base, whose own "
    "blocks read them. In early blocks it is small, since most of the change is made above.",
    "selectivity": "Share of the style effect that goes with the directions, less that of the fact effect: above 0 "
    "they are more for the style.",
}


def where(facts: Facts) -> tuple[Section, ...]:
    """Maps over layer and k, where several layers were tested."""
    if len(facts["layers"]) < 2:
        return ()
    own = facts["own_metric"]
    wanted = [(basis, m, own[basis]) for basis in own for m in ("necessity", "sufficiency", "transplant")]
    wanted.insert(3, ("style", "selectivity", selectivity_of(own["fact"])))
    figures = [_map(facts, *one) for one in wanted]
    return (
        Section(
            "At which layer, and how many directions?",
            (
                "The largest of many numbers is large by chance too. Each random draw (one Haar basis a layer, or "
                "one random adapter) is therefore asked for its own farthest place over all layers and k, and the "
                "observed one is compared with these (Westfall and Young 1993).",
                f"The sections below show layer {facts['shown']}; the numbers of every layer are in `report.json`. "
                "Controls of equal energy were run at the largest k.",
            ),
            figures=tuple(figure for figure in figures if figure),
            tables=(_farthest_table(facts),),
        ),
    )


def modules(facts: Facts) -> Section:
    """Curves over blocks of what their own modules make."""
    figures = []
    for metric in facts["own_metric"].values():
        if not facts["effects"][metric]["sure"]:
            continue
        records = [r for r in facts["modules"] if r["metric"] == metric]
        blocks = [r["block"] for r in records if r["measure"] == "knock-out"]
        series = [
            {"name": name, **_columns([r for r in records if r["measure"] == measure])}
            for measure, name in (
                ("knock-out", "share that goes without them"),
                ("knock-in", "share that they make"),
            )
        ]
        data = {
            "layers": ["outside" if b is None else b for b in blocks],
            "x_label": "block",
            "y_label": f"share of the effect, {metric}",
            "series": series,
            "ceiling": {"name": "an equal share for each block", "values": 1 / len(blocks)},
        }
        caption = (
            f"The {metric} with the modules of one block switched off, and with those of no other block left on. "
            "Shares need not add up to 1: blocks build on each other."
        )
        figures.append(FigureSpec(f"modules-{metric.replace(' ', '-')}", "by_layer", caption, data))
    return Section(
        "Which blocks' own modules make it?",
        (
            "Here nothing is projected: the adapter's modules of a block are switched off whole. A block may write "
            "what others need, so a share is not a quantity that the block owns.",
        ),
        figures=tuple(figures),
        tables=() if figures else (_module_table(facts),),
    )


def _map(facts: Facts, basis: str, measure: str, metric: str) -> FigureSpec | None:
    rows = [pick(facts, basis, measure, metric, layer=layer) for layer in facts["layers"]]
    if any(r["value"] is None for row in rows for r in row):
        return None
    values = [[round(r["value"], 3) for r in row] for row in rows]
    data: dict[str, Any] = {
        "rows": facts["layers"],
        "columns": facts["ks"],
        "values": values,
        "x_label": f"k, {basis} directions",
        "y_label": "layer",
        "label": measure if measure == "selectivity" else f"{measure} for the {metric}",
    }
    data |= {"centre": 0.0} if measure == "selectivity" else {"low": 0.0, "high": 1.0}
    return FigureSpec(f"map-{basis}-{measure}", "heat", f"Top-k {basis} directions. {MAPS[measure]}", data)


def _farthest_table(facts: Facts) -> TableSpec:
    rows = tuple(
        (
            f"{r['basis']} {r['measure']}, {r['control']}",
            f"layer {r['layer']}, k = {r['k']}",
            {key: r[key] for key in ("value", "low", "high")},
            r["gap"] | {"null": {"low": -r["draws_gap"], "high": r["draws_gap"]}, "p": r["p"]},
        )
        for r in facts["farthest"]
    )
    return TableSpec(
        "Where each measure lies farthest from its random controls of equal k. The null of the gap is the largest "
        "that one of the draws has to the others, at any layer and k; p cannot be below 1 / (draws + 1).",
        ("measure, control", "farthest at", "share of the effect", "gap to the control"),
        rows,
    )


def _module_table(facts: Facts) -> TableSpec:
    counts = {r["block"]: r["modules"] for r in facts["modules"]}
    return TableSpec(
        "The adapter has no sure effect to take shares of; these are its modules.",
        ("block", "modules"),
        tuple(("outside" if b is None else str(b), n) for b, n in counts.items()),
    )


def _columns(records: list[dict[str, Any]]) -> dict[str, list[float | None]]:
    return {key + "s" * (key == "value"): [r[key] for r in records] for key in ("value", "low", "high")}
