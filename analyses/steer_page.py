"""The page of steering: what the facts of :mod:`analyses.steer` mean, in figures and sentences."""

from __future__ import annotations

from typing import Any

from analyses.digits import digits
from analyses.module_maps import said
from analyses.report import FigureSpec, Section, TableSpec

Facts = dict[str, Any]

UNITS = {"style": "nats a token", "fact margin": "nats", "plain loss": "nats a token"}
"""Metric -> its unit."""

SIDES = ("base", "adapted")


def steer_claims(facts: Facts) -> tuple[str, ...]:
    """The findings that open the page, a sentence each: strength 1 on the base, or the weakest that adds."""
    adding = [a for a in facts["strengths"] if a > 0] or [a for a in facts["strengths"] if a < 0]
    if not adding:
        return ("Only strength 0 was asked for, which changes nothing.",)
    strength = min(adding, key=lambda a: abs(a - 1))
    claims = []
    for vector in facts["vectors"]:
        style, fact, loss = (_one(facts, "base", vector, strength, metric) for metric in UNITS)
        claims.append(
            f"Adding {strength:g} × the {vector} to the base changes the style by {_said(style, 'nats a token')}, "
            f"the fact margin by {_said(fact, 'nats')}, and the loss on plain text by {_said(loss, 'nats a token')}."
        )
    whole = facts["effects"]["style"]["effect"]["value"]
    claims.append(f"The whole adapter changes the style by {digits(whole)} nats a token.")
    return tuple(claims)


def steer_sections(facts: Facts) -> tuple[Section, ...]:
    """Everything that supports the findings, and what they do not show."""
    return (_tested(facts), *(_doses(facts, side) for side in SIDES), _pitfalls(facts))


def _tested(facts: Facts) -> Section:
    vectors = facts["vectors"]
    rows = tuple(
        (name, one["length"], *(one["cosines"][other] for other in vectors)) for name, one in vectors.items()
    )
    lengths = " and ".join(f"{digits(length)} on {group} texts" for group, length in facts["stream"].items())
    effects = tuple(
        (metric, *(one[side] for side in ("base", "adapted", "effect")))
        for metric, one in facts["effects"].items()
    )
    return Section(
        "What was added",
        (
            f"Vectors are added to the residual stream after block {facts['layer']}, at every position; the "
            "stream of "
            f"the base is typically {lengths} long there. They were fitted on one half of the documents, and "
            "everything "
            "is measured on the other.",
            "Strength 1 is as much as the adapter adds: its mean shift, or the typical size of its change "
            "along the top "
            "direction, which points as the mean does. Strength 0 runs the model itself.",
        ),
        tables=(
            TableSpec("The vectors, and the cosines between them.", ("vector", "length", *vectors), rows),
            TableSpec("What the whole adapter does.", ("metric", "base", "adapted", "effect"), effects),
        ),
    )


def _doses(facts: Facts, side: str) -> Section:
    figures = []
    for metric, unit in UNITS.items():
        series = []
        for vector in facts["vectors"]:
            records = [_one(facts, side, vector, a, metric) for a in facts["strengths"]]
            null: dict[str, Any] = {end: [r["null"][end] for r in records] for end in ("low", "high", "mean")}
            series.append({
                "name": vector,
                "values": [r["value"] for r in records],
                "low": [r["low"] for r in records],
                "high": [r["high"] for r in records],
                "null": null | {"name": "random directions"},
            })
        data = {
            "layers": [_times(a) for a in facts["strengths"]],
            "x_label": "strength",
            "y_label": f"change of the {metric}, {unit}",
            "series": series,
        }
        caption = (
            f"Change of the {metric} of the {side} model with each vector; the band is where one more random "
            "direction "
            "of the same length would fall."
        )
        figures.append(FigureSpec(f"{side}-{metric.replace(' ', '-')}", "by_layer", caption, data))
    rows = tuple(
        (vector, _times(a), *(_one(facts, side, vector, a, metric) for metric in UNITS))
        for vector in facts["vectors"]
        for a in facts["strengths"]
    )
    units = ", ".join(f"{metric} in {unit}" for metric, unit in UNITS.items())
    questions = {
        "base": "Do they steer the base?",
        "adapted": "What do they add to the adapted model, or take from it?",
    }
    return Section(
        questions[side],
        (
            "A dose that raises the style and the loss on plain text alike need not steer: it may only "
            "break. Compare "
            "both with random directions.",
        ),
        figures=tuple(figures),
        tables=(TableSpec(f"Changes of the {side} model: {units}.", ("vector", "strength", *UNITS), rows),),
    )


def _pitfalls(facts: Facts) -> Section:
    return Section(
        "What this does not show",
        (
            "One vector at every position is the simplest intervention; that it does little does not show that the "
            "subspace around it does. `repgeo cause` tests subspaces.",
            f"With {facts['draws']} random directions the band is wide. They are as long as the vector, but a "
            "uniformly "
            "random direction is nearly orthogonal to everything that the model uses.",
            "Answers are teacher-forced: what the model prefers, not what it writes.",
            "Each strength is judged alone; of many verdicts a few are wrong.",
        ),
    )


def _one(facts: Facts, side: str, vector: str, strength: float, metric: str) -> dict[str, Any]:
    (found,) = [
        r
        for r in facts["doses"]
        if (r["side"], r["vector"], r["strength"], r["metric"]) == (side, vector, strength, metric)
    ]
    return found


def _said(record: dict[str, Any], unit: str) -> str:
    return f"{digits(record['value'])} {unit} ({said(record['null']['verdict'])} random directions)"


def _times(strength: float) -> str:
    return f"{strength:g}".replace("-", "−")
