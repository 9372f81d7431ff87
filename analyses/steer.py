"""Steering: one constant vector is added to the residual stream, more and more of it. What moves, and what breaks?

The vectors come from the adapter's change on one half of the documents: its mean shift on the texts of each group,
and the top direction of the style's change, as long as the change typically is along it. They are added to the base,
which asks whether they are enough to steer, and to the adapted model, where a negative strength takes them away.
Beside each stand random directions of the same length; style, facts and the loss on plain text are measured on the
other half.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from analyses.cause_bases import fit
from analyses.cause_exam import GROUPS, read_groups
from analyses.cause_measures import effect
from analyses.floors import with_null
from finetune.adapter import ADAPTER, BASE, attach, require_active
from finetune.patched import remove_mean, steer
from finetune.patched_likelihoods import patched_likelihoods
from geometry.checks import DataError, LayerError
from geometry.nulls import haar_basis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from analyses.cause_bases import Site
    from analyses.cause_exam import Exam
    from finetune.adapter import Attached
    from finetune.patched import Patch
    from geometry.live.models import Loaded

    Array = NDArray[np.float64]
    Show = Callable[[str, float], None]

STEERED = ("style", "fact margin", "plain loss")
SIDES = {BASE: "base", ADAPTER: "adapted"}


@dataclass(frozen=True)
class SteerRequest:
    """What is asked.

    Attributes:
        texts: ``style`` -> JSONL of pairs, ``fact`` -> JSONL of cloze facts with foils.
        layer: the block after which vectors are added.
        strengths: multiples of each vector; 1 is as much as the adapter adds itself.
        draws: random directions for each vector, at least 2.
        seed: of the random directions and the intervals.
    """

    texts: dict[str, Path]
    layer: int
    strengths: tuple[float, ...] = (-2.0, -1.0, 0.0, 1.0, 2.0, 4.0)
    draws: int = 3
    seed: int = 0


def steering(
    base: Loaded,
    adapter: str | Path,
    request: SteerRequest,
    *,
    progress: Show = lambda what, done: None,
) -> dict[str, Any]:
    """Measure dose and response of an adapter's mean shifts and top direction.

    Args:
        base: the base model; borrowed and given back as it was, without hooks.
        adapter: PEFT folder.
        request: texts, layer, strengths and draws.
        progress: is called with what is being done and the share that is done.

    Returns:
        Facts, JSON-able: ``preflight``, ``groups``, ``effects``; ``vectors`` with their lengths and the cosines
        between them; ``doses``, one record for each side, vector, strength and metric: the change against the
        same side without steering, with its interval, and beside random directions. Strength 0 changes nothing.

    Raises:
        AdapterError: inactive, or see :func:`finetune.adapter.attach`.
        DataError: texts that cannot be read, no strength, fewer than 2 draws, or a vector of length 0.
        LayerError: a block that the model does not have.
    """
    if not 0 <= request.layer < base.n_layers:
        raise LayerError(f"no layer {request.layer}: this model has 0 to {base.n_layers - 1}")
    if not request.strengths or request.draws < 2:
        raise DataError(
            f"strengths {request.strengths}, draws {request.draws}: give a strength, and 2 or more draws"
        )
    rng = np.random.default_rng(request.seed)
    dealt = read_groups(request.texts, rng)
    with attach(base, adapter) as attached:
        require_active(attached)
        progress("fitting vectors", 0.0)
        sites = {
            group: fit(attached, dealt.fit[group], {request.layer: ()}, ())[request.layer] for group in GROUPS
        }
        vectors = steering_vectors(sites)
        whole = _measured(attached, dealt.exam, [])
        doses = []
        for number, (name, vector) in enumerate(vectors.items()):
            progress(f"adding the {name}", (number + 1) / (len(vectors) + 1))
            doses += [
                {"vector": name} | record
                for record in _doses(attached, dealt.exam, vector, whole, request, rng)
            ]
        preflight = asdict(attached.preflight)
    lengths = {name: float(np.linalg.norm(vector)) for name, vector in vectors.items()}
    return {
        "layer": request.layer,
        "strengths": list(request.strengths),
        "draws": request.draws,
        "preflight": preflight,
        "groups": dealt.sizes,
        "effects": {metric: effect(states) for metric, states in whole.items()},
        "vectors": {
            name: {
                "length": lengths[name],
                "cosines": {
                    other: float(v @ w) / lengths[name] / lengths[other] for other, w in vectors.items()
                },
            }
            for name, v in vectors.items()
        },
        "stream": {group: _typical_length(site) for group, site in sites.items()},
        "doses": doses,
    }


def steering_vectors(sites: Mapping[str, Site]) -> dict[str, Array]:
    """What is added: mean shifts, and the style's top direction.

    Args:
        sites: group -> what its fit half says about a block.

    Returns:
        Name -> vector (d,). The top direction u of E[d d^T] points as the mean does and is sqrt(E (u . d)^2) long.

    Raises:
        DataError: one has no length, so there is nothing to add.
    """
    vectors = {f"{group} mean shift": site.stats.mean_diff for group, site in sites.items()}
    moved, mean = sites["style"].moved, sites["style"].stats.mean_diff
    top = moved.vectors[:, 0]
    vectors["style top direction"] = np.sqrt(moved.values[0]) * top * (-1.0 if top @ mean < 0 else 1.0)
    for name, vector in vectors.items():
        if not np.linalg.norm(vector) > 0:
            raise DataError(f"the {name} has no length at this layer; choose a later layer")
    return vectors


def _typical_length(site: Site) -> float:
    """Root mean square length of the base's stream."""
    return float(np.sqrt(np.trace(site.stats.cov_base) + site.stats.mean_base @ site.stats.mean_base))


