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

    from numpy.typing import NDArray

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
    bases = {pair: _bases(leads, pair, layers, k) for pair in itertools.combinations(groups, 2)}
    names = (BASE, ADAPTER, *randoms)
    progress("resampling documents", 0.0)
    moving = {pair: of for pair, of in bases.items() if of}
    apart = separation(attached, groups, moving, names[: 2 + RANDOMS], k, rng)
    progress("reading lenses", 0.3)
    read = lenses(attached, groups, layers, names)
    progress("differentiating", 0.5)
    moved = {group: {layer: lead.leading for layer, lead in of.items()} for group, of in leads.items()}
    felt = first_order(attached, paths, moved, names, k)
    progress("differentiating", 1.0)
    return {"separation": apart, "lenses": read, "first_order": felt}


def _bases(
    leads: Mapping[str, Mapping[int, Lead]], pair: tuple[str, str], layers: Sequence[int], k: int
) -> dict[int, tuple[NDArray[np.float64], ...]]:
    """The joint bases of two groups at the layers where every side moves both."""
    found = {}
    for layer in layers:
        one, other = (leads[group][layer].spectra for group in pair)
        if all(spectrum.values[0] > 0 for spectrum in (*one, *other)):
            found[layer] = joint_bases(one, other, k)
    return found


def _cut(side: Side, m: int) -> Spectrum:
    return Spectrum(side.moved.values[:m].copy(), side.moved.vectors[:, :m].astype(np.float32))
