"""What a causal test found, in sentences: the claims that open its page, in the only words that are allowed.

Pure functions of the facts of :mod:`analyses.adapter_cause`.
"""

from __future__ import annotations

from typing import Any

from analyses.digits import digits

Facts = dict[str, Any]

METRIC_OF = {"style": "style", "fact": "fact margin"}
"""The metric that a group's own directions are expected to move."""

UNITS = {
    "style": "nats a token, styled target against plain source",
    "fact margin": "nats, answer against best foil",
    "fact share": "share of facts whose answer beats every foil",
}
ONE, ALL = "one layer", "all layers"


def cause_claims(facts: Facts) -> tuple[str, ...]:
    """The findings that open the page, a sentence each; they are about the largest k, chosen beforehand."""
    claims = [_effect_claim(facts, metric) for metric in METRIC_OF.values()]
    for basis, metric in METRIC_OF.items():
        if not facts["effects"][metric]["sure"]:
            continue
        claims += [
            _claim(facts, "Taking out", "undoes", last(facts, basis, "necessity", metric)),
            _claim(facts, "Keeping only", "keeps", last(facts, basis, "sufficiency", metric)),
        ]
    claims.append(_selectivity_claim(facts))
    if facts["effects"]["style"]["sure"] and pick(facts, "style", "necessity", "style", scope=ALL):
        record = pick(facts, "style", "necessity", "style", scope=ALL)[-1]
        where = f"at every layer from {facts['layer']} on"
        claims.append(_claim(facts, "Taking out", "undoes", record, where=where))
    return tuple(claims)


def pick(facts: Facts, basis: str, measure: str, metric: str, *, scope: str = ONE) -> list[dict[str, Any]]:
    """The records of one curve, in the order of k.

    Args:
        facts: of a causal test.
        basis: whose directions, ``style`` or ``fact``.
        measure: such as ``necessity``.
        metric: what it was measured on.
        scope: :data:`ONE` or :data:`ALL`.

    Returns:
        One record for each k.
    """
    wanted = {"basis": basis, "measure": measure, "metric": metric, "scope": scope}
    found = [r for r in facts["measures"] if all(r[key] == value for key, value in wanted.items())]
    return sorted(found, key=lambda r: r["k"])


def last(facts: Facts, basis: str, measure: str, metric: str) -> dict[str, Any]:
    """The record of the largest k at one layer; arguments as for :func:`pick`."""
    return pick(facts, basis, measure, metric)[-1]


def _span(estimate: dict[str, Any], factor: float = 1.0) -> str:
    value, low, high = (digits(float(factor * estimate[key]), 3) for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def _effect_claim(facts: Facts, metric: str) -> str:
    found = facts["effects"][metric]
    sure = "beyond its interval" if found["sure"] else "within its interval, so no share of it can be told"
    return (
        f"The adapter moves the {metric} ({UNITS[metric]}) from {digits(found['base']['value'])} to "
        f"{digits(found['adapted']['value'])}: {_span(found['effect'])}, {sure}."
    )


def _claim(facts: Facts, act: str, does: str, record: dict[str, Any], *, where: str | None = None) -> str:
    place = where or f"at layer {facts['layer']}"
    return (
        f"{act} the top-{record['k']} {record['basis']} directions {place} "
        f"({digits(100 * record['energy'])} % of E|d|²) {does} {_span(record, 100)} % of the effect on the "
        f"{record['metric']}: {said(record)}."
    )


def said(record: dict[str, Any]) -> str:
    """The verdicts in the only words that are allowed, controls of one verdict together."""
    parts = []
    for rule in dict.fromkeys(c["rule"] for c in record["controls"]):
        of_rule = [c for c in record["controls"] if c["rule"] == rule]
        phrases = []
        for verdict in ("above", "not distinguishable", "below"):
            names = [c["control"] for c in of_rule if c["verdict"] == verdict]
            link = " from" if verdict == "not distinguishable" else ""
            which = "the controls" if len(names) == len(of_rule) else ", ".join(names)
            phrases += [f"{verdict}{link} {which}"] if names else []
        parts.append(f"{' and '.join(phrases)} at {rule}")
    return "; ".join(parts)


def _selectivity_claim(facts: Facts) -> str:
    record = pick(facts, "style", "selectivity", "style minus fact margin")[-1]
    k = record["k"]
    if record["value"] is not None:
        return (
            f"The top-{k} style directions at layer {facts['layer']} have a selectivity of {_span(record)} "
            f"(share of the style effect undone, less that of the fact effect): {said(record)}."
        )
    change = last(facts, "style", "necessity", "fact margin")["change"]
    null = change["null"]
    return (
        f"No selectivity can be told, since {record['reason']}; taking the top-{k} style directions out changes "
        f"the fact margin by {_span(change)} nats (controls {digits(null['low'])} to {digits(null['high'])})."
    )
