"""The page of a score: which system writes the style and keeps the content, the table, samples, what changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from analyses.report import FigureSpec, Section, TableSpec
from analyses.score_systems import COPY, REFERENCE
from analyses.score_tables import cell, changes_by_kind_tables, contest_tables, fact_table, wording
from finetune.aggregates import LEAST_HEARD
from finetune.changes import marked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SHOWN = 6
"""Items shown on the page."""


def score_claims(facts: Mapping[str, Any]) -> tuple[str, ...]:
    """Say what was found, the most important first."""
    rows = {name: row for name, row in facts["scores"].items() if name != REFERENCE}
    order = sorted(rows, key=lambda name: -(rows[name]["J"]["value"] or 0.0))
    best = order[0]
    claims = [_best(facts, best), _against_copy(facts, best)]
    if len(order) > 2:
        claims.append("By J the order is " + ", ".join(f"{n} ({_number(rows[n]['J'])})" for n in order) + ".")
    if facts["facts"]:
        claims.append(_facts_claim(facts["facts"]))
    if facts["shared"]:
        claims.append(f"Training and test share something: {'; '.join(facts['shared'])}.")
    return tuple(claims)


def score_sections(facts: Mapping[str, Any], diff_page: str | None = None) -> tuple[Section, ...]:
    """Draw what was found.

    Args:
        facts: of :func:`analyses.score_run.score`, as JSON values.
        diff_page: where the page of an adapter's diff lies, seen from this one.

    Returns:
        The sections of the page.
    """
    return (
        _whole(facts, diff_page),
        wording(facts),
        contest_tables(facts),
        *fact_table(facts["facts"]),
        changes_by_kind_tables(facts),
        *_samples(facts["samples"]),
    )


def _number(score: Mapping[str, Any]) -> str:
    return "not defined" if score["value"] is None else f"{score['value']:.2f}"


def _spread(score: Mapping[str, Any], digits: int = 2) -> str:
    return f"{score['value']:.{digits}f} [{score['low']:.{digits}f}, {score['high']:.{digits}f}]"


def _best(facts: Mapping[str, Any], best: str) -> str:
    row = facts["scores"][best]
    if row["J"]["value"] is None:
        return (
            "No item tells style from plain text by this judge, so J, G and H are not defined; give the "
            "judge more "
            "pairs with --judge."
        )
    fluent = f" and {_number(row['fluency'])} of the fluency" if facts["fluency"] else ""
    return (
        f"Best of all is {best}: J {_spread(row['J'])} on a scale from 0 (copy) to 1 (a person); it goes "
        f"{_number(row['style'])} of the way to the style with {_number(row['content'])} of the "
        f"content{fluent}."
    )


def _against_copy(facts: Mapping[str, Any], best: str) -> str:
    copied, own = facts["scores"][COPY], facts["scores"][best]
    won = [
        name
        for name, row in facts["scores"].items()
        if name not in (REFERENCE, COPY) and row["bleu"]["value"] > copied["bleu"]["value"]
    ]
    return (
        f"Copying the input has BLEU {copied['bleu']['value']:.1f} to the reference, {best} "
        f"{own['bleu']['value']:.1f}; {len(won)} of {len(facts['scores']) - 2} systems beat the copy by "
        "it. By J the "
        "copy has 0."
    )


def _facts_claim(facts: Mapping[str, Any]) -> str:
    models = {name: one for name, one in facts["models"].items() if name != "base"}
    known = facts["models"]["base"]["known"]
    if not models:
        return f"Of {facts['asked']} facts the base knows {known}."
    told = ", ".join(f"{name} keeps {_spread(one['kept'])}" for name, one in models.items())
    return f"Of {facts['asked']} facts the base knows {known}; of these {told}."


def _judge_words(judge: Mapping[str, Any], *, trained: bool) -> str:
    if judge["kind"] == "given":
        return f"The judge of style is the classifier `{judge['name']}`."
    if judge["kind"] == "cross-fitted":
        return (
            "The judge of style knows character n-grams and was trained on the test's own pairs, each item "
            "judged by one "
            "that has not read its document."
        )
    same = (
        f"{judge['also_trained_on']} of these the systems learnt from too; give others with --judge to be sure."
        if judge["also_trained_on"]
        else "No pair of --train is among these."
        if trained
        else "Without --train it is not known whether adapters learnt from these too."
    )
    return (
        f"The judge of style knows character n-grams and was trained on {judge['pairs']} pairs of other "
        "documents than the "
        f"test's; held out, it is right in {100 * judge['accuracy']['value']:.1f} % of the cases. {same}"
    )


def _whole(facts: Mapping[str, Any], diff_page: str | None) -> Section:
    rows = facts["scores"]
    parts = ("style", "content", *(("fluency",) if facts["fluency"] else ()))
    text = [
        f"{facts['tells']} of {facts['n']} items, in {facts['documents']} documents, tell something: there "
        "the judge "
        f"puts the reference at least {LEAST_HEARD:g} above the input, and the reference is nearer to it "
        "than a stranger. "
        "Each part has a scale of its own: of the style, 0 is the input and 1 the reference; of the "
        "content, 0 is a "
        "stranger's and 1 the reference's; fluency is the perplexity of the reference over the system's, "
        "at most 1. J is "
        "the mean product of an item's parts, G and H the geometric and harmonic mean of the parts' means. "
        "A copy has 0 of "
        "the style, so its J, G and H are 0 by construction.",
        _judge_words(facts["judge"], trained=bool(facts["learnt"]["pairs"])),
        f"Likeness of content is the cosine of {facts['content']['embedding']}; strangers have "
        f"{facts['content']['strangers']:.2f}."
        + ("" if facts["fluency"] else " Without --base fluency is not measured and counts as 1."),
    ]
    if diff_page:
        text.append(f"What the adapter changes inside the model is on [the page of its diff]({diff_page}).")
    table = TableSpec(
        "Style, content and fluency together, and their parts, with 95 % intervals over whole documents.",
        ("system", "J", "G", "H", *parts),
        tuple((name, *(_share(row[m]) for m in ("J", "G", "H", *parts))) for name, row in rows.items()),
    )
    who = TableSpec(
        "The systems.",
        ("system", "what it is", "empty answers", "seconds"),
        tuple((name, s["how"], s["empty"], s["seconds"]) for name, s in facts["systems"].items()),
    )
    return Section("Style, content, fluency", tuple(text), (_figure(facts, parts),), (table, who))


def _share(score: Mapping[str, Any]) -> dict[str, Any]:
    """Take what a table shows of a share, to a thousandth: `report.json` has every digit under its facts."""
    return {key: None if value is None else round(value, 3) for key, value in cell(score).items()}


def _figure(facts: Mapping[str, Any], parts: Sequence[str]) -> FigureSpec:
    rows = {name: row for name, row in facts["scores"].items() if name not in (REFERENCE, COPY)}
    groups = {"base": 0, None: 2}
    panels = [
        {
            "title": "J" if name == "J" else f"share of the {name}",
            **{key: [row[name][key] for row in rows.values()] for key in ("value", "low", "high")},
            "floor": facts["scores"][COPY][name]["value"],
            "ceiling": facts["scores"][REFERENCE][name]["value"],
            "limits": [-0.03, 1.05],
        }
        for name in ("J", *parts)
    ]
    for panel in panels:
        panel["values"] = panel.pop("value")
    return FigureSpec(
        "systems",
        "forest",
        "All systems between copying the input (line) and the references (dashed), with 95 % intervals "
        "over documents. "
        "Blue: the base with a prompt; orange: an adapter; green: no model, or texts given as a file.",
        {
            "rows": list(rows),
            "panels": panels,
            "groups": [groups.get(facts["systems"][name]["model"], 1) for name in rows],
            "floor_name": "copied input",
            "ceiling_name": "references",
        },
    )


def _samples(samples: Sequence[Mapping[str, Any]]) -> tuple[Section, ...]:
    if not samples:
        return ()
    step = max(1, len(samples) // SHOWN)
    tables = tuple(
        TableSpec(
            f"Input: {one['source']}",
            ("system", "its text; what the input does not have there is marked"),
            tuple((name, {"marked": marked(text, one["source"])}) for name, text in one["outputs"].items()),
        )
        for one in samples[::step][:SHOWN]
    )
    return (
        Section(
            "Side by side",
            (f"Every {step}th of the {len(samples)} items, not chosen by hand; all are in `report.json`.",),
            tables=tables,
        ),
    )
