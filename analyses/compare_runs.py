"""Several diffs side by side: what their adapters have in common, and what differs.

Every overlap of two runs stands between a floor and two ceilings. The floor: random adapters of the one run
against random adapters of the other, which were drawn apart. The ceilings: how well each run agrees with
itself over halves of its documents; and, where several adapters differ in nothing but the seed of their training,
how well those agree with each other, since no two recipes can be expected to agree better than one does with itself.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from analyses.diff_runs import DiffRun
from analyses.run_names import short_names
from geometry.checks import DataError
from geometry.common_subspace import common_directions, spectrum_cosine
from geometry.nulls import Null, between_chance_and_ceiling, haar_overlap
from geometry.spectra import Spectrum
from geometry.subspaces import overlap, principal_angles

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Facts = dict[str, Any]
    Measure = Callable[[Spectrum, Spectrum], float]


def compare_runs(folders: Sequence[Path], seeds: Sequence[Sequence[int]] = ()) -> Facts:
    """Compare what several runs of ``repgeo diff`` found.

    Args:
        folders: two or more runs of one base.
        seeds: numbers of runs, from 1 in the order given, whose adapters differ in nothing but the seed of their
            training; those that our training made are found without.

    Returns:
        Facts, JSON-able: ``runs``; ``families`` of runs that differ in their seed alone; ``pairs``, one record
        for every two runs and group of texts, by layer and over layers; ``common``, what all runs share at
        each group and layer; ``ranks`` and ``scores``, copied from the runs' reports.

    Raises:
        DataError: fewer than two runs, one given twice, or a folder that is no run of a diff; runs of other
            bases or widths, or without a group and layer in common; numbers in ``seeds`` that are not those of
        two runs or more.
    """
    runs = _as_told(_read(folders), seeds)
    groups, layers = _shared(runs)
    k = min(run.k for run in runs)
    families = _families(runs)
    pairs = [
        _pair(one, other, group, layers, k)
        for group in groups
        for one, other in itertools.combinations(runs, 2)
    ]
    for pair in pairs:
        pair["family"] = next(
            (f for f, own in families.items() if {pair["one"], pair["other"]} <= set(own)), None
        )
    _set_seed_ceilings(pairs, families)
    return {
        "base": runs[0].base_name,
        "width": runs[0].width,
        "k": k,
        "groups": groups,
        "layers": layers,
        "runs": [_described(run, runs[0], groups) for run in runs],
        "families": {name: own for name, own in families.items() if len(own) > 1},
        "pairs": pairs,
        "common": [_common(runs, group, layer, k) for group in groups for layer in layers],
        "ranks": [rank for run in runs for rank in _ranks(run, groups, layers)],
        "scores": [{"run": run.name, **run.facts["scores"]} for run in runs if "scores" in run.facts],
    }


def _read(folders: Sequence[Path]) -> list[DiffRun]:
    if len(folders) < 2:
        raise DataError("one run has nothing to be compared with; name two or more folders of `repgeo diff`")
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise DataError("a run is given twice; every number would be that of a run with itself")
    runs = [DiffRun.read(name, folder) for name, folder in short_names(folders).items()]
    # a run's folder is often called after a hash; its adapter says more, where all have adapters of their own
    adapters = [run.adapter for run in runs]
    if len({adapter.resolve() for adapter in adapters}) == len(runs):
        runs = [replace(run, name=name) for run, name in zip(runs, short_names(adapters), strict=True)]
    first = runs[0]
    for run in runs[1:]:
        if run.base != first.base:
            raise DataError(
                f"{run.folder}: is about another base ({run.base_name}) than {first.folder} ({first.base_name}); "
                "directions of different bases have nothing in common but chance"
            )
        if run.width != first.width:
            raise DataError(f"{run.folder}: has rows of {run.width} numbers, {first.folder} of {first.width}")
    return runs


def _as_told(runs: list[DiffRun], seeds: Sequence[Sequence[int]]) -> list[DiffRun]:
    """Take the user's word on which runs are seeds of one recipe."""
    told: dict[int, str] = {}
    for family in seeds:
        if len(set(family)) < 2 or not all(1 <= i <= len(runs) and i not in told for i in family):
            raise DataError(
                f"--seeds {','.join(map(str, family))}: give two or more of the runs 1 to {len(runs)}, each once"
            )
        told |= dict.fromkeys(family, f"told {family}")
    return [replace(run, recipe=told.get(i, run.recipe)) for i, run in enumerate(runs, 1)]


