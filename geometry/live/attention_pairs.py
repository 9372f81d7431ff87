"""Two attentions over the same keys, row by row: how far one is from the other, and at which distance."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from geometry.checks import ShapeError
from geometry.live.attention_outputs import row_chunks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geometry.live.attention_calls import Call

_PAIRS_AT_ONCE = 1 << 19


@dataclass(frozen=True)
class LayerShift:
    """How the attention p of one model differs from the attention q of another; B texts, H heads, R rows.

    Attributes:
        name: path of the attention module.
        layer: its block, from 0.
        kind: as in :class:`geometry.attention_rows.LayerAttention`.
        rows: (R,), absolute index of each query.
        visible: (B, R), keys that the row sees.
        entropy: (B, H, R), of p, nats.
        entropy_change: (B, H, R), H(q) - H(p), nats.
        kl: (B, H, R), sum p log(p / q), nats: what the change costs to who expects p.
        kl_reverse: (B, H, R), sum q log(q / p).
        hellinger: (B, H, R), in [0, 1]: sqrt(sum (sqrt p - sqrt q)^2 / 2).
        mass_change: (B, H, R, E), q - p by distance bucket; adds to 0.
        kl_by_distance: (B, H, R, E), the terms of ``kl`` by bucket; a term may be negative.
        kl_reverse_by_distance: (B, H, R, E), those of ``kl_reverse``.
        hellinger_by_distance: (B, H, R, E), terms of ``hellinger`` squared: they add to its square.
    """

    name: str
    layer: int
    kind: str
    rows: NDArray[np.int64]
    visible: NDArray[np.int32] = field(repr=False)
    entropy: NDArray[np.float32] = field(repr=False)
    entropy_change: NDArray[np.float32] = field(repr=False)
    kl: NDArray[np.float32] = field(repr=False)
    kl_reverse: NDArray[np.float32] = field(repr=False)
    hellinger: NDArray[np.float32] = field(repr=False)
    mass_change: NDArray[np.float32] = field(repr=False)
    kl_by_distance: NDArray[np.float32] = field(repr=False)
    kl_reverse_by_distance: NDArray[np.float32] = field(repr=False)
    hellinger_by_distance: NDArray[np.float32] = field(repr=False)


def shift_between(
    before: Call, after: Call, rows: NDArray[np.int64], edges: NDArray[np.int64], *, stacked: bool
) -> LayerShift:
    """Compare the attention of two models that read the same texts.

    Args:
        before: attention p, of B texts.
        after: attention q of the same module and texts.
        rows: (R,), local indices of queries.
        edges: (E,), lower edges of distance buckets.
        stacked: both are one call over 2 B rows: the B texts of p, then those of q.

    Returns:
        Float64 inside; memory is that of a few rows at a time.

    Raises:
        ShapeError: the two do not have the same heads, queries and keys.
    """
    texts = before.query.shape[0] // 2 if stacked else before.query.shape[0]
    apart = texts if stacked else 0
    if not stacked and (before.query.shape != after.query.shape or before.key.shape != after.key.shape):
        raise ShapeError(f"{before.name}: the two models read other texts, or have other heads")
    h, n = before.query.shape[1], len(rows)
    scalars = {name: np.zeros((texts, h, n), np.float32) for name in _SCALARS}
    binned = {name: np.zeros((texts, h, n, len(edges)), np.float32) for name in _BINNED}
    visible = np.zeros((texts, n), np.int32)
    wanted = torch.from_numpy(rows).to(before.query.device)
    borders = torch.from_numpy(edges).to(before.query.device)
    keys = torch.arange(before.n_keys, device=wanted.device) + before.sight.first_key
    for item, heads, chosen in row_chunks(before, wanted, _PAIRS_AT_ONCE):
        if item >= texts:
            break
        s, seen = before.logits(item, heads, chosen, 0, before.n_keys)
        t, _ = after.logits(item + apart, heads, chosen, 0, after.n_keys)
        away = (chosen[:, None] + before.sight.first_query - keys).abs()
        bucket = torch.searchsorted(borders, away, right=True) - 1
        whole, parts = _shift(s.double(), t.double(), seen, bucket, len(edges))
        own = slice(heads.start * before.group, heads.stop * before.group)
        at = np.searchsorted(rows, chosen.cpu().numpy())
        for found, values in ((scalars, whole), (binned, parts)):
            for name, value in values.items():
                found[name][item][own, at] = value.flatten(0, 1).cpu().numpy()
        if heads.start == 0:
            visible[item, at] = seen[0, 0].sum(dim=-1).cpu().numpy()
    absolute = rows + before.sight.first_query
    return LayerShift(before.name, before.layer, before.kind, absolute, visible, **scalars, **binned)


_SCALARS = ("entropy", "entropy_change", "kl", "kl_reverse", "hellinger")
_BINNED = ("mass_change", "kl_by_distance", "kl_reverse_by_distance", "hellinger_by_distance")


def _shift(
    s: Tensor, t: Tensor, seen: Tensor, bucket: Tensor, n: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    log_p, log_q = s.log_softmax(dim=-1), t.log_softmax(dim=-1)
    p, q = log_p.exp() * seen, log_q.exp() * seen
    gap = (log_p - log_q) * seen
    terms = {
        "mass_change": q - p,
        "kl_by_distance": p * gap,
        "kl_reverse_by_distance": -q * gap,
        "hellinger_by_distance": (p.sqrt() - q.sqrt()).square() / 2,
    }
    index = bucket.expand(p.shape)
    parts = {
        name: torch.zeros(*p.shape[:-1], n, dtype=p.dtype, device=p.device).scatter_add_(-1, index, term)
        for name, term in terms.items()
    }
    entropy = -(p * log_p).sum(dim=-1)
    whole = {
        "entropy": entropy,
        "entropy_change": -(q * log_q).sum(dim=-1) - entropy,
        "kl": terms["kl_by_distance"].sum(dim=-1).clamp_min(0),
        "kl_reverse": terms["kl_reverse_by_distance"].sum(dim=-1).clamp_min(0),
        "hellinger": terms["hellinger_by_distance"].sum(dim=-1).sqrt(),
    }
    return whole, parts
