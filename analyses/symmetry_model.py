"""How far the states of a model follow the geometry that a corpus predicts: scores of every layer, with nulls.

Scores are those of the cloud of items averaged over templates, at every layer and position; intervals come from
leaving out one template at a time, nulls from shuffled labels, the same shuffles everywhere, so that p values are
corrected for having looked at all of them. Other words in the same templates and models of random weights stand
beside them. What is looked at more closely, at the place that the verdict judges, is in
:mod:`analyses.symmetry_closeup`.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from analyses.concepts import LEAST_ITEMS
from analyses.symmetry_closeup import closeup
from analyses.symmetry_probes import probed
from analyses.symmetry_read import over_contexts
from geometry.checks import DataError, ShapeError
from geometry.cloud_scores import ALIGNMENT, CURVE, FIRST, ISOTROPY, cloud_scores, jackknife, nearness
from geometry.familywise import max_over
from geometry.label_nulls import shuffled_correlations
from geometry.rsa import rsa
from geometry.verdict import judge_clouds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from analyses.symmetry_held import Held
    from analyses.symmetry_read import ModelRead

    Array = NDArray[np.float64]
    Place = tuple[str, int]

NEARNESS = "nearness"
"""Spearman correlation of minus squared distances in the cloud with minus distances of the layout."""

PARTIAL = "partial"
"""The same given spelling, frequency and tokens."""

CORPUS = "corpus"
"""Spearman correlation of minus squared distances in the cloud with M* of the corpus."""

SCORES = (ALIGNMENT, FIRST, ISOTROPY, CURVE, NEARNESS, PARTIAL)
"""Those that have a null of shuffled labels."""

MAP_DRAWS = 200
"""Shuffles, the true order among them, of the maps of layers and templates."""


def model_facts(read: ModelRead, held: Held, rng: np.random.Generator) -> dict[str, Any]:
    """Score a model on one concept.

    Args:
        read: its states.
        held: what they are held against.
        rng: source of chance.

    Returns:
        JSON values: ``positions``, ``layers``, ``templates``, ``tokens`` (how items are cut), ``nuisances``,
        ``kernel`` (that is predicted with), ``scores`` (position -> score -> ``values``, ``low``, ``high``,
        ``null``, ``p``, ``adjusted``, ``untrained`` and ``other``, a number a layer each; None where the items
        are all equal), ``probes`` (of the same form), ``static``, ``maps`` (of layers and templates),
        ``verdict``, ``at`` (the place that it judged), ``closeup`` and ``without_ambiguous``.

    Raises:
        DataError: the items are equal everywhere.
    """
    nuisances = held.nuisances(read.tokens.ids)
    means = over_contexts(read.states, read.positions)
    clouds = _clouds(means)
    samples = _scored(clouds, held, nuisances.matrices)
    judged = [place for place in clouds if place in samples[ALIGNMENT]]
    verdict, at = _verdict([clouds[place] for place in judged], judged, held, nuisances.matrices, rng)
    without = _left_out(read, held)
    return {
        "positions": list(read.positions),
        "layers": list(read.layers),
        "templates": list(read.contexts),
        "tokens": {
            "split": read.tokens.split,
            "shared": read.tokens.shared,
            "same_end": read.tokens.same_end,
            "unknown": read.tokens.unknown,
        },
        "nuisances": {"taken_out": list(nuisances.matrices), "equal": list(nuisances.left_out)},
        "kernel": held.kernel_record,
        "scores": _series(read, samples, without, held),
        "probes": probed(read, means, held, rng),
        "static": {name: _true(table, held) for name, table in read.static.items()},
        "maps": _maps(read, held),
        "verdict": verdict,
        "at": {"position": at[0], "layer": at[1]},
        "closeup": closeup(clouds[at], held, nuisances.matrices, rng),
        "without_ambiguous": _without_ambiguous(read, held, nuisances.matrices, judged, rng),
    }


def _clouds(means: Mapping[str, NDArray[np.float32]]) -> dict[Place, Array]:
    """Cloud of items at each position and layer, in the order of the layers."""
    return {
        (position, at - 1): layer.astype(np.float64)
        for position, layers in means.items()
        for at, layer in enumerate(layers)
    }


def _scored(
    clouds: Mapping[Place, Array], held: Held, nuisances: Mapping[str, Array]
) -> dict[str, dict[Place, Array]]:
    """Score -> place -> values, the true order first; places where the items are equal are not in it."""
    found: dict[str, dict[Place, Array]] = {score: {} for score in SCORES}
    near = {}
    for place, cloud in clouds.items():
        try:
            scores = cloud_scores(cloud, held.expected, held.orders)
        except ShapeError:  # the items are equal here, or nearly
            continue
        near[place] = nearness(cloud)
        for score, values in scores.items():
            found[score][place] = values
    if not near:
        raise DataError(
            f"{held.concept.name}: all items are equal to the model in every template; change them"
        )
    for score, given in ((NEARNESS, []), (PARTIAL, list(nuisances.values()))):
        try:
            columns = shuffled_correlations(list(near.values()), held.layout, held.orders, given)
        except ShapeError:  # nothing is left once they are taken out
            continue
        found[score] = dict(zip(near, columns.T, strict=True))
    return found


def _true(cloud: NDArray[np.floating[Any]], held: Held) -> dict[str, float] | None:
    """Scores of the true order alone; None where the items are equal."""
    cloud = cloud.astype(np.float64)
    try:
        scores = cloud_scores(cloud, held.expected, np.arange(held.layout.n)[None])
        near = nearness(cloud)
        return {score: float(values[0]) for score, values in scores.items()} | {
            NEARNESS: rsa(near, -held.layout.distance),
            CORPUS: rsa(near, held.block),
        }
    except ShapeError:
        return None


def _left_out(read: ModelRead, held: Held) -> dict[Place, list[dict[str, float] | None]]:
    """Scores with one template left out at a time."""
    found = {}
    for position, states in read.states.items():
        total = states.astype(np.float64).sum(axis=1)
        for at, layer in enumerate(read.layers):
            found[position, layer] = [
                _true((total[at] - states[at, t]) / (states.shape[1] - 1), held)
                for t in range(states.shape[1])
            ]
    return found


def _series(
    read: ModelRead,
    samples: Mapping[str, Mapping[Place, Array]],
    without: Mapping[Place, Sequence[dict[str, float] | None]],
    held: Held,
) -> dict[str, dict[str, dict[str, list[Any]]]]:
    """Position -> score -> columns of one entry a layer."""
    means = over_contexts(read.states, read.positions)
    true = {place: _true(cloud, held) for place, cloud in _clouds(means).items()}
    other = {place: _true(cloud, held) for place, cloud in _clouds(read.other).items()}
    untrained = [{p: _true(c, held) for p, c in _clouds(one).items()} for one in read.untrained]
    adjusted = {score: _adjusted(found) for score, found in samples.items()}
    series: dict[str, dict[str, dict[str, list[Any]]]] = {}
    for position in read.positions:
        series[position] = {}
        for score in (*SCORES, CORPUS):
            if score != CORPUS and not samples[score]:
                continue
            entries = [
                _entry(
                    score,
                    samples.get(score, {}).get((position, layer)),
                    true[position, layer],
                    without[position, layer],
                )
                | {
                    "adjusted": adjusted.get(score, {}).get((position, layer)),
                    "other": (other.get((position, layer)) or {}).get(score),
                    "untrained": [(one[position, layer] or {}).get(score) for one in untrained],
                }
                for layer in read.layers
            ]
            series[position][score] = {key: [entry[key] for entry in entries] for key in entries[0]}
    return series


def _entry(
    score: str,
    samples: Array | None,
    true: Mapping[str, float] | None,
    without: Sequence[Mapping[str, float] | None],
) -> dict[str, Any]:
    entry: dict[str, Any] = dict.fromkeys(("value", "low", "high", "null", "p"))
    if samples is not None:
        null = np.sort(samples[1:])
        entry["value"] = float(samples[0])
        low, high = np.quantile(null, [0.025, 0.975])
        entry["null"] = {"mean": float(null.mean()), "low": float(low), "high": float(high)}
        # orders that tie with the true one differ from it by rounding
        entry["p"] = float(1 + np.sum(null >= samples[0] - 1e-9)) / (1 + len(null))
    elif true is not None and score in true:
        entry["value"] = true[score]
    left = [one[score] for one in without if one is not None and score in one]
    if entry["value"] is not None and len(left) == len(without):
        low, high = jackknife(entry["value"], left)
        least = -1.0 if score in {NEARNESS, CORPUS} else 0.0
        entry["low"], entry["high"] = max(least, low), min(1.0, high)
    return entry


def _adjusted(samples: Mapping[Place, Array]) -> dict[Place, float]:
    """P values corrected for having looked at every place; what is weaker than chance shows nothing."""
    if not samples:
        return {}
    table = np.column_stack(list(samples.values()))
    chances = max_over(table[0], table[1:]).adjusted
    weaker = table[0] <= table[1:].mean(axis=0)
    return {place: 1.0 if low else p for place, p, low in zip(samples, chances, weaker, strict=True)}


def _verdict(
    clouds: Sequence[Array],
    places: Sequence[Place],
    held: Held,
    nuisances: Mapping[str, Array],
    rng: np.random.Generator,
) -> tuple[dict[str, Any], Place]:
    found = judge_clouds(clouds, held.expected.modes, held.layout, nuisances, rng)
    assert found.where is not None
    at = places[found.where]
    said = f"at {at[0]}, {'the embedding' if at[1] < 0 else f'layer {at[1]}'}"
    gates = [
        asdict(gate) | {"because": gate.because.replace(f"at cloud {found.where}", said)}
        for gate in found.gates
    ]
    failed = [gate for gate in gates if not gate["passed"]]
    sentence = (
        "shows the symmetry"
        if found.shown
        else "not shown: fails " + "; ".join(f"{gate['name']} ({gate['because']})" for gate in failed)
    )
    return {"gates": gates, "shown": found.shown, "failed": list(found.failed), "sentence": sentence}, at


def _maps(read: ModelRead, held: Held) -> dict[str, Any]:
    """Scores of every layer, template and position, and the most that shuffled labels reach in any context."""
    orders = held.orders[:MAP_DRAWS]
    scores = (FIRST, ISOTROPY, ALIGNMENT) if held.layout.kind == "cycle" else (ALIGNMENT,)
    values: dict[str, dict[str, Any]] = {score: {} for score in scores}
    most = {score: np.full(len(orders), -np.inf) for score in scores}
    for position in read.positions:
        rows = list(np.moveaxis(read.states[position], 1, 0))
        rows += [read.bare[position]] if position in read.bare else []
        table: dict[str, list[list[float | None]]] = {score: [] for score in scores}
        for template in rows:
            found = [_shuffled(layer, held, orders) for layer in template]
            for score in scores:
                table[score].append([None if one is None else float(one[score][0]) for one in found])
                columns = [one[score] for one in found if one is not None]
                if template is not read.bare.get(position):
                    most[score] = np.max([most[score], *columns], axis=0)
        for score in scores:
            values[score][position] = table[score]
    rows_named = [*read.contexts, *(["{}"] if read.bare else [])]
    return {"templates": rows_named} | {
        score: {
            "values": values[score],
            "threshold": float(np.quantile(most[score][1:], 0.95)),
            "draws": len(orders) - 1,
        }
        for score in scores
    }


def _shuffled(cloud: NDArray[np.float32], held: Held, orders: NDArray[np.int64]) -> dict[str, Array] | None:
    try:
        return cloud_scores(cloud.astype(np.float64), held.expected, orders)
    except ShapeError:
        return None


def _without_ambiguous(
    read: ModelRead,
    held: Held,
    nuisances: Mapping[str, Array],
    judged: Sequence[Place],
    rng: np.random.Generator,
) -> dict[str, Any] | None:
    """The verdict once more without items that mean other things too."""
    left = [at for at, item in enumerate(held.concept.items) if item not in held.concept.ambiguous]
    if len(left) == len(held.concept.items) or len(left) < LEAST_ITEMS:
        return None
    part = held.only(left)
    clouds = _clouds(over_contexts(read.states, read.positions))
    chosen = {name: matrix[np.ix_(left, left)] for name, matrix in nuisances.items()}
    varying = {name: one for name, one in chosen.items() if np.ptp(one[np.triu_indices(len(left), 1)]) > 0}
    verdict, at = _verdict([clouds[place][left] for place in judged], judged, part, varying, rng)
    return {
        "items": list(held.concept.ambiguous),
        "verdict": verdict,
        "at": {"position": at[0], "layer": at[1]},
    }
