"""How the pages of symmetry call things: scores, positions, verdicts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from analyses.digits import digits

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SCORES = {
    "alignment": "overlap with the predicted first modes",
    "first": "share of the first harmonic",
    "isotropy": "roundness of the first harmonic",
    "curve": "R² of the predicted curve",
    "nearness": "Spearman with nearness",
    "partial": "the same beyond spelling, frequency and tokens",
    "corpus": "Spearman with M* of the corpus",
}
"""Scores as axes call them."""


SHORT = {
    "alignment": "first modes",
    "first": "first harmonic",
    "isotropy": "roundness",
    "curve": "curve R²",
    "nearness": "nearness",
    "partial": "nearness, partial",
    "corpus": "corpus M*",
}
"""Scores as small panels call them."""


FEW = 60
"""Items of which a picture has room for more than two decimals of every pair."""


def layer_name(layer: int) -> str:
    """Call a layer.

    Examples:
        >>> layer_name(-1), layer_name(3)
        ('the embedding output', 'layer 3')
    """
    return "the embedding output" if layer < 0 else f"layer {layer}"


def place_name(at: Mapping[str, Any]) -> str:
    """Call a position at a layer.

    Examples:
        >>> place_name({"position": "item end", "layer": 3})
        'item end, layer 3'
    """
    return f"{at['position']}, {layer_name(at['layer'])}"


def model_name(facts: Mapping[str, Any]) -> str:
    """Call the model: a folder by the end of its path, which alone may say no more than ``model``.

    Examples:
        >>> model_name({"model": "/home/me/minilm/model"}), model_name({"model": "embedded"})
        ('minilm/model', 'embedded')
    """
    return "/".join([part for part in facts["model"].split("/") if part][-2:])


def figure_name(concept: str, what: str) -> str:
    """Name the file of a figure.

    Examples:
        >>> figure_name("US_states", "map")
        'us-states-map'
    """
    return re.sub(r"[^a-z0-9]+", "-", f"{concept} {what}".lower()).strip("-")


def title_of(concept: str) -> str:
    """Call a concept in a heading.

    Examples:
        >>> title_of("us_states")
        'us states'
    """
    return concept.replace("_", " ")


def shown_order(concept: Mapping[str, Any]) -> list[int]:
    """Order in which items stand in pictures of matrices: places from west to east, others as they are."""
    places = concept["places"]
    n = len(concept["corpus"]["items"])
    return sorted(range(n), key=lambda at: places[at][1]) if places else list(range(n))


def in_order(
    concept: Mapping[str, Any], matrix: Sequence[Sequence[float | None]]
) -> list[list[float | None]]:
    """A matrix over the items in that order, to as many decimals as its picture can show."""
    order = shown_order(concept)
    places = 4 if len(order) <= FEW else 2
    return [[None if (x := matrix[i][j]) is None else round(x, places) for j in order] for i in order]


def failures(verdict: Mapping[str, Any]) -> str:
    """Say which gates failed, with their numbers."""
    said = [f"{gate['name']}: {gate['because']}" for gate in verdict["gates"] if not gate["passed"]]
    return "; ".join(said) or "none"


def against(record: Mapping[str, Any]) -> str:
    """Write a number beside the band of its null.

    Examples:
        >>> against({"value": 0.5, "null": {"low": 0.1, "high": 0.2}})
        '0.50 (shuffled 0.10 to 0.20)'
    """
    null = record["null"]
    low, high = digits(null["low"], places=2), digits(null["high"], places=2)
    return f"{digits(record['value'], places=2)} (shuffled {low} to {high})"
