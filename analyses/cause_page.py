"""The page of a causal test: what the facts of :mod:`analyses.adapter_cause` mean, in figures and sentences.

Pure functions of the facts: nothing here runs a model or reads a file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from analyses.cause_claims import (
    ALL,
    MEANING,
    ONE,
    SHARED,
    in_units,
    last,
    pick,
    said,
    selectivity_of,
)
from analyses.cause_layers_page import modules, where
from analyses.cause_text_page import broken, written
from analyses.digits import digits
from analyses.report import FigureSpec, Section, TableSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

Facts = dict[str, Any]


def cause_sections(facts: Facts) -> tuple[Section, ...]:
    """Everything that supports the findings, and what they do not show."""
    sections = [_tested(facts), *where(facts), _needed(facts), _enough(facts), _selective(facts)]
    if any(r["scope"] == ALL for r in facts["measures"]):
        sections.append(_everywhere(facts))
    return (*sections, broken(facts), _constant(facts), modules(facts), *written(facts), _pitfalls(facts))


def _tested(facts: Facts) -> Section:
    p = facts["preflight"]
    effects = tuple(
        (
            in_units(metric),
            *(_interval(found[side]) for side in ("base", "adapted", "effect")),
            found["sure"],
        )
        for metric, found in facts["effects"].items()
    )
    sizes = tuple(
        (
            group,
            *(size[half][what] for half in ("fit", "measured") for what in ("documents", "items")),
            size["fit_tokens"],
            len(size["refused"]),
        )
        for group, size in facts["groups"].items()
    )
    return Section(
        "What was tested",
        (
            "Base, adapted model and patched copies read the same tokens as rows of one batch. A patch takes the "
            "part P d = U Uᵀ (h_adapted − h_base) of the adapter's change out of the stream after a block, or "
            "leaves nothing but that part; what the base has there is never touched. Patches act at all token "
            "positions, and answers are teacher-forced.",
            "U holds the top-k directions of E[d dᵀ] at the positions that predict the answers, on one half of the "
            "documents. All metrics are measured on the other half, and intervals resample its documents.",
            "Controls have an equal k, or take away an equal energy: as many of their own directions, in order of "
            "importance, as hold at least the same share of E|d|² on the fit half.",
            *_coarse(facts),
            "Metrics: " + "; ".join(f"{metric}, {meaning}" for metric, meaning in MEANING.items()) + ".",
            *p["notes"],
        ),
        tables=(
            TableSpec(
                "What the whole adapter does. Only an effect that is sure, that is, whose 95 % interval leaves out "
                "0, can be divided into shares.",
                ("metric", "base", "adapted", "effect", "sure"),
                effects,
            ),
            TableSpec(
                "What was read. A fact is a document of its own.",
                (
                    "group",
                    "documents to fit",
                    "items to fit",
                    "documents to measure",
                    "items to measure",
                    "tokens to fit",
                    "lines set aside",
                ),
                sizes,
            ),
        ),
    )


def _needed(facts: Facts) -> Section:
    return Section(
        "Is it needed?",
        (
            "Necessity: the share of the adapter's effect that goes when the directions are taken out, "
            "(m_adapted − m_ablated) / (m_adapted − m_base). The zero-projection takes the base's content in the "
            "directions out as well, as ablations of a single model do; it is there for comparison.",
            *_missing(facts),
        ),
        figures=(
            *_curves(facts, "necessity", "equal k", name="necessity", caption=_NEEDED),
            *_curves(
                facts,
                "necessity",
                "equal energy",
                name="necessity-equal-energy",
                caption="The same curves over controls that remove as much of E|d|². A curve inside the band says "
                "that its energy, not its directions, did it.",
            ),
        ),
        tables=(_share_table(facts, "necessity", "zero-projection"), _control_table(facts, "necessity")),
    )


_NEEDED = (
    "Share of the effect that is undone by taking the top-k directions out at one block; the band is the range of "
    "all controls of equal k. A high necessity does not show that these directions alone would do it."
)


def _enough(facts: Facts) -> Section:
    return Section(
        "Is it enough?",
        (
            "Sufficiency: the share of the effect that is there when nothing but these directions of the change "
            "passes the block, with the adapted blocks above, (m_kept − m_base) / (m_adapted − m_base). "
            "The transplant does the same with the base's own blocks above: what it lacks is made by the adapter "
            "in later blocks.",
        ),
        figures=(
            *_curves(
                facts,
                "sufficiency",
                "equal k",
                name="sufficiency",
                caption="Share of the effect that the top-k directions of the change keep. With a strong adapter in "
                "the blocks above, even no direction at all keeps some: read the distance to the band.",
            ),
            *_curves(
                facts,
                "transplant",
                "equal k",
                name="transplant",
                caption="Share of the effect when the directions are put into the base and its own blocks read "
                "them. It does not say what other directions could do.",
            ),
        ),
        tables=(_share_table(facts, "sufficiency", "transplant"), _control_table(facts, "sufficiency")),
    )


def _selective(facts: Facts) -> Section:
    fact = facts["own_metric"]["fact"]
    rows = [
        (f"top-{k} {basis}", *(_changed(pick(facts, basis, "necessity", m)[i]) for m in SHARED))
        for basis in facts["own_metric"]
        for i, k in enumerate(facts["ks"])
    ]
    selectivity = [
        (f"top-{r['k']} {basis}", _cell(r, "equal k"), said(r) if r["controls"] else r["reason"])
        for basis in facts["own_metric"]
        for r in pick(facts, basis, "selectivity", selectivity_of(fact))
    ]
    return Section(
        "Does it act on style and not on facts?",
        (
            f"Selectivity is the necessity for the style less that for the {fact}. Where the adapter has no sure "
            "effect on one of them, there is nothing to take a share of; the changes below are in the metrics' own "
            "units, and the range beside them is that of the controls, of equal k and of equal energy.",
        ),
        tables=(
            TableSpec(
                "Selectivity.", ("taken out", "selectivity", "beside the controls"), tuple(selectivity)
            ),
            TableSpec(
                "What taking directions out changes, against the adapted model.",
                ("taken out", *map(in_units, SHARED)),
                tuple(rows),
            ),
        ),
    )


def _everywhere(facts: Facts) -> Section:
    series = []
    first = facts["layers"][0]
    for scope, name in ((ONE, f"at layer {first}"), (ALL, f"at every layer from {first} on")):
        records = pick(facts, "style", "necessity", "style", scope=scope, layer=first)
        series.append(_series(name, records, "equal k"))
    figures = ()
    if facts["effects"]["style"]["sure"]:
        data = {"layers": facts["ks"], "x_label": "k", "y_label": "necessity for the style", "series": series}
        caption = (
            "The same directions taken out at one block and at every block from it on, with each block's own "
            "directions and controls. A gap between the panels is what later blocks write again."
        )
        figures = (FigureSpec("all-layers", "by_layer", caption, data | {"ceiling": _WHOLE}),)
    rows = tuple(
        (
            basis,
            r["k"],
            r["metric"],
            r["energy"],
            _cell(r, "equal k"),
            said(r) if r["controls"] else r["reason"],
        )
        for basis, metric in facts["own_metric"].items()
        for r in pick(facts, basis, "necessity", metric, scope=ALL)
    )
    columns = ("directions", "k", "metric", "share of E|d|², mean", "necessity", "beside the controls")
    return Section(
        "Do later layers write it again?",
        ("What is taken out at one block can be written again by the adapter in the blocks above it.",),
        figures=figures,
        tables=(TableSpec("Taken out at every block from the chosen one on.", columns, rows),),
    )


def _constant(facts: Facts) -> Section:
    rows = tuple(
        (
            r["basis"],
            r["measure"],
            r["metric"],
            r["energy"],
            _cell(r, "equal length"),
            said(r) or r.get("reason"),
        )
        for r in facts["means"]
        if r["metric"] == facts["own_metric"][r["basis"]]
    )
    columns = (
        "mean of",
        "what is done",
        "metric",
        "share of E|d|²",
        "share of the effect",
        "beside the control",
    )
    caption = (
        f"The mean difference at layer {facts['shown']}: taken out of the adapted model, kept alone in it, or added "
        "to the base once and twice. The null is the range of random vectors of the same length."
    )
    return Section(
        "Would one constant vector do?",
        ("A mean shift is the simplest thing that a change can be, and what steering vectors are made of.",),
        tables=(TableSpec(caption, columns, rows),),
    )


def _pitfalls(facts: Facts) -> Section:
    return Section(
        "What this does not show",
        (
            "Later LoRA layers can write the change again: a low necessity at one layer does not show that the "
            "directions are idle. Test every layer from it on with `--all-layers`.",
            "Energy is not function: directions that hold most of E|d|² need not make the behaviour, and base-PCA "
            "directions, which hold much of any change, are a serious rival.",
            "Sufficiency keeps the adapter in the blocks above, which may do the work; the transplant does not.",
            "A part may be needed and yet not enough, and necessities of several parts need not add up to 1.",
            f"With {facts['draws']} draws of each random control the band in which one more draw would fall is wide; "
            "ask for more with `--draws`. Not distinguishable is not the same as equal.",
            "Intervals resample the measured documents. They do not hold the chance in which documents the "
            "directions were fitted on, and with fewer than about twenty documents they come out too narrow.",
            "Each k and layer is judged alone: of many verdicts at the 5 % level a few are wrong. With one layer the "
            "claims above are about the largest k, whatever the curves look like; with several, the place farthest "
            "from its controls is corrected for having been chosen, but its interval is not.",
            "The likelihoods are teacher-forced: they say what the model prefers, not what it would write; "
            "`--write` shows that for a few patches.",
        ),
    )


_WHOLE = {"name": "the whole effect", "values": 1.0}


def _curves(facts: Facts, measure: str, rule: str, *, name: str, caption: str) -> tuple[FigureSpec, ...]:
    """One curve over k for each group's own directions, a panel each, over the range of its controls."""
    series = []
    for basis, metric in facts["own_metric"].items():
        if facts["effects"][metric]["sure"]:
            records = pick(facts, basis, measure, metric)
            if not all(_range(r, rule) for r in records):
                return ()  # of several layers, equal energy was asked for at one k: the table has it
            series.append(_series(f"{basis} directions, {metric}", records, rule))
    if not series:
        return ()
    data = {"layers": facts["ks"], "x_label": "k", "y_label": f"{measure} (share of the effect)"}
    return (FigureSpec(name, "by_layer", caption, data | {"series": series, "ceiling": _WHOLE}),)


