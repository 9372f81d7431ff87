"""Which keys a query sees, asked tile by tile, so that no T x T mask is ever made.

transformers builds its masks from a function of (batch, head, query, key) and the padding. For the
attention implementation of :mod:`geometry.live.attention_calls` that function is kept, in a
:class:`LazySight`, and evaluated where it is needed: sliding and chunked windows, padding, packed sequences
and caches are all in it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable

HIDDEN = 1e30
"""Subtracted from the logit of a hidden key; finite, so that nothing becomes NaN."""

ALL, SOME, NONE = "all", "some", "none"


@dataclass(frozen=True)
class PlainSight:
    """No mask object: causal, or everything.

    Attributes:
        causal: query i sees keys 0 to i; else all of them.
        first_query: where the queries stand in the context.
        first_key: where the keys do.
    """

    causal: bool
    first_query: int = 0
    first_key: int = 0
    real = None

    def seen(self, rows: Tensor, start: int, stop: int) -> Tensor:
        """(1, 1, R, K) booleans for these queries (local indices) and keys start to stop."""
        keys = torch.arange(start, stop, device=rows.device)
        if not self.causal:
            return torch.ones(1, 1, len(rows), stop - start, dtype=torch.bool, device=rows.device)
        return (keys <= rows[:, None])[None, None]

    def limits(self, rows: Tensor, n_keys: int) -> tuple[int, int]:
        """Keys outside of these bounds are hidden from all of the rows."""
        return 0, min(int(rows.max()) + 1, n_keys) if self.causal else n_keys

    def kind(self, rows: Tensor, start: int, stop: int) -> str:
        """Whether the rows see all, some or none of these keys."""
        if not self.causal or int(rows.min()) >= stop - 1:
            return ALL
        return SOME if int(rows.max()) >= start else NONE


@dataclass(frozen=True)
class LazySight:
    """A mask function of transformers with its offsets and padding, not yet evaluated.

    Attributes:
        function: (batch, head, query, key) absolute indices -> whether it is seen.
        real: (B, n) True at tokens, False at padding, by absolute key; None without padding.
        batch: number of texts.
        first_query: where the queries stand in the context.
        first_key: where the keys do; above 0 where a sliding cache has dropped keys.
        local: size of the window or chunk; None for full attention.
        plain: causal and at most local, with no other pattern laid over it.
    """

    function: Callable[..., Any]
    real: Tensor | None
    batch: int
    first_query: int
    first_key: int
    local: int | None
    plain: bool
    device: torch.device
    _kinds: dict[tuple[int, ...], str] = field(default_factory=dict, repr=False)

    def seen(self, rows: Tensor, start: int, stop: int) -> Tensor:
        """(B, 1, R, K) booleans for these queries (local indices) and keys start to stop."""
        device = self.device
        b = torch.arange(self.batch, device=device)[:, None, None, None]
        h = torch.zeros(1, 1, 1, 1, dtype=torch.long, device=device)
        q = rows.to(device)[None, None, :, None] + self.first_query
        k = torch.arange(start, stop, device=device) + self.first_key
        found = self.function(b, h, q, k[None, None, None, :])
        if self.real is not None:
            found = found & self.real[:, k][:, None, None, :]
        return found.expand(self.batch, 1, len(rows), stop - start)

    def limits(self, rows: Tensor, n_keys: int) -> tuple[int, int]:
        """Keys outside of these bounds are hidden from all of the rows."""
        if not self.plain:
            return 0, n_keys
        ahead = self.first_query - self.first_key
        start = 0 if self.local is None else int(rows.min()) + ahead - self.local + 1
        return min(max(start, 0), n_keys), min(int(rows.max()) + ahead + 1, n_keys)

    def kind(self, rows: Tensor, start: int, stop: int) -> str:
        """Whether the rows see all, some or none of these keys; remembered for the next layer."""
        key = (int(rows[0]), int(rows[-1]), len(rows), start, stop)
        if key not in self._kinds:
            total = int(self.seen(rows, start, stop).sum())
            every = self.batch * len(rows) * (stop - start)
            self._kinds[key] = NONE if not total else ALL if total == every else SOME
        return self._kinds[key]


@dataclass(frozen=True)
class GivenSight:
    """A whole mask that the caller, or a model of unusual pattern, has made.

    Attributes:
        mask: (B or 1, H or 1, Tq, >= Tk), booleans, or numbers that are added to the logits.
        first_query: where the queries stand in the context.
        first_key: where the keys do.
    """

    mask: Tensor
    first_query: int
    first_key: int = 0
    real = None

    def seen(self, rows: Tensor, start: int, stop: int) -> Tensor:
        """(B or 1, H or 1, R, K) booleans for these queries and keys start to stop."""
        part = self.mask[:, :, rows, start:stop]
        return part if part.dtype == torch.bool else part > -HIDDEN / 10

    def added(self, rows: Tensor, start: int, stop: int) -> Tensor | None:
        """What is added to the logits of seen keys; None for a mask of booleans."""
        if self.mask.dtype == torch.bool:
            return None
        part = self.mask[:, :, rows, start:stop].float()
        return part.masked_fill(part <= -HIDDEN / 10, 0.0)

    def limits(self, rows: Tensor, n_keys: int) -> tuple[int, int]:
        """Nothing is known without looking."""
        return 0, n_keys

    def kind(self, rows: Tensor, start: int, stop: int) -> str:
        """Whether the rows see all, some or none of these keys."""
        seen = self.seen(rows, start, stop)
        return ALL if bool(seen.all()) else SOME if bool(seen.any()) else NONE


Sight = PlainSight | LazySight | GivenSight


def lazy_mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int | Tensor = 0,
    kv_offset: int = 0,
    mask_function: Callable[..., Any] | None = None,
    attention_mask: Tensor | None = None,
    local_size: int | None = None,
    allow_is_causal_skip: bool = True,
    allow_is_bidirectional_skip: bool = False,
    use_vmap: bool = False,
    device: torch.device | str = "cpu",
    **more: Any,
) -> LazySight | Tensor | None:
    """A mask function for transformers' AttentionMaskInterface, with the arguments that it prescribes.

    Args:
        batch_size: number of texts.
        q_length: number of queries.
        kv_length: number of keys.
        q_offset: absolute index of the first query.
        kv_offset: absolute index of the first key.
        mask_function: the pattern.
        attention_mask: (B, n), 0 at padding.
        local_size: of a window or chunk.
        allow_is_causal_skip: whether None may stand for a causal mask.
        allow_is_bidirectional_skip: whether None may stand for no mask.
        use_vmap: the pattern is a user's own and may not broadcast; it is then evaluated at once.
        device: where the mask is wanted.
        **more: what else transformers hands over.

    Returns:
        None where sdpa needs no mask; else the unevaluated mask, or a tensor for a pattern of a user.
    """
    from transformers.masking_utils import causal_mask_function, sdpa_mask

    if use_vmap:
        return sdpa_mask(
            batch_size, q_length, kv_length, q_offset, kv_offset, mask_function, attention_mask, local_size,
            allow_is_causal_skip, allow_is_bidirectional_skip, use_vmap, device, **more,
        )  # fmt: skip
    local = local_size if local_size is not None and kv_length >= local_size else None
    real = _padding(attention_mask, kv_length + kv_offset)
    if local is None and real is None:
        square = q_length in {1, kv_length}
        if (allow_is_causal_skip and square) or allow_is_bidirectional_skip:
            return None
    return LazySight(
        mask_function or causal_mask_function,
        real,
        batch_size,
        int(q_offset),
        int(kv_offset),
        local,
        allow_is_causal_skip,
        torch.device(device),
    )


def _padding(attention_mask: Tensor | None, length: int) -> Tensor | None:
    """(B, length) True at tokens, or None if no key is padding. Keys past the mask were never written."""
    if attention_mask is None:
        return None
    real = attention_mask.bool()
    if (short := length - real.shape[-1]) > 0:
        real = torch.nn.functional.pad(real, (0, short))
    return None if bool(real[:, :length].all()) else real