def _shared(runs: Sequence[DiffRun]) -> tuple[list[str], list[int]]:
    """Groups and layers that all runs have, in the order of the first."""
    places = set.intersection(*(set(run.moved) for run in runs))
    groups = [group for group in runs[0].texts if any(place[0] == group for place in places)]
    layers = sorted({layer for _, layer in places})
    if not places or any((group, layer) not in places for group in groups for layer in layers):
        have = "; ".join(
            f"{run.name}: groups {', '.join(run.texts)}, layers {sorted({layer for _, layer in run.moved})}"
            for run in runs
        )
        raise DataError(
            f"the runs have no group and layers in common ({have}); run diff alike for all of them"
        )
    return groups, layers


def _families(runs: Sequence[DiffRun]) -> dict[str, list[str]]:
    """Runs that differ in the seed of their training alone; a run of unknown origin is its own family."""
    found: dict[str, list[str]] = {}
    for run in runs:
        found.setdefault(run.recipe or run.name, []).append(run.name)
    labels = [_label(own) for own in found.values()]
    return {
        label if labels.count(label) == 1 else f"{own[0]} and its seeds": own
        for label, own in zip(labels, found.values(), strict=True)
    }


def _label(names: list[str]) -> str:
    """Name seeds after how their names begin."""
    if len(names) == 1:
        return names[0]
    alike = itertools.takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    return "".join(letters[0] for letters in alike).rstrip("-_/. 0123456789") or f"{names[0]} and its seeds"


def _described(run: DiffRun, first: DiffRun, groups: Sequence[str]) -> Facts:
    return {
        "name": run.name,
        "folder": str(run.folder),
        "adapter": str(run.adapter),
        "seed": run.seed,
        "recipe": run.recipe,
        "k": run.k,
        "random_adapters": len(next(iter(run.moved.values())).randoms),
        "other_texts": [group for group in groups if run.texts[group] != first.texts[group]],
    }


def _pair(one: DiffRun, other: DiffRun, group: str, layers: Sequence[int], k: int) -> Facts:
    """Two runs on one group: each layer, and means over layers, for which no layer was picked."""
    by_layer, totals = [], []
    for layer in layers:
        a, b = one.moved[group, layer], other.moved[group, layer]
        found = {name: _measured(a, b, measure) for name, measure in _measures(k).items()}
        totals.append(found)
        mean, sd = haar_overlap(one.width, k, k)
        by_layer.append({
            "layer": layer,
            **{
                name: _record(*numbers, min(len(a.randoms), len(b.randoms)))
                for name, numbers in found.items()
            },
            "chance": {"mean": mean, "low": max(0.0, mean - 1.96 * sd), "high": mean + 1.96 * sd},
            "angles": np.degrees(principal_angles(_top(a.whole, k), _top(b.whole, k))).tolist(),
            "mean_cosine": _mean_cosine(a.mean, b.mean),
            "size_ratio": float(np.sqrt(a.trace / b.trace)),
        })
    least = min(len(run.moved[group, layer].randoms) for run in (one, other) for layer in layers)
    over = {
        name: [np.mean(part, axis=0) for part in zip(*(t[name] for t in totals), strict=True)]
        for name in totals[0]
    }
    return {
        "group": group,
        "one": one.name,
        "other": other.name,
        "layers": by_layer,
        "over_layers": {name: _record(*numbers, least) for name, numbers in over.items()}
        | {"mean_cosine": _over_layers([r["mean_cosine"]["value"] for r in by_layer], one.width)},
    }


def _measures(k: int) -> dict[str, Measure]:
    return {
        "overlap": lambda one, other: overlap(_top(one, k), _top(other, k)),
        "energy_cosine": spectrum_cosine,
    }


def _top(found: Spectrum, k: int) -> NDArray[np.float64]:
    return found.vectors[:, :k]


def _measured(one: Any, other: Any, measure: Measure) -> tuple[float, NDArray[np.float64], float]:
    """A number, the same of pairs of random adapters, and its ceiling by documents.

    Random adapters of the same number come from the same draws where both runs had the same seed, and would
    agree for that reason alone: they are never paired.
    """
    samples = [
        measure(a, b)
        for (i, a), (j, b) in itertools.product(enumerate(one.randoms), enumerate(other.randoms))
        if i != j
    ]
    within = [measure(*run.halves) for run in (one, other)]
    return measure(one.whole, other.whole), np.array(samples), float(np.sqrt(within[0] * within[1]))


def _record(value: float, samples: NDArray[np.float64], ceiling: float, n: int) -> Facts:
    """A number between its null and its ceiling; the null counts as many samples as there are adapters.

    n (n - 1) pairs are made of n adapters on each side, and are not as good as so many independent draws.
    """
    record: Facts = {"value": float(value), "ceiling": float(ceiling)}
    if n < 2 or len(samples) < 2:
        return record
    null = Null(float(value), float(samples.mean()), float(samples.std(ddof=1)), np.nan, n)
    low, high = null.band
    record["null"] = {
        "mean": null.mean, "sd": null.sd, "low": max(0.0, low), "high": high, "n": n, "pairs": len(samples),
        "verdict": null.verdict(),
    }  # fmt: skip
    record["between"] = between_chance_and_ceiling(float(value), chance=null.mean, ceiling=float(ceiling))
    return record


