"""Section of a diff's page: whether two groups of texts move in different directions."""

from __future__ import annotations

from analyses.diff_figures import Facts, band, cell, pick
from analyses.report import FigureSpec, Section, TableSpec


def separate(facts: Facts, pair: str) -> Section:
    """The overlap of two groups' difference subspaces, between nulls and ceiling."""
    records = pick(facts, "overlap", pair)
    words = pair.replace("-", " and ")
    series = [{"name": words, "values": [r["value"] for r in records], "null": band(records)}]
    data = {
        "layers": [r["layer"] for r in records],
        "y_label": "overlap (0 to 1)",
        "y_limits": [0, 1],
        "series": series,
        "ceiling": {"name": "ceiling (split halves)", "values": [r["ceiling"] for r in records]},
    }
    rows = [
        (
            r["layer"], cell(r), cell({"value": r["value"], "null": r["shaped"]}), r["ceiling"], r["chance"],
            min(r["angles"]), max(r["angles"]),
        )
        for r in records
    ]  # fmt: skip
    return Section(
        f"Do {words} texts move apart?",
        (
            f"Overlap of the top-{facts['k']} difference subspaces, ||UᵀV||² / k. Chance for random subspaces "
            "is far below what random adapters give, since any change travels along the directions that the "
            "model already uses; only a number below the grey band says that the two are kept apart.",
            "The second column has another null: pairs of random subspaces that are shaped as the activations are, "
            "which says how much of an overlap the base's own few large directions make.",
        ),
        figures=(
            FigureSpec(
                f"overlap-{pair.lower()}",
                "by_layer",
                f"Overlap of the subspaces in which {words} texts are moved: 1 is the same, the dashed line is "
                "what two samples of one subspace would reach. A low overlap alone does not show separate "
                "mechanisms.",
                data,
            ),
        ),
        tables=(
            TableSpec(
                "Overlaps and principal angles between the two subspaces.",
                (
                    "layer", "overlap (random adapters)", "overlap (activation-shaped)", "ceiling", "chance (Haar)",
                    "smallest angle (°)", "largest angle (°)",
                ),
                tuple(rows),
            ),
        ),
    )  # fmt: skip