def added(vector: Array, layer: int, strength: float, side: str) -> Patch:
    """The patch that adds a multiple of a vector after one block of the base or the adapted model."""
    return steer({layer: vector}, strength) if side == BASE else remove_mean({layer: -strength * vector})


def _measured(attached: Attached, exam: Exam, patches: list[Patch]) -> dict[str, Array]:
    """Metric -> (2 + patches, 1 + draws)."""
    found = exam.means(patched_likelihoods(attached, exam.questions, patches))
    found |= exam.damage(patched_likelihoods(attached, exam.readings, patches))
    return {metric: found[metric] for metric in STEERED}


def _doses(
    attached: Attached,
    exam: Exam,
    vector: Array,
    whole: dict[str, Array],
    request: SteerRequest,
    rng: np.random.Generator,
) -> Iterator[dict[str, Any]]:
    """Records of one vector, on both sides, beside random directions that stay the same over strengths."""
    length = np.linalg.norm(vector)
    tried = [vector] + [length * haar_basis(len(vector), 1, rng)[:, 0] for _ in range(request.draws)]
    doses = [a for a in request.strengths if a != 0]
    for row, (side, name) in enumerate(SIDES.items()):
        patches = [added(v, request.layer, a, side) for a in doses for v in tried]
        found = _measured(attached, exam, patches) if patches else whole
        for metric in STEERED:
            # without a hook there is nothing to add: strength 0 is the model itself
            changes = dict.fromkeys(request.strengths, np.zeros((len(tried), whole[metric].shape[1])))
            steered = found[metric][2:].reshape(len(doses), len(tried), whole[metric].shape[1])
            changes |= {a: steered[i] - whole[metric][row] for i, a in enumerate(doses)}
            for strength in request.strengths:
                own, *others = changes[strength]
                low, high = np.nanpercentile(own[1:], [2.5, 97.5])
                record = {
                    "side": name,
                    "strength": strength,
                    "metric": metric,
                    "low": float(low),
                    "high": float(high),
                }
                yield record | with_null(float(own[0]), [float(other[0]) for other in others])
