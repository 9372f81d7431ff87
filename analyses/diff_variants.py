"""What makes the difference: what the adapter writes, what it reads, or its mere strength? And is it linear?

Half-random adapters keep one side of every update. Where keeping what is written brings the adapter's own
subspace back and keeping what is read does not, the directions come from the weights alone; the flipped adapter
says whether twice the adapter would do twice as much.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analyses.diff_wide import EXACT_WIDTH, differences, moved
from geometry.spectra import effective_rank
from geometry.subspaces import overlap

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from analyses.diff_measures import Sides
    from analyses.diff_records import Record
    from geometry.moments import Moments
    from geometry.sketch import Sketch


class Variants:
    """Moments of the differences of half-random adapters.

    Args:
        width: of the model.
        kinds: kind -> how many adapters.
        exact_width: widest model whose moments are kept exactly.
    """

    def __init__(self, width: int, kinds: Mapping[str, int], exact_width: int = EXACT_WIDTH) -> None:
        self.moments: dict[str, list[Moments | Sketch]] = {
            kind: [differences(width, exact_width) for _ in range(n)] for kind, n in kinds.items()
        }

    def update(self, base: NDArray, rows: NDArray) -> None:
        """Take in base rows (n, d) and those of every adapter (V, n, d), kind by kind."""
        held = [one for ones in self.moments.values() for one in ones]
        for one, found in zip(held, rows, strict=True):
            one.update(found.astype(np.float64) - base)


def variant_records(variants: Variants, sides: Sides, *, group: str, layer: int) -> list[Record]:
    """Effective rank of each kind of adapter, and its overlap with the adapter's own subspace.

    Args:
        variants: what was accumulated at one layer of one group.
        sides: the adapter and its random adapters there.
        group: of the texts.
        layer: block number.

    Returns:
        One record a kind, ``random`` among them: ``overlaps`` with the adapter's top-k difference subspace and
        ``ranks``, one number an adapter; ``halves``, the overlap of the adapter with itself in two halves.
        Empty where nothing moved.
    """
    if not sides.whole.active:
        return []
    own, k = sides.whole.subspace, sides.whole.k
    found = {"random": [side.moved for side in sides.randoms]}
    found |= {kind: [moved(one).spectrum for one in ones] for kind, ones in variants.moments.items()}
    return [
        {
            "kind": kind,
            "group": group,
            "layer": layer,
            "overlaps": [overlap(own, one.vectors[:, :k]) for one in spectra],
            "ranks": [effective_rank(one.values) for one in spectra],
            "halves": sides.reliability,
        }
        for kind, spectra in found.items()
        if spectra
    ]


class Flip:
    """Sums that compare the difference d of an adapter with the difference f of the flipped one."""

    def __init__(self) -> None:
        self.n = 0
        self.own, self.flipped, self.product = 0.0, 0.0, 0.0

    def update(self, base: NDArray, adapted: NDArray, flipped: NDArray) -> None:
        """Take in rows (n, d) of the base and of both adapters."""
        d, f = (side.astype(np.float64) - base for side in (adapted, flipped))
        self.n += len(d)
        self.own += float(np.sum(d * d))
        self.flipped += float(np.sum(f * f))
        self.product += float(np.sum(d * f))


def flip_records(flip: Flip, *, group: str, layer: int) -> list[Record]:
    """How linear the change is at one layer of one group.

    Args:
        flip: what was accumulated.
        group: of the texts.
        layer: block number.

    Returns:
        One record: ``cosine`` of d with -f over all tokens (1 is linear), ``ratio`` of the lengths of f and d (1 is
        linear), and ``even``, the share of both energies that does not change sign with the adapter,
        E|d + f|^2 / (2 E|d|^2 + 2 E|f|^2) (0 is linear). Empty where nothing moved.
    """
    if not (flip.own > 0 and flip.flipped > 0):
        return []
    both = flip.own + flip.flipped
    return [
        {
            "group": group,
            "layer": layer,
            "n": flip.n,
            "cosine": -flip.product / float(np.sqrt(flip.own) * np.sqrt(flip.flipped)),
            "ratio": float(np.sqrt(flip.flipped / flip.own)),
            "even": (both + 2 * flip.product) / (2 * both),
        }
    ]
