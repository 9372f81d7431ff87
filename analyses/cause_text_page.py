"""Sections of a causal page about text: what a patch breaks, and what patched copies write."""

from __future__ import annotations

from typing import Any

from analyses.cause_claims import BROKEN, in_units
from analyses.digits import digits
from analyses.report import FigureSpec, Section, TableSpec

Facts = dict[str, Any]

SHOWN = 8
"""Rewritten sources that stand on the page."""

DID = {"necessity": "taken out", "sufficiency": "kept alone", "zero-projection": "projected to zero"}


def broken(facts: Facts) -> Section:
    """What the patches at the layer that is shown do to plain text and to facts."""
    records = [r for r in facts["damage"] if r["layer"] == facts["shown"]]
    k = max(facts["ks"])
    rows = []
    for basis in facts["own_metric"]:
        for measure, did in DID.items():
            own = {r["metric"]: r for r in records if _is(r, basis, measure, k) and r["control"] is None}
            rows.append((f"top-{k} {basis} {did}", *(_cell(own[m], records, k) for m in BROKEN)))
    whole = [
        (name, *({"value": facts["effects"][m][side]["value"]} for m in BROKEN))
        for name, side in (("base", "base"), ("adapted model, nothing done", "adapted"))
    ]
    return Section(
        "Does it break the model?",
        (
            "A patch that undoes an effect by breaking the model explains nothing. What breaks shows as a higher "
            "loss on plain text, or as a divergence from the base that is larger than the adapter's own.",
            "Projecting to zero takes the base's content in the directions out as well, as ablations of a single "
            "model do; it stands here for comparison.",
        ),
        tables=(
            TableSpec(
                f"At layer {facts['shown']}. The null is the range of Haar directions under the same act, of equal k "
                "and of equal energy. Other k are in `report.json`.",
                ("what was done", *map(in_units, BROKEN)),
                (*whole, *rows),
            ),
        ),
    )


def written(facts: Facts) -> tuple[Section, ...]:
    """What patched copies wrote, where they were asked to."""
    found = facts["written"]
    if not found:
        return ()
    systems = found["systems"]
    by_name = {s["system"]: s["judged_styled"] for s in systems}
    patched = [s for s in systems if s["done"]]
    figure = FigureSpec(
        "written",
        "bars",
        "Share of rewritten sources that the judge calls styled, with directions of the change taken out of the "
        "adapted model, or kept alone. It says nothing about content: see BLEU beside it.",
        {
            "groups": list(dict.fromkeys(s["directions"] for s in patched)),
            "series": [
                {"name": done, **_columns([s["judged_styled"] for s in patched if s["done"] == done])}
                for done in dict.fromkeys(s["done"] for s in patched)
            ],
            "y_label": "share judged styled",
            "y_limits": [0, 1],
            "floor": {"name": "base model", **by_name["base model"]},
            "ceiling": {"name": "adapted model", "value": by_name["adapted model"]["value"]},
        },
    )
    scores = TableSpec(
        f"{found['n']} held-out sources, greedy; intervals resample sources. Of texts that the judge had not seen it "
        f"calls {_percent(found['judge']['floor'])} of the plain and {_percent(found['judge']['ceiling'])} of the "
        "styled ones styled.",
        ("system", "judged styled", "BLEU to reference", "BLEU to input"),
        tuple(
            (s["system"], *(s[m] for m in ("judged_styled", "bleu_to_reference", "bleu_to_input")))
            for s in systems
        ),
    )
    return (
        Section(
            "What does a patched copy write?",
            (
                f"The top-{found['k']} directions at layer {found['layer']}. The copy alone decides each next token; "
                "base and adapted model read the same text beside it, since the patch is made of their states.",
                f"The judge is a classifier of character n-grams that learnt from {found['judge']['pairs']} pairs "
                f"of {found['judge']['learnt_from']}.",
            ),
            figures=(figure,),
            tables=(scores, *_texts(systems)),
        ),
    )


def _texts(systems: list[dict[str, Any]]) -> tuple[TableSpec, ...]:
    """A few rewritten sources side by side; five columns are what a page holds."""
    side_by_side = [s for s in systems if s["texts"] and (s["done"] or "taken out") == "taken out"]
    shown = [s for s in side_by_side if s["system"] != "base model"]
    if not shown:
        return ()
    step = max(1, len(shown[0]["texts"]) // SHOWN)
    rows = tuple(zip(*(s["texts"][::step][:SHOWN] for s in shown), strict=True))
    caption = f"Every {step}th source, not chosen by hand; all of them and all systems are in `report.json`."
    return (
        TableSpec(caption, ("input", *(s["system"].replace(" directions", "") for s in shown[1:])), rows),
    )


def _is(record: dict[str, Any], basis: str, measure: str, k: int) -> bool:
    return (record["basis"], record["measure"], record["k"]) == (basis, measure, k)


def _cell(own: dict[str, Any], records: list[dict[str, Any]], k: int) -> dict[str, Any]:
    others = [
        r["value"]
        for r in records
        if _is(r, own["basis"], own["measure"], k) and r["metric"] == own["metric"] and r["control"]
    ]
    null = {"null": {"low": min(others), "high": max(others)}} if others else {}
    return {key: own[key] for key in ("value", "low", "high")} | null


def _percent(score: dict[str, float]) -> str:
    return f"{digits(100 * score['value'])} %"


def _columns(scores: list[dict[str, float]]) -> dict[str, list[float]]:
    return {key + "s" * (key == "value"): [s[key] for s in scores] for key in ("value", "low", "high")}
