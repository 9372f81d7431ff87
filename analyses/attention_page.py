"""The page of an attention run: pure functions of the facts of :mod:`analyses.attention_run`."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING, Any

from analyses.attention_moved_page import moved_claim, moved_section
from analyses.digits import digits
from analyses.needle_page import filler_said, needle_claims, needle_sections
from analyses.report import FigureSpec, Section, TableSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

Facts = dict[str, Any]

SHOWN = 6
"""Most layers with a panel of their own; of more, evenly spread ones."""


def attention_claims(facts: Facts) -> tuple[str, ...]:
    """The findings that open the page, a sentence each."""
    claims = [claim for name in facts["sides"] for claim in _side_claims(facts, name)]
    if facts["change"]:
        claims.append(_change_claim(facts))
    if facts.get("moved"):
        claims.append(moved_claim(facts["moved"]))
    return (*claims, *(needle_claims(facts["needle"]) if facts.get("needle") else ()))


def attention_sections(facts: Facts) -> tuple[Section, ...]:
    """Everything that supports the findings."""
    sections = [_by_position(facts), _slopes(facts), _focus(facts), _distances(facts), _sinks(facts)]
    if facts["change"]:
        sections.append(_change(facts))
    if facts.get("moved"):
        sections.append(moved_section(facts["moved"], _bucket_names(facts["moved"]["distance_edges"])))
    if facts.get("needle"):
        needles = {section.title: section for section in needle_sections(facts["needle"])}
        titles = ("Lost in the middle?", "Which heads look at the needle", "Does the needle dilute?")
        sections += [_needle_mass(facts["needle"]), *(needles[title] for title in titles)]
    return tuple(sections)


def _side_claims(facts: Facts, name: str) -> list[str]:
    side = facts["sides"][name]
    slopes = _known(side["layer_slopes"]["across_positions"])
    if not slopes:
        return [f"`{name}`: every layer has a window, so entropy cannot grow with the context."]
    nulls, lower = _known(side["layer_slopes"]["null"]), _excess_counts(facts, side)
    claim = (
        f"In `{name}` entropy outside of the sink grows by {_mean(slopes)} nats for each unit of log n over the rows "
        f"of {digits(facts['lengths'][-1])} tokens (mean of {len(slopes)} layers over {facts['passages']} passages; "
        "even attention: 1"
    )
    if nulls:
        claim += f"; random subsets of the same rows' keys: {_mean(nulls)}"
    claim += ")."
    if lower:
        claim += (
            f" {lower[0]} of {lower[2]} heads stay more focused than their own subsets beyond their interval, "
            f"{lower[1]} spread faster."
        )
    lengths = _known(side["layer_slopes"]["across_lengths"])
    if lengths:
        claim += f" With the text held fixed and the context made longer the slope is {_mean(lengths)}."
    return [claim]


def _change_claim(facts: Facts) -> str:
    entropy, sink = facts["change"]["entropy"], facts["change"]["sink"]
    heads = len(facts["layers"]) * facts["heads"]
    moved = [value for row in entropy["value"] for value in row]
    return (
        f"The adapter changes the entropy of a head by {digits(statistics.fmean(map(abs, moved)))} nats on average "
        f"(largest {digits(max(moved, key=abs))}); {entropy['gaining']} of {heads} heads spread more and "
        f"{entropy['losing']} less, {sink['gaining']} give the sink more weight and {sink['losing']} less, with at "
        "most one false in twenty expected among them."
    )


def _by_position(facts: Facts) -> Section:
    layers = _shown(facts)
    panels = []
    for i in layers:
        series = []
        for name, side in facts["sides"].items():
            seen, record = side["seen"][i], side["entropy"][i]
            kept = [r for r, n in enumerate(seen) if n >= 4]
            picked = {key: [record[key][r] for r in kept] for key in ("value", "low", "high")}
            series.append({
                "name": name,
                "x": [facts["rows"][r] + 1 for r in kept],
                "values": picked["value"],
                "low": picked["low"],
                "high": picked["high"],
            })
        panels.append({
            "title": _layer(facts["layers"][i]),
            "series": series,
            "lines": _references(facts, i),
            "y_label": "entropy (nats)",
        })
    return Section(
        "Entropy by position",
        (
            "Entropy of each row over the keys that are no sink (the first four tokens), against its position: mean "
            "over heads, with the interval over passages. The dashed line is even attention, log n: no head can be "
            "above it. The dotted line is the null: the last rows' entropy within random halves, quarters, ... of "
            "their own keys, which is what these very rows would have at shorter lengths if nothing but dilution "
            "were at work. Layers with a window cannot pass the logarithm of its size.",
        ),
        figures=(
            FigureSpec(
                "positions",
                "curves",
                f"Entropy by position in {len(layers)} of {len(facts['layers'])} layers, {facts['passages']} "
                "passages. Early rows see few keys and say more of the start of a text than of its length.",
                {"x_label": "position", "x_log": True, "panels": panels, **_trained(facts)},
            ),
        ),
    )


def _references(facts: Facts, i: int) -> list[dict[str, Any]]:
    ends = [8, facts["lengths"][-1]]
    lines = [{"name": "even attention, log n", "x": ends, "values": [math.log(n) for n in ends]}]
    side = next(iter(facts["sides"].values()))
    ladder = [(side["seen"][i][-1], statistics.fmean(side["final"][i]["value"]))]
    ladder += list(zip(side["ladder_seen"][i], side["ladder"][i]["value"], strict=True))
    kept = sorted((n, h) for n, h in ladder if n >= 16)
    lines.append({
        "name": "subsets of its own keys",
        "x": [n for n, _ in kept],
        "values": [h for _, h in kept],
    })
    window = facts["layers"][i]["window"]
    if window:
        lines.append({"name": "log of the window", "x": ends, "values": [math.log(window)] * 2})
    return lines


def _slopes(facts: Facts) -> Section:
    kinds = ("across_positions", "null", "excess", "across_lengths")
    rows = [
        (name, layer["layer"], *(_cell(side["layer_slopes"][kind][i]) for kind in kinds))
        for name, side in facts["sides"].items()
        for i, layer in enumerate(facts["layers"])
    ]
    figures = tuple(
        _head_map(
            facts,
            f"excess-{number}",
            f"{name}: slope of each head less the slope of its own random subsets; below 0 a head keeps its focus as "
            "the context grows, above 0 it loses more than dilution takes.",
            [None if one is None else one["value"] for one in side["excess"]],
            "slope minus null",
        )
        for number, (name, side) in enumerate(facts["sides"].items(), 1)
    )
    return Section(
        "How fast entropy grows",
        (
            "Slope of entropy (outside of the sink) along log n: 1 is even attention, 0 a focus that does not depend "
            "on length. A slope below 1 is no sign of focus by itself, since logits of wide spread have it by "
            "chance: the null is the slope over random nested subsets of each row's own keys. Across positions: over "
            f"the rows of one passage. Across lengths: the same last {facts['last_rows']} tokens behind "
            f"{', '.join(digits(n) for n in facts['lengths'])} tokens of context, so the text at hand is held fixed.",
        ),
        figures=figures,
        tables=(
            TableSpec(
                f"Mean over {facts['heads']} heads, 95 % intervals over {facts['passages']} passages. Layers with a "
                "window have no slope.",
                ("side", "layer", "across positions", "null", "difference", "across lengths"),
                tuple(rows),
            ),
        ),
    )


def _focus(facts: Facts) -> Section:
    figures = tuple(
        FigureSpec(
            f"focus-{number}",
            "heat",
            f"{name}: log n minus entropy, nats by which a layer is more focused than even attention at that "
            "position; mean over heads and passages.",
            {
                "values": side["focus_map"]["values"],
                "rows": [layer["layer"] for layer in facts["layers"]],
                "columns": _band_names(side["focus_map"]["from"]),
                "label": "nats below even attention",
                "low": 0,
                "x_label": "from position",
                "y_label": "layer",
            },
        )
        for number, (name, side) in enumerate(facts["sides"].items(), 1)
    )
    return Section(
        "Focus by layer and position",
        ("Even attention has focus 0; a head that looks at k of n keys alike has log(n / k).",),
        figures=figures,
    )


def _band_names(edges: Sequence[int]) -> list[str]:
    return [digits(edge) for edge in edges]


def _distances(facts: Facts) -> Section:
    names = _bucket_names(facts["distance_edges"])
    figures = tuple(
        FigureSpec(
            f"distances-{number}",
            "heat",
            f"{name}: weight of the last {facts['last_rows']} rows by distance to the key, mean over heads and "
            "passages. Buckets double in size: even attention would put most weight into the last ones.",
            {
                "values": [record["value"] for record in side["distances"]],
                "rows": [layer["layer"] for layer in facts["layers"]],
                "columns": names,
                "label": "weight",
                "low": 0,
                "x_label": "tokens back, from",
                "y_label": "layer",
            },
        )
        for number, (name, side) in enumerate(facts["sides"].items(), 1)
    )
    return Section("How far back", ("The sink lies in the farthest bucket of these rows.",), figures=figures)


def _bucket_names(edges: Sequence[int]) -> list[str]:
    return [
        digits(edge) if i + 1 < len(edges) and edges[i + 1] == edge + 1 else f"{digits(edge)}+"
        for i, edge in enumerate(edges)
    ]


def _sinks(facts: Facts) -> Section:
    last = facts["lengths"][-1]
    series = []
    for name, side in facts["sides"].items():
        for length, records in zip(facts["lengths"], side["sink"], strict=True):
            if length not in {facts["lengths"][0], last}:
                continue
            one = {key: [r[key] for r in records] for key in ("value", "low", "high")}
            named = f"{name}, {digits(length)} tokens"
            series.append({"name": named, "values": one["value"], "low": one["low"], "high": one["high"]})
    return Section(
        "Sink",
        (
            "Weight of the last rows on the first four tokens. Sinks grow with context in many models, so raw "
            "entropy can fall while the rest dilutes: entropies on this page leave the sink out.",
        ),
        figures=(
            FigureSpec(
                "sink",
                "by_layer",
                "Mean over heads, with intervals over passages; the dashed line is even attention at the shortest "
                "length.",
                {
                    "layers": [layer["layer"] for layer in facts["layers"]],
                    "series": series,
                    "y_label": "weight on the sink",
                    "ceiling": {"values": 4 / facts["lengths"][0], "name": "even attention"},
                },
            ),
        ),
    )


def _change(facts: Facts) -> Section:
    change = facts["change"]
    figures = tuple(
        _head_map(facts, f"change-of-{key}", f"Adapted minus base: {what}, mean of the last rows over passages.",
                  change[key]["value"], unit)
        for key, what, unit in (
            ("entropy", "entropy outside of the sink", "nats"), ("sink", "weight on the sink", "change of weight"))
    )  # fmt: skip
    rows = [
        (what, change[key]["gaining"], change[key]["losing"], change[key]["least_p"])
        for what, key in (("entropy", "entropy"), ("weight on the sink", "sink"))
    ]
    return Section(
        "What the adapter changes in attention",
        (
            "Both sides read the same tokens, so differences are paired; under the null a passage's differences "
            "change their sign together. Heads are picked with a false-discovery rate of 5 % over all of them.",
        ),
        figures=figures,
        tables=(
            TableSpec(
                f"Of {len(facts['layers']) * facts['heads']} heads. With few passages p cannot be smaller than the "
                "last column.",
                ("what", "heads that gain", "heads that lose", "least p possible"),
                tuple(rows),
            ),
        ),
    )


def _needle_mass(needle: Facts) -> Section:
    figures = tuple(
        FigureSpec(
            f"needle-mass-{number}",
            "heat",
            f"{name}: weight of the prompt's last token on the needle, mean over layers, heads and "
            f"{needle['prompts']} prompts.",
            {
                "values": side["mass"]["value"],
                "rows": [digits(length) for length in needle["lengths"]],
                "columns": [f"{digits(100 * depth, 2)} %" for depth in needle["depths"]],
                "label": "weight on the needle",
                "low": 0,
                "x_label": "filler before the needle",
                "y_label": "tokens",
            },
        )
        for number, (name, side) in enumerate(needle["sides"].items(), 1)
    )
    return Section(
        "A needle by length and depth",
        (
            "An invented fact in a haystack of plain sentences, then the question; `repgeo needle` asks more of the "
            "same kind, with rivals, several needles and files of others.",
            filler_said(needle),
        ),
        figures=figures,
    )


def _head_map(
    facts: Facts, name: str, caption: str, values: Sequence[Sequence[float] | None], label: str
) -> FigureSpec:
    empty = [None] * facts["heads"]
    data = {
        "values": [empty if row is None else row for row in values],
        "rows": [layer["layer"] for layer in facts["layers"]],
        "columns": list(range(facts["heads"])),
        "label": label,
        "centre": 0,
        "x_label": "head",
        "y_label": "layer",
    }
    return FigureSpec(name, "heat", caption, data)


def _shown(facts: Facts) -> list[int]:
    n = len(facts["layers"])
    return list(range(n)) if n <= SHOWN else [round(i * (n - 1) / (SHOWN - 1)) for i in range(SHOWN)]


def _layer(layer: dict[str, Any]) -> str:
    return f"layer {layer['layer']}" + (f", window {digits(layer['window'])}" if layer["window"] else "")


def _trained(facts: Facts) -> dict[str, Any]:
    if facts["trained_length"] >= facts["lengths"][-1]:
        return {}
    return {"beyond": facts["trained_length"], "beyond_name": "beyond the stated length"}


def _known(records: Sequence[dict[str, Any] | None]) -> list[dict[str, Any]]:
    return [record for record in records if record is not None]


def _mean(records: Sequence[dict[str, Any]]) -> str:
    return digits(statistics.fmean(record["value"] for record in records))


def _excess_counts(facts: Facts, side: dict[str, Any]) -> tuple[int, int, int] | None:
    """Heads whose slope is surely below and above that of their subsets, and heads that have both."""
    known = _known(side["excess"])
    if not known:
        return None
    below = sum(high < 0 for record in known for high in record["high"])
    above = sum(low > 0 for record in known for low in record["low"])
    return below, above, len(known) * facts["heads"]


def _cell(record: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if record is None else {key: record[key] for key in ("value", "low", "high")}
