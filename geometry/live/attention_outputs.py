"""What attention gives where plain sdpa cannot: under unevaluated masks, with soft caps, sinks and biases.

Memory is that of a few rows at a time, so it grows with the context only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from geometry.live.attention_calls import Call

_ROWS_AT_ONCE = 256
_LOGITS_AT_ONCE = 1 << 20


def blockwise_output(call: Call) -> Tensor:
    """Compute attention under a mask that is not evaluated: sdpa on a block of queries and the keys that it may see.

    Args:
        call: the attention, without soft cap, learned sinks and biases.

    Returns:
        (B, Tq, H, Dv); 0 for queries that see no key.
    """
    b, h, n, _ = call.query.shape
    packed = (b, call.key.shape[1], -1, call.query.shape[-1])
    output = call.value.new_empty(b, n, h, call.value.shape[-1])
    for first in range(0, n, _ROWS_AT_ONCE):
        rows = torch.arange(first, min(first + _ROWS_AT_ONCE, n), device=call.query.device)
        start, stop = call.sight.limits(rows, call.n_keys)
        if stop <= start:
            output[:, rows] = 0
            continue
        # heads that share keys stand below each other, so keys are not repeated
        query = call.query[:, :, first : first + len(rows)].reshape(packed)
        seen = call.sight.seen(rows, start, stop).repeat(1, 1, call.group, 1)
        keys, values = call.key[:, :, start:stop], call.value[:, :, start:stop]
        done = nn.functional.scaled_dot_product_attention(
            query, keys, values, attn_mask=seen, scale=call.scale
        )
        output[:, rows] = done.reshape(b, h, len(rows), -1).transpose(1, 2)
    return output


def dense_output(call: Call) -> Tensor:
    """Compute attention as eager does, a few rows at a time: soft caps, learned sinks, biases under a mask.

    Args:
        call: the attention.

    Returns:
        (B, Tq, H, Dv); 0 for queries that see no key.
    """
    b, h, n, _ = call.query.shape
    output = call.value.new_empty(b, n, h, call.value.shape[-1])
    for item, heads, rows in row_chunks(call, torch.arange(n, device=call.query.device)):
        start, stop = call.sight.limits(rows, call.n_keys)
        s, seen = call.logits(item, heads, rows, start, stop)
        if call.sinks is not None:
            sink = call.sinks.float().view(-1, call.group, 1, 1)[heads].expand(*s.shape[:3], 1)
            p = torch.cat([s, sink], dim=-1).softmax(dim=-1)[..., :-1]
        else:
            p = s.softmax(dim=-1)
        p = (p * seen).to(call.value.dtype)
        mixed = p.flatten(1, 2) @ call.value[item, heads, start:stop]
        mixed = mixed.unflatten(1, (call.group, len(rows))).flatten(0, 1)
        first = heads.start * call.group
        output[item, rows, first : first + mixed.shape[0]] = mixed.transpose(0, 1)
    return output


def row_chunks(
    call: Call, rows: Tensor, at_once: int = _LOGITS_AT_ONCE
) -> Iterator[tuple[int, slice, Tensor]]:
    """Cut the rows of all texts and heads into parts whose logits fit into little memory.

    Args:
        call: the attention.
        rows: local indices of queries.
        at_once: most logits of a part, unless a single row has more.

    Yields:
        Text, key heads, and rows.
    """
    each = call.n_keys * call.group
    count = max(1, min(len(rows), at_once // each))
    heads = max(1, min(call.key.shape[1], at_once // (each * count)))
    for item in range(call.query.shape[0]):
        for first in range(0, call.key.shape[1], heads):
            part = slice(first, min(first + heads, call.key.shape[1]))
            for chosen in rows.split(count):
                yield item, part, chosen
