"""What a causal test found, in sentences: the claims that open its page, in the only words that are allowed.

Pure functions of the facts of :mod:`analyses.adapter_cause`.
"""

from __future__ import annotations

from typing import Any

from analyses.digits import digits

Facts = dict[str, Any]


def own_metrics(effects: dict[str, Any]) -> dict[str, str]:
    """Choose the metric that a group's own directions are expected to move.

    Args:
        effects: metric -> what the whole adapter does to it.

    Returns:
        Group -> metric. For the facts it is the margin, which says most; the share of facts where the effect on
        the share is sure and that on the margin is not.
    """
    coarse = effects["fact share"]["sure"] and not effects["fact margin"]["sure"]
    return {"style": "style", "fact": "fact share" if coarse else "fact margin"}


def selectivity_of(fact_metric: str) -> str:
    """Name the metric of a selectivity."""
    return f"style minus {fact_metric}"


UNITS = {
    "style": "nats a token",
    "fact margin": "nats",
    "fact share": "share of facts",
    "plain loss": "nats a token",
    "divergence on plain text": "nats a token",
    "divergence on facts": "nats a token",
}
MEANING = {
    "style": "how much likelier the styled target is than the plain source as the answer",
    "fact margin": "the true answer against its best foil",
    "fact share": "facts whose answer beats every foil",
    "plain loss": "of the plain sources, as they are read in the prompt",
    "divergence on plain text": "KL from the base's next-token distribution there",
    "divergence on facts": "the same where a true answer is predicted",
}
"""Metric -> what it measures."""

SHARED = ("style", "fact margin", "fact share")
"""Metrics of which shares are taken; the others say what a patch breaks."""

BROKEN = ("plain loss", "divergence on plain text", "divergence on facts")

ONE, ALL = "one layer", "all layers"

ENOUGH = 0.8
"""Directions are called enough when, put into the base alone, the interval of their share lies above this."""


def cause_claims(facts: Facts) -> tuple[str, ...]:
    """The findings that open the page, a sentence each.

    With one layer they are about the largest k, chosen beforehand; with several they are about the place that lies
    farthest out, and say how many were looked at.
    """
    claims = [
        _effect_claim(facts, metric)
        for metric in dict.fromkeys(("style", "fact margin", facts["own_metric"]["fact"]))
    ]
    for basis, metric in facts["own_metric"].items():
        if not facts["effects"][metric]["sure"]:
            continue
        if len(facts["layers"]) > 1:
            claims += [_farthest_claim(r) for r in facts["farthest"] if _leads(r, basis)]
        else:
            claims += [
                _claim(facts, "Taking out", "undoes", last(facts, basis, "necessity", metric)),
                _claim(facts, "Keeping only", "keeps", last(facts, basis, "sufficiency", metric)),
            ]
        claims.append(_enough_claim(facts, basis))
    claims.append(_selectivity_claim(facts))
    if facts["effects"]["style"]["sure"] and pick(facts, "style", "necessity", "style", scope=ALL):
        record = pick(facts, "style", "necessity", "style", scope=ALL)[-1]
        where = f"at every layer from {record['layer']} on"
        claims.append(_claim(facts, "Taking out", "undoes", record, where=where))
    if facts["written"]:
        claims.append(_written_claim(facts["written"]))
    return tuple(claims)


def pick(
    facts: Facts, basis: str, measure: str, metric: str, *, scope: str = ONE, layer: int | None = None
) -> list[dict[str, Any]]:
    """The records of one curve, in the order of k.

    Args:
        facts: of a causal test.
        basis: whose directions, ``style`` or ``fact``.
        measure: such as ``necessity``.
        metric: what it was measured on.
        scope: :data:`ONE` or :data:`ALL`.
        layer: of :data:`ONE`; None for the layer that is shown in full.

    Returns:
        One record for each k.
    """
    wanted = {"basis": basis, "measure": measure, "metric": metric, "scope": scope}
    if scope == ONE:
        wanted["layer"] = facts["shown"] if layer is None else layer
    found = [r for r in facts["measures"] if all(r[key] == value for key, value in wanted.items())]
    return sorted(found, key=lambda r: r["k"])


def last(facts: Facts, basis: str, measure: str, metric: str) -> dict[str, Any]:
    """The record of the largest k at the layer that is shown; arguments as for :func:`pick`."""
    return pick(facts, basis, measure, metric)[-1]


