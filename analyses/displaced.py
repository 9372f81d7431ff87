"""The tokens that an adapter displaces most along a direction, in context, beside random ones."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from finetune.paired import paired_batches

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from finetune.adapter import Attached
    from finetune.pairs import Text

KEPT, CONTEXT = 8, 8
"""Tokens kept at each end of a direction, and tokens of context shown on their left."""


@dataclass(frozen=True, eq=False)
class Top:
    """Directions of one layer.

    Attributes:
        directions: (d, m) orthonormal columns.
        scales: (m,) standard deviation of the base along each.
    """

    directions: NDArray[np.float64]
    scales: NDArray[np.float64]


class _Ends:
    """The most displaced tokens of one direction, at most one from each document, and a random sample."""

    def __init__(self) -> None:
        self.best: dict[tuple[str, str], tuple[float, Any]] = {}
        self.sample: list[tuple[float, float, Any]] = []

    def offer(self, z: float, place: Any, document: str, luck: float) -> None:
        """Consider a token displaced by z."""
        side = "up" if z > 0 else "down"
        if abs(z) > abs(self.best.get((side, document), (0.0, None))[0]):
            self.best[side, document] = (z, place)
        item = (luck, z, place)
        if len(self.sample) < KEPT:
            heapq.heappush(self.sample, item)
        elif luck > self.sample[0][0]:
            heapq.heapreplace(self.sample, item)

    def trim(self) -> None:
        """Forget documents that can no longer be among the most displaced ones kept."""
        for side in ("up", "down"):
            held = sorted((k for k in self.best if k[0] == side), key=lambda k: -abs(self.best[k][0]))
            for key in held[KEPT:]:
                del self.best[key]


def displaced_tokens(
    attached: Attached,
    texts: Sequence[Text],
    tops: Mapping[int, Top],
    rng: np.random.Generator,
) -> list[dict[str, Any]]:
    """Find the tokens whose difference is largest along given directions.

    Args:
        attached: the attached adapter.
        texts: what to read.
        tops: layer -> the directions to look along.
        rng: source of the random control tokens.

    Returns:
        A record for each layer and direction: ``up`` and ``down``, the most displaced tokens at either
        end (at most one a document), and ``control``, tokens drawn at random. Each token has its text,
        the context before it, and z, its displacement in standard deviations of the base.
    """
    ends = {(layer, j): _Ends() for layer, top in tops.items() for j in range(len(top.scales))}
    for batch in paired_batches(attached, texts, list(tops)):
        rows, columns = np.nonzero(batch.chosen.numpy())
        luck = rng.random(len(rows))
        for layer, top in tops.items():
            moved = (batch.stream[layer][1] - batch.stream[layer][0]).float().numpy()[rows, columns]
            z = moved @ top.directions / np.maximum(top.scales, 1e-12)
            for j in range(len(top.scales)):
                end = ends[layer, j]
                for i in _candidates(z[:, j], luck):
                    index = int(batch.text_index[rows[i]])
                    place = (index, batch.ids[rows[i], : columns[i] + 1].tolist())
                    end.offer(float(z[i, j]), place, texts[index].doc_id, float(luck[i]))
                end.trim()
    decode = attached.loaded.tokenizer.decode
    return [
        {
            "layer": layer,
            "direction": j + 1,
            "up": _shown(end, "up", texts, decode),
            "down": _shown(end, "down", texts, decode),
            "control": [_token(z, place, texts, decode) for _, z, place in sorted(end.sample)],
        }
        for (layer, j), end in ends.items()
    ]


def _candidates(z: np.ndarray, luck: np.ndarray) -> np.ndarray:
    """Positions worth a look: far out at either end, or lucky. One document may fill the very top."""
    take = min(len(z), 8 * KEPT)
    far = np.argpartition(np.abs(z), -take)[-take:]
    lucky = np.argpartition(luck, -min(len(z), KEPT))[-KEPT:]
    return np.unique(np.concatenate([far, lucky]))


def _shown(end: _Ends, side: str, texts: Sequence[Text], decode: Any) -> list[dict[str, Any]]:
    held = sorted((v for k, v in end.best.items() if k[0] == side), key=lambda v: -abs(v[0]))
    return [_token(z, place, texts, decode) for z, place in held[:KEPT]]


def _token(z: float, place: Any, texts: Sequence[Text], decode: Any) -> dict[str, Any]:
    index, ids = place
    before = decode(ids[:-1][-CONTEXT:])
    return {"z": z, "token": decode(ids[-1:]), "before": before, "text": texts[index].id}


def without_context(record: dict[str, Any]) -> dict[str, Any]:
    """Keep the displaced tokens themselves, and nothing of the sentences around them."""
    sides = {side: [{**token, "before": ""} for token in record[side]] for side in ("up", "down", "control")}
    return {**record, **sides}
