"""Where an adapter can write into the residual stream on its own: the joint column space of its updates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from finetune.adapter import deltas
from finetune.deltas import Update
from geometry.live.anatomy import blocks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from finetune.adapter import Attached

_NORM_AFTER = "post_feedforward_layernorm"
_EMBEDDINGS = ("embed_tokens", "wte", "embed_in", "word_embeddings")


def written_spaces(
    attached: Attached, name: str, layers: Sequence[int]
) -> dict[int, NDArray[np.float64]] | None:
    """Span of everything that an adapter's updates write into the stream up to each block.

    The output of an attention or MLP projection is added to the stream, so what an update of it adds lies in the
    update's column space. Whatever else moves came from reading a stream that had changed before, or from
    changed queries, keys, values and hidden units: it is propagated through weights of the base.

    Args:
        attached: the attached adapter.
        name: which adapter on the model.
        layers: block numbers.

    Returns:
        Block -> orthonormal columns (d, m), m = 0 where nothing is written up to there. None where the columns
        cannot be read from B: for DoRA, which rescales whole rows of the weight, and for models that normalise
        the output of a projection before they add it.
    """
    if attached.preflight.variant == "dora" or hasattr(blocks(attached.model)[0], _NORM_AFTER):
        return None
    columns: dict[int, list[NDArray[np.float64]]] = {layer: [] for layer in layers}
    for module, delta in deltas(attached, name).items():
        update = Update(module, delta, delta.rank, delta.scale * delta.rank)
        if not (update.writes or module.endswith(_EMBEDDINGS)):
            continue
        u, s, _ = delta.svd()
        live = u[:, s > s[0] * 1e-9] if s[0] > 0 else u[:, :0]
        for layer in layers:
            if (update.layer if update.layer is not None else -1) <= layer:
                columns[layer].append(live)
    width = attached.loaded.width
    return {layer: _span(found, width) for layer, found in columns.items()}


def _span(parts: Sequence[NDArray[np.float64]], width: int) -> NDArray[np.float64]:
    joined = np.hstack([np.zeros((width, 0)), *parts])
    if not joined.shape[1]:
        return joined
    u, s, _ = np.linalg.svd(joined, full_matrices=False)
    return u[:, s > s[0] * 1e-9]
