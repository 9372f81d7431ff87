"""The numbers of several worlds as one: means, and the range over the worlds.

With a handful of worlds, and shares that lie at 0 or 1, a t interval would promise what it cannot hold; the
range says what was seen. Pure functions of the facts of :mod:`analyses.world`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from analyses.digits import MISSING, decimals, digits

if TYPE_CHECKING:
    from collections.abc import Iterable

Facts = dict[str, Any]
Number = dict[str, Any]


def over(values: Iterable[float | None]) -> Number:
    """One number from each world: ``value`` (mean), ``low`` and ``high`` (range), ``n``.

    Examples:
        >>> over([1.0, 2.0, 3.0])
        {'value': 2.0, 'low': 1.0, 'high': 3.0, 'n': 3}
    """
    known = [float(v) for v in values if v is not None]
    if not known:
        return {"value": None, "low": None, "high": None, "n": 0}
    return {"value": float(np.mean(known)), "low": min(known), "high": max(known), "n": len(known)}


def reading(facts: Facts, who: str, what: str) -> Number:
    """A reading of the base or of an adapter kind's first seed, over worlds.

    Args:
        facts: of ``repgeo world``.
        who: ``base``, or a kind of adapter.
        what: one of :data:`finetune.world_exam.READINGS`, or ``written``.
    """
    if who == "base":
        return over(world["base"][what] for world in facts["worlds"])
    return over(world["adapters"][f"{who}-0"]["readings"][what] for world in facts["worlds"])


def random_reading(facts: Facts, kind: str, what: str) -> Number:
    """The same of the random adapters that match a kind: each world's mean, and the range over all of them."""
    every = [
        [r[what] for r in world["adapters"][f"{kind}-0"]["random_readings"]] for world in facts["worlds"]
    ]
    return over(np.mean(one) for one in every) | over_ends(every)


def over_ends(every: Iterable[Iterable[float]]) -> Number:
    """The range over everything in every world, as ``low`` and ``high``."""
    flat = [float(x) for one in every for x in one]
    return {"low": min(flat), "high": max(flat)}


def measured(facts: Facts, kind: str, measure: str) -> list[dict[str, Any]]:
    """Every record of a measure: all worlds, layers and seeds of a kind of adapter.

    Args:
        facts: of ``repgeo world``.
        kind: of adapter.
        measure: such as ``size``.

    Returns:
        Records of :func:`analyses.world.measure_world`, each with its ``world``.
    """
    return [
        record | {"world": world["seed"]}
        for world in facts["worlds"]
        for adapter in world["adapters"].values()
        if adapter["kind"] == kind
        for record in adapter["measures"]
        if record["measure"] == measure
    ]


def at_layer(facts: Facts, kind: str, measure: str, layer: int) -> Number:
    """A measure at one layer over worlds, the seeds of a world averaged."""
    records = [r for r in measured(facts, kind, measure) if r["layer"] == layer]
    return over(_by_world(records, lambda r: r["value"]))


def null_at(facts: Facts, kind: str, measure: str, layer: int) -> Number:
    """Its random adapters there: mean over worlds, and the range over all of them in all worlds."""
    records = [r for r in measured(facts, kind, measure) if r["layer"] == layer]
    means = _by_world(records, lambda r: float(np.mean(r["null"]["samples"])))
    return over(means) | over_ends(r["null"]["samples"] for r in records)


def overlap_at(facts: Facts, what: str, layer: int) -> Number:
    """An overlap at one layer over worlds; of the random adapters, each world's mean and the whole range."""
    records = [r for world in facts["worlds"] for r in world["overlaps"] if r["layer"] == layer]
    if what == "random":
        return over(np.mean(r["random"]) for r in records) | over_ends(r["random"] for r in records)
    return over(r[what] for r in records)


def cell(facts: Facts, adapter: str, act: str, basis: str, layer: int | str) -> dict[str, Number]:
    """What a patched copy reads over worlds, draws of one world averaged.

    Args:
        facts: of ``repgeo world``.
        adapter: kind of the adapted model.
        act: ``ablate`` or ``keep``.
        basis: whose directions.
        layer: a block, or ``all``.

    Returns:
        ``energy``, ``style``, ``written``, ``old``, ``new`` and ``kept``.
    """
    wanted = {"adapter": adapter, "act": act, "basis": basis, "layer": layer}
    found = [
        c | {"world": world["seed"]}
        for world in facts["worlds"]
        for c in world["cells"]
        if all(c[key] == value for key, value in wanted.items())
    ]
    names = ("energy", "style", "written", "old", "new", "kept")
    return {name: over(_by_world(found, lambda c, name=name: c[name])) for name in names}


def _by_world(records: Iterable[dict[str, Any]], read: Any) -> list[float]:
    values: dict[int, list[float]] = {}
    for record in records:
        if (value := read(record)) is not None:
            values.setdefault(record["world"], []).append(value)
    return [float(np.mean(one)) for one in values.values()]


def spread(number: Number) -> str:
    """Write a number with its range, where there is one.

    Examples:
        >>> spread(over([0.5, 0.25])), spread(over([1.0, 1.0])), spread(over([]))
        ('0.375 [0.250, 0.500]', '1', '–')
    """
    if number["value"] is None:
        return MISSING
    ends = [float(number[key]) for key in ("value", "low", "high")]
    places = decimals(ends)
    value, low, high = (digits(int(x) if x.is_integer() else x, places=places) for x in ends)
    return value if low == high else f"{value} [{low}, {high}]"
