"""Section of a diff's page: what in the adapter makes the difference, and at which layers it is written."""

from __future__ import annotations

from typing import Any

import numpy as np

from analyses.diff_figures import Facts, cell, layered, pick, spread_layers
from analyses.report import FigureSpec, Section, TableSpec


def source(facts: Facts) -> Section:
    """Written here or passed on; writing or reading side of the weights; linear or not."""
    direct = [r for group in facts["groups"] for r in pick(facts, "direct", group)]
    figures, tables, text = [], [], []
    if direct:
        text.append(
            "Direct: the share of E|d|² inside everything that the updates of this layer and those below can add "
            "to the stream themselves. The rest was propagated: written by weights of the base that read a "
            "changed stream. In a large joint space the share is large by chance, so read it beside the space's "
            "share of the width and beside random adapters inside their own spaces."
        )
        figures.append(_direct(facts))
        columns = ("group", "layer", "direct share", "dimensions", "of the width")
        rows = ((r["group"], r["layer"], cell(r), r["dimensions"], r["chance"]) for r in direct)
        tables.append(TableSpec("Direct share of E|d|² by layer.", columns, tuple(rows)))
    else:
        text.append(
            "The directly written share is left out: this kind of adapter, or of model, does not add an update's "
            "output to the stream as it is."
        )
    if facts["variants"]:
        text.append(
            "Half-random adapters keep what every update writes, or what it reads, and draw the other side anew. "
            "Where keeping the writing side alone brings the adapter's subspace back, the directions were set by "
            "the weights, whatever they react to."
        )
        figures += [_variants(facts, group) for group in facts["groups"]]
        tables.append(_ranks(facts))
    text.append(
        "Flipped: the adapter with the sign of every update changed. Were the change linear in the adapter, its "
        "differences would be the same with the sign changed: cosine 1, ratio 1, nothing even."
    )
    columns = ("group", "layer", "cosine with the negative", "ratio of lengths", "share that does not flip")
    rows = ((r["group"], r["layer"], r["cosine"], r["ratio"], r["even"]) for r in facts["flips"])
    caption = "The flipped adapter against the adapter, without sinks. It is no null: it measures linearity."
    tables.append(TableSpec(caption, columns, tuple(rows)))
    return Section("What makes the difference", tuple(text), tuple(figures), tuple(tables))


def _direct(facts: Facts) -> FigureSpec:
    return layered(
        facts,
        "direct",
        name="direct",
        label="share of E|d|² written directly",
        caption="Share of E|d|² inside the joint column space of the residual-writing updates up to each layer, over "
        "the band of random adapters inside theirs. It does not say which layer wrote it.",
        y_limits=[0, 1],
    )


def _variants(facts: Facts, group: str) -> FigureSpec:
    found: dict[str, dict[int, Any]] = {}
    for one in facts["variants"]:
        if one["group"] == group:
            found.setdefault(one["kind"], {})[one["layer"]] = one
    random = found.pop("random", {})
    layers = sorted(next(iter(found.values()), random))
    series = [
        {
            "name": kind,
            "values": [float(np.mean(by_layer[layer]["overlaps"])) for layer in layers],
            "low": [min(by_layer[layer]["overlaps"]) for layer in layers],
            "high": [max(by_layer[layer]["overlaps"]) for layer in layers],
        }
        for kind, by_layer in found.items()
    ]
    data: dict[str, Any] = {
        "layers": layers, "y_label": "overlap with the adapter's own subspace", "y_limits": [0, 1], "series": series,
    }  # fmt: skip
    if random:
        drawn = [random[layer]["overlaps"] for layer in layers]
        ends = {"low": [min(d) for d in drawn], "high": [max(d) for d in drawn]}
        data["null"] = {"name": "random adapters (range)", "mean": [float(np.mean(d)) for d in drawn], **ends}
        data["ceiling"] = {
            "name": "ceiling (split halves)",
            "values": [random[layer]["halves"] for layer in layers],
        }
    return FigureSpec(
        f"variants-{group.lower()}",
        "by_layer",
        f"{group} texts: overlap of half-random adapters' top-{facts['k']} difference subspaces with the "
        "adapter's, mean and range. It does not say that the directions do anything.",
        data,
    )


def _ranks(facts: Facts) -> TableSpec:
    shown = spread_layers(facts["layers"])
    rows = [
        (one["group"], one["layer"], one["kind"], len(one["ranks"]), *(
            {"value": float(np.mean(one[name])), "low": min(one[name]), "high": max(one[name])}
            for name in ("overlaps", "ranks")
        ))
        for one in facts["variants"]
        if one["layer"] in shown
    ]  # fmt: skip
    return TableSpec(
        "Adapters that share the singular values, and one side or none, with the trained one; means and ranges at "
        "the first, middle and last layer.",
        ("group", "layer", "adapters", "number", "overlap with the adapter", "effective rank"),
        tuple(rows),
    )
