"""The base against itself: what other batching and another number format do to the residual stream.

Nothing was learnt here, so the sizes that come out are the numerical floor of every difference.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch

from geometry.live.anatomy import unwrapped
from geometry.live.capture import block_outputs, model_inputs, sink_mask, token_batches

if TYPE_CHECKING:
    from collections.abc import Sequence

    from finetune.adapter import Attached

    Rows = list[dict[int, torch.Tensor]]

LARGEST_COPIED = 1_000_000_000
"""Parameters of the largest model that is copied to run it in bfloat16."""

BATCHING, BFLOAT16 = "each text alone", "bfloat16"


def placebo_sizes(
    attached: Attached, texts: Sequence[str], layers: Sequence[int]
) -> dict[str, dict[int, float]]:
    """Median |d| / |h| between two runs of the base that should agree.

    Args:
        attached: an attached adapter, which is switched off meanwhile.
        texts: a few, each within the model's context.
        layers: block numbers.

    Returns:
        ``each text alone``, against one padded batch, and ``bfloat16``, against the model's own float32 (left out
        for a model of another format, or too large to be copied) -> block -> the median over tokens; attention
        sinks are left out.
    """
    with attached.model.disable_adapter():
        together = _rows(attached, attached.model, texts, layers, batch_tokens=1 << 30)
        found = {BATCHING: _rows(attached, attached.model, texts, layers, batch_tokens=1)}
        inner = unwrapped(attached.model)
        if inner.dtype == torch.float32 and inner.num_parameters() <= LARGEST_COPIED:
            coarse = copy.deepcopy(attached.model).to(torch.bfloat16)
            found[BFLOAT16] = _rows(attached, coarse, texts, layers, batch_tokens=1 << 30)
    return {name: _medians(together, other, layers) for name, other in found.items()}


def _rows(
    attached: Attached,
    model: torch.nn.Module,
    texts: Sequence[str],
    layers: Sequence[int],
    *,
    batch_tokens: int,
) -> Rows:
    """The stream of every text, (tokens, d) a layer, in the order of the texts."""
    rows: Rows = [{} for _ in texts]
    batches = token_batches(
        texts, attached.loaded.tokenizer, max_length=attached.loaded.max_length, batch_tokens=batch_tokens
    )
    for batch in batches:
        with torch.inference_mode(), block_outputs(model, layers) as stream:
            model(**model_inputs(model, batch))
        for row, index in enumerate(batch.text_index.tolist()):
            real = batch.attention_mask[row].bool()
            rows[index] = {layer: stream[layer][row].cpu()[real].float() for layer in layers}
    return rows


def _medians(one: Rows, other: Rows, layers: Sequence[int]) -> dict[int, float]:
    medians = {}
    for layer in layers:
        sizes = []
        for mine, theirs in zip(one, other, strict=True):
            norms = mine[layer].norm(dim=-1)
            kept = ~sink_mask(norms[None])[0]
            sizes.append(((theirs[layer] - mine[layer]).norm(dim=-1) / norms)[kept])
        joined = torch.cat(sizes)
        medians[layer] = float(joined.median()) if len(joined) else 0.0
    return medians
