"""What is kept of one group at one layer once its moments are gone: few directions of every side.

The moments of all layers and groups together would outgrow any laptop. What is compared later, between groups or
by ``repgeo compare`` between runs, are the top directions of the difference, and they are small.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geometry.subspaces import overlap

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from analyses.diff_measures import Sides
    from geometry.spectra import Spectrum

WHOLE, HALF, RANDOM = "whole", "half", "random"
"""Names of the sides: ``whole``; ``half0`` and ``half1``; ``random0``, ``random1``, ..."""


@dataclass(frozen=True, eq=False)
class Kept:
    """The top directions of what moved, for every side.

    Attributes:
        k: dimension of the subspaces that are compared.
        n: tokens of the whole.
        spectra: side -> the top m = min(d, 4 k) eigenvalues and eigenvectors of its E[d d^T].
        mean: E[d] of the adapter, (d,).
        trace: E|d|^2 of the adapter.
        base_values: eigenvalues of the base's covariance, largest first.
    """

    k: int
    n: int
    spectra: dict[str, Spectrum]
    mean: NDArray[np.float64]
    trace: float
    base_values: NDArray[np.float64]

    @classmethod
    def of(cls, sides: Sides) -> Kept:
        """Keep what will be compared later."""
        whole = sides.whole
        m = min(4 * whole.k, len(whole.moved.values))
        named = {WHOLE: whole}
        named |= {f"{HALF}{i}": side for i, side in enumerate(sides.halves)}
        named |= {f"{RANDOM}{i}": side for i, side in enumerate(sides.randoms)}
        spectra = {name: side.moved.top(m) for name, side in named.items()}
        stats, base = whole.stats, whole.principal.values
        return cls(whole.k, stats.n, spectra, stats.mean_diff, stats.mean_square_diff, base)

    def subspace(self, side: str = WHOLE) -> NDArray[np.float64]:
        """The top-k directions of a side, in columns (d, k)."""
        return self.spectra[side].vectors[:, : self.k]

    @property
    def randoms(self) -> list[str]:
        """Names of the random adapters among the sides, in order."""
        return [side for side in self.spectra if side.startswith(RANDOM)]

    @property
    def active(self) -> bool:
        """Whether anything moved."""
        return self.trace > 0

    @property
    def reliability(self) -> float:
        """Overlap of the two halves' subspaces: what sampling alone lets through of a perfect overlap."""
        return overlap(self.subspace(f"{HALF}0"), self.subspace(f"{HALF}1"))


def subspace_arrays(kept: Mapping[str, Mapping[int, Kept]]) -> dict[str, NDArray[np.float32]]:
    """Name the arrays of a run's ``arrays/subspaces.safetensors``.

    Args:
        kept: group -> layer -> what was kept.

    Returns:
        ``<group>.<layer>.<side>.values`` (m,) and ``.vectors`` (d, m) for every side; ``<group>.<layer>.mean``
        (d,) and ``<group>.<layer>.trace`` (1,). float32. Nothing where nothing moved.
    """
    arrays: dict[str, NDArray] = {}
    for group, layers in kept.items():
        for layer, one in layers.items():
            if not one.active:
                continue
            place = f"{group}.{layer}"
            arrays |= {f"{place}.mean": one.mean, f"{place}.trace": np.array([one.trace])}
            for side, found in one.spectra.items():
                arrays |= {f"{place}.{side}.values": found.values, f"{place}.{side}.vectors": found.vectors}
    return {name: np.ascontiguousarray(array, dtype=np.float32) for name, array in arrays.items()}
