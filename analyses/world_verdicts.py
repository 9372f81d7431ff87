"""What each measure sees and misses in worlds where the truth is known: the rows of one table, from the numbers.

A sentence is chosen by what the numbers are, never written for them: another world may say the opposite.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from analyses.digits import MISSING, digits
from analyses.world_numbers import (
    at_layer,
    cell,
    measured,
    null_at,
    over,
    overlap_at,
    reading,
    spread,
)
from finetune.world_language import BOTH, FACT, STYLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from analyses.world_numbers import Facts, Number

    Row = tuple[str, list[Number], list[str], list[str]]

COLUMNS = ("measure", "trained style", "trained facts", "random", "sees", "misses")
LARGE = 0.5
"""Share of a behaviour whose loss counts as the behaviour's end, and whose survival as its going on."""

NAMES = {
    "size": "relative diff norm",
    "mean_share": "mean-shift share of E|d|²",
    "effective_rank": "effective rank of E[d dᵀ]",
    "cka": "CKA, base against adapted (unbiased)",
    "base_overlap": "overlap with the base's principal directions",
}


def verdict_rows(facts: Facts) -> tuple[tuple[str, ...], ...]:
    """The rows of the table, in the order of :data:`COLUMNS`; numbers are of the middle layer."""
    simple = (_measure_row(facts, measure) for measure in NAMES)
    taken = (_ablation_row(facts, place) for place in (facts["layer"], "all"))
    rows = (*simple, _overlap_row(facts), _seed_row(facts), *taken, _keep_row(facts), _both_row(facts))
    return tuple(
        (name, *map(spread, numbers), listed_parts(sees), listed_parts(misses))
        for name, numbers, sees, misses in rows
    )


def _measure_row(facts: Facts, measure: str) -> Row:
    layer = facts["layer"]
    numbers = [at_layer(facts, kind, measure, layer) for kind in (STYLE, FACT)]
    sees, misses = [], []
    for kind in (STYLE, FACT):
        words = [r["null"]["verdict"] for r in measured(facts, kind, measure)]
        for side in ("above", "below", "not distinguishable"):
            link = " from" if side == "not distinguishable" else ""
            text = f"{kind} {side}{link} random in {words.count(side)} of {len(words)}"
            (misses if link else sees).extend([text] if side in words else [])
    if measure == "cka":
        misses += _turnovers(facts)
    if meeting := _meeting(facts, measure):
        misses.append(f"style from fact: their ranges meet at layers {listed(meeting)}")
    return NAMES[measure], [*numbers, null_at(facts, STYLE, measure, layer)], sees, misses


def _turnovers(facts: Facts) -> list[str]:
    """How alike the rows stay while a behaviour turns over."""
    parts = []
    for kind, what, name in ((STYLE, "style", "style"), (FACT, "new", "new facts")):
        lowest = min(r["value"] for r in measured(facts, kind, "cka"))
        before, after = reading(facts, "base", what), reading(facts, kind, what)
        parts.append(f"{name} {spread(before)} → {spread(after)} while CKA stays at {digits(lowest)} or more")
    return parts


def _meeting(facts: Facts, measure: str) -> list[int]:
    """The layers at which the ranges of style and fact adapters over the worlds meet."""
    layers = []
    for layer in facts["layers"]:
        style, fact = (at_layer(facts, kind, measure, layer) for kind in (STYLE, FACT))
        if style["low"] <= fact["high"] and fact["low"] <= style["high"]:
            layers.append(layer)
    return layers


def _overlap_row(facts: Facts) -> Row:
    records = [r for world in facts["worlds"] for r in world["overlaps"]]
    below = sum(r["style_fact"] < min(r["style_seeds"], r["fact_seeds"]) for r in records)
    within = sum(r["style_fact"] <= max(r["random"]) for r in records)
    haar, random, found = (overlap_at(facts, w, facts["layer"]) for w in ("haar", "random", "style_fact"))
    sees, misses = [], []
    if below:
        sees.append(f"two changes: below the overlap of two seeds in {below} of {len(records)}")
    if within:
        misses.append(f"relatedness: not above two random adapters in {within} of {len(records)}")
    if random["value"] > haar["value"]:
        misses.append(f"the floor, if it is taken for that of uniform directions ({spread(haar)})")
    return "overlap, style against fact", [found, found, random], sees, misses


