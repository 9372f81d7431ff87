"""Energy is not function: what part of a change can touch a behaviour, to first order, and which directions do.

Where a group's file asks questions with two answers (facts with foils, pairs of styles), the metric of the behaviour
has a gradient at every state of the base. Its top-k subspace is a third definition of "where the facts are", beside
the differences on fact texts and the differences of a fact adapter; it belongs to the base and the questions alone.
"""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from analyses.floors import against_rest
from finetune.contrasts import read_contrasts
from finetune.gradients import first_order as differentiate
from geometry.agreement import correlation
from geometry.checks import AdapterError, ModelError
from geometry.nulls import between_chance_and_ceiling, haar_overlap
from geometry.spectra import spectrum
from geometry.subspaces import overlap

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from finetune.adapter import Attached
    from finetune.contrasts import Contrast
    from finetune.gradients import FirstOrder
    from geometry.spectra import Spectrum

    Array = NDArray[np.float64]

WIDEST = 3072
"""Widest model whose gradient moments are kept: d^2 numbers for each layer, group and side."""


ITEMS = 256
"""Most questions of a group that are differentiated: each costs a backward pass and every side's forward pass."""


@dataclass(frozen=True, eq=False)
class Leading:
    """The directions that hold most of E[d d^T], largest first.

    Attributes:
        directions: (d, m) orthonormal columns.
        shares: (m,) share of E|d|^2 along each.
    """

    directions: Array
    shares: Array

    @classmethod
    def of(cls, spectrum: Spectrum, m: int) -> Self:
        """The top m of a whole spectrum, or all of one that has fewer."""
        total = float(spectrum.values.sum()) or 1.0
        return cls(spectrum.vectors[:, :m].copy(), spectrum.values[:m] / total)


def first_order(
    attached: Attached,
    paths: Mapping[str, Path],
    moved: Mapping[str, Mapping[int, Leading]],
    names: Sequence[str],
    k: int,
) -> dict[str, Any]:
    """Put gradients of behaviour beside the differences of an adapter, at each layer.

    Args:
        attached: the attached adapter.
        paths: group -> its JSONL file.
        moved: group -> layer -> the directions that its effect is split along.
        names: the base, the adapter and the random adapters.
        k: dimension of the gradient subspaces.

    Returns:
        JSON-able. ``groups``: for each group with questions its ``metric``, ``items`` that were differentiated, of
        ``items_in_file``, mean metric of the ``base`` and mean true ``change``. ``effects``: for each such group and
        layer the ``correlation`` of first-order and true change over items and the ``ratio`` of their sums, with
        random adapters as null, and ``directions``: for each the effect ``e`` in units of the metric with its
        standard error, and its share of E|d|^2. ``shares``: for each metric, group of states and layer the share of
        E|d|^2 inside the top-k gradient subspace, beside random adapters and ``chance`` k / d. ``overlaps``: for
        each two metrics and layer the overlap of their gradient subspaces between chance and the split-half
        ceiling. ``without_questions``: the groups that ask nothing. Where gradients cannot be taken at all, only
        ``left_out``, the reason.

    Raises:
        DataError: a file cannot be read, or a question is longer than the model's context.
        LayerError: a layer that the model does not have.
    """
    if attached.loaded.width > WIDEST:
        return {"left_out": f"the model is wider than {WIDEST}, for which gradient moments are not kept"}
    found: dict[str, FirstOrder] = {}
    facts: dict[str, Any] = {"k": k, "groups": {}, "effects": [], "shares": [], "overlaps": []}
    try:
        for group, path in paths.items():
            asked = read_contrasts(attached, path)
            if asked is None:
                continue
            directions = {layer: leading.directions for layer, leading in moved[group].items()}
            found[group] = differentiate(attached, _sample(asked.items), directions, names=names)
            facts["groups"][group] = _summary(asked.metric, found[group]) | {
                "items_in_file": len(asked.items)
            }
            facts["effects"] += _effects(group, found[group], moved[group])
    except (AdapterError, ModelError) as error:
        return {"left_out": str(error)}
    facts["without_questions"] = [group for group in paths if group not in found]
    subspaces = {group: _subspaces(one, k) for group, one in found.items()}
    for metric, states in itertools.product(found, found):
        facts["shares"] += _shares(metric, subspaces[metric], states, found[states], k)
    for one, other in itertools.combinations(found, 2):
        facts["overlaps"] += _overlaps(one, subspaces[one], other, subspaces[other], k)
    return facts


