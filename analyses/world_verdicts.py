"""What each measure sees and misses in worlds where the truth is known: the rows of one table, from the numbers.

A sentence is chosen by what the numbers are, never written for them: another world may say the opposite.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from analyses.digits import MISSING, decimals, digits
from analyses.world_numbers import (
    at_layer,
    cell,
    measured,
    null_at,
    over,
    overlap_at,
    reading,
)
from finetune.world_language import FACT, STYLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from analyses.world_numbers import Facts, Number

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


def verdict_rows(facts: Facts) -> tuple[tuple[Any, ...], ...]:
    """The rows of the table, in the order of :data:`COLUMNS`; numbers are of the chosen layer."""
    simple = tuple(_measure_row(facts, measure) for measure in NAMES)
    causal = (_ablation_row(facts, facts["layer"]), _ablation_row(facts, "all"), _keep_row(facts))
    return (*simple, _overlap_row(facts), _seed_row(facts), *causal)


def _measure_row(facts: Facts, measure: str) -> tuple[Any, ...]:
    layer = facts["layer"]
    style, fact = (at_layer(facts, kind, measure, layer) for kind in (STYLE, FACT))
    return (
        NAMES[measure],
        style,
        fact,
        null_at(facts, STYLE, measure, layer),
        _told_apart(facts, measure) or MISSING,
        listed_parts(part for part in (_not_told_apart(facts, measure), _not_sorted(facts, measure)) if part),
    )


def _told_apart(facts: Facts, measure: str) -> str:
    """In how many layers, seeds and worlds each kind lies outside its random adapters' band, and on which side."""
    parts = []
    for kind in (STYLE, FACT):
        words = [r["null"]["verdict"] for r in measured(facts, kind, measure)]
        sides = [(side, words.count(side)) for side in ("above", "below") if side in words]
        parts += [f"{kind} {side} random in {n} of {len(words)}" for side, n in sides]
    return ", ".join(parts)


def _not_told_apart(facts: Facts, measure: str) -> str:
    parts = []
    for kind in (STYLE, FACT):
        records = measured(facts, kind, measure)
        missed = [r for r in records if r["null"]["verdict"] == "not distinguishable"]
        layers = sorted({r["layer"] for r in missed})
        if missed:
            parts.append(f"{kind} from random in {len(missed)} of {len(records)} (layers {listed(layers)})")
    if measure == "cka":
        parts.append(_blindness(facts))
    return "; ".join(parts)


def _blindness(facts: Facts) -> str:
    """How alike the rows stay while a behaviour turns over."""
    parts = []
    for kind, what, turns in ((STYLE, "style", "the style"), (FACT, "new", "the rewritten facts")):
        lowest = min(r["value"] for r in measured(facts, kind, "cka"))
        before, after = reading(facts, "base", what), reading(facts, kind, what)
        parts.append(
            f"{turns} go from {spread(before)} to {spread(after)} at a CKA of {digits(lowest)} or more"
            if kind == FACT
            else f"{turns} goes from {spread(before)} to {spread(after)} at a CKA of {digits(lowest)} or more"
        )
    return "; ".join(parts)


def _not_sorted(facts: Facts, measure: str) -> str:
    """At which layers the ranges of style and fact adapters over the worlds overlap."""
    layers = []
    for layer in facts["layers"]:
        style, fact = (at_layer(facts, kind, measure, layer) for kind in (STYLE, FACT))
        if style["low"] <= fact["high"] and fact["low"] <= style["high"]:
            layers.append(layer)
    return f"style from facts (ranges meet at layers {listed(layers)})" if layers else ""


def _overlap_row(facts: Facts) -> tuple[Any, ...]:
    records = [r for world in facts["worlds"] for r in world["overlaps"]]
    below = sum(r["style_fact"] < min(r["style_seeds"], r["fact_seeds"]) for r in records)
    within = sum(min(r["random"]) <= r["style_fact"] <= max(r["random"]) for r in records)
    haar, random, found = (overlap_at(facts, w, facts["layer"]) for w in ("haar", "random", "style_fact"))
    sees, misses = [], []
    if below:
        sees.append(f"two different changes: below the overlap of two seeds in {below} of {len(records)}")
    if within:
        misses.append(
            f"more than chance: within the range of two random adapters in {within} of {len(records)}"
        )
    if random["low"] > haar["value"]:
        misses.append(
            f"the floor, if that is uniform directions ({digits(haar['value'])}): random adapters share "
            f"{spread(random)}"
        )
    return ("overlap, style against facts", found, found, random, listed_parts(sees), listed_parts(misses))


