"""The numbers of a diff by layer: each a record with its null and, where there is one, its ceiling.

A measure is a function of a :class:`~analyses.diff_measures.Side`; it is taken of the adapter and, in the same
way, of every random adapter. Measures of the differences alone hold for sketches too; the others need exact
moments and are left out where there are none.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from geometry.familywise import max_over
from geometry.nulls import activation_shaped_overlaps, haar_overlap, null_of, p_two_sided
from geometry.spectra import (
    effective_rank,
    participation_ratio_about_zero_unbiased,
    participation_ratio_unbiased,
    rank_for_energy,
    spectrum,
    stable_rank,
)
from geometry.subspaces import overlap, principal_angles
from geometry.turns import turns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analyses.diff_kept import Kept
    from analyses.diff_measures import Side, Sides, Tally
    from geometry.moments import PairedStats

Record = dict[str, Any]

SHOWN_VALUES = 24
"""How many eigenvalues of a spectrum are kept for the page."""

SHAPED_DRAWS = 200
"""Pairs of activation-shaped random subspaces behind an overlap's second null."""


def of_differences(side: Side) -> dict[str, float]:
    """What a side's differences say on their own."""
    values = side.moved.values
    return {
        "mean_share": side.stats.mean_shift_share_unbiased,
        "effective_rank": effective_rank(values),
        "stable_rank": stable_rank(values),
        "k90": float(rank_for_energy(values, 0.9)),
    }


def of_pairs(side: Side) -> dict[str, float | None]:
    """What takes exact moments of base and difference together."""
    stats = side.stats
    return {
        "relative_energy": stats.mean_square_diff / float(np.trace(stats.cov_base)),
        "whitened_size": whitened_size(stats, side),
        "effective_rank_centred": effective_rank(spectrum(stats.cov_diff).values),
        "participation": participation_ratio_about_zero_unbiased(stats) if side.active else 0.0,
        "participation_centred": participation_ratio_unbiased(stats) if side.active else 0.0,
        **turned(side),
    }


def whitened_size(stats: PairedStats, side: Side) -> float:
    """Root mean square of the difference in units of the base's own spread, over all directions alike.

    sqrt(tr(C_s^-1 E[d d^T]) / w), C_s the base covariance shrunk towards its mean eigenvalue by the share that
    Ledoit and Wolf (2004, "A well-conditioned estimator for large-dimensional covariance matrices", lemma 3.1)
    find in the data. 1 would be a difference as large as the base's own variation in every direction.
    """
    values, vectors = side.principal.values, side.principal.vectors
    shrunk = shrinkage(stats)
    metric = (1 - shrunk) * values + shrunk * values.mean()
    along = np.einsum("dm,de,em->m", vectors, stats.second_diff, vectors, optimize=True)
    return float(np.sqrt(np.sum(np.maximum(along, 0.0) / metric) / len(metric)))


def shrinkage(stats: PairedStats) -> float:
    """Ledoit and Wolf's share of the identity in an estimated Cov(x), in (0, 1].

    min(1, (E|x|^4 - ||C||^2) / (n ||C - mu I||^2)), x about its mean, mu = tr C / w. At least 1e-6, so that a
    covariance without full rank can be inverted.
    """
    square = float(np.sum(stats.cov_base**2))
    spread = square - float(np.trace(stats.cov_base)) ** 2 / len(stats.cov_base)
    noise = (float(stats.quartic[0, 0]) - square) / stats.n
    return float(np.clip(noise / spread, 1e-6, 1.0)) if spread > 0 else 1.0


def turned(side: Side) -> dict[str, float]:
    """Mean principal angles in degrees between base and adapted top-k subspaces, three ways."""
    if not side.active:
        # the same matrix twice; rounding must not make an angle of it
        return {"turn": 0.0, "turn_trimmed": 0.0, "turn_whitened": 0.0}
    return _degrees(side.stats.cov_base, side.stats.cov_adapted, side.k)


def _degrees(one: np.ndarray, other: np.ndarray, k: int) -> dict[str, float]:
    found = turns(one, other, k)
    named = {"turn": found.raw, "turn_trimmed": found.trimmed, "turn_whitened": found.whitened}
    return {name: float(np.degrees(angles).mean()) for name, angles in named.items()}


def record(
    measure: str,
    group: str,
    layer: int,
    value: float | None,
    null: Sequence[float | None] | None = None,
    **more: Any,
) -> Record:
    """Write one number down with its floor, in the form that every figure and table reads.

    Args:
        measure: its name.
        group: of the texts, or the pair of groups.
        layer: block number.
        value: the number; None where it cannot be told.
        null: the same measurement of each random adapter; a floor needs at least 2 of them.
        **more: whatever else belongs to the number.

    Returns:
        ``measure``, ``group``, ``layer``, ``value``, the rest, and ``null`` with ``mean``, ``low`` and ``high`` of
        its 95 % band, ``samples``, two-sided ``p``, ``n`` and ``verdict``, unless a number is missing.
    """
    made = {"measure": measure, "group": group, "layer": layer, "value": value, **more}
    floor = floor_under(value, null)
    return made | ({"null": floor} if floor else {})


def floor_under(value: float | None, samples: Sequence[float | None] | None) -> Record | None:
    """Null of a number from samples of it; None where a number is missing or there are fewer than two."""
    if value is None or not samples or len(samples) < 2 or any(s is None for s in samples):
        return None
    found = null_of(value, samples)
    return {
        "mean": found.mean,
        "low": found.band[0],
        "high": found.band[1],
        "samples": list(samples),
        "p": p_two_sided(value, samples),
        "n": found.n,
        "verdict": found.verdict(),
    }


