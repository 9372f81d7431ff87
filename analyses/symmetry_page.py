"""The page of symmetry: verdicts on top, then for each concept the corpus and the model. Pure functions of facts."""

from __future__ import annotations

from typing import Any

from analyses.digits import digits
from analyses.report import Section, TableSpec
from analyses.symmetry_adapter_page import adapter_claim, adapter_section
from analyses.symmetry_closeup_page import closeup_section
from analyses.symmetry_corpus_page import corpus_sections
from analyses.symmetry_model_page import layers_section, templates_section
from analyses.symmetry_words import SCORES, failures, model_name, place_name, title_of

Facts = dict[str, Any]


def symmetry_claims(facts: Facts) -> tuple[str, ...]:
    """The findings that open the page, a sentence or two for each concept."""
    claims = []
    for concept in facts["concepts"]:
        claims.append(_corpus_claim(concept))
        if concept["model"]:
            claims.append(_model_claim(facts, concept))
        if concept.get("adapter"):
            claims.append(adapter_claim(concept))
    return tuple(claims)


def symmetry_sections(facts: Facts) -> tuple[Section, ...]:
    """Everything that supports the findings."""
    sections = [_verdicts(facts)]
    for concept in facts["concepts"]:
        sections += corpus_sections(concept)
        if concept["model"]:
            sections += [layers_section(concept), templates_section(concept), closeup_section(concept)]
        if concept.get("adapter"):
            sections.append(adapter_section(concept))
    return tuple(sections)


def _corpus_claim(concept: Facts) -> str:
    corpus = concept["corpus"]
    symmetric = corpus["verdict"]["gates"][0]
    name = title_of(concept["name"])
    head = f"In the corpus, {len(corpus['items'])} items of `{name}`"
    said = "show" if corpus["verdict"]["shown"] else "do not show"
    return f"{head} {said} the symmetry of their layout: {symmetric['because']}{_but(corpus['verdict'])}."


def _model_claim(facts: Facts, concept: Facts) -> str:
    model = concept["model"]
    main = "first" if "first" in model["scores"][model["at"]["position"]] else "alignment"
    record = model["scores"][model["at"]["position"]][main]
    at = model["at"]["layer"] + 1
    null = record["null"][at]
    said = "show" if model["verdict"]["shown"] else "do not show"
    return (
        f"In `{model_name(facts)}`, the {len(concept['corpus']['items'])} items {said} it, judged at "
        f"{place_name(model['at'])}: {SCORES[main]} {digits(record['value'][at], places=2)}, shuffled labels "
        f"{digits(null['low'], places=2)} to {digits(null['high'], places=2)}, p = "
        f"{digits(record['adjusted'][at], 2)} over all layers and positions{_but(model['verdict'])}."
    )


def _but(verdict: Facts) -> str:
    if verdict["shown"]:
        return ""
    names = [gate["name"].split(": ", 1)[1] for gate in verdict["gates"] if not gate["passed"]]
    return f"; it fails {' and '.join(f'“{name}”' for name in names)}"


def _verdicts(facts: Facts) -> Section:
    rows = []
    for concept in facts["concepts"]:
        name = title_of(concept["name"])
        sides = [("corpus", concept["corpus"], None), ("model", concept["model"], concept["model"])]
        for side, record, placed in sides:
            if record is None:
                continue
            rows.append(_row(name, side, record["verdict"], placed))
            without = record.get("without_ambiguous")
            if without:
                left = f"{side} without {', '.join(concept['ambiguous'])}"
                rows.append(_row(name, left, without["verdict"], without if placed else None))
    corpus = facts["corpus"]
    text = (
        f"Counts of {digits(corpus['tokens'])} words, window {corpus['window']}, weights {corpus['weights']}."
        + (f" Model: `{model_name(facts)}`." if facts["model"] else ""),
        "The rule is fixed. A corpus shows a symmetry if M* depends on distance beyond 99 % of shuffled labels, near "
        "items are more alike, a cycle closes and a line does not, a line is graded and no step between two groups, "
        "and all this survives spelling and frequency. A model shows it if its first components are the predicted "
        "ones beyond what shuffled labels reach at any layer and position, a cycle is round (isotropy above 0.7) and "
        "closes, and nearness survives spelling, frequency and shared tokens.",
    )
    caption = "Every gate is asked even when one has failed; those that failed are named with their numbers."
    return Section(
        "Verdicts",
        text,
        tables=(
            TableSpec(
                caption, ("concept", "where", "verdict", "judged at", "gates that failed"), tuple(rows)
            ),
        ),
    )


def _row(name: str, side: str, verdict: Facts, placed: Facts | None) -> tuple[str | None, ...]:
    said = verdict["sentence"].split(":", 1)[0]
    at = placed and place_name(placed["at"])
    return name, side, said, at, failures(verdict)
