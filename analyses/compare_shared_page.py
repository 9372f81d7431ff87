"""The part of a comparison's page on what all runs share, and on their own reports side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from analyses.digits import digits
from analyses.module_maps import cell
from analyses.report import FigureSpec, Section, TableSpec

Facts = dict[str, Any]

RANDOM = "random adapters"


def shared_section(facts: Facts, group: str, number: int) -> Section:
    """Directions that lie in every run's subspace at each layer, and how much of each run they hold."""
    places = [c for c in facts["common"] if c["group"] == group]
    panels = []
    for place in places:
        one = {"name": f"layer {place['layer']}", "values": place["eigenvalues"]}
        if "null" in place:
            one["null"] = {"name": RANDOM, **{end: place["null"][end] for end in ("mean", "low", "high")}}
        panels.append(one)
    names = [run["name"] for run in facts["runs"]]
    rows = [
        (place["layer"], place.get("dimensions"), *(place.get("inside", {}).get(name) for name in names))
        for place in places
    ]
    text = [
        f"Eigenvalues of the mean projector of all {len(names)} runs' first {facts['k']} directions: 1 for a "
        f"direction that all share, {digits(1 / len(names), 2)} for one that a single run has alone. A direction "
        "counts as common if at least half of its squared length lies in every run, and its eigenvalue is above the "
        "band of random adapters of the same rank; the rest of a run's energy is its own, or shared by some.",
    ]
    if not any("null" in place for place in places):
        text.append(
            f"There is no null, and so no count: it takes a random adapter of another number from each of the "
            f"{len(names)} runs. Run diff with `--random-adapters {max(3, len(names))}` or more."
        )
    count = len(places[0]["eigenvalues"])
    return Section(
        f"On {group}: what all runs share",
        tuple(text),
        figures=(
            FigureSpec(
                f"common-{number}",
                "by_layer",
                "Eigenvalues of the mean projector, a panel for each layer, with the band of random adapters.",
                {
                    "layers": list(range(1, count + 1)), "x_label": "direction", "y_label": "eigenvalue",
                    "series": panels, "y_limits": [0, 1],
                },
            ),
        ),
        tables=(
            TableSpec(
                "Common directions of each layer, and the share of each run's E|d|² that lies in them; the rest is "
                "what is its own, or what only some share. Counts have the null in their definition.",
                ("layer", "common directions", *(f"share of {name}" for name in names)),
                tuple(rows),
            ),
        ),
    )  # fmt: skip


def side_by_side(facts: Facts) -> Section:
    """Ranks, and scores where there are some, from the runs' own reports."""
    names = [run["name"] for run in facts["runs"]]
    tables = []
    for group in facts["groups"]:
        found = {(r["run"], r["layer"]): r for r in facts["ranks"] if r["group"] == group}
        layers = [layer for layer in facts["layers"] if any((name, layer) in found for name in names)]
        rows = tuple((layer, *(cell(found.get((name, layer))) for name in names)) for layer in layers)
        tables.append(
            TableSpec(
                f"Effective rank of what moved on {group}, from each run's own page, beside its random adapters.",
                ("layer", *names),
                rows,
            )
        )
    if facts["scores"]:
        tables.append(_scores(facts["scores"]))
    return Section(
        "Side by side",
        (
            "Numbers of the runs' own reports. Adapters of one effective rank need not move the same directions, and "
            "different ranks can do the same.",
            *(
                ()
                if facts["scores"]
                else ("None of these runs scored what its adapter writes, as `repgeo style` does.",)
            ),
        ),
        tables=tuple(tables),
    )


def _scores(scores: Sequence[Facts]) -> TableSpec:
    def number(record: Facts, *path: str) -> Any:
        for key in path:
            record = record.get(key) or {}
        return {key: record[key] for key in ("value", "low", "high")} if record else None

    rows = [
        (
            one["run"],
            *(number(one, "systems", "adapter", what) for what in ("style", "chrf", "bleu")),
            number(one, "facts", "kept"),
        )
        for one in scores
    ]
    return TableSpec(
        "What the adapters write, with 95 % intervals; floors (copying, the base) are on each run's own page.",
        ("run", "style rate", "chrF", "BLEU", "facts kept"),
        tuple(rows),
    )
