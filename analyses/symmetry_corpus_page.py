"""The corpus's side of a page of symmetry: M* beside the fitted kernel, and how good that fit is."""

from __future__ import annotations

from typing import Any

from analyses.digits import digits
from analyses.report import FigureSpec, Section
from analyses.symmetry_words import figure_name, title_of

Facts = dict[str, Any]


def corpus_sections(concept: Facts) -> list[Section]:
    """M* and its kernel."""
    name, corpus, kernel = concept["name"], concept["corpus"], concept["prediction"]
    unit = concept["distance"]["unit"]
    text = [
        f"{concept['about']} M* is how much more often than by chance two items stand near each other, -2 (never) to "
        f"2. Kernel: `{kernel['shape']}` of width {digits(kernel['width'])} {unit}, {kernel['source']}; held-out R² "
        f"{digits(kernel['held_out'], places=2)}."
    ]
    figures = (
        FigureSpec(
            figure_name(name, "block"),
            "blocks",
            f"M* over the items of `{name}`, and the kernel fitted to its pairs. The diagonal is not used.",
            {
                "panels": [
                    {"title": "M*", "values": _without_diagonal(corpus["block"])},
                    {"title": "fitted kernel", "values": _without_diagonal(kernel["values"])},
                ],
                "labels": corpus["items"],
                "label": "M*",
            },
        ),
        _by_distance(concept),
    )
    return [Section(f"{title_of(name)} in the corpus", tuple(text), figures=figures)]


def _by_distance(concept: Facts) -> FigureSpec:
    found = concept["distance"]
    return FigureSpec(
        figure_name(concept["name"], "distance"),
        "by_layer",
        f"M* of pairs of `{concept['name']}` by distance: mean over the pairs of a class, with the range of the "
        "middle 80 %, and the fitted kernel.",
        {
            "layers": [round(at) if found["unit"] == "km" else digits(at, 3) for at in found["at"]],
            "series": [
                {"name": "M*", "values": found["mean"], "low": found["low"], "high": found["high"]},
                {"name": "fitted kernel", "values": found["kernel"]},
            ],
            "x_label": f"distance, {found['unit']}",
            "y_label": "M*",
        },
    )


def _without_diagonal(matrix: list[list[float]]) -> list[list[float | None]]:
    return [[None if i == j else x for j, x in enumerate(row)] for i, row in enumerate(matrix)]
