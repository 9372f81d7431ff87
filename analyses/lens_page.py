"""Three lenses beside the true change of the logits: section and claim of a diff's page."""

from __future__ import annotations

import itertools
from typing import Any

from analyses.digits import digits
from analyses.report import FigureSpec, Section, TableSpec

Facts = dict[str, Any]

GAP = 1e-3
"""Relative gap between the readout and the model's own logits from which a reader is warned."""


def lens_sections(facts: Facts) -> list[Section]:
    """What the mean change says about the next token, and how far a lens can be trusted."""
    found = facts.get("lenses")
    if found is None:
        return []
    title = "What the change says about the next token"
    if "left_out" in found:
        return [Section(title, (f"Not read: {found['left_out']}.",))]
    text = [
        "Three readings of the mean difference at each layer. The naive lens puts the difference itself through the "
        "final norm and the unembedding, as if it were a state. The linearised lens asks how each token's own base "
        "state would read out differently. The truth is the mean change of the logits at the same tokens, and the "
        "rank correlation with it over the whole vocabulary says how far a lens may be believed.",
        "Below the last layer both lenses leave out what later blocks do to the change and add to it. At the last "
        "one the linearised lens is exact for small changes; where the change is as large as the state, the norm "
        "bends and it fails. Random adapters, each against its own truth, say how a lens works where nothing "
        "was learnt. The mean base state, no change at all, can correlate through the frequencies of tokens.",
    ]
    if found["readout_gap"] > GAP:
        text.append(
            f"The model caps or scales its logits after the unembedding; that is left out of all three readings "
            f"(up to {digits(100 * found['readout_gap'], 2)} % of the largest logit on a probe)."
        )
    return [Section(title, tuple(text), tuple(_figures(found)), _tables(found))]


def _of(found: Facts, group: str) -> list[dict[str, Any]]:
    return [r for r in found["layers"] if r["group"] == group]


def _figures(found: Facts) -> list[FigureSpec]:
    layers = list(dict.fromkeys(r["layer"] for r in found["layers"]))
    shown = {"naive": "naive lens", "linear": "linearised lens"}
    series = []
    for group, (key, name) in itertools.product(found["groups"], shown.items()):
        records = [r[key] for r in _of(found, group)]
        one = {"name": f"{group}, {name}", "values": [r["value"] for r in records]}
        if all("null" in r for r in records):
            # a correlation cannot leave -1 to 1, so neither can the band that it is compared with
            ends = {e: [min(1.0, max(-1.0, r["null"][e])) for r in records] for e in ("mean", "low", "high")}
            one["null"] = {"name": "random adapters, each with its own truth"} | ends
        series.append(one)
    data = {
        "layers": layers,
        "y_label": "rank correlation with the truth",
        "y_limits": [-1, 1],
        "series": series,
    }
    caption = (
        "Rank correlation of each lens with the true mean change of the logits, over the vocabulary. A lens that "
        "does not reach a high value here says little about what the change does, whatever words it shows."
    )
    return [FigureSpec("lenses", "by_layer", caption, data)]


def _tables(found: Facts) -> tuple[TableSpec, ...]:
    rows = [
        (r["group"], r["layer"], *(_cell(r[key]) for key in ("naive", "linear", "base_state", "size")))
        for r in found["layers"]
    ]
    numbers = TableSpec(
        "Rank correlations with the truth, and the size of the linearised reading beside it. The grey line under a "
        "number is the band of random adapters.",
        ("group", "layer", "naive lens", "linearised lens", "mean base state", "|linearised| / |truth|"),
        tuple(rows),
    )
    return (numbers, *(_words(found, group) for group in found["groups"]))


def _words(found: Facts, group: str) -> TableSpec:
    last = _of(found, group)[-1]
    columns = [
        [_token(t) for t in ends[side]]
        for side in ("up", "down")
        for ends in (found["groups"][group]["true"], last["tokens"]["linear"], last["tokens"]["naive"])
    ]
    rows = itertools.zip_longest(*columns, fillvalue="")
    names = tuple(f"{lens}, {side}" for side in ("up", "down") for lens in ("truth", "linearised", "naive"))
    tokens = found["groups"][group]["tokens"]
    return TableSpec(
        f"{group}: tokens that the adapter promotes and demotes most, on average over {tokens} tokens, and "
        f"what two lenses read at layer {last['layer']}. In brackets the change of the logit; the "
        "naive lens has no scale of its own. An average says little about any one context.",
        names,
        tuple(rows),
    )


def _token(token: dict[str, Any]) -> str:
    # white space and control characters would vanish from the page
    shown = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in token["token"])
    return f"⟦{shown}⟧ ({digits(token['logit'], 2)})"


def _cell(record: dict[str, Any]) -> dict[str, Any]:
    if "null" not in record:
        return {"value": record["value"]}
    return {"value": record["value"], "null": {end: record["null"][end] for end in ("low", "high")}}