def _seed_row(facts: Facts) -> Row:
    layer = facts["layer"]
    seeds = [overlap_at(facts, f"{kind}_seeds", layer) for kind in (STYLE, FACT)]
    halves = (spread(overlap_at(facts, f"{kind}_halves", layer)) for kind in (STYLE, FACT))
    sees = [f"the ceiling; halves of the documents would put it at {' and '.join(halves)}"]
    least = (spread(_least(facts, kind)) for kind in (STYLE, FACT))
    misses = [f"that seeds do the same: the weaker one reaches {' and '.join(least)} of its behaviour"]
    return "overlap of two seeds", [*seeds, overlap_at(facts, "random", layer)], sees, misses


def _least(facts: Facts, kind: str) -> Number:
    """What the weaker seed of each world does of its behaviour."""
    what = "style" if kind == STYLE else "new"
    return over(
        min(a["readings"][what] for a in world["adapters"].values() if a["kind"] == kind)
        for world in facts["worlds"]
    )


def _ablation_row(facts: Facts, place: int | str) -> Row:
    own, other, haar = (_without(facts, STYLE, basis, place) for basis in ("own", FACT, "Haar"))
    own_facts, other_facts, haar_facts = (_without(facts, FACT, b, place) for b in ("own", STYLE, "Haar"))
    kept = cell(facts, STYLE, "ablate", "own", place)["kept"]
    found = (
        (own["high"] < LARGE, "style ends without its own", own),
        (other["low"] > LARGE, "style goes on without the fact adapter's", other),
        (kept["low"] > LARGE, "the facts stay without the style's", kept),
        (own_facts["high"] < LARGE, "new facts end without their own", own_facts),
        (other_facts["low"] > LARGE, "new facts go on without the style adapter's", other_facts),
        (haar_facts["low"] > LARGE, "new facts go on without uniform ones", haar_facts),
    )
    return (
        f"behaviour left without the top-{facts['k']} directions, {where(place)} (random: uniform ones)",
        [own, own_facts, haar],
        [f"{text} ({spread(n)})" for true, text, n in found if true],
        [f"not so: {text} ({spread(n)})" for true, text, n in found if not true],
    )


def _keep_row(facts: Facts) -> Row:
    layer, k = facts["layer"], facts["k"]
    style = cell(facts, STYLE, "keep", "own", layer)["style"]
    fact = cell(facts, FACT, "keep", "own", layer)
    haar = cell(facts, STYLE, "keep", "Haar", layer)["style"]
    sees, misses = [], []
    if style["low"] > haar["high"]:
        sees.append(f"{k} directions carry {spread(style)} of the style, uniform ones {spread(haar)}")
    else:
        misses.append(f"whose style it is: later blocks make {spread(haar)} of it beside uniform ones")
    energy, left = fact["energy"], fact["new"]
    if energy["value"] > left["value"]:
        sees.append(
            f"energy is not function: {spread(energy)} of E|d|² carries {spread(left)} of the new facts"
        )
    name = f"behaviour left with the top-{k} directions alone, {where(layer)} (random: uniform ones)"
    return name, [style, left, haar], sees, misses


def _both_row(facts: Facts) -> Row:
    """One adapter that changes both, and the directions of two others that change one each."""
    style, fact, haar = (cell(facts, BOTH, "ablate", basis, "all") for basis in (STYLE, FACT, "Haar"))
    found = (
        (
            style["style"]["high"] < LARGE < style["new"]["low"],
            "style ends and new facts go on",
            style,
            STYLE,
        ),
        (fact["new"]["high"] < LARGE < fact["style"]["low"], "new facts end and style goes on", fact, FACT),
    )
    said = [
        (
            true,
            f"{text} without the {kind} adapter's (style {spread(c['style'])}, new facts {spread(c['new'])})",
        )
        for true, text, c, kind in found
    ]
    return (
        f"the same in an adapter of both, by other adapters' top-{facts['k']}, every layer",
        [style["style"], fact["new"], haar["new"]],
        [text for true, text in said if true],
        [f"not so: {text}" for true, text in said if not true],
    )


def _without(facts: Facts, adapter: str, basis: str, place: int | str) -> Number:
    what = "style" if adapter == STYLE else "new"
    return cell(facts, adapter, "ablate", basis, place)[what]


def where(place: int | str) -> str:
    """Name a block, or all of them."""
    return "every layer" if place == "all" else f"layer {place}"


def listed_parts(parts: Iterable[str]) -> str:
    """Put findings in a row; a dash stands for none.

    Examples:
        >>> listed_parts(["a", "b"]), listed_parts([])
        ('a; b', '–')
    """
    return "; ".join(parts) or MISSING


def listed(layers: Sequence[int]) -> str:
    """Write numbers in a row.

    Examples:
        >>> listed([0, 1, 3])
        '0, 1 and 3'
    """
    words = [str(layer) for layer in layers]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