def measures(sides: Sides, tally: Tally, *, group: str, layer: int) -> list[Record]:
    """Read everything off the sides of one group at one layer, with nulls."""
    records = [_size(tally, sides.whole.stats.n, group, layer)]
    for taken in (of_differences, of_pairs) if sides.whole.exact else (of_differences,):
        whole, randoms = taken(sides.whole), [taken(side) for side in sides.randoms]
        records += [
            record(name, group, layer, value, [found[name] for found in randoms], n=sides.whole.stats.n)
            for name, value in whole.items()
        ]
    if sides.whole.exact:
        _add_sampling(records, sides)
    if sides.whole.active:
        chance = haar_overlap(tally.width, sides.whole.k, sides.whole.k)[0]
        more = {"n": sides.whole.stats.n, "chance": chance, "unseen": sides.whole.unseen}
        records.append(record("split_half", group, layer, sides.reliability, **more))
    return records


def _size(tally: Tally, n: int, group: str, layer: int) -> Record:
    sizes = [h.answer().median for h in tally.sizes]
    sinks = tally.sink_sizes.answer()
    median = sinks.median if sinks.n else None
    return record("size", group, layer, sizes[0], sizes[1:], n=n, sinks=sinks.n, sink_median=median)


def _add_sampling(records: list[Record], sides: Sides) -> None:
    """Put beside each turn what two halves of the base's own documents give, and the gap at k."""
    first, second = (half.stats.cov_base for half in sides.halves)
    floor = _degrees(first, second, sides.whole.k)
    found = turns(sides.whole.stats.cov_base, sides.whole.stats.cov_adapted, sides.whole.k)
    for one in records:
        if one["measure"] in floor:
            one["sampling"] = floor[one["measure"]]
            one["gap"] = found.gap_trimmed if one["measure"] == "turn_trimmed" else found.gap
            one["dropped"] = found.dropped


def between(first: Kept, second: Kept, name: str, layer: int, *, rng: np.random.Generator) -> list[Record]:
    """Overlap of two groups' difference subspaces, between chance, nulls and ceiling."""
    if not (first.active and second.active):
        return []
    a, b = first.subspace(), second.subspace()
    null = [overlap(first.subspace(side), second.subspace(side)) for side in first.randoms]
    chance, chance_sd = haar_overlap(len(a), first.k, second.k)
    angles = np.degrees(principal_angles(a, b))
    spread = (first.base_values + second.base_values) / 2
    shaped = activation_shaped_overlaps(spread, first.k, second.k, n=SHAPED_DRAWS, rng=rng)
    value = overlap(a, b)
    more = {
        "n": min(first.n, second.n),
        "ceiling": float(np.sqrt(first.reliability * second.reliability)),
        "chance": chance,
        "chance_sd": chance_sd,
        "shaped": floor_under(value, shaped.tolist()),
        "angles": [float(angle) for angle in angles],
    }
    return [record("overlap", name, layer, value, null, **more)]


def spectrum_record(sides: Sides, *, group: str, layer: int) -> Record:
    """Shares of E|d|^2 along each direction, largest first, for the adapter and each random one."""

    def shares(side: Side) -> list[float]:
        values = side.moved.values
        return [float(v) for v in (values / (side.stats.mean_square_diff or 1.0))[:SHOWN_VALUES]]

    null = [shares(side) for side in sides.randoms]
    return {"group": group, "layer": layer, "values": shares(sides.whole), "null": null}


def over_layers(records: Sequence[Record]) -> list[Record]:
    """Correct every measure for having been looked at in many layers.

    Args:
        records: of all measures, groups and layers.

    Returns:
        ``measure``, ``group``, ``layer`` where the number lies farthest out, and the rest of
        :class:`geometry.familywise.MaxNull`, one record for each measure and group that has a null everywhere.
    """
    found = []
    for (measure, group), family in _families(records).items():
        answer = asdict(max_over(*_matrix(family)))
        where = family[answer.pop("where")]["layer"]
        found.append({"measure": measure, "group": group, "layer": where, **answer})
    return found


def told_apart(records: Sequence[Record], measures: Sequence[str]) -> Record | None:
    """Ask once whether the adapter can be told from random ones of the same strength, over everything.

    Args:
        records: of all measures, groups and layers.
        measures: the family of measures; all layers and groups of them are looked at together.

    Returns:
        ``measure``, ``group``, ``layer`` and ``value`` of the number that lies farthest out, ``looked_at``, the
        rest of :class:`geometry.familywise.MaxNull`, and ``apart``: whether no random adapter lies as far out
        *and* the chance of it is at most 5 % if the random ones are normal. None without a null.
    """
    family = [one for (name, _), ones in _families(records).items() if name in measures for one in ones]
    if not family:
        return None
    answer = asdict(max_over(*_matrix(family)))
    farthest = family[answer.pop("where")]
    apart = answer["p_normal"] <= 0.05 and answer["p"] <= 1.5 / (1 + answer["n"])
    place = {key: farthest[key] for key in ("measure", "group", "layer", "value")}
    return {**place, "looked_at": len(family), "mean": farthest["null"]["mean"], "apart": apart, **answer}


def _families(records: Sequence[Record]) -> dict[tuple[str, str], list[Record]]:
    """(measure, group) -> its records, where every layer has a null."""
    families: dict[tuple[str, str], list[Record]] = {}
    for one in records:
        families.setdefault((one["measure"], one["group"]), []).append(one)
    return {key: ones for key, ones in families.items() if all("null" in one for one in ones)}


def _matrix(family: Sequence[Record]) -> tuple[np.ndarray, np.ndarray]:
    """Observed numbers (L,), and the same of each random adapter (n, L): one adapter a row."""
    samples = np.array([one["null"]["samples"] for one in family]).T
    return np.array([one["value"] for one in family]), samples
