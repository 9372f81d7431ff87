"""Superposition where everything is known: toy models of sparse features, their phases and their polytopes.

Three questions of Elhage et al. 2022, each answered by training: when does a second feature get a dimension, share
one, or get none; which shape do a few features form in fewer dimensions; and how do many features divide a space.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from finetune.toy_model import Pace, train_toys
from geometry.checks import DataError
from geometry.polytopes import REPRESENTED, feature_dimensionality, polytopes

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from finetune.toy_model import Toys

    Array = NDArray[np.float64]
    Show = Callable[[str, float], None]

SHAPES = {"digon": (2, 1), "triangle": (3, 2), "tetrahedron": (4, 3), "pentagon": (5, 2)}
"""Shape -> features and dimensions of the models that are asked for it."""

FRACTIONS = {
    "tetrahedron, 3/4": 3 / 4,
    "triangle, 2/3": 2 / 3,
    "digon, 1/2": 1 / 2,
    "pentagon, 2/5": 2 / 5,
    "square antiprism, 3/8": 3 / 8,
}
"""Dimensionalities at which features of regular polytopes lie."""

NEAR = 0.0125
"""A feature lies at a fraction when it is at most this far from it: half of the way between the two nearest."""


@dataclass(frozen=True)
class SuperpositionRequest:
    """What is asked.

    Attributes:
        features: of the large models.
        dimensions: of the large models, fewer than features.
        seeds: models of each kind; the one of least loss speaks for it, at least 1.
        seed: of everything.
        pace: how long models are trained.
    """

    features: int = 80
    dimensions: int = 12
    seeds: int = 5
    seed: int = 0
    pace: Pace = field(default_factory=Pace)


def superposition(
    request: SuperpositionRequest, *, progress: Show = lambda what, done: None
) -> dict[str, Any]:
    """Train toy models of superposition and measure their geometry.

    Args:
        request: sizes and seeds.
        progress: is called with what is being done and the share that is done.

    Returns:
        Facts, JSON-able: ``phase``, trained and predicted over density and relative importance; ``shapes``, what a
        few features form at each density, and where it is the whole polytope; ``sweep``, how many features divide a
        space, beside random directions of the same lengths.

    Raises:
        DataError: sizes or seeds out of range.
    """
    if not 1 <= request.dimensions < request.features or request.seeds < 1:
        raise DataError(
            f"{request.features} features, {request.dimensions} dimensions, {request.seeds} seeds: give fewer "
            "dimensions than features, at least 1, and at least 1 seed"
        )
    rng = np.random.default_rng(request.seed)

    def shown(what: str, start: float, length: float) -> Callable[[float], None]:
        return lambda done: progress(what, start + length * done)

    return {
        "phase": _phase(request, rng, shown("phases of a second feature", 0.0, 0.2)),
        "shapes": [
            _shape(name, request, rng, shown(f"shapes: {name}", 0.2 + 0.1 * i, 0.1))
            for i, name in enumerate(SHAPES)
        ],
        "sweep": _sweep(request, rng, shown("many features", 0.6, 0.4)),
    }


def predicted_phase(density: float, importance: float) -> float:
    """Which of three solutions for two features in one dimension has the least loss, in closed form.

    A feature that is left out costs its variance, p/3 - p^2/4 times its importance; two that lie opposite each other
    cost the smaller of both, squared, for each, p^2/6 times the sum of importances.

    Args:
        density: p, the probability that a feature is not 0.
        importance: of the second feature; that of the first is 1.

    Returns:
        The dimension that the second feature has: 0 (left out), 1/2 (shared) or 1 (its own).

    Examples:
        >>> [predicted_phase(p, 1.0) for p in (0.5, 0.1)], predicted_phase(0.9, 0.5), predicted_phase(0.9, 2.0)
        ([0.5, 0.5], 0.0, 1.0)
    """
    variance = density / 3 - density**2 / 4
    losses = {0.0: importance * variance, 1.0: variance, 0.5: (1 + importance) * density**2 / 6}
    return min(losses, key=losses.__getitem__)


def _phase(
    request: SuperpositionRequest, rng: np.random.Generator, show: Callable[[float], None]
) -> dict[str, Any]:
    densities, importances = np.geomspace(1.0, 0.05, 11), np.geomspace(0.1, 10.0, 11)
    cells = [(p, r) for p in densities for r in importances for _ in range(request.seeds)]
    weight = np.array([[1.0, r] for _, r in cells])
    toys = train_toys([p for p, _ in cells], weight, 1, rng=rng, pace=request.pace, progress=show)
    trained = np.array([_second(toys.w[i]) for i in _best(toys, request.seeds)]).reshape(11, 11)
    expected = np.array([[predicted_phase(p, r) for r in importances] for p in densities])
    kinds = np.round(2 * trained) / 2
    chance = sum(float((kinds == k).mean() * (expected == k).mean()) for k in (0.0, 0.5, 1.0))
    return {
        "densities": densities.tolist(),
        "importances": importances.tolist(),
        "trained": trained.tolist(),
        "predicted": expected.tolist(),
        "agreement": float((kinds == expected).mean()),
        "agreement_by_chance": chance,
    }


def _second(w: Array) -> float:
    """The dimension that the second feature has; 0 where it is not represented."""
    return float(feature_dimensionality(w)[1]) if np.linalg.norm(w[:, 1]) >= REPRESENTED else 0.0


def _best(toys: Toys, seeds: int) -> list[int]:
    losses = toys.loss.reshape(-1, seeds)
    return (np.arange(len(losses)) * seeds + losses.argmin(axis=1)).tolist()


def _shape(
    name: str, request: SuperpositionRequest, rng: np.random.Generator, show: Callable[[float], None]
) -> dict[str, Any]:
    n, m = SHAPES[name]
    densities = np.r_[np.arange(1.0, 0.3, -0.05), np.geomspace(0.3, 0.02, 9)]
    density = np.repeat(densities, request.seeds)
    toys = train_toys(density, np.ones((len(density), n)), m, rng=rng, pace=request.pace, progress=show)
    found = []
    for p, i in zip(densities, _best(toys, request.seeds), strict=True):
        groups = polytopes(toys.w[i])
        found.append({
            "density": float(p),
            "loss": float(toys.loss[i]),
            "groups": sorted(group.name for group in groups),
            "dimensionality": np.sort(feature_dimensionality(toys.w[i])).tolist(),
            "w": np.round(toys.w[i], 4).tolist(),
        })
    whole = [one["density"] for one in found if one["groups"] == [name]]
    return {"shape": name, "features": n, "dimensions": m, "at": found, "whole_at": whole}


def _sweep(
    request: SuperpositionRequest, rng: np.random.Generator, show: Callable[[float], None]
) -> dict[str, Any]:
    n, m = request.features, request.dimensions
    densities = np.geomspace(1.0, 0.05, 16)
    toys = train_toys(densities, np.ones((16, n)), m, rng=rng, pace=request.pace, progress=show)
    random = rng.normal(size=toys.w.shape)
    random *= np.linalg.norm(toys.w, axis=1, keepdims=True) / np.linalg.norm(random, axis=1, keepdims=True)
    own, chance = ([_at_fractions(w) for w in of] for of in (toys.w, random))
    return {
        "features": n,
        "dimensions": m,
        "densities": densities.tolist(),
        "per_feature": [m / float((w**2).sum()) for w in toys.w],
        "represented": [int((np.linalg.norm(w, axis=0) >= REPRESENTED).sum()) for w in toys.w],
        "shares": {name: [one[name] for one in own] for name in FRACTIONS},
        "shares_by_chance": {name: [one[name] for one in chance] for name in FRACTIONS},
        "groups": [sorted(group.name for group in polytopes(w)) for w in toys.w],
    }


def _at_fractions(w: Array) -> dict[str, float]:
    """Share of the represented features whose dimensionality lies at each fraction."""
    there = feature_dimensionality(w)[np.linalg.norm(w, axis=0) >= REPRESENTED]
    return {
        name: float((np.abs(there - at) <= NEAR).mean()) if len(there) else 0.0
        for name, at in FRACTIONS.items()
    }
