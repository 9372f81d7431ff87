"""How alike base and adapted layers are to measures that forgive a change of basis: gross change only.

Base and adapted model share their coordinates, so forgiving a rotation throws information away: these numbers stay
near 1 for adapters that change everything a reader sees. They are here because others report them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analyses.diff_records import record
from finetune.paired import paired_batches
from geometry.moments import unbiased_square
from geometry.similarity import procrustes_distance, unbiased_cka

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from analyses.diff_measures import Side, Sides
    from analyses.diff_records import Record
    from finetune.adapter import Attached
    from finetune.pairs import Text

RESERVOIR = 1024
"""Tokens, and texts at most, that the map of all pairs of layers is made of."""

CHEAP_WIDTH = 1024
"""Widest model for which random adapters get a null here: it takes an SVD of the width for each."""


def similarity_records(sides: Sides, *, group: str, layer: int) -> list[Record]:
    """Unbiased CKA, Procrustes distances and R^2 of adapted on base at one layer.

    Args:
        sides: exact ones of one layer and group.
        group: of the texts.
        layer: block number.

    Returns:
        Records of ``cka``; ``procrustes``, the distance that is left after the best rotation, and ``unaligned``
        without one, both as shares of the base's spread sqrt(tr Cov); ``rotation``, their difference; and
        ``linear_r2``, the share of the adapted variance that a linear map of the base explains, adjusted for the
        number of coordinates. Empty where nothing moved.
    """
    if not sides.whole.active:
        return []
    whole = _alike(sides.whole)
    cheap = sides.randoms if len(sides.whole.stats.cov_base) <= CHEAP_WIDTH else ()
    nulls = [_alike(side) for side in cheap]
    n = sides.whole.stats.n
    return [record(m, group, layer, v, [null[m] for null in nulls], n=n) for m, v in whole.items()]


def _alike(side: Side) -> dict[str, float | None]:
    stats = side.stats
    if not side.active:
        return {"cka": 1.0, "procrustes": 0.0, "unaligned": 0.0, "rotation": 0.0, "linear_r2": 1.0}
    spread = float(np.sqrt(np.trace(stats.cov_base)))
    aligned = procrustes_distance(stats.cov_base, stats.cov_adapted, stats.cross_adapted) / spread
    unaligned = float(np.sqrt(np.trace(stats.cov_diff))) / spread
    return {
        "cka": unbiased_cka(stats).cka,
        "procrustes": aligned,
        "unaligned": unaligned,
        "rotation": unaligned - aligned,
        "linear_r2": _linear_r2(side),
    }


def _linear_r2(side: Side) -> float | None:
    """1 - tr Cov(y | x) / tr Cov(y), y = x + d regressed on x; what is left of y is what is left of d."""
    stats, base = side.stats, side.principal
    live = base.values > base.values[0] * len(base.values) * np.finfo(np.float64).eps
    free = stats.n - 1 - int(live.sum())
    total = float(np.trace(stats.cov_adapted))
    if free < 1 or total <= 0:
        return None
    along = base.vectors[:, live].T @ stats.cross
    explained = float(np.sum(along**2 / base.values[live, None]))
    left = max(0.0, float(np.trace(stats.cov_diff)) - explained)
    return 1 - left / total * (stats.n - 1) / free


def layer_map(
    attached: Attached, texts: Sequence[Text], layers: Sequence[int], rng: np.random.Generator
) -> list[list[float | None]]:
    """Unbiased CKA of every base layer with every adapted layer, on at most :data:`RESERVOIR` tokens.

    The memory depends on the model alone: at most so many texts are read, and of their tokens as many are kept.
    The first token of a text is left out.

    Args:
        attached: the attached adapter.
        texts: of one group.
        layers: block numbers.
        rng: chooses texts and tokens.

    Returns:
        One row a base layer, one column an adapted layer; None where there is too little to tell.
    """
    chosen = rng.permutation(len(texts))[:RESERVOIR]
    held = {layer: np.zeros((2, 0, attached.loaded.width), np.float32) for layer in layers}
    luck = np.zeros(0)
    for batch in paired_batches(attached, [texts[i] for i in sorted(chosen)], layers):
        later = batch.chosen.clone()
        later[:, 0] = False
        luck = np.concatenate([luck, rng.random(int(later.sum()))])
        best = np.argsort(-luck, kind="stable")[:RESERVOIR]
        luck = luck[best]
        for layer in layers:
            rows = np.concatenate([held[layer], batch.stream[layer][:, later].float().numpy()], axis=1)
            held[layer] = rows[:, best]
    return _all_pairs(held, len(luck))


def _all_pairs(held: Mapping[int, NDArray[np.float32]], n: int) -> list[list[float | None]]:
    """CKA of every base with every adapted layer from n x n Gram matrices."""
    if n < 4:
        return [[None] * len(held) for _ in held]
    grams = [[_gram(rows[side]) for rows in held.values()] for side in (0, 1)]
    own = [[_hsic(gram, gram) for gram in side] for side in grams]
    table: list[list[float | None]] = []
    for base, of_base in zip(grams[0], own[0], strict=True):
        row = []
        for adapted, of_adapted in zip(grams[1], own[1], strict=True):
            known = of_base > 0 and of_adapted > 0
            row.append(_hsic(base, adapted) / float(np.sqrt(of_base * of_adapted)) if known else None)
        table.append(row)
    return table


def _gram(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    centred = rows.astype(np.float64)
    centred -= centred.mean(axis=0)
    return centred @ centred.T


def _hsic(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Unbiased ||Cov||_F^2 from the Gram matrices of centred rows: <K, L> / n^2 is the plain square."""
    n = len(one)
    plain = float(np.sqrt(max(0.0, float(np.sum(one * other))))) / n
    a, b = np.diag(one), np.diag(other)
    return unbiased_square(n, [[plain]], float(a.mean() * b.mean()), float(np.mean(a * b)))
