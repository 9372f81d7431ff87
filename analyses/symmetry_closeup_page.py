"""The place that was judged, closely: curves, spectra, probes, maps, and what the corpus adds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from analyses.digits import digits
from analyses.report import FigureSpec, Section, TableSpec
from analyses.symmetry_words import SCORES, figure_name, in_order, place_name, shown_order, title_of

if TYPE_CHECKING:
    from collections.abc import Sequence

Facts = dict[str, Any]

_AXES = ("mode 1", "mode 2", "mode 3")
_UNITS = {"km": "median error, km", "steps": "mean error, steps", "proximity": "proximity error"}


def closeup_section(concept: Facts) -> Section:
    """What the cloud at the judged place looks like."""
    name, close = concept["name"], concept["model"]["closeup"]
    place = place_name(concept["model"]["at"])
    link = close["link"]
    text = [
        f"At {place}, where the first modes stand out most: a place that was chosen, so read what is shown here with "
        "the corrected p values above.",
    ]
    if link:
        text.append(_link(link))
    sides = {"corpus": concept["laid"], "model": close["manifold"]}
    figures = [
        *manifolds(concept, sides), _blocks(concept), _spectrum(concept), _modes(concept),
        *read_off(concept, close["probes"], "model"),
    ]  # fmt: skip
    return Section(
        f"{title_of(name)} in the model, closely",
        tuple(text),
        figures=tuple(one for one in figures if one),
        tables=(probe_table(close["probes"]), _matched_table(concept)),
    )


def read_off(concept: Facts, probes: Facts, side: str) -> list[FigureSpec]:
    """What probes read off a cloud: error by rank beside the prediction, and of places a map.

    Args:
        concept: its facts.
        probes: of :func:`analyses.symmetry_closeup.closeup`.
        side: what was probed, ``model`` or ``word vectors``.
    """
    return [*_ranks(concept, probes, side), *_map(concept, probes, side)]


def _link(link: Facts) -> str:
    low, high = digits(link["low"], places=2), digits(link["high"], places=2)
    beyond = "more" if link["low"] > 0 else "less" if link["high"] < 0 else "no difference that can be told"
    return (
        f"Does this corpus say more about the model than distance alone? Spearman with M* is "
        f"{digits(link['corpus'], places=2)}, with nearness {digits(link['generic'], places=2)}; the gain "
        f"{digits(link['gain'], places=2)} [{low}, {high}], from leaving out one item at a time: {beyond}."
    )


def manifolds(concept: Facts, sides: dict[str, Facts]) -> list[FigureSpec]:
    """Clouds in two and three dimensions with the predicted curve beneath them.

    Args:
        concept: its facts.
        sides: name -> what :func:`analyses.symmetry_closeup.laid_over` gave.
    """
    return [_manifold(concept, sides, name, axes) for name, axes in (("flat", _AXES[:2]), ("solid", _AXES))]


def _manifold(concept: Facts, sides: dict[str, Facts], name: str, axes: Sequence[str]) -> FigureSpec:
    places = concept["places"]
    first = next(iter(sides.values()))[name]
    panels = [
        {
            "title": f"{side}: R² {digits(found[name]['r2'], places=2)}",
            "points": found[name]["points"],
            "curve": found[name]["curve"],
        }
        for side, found in sides.items()
    ]
    beneath = "rings, joined to their items" if places and name == "flat" else "thick grey line"
    over = "" if places and name == "solid" else f" ({beneath})"
    return FigureSpec(
        figure_name(concept["name"], f"manifold-{name}"),
        "manifold",
        f"Leading {first['fitted']} components of `{concept['name']}` in {' and '.join(sides)}, turned and scaled "
        f"onto the coordinates that the fitted kernel predicts{over}; the first {len(axes)} are drawn"
        f"{', coloured by longitude' if places else ''}.",
        {
            "panels": panels,
            "labels": concept["corpus"]["items"],
            "closed": concept["layout"] == "cycle",
            "connected": not places,
            "hues": [(place[1] + 180) / 360 for place in places] if places else None,
            "axes": list(axes[: len(panels[0]["curve"][0])]),
        },
    )


def _blocks(concept: Facts) -> FigureSpec:
    items = concept["corpus"]["items"]
    return FigureSpec(
        figure_name(concept["name"], "gram"),
        "blocks",
        f"How alike two items of `{concept['name']}` are to the corpus, the fitted kernel and the model, each less "
        f"its mean over pairs and in units of its standard deviation{_ordered(concept)}.",
        {
            "panels": [
                {"title": title, "values": in_order(concept, values)}
                for title, values in (
                    (f"corpus {concept['corpus']['target']}", _standardised(concept["corpus"]["block"])),
                    ("kernel", _standardised(concept["prediction"]["values"])),
                    ("model", concept["model"]["closeup"]["nearness"]),
                )
            ],
            "labels": [items[at] for at in shown_order(concept)],
            "label": "likeness, standard deviations",
        },
    )


def _ordered(concept: Facts) -> str:
    return "; from west to east" if concept["places"] else ""


def _standardised(matrix: Sequence[Sequence[float]]) -> list[list[float | None]]:
    pairs = [x for i, row in enumerate(matrix) for x in row[i + 1 :]]
    mean = sum(pairs) / len(pairs)
    spread = math.sqrt(sum((x - mean) ** 2 for x in pairs) / len(pairs)) or 1.0
    return [
        [None if i == j else round((x - mean) / spread, 3) for j, x in enumerate(row)]
        for i, row in enumerate(matrix)
    ]


def _spectrum(concept: Facts) -> FigureSpec:
    found = concept["model"]["closeup"]["spectrum"]
    cycle = concept["layout"] == "cycle"
    what = "harmonic" if cycle else "component"
    match = found["match_corpus"]
    said = (
        f" Cosine of model and corpus {digits(match['cosine'], places=2)}, where a flat profile has "
        f"{digits(match['flat'], places=2)}."
        if match
        else ""
    )
    series = [
        {"name": side, "values": found[key]}
        for side, key in (("model", "model"), ("corpus M*", "corpus"), ("kernel", "kernel"))
    ]
    data: Facts = {
        "layers": list(range(1, len(found["model"]) + 1)),
        "series": series,
        "x_label": what,
        "y_label": "share of the variance",
    }
    if "null" in found:
        data["null"] = found["null"] | {"name": "model, shuffled labels (95 %)"}
    return FigureSpec(
        figure_name(concept["name"], "spectrum"),
        "by_layer",
        f"Share of each {what} in the states of the model, in M* and in the fitted kernel.{said}",
        data,
    )


def _modes(concept: Facts) -> FigureSpec:
    found = concept["model"]["closeup"]["modes"]
    return FigureSpec(
        figure_name(concept["name"], "modes"),
        "by_layer",
        "Overlap of the leading k components with the leading k predicted modes, g(k), for whole groups of equal "
        "eigenvalues: single modes of a group mean nothing.",
        {
            "layers": found["ends"],
            "series": [{"name": side, "values": found[side]} for side in ("model", "corpus")],
            "x_label": "number of modes k",
            "y_label": "overlap g(k)",
            "null": found["null"] | {"name": "model, shuffled labels (95 %)"},
        },
    )


def _ranks(concept: Facts, probes: Facts, side: str) -> list[FigureSpec]:
    figures = []
    for at, (folds, found) in enumerate(probes.items()):
        if len(found["ranks"]) < 2:
            continue
        figures.append(
            FigureSpec(
                figure_name(concept["name"], f"{side}-ranks-{at + 1}"),
                "by_layer",
                f"Held-out error of least squares on the leading components, {folds}, by their number, beside what "
                "the fitted kernel predicts without noise (solved numerically) and probes for shuffled places.",
                {
                    "layers": found["ranks"],
                    "series": [
                        {"name": side, "values": found["by_rank"]},
                        {"name": "kernel, predicted", "values": found["predicted"]},
                    ],
                    "x_label": "components",
                    "y_label": "error ε²",
                    # the kernel may leave nothing at all, which a logarithmic axis cannot hold
                    "log": min(found["predicted"]) > 1e-8,
                    "null": found["shuffled"] | {"name": "shuffled places (range of 19)"},
                },
            )
        )
    return figures


def _map(concept: Facts, probes: Facts, side: str) -> list[FigureSpec]:
    found = probes["random folds"]
    if "decoded" not in found or concept["places"] is None:
        return []
    km = found["units"]["km"]
    items = concept["corpus"]["items"]
    return [
        FigureSpec(
            figure_name(concept["name"], f"{side}-map"),
            "places",
            f"Where probes of the {side} put {len(items)} items of `{concept['name']}`, each left out of its own "
            f"probe. Median error {digits(km['value'], places=0)} km; for shuffled places "
            f"{digits(km['null']['low'], places=0)} to {digits(km['null']['high'], places=0)} km.",
            {
                "labels": items,
                "true": concept["places"],
                "decoded": [_degrees(row) for row in found["decoded"]],
                "by": f"read off the {side}",
                "named": [round(at * (len(items) - 1) / 9) for at in range(10)],
            },
        )
    ]


def _degrees(point: Sequence[float]) -> list[float]:
    x, y, z = point
    return [math.degrees(math.atan2(z, math.hypot(x, y))), math.degrees(math.atan2(y, x))]


def probe_table(probes: Facts) -> TableSpec:
    """Errors of probes, by how items were parted.

    Args:
        probes: of :func:`analyses.symmetry_closeup.closeup`.
    """
    units = list(next(iter(probes.values()))["units"])
    rows = [
        (
            folds,
            _with_null(record["error"]),
            *(_with_null(record["units"][unit]) for unit in units),
            ", ".join(digits(x, places=2) for x in record["by_target"]),
        )
        for folds, record in probes.items()
    ]
    return TableSpec(
        "Probes with nested cross-validation, beside the same probes for shuffled places. Proximity is the share of "
        "other items that are predicted nearer to an item's place than itself, 0.5 by chance.",
        ("folds", "error ε²", *(_UNITS[unit] for unit in units), "R² of each coordinate"),
        tuple(rows),
    )


def _matched_table(concept: Facts) -> TableSpec:
    rows = [
        (SCORES[score], _with_null(record))
        for score, record in concept["model"]["closeup"]["matched"].items()
    ]
    return TableSpec(
        "Shape or mere spectrum? The null are clouds with the same principal variances along random directions.",
        ("score", "value"),
        tuple(rows),
    )


def _with_null(record: Facts) -> Facts:
    null = record.get("null")
    if null is None:
        return {"value": record["value"]}
    return {"value": record["value"], "null": {"low": null["low"], "high": null["high"]}}
