"""The adapter's part of a page of symmetry: what changed, and beside what it is nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from analyses.digits import digits
from analyses.report import FigureSpec, Section, TableSpec
from analyses.symmetry_words import SCORES, SHORT, figure_name, layer_name, title_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    Facts = dict[str, Any]

PARTS = {
    "turn": "turn of the plane (degrees)",
    "bend": "bend, 1 − R² of shapes",
    "growth": "growth, log₂ of size",
}

LEVEL = 0.05


def adapter_claim(concept: Facts) -> str:
    """Whether the adapter bends the concept, in a sentence or two."""
    adapter, name = concept["adapter"], title_of(concept["name"])
    standing = [
        f"{PARTS.get(score) or SHORT[score]} ({_signed(record['change'][at])} at "
        f"{layer_name(adapter['layers'][at])}, p = {digits(record['adjusted'][at], 2)})"
        for score, record in adapter["scores"].items()
        if (at := _strongest(record)) is not None and record["adjusted"][at] <= LEVEL
    ]
    turn, bend = (adapter["scores"][part]["change"][-1] for part in ("turn", "bend"))
    random = adapter["scores"]["turn"]["random"][-1]
    moved = (
        f"After the last block the adapter turns the plane of `{name}` by {digits(turn, 2)} degrees (random adapters "
        f"{digits(min(random), 2)} to {digits(max(random), 2)}) and bends its shape by {digits(bend, 2)}."
    )
    if not standing:
        return (
            f"{moved} No score of `{name}` changes more than under {adapter['n_random']} random adapters of equal "
            "singular values, corrected for all layers."
        )
    return (
        f"{moved} Beyond {adapter['n_random']} random adapters changes, of {len(adapter['scores'])} scores: "
        f"{'; '.join(standing)}."
    )


def adapter_section(concept: Facts) -> Section:
    """Changes by layer, the plane before and after, and what the fine-tuning corpus predicts."""
    adapter, name = concept["adapter"], concept["name"]
    main = "first" if "first" in adapter["scores"] else "alignment"
    text = [
        f"Base and adapted model read the same items in the same {adapter['templates']} templates, at the last token "
        "of the item. A change is adapted minus base; bars are 95 % intervals from resampling templates, the same on "
        f"both sides. Grey bands are {adapter['n_random']} adapters with the same singular values in random "
        "directions: what any change of this strength does.",
        "A plane may turn in the space of the model without its shape being bent. Turn is the largest principal "
        "angle between the leading components before and after; bend is what no rotation, reflection and scale lays "
        "over the old shape; growth is the size of the cloud. Turn and bend are never negative: their floors are "
        "what resampled templates do to the base itself.",
    ]
    return Section(
        f"{title_of(name)} before and after the adapter",
        tuple(text + _link_text(adapter)),
        figures=tuple(
            filter(
                None,
                (
                    _change(adapter, main, figure_name(name, "change")),
                    _change(adapter, "nearness", figure_name(name, "change-nearness")),
                    *(_part(adapter, part, figure_name(name, part)) for part in PARTS),
                    _planes(concept),
                    _link(adapter, figure_name(name, "fine-tuning-corpus")),
                ),
            )
        ),
        tables=(_table(adapter),),
    )


def _change(adapter: Facts, score: str, name: str) -> FigureSpec:
    record = adapter["scores"][score]
    series = [
        {"name": "adapted − base", "values": record["change"], "low": record["low"], "high": record["high"]}
    ]
    if "control" in record:
        series.append({"name": "control adapter − base", "values": record["control"]})
    return FigureSpec(
        name,
        "by_layer",
        f"Change of the {SCORES[score]}, by layer.",
        {
            "layers": adapter["layers"],
            "series": series,
            "null": _band(record["random"]),
            "y_label": f"change of {SHORT[score]}",
        },
    )


def _part(adapter: Facts, part: str, name: str) -> FigureSpec:
    record = adapter["scores"][part]
    series = [{"name": "adapter", "values": record["change"]}]
    if "control" in record:
        series.append({"name": "control adapter", "values": record["control"]})
    if part != "growth":
        floors = [floor and floor["high"] for floor in record["floor"]]
        series.append({"name": "resampled templates (97.5 %)", "values": floors})
    return FigureSpec(
        name,
        "by_layer",
        f"{PARTS[part][0].upper()}{PARTS[part][1:]}, by layer.",
        {
            "layers": adapter["layers"],
            "series": series,
            "null": _band(record["random"]),
            "y_label": PARTS[part],
        },
    )


def _planes(concept: Facts) -> FigureSpec | None:
    planes = concept["adapter"]["planes"]
    if planes is None:
        return None
    axes = [f"base PC {at + 1}" for at in range(len(planes["base"][0]))]
    return FigureSpec(
        figure_name(concept["name"], "plane-before-and-after"),
        "manifold",
        f"Items on the leading components of the base at {layer_name(planes['layer'])}, where the plane turns most. "
        "The grey curve in both panels is the base; a plane that turned away looks smaller here.",
        {
            "panels": [
                {"title": title, "points": planes[side], "curve": planes["base"]}
                for title, side in (("base", "base"), ("with the adapter", "adapter"))
            ],
            "labels": concept["corpus"]["items"],
            "axes": axes,
            "closed": concept["layout"] == "cycle",
            "connected": concept["layout"] != "sphere",
        },
    )


def _link(adapter: Facts, name: str) -> FigureSpec | None:
    link = adapter["link"]
    if not link or "value" not in link:
        return None
    return FigureSpec(
        name,
        "by_layer",
        "Spearman correlation of the change of nearness with M* of the fine-tuning corpus over pairs of items, what "
        "the base's own nearness explains taken out of both.",
        {
            "layers": adapter["layers"],
            "series": [{"name": "beyond the base's nearness", "values": link["value"]}],
            "y_label": "Spearman with M*",
            "y_limits": [-1, 1],
        },
    )


def _link_text(adapter: Facts) -> list[str]:
    link = adapter["link"]
    if link is None:
        return []
    if "value" not in link:
        rare = ", ".join(f"{item} {n}" for item, n in list(link["left_out"].items())[:6])
        return [
            f"Whether M* of the fine-tuning corpus predicts the change cannot be asked: {len(link['items'])} of the "
            f"items occur often enough in it (occurrences: {rare}, …)."
        ]
    known = [(p, value) for p, value in zip(link["adjusted"], link["value"], strict=True) if p is not None]
    if not known:
        return ["Nothing moves, so there is nothing that M* of the fine-tuning corpus could predict."]
    p, value = min(known)
    said = "predicts" if p <= LEVEL and value > 0 else "does not predict"
    left = f" ({len(link['left_out'])} items are too rare in it)" if link["left_out"] else ""
    return [
        f"M* of the fine-tuning corpus over {len(link['items'])} items{left} {said} how they move against each "
        f"other: where it does most, Spearman {_signed(value)}, p = {digits(p, 2)} over all layers against shuffled "
        "labels."
    ]


def _table(adapter: Facts) -> TableSpec:
    rows = []
    for score, record in adapter["scores"].items():
        at = _strongest(record)
        if at is None:
            continue
        plane = score in PARTS
        rows.append((
            PARTS[score] if plane else SCORES[score],
            layer_name(adapter["layers"][at]),
            None if plane else record["base"][at],
            None if plane else record["adapted"][at],
            {
                "value": record["change"][at],
                "low": None if plane else record["low"][at],
                "high": None if plane else record["high"][at],
                "null": {"low": min(record["random"][at]), "high": max(record["random"][at])},
                "p": record["adjusted"][at],
            },
            record["control"][at] if "control" in record else None,
        ))
    return TableSpec(
        "Each score at the layer where its change is farthest from random adapters. Nulls are their range; p is "
        f"corrected for all layers, not for the {len(adapter['scores'])} scores, and can be no smaller than "
        f"1/{adapter['n_random'] + 1}.",
        ("score", "where", "base", "adapted", "change", "control adapter"),
        tuple(rows),
    )


def _strongest(record: Facts) -> int | None:
    """The layer of the smallest p; of several the one of the largest change."""
    known = [at for at, p in enumerate(record["adjusted"]) if p is not None]
    if not known:
        return None
    return min(known, key=lambda at: (record["adjusted"][at], -abs(record["change"][at])))


def _band(random: Sequence[Sequence[float | None]]) -> dict[str, Any]:
    known = [[value for value in layer if value is not None] or [None] for layer in random]
    return {
        "low": [None if layer == [None] else min(layer) for layer in known],
        "high": [None if layer == [None] else max(layer) for layer in known],
        "name": "random adapters (range)",
    }


def _signed(value: float) -> str:
    return ("+" if value > 0 else "") + digits(value, 2)
