"""What a patched copy writes: rewriting with a part of the adapter's change taken out or kept alone.

A patch is made of the states of base and adapted model, so these two must read what the copy writes. Three rows go
through each step together, the base's, the adapted model's and the copy's, over one cache; the copy alone decides
which token comes next, and all three read it. What a patched copy writes is therefore its own text, and the two
companions are asked what they would hold in mind while reading that text, not what they would have written.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch
from transformers import DynamicCache

from finetune.adapter import ADAPTER, BASE, forward_together
from finetune.causal import context_length, evaluating, padding_id, require_causal
from finetune.patched import edit_of, require_mixing
from finetune.transfer import answer_text, batches, prompt_ids, stop_ids
from geometry.checks import InputError
from geometry.live.anatomy import unwrapped
from geometry.live.intervene import edited_stream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from finetune.adapter import Attached
    from finetune.patched import Patch


def patched_transfer(
    attached: Attached,
    texts: Sequence[str],
    patch: Patch,
    *,
    max_new_tokens: int = 128,
    batch_size: int = 16,
) -> list[str]:
    """Rewrite texts with a patched copy of the model, the most probable token each time.

    Args:
        attached: the attached adapter; no hook stays.
        texts: what to rewrite.
        patch: what is done to the copy; with no rewrites the copy is the plain model whose blocks it runs through.
        max_new_tokens: longest answer in tokens.
        batch_size: texts in one forward pass, which has three rows for each.

    Returns:
        One answer for each text, as :func:`finetune.transfer.transfer` gives.

    Raises:
        AdapterError: whole modules were trained, which cannot be mixed in a batch.
        DataError: a text is empty, or its prompt fills the model's context.
        InputError: ``max_new_tokens`` or ``batch_size`` is below 1.
        LayerError: a block that the model does not have.
        ModelError: not a causal language model, or its tokenizer has no end-of-text token.
        ShapeError: a basis or mean of another width than the model's.
    """
    if max_new_tokens < 1 or batch_size < 1:
        raise InputError("max_new_tokens and batch_size must be at least 1")
    require_causal(attached.model)
    require_mixing(attached)
    tokenizer, limit = attached.loaded.tokenizer, context_length(attached.model)
    prompts = prompt_ids(tokenizer, texts, (), limit)
    room = [min(max_new_tokens, limit - len(prompt)) for prompt in prompts]
    stops = stop_ids(tokenizer)
    answers = [""] * len(prompts)
    edits = {layer: edit_of([patch], layer) for layer in patch.rewrites}
    with evaluating(attached.model), edited_stream(attached.model, edits):
        for batch in batches([len(prompt) for prompt in prompts], room, batch_size):
            written = _write(attached, [prompts[i] for i in batch], patch.blocks_of, room[batch[0]], stops)
            for i, ids in zip(batch, written, strict=True):
                answers[i] = answer_text(tokenizer, ids, stops)
    return answers


def _write(
    attached: Attached, prompts: list[list[int]], blocks_of: str, room: int, stops: list[int]
) -> list[list[int]]:
    """Write up to ``room`` tokens after each prompt; what follows an answer's end means nothing."""
    model, device = attached.model, attached.loaded.device
    ids, mask = _left_padded(prompts, padding_id(attached.loaded.tokenizer))
    ids, mask = ids.to(device), mask.to(device)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    cache = DynamicCache(config=unwrapped(model).config)
    counted = "position_ids" in inspect.signature(unwrapped(model).forward).parameters
    ends = torch.tensor(stops, device=device)
    done = torch.zeros(len(prompts), dtype=torch.bool, device=device)
    written: list[Tensor] = []
    while len(written) < room and not done.all():
        batch = {"input_ids": ids, "attention_mask": mask}
        if counted:
            batch["position_ids"] = positions
        options: dict[str, Any] = {"past_key_values": cache, "use_cache": True}
        out = forward_together(model, batch, (BASE, ADAPTER, blocks_of), **options)
        ids = out.logits.unflatten(0, (3, -1))[2, :, -1:].argmax(dim=-1)
        mask = torch.cat([mask, torch.ones_like(ids)], dim=1)
        positions = positions[:, -1:] + 1
        written.append(ids)
        done |= torch.isin(ids[:, 0], ends)
    return torch.cat(written, dim=1).tolist()


def _left_padded(prompts: list[list[int]], pad: int) -> tuple[Tensor, Tensor]:
    """Ids and mask (B, T), filled on the left so that all prompts end together."""
    width = max(map(len, prompts))
    ids = torch.full((len(prompts), width), pad)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    return ids, mask
