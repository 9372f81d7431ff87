"""Sections of a diff's page: whether the activations' own directions turn, and measures of gross change."""

from __future__ import annotations

from analyses.diff_figures import Facts, by_layer_table, cell, layered, pick
from analyses.report import FigureSpec, Section, TableSpec

KINDS = {"turn": "as they are", "turn_trimmed": "outliers removed", "turn_whitened": "whitened"}


def turn(facts: Facts) -> Section:
    """Angles between principal subspaces of base and adapted activations, three ways."""
    rows = []
    for group in facts["groups"]:
        found = {kind: {r["layer"]: r for r in pick(facts, kind, group)} for kind in KINDS}
        for layer in facts["layers"]:
            numbers = []
            for kind in KINDS:
                numbers += [cell(found[kind][layer]), found[kind][layer].get("sampling")]
            raw, trimmed = found["turn"][layer], found["turn_trimmed"][layer]
            rows.append((group, layer, *numbers, raw.get("gap"), trimmed.get("gap"), raw.get("dropped")))
    headings = [heading for name in KINDS.values() for heading in (name, "half to half")]
    return Section(
        "Do the principal directions of the activations turn?",
        (
            f"Mean principal angle between the top-{facts['k']} principal subspaces of base and adapted "
            "activations on the same tokens. A few coordinates of huge variance pin the first directions whatever is "
            "learnt, so the angle is also taken without coordinates of more than 50 times the median variance, "
            "and in the metric in which all directions of the base vary alike.",
            "Sampling error between two halves of the documents stands beside each; being paired, base and "
            "adapted share their sample, so a smaller turn can still be real. Where the gap behind direction k "
            "is near 0, the subspace itself is arbitrary, and so is its angle.",
        ),
        figures=(
            layered(
                facts,
                "turn",
                name="turn",
                label="mean principal angle (degrees)",
                caption="How far the adapter turns the principal subspace of the activations, over the band of "
                "random adapters. Directions of a few outlier coordinates hardly turn, whatever is learnt.",
            ),
            layered(
                facts,
                "turn_trimmed",
                name="turn-trimmed",
                label="angle, outlier coordinates removed (degrees)",
                caption="The same without outlier coordinates. It does not say that what turned is used.",
            ),
        ),
        tables=(
            TableSpec(
                "Angles in degrees, each with the angle between two halves of the base's own documents.",
                ("group", "layer", *headings, "gap at k", "gap, outliers removed", "coordinates removed"),
                tuple(rows),
            ),
        ),
    )


def likeness(facts: Facts) -> Section:
    """CKA, Procrustes and R^2: insensitive, and labelled so."""
    figures, tables = [], []
    if facts["exact"]:
        figures.append(
            layered(
                facts,
                "cka",
                name="cka",
                label="unbiased CKA of base and adapted",
                caption="Insensitive: for gross change only. It can stay near 1 for adapters that change all that "
                "is written.",
            )
        )
        tables.append(
            by_layer_table(
                facts,
                "Insensitive: for gross change only. Distances are shares of the base's spread; what the best "
                "rotation removes of the unaligned distance is rotation of the whole cloud. R² is of adapted on "
                "base activations, adjusted for the number of coordinates.",
                {
                    "cka": "CKA, unbiased",
                    "unaligned": "distance",
                    "procrustes": "after the best rotation",
                    "rotation": "pure rotation",
                    "linear_r2": "R² from the base",
                },
            )
        )
    figures += [_map(facts, group) for group in facts["layer_maps"]]
    return Section(
        "Gross change: likeness that forgives rotations",
        (
            "Insensitive: for gross change only. Base and adapted model share their coordinates, so measures that "
            "forgive a change of basis throw away where the change points. They are listed because others report "
            "them.",
        ),
        tuple(figures),
        tuple(tables),
    )


def _map(facts: Facts, group: str) -> FigureSpec:
    return FigureSpec(
        f"layer-map-{group.lower()}",
        "heat",
        f"{group} texts: unbiased CKA of every base layer with every adapted layer, on at most 1024 tokens. "
        "Insensitive: for gross change only; neighbouring layers are alike in any model.",
        {
            "values": facts["layer_maps"][group],
            "rows": facts["layers"],
            "columns": facts["layers"],
            "label": "unbiased CKA",
            "x_label": "adapted layer",
            "y_label": "base layer",
        },
    )
