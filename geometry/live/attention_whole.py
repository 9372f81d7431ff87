"""What needs whole rows of weights: a few rows at a time, so memory still grows with the context only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from geometry.attention_rows import CloserAttention
from geometry.live.attention_outputs import row_chunks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geometry.live.attention_calls import Call
    from geometry.live.attention_request import Plan

NUCLEUS = 0.9
"""Share of the weight that the nucleus holds."""

GAPS = (1.0, 2.0, 4.0)
"""Nats below the largest logit within which keys are counted."""

MAP_BLOCKS = 32
"""Blocks of the context along each side of the pooled map, at most."""


def closer(call: Call, plan: Plan, rows: NDArray[np.int64]) -> CloserAttention:
    """Read whole rows.

    Args:
        call: the attention.
        plan: of its context.
        rows: (R,), absolute indices of queries of this call.

    Returns:
        Statistics of these rows; keys are indexed absolutely.
    """
    b, h = call.query.shape[:2]
    first_key, length = call.sight.first_key, call.sight.first_key + call.n_keys
    blocks = min(MAP_BLOCKS, plan.length)
    block_of = np.minimum(np.arange(max(length, int(rows.max()) + 1)) * blocks // plan.length, blocks - 1)
    key_blocks = _indicator(block_of[first_key:length], blocks).to(call.query.device)
    received = np.zeros((b, h, length))
    seen_by = np.zeros((b, length), np.int32)
    nucleus, gaps = np.zeros((b, h, len(rows)), np.int32), np.zeros((b, h, len(rows), len(GAPS)), np.int32)
    pooled = np.zeros((b, h, blocks, blocks))
    signal = np.zeros((b, h, len(rows), len(plan.members)), np.float32)
    local = torch.from_numpy(rows - call.sight.first_query).to(call.query.device)
    for item, heads, chosen in row_chunks(call, local):
        s, seen = call.logits(item, heads, chosen, 0, call.n_keys)
        p = s.softmax(dim=-1) * seen
        own = slice(heads.start * call.group, heads.stop * call.group)
        at = np.searchsorted(rows, chosen.cpu().numpy() + call.sight.first_query)
        received[item, own, first_key:] += p.double().sum(dim=2).flatten(0, 1).cpu().numpy()
        if heads.start == 0:
            seen_by[item, first_key:] += seen[0, 0].sum(dim=0).int().cpu().numpy()
        nucleus[item][own, at] = _nucleus(p).flatten(0, 1).cpu().numpy()
        below = s.amax(dim=-1, keepdim=True) - s
        for i, gap in enumerate(GAPS):
            gaps[item][own, at, i] = ((below <= gap) & seen).sum(dim=-1).flatten(0, 1).cpu().numpy()
        signal[item][own, at] = _signal(call, plan, item, heads, p)
        by_key = (p @ key_blocks).double().flatten(0, 1).cpu().numpy()
        pooled[item, own] += np.einsum("hrk,rq->hqk", by_key, _indicator(block_of[rows[at]], blocks).numpy())
    received /= np.maximum(seen_by, 1)[:, None]
    counts = np.bincount(block_of[rows], minlength=blocks).astype(np.int32)
    pooled /= np.maximum(counts, 1)[:, None]
    return CloserAttention(
        received.astype(np.float32), seen_by, nucleus, gaps, pooled.astype(np.float32), counts, signal
    )


def joined(parts: list[CloserAttention]) -> CloserAttention:
    """Statistics of all rows from those of several passes over one context.

    Args:
        parts: in order; keys of the last include those of all.

    Returns:
        Means over rows are weighted by how many rows each part had.
    """
    length = parts[-1].seen_by.shape[1]
    seen_by = np.stack([_longer(part.seen_by, length) for part in parts])
    received = np.stack([_longer(part.received, length) for part in parts])
    counts = np.stack([part.block_rows for part in parts])
    maps = np.stack([part.block_map for part in parts])
    mean = (received * seen_by[:, :, None]).sum(axis=0) / np.maximum(seen_by.sum(axis=0), 1)[:, None]
    pooled = np.einsum("pbhqk,pq->bhqk", maps, counts) / np.maximum(counts.sum(axis=0), 1)[:, None]
    return CloserAttention(
        mean.astype(np.float32),
        seen_by.sum(axis=0),
        np.concatenate([part.nucleus for part in parts], axis=2),
        np.concatenate([part.gaps for part in parts], axis=2),
        pooled.astype(np.float32),
        counts.sum(axis=0),
        np.concatenate([part.signal for part in parts], axis=2),
    )


def _signal(call: Call, plan: Plan, item: int, heads: slice, p: Tensor) -> NDArray[np.float32]:
    """(h * g, R, G) share of each group in the length of the output; weights are (h, g, R, K)."""
    values = call.value[item, heads].float()[:, None]
    keys = np.arange(call.sight.first_key, call.sight.first_key + call.n_keys)
    segment = np.searchsorted(plan.cuts, keys, side="right") - 1
    whole = torch.linalg.vector_norm(p @ values, dim=-1)
    found = []
    for _, members in sorted(plan.members.items()):
        inside = torch.from_numpy(np.flatnonzero(members[item][segment])).to(p.device)
        part = torch.linalg.vector_norm(p[..., inside] @ values[..., inside, :], dim=-1)
        found.append(torch.where(whole > 0, part / whole.clamp_min(torch.finfo(whole.dtype).tiny), 0 * part))
    whole = torch.stack(found, dim=-1) if found else whole.new_zeros(*whole.shape, 0)
    return whole.flatten(0, 1).cpu().numpy()


def _longer(array: NDArray[np.float32], length: int) -> NDArray[np.float32]:
    return np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, length - array.shape[-1])])


def _indicator(block_of: NDArray[np.int64], blocks: int) -> Tensor:
    return torch.nn.functional.one_hot(torch.from_numpy(block_of), blocks).float()


def _nucleus(p: Tensor) -> Tensor:
    """Fewest keys that hold the nucleus; 0 for a row that sees no key."""
    kept = p.sort(dim=-1, descending=True).values.double().cumsum(dim=-1)
    return ((kept < NUCLEUS * kept[..., -1:]).sum(dim=-1) + 1) * (kept[..., -1] > 0)