def _series(name: str, records: Sequence[dict[str, Any]], rule: str) -> dict[str, Any]:
    ranges = [_range(r, rule) or {"low": None, "high": None} for r in records]
    null = {end: [r[end] for r in ranges] for end in ("low", "high")} | {"name": f"controls of {rule}"}
    return {
        "name": name,
        **{key + "s" * (key == "value"): [r[key] for r in records] for key in ("value", "low", "high")},
    } | {"null": null}


def _range(record: dict[str, Any], rule: str) -> dict[str, float] | None:
    values = [v for c in record["controls"] if c["rule"] == rule for v in c["values"]]
    return {"low": min(values), "high": max(values)} if values else None


def _coarse(facts: Facts) -> tuple[str, ...]:
    if facts["own_metric"]["fact"] == "fact margin":
        return ()
    return (
        "The adapter has no sure effect on the fact margin, but one on the share of facts whose answer beats every "
        "foil: this page follows the share. Facts that the base knew without exception can only be lost.",
    )


def _missing(facts: Facts) -> tuple[str, ...]:
    return tuple(
        f"There is no curve for the {metric}: the adapter's effect on it is within its interval."
        for metric in facts["own_metric"].values()
        if not facts["effects"][metric]["sure"]
    )


def _share_table(facts: Facts, *measures: str) -> TableSpec:
    rows = tuple(
        (f"top-{r['k']} {basis}", metric, r["energy"], *(_cell(one[i], "equal k") for one in found))
        for basis in facts["own_metric"]
        for metric in SHARED
        if facts["effects"][metric]["sure"]
        for found in [[pick(facts, basis, measure, metric) for measure in measures]]
        for i, r in enumerate(found[0])
    )
    return TableSpec(
        "Shares of the effect with 95 % intervals; the null is the range of all controls of equal k. Metrics on "
        "which the whole adapter has no sure effect are left out.",
        ("directions", "metric", "share of E|d|²", *measures),
        rows,
    )