def _mean_cosine(one: NDArray[np.float64], other: NDArray[np.float64]) -> Facts:
    """Cosine of two mean shifts; that of random directions has mean 0 and standard deviation 1 / sqrt(d)."""
    norms = float(np.linalg.norm(one) * np.linalg.norm(other))
    if not norms:
        return {"value": None}
    return _with_direction_band(one @ other / norms, len(one))


def _over_layers(cosines: list[float | None], width: int) -> Facts:
    known = [value for value in cosines if value is not None]
    return _with_direction_band(np.mean(known), width) if known else {"value": None}


def _with_direction_band(value: float, width: int) -> Facts:
    """A cosine beside that of two random directions; the mean of several, if they were one, is no farther out."""
    high = 1.96 / float(np.sqrt(width))
    verdict = "above" if value > high else "below" if value < -high else "not distinguishable"
    return {"value": float(value), "null": {"mean": 0.0, "low": -high, "high": high, "verdict": verdict}}


def _set_seed_ceilings(pairs: Sequence[Facts], families: dict[str, list[str]]) -> None:
    """Put beside every pair of other recipes how well seeds of one recipe agree there.

    Where both have seeds, the ceiling is the geometric mean of theirs.
    """

    def agreements(family: str, group: str, pick: Callable[[Facts], Facts]) -> list[float]:
        return [pick(p)["value"] for p in pairs if p["family"] == family and p["group"] == group]

    def ceiling(pair: Facts, pick: Callable[[Facts], Facts]) -> Facts | None:
        own = [f for f, names in families.items() if {pair["one"], pair["other"]} & set(names)]
        found = [a for a in (agreements(f, pair["group"], pick) for f in own) if a]
        if not found:
            return None
        flat = list(itertools.chain(*found))
        value = float(np.prod([np.mean(a) for a in found]) ** (1 / len(found)))
        return {"value": value, "low": min(flat), "high": max(flat), "pairs": len(flat)}

    for pair in pairs:
        if pair["family"] is not None:
            continue
        for name in _measures(1):
            pair["over_layers"][name]["seeds"] = ceiling(pair, lambda p, name=name: p["over_layers"][name])
            for i, record in enumerate(pair["layers"]):
                record[name]["seeds"] = ceiling(pair, lambda p, name=name, i=i: p["layers"][i][name])


def _common(runs: Sequence[DiffRun], group: str, layer: int, k: int) -> Facts:
    """What all runs share at one place: directions, how much of each run's energy they hold, and their null."""
    moved = [run.moved[group, layer] for run in runs]
    found = common_directions([_top(m.whole, k) for m in moved])
    record: Facts = {
        "group": group,
        "layer": layer,
        "eigenvalues": found.values[: 2 * k].tolist(),
        "shares": found.shares[: 2 * k].tolist(),
    }
    draws = min(len(m.randoms) for m in moved)
    if draws < max(2, len(runs)):
        return record
    # another number for every run: the same numbers may be the same draws
    by_chance = np.array([
        common_directions([_top(m.randoms[(r + i) % draws], k) for i, m in enumerate(moved)]).values[: 2 * k]
        for r in range(draws)
    ])
    bands = [Null(np.nan, float(s.mean()), float(s.std(ddof=1)), np.nan, draws) for s in by_chance.T]
    low, high = zip(*(b.band for b in bands), strict=True)
    record["null"] = {"mean": [b.mean for b in bands], "low": list(low), "high": list(high), "n": draws}
    above = np.array(record["eigenvalues"]) > np.array(high)
    beyond = len(above) if above.all() else int(np.argmin(above))
    dims = min(found.shared_by_all(), beyond)
    record["dimensions"] = dims
    record["inside"] = {
        run.name: float(
            m.whole.values @ np.sum((m.whole.vectors.T @ found.vectors[:, :dims]) ** 2, axis=1) / m.trace
        )
        for run, m in zip(runs, moved, strict=True)
    }
    return record


def _ranks(run: DiffRun, groups: Sequence[str], layers: Sequence[int]) -> list[Facts]:
    return [
        {"run": run.name, **{key: m[key] for key in ("group", "layer", "value", "null") if key in m}}
        for m in run.diff_facts["measures"]
        if m["measure"] == "effective_rank" and m["group"] in groups and m["layer"] in layers
    ]
