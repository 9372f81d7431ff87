"""The tables of a score's page: wording, which differences are real, facts, and what changed by kind of word."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from analyses.report import Section, TableSpec
from analyses.score_systems import REFERENCE
from finetune.changes import KINDS

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAMES = {
    "J": "J",
    "judged_styled": "judged styled",
    "bleu": "BLEU to reference",
    "chrf": "chrF to reference",
}


def wording(facts: Mapping[str, Any]) -> Section:
    """Tables of what the wording keeps of reference and input, and of numbers, names and fluency."""
    rows = facts["scores"]
    against = TableSpec(
        "Against the reference and against the input. Near the input is not good in itself: the copy is "
        "nearest.",
        ("system", "judged styled", "BLEU to reference", "chrF to reference", "BLEU to input", "chrF to input",
         "likeness to reference", "likeness to input"),
        tuple(
            (name, *(cell(row[m]) for m in ("judged_styled", "bleu", "chrf", "bleu_to_input", "chrf_to_input",
                                              "like_reference", "like_input")))
            for name, row in rows.items()
        ),
    )  # fmt: skip
    measures = ("numbers_kept", "numbers_added", "names_kept", "length", "perplexity")
    held = [m for m in measures if any(m in row for row in rows.values())]
    titles = {"numbers_kept": "numbers kept", "numbers_added": "numbers added", "names_kept": "names kept",
              "length": "words per word", "perplexity": "perplexity"}  # fmt: skip
    kept = TableSpec(
        "Numbers in digits and names of the input that come back, numbers that it does not have, length, "
        "and perplexity "
        "under the base (of all tokens, lower is more fluent). A dash: there is none to keep.",
        ("system", *(titles[m] for m in held)),
        tuple((name, *(cell(row.get(m)) for m in held)) for name, row in rows.items()),
    )
    signatures = sorted({s["signature"] for row in rows.values() for s in row.values() if s.get("signature")})
    return Section(
        "Wording, numbers, names",
        (f"BLEU and chrF by sacrebleu: {', '.join(f'`{s}`' for s in signatures)}.",),
        tables=(against, kept),
    )


def contest_tables(facts: Mapping[str, Any]) -> Section:
    """Who beats whom, and how the best stands to all others."""
    tables = []
    for score, title in _NAMES.items():
        found = facts["contests"][score]
        names = list(dict.fromkeys([c["first"] for c in found] + [c["second"] for c in found]))
        wins = {name: [0, 0, 0] for name in names}
        for one in found:
            for name, sign in ((one["first"], 1), (one["second"], -1)):
                verdict = 1 if not one["sure"] else 0 if sign * one["difference"] > 0 else 2
                wins[name][verdict] += 1
        tables.append((title, wins))
    rows = tuple(
        (name, *(f"{w[0]} / {w[1]} / {w[2]}" for _, wins in tables for w in [wins[name]]))
        for name in tables[0][1]
    )
    table = TableSpec(
        "Better than / not told apart from / worse than so many other systems; corrected p below 0.05.",
        ("system", *(title for title, _ in tables)),
        rows,
    )
    best = max(facts["contests"]["J"], key=lambda c: _j(facts, c["first"]) + _j(facts, c["second"]))
    leader = max((best["first"], best["second"]), key=lambda name: _j(facts, name))
    against = tuple(
        _contest_row(c, leader) for c in facts["contests"]["J"] if leader in (c["first"], c["second"])
    )
    detail = TableSpec(
        f"The best by J, {leader}, against each other system: difference of J.",
        ("against", "difference", "p", "p, corrected"),
        against,
    )
    return Section(
        "Which differences are real",
        (
            "Two systems change places in whole documents, at random; p is how often that gives a "
            "difference as large as "
            "the one found. It is corrected (Holm) for all pairs of systems of one score. Every pair is in "
            "`report.json`.",
        ),
        tables=(table, detail),
    )


def fact_table(facts: Mapping[str, Any]) -> tuple[Section, ...]:
    """What base and adapters know; nothing where no facts were asked."""
    if not facts:
        return ()
    rows = tuple(
        (
            name,
            one["known"],
            one["styled_known"],
            cell(one["kept"]),
            cell(one["styled_kept"]),
            cell(one["learnt"]),
            len(one["forgotten"]),
        )
        for name, one in facts["models"].items()
    )
    table = TableSpec(
        f"{facts['asked']} facts asked as a choice between the answer and foils, in a plain and in a "
        "styled prompt. Kept: "
        "of those that the base knew. Forgotten: known to the base in both prompts, to the model in "
        "neither. Some of what "
        "is learnt is chance.",
        ("model", "known, plain", "known, styled", "kept, plain", "kept, styled", "learnt", "forgotten"),
        rows,
    )
    return (Section("Facts", tables=(table,)),)


def changes_by_kind_tables(facts: Mapping[str, Any]) -> Section:
    """What went and what came, by kind of word."""
    changed = facts["changes"]
    total = sum(one["source"] for one in changed[REFERENCE].values())
    replaced = TableSpec(
        "Words of the input that are gone, in per cent of those of their kind.",
        ("kind", "words", *changed),
        tuple(
            (kind, changed[REFERENCE][kind]["source"],
             *(_percent(row[kind]["gone"], row[kind]["source"]) for row in changed.values()))
            for kind in KINDS
        ),
    )  # fmt: skip
    brought = TableSpec(
        "New words for each 100 words of the input, and in small print the share of them that the "
        "reference has too.",
        ("kind", *changed),
        tuple((kind, *(_new(row[kind], total) for row in changed.values())) for kind in KINDS),
    )
    return Section(
        "What changed, by kind of word",
        (
            "Input and output are aligned word by word; what has no partner at its place is gone or new. "
            "Closed classes of "
            "words are told by lists, names by their capitals, all other words by their length.",
        ),
        tables=(replaced, brought),
    )


def cell(score: Mapping[str, Any] | None) -> dict[str, Any]:
    """Take what a table shows of a score; an absent one is a dash."""
    return {key: None if score is None else score[key] for key in ("value", "low", "high")}


def _j(facts: Mapping[str, Any], name: str) -> float:
    return facts["scores"][name]["J"]["value"] or 0.0


def _contest_row(one: Mapping[str, Any], leader: str) -> tuple[Any, ...]:
    turned = one["first"] != leader
    ends = [one["difference"], one["low"], one["high"]]
    if turned and ends[0] is not None:
        ends = [-ends[0], -ends[2], -ends[1]]
    cell = dict(zip(("value", "low", "high"), ends, strict=True))
    return one["first"] if turned else one["second"], cell, one["p"], one["p_corrected"]


def _percent(part: int, whole: int) -> float | None:
    return 100 * part / whole if whole else None


def _new(one: Mapping[str, int], total: int) -> dict[str, Any]:
    agreed = _percent(one["as_reference"], one["new"])
    return {"value": 100 * one["new"] / total} | (
        {} if agreed is None else {"verdict": f"{agreed:.0f} % as the reference"}
    )
