"""What is left of a behaviour when a part of an adapter's change is taken out of a world's model, or kept alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from finetune.patched import ablate_diff, keep_only
from finetune.world_exam import ask, written_lively
from geometry.nulls import haar_basis

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from analyses.diff_measures import Sides
    from finetune.adapter import Attached
    from finetune.patched import Patch
    from finetune.world_exam import Exam

    Bases = dict[int, NDArray[np.float64]]

ACTS: dict[str, Callable[[Bases], Patch]] = {"ablate": ablate_diff, "keep": keep_only}

ALL = "all"
"""In place of a block: the part is taken out after every block, each with directions of its own."""


PCA, RANDOM, HAAR = CONTROLS = ("base PCA", "random adapter", "Haar")
"""Directions of the same number that nobody trained."""


@dataclass(frozen=True, eq=False)
class Part:
    """A part of the change.

    Attributes:
        act: what is done with it, a key of :data:`ACTS`.
        basis: whose directions they are.
        place: the block after which it is done, or :data:`ALL`.
        columns: block -> orthonormal columns (d, k).
    """

    act: str
    basis: str
    place: int | str
    columns: Bases


def directions(sides: Mapping[int, Sides]) -> Bases:
    """The top-k difference directions of every block, (d, k)."""
    return {layer: one.whole.subspace for layer, one in sides.items()}


def parts(
    sides: Mapping[int, Sides], others: Mapping[str, Bases], draws: int, rng: np.random.Generator
) -> list[Part]:
    """Every part that is tried: the adapter's own directions, those of others, and controls of the same size.

    Args:
        sides: block -> moments of the adapter and its random adapters.
        others: name -> the directions of another adapter.
        draws: how many uniform bases.
        rng: source of chance of the uniform ones.

    Returns:
        Ablations at each block and at all of them, and ``keep`` of the own and the uniform ones at each block.
    """
    own = directions(sides)
    width, k = next(iter(own.values())).shape
    uniform = [{layer: haar_basis(width, k, rng) for layer in own} for _ in range(draws)]
    taken = [("own", own), *others.items(), (PCA, {layer: s.whole.base for layer, s in sides.items()})]
    taken.append((RANDOM, {layer: s.randoms[0].subspace for layer, s in sides.items()}))
    taken += [(HAAR, one) for one in uniform]
    kept = [("own", own), *((HAAR, one) for one in uniform)]
    return [
        *(Part("ablate", basis, *at) for basis, columns in taken for at in (*_each(columns), (ALL, columns))),
        *(Part("keep", basis, *at) for basis, columns in kept for at in _each(columns)),
    ]


def cells(
    attached: Attached, exam: Exam, sides: Mapping[int, Sides], tried: Sequence[Part]
) -> list[dict[str, Any]]:
    """Put the questions to a patched copy for each part.

    Args:
        attached: the adapter that the parts are of.
        exam: the questions.
        sides: block -> its moments.
        tried: the parts.

    Returns:
        Records with ``act``, ``basis``, ``layer``, ``energy`` (share of E|d|^2 inside the directions, mean over
        blocks), the readings of :mod:`finetune.world_exam`, and ``written`` for the middle block and for all,
        where the directions are a trained adapter's.
    """
    patches = [ACTS[part.act](part.columns) for part in tried]
    middle = attached.loaded.n_layers // 2
    return [
        {
            "act": part.act,
            "basis": part.basis,
            "layer": part.place,
            "energy": float(np.mean([_energy(sides[layer], u) for layer, u in part.columns.items()])),
            **readings,
            "written": written_lively(attached, exam, patch) if _shown(part, middle) else None,
        }
        for part, patch, readings in zip(tried, patches, ask(attached, exam, patches)[2:], strict=True)
    ]


def _shown(part: Part, middle: int) -> bool:
    """Writing takes a forward pass a word, so controls are only asked for the next one."""
    return part.place in {ALL, middle} and part.basis not in CONTROLS


def _each(columns: Bases) -> list[tuple[int, Bases]]:
    return [(layer, {layer: u}) for layer, u in columns.items()]


def _energy(sides: Sides, basis: NDArray[np.float64]) -> float:
    stats = sides.whole.stats
    return float(np.trace(basis.T @ stats.second_diff @ basis) / stats.mean_square_diff)
