"""The subspaces that a causal test takes out or keeps, and those that it must be compared with.

All of them are fitted on one half of the documents. A control is a list of columns in order of importance, so
that as many can be taken as make it equal to the adapter's own subspace: in dimensions, or in the share of
E|d|^2 that goes with them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from analyses.diff_measures import Tally, tally
from finetune.adapter import ADAPTER, BASE
from finetune.paired import paired_batches
from geometry.nulls import haar_basis
from geometry.spectra import spectrum

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from finetune.adapter import Attached
    from finetune.pairs import Text
    from geometry.moments import PairedStats
    from geometry.spectra import Spectrum

    Columns = dict[int, NDArray[np.float64]]
    Sites = Mapping[int, "Site"]

HAAR, PCA, RANDOM, ROTATION, OTHER = (
    "Haar",
    "base PCA",
    "random adapter",
    "rotation in the top 4k",
    "other group",
)
CONTROLS = (HAAR, PCA, RANDOM, ROTATION, OTHER)
"""Uniform directions; the base's principal ones; the top of a spectrum-matched random adapter's difference;
random ones inside the adapter's own top-4k difference subspace; the top of the difference on the other group."""


@dataclass(frozen=True, eq=False)
class Site:
    """What the fit half of a group says about one block.

    Attributes:
        stats: moments of the base and of the difference at the positions that predict the answers.
        randoms: E[d d^T] of each random adapter, (d, d).
        haar: uniformly random orthonormal columns (d, d), one matrix a draw.
    """

    stats: PairedStats
    randoms: tuple[NDArray[np.float64], ...]
    haar: tuple[NDArray[np.float64], ...]

    @cached_property
    def moved(self) -> Spectrum:
        """Directions of the adapter's E[d d^T]."""
        return spectrum(self.stats.second_diff)

    @cached_property
    def principal(self) -> Spectrum:
        """Principal directions of the base activations."""
        return spectrum(self.stats.cov_base)

    @cached_property
    def random_moved(self) -> tuple[Spectrum, ...]:
        """Directions of each random adapter's E[d d^T]."""
        return tuple(spectrum(second) for second in self.randoms)

    def energies(self, columns: NDArray[np.float64]) -> NDArray[np.float64]:
        """Share of E|d|^2 inside the first 1, 2, ... of some orthonormal columns (d, m): ascending, (m,)."""
        along = np.einsum("dm,de,em->m", columns, self.stats.second_diff, columns, optimize=True)
        return np.cumsum(along) / self.stats.mean_square_diff

    def dimensions_for(self, columns: NDArray[np.float64], share: float) -> int:
        """How many of the columns it takes for a share of E|d|^2; all of them if they hold less."""
        reached = self.energies(columns) >= share * (1 - 1e-9)
        return int(reached.argmax()) + 1 if reached.any() else columns.shape[1]


def halves(documents: Iterable[str]) -> tuple[frozenset[str], frozenset[str]]:
    """Deal documents to a half for fitting and one for measuring.

    Args:
        documents: their names, in any order and as often as they like.

    Returns:
        Two disjoint sets; the first has as many as the second, or one more. The dealing depends on a hash of
        the names alone.

    Examples:
        >>> [len(half) for half in halves(["a", "b", "c", "a"])]
        [2, 1]
    """
    order = sorted(set(documents), key=lambda name: hashlib.sha256(name.encode()).digest())
    return frozenset(order[::2]), frozenset(order[1::2])


def fit(
    attached: Attached,
    texts: Sequence[Text],
    haar: Mapping[int, tuple[NDArray[np.float64], ...]],
    names: Sequence[str],
) -> dict[int, Site]:
    """Measure the difference on texts, as ``repgeo diff`` does.

    Args:
        attached: the attached adapter.
        texts: the fit half of one group.
        haar: block -> its uniformly random bases; the blocks to measure.
        names: random adapters on the model.

    Returns:
        Block -> what was found at the positions that predict the answers, attention sinks left out.

    Raises:
        DataError: a text that is empty, or longer than the model's context.
        LayerError: a block that the model does not have.
    """
    tallies = {layer: Tally(attached.loaded.width, len(names)) for layer in haar}
    for batch in paired_batches(attached, texts, list(haar), names=(BASE, ADAPTER, *names)):
        tally(batch, tallies, np.zeros(len(batch.text_index), dtype=int))
    return {
        layer: Site(t.whole(), tuple(m.answer().second_diff for m in t.randoms), haar[layer])
        for layer, t in tallies.items()
    }


def own_columns(sites: Sites, k: int) -> Columns:
    """The top-k difference directions of each block, (d, k)."""
    return {layer: site.moved.top(k).vectors for layer, site in sites.items()}


def control_columns(
    sites: Sites, others: Sites, k: int, rng: np.random.Generator
) -> dict[str, list[Columns]]:
    """Every control, as columns to take from.

    Args:
        sites: of the group whose top-k difference subspace is under test.
        others: of the other group, at the same blocks.
        k: dimension of the subspace under test.
        rng: source of chance of the rotations.

    Returns:
        Name of :data:`CONTROLS` -> one entry a draw: block -> orthonormal columns. All d of them, except for
        the rotation, which has the 4k of its space (or d, if that is less).
    """
    draws = range(len(next(iter(sites.values())).haar))

    def turned(site: Site) -> NDArray[np.float64]:
        space = site.moved.vectors[:, : 4 * k]
        return space @ haar_basis(space.shape[1], space.shape[1], rng)

    return {
        HAAR: [{layer: site.haar[i] for layer, site in sites.items()} for i in draws],
        PCA: [{layer: site.principal.vectors for layer, site in sites.items()}],
        RANDOM: [{layer: site.random_moved[i].vectors for layer, site in sites.items()} for i in draws],
        ROTATION: [{layer: turned(site) for layer, site in sites.items()} for _ in draws],
        OTHER: [{layer: site.moved.vectors for layer, site in others.items()}],
    }


def of_equal_size(columns: Columns, k: int) -> Columns:
    """The first k columns of every block."""
    return {layer: c[:, :k] for layer, c in columns.items()}


def of_equal_energy(columns: Columns, sites: Sites, k: int) -> Columns:
    """As many columns of every block as hold at least what the top-k difference subspace holds of E|d|^2."""
    return {
        layer: c[
            :,
            : sites[layer].dimensions_for(c, float(sites[layer].energies(own_columns(sites, k)[layer])[-1])),
        ]
        for layer, c in columns.items()
    }


def mean_energy(columns: Columns, sites: Sites) -> float:
    """Share of E|d|^2 inside the columns, mean over blocks."""
    return float(np.mean([sites[layer].energies(c)[-1] for layer, c in columns.items()]))
