"""How far every head spreads its attention: by position, and by length with the text held fixed.

Every slope stands between the uniform bound (1: entropy grows as log n) and what random subsets of a row's own keys
give, which is what dilution alone would do to that very row. Numbers are averaged over rows within a passage, and
passages are what intervals are over. Layers with a window are told apart: they see no more once it is full.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from finetune.attention_passages import LAST_ROWS, Passage, read_attention
from finetune.causal import context_length
from geometry.checks import DataError
from geometry.dispersion import log_slope
from geometry.focus import FIRST_ROW, position_slope, subset_slope
from geometry.over_prompts import discoveries, flipped_signs, mean_over_prompts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray
    from torch import nn

    from geometry.attention_rows import AttentionAnswer, LayerAttention

    Array = NDArray[np.float64]

BANDS = 14
"""Places of the layer x position map."""
FLIPS = 10_000
RATE = 0.05


@dataclass(frozen=True, eq=False)
class Read:
    """What is kept of one passage; arrays over layers (L) and heads (H), NaN where a layer has no such number.

    Attributes:
        entropy: (L, H, R) over keys that are no sink, nats, at the longest length.
        seen: (L, R) those keys in sight.
        across_positions: (L, H) slope of entropy along log n over rows.
        null: (L, H) the same over random subsets of each row's own keys.
        across_lengths: (L, H) slope over lengths of the last rows' entropy, the text held fixed.
        ladder: (L, S) mean entropy of the last rows within nested subsets, and ``ladder_seen`` their keys.
        final: (L, H) entropy of the last rows at the longest length.
        sink: (K, L, H) mass of the last rows on the first tokens, by length.
        whole: (L, H) entropy of the last rows over all keys.
        distances: (L, E) mass of the last rows by distance, mean over heads.
    """

    entropy: Array
    seen: Array
    across_positions: Array
    null: Array
    across_lengths: Array
    ladder: Array
    ladder_seen: Array
    final: Array
    sink: Array
    whole: Array
    distances: Array


def attention_facts(
    sides: Callable[[], Iterator[tuple[str, nn.Module]]],
    passages: Sequence[Passage],
    lengths: Sequence[int],
    *,
    seed: int,
    keep: Callable[[str, int, AttentionAnswer], None] = lambda *_: None,
    progress: Callable[[str, float], None],
) -> dict[str, Any]:
    """Read passages with every side.

    Args:
        sides: gives the base, and the adapted model after it if there is one.
        passages: two or more, each as long as the longest length.
        lengths: tokens, ascending.
        seed: of the sign flips.
        keep: is given every side, passage (from 1) and what was read of it, which goes thereafter.
        progress: is told what is done, and the share.

    Returns:
        JSON values: ``lengths``, ``passages``, ``trained_length``, ``layers`` (block, kind, window), ``heads``,
        ``rows``, ``distance_edges``, ``skipped``, ``sides`` and ``change`` (None without an adapter).

    Raises:
        DataError: fewer than two passages, lengths not ascending, or see
            :func:`finetune.attention_passages.read_attention`.
        ModelError: the model is off the attention interface, or has no attention at all.
    """
    if len(passages) < 2:
        raise DataError("attention: the text gives one passage, and intervals take two; give more text")
    if not lengths or list(lengths) != sorted(set(lengths)):
        raise DataError(f"lengths: expected ascending numbers, each once, got {', '.join(map(str, lengths))}")
    if lengths[0] < 2 * FIRST_ROW:
        raise DataError(
            f"length {lengths[0]}: slopes leave out the first {FIRST_ROW} rows; ask for {2 * FIRST_ROW}"
        )
    reads: dict[str, list[Read]] = {}
    for name, model in sides():
        trained, found = context_length(model), []
        for number, passage in enumerate(passages, 1):
            answers = read_attention(model, passage, lengths)
            for answer in answers:
                keep(name, number, answer)
            found.append(_read(answers))
            progress(name, number / len(passages))
        reads[name] = found
    last = answers[-1]
    return {
        "lengths": list(lengths),
        "passages": len(passages),
        "documents": float(np.mean([passage.documents for passage in passages])),
        "last_rows": LAST_ROWS,
        "trained_length": trained,
        "layers": [{"layer": x.layer, "kind": x.kind, "window": x.window} for x in last.layers],
        "heads": last.layers[0].shape[1],
        "rows": last.layers[0].rows.tolist(),
        "distance_edges": last.distance_edges.tolist(),
        "skipped": {str(layer): why for layer, why in last.skipped.items()},
        "sides": {name: _side(found, last.layers[0].rows) for name, found in reads.items()},
        "change": _change(*reads.values(), np.random.default_rng(seed)) if len(reads) == 2 else None,
    }


def _read(answers: Sequence[AttentionAnswer]) -> Read:
    last = answers[-1]
    ends = [[_ending(layer) for layer in answer.layers] for answer in answers]
    final = np.array([[layer["outside"] for layer in row] for row in ends])  # (K, L, H)
    seen = np.array([[layer["seen"] for layer in row] for row in ends])  # (K, L)
    full = [layer.window is None for layer in last.layers]
    across = np.full(final.shape[1:], np.nan)
    if len(answers) > 1:
        for i in np.flatnonzero(full):
            across[i] = log_slope(seen[:, i], final[:, i].T)
    return Read(
        entropy=np.stack([layer.groups["sink"].entropy_outside[0] for layer in last.layers]).astype(float),
        seen=np.stack([_seen(layer) for layer in last.layers]),
        across_positions=np.stack([_by_position(layer) for layer in last.layers]),
        null=np.stack([_null(layer) for layer in last.layers]),
        across_lengths=across,
        ladder=np.stack([layer["ladder"] for layer in ends[-1]]),
        ladder_seen=np.stack([layer["ladder_seen"] for layer in ends[-1]]),
        final=final[-1],
        sink=np.array([[layer["sink"] for layer in row] for row in ends]),
        whole=np.stack([layer["whole"] for layer in ends[-1]]),
        distances=np.stack([layer["distances"] for layer in ends[-1]]),
    )


def _seen(layer: LayerAttention) -> Array:
    """(R,) keys in sight that are no sink."""
    return (layer.visible[0] - layer.groups["sink"].visible[0]).astype(float)


def _ending(layer: LayerAttention) -> dict[str, Array]:
    """Means over the last rows."""
    end = slice(-LAST_ROWS, None)
    sink = layer.groups["sink"]
    return {
        "outside": sink.entropy_outside[0, :, end].mean(axis=-1).astype(float),
        "whole": layer.entropy[0, :, end].mean(axis=-1).astype(float),
        "seen": _seen(layer)[end].mean(),
        "sink": sink.mass[0, :, end].mean(axis=-1).astype(float),
        "distances": layer.distances[0, :, end].mean(axis=(0, 1)).astype(float),
        "ladder": layer.subset_entropy[0, :, end].mean(axis=(0, 1)).astype(float),
        "ladder_seen": layer.subset_visible[0, end].mean(axis=0).astype(float),
    }


def _by_position(layer: LayerAttention) -> Array:
    """(H,); NaN in a window, in which n stands still."""
    if layer.window is not None:
        return np.full(layer.shape[1], np.nan)
    return position_slope(_seen(layer), layer.groups["sink"].entropy_outside[0])


def _null(layer: LayerAttention) -> Array:
    """(H,) from the whole row and its halves, quarters, ... of the last rows, as far as they hold enough keys."""
    end = slice(-LAST_ROWS, None)
    seen = np.concatenate([_seen(layer)[end, None], layer.subset_visible[0, end]], axis=-1)
    outside = layer.groups["sink"].entropy_outside[0][:, end, None]
    entropy = np.concatenate([outside, layer.subset_entropy[0, :, end]], axis=-1)
    enough = seen.min(axis=0) >= FIRST_ROW // 2
    if layer.window is not None or enough.sum() < 2:
        return np.full(layer.shape[1], np.nan)
    return subset_slope(seen[:, enough], entropy[..., enough], least=FIRST_ROW // 2)


def _side(reads: Sequence[Read], rows: NDArray[np.int64]) -> dict[str, Any]:
    stacked = {name: np.stack([getattr(one, name) for one in reads]) for name in Read.__dataclass_fields__}
    slopes = {name: _records(stacked[name]) for name in ("across_positions", "across_lengths", "null")}
    excess = stacked["across_positions"] - stacked["null"]
    return {
        "entropy": _records(stacked["entropy"].mean(axis=2)),
        "seen": stacked["seen"].mean(axis=0).tolist(),
        **slopes,
        "excess": _records(excess),
        "layer_slopes": {
            name: _records(values.mean(axis=-1))
            for name, values in (
                ("across_positions", stacked["across_positions"]),
                ("across_lengths", stacked["across_lengths"]),
                ("null", stacked["null"]),
                ("excess", excess),
            )
        },
        "ladder": _records(stacked["ladder"]),
        "ladder_seen": stacked["ladder_seen"].mean(axis=0).tolist(),
        "final": _records(stacked["final"]),
        "sink": [_records(values.mean(axis=-1)) for values in np.moveaxis(stacked["sink"], 1, 0)],
        "distances": _records(stacked["distances"]),
        "focus_map": _focus_map(stacked, rows),
    }


def _focus_map(stacked: dict[str, Array], rows: NDArray[np.int64]) -> dict[str, Any]:
    """In bands of positions, log n - H: nats by which a layer is more focused than even attention."""
    edges = np.unique(np.rint(np.geomspace(FIRST_ROW // 4, rows[-1] + 1, BANDS + 1)).astype(int))
    seen = np.maximum(stacked["seen"], 1.0)[:, :, None]
    focus = (np.log(seen) - stacked["entropy"]).mean(axis=(0, 2))  # (L, R)
    inside = [(rows >= low) & (rows < high) for low, high in pairwise(edges)]
    kept = [i for i, one in enumerate(inside) if one.any()]
    return {
        "from": [int(edges[i]) for i in kept],
        "values": np.stack([focus[:, inside[i]].mean(axis=1) for i in kept], axis=1).tolist(),
    }


def _records(values: Array) -> list[dict[str, Any] | None]:
    """A record a layer of (P, L, ...), None for a layer without the number."""
    return [
        mean_over_prompts(values[:, i]).record() if np.isfinite(values[:, i]).all() else None
        for i in range(values.shape[1])
    ]


def _change(base: Sequence[Read], adapted: Sequence[Read], rng: np.random.Generator) -> dict[str, Any]:
    def moved(name: str) -> Array:
        return np.stack([getattr(b, name) - getattr(a, name) for a, b in zip(base, adapted, strict=True)])

    found = {}
    for name, values in (("entropy", moved("final")), ("sink", moved("sink")[:, -1])):
        p = flipped_signs(values, FLIPS, rng)
        picked = discoveries(p, RATE)
        found[name] = {
            **mean_over_prompts(values).record(),
            "layers": _records(values.mean(axis=-1)),
            "p": p.tolist(),
            "picked": picked.tolist(),
            "gaining": int(np.sum(picked & (values.mean(axis=0) > 0))),
            "losing": int(np.sum(picked & (values.mean(axis=0) < 0))),
            "least_p": 2.0 ** (1 - len(values)) if len(values) <= 12 else 1 / (FLIPS + 1),
        }
    return found
