"""The section about what an adapter moves: pure functions of the facts of :mod:`analyses.attention_moved`."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from analyses.digits import digits
from analyses.module_maps import percent
from analyses.report import FigureSpec, Section, TableSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

Facts = dict[str, Any]

TOP = 8
"""Heads of the table."""
APART = 48
"""Most heads that have a line each in the picture of distances."""


def moved_claim(moved: Facts) -> str:
    """How far the adapter moves attention, and random adapters of its strength."""
    far = moved["hellinger"]
    heads = sum(map(len, far["value"]))
    claim = (
        f"Between base and adapter the attention of the last rows lies {_mean(far['value'])} apart in Hellinger "
        f"distance (0 to 1, mean of {heads} heads; KL {_mean(moved['kl']['value'])} nats"
    )
    if far["null"] is None:
        return claim + "); there are no random adapters beside it."
    above = sum(map(sum, far["above"]))
    return (
        f"{claim}), {_mean(far['null']['mean'])} for random adapters of the same strength; {above} of {heads} heads "
        f"move further than with any of the {moved['random']} random ones, where "
        f"{digits(heads / (moved['random'] + 1), 2)} would by chance."
    )


def moved_section(moved: Facts, names: Sequence[str]) -> Section:
    """Distances by head and by distance in the text.

    Args:
        moved: facts.
        names: of the distance buckets.

    Returns:
        A section with a map of heads, a map of distances and two tables.
    """
    far = moved["hellinger"]
    heads = [(layer, head) for layer, row in enumerate(far["value"]) for head in range(len(row))]
    figures = (
        FigureSpec(
            "moved",
            "heat",
            "Hellinger distance between the weights of base and adapter, mean of the last rows over passages; 0 is "
            "no change, 1 no key in common.",
            {
                "values": far["value"],
                "rows": moved["layers"],
                "columns": list(range(len(far["value"][0]))),
                "label": "Hellinger distance",
                "low": 0,
                "x_label": "head",
                "y_label": "layer",
            },
        ),
        _by_distance(moved, names, heads),
    )
    return Section(
        "How far the adapter moves each head",
        (
            f"Base and adapter read the same {digits(moved['length'])} tokens in one forward pass; the weights of "
            f"the last {moved['last_rows']} rows are compared row by row. KL is the mean of log(base / adapter) "
            "under the base's weights, reversed KL that of log(adapter / base) under the adapter's, in nats.",
            _floor_said(moved),
        ),
        figures=figures,
        tables=(_layer_table(moved), _head_table(moved, names, heads)),
    )


def _floor_said(moved: Facts) -> str:
    if not moved["random"]:
        return "There is no null: no random adapters were asked for, or this adapter cannot be mixed with others."
    return (
        f"The null is {moved['random']} random adapters with the singular values of this one, on the same rows. Any "
        "change of the weights moves attention, so a distance says something of this adapter only beside theirs."
    )


def _by_distance(moved: Facts, names: Sequence[str], heads: Sequence[tuple[int, int]]) -> FigureSpec:
    values = moved["hellinger"]["by_distance"]["value"]
    apart = len(heads) <= APART
    rows = [values[i][h] for i, h in heads] if apart else [
        [statistics.fmean(column) for column in zip(*layer, strict=True)] for layer in values
    ]  # fmt: skip
    return FigureSpec(
        "moved-by-distance",
        "heat",
        "Where in the text the change lies: squared Hellinger distance by distance to the key; a line adds to the "
        "whole. " + ("A line a head." if apart else "Mean over heads."),
        {
            "values": rows,
            "rows": [f"{moved['layers'][i]}.{h}" for i, h in heads] if apart else moved["layers"],
            "columns": list(names),
            "label": "Hellinger squared",
            "low": 0,
            "x_label": "tokens back, from",
            "y_label": "layer.head" if apart else "layer",
        },
    )


def _layer_table(moved: Facts) -> TableSpec:
    rows = [
        (layer, *(_layer_cell(moved[key], i) for key in ("hellinger", "kl", "kl_reverse")))
        for i, layer in enumerate(moved["layers"])
    ]
    return TableSpec(
        "Mean over heads and passages; the null is the mean of the random adapters, over the same heads.",
        ("layer", "Hellinger", "KL (nats)", "reversed KL (nats)"),
        tuple(rows),
    )


def _layer_cell(record: Facts, i: int) -> Facts:
    cell: Facts = {"value": statistics.fmean(record["value"][i])}
    if record["null"] is not None:
        cell["null"] = {"mean": statistics.fmean(record["null"]["mean"][i])}
    return cell


def _head_table(moved: Facts, names: Sequence[str], heads: Sequence[tuple[int, int]]) -> TableSpec:
    far = moved["hellinger"]
    most = sorted(heads, key=lambda at: -far["value"][at[0]][at[1]])[:TOP]
    rows = []
    for i, h in most:
        terms = far["by_distance"]["value"][i][h]
        where = max(range(len(terms)), key=terms.__getitem__)
        share = percent(terms[where] / sum(terms)) if sum(terms) else "0 %"
        rows.append((
            f"{moved['layers'][i]}.{h}", _head_cell(far, i, h), _head_cell(moved["kl"], i, h),
            _head_cell(moved["kl_reverse"], i, h), f"{names[where]} ({share})",
        ))  # fmt: skip
    return TableSpec(
        f"The {len(most)} heads that move furthest, with 95 % intervals over passages and the range of random "
        "adapters in that head (layer.head); most at: how many tokens back most of the change lies, and its share "
        "of the squared distance. The farthest bucket holds the sink.",
        ("head", "Hellinger", "KL (nats)", "reversed KL (nats)", "most at"),
        tuple(rows),
    )


def _head_cell(record: Facts, i: int, h: int) -> Facts:
    cell = {key: record[key][i][h] for key in ("value", "low", "high")}
    if record["null"] is not None:
        cell["null"] = {key: record["null"][key][i][h] for key in ("low", "high")}
    return cell


def _mean(values: Sequence[Sequence[float]]) -> str:
    return digits(statistics.fmean(value for row in values for value in row))