def _sample(items: Sequence[Contrast]) -> list[Contrast]:
    """At most :data:`ITEMS` questions, by a hash of what they ask, whatever their order in the file."""

    def place(item: Contrast) -> bytes:
        return hashlib.sha256(repr((item.doc_id, item.prompt, item.better)).encode()).digest()

    return sorted(items, key=place)[:ITEMS]


def _summary(metric: str, found: FirstOrder) -> dict[str, Any]:
    return {
        "metric": metric,
        "items": len(found.base),
        "base": float(found.base.mean()),
        "change": float(found.change[0].mean()),
    }


def _effects(group: str, found: FirstOrder, moved: Mapping[int, Leading]) -> list[dict[str, Any]]:
    records = []
    for layer, effect in found.effect.items():
        correlations = [_over_items(e, c) for e, c in zip(effect, found.change, strict=True)]
        totals = found.change.sum(1)
        ratios = [float(e / c) if c else None for e, c in zip(effect.sum(1), totals, strict=True)]
        records.append({
            "group": group,
            "layer": layer,
            "effect": float(effect[0].mean()),
            "correlation": against_rest(correlations),
            "ratio": against_rest(ratios),
            "directions": _directions(found.along[layer], moved[layer]),
        })
    return records


def _over_items(effect: Array, change: Array) -> float | None:
    return correlation(effect, change) if len(change) > 1 else None


def _directions(along: Array, moved: Leading) -> list[dict[str, Any]]:
    """Effect and energy of each direction, the strongest effect first."""
    n = len(along)
    listed = [
        {
            "direction": j + 1,
            "energy": float(moved.shares[j]),
            "e": float(along[:, j].mean()),
            "se": float(along[:, j].std(ddof=1) / np.sqrt(n)) if n > 1 else None,
        }
        for j in range(along.shape[1])
    ]
    return sorted(listed, key=lambda d: -abs(d["e"]))


def _subspaces(found: FirstOrder, k: int) -> dict[int, tuple[Array, Array, Array]]:
    """Layer -> top-k gradient subspace over all documents, and over each half."""
    return {
        layer: tuple(spectrum(c).top(k).vectors for c in (halves.sum(0), *halves))
        for layer, halves in found.gradient.items()
    }


def _shares(
    metric: str, subspaces: Mapping[int, tuple[Array, ...]], states: str, found: FirstOrder, k: int
) -> list[dict[str, Any]]:
    records = []
    for layer, (basis, *_) in subspaces.items():
        energies = [(float(np.sum(basis * (c @ basis))), float(np.trace(c))) for c in found.moved[layer]]
        shares = [inside / whole if whole else None for inside, whole in energies]
        place = {"metric": metric, "states": states, "layer": layer, "n": found.states[layer]}
        records.append(place | against_rest(shares) | {"chance": k / len(basis)})
    return records


def _overlaps(
    one: str,
    first: Mapping[int, tuple[Array, ...]],
    other: str,
    second: Mapping[int, tuple[Array, ...]],
    k: int,
) -> list[dict[str, Any]]:
    records = []
    for layer in first:
        (a, *a_halves), (b, *b_halves) = first[layer], second[layer]
        value, (chance, sd) = overlap(a, b), haar_overlap(len(a), k, k)
        ceiling = float(np.sqrt(overlap(*a_halves) * overlap(*b_halves)))
        scaled = between_chance_and_ceiling(value, chance=chance, ceiling=ceiling)
        records.append({
            "pair": f"{one}-{other}",
            "groups": [one, other],
            "layer": layer,
            "value": value,
            "chance": chance,
            "chance_sd": sd,
            "ceiling": ceiling,
            "between": scaled,
        })
    return records