def _span(estimate: dict[str, Any], factor: float = 1.0) -> str:
    value, low, high = (digits(float(factor * estimate[key]), 3) for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def _effect_claim(facts: Facts, metric: str) -> str:
    found = facts["effects"][metric]
    sure = "beyond its interval" if found["sure"] else "within its interval, so no share of it can be told"
    return (
        f"The adapter moves the {metric} ({MEANING[metric]}, {UNITS[metric]}) from "
        f"{digits(found['base']['value'])} to {digits(found['adapted']['value'])}: {_span(found['effect'])}, {sure}."
    )


def _claim(facts: Facts, act: str, does: str, record: dict[str, Any], *, where: str | None = None) -> str:
    place = where or f"at layer {facts['shown']}"
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


def in_units(metric: str) -> str:
    """Name a metric with its unit."""
    return f"{metric}, {UNITS[metric]}"


def _leads(record: dict[str, Any], basis: str) -> bool:
    """Whether a farthest place opens the page: beside the Haar controls, and not the selectivity."""
    return (record["basis"], record["control"]) == (basis, "Haar") and record["measure"] != "selectivity"


def _farthest_claim(record: dict[str, Any]) -> str:
    act, does = {
        "necessity": ("Taking out", "undoes"),
        "sufficiency": ("Keeping only", "keeps"),
    }[record["measure"]]
    return (
        f"{act} the top-{record['k']} {record['basis']} directions at layer {record['layer']} {does} "
        f"{_span(record, 100)} % of the effect on the {record['metric']}: of {record['looked_at']} layers and "
        f"dimensions the farthest from its Haar controls, by {_span(record['gap'], 100)} %. No Haar draw is farther "
        f"than {digits(100 * record['draws_gap'], 2)} % from the others anywhere (p = {digits(record['p'], 2)}; with "
        f"{record['n']} draws it cannot be below {digits(1 / (record['n'] + 1), 2)})."
    )


def _enough_claim(facts: Facts, basis: str) -> str:
    """Say what directions do in the base alone; with the adapted blocks above, even none look like enough."""
    metric = facts["own_metric"][basis]
    found = [r for layer in facts["layers"] for r in pick(facts, basis, "transplant", metric, layer=layer)]
    reach = [r for r in found if r["low"] >= ENOUGH]
    if not reach:
        most = max(found, key=lambda r: r["value"])
        return (
            f"Put into the base alone, {max(facts['ks'])} {basis} directions or fewer do not give "
            f"{digits(100 * ENOUGH)} % of the effect on the {metric}; the most is {_span(most, 100)} %, with "
            f"{most['k']} at layer {most['layer']}."
        )
    least = min(reach, key=lambda r: (r["k"], -r["value"]))
    return (
        f"Put into the base alone, {least['k']} {basis} directions at layer {least['layer']} give "
        f"{_span(least, 100)} % of the effect on the {metric}: the fewest, of {len(found)} places, whose whole "
        f"interval is above {digits(100 * ENOUGH)} %."
    )


def _written_claim(written: dict[str, Any]) -> str:
    styled = {s["system"]: f"{_span(s['judged_styled'], 100)} %" for s in written["systems"]}
    out = [name for name in styled if name.endswith("taken out")]
    parts = ", ".join(f"{styled[name]} with the {name}" for name in out)
    return (
        f"Of {written['n']} held-out sources rewritten, the judge calls {styled['adapted model']} of the adapter's "
        f"own texts styled, and {parts} at layer {written['layer']}."
    )


def _selectivity_claim(facts: Facts) -> str:
    fact = facts["own_metric"]["fact"]
    record = pick(facts, "style", "selectivity", selectivity_of(fact))[-1]
    k, layer = record["k"], facts["shown"]
    if record["value"] is not None:
        return (
            f"The top-{k} style directions at layer {layer} have a selectivity of {_span(record)} "
            f"(share of the effect on the style undone, less that on the {fact}): {said(record)}."
        )
    change = last(facts, "style", "necessity", fact)["change"]
    null = change["null"]
    return (
        f"No selectivity can be told, since {record['reason']}; taking the top-{k} style directions out at layer "
        f"{layer} changes the {fact} by {_span(change)} (controls {digits(null['low'])} to {digits(null['high'])})."
    )
