"""What a diff reads the texts for again, once it knows which directions lead: blocks, lenses, gradients."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from analyses.first_order import Leading, first_order
from analyses.lenses import lenses
from analyses.separation import REDUCED, joint_bases, separation
from finetune.adapter import ADAPTER, BASE
from geometry.spectra import Spectrum

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from analyses.diff_measures import Side, Sides
    from finetune.adapter import Attached
    from finetune.pairs import Text

RANDOMS = 3
"""Most random adapters whose directions are kept for the blocks of documents; they serve as the mean of chance."""


@dataclass(frozen=True, eq=False)
class Lead:
    """The leading directions of one group at one layer, in float32.

    Attributes:
        spectra: of E[d d^T] for the adapter and the first few random adapters, twice as long as a joint basis: cut
            any shorter, and the basis would be the union of the two groups' own tops, with which the permutation
            test does not keep its level.
        leading: the directions that first-order effects are split along.
    """

    spectra: tuple[Spectrum, ...]
    leading: Leading

    @classmethod
    def of(cls, sides: Sides) -> Self:
        """Keep what the second passes will need of a layer, before its moments go."""
        k, few = sides.whole.k, (sides.whole, *sides.randoms[:RANDOMS])
        spectra = tuple(_cut(side, 2 * REDUCED * k) for side in few)
        return cls(spectra, Leading.of(sides.whole.moved, 2 * k))


def second_passes(
    attached: Attached,
    groups: Mapping[str, Sequence[Text]],
    paths: Mapping[str, Path],
    leads: Mapping[str, Mapping[int, Lead]],
    k: int,
    *,
    randoms: Sequence[str],
    rng: np.random.Generator,
    progress: Callable[[str, float], None] = lambda what, share: None,
) -> dict[str, Any]:
    """Read the texts again: with documents apart, through the lenses, and with gradients.

    Args:
        attached: the attached adapter, which is active.
        groups: name -> its texts.
        paths: name -> its file, which may ask questions.
        leads: name -> layer -> what the first pass kept.
        k: dimension of the subspaces.
        randoms: names of the random adapters on the model.
        rng: source of chance of permutations and draws.
        progress: is called with what is being done and the share that is done.

    Returns:
        ``separation``, ``lenses`` and ``first_order``; see the functions of these names.

    Raises:
        DataError: a text or question that cannot be read or is longer than the model's context.
    """
    layers = list(next(iter(leads.values())))
    bases = {
        (one, other): {
            layer: joint_bases(leads[one][layer].spectra, leads[other][layer].spectra, k) for layer in layers
        }
        for one, other in itertools.combinations(groups, 2)
    }
    names = (BASE, ADAPTER, *randoms)
    progress("resampling documents", 0.0)
    apart = separation(attached, groups, bases, names[: 2 + RANDOMS], k, rng)
    progress("reading lenses", 0.3)
    read = lenses(attached, groups, layers, names)
    progress("differentiating", 0.5)
    moved = {group: {layer: lead.leading for layer, lead in of.items()} for group, of in leads.items()}
    felt = first_order(attached, paths, moved, names, k)
    progress("differentiating", 1.0)
    return {"separation": apart, "lenses": read, "first_order": felt}


def _cut(side: Side, m: int) -> Spectrum:
    return Spectrum(side.moved.values[:m].copy(), side.moved.vectors[:, :m].astype(np.float32))
