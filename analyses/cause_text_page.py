"""Sections of a causal page about text: what a patch breaks, and what patched copies write."""

from __future__ import annotations

from typing import Any

from analyses.cause_claims import BROKEN, in_units
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
    styled = [s["judged_styled"] for s in systems]
    figure = FigureSpec(
        "written",
        "bars",
        "Share of rewritten sources that the judge calls styled. It says nothing about content: see BLEU beside it.",
        {
            "groups": [_short(s["system"]) for s in systems],
            "series": [{"name": "judged styled", **_columns(styled)}],
            "y_label": "share judged styled",
            "y_limits": [0, 1],
            "floor": {"name": "plain text, unseen", **found["judge"]["floor"]},
            "ceiling": {"name": "styled text, unseen", "value": found["judge"]["ceiling"]["value"]},
        },
    )
    scores = TableSpec(
        f"{found['n']} held-out sources, greedy; intervals resample sources. Floor and ceiling of the judge are on "
        "texts that it had not seen.",
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
                f"({found['judge']['learnt_from']}).",
            ),
            figures=(figure,),
            tables=(scores, *_texts(systems)),
        ),
    )


def _texts(systems: list[dict[str, Any]]) -> tuple[TableSpec, ...]:
    kept = [s for s in systems if s["texts"]]
    if not kept:
        return ()
    step = max(1, len(kept[0]["texts"]) // SHOWN)
    rows = tuple(zip(*(s["texts"][::step][:SHOWN] for s in kept), strict=True))
    caption = f"Every {step}th source, not chosen by hand; all are in `report.json`."
    return (TableSpec(caption, ("input", *(_short(s["system"]) for s in kept[1:])), rows),)


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


def _short(system: str) -> str:
    return system.replace(" directions", "").replace("copy the input", "copied input")


def _columns(scores: list[dict[str, float]]) -> dict[str, list[float]]:
    return {key + "s" * (key == "value"): [s[key] for s in scores] for key in ("value", "low", "high")}
