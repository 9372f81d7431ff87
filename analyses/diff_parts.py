"""What the difference is made of: constant, by text or by token; and written here or passed on from below."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analyses.diff_records import record
from geometry.checks import ShapeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from analyses.diff_measures import Side, Sides
    from analyses.diff_records import Record
    from geometry.variance_parts import TextSums, VarianceParts


def part_records(parts: Sequence[TextSums], *, group: str, layer: int) -> list[Record]:
    """Split E|d|^2 of one group at one layer, texts being what is sampled.

    Args:
        parts: of the adapter, then of random adapters.
        group: of the texts.
        layer: block number.

    Returns:
        Records of ``constant_share``, the part that is one vector for all texts, and ``between_share``, the part
        of the variance that goes with the text; each with the number of ``texts``. Empty where one text, or one
        token a text, cannot tell.
    """
    try:
        whole, *randoms = (one.answer() for one in parts)
    except ShapeError:
        return []

    def listed(measure: str, read: str) -> Record:
        null = [_share(one, read) for one in randoms]
        return record(measure, group, layer, _share(whole, read), null, n=whole.n, texts=whole.texts)

    return [listed("constant_share", "constant_share"), listed("between_share", "between_share")]


def _share(parts: VarianceParts, name: str) -> float:
    share = getattr(parts, name)
    return 0.0 if share is None else share


def written_records(
    sides: Sides, spaces: Sequence[NDArray[np.float64]] | None, *, group: str, layer: int
) -> list[Record]:
    """Share of E|d|^2 inside what the updates up to this layer can write on their own.

    Args:
        sides: adapter and random adapters at one layer of one group.
        spaces: orthonormal columns (d, m) of the adapter, then of every random adapter, see
            :func:`finetune.written.written_spaces`; None where they cannot be told.
        group: of the texts.
        layer: block number.

    Returns:
        One record of ``direct``: the share, ``dimensions`` of the space and ``chance``, their share of the width;
        its null is the share of random adapters inside their own spaces. Empty where nothing moved, or spaces
        cannot be told.
    """
    if spaces is None or not sides.whole.active:
        return []
    own, *others = spaces
    null = [_inside(side, space) for side, space in zip(sides.randoms, others, strict=True)]
    more = {"dimensions": own.shape[1], "chance": own.shape[1] / len(own), "n": sides.whole.stats.n}
    return [record("direct", group, layer, _inside(sides.whole, own), null, **more)]


def _inside(side: Side, space: NDArray[np.float64]) -> float:
    """tr(Q^T E[d d^T] Q) / E|d|^2, from the spectrum; a sketch's unseen rest counts as outside."""
    if not side.active:
        return 0.0
    cosines = np.sum((space.T @ side.moved.vectors) ** 2, axis=0)
    return min(1.0, float(side.moved.values @ cosines) / side.stats.mean_square_diff)