def _seed_row(facts: Facts) -> tuple[Any, ...]:
    layer = facts["layer"]
    seeds = [overlap_at(facts, f"{kind}_seeds", layer) for kind in (STYLE, FACT)]
    halves = [overlap_at(facts, f"{kind}_halves", layer) for kind in (STYLE, FACT)]
    random = overlap_at(facts, "random", layer)
    sees = (
        "the ceiling that training leaves; halves of the documents would put it at "
        f"{spread(halves[0])} and {spread(halves[1])}"
    )
    style, fact = (spread(_least(facts, kind)) for kind in (STYLE, FACT))
    misses = f"that the seeds do the same: each does at least {style} of the style, {fact} of the facts"
    return ("overlap of two seeds", *seeds, random, sees, misses)


def _least(facts: Facts, kind: str) -> Number:
    """What the weaker seed of each world does of its behaviour."""
    what = "style" if kind == STYLE else "new"
    return over(
        min(a["readings"][what] for a in world["adapters"].values() if a["kind"] == kind)
        for world in facts["worlds"]
    )


def _ablation_row(facts: Facts, place: int | str) -> tuple[Any, ...]:
    own, other, haar = (_without(facts, STYLE, basis, place) for basis in ("own", FACT, "Haar"))
    own_facts, other_facts, haar_facts = (_without(facts, FACT, b, place) for b in ("own", STYLE, "Haar"))
    kept = cell(facts, STYLE, "ablate", "own", place)["kept"]
    found = (
        (own["high"] < LARGE, "style ends without its own directions", own),
        (other["low"] > LARGE, "style goes on without the fact adapter's", other),
        (kept["low"] > LARGE, "the facts stay when the style's are gone", kept),
        (own_facts["high"] < LARGE, "new facts end without their own directions", own_facts),
        (other_facts["low"] > LARGE, "new facts go on without the style adapter's", other_facts),
        (min(haar["low"], haar_facts["low"]) > LARGE, "both go on without as many uniform ones", haar_facts),
    )
    return (
        f"behaviour without the top-{facts['k']} directions, {where(place)}",
        own,
        own_facts,
        haar,
        listed_parts(f"{text} ({spread(n)})" for true, text, n in found if true),
        listed_parts([f"not so: {text} ({spread(n)})" for true, text, n in found if not true]),
    )


def _keep_row(facts: Facts) -> tuple[Any, ...]:
    layer, k = facts["layer"], facts["k"]
    style = cell(facts, STYLE, "keep", "own", layer)["style"]
    fact = cell(facts, FACT, "keep", "own", layer)
    haar = cell(facts, STYLE, "keep", "Haar", layer)["style"]
    sees, misses = [], []
    if style["low"] > haar["high"]:
        sees.append(f"{k} directions carry {spread(style)} of the style, uniform ones {spread(haar)}")
    else:
        misses.append(
            f"how much of the style is these directions: with uniform ones later blocks make {spread(haar)} of it"
        )
    energy, left = fact["energy"], fact["new"]
    if energy["low"] > left["high"]:
        sees.append(
            f"energy is not function: {spread(energy)} of E|d|² carry {spread(left)} of the new facts"
        )
    name = f"behaviour with nothing but the top-{k} directions, {where(layer)}"
    return (name, style, left, haar, listed_parts(sees), listed_parts(misses))


def _without(facts: Facts, adapter: str, basis: str, place: int | str) -> Number:
    what = "style" if adapter == STYLE else "new"
    return cell(facts, adapter, "ablate", basis, place)[what]


def where(place: int | str) -> str:
    """Name a block, or all of them."""
    return "every layer" if place == "all" else f"layer {place}"


def spread(number: Number) -> str:
    """A number in a sentence, with its range where there is one."""
    places = decimals([number["high"]])
    value, low, high = (digits(float(number[key]), places=places) for key in ("value", "low", "high"))
    return value if low == high else f"{value} [{low}, {high}]"


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
