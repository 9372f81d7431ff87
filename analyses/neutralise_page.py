"""The page of a neutralisation: how strong it is, what became of the sentences, and examples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from analyses.report import FigureSpec, Section, TableSpec
from finetune.filters import REASONS
from finetune.leaks import RUN, leaking

if TYPE_CHECKING:
    from collections.abc import Mapping

_PAPER = "Liu & Koehn 2026 report BLEU 20 to 24 and style accuracy of 0.17 to 0.39 for neural trips through Chinese."
_WHY = {
    "empty": "nothing came back",
    "copy": "they are copies",
    "length": "their length is another",
    "numbers changed": "a number is missing or new",
    "names changed": "a name is missing",
    "untranslated": "a word of the pivot language was left standing",
    "drift": "their embedding is far from the original's",
}


def neutralise_claims(facts: Mapping[str, Any]) -> tuple[str, ...]:
    """Say what was found, the most important first."""
    filtered = facts["filtered"]
    asked = facts["corpus"]["used"] * len(filtered)
    kept = sum(counts["kept"] for counts in filtered.values())
    lost = {reason: sum(counts[reason] for counts in filtered.values()) for reason in REASONS}
    most = max(lost, key=lambda reason: lost[reason])
    by = f" by {len(filtered)} engines" if len(filtered) > 1 else ""
    why = f", most of them ({lost[most]}) because {_WHY[most]}" if asked > kept else ""
    shared = leaking(facts["leaks"])
    apart = (
        f"The parts share something: {'; '.join(shared)}."
        if shared
        else f"No document, source, target or run of {RUN} words is in two of training, validation and test."
    )
    return (
        f"{facts['corpus']['used']} sentences became {kept} pairs{by}; {asked - kept} round trips were dropped{why}.",
        *(_strength_in_words(one) for one in facts["strength"] if one["trips"] == facts["trips"]),
        apart,
    )


def neutralise_sections(facts: Mapping[str, Any]) -> tuple[Section, ...]:
    """Draw what was found."""
    return (_strength(facts["strength"]), _filters(facts), _parts(facts), *_examples(facts["examples"]))


def _strength_in_words(one: Mapping[str, Any]) -> str:
    bleu, outside = one["bleu"], one.get("outside")
    times = "one round trip" if one["trips"] == 1 else f"{one['trips']} round trips"
    told = ""
    if outside:
        told = (
            f"; a judge trained on real text alone calls {_percent(outside['neutral'])} of it the style, "
            f"{_percent(outside['original'])} of the originals and {_percent(outside['others'])} of other text"
        )
    return (
        f"Of the wording, {times} by `{one['engine']}` keep{'s' if one['trips'] == 1 else ''} BLEU "
        f"{bleu['value']:.1f} [{bleu['low']:.1f}, {bleu['high']:.1f}]; a judge tells both sides apart in "
        f"{_percent(one['judge']['accuracy'])} of held-out cases{told}."
    )


def _percent(score: Mapping[str, Any]) -> str:
    return f"{100 * score['value']:.0f} %"


def _strength(rows: list[Mapping[str, Any]]) -> Section:
    outside = any("outside" in one for one in rows)
    embedded = any(one["similarity"] for one in rows)
    content = TableSpec(
        f"Content: round trips against the {rows[0]['n']} sampled sentences that they started from, with 95 % "
        "intervals. Lower BLEU is other wording; whether the content was kept with it, BLEU does not tell.",
        ("engine", "trips", "BLEU", "chrF", "words per word", *(("cosine of embeddings",) if embedded else ())),
        tuple(
            (*_who(one), *_intervals(one["bleu"], one["chrf"]), round(one["length_ratio"], 3),
             *((one["similarity"]["mean"],) if embedded else ()))
            for one in rows
        ),
    )  # fmt: skip
    style = TableSpec(
        "Style: shares of the neutral side that are judged styled. The first judge was trained on both sides, other "
        "documents held out: it hears translation as much as style. "
        + ("The second knows real text alone, of this style and of the corpus's other records: it hears only what is "
           "left of the style." if outside else ""),
        ("engine", "trips", "by both sides", "told apart", *(("by real text",) if outside else ())),
        tuple(
            (*_who(one), *_intervals(one["judge"]["floor"], one["judge"]["accuracy"]),
             *(_intervals(one["outside"]["neutral"]) if outside else ()))
            for one in rows
        ),
    )  # fmt: skip
    return Section(
        "How neutral is the neutral side?",
        (_PAPER,),
        figures=(_figure(rows, outside=outside),),
        tables=(content, style),
    )


def _figure(rows: list[Mapping[str, Any]], *, outside: bool) -> FigureSpec:
    series = [_bars("judge of both sides", [one["judge"]["floor"] for one in rows])]
    ceiling = rows[-1]["judge"]["ceiling"]
    if outside:
        series.append(_bars("judge of real text", [one["outside"]["neutral"] for one in rows]))
        ceiling = rows[-1]["outside"]["original"]
    return FigureSpec(
        "strength",
        "bars",
        "Share of neutral sentences that a judge still calls styled, with 95 % intervals over sentences. The line is "
        f"the share of original sentences that {'the second' if outside else 'it'} calls styled.",
        {
            "groups": [f"{one['engine'].split('/')[-1]}\n×{one['trips']}" for one in rows],
            "series": series,
            "y_label": "share judged styled",
            "y_limits": [0, 1],
            "ceiling": {"name": "originals", "value": ceiling["value"]},
        },
    )


def _who(one: Mapping[str, Any]) -> tuple[str, int]:
    return one["engine"], one["trips"]


def _intervals(*scores: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    return tuple({key: score[key] for key in ("value", "low", "high")} for score in scores)


def _bars(name: str, scores: list[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "name": name,
        "values": [s["value"] for s in scores],
        "low": [s["low"] for s in scores],
        "high": [s["high"] for s in scores],
    }


def _filters(facts: Mapping[str, Any]) -> Section:
    filtered, limits, corpus = facts["filtered"], facts["limits"], facts["corpus"]
    drift = f"below {limits['similarity']:g}" if limits["similarity"] is not None else "not asked"
    lost = f"more than {100 * limits['names_lost']:g} % of the names" if limits["names_lost"] else "a name"
    meaning = {
        "empty": "no word came back",
        "copy": f"chrF above {limits['copied']:g}",
        "length": f"words outside {limits['shortest']:g} to {limits['longest']:g} times",
        "numbers changed": "other numbers in digits",
        "names changed": f"{lost} missing",
        "untranslated": "a word of the pivot language left standing",
        "drift": f"cosine of embeddings {drift}",
        "kept": "became a pair",
    }
    rows = tuple(
        (reason, text, *(counts[reason] for counts in filtered.values())) for reason, text in meaning.items()
    )
    aside = ", ".join(f"{n} {reason}" for reason, n in corpus["aside"].items()) or "none"
    return Section(
        "What became of the sentences",
        (
            f"The corpus has {corpus['found']:,} sentences in {corpus['documents']} documents. Set aside before: "
            f"{aside}. {corpus['used']} were translated.",
        ),
        tables=(
            TableSpec("Round trips by the first reason that holds.", ("outcome", "meaning", *filtered), rows),
        ),
    )


def _parts(facts: Mapping[str, Any]) -> Section:
    sizes = tuple(
        (part, one["pairs"], one["documents"], one["repeated_targets"])
        for part, one in facts["parts"].items()
    )
    kinds = ("document", "source", "target", "run")
    shared = tuple(
        (f"{one['later']} of {one['earlier']}", one["n"], *(one[kind] for kind in kinds))
        for one in facts["leaks"]
    )
    return Section(
        "Training, validation, test",
        ("Whole documents are dealt to the parts. Sources and targets are compared by their words alone.",),
        tables=(
            TableSpec("Sizes.", ("part", "pairs", "documents", "targets seen before in it"), sizes),
            TableSpec(
                "Pairs of one part that have something of another.",
                ("what has what", "pairs", "a document", "a source", "a target", f"{RUN} words in a row"),
                shared,
            ),
        ),
    )


def _examples(examples: list[Mapping[str, Any]]) -> tuple[Section, ...]:
    if not examples:
        return ()
    names = [name for name in examples[0] if name != "original"]
    rows = tuple((one["original"], *(one[name][-1] for name in names)) for one in examples)
    table = TableSpec(
        "Evenly spaced in the corpus, not chosen by hand; dropped ones are among them.",
        ("original", *names),
        rows,
    )
    return (Section("Examples", tables=(table,)),)
