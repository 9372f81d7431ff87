"""Can places be read off the states of a model? Probes at every layer, with what chance and other words allow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from geometry.checks import ShapeError
from geometry.probes import (
    angle_error,
    blocked_folds,
    haversine_error,
    labelled_folds,
    proximity_error,
    random_folds,
    ridge_probe,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from analyses.symmetry_held import Held
    from analyses.symmetry_read import Clouds, ModelRead
    from geometry.probes import Probe

    Folds = Mapping[str, NDArray[np.int64]]

FOLDS = 5

RANDOM = "random folds"
BLOCKED = "neighbours together"
REGIONS = "one region left out"


def folds_of(held: Held, rng: np.random.Generator) -> dict[str, NDArray[np.int64]]:
    """How items are parted for probes: at random, and so that no neighbour of a test item is fitted on.

    Args:
        held: the concept.
        rng: source of the random folds.

    Returns:
        Name -> fold of each item. Regions where items have at least three, stretches of the order elsewhere;
        places without regions have random folds only.
    """
    n = held.layout.n
    folds = {RANDOM: random_folds(n, min(FOLDS, n), rng)}
    if len(set(held.concept.regions)) >= 3:
        folds[REGIONS] = labelled_folds(held.concept.regions)
    elif held.layout.kind != "sphere":
        folds[BLOCKED] = blocked_folds(n, min(FOLDS, n))
    return folds


def probed(read: ModelRead, means: Clouds, held: Held, rng: np.random.Generator) -> dict[str, Any]:
    """Probe every layer and position.

    Args:
        read: of the model.
        means: position -> (layers, items, d), over templates.
        held: what is read off.
        rng: source of folds.

    Returns:
        Folds -> position -> ``values`` (epsilon^2, one a layer, None where the items are equal), ``other`` (of
        other words) and ``untrained`` (one list a layer).
    """
    found: dict[str, Any] = {}
    for name, folds in folds_of(held, rng).items():
        found[name] = {
            position: {
                "values": [_error(layer, held, folds) for layer in layers],
                "other": [_error(layer, held, folds) for layer in read.other.get(position, ())],
                "untrained": [
                    [_error(one[position][at], held, folds) for one in read.untrained]
                    for at in range(len(layers))
                ],
            }
            for position, layers in means.items()
        }
    return found


def unit_errors(probe: Probe, held: Held) -> dict[str, float]:
    """Errors of a probe in the units of its layout.

    Args:
        probe: of :func:`geometry.probes.ridge_probe`.
        held: what was read off.

    Returns:
        ``proximity`` (share of other items predicted nearer), and ``km`` (median) on the globe, ``steps`` (mean)
        round a cycle and along a line.
    """
    errors = {"proximity": float(proximity_error(probe.predicted, held.layout.targets).mean())}
    match held.layout.kind:
        case "sphere":
            errors["km"] = float(np.median(haversine_error(probe.predicted, held.layout.targets)))
        case "cycle":
            turns = angle_error(probe.predicted, held.layout.targets)
            errors["steps"] = float(turns.mean()) * held.layout.n
        case "line":
            off = np.abs(probe.predicted - held.layout.targets).mean()
            errors["steps"] = float(off) * (held.layout.n - 1) / 2
        case _:
            pass
    return errors


def _error(cloud: NDArray[np.float32], held: Held, folds: NDArray[np.int64]) -> float | None:
    try:
        return float(ridge_probe(cloud, held.layout.targets, folds).errors[-1])
    except ShapeError:
        return None