def _control_table(facts: Facts, measure: str) -> TableSpec:
    rows = tuple(
        (
            f"{basis} beside {c['control']}, {c['rule']}",
            _whole(c["dimensions"]),
            _ends(c["values"]),
            _interval(c["gap"]),
            c["verdict"],
        )
        for basis, metric in facts["own_metric"].items()
        for c in last(facts, basis, measure, metric)["controls"]
    )
    return TableSpec(
        f"Every control beside the top-{max(facts['ks'])} directions: {measure} for their own metric. The gap is own "
        "less control, paired by document. Other k are in `report.json`.",
        ("directions", "dimensions", measure, "gap", "own is"),
        rows,
    )


def _ends(values: Sequence[float], significant: int = 2) -> str:
    low, high = digits(min(values), significant), digits(max(values), significant)
    return low if low == high else f"{low} to {high}"


def _whole(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low} to {high}"


def _interval(estimate: dict[str, Any]) -> dict[str, Any]:
    return {key: estimate[key] for key in ("value", "low", "high")}


def _changed(record: dict[str, Any]) -> dict[str, Any]:
    change = record["change"]
    return _interval(change) | ({"null": change["null"]} if "null" in change else {})


def _cell(record: dict[str, Any], rule: str) -> dict[str, Any] | None:
    if record["value"] is None:
        return None
    null = _range(record, rule)
    return _interval(record) | ({"null": null} if null else {})
