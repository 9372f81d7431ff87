"""Sections of a diff's page: how many directions move, which they are, and which tokens go with them."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from analyses.diff_directions import COORDINATES
from analyses.diff_figures import RANDOM, Facts, by_layer_table, cell, layered, most_moved, spread_layers
from analyses.digits import digits
from analyses.report import FigureSpec, Section, TableSpec


def shape(facts: Facts) -> Section:
    """Ranks and scree plots."""
    return Section(
        "How many directions",
        (
            "A change may be carried by few directions or by many; only beside random updates of the same strength "
            "does either say something. Effective rank is the exponential of the entropy of the energies; "
            "uncentred, so that a constant shift counts as one direction. All ranks are bounded by propagation, "
            "not by the adapter's rank.",
        ),
        figures=(
            layered(
                facts,
                "effective_rank",
                name="effective-rank",
                label="effective rank",
                caption="Effective rank of the differences (uncentred) at each layer. Below the band: more "
                "concentrated than chance. It is bounded by propagation, not by the adapter's rank.",
            ),
            _scree(facts),
        ),
        tables=(
            by_layer_table(
                facts,
                "Ranks of the differences (uncentred). k90 directions hold 90 % of E|d|². The last column is the "
                f"overlap of the top-{facts['k']} subspaces of two halves of the documents: 1 is perfectly "
                "repeatable.",
                {"effective_rank": "effective rank", "k90": "k90", "split_half": "split-half overlap"},
            ),
            by_layer_table(
                facts,
                "Other ranks. Centred ones leave the constant shift out. The participation ratio is estimated "
                "without the bias of few tokens; the stable rank is the energy over its largest part.",
                {
                    "effective_rank_centred": "effective rank, centred",
                    "participation": "participation ratio",
                    "participation_centred": "the same, centred",
                    "stable_rank": "stable rank",
                },
            ),
        ),
    )


def _scree(facts: Facts) -> FigureSpec:
    shown = spread_layers(facts["layers"])
    panels = []
    for record in facts["spectra"]:
        if record["layer"] not in shown:
            continue
        panel: dict[str, Any] = {
            "title": f"{record['group']}, layer {record['layer']}",
            "series": [{"name": "adapter", "values": record["values"]}],
        }
        if record["null"]:
            null = np.array(record["null"])
            ends = {"mean": null.mean(0).tolist(), "low": null.min(0).tolist(), "high": null.max(0).tolist()}
            panel["null"] = {"name": f"{RANDOM} (range)", **ends}
        panels.append(panel)
    panels.sort(key=lambda p: list(facts["groups"]).index(p["title"].split(", layer")[0]))
    return FigureSpec(
        "spectra",
        "spectra",
        "Share of E|d|² along each direction, largest first. A steep start means that few directions "
        "carry the change; it does not say that they matter for behaviour.",
        {"panels": panels, "y_label": "share of E|d|²"},
    )


def directions(facts: Facts) -> Section:
    """What the top directions are, and what they may be instead of a finding."""
    rows = []
    for group in facts["groups"]:
        layer = most_moved(facts, group)
        for one in facts["directions"]:
            if (one["group"], one["layer"]) == (group, layer):
                columns = (cell(one[name]) for name in ("concentration", "mean_state", "base_share", "sinks"))
                rows.append((group, layer, one["direction"], one["energy"], one["halves"], *columns))
    warned = [
        f"{one['group']}, layer {one['layer']}, direction {one['direction']}"
        for one in facts["directions"]
        if one["warn"]
    ]
    said = (
        f"Outlier-dimension directions, of which more than half sits in {COORDINATES} coordinates: "
        f"{'; '.join(warned)}. "
        "They say that one huge coordinate moved, and little else."
        if warned
        else f"No direction has more than half of its weight in {COORDINATES} coordinates."
    )
    return Section(
        "Which directions, and what else they may be",
        (
            "Energy ranks directions, and misleads: the first may be the mean state, a principal direction of "
            "the base or that of the sinks, along which anything that changes norms moves. Each such number "
            "stands beside that of the random adapters' own direction of the same rank.",
            said,
        ),
        tables=(
            TableSpec(
                "The four directions of most energy (uncentred), at the layer where the group moves most. "
                "Split-half: |cos| of the directions of this rank in two halves of the documents; it is low "
                "where two energies are nearly equal and trade places. The other layers are in `report.json`.",
                (
                    "group", "layer", "direction", "share of E|d|²", "split-half |cos|",
                    f"in {COORDINATES} coordinates", "|cos| mean state", f"inside base top-{facts['k']}",
                    "|cos| sink state",
                ),
                tuple(rows),
            ),
        ),
    )  # fmt: skip


def tokens(facts: Facts) -> Section:
    """The tokens that the first direction displaces most, beside random ones."""
    tables = []
    for group in facts["groups"]:
        layer = most_moved(facts, group)
        for record in facts["tokens"]:
            if record["group"] == group and record["layer"] == layer and record["direction"] == 1:
                named = {"up": "one end", "down": "other end", "control": "random tokens"}
                # where the mean dominates, everything is displaced to one side
                columns = {name: record[side] for side, name in named.items() if record[side]}
                rows = itertools.zip_longest(
                    *([_in_context(t) for t in found] for found in columns.values()), fillvalue=""
                )
                caption = (
                    f"{group}, layer {layer}, first direction: the most displaced tokens at either end, at most "
                    "one a document, and tokens drawn at random. In brackets the displacement in standard "
                    "deviations of the base along the direction."
                )
                tables.append(TableSpec(caption, tuple(columns), tuple(rows)))
    return Section(
        "Which tokens are displaced most",
        (
            "A story told from extreme tokens is easily a story about nothing: read them against the random "
            "column. The other layers and directions are in `report.json`.",
        ),
        tables=tuple(tables),
    )


def _in_context(token: dict[str, Any]) -> str:
    before = " ".join(token["before"].split())[-48:]
    return f"{before} ⟦{token['token'].strip()}⟧ ({digits(token['z'], 2)})"
