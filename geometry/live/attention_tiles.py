"""Chosen rows of one attention, summed tile by tile in float32, merged in float64.

A tile is some rows of queries times some hundred keys, small enough to stay in the processor's cache. Each
tile is summed relative to its own largest logit (:class:`geometry.dispersion.RowSums`), cut where a marked
span or a bucket begins, so any union of segments is a sum and nothing is ever found by subtraction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from geometry.attention_rows import SCALARS, GroupAttention, LayerAttention
from geometry.dispersion import RowSums, common_shift, log_odds, merged, part_entropy, spread
from geometry.live.attention_sight import HIDDEN
from geometry.live.attention_whole import closer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from geometry.live.attention_calls import Call
    from geometry.live.attention_request import Plan

_FOLD = 8


def read_rows(call: Call, plan: Plan) -> LayerAttention | None:
    """Everything a plan asks of one attention.

    Args:
        call: the attention.
        plan: of its context.

    Returns:
        The chosen rows among its queries, or None if there are none.
    """
    device = call.query.device
    local = plan.chosen(call.sight.first_query, call.query.shape[2])
    if not len(local):
        return None
    rows = torch.from_numpy(local).to(device)
    found = _empty(call, plan, len(local))
    at_once = max(1, min(128, plan.measure.tile[0] // call.group))
    heads_at_once = max(1, plan.measure.tile[0] // (call.group * at_once))
    for item in range(call.query.shape[0]):
        norms = torch.linalg.vector_norm(call.value[item].float(), dim=-1)
        for first in range(0, len(local), at_once):
            chosen = rows[first : first + at_once]
            tiles = list(_tiles(call, plan, item, chosen))
            part = slice(first, first + len(chosen))
            _count(found, plan, item, part, tiles)
            if not tiles:
                continue
            for head in range(0, call.key.shape[1], heads_at_once):
                heads = slice(head, min(head + heads_at_once, call.key.shape[1]))
                block = _block(call, plan, item, heads, chosen, tiles, norms[heads])
                own = slice(heads.start * call.group, heads.stop * call.group)
                for name, array in block.items():
                    found[name][item, own, part] = array
    return _layer(call, plan, local + call.sight.first_query, found)


@dataclass(frozen=True)
class _Tile:
    """Keys start to stop for a block of rows of one text, and what all its heads share.

    Attributes:
        seen: (h or 1, g or 1, R, K) float 0 or 1; None if every row sees every key.
        added: biases of the same shape, or None.
        pieces: (segment, from, to) within the tile.
        distance: (R, K) |query - key| where keys lie ahead of rows, else None: it is then linear in the key.
        bucket: the nearest distance bucket of the tile.
        beyond: (R, K), 1 where a key lies in the next bucket, if the tile has two of them.
        which: (R, K), the bucket of each key, if it has more.
        order: keys of the random subsets, the rarest first, and how many each band has.
    """

    start: int
    stop: int
    seen: Tensor | None
    added: Tensor | None
    pieces: list[tuple[int, int, int]]
    distance: Tensor | None
    bucket: int
    beyond: Tensor | None
    which: Tensor | None
    order: Tensor | None
    bands: list[int]


def _tiles(call: Call, plan: Plan, item: int, rows: Tensor) -> Iterator[_Tile]:
    """The tiles of which some row sees some key."""
    low, high = call.sight.limits(rows, call.n_keys)
    step = plan.measure.tile[1]
    base = call.sight.first_key
    everything = slice(0, call.key.shape[1])
    queries = (rows + call.sight.first_query).cpu().numpy()
    for start in range(low // step * step, high, step):
        start, stop = max(start, low), min(start + step, high)
        part = call.part(item, everything, rows, start, stop)
        if part is None:
            continue
        away = np.abs(queries[:, None] - np.array([start + base, stop - 1 + base]))
        ahead = queries.min() < stop - 1 + base
        near = 0 if ahead and queries.max() >= start + base else int(away.min())
        inner = np.searchsorted(plan.edges, [near, int(away.max())], side="right") - 1
        distance = beyond = which = None
        if ahead or inner[0] != inner[1]:
            keys = torch.arange(start, stop, device=rows.device) + base
            exact = (rows[:, None] + call.sight.first_query - keys).abs().float()
            distance = exact if ahead else None
            if inner[1] - inner[0] == 1:
                beyond = (exact >= int(plan.edges[inner[1]])).float()
            elif inner[0] != inner[1]:
                # the exponent of a distance is the number of its bucket
                which = torch.frexp(exact).exponent.clamp_(max=len(plan.edges) - 1).long()
        order, bands = _order(plan, item, start + base, stop + base)
        yield _Tile(
            start, stop, None if part.seen is None else part.seen.float(), part.added,
            plan.pieces(start + base, stop + base), distance, int(inner[0]), beyond, which,
            None if order is None else order.to(rows.device), bands,
        )  # fmt: skip


def _order(plan: Plan, item: int, start: int, stop: int) -> tuple[Tensor | None, list[int]]:
    """Keys of the random subsets within a tile, the rarest first, and how many each band has."""
    if not plan.measure.subsets:
        return None, []
    known = plan.orders.get((item, start, stop))
    if known is None:
        levels = plan.levels(item, start, stop)
        order = np.argsort(-levels, kind="stable")[: np.count_nonzero(levels)]
        bands = [int((levels == depth).sum()) for depth in range(plan.measure.subsets, 0, -1)]
        known = plan.orders[item, start, stop] = torch.from_numpy(order), bands
    return known


def _empty(call: Call, plan: Plan, n: int) -> dict[str, NDArray[Any]]:
    b, h = call.query.shape[:2]
    measure = plan.measure
    wide = {
        "positions": len(plan.position_edges),
        "distances": len(plan.edges),
        "top": measure.top,
        "subset_entropy": measure.subsets,
    }
    found: dict[str, NDArray[Any]] = {name: np.zeros((b, h, n), np.float32) for name in SCALARS}
    found["largest_key"] = np.full((b, h, n), -1, np.int64)
    found |= {name: np.zeros((b, h, n, width), np.float32) for name, width in wide.items()}
    for group in plan.members:
        for key in GroupAttention.__dataclass_fields__:
            shape = (b, n) if key == "visible" else (b, h, n)
            found[f"{group}.{key}"] = np.zeros(shape, np.int32 if key == "visible" else np.float32)
    found["visible"] = np.zeros((b, n), np.int32)
    found["subset_visible"] = np.zeros((b, n, measure.subsets), np.int32)
    return found


def _count(found: dict[str, NDArray[Any]], plan: Plan, item: int, part: slice, tiles: list[_Tile]) -> None:
    """How many keys the rows see: all of them, those of a group, those of a random subset."""
    n = part.stop - part.start
    segments = np.zeros((n, len(plan.cuts)), np.int64)
    bands = np.zeros((n, plan.measure.subsets), np.int64)
    for tile in tiles:
        if tile.seen is None:
            for segment, start, stop in tile.pieces:
                segments[:, segment] += stop - start
            bands += np.array(tile.bands, np.int64)
            continue
        # a mask that differs between heads is counted for the first of them
        seen = tile.seen[0, 0].cpu()
        for segment, start, stop in tile.pieces:
            segments[:, segment] += seen[:, start:stop].sum(dim=-1).long().numpy()
        if tile.order is not None:
            chosen = seen[:, tile.order.cpu()]
            for band, some in enumerate(chosen.split(tile.bands, dim=-1)):
                bands[:, band] += some.sum(dim=-1).long().numpy()
    found["visible"][item, part] = segments.sum(axis=-1)
    for group, members in plan.members.items():
        found[f"{group}.visible"][item, part] = segments @ members[item]
    found["subset_visible"][item, part] = bands.cumsum(axis=-1)[:, ::-1]


class _Sums:
    """Columns of sums of a block, N rows each, to be merged when the last tile is in."""

    def __init__(self) -> None:
        self.rows: dict[str, list[Tensor]] = {
            name: [] for name in ("shift", "visible", "v", "z2", "first", "second", "far")
        }
        self.pieces: list[tuple[int, int]] = []
        self.z: list[Tensor] = []
        self.u: list[Tensor] = []
        self.norms: list[Tensor] = []
        self.distances: list[Tensor] = []
        self.buckets: list[tuple[int, int]] = []
        self.subsets: list[Tensor] = []
        self.top: list[tuple[Tensor, Tensor]] = []

    def column(self, name: str) -> NDArray[np.float64]:
        return torch.stack(self.rows[name], dim=-1).double().cpu().numpy()


def _block(
    call: Call, plan: Plan, item: int, heads: slice, rows: Tensor, tiles: list[_Tile], norms: Tensor
) -> dict[str, NDArray[np.float64]]:
    """All numbers of some rows of some heads: name -> (h * g, R) or (h * g, R, width)."""
    queries = call.queries(item, heads, rows)
    sums = _Sums()
    for tile in tiles:
        s = call.scores(queries, item, heads, tile.start, tile.stop)
        _add(sums, s.unflatten(1, (call.group, len(rows))), tile, rows, norms, call, plan, heads)
    shape = ((heads.stop - heads.start) * call.group, len(rows))
    return {
        name: a.reshape(*shape, *a.shape[1:]) for name, a in _merge(sums, call, plan, item, heads).items()
    }


def _own(shared: Tensor, heads: slice) -> Tensor:
    return shared[heads] if shared.shape[0] > 1 else shared


def _add(
    sums: _Sums, s: Tensor, tile: _Tile, rows: Tensor, norms: Tensor, call: Call, plan: Plan, heads: slice
) -> None:
    """Sum one tile; ``s`` is (h, g, R, K) and is written over."""
    seen = None if tile.seen is None else _own(tile.seen, heads)
    if tile.added is not None:
        s += _own(tile.added, heads)
    if seen is not None:
        s += (seen - 1) * HIDDEN
    h, g, r, width = s.shape
    x = s.view(-1, width)
    count = (
        torch.full((h, g, r), float(width), device=s.device) if seen is None else seen.sum(-1).expand(h, g, r)
    )
    folded, top, where = _top(x, plan.measure.top)
    sums.top.append((top, where + tile.start + call.sight.first_key))
    shift = folded.amax(dim=-1).clamp_min_(-HIDDEN / 10)
    x -= shift[:, None]
    p = torch.exp(x)
    if seen is not None:
        s *= seen  # hidden keys have no logit
    y = p * x
    tile_number = len(sums.rows["shift"])
    sums.rows["shift"].append(shift)
    sums.rows["visible"].append(count.reshape(-1))
    sums.rows["v"].append(torch.linalg.vecdot(y, x))
    sums.rows["z2"].append(torch.linalg.vector_norm(p, dim=-1).square_())
    sums.rows["first"].append(x.sum(dim=-1))
    sums.rows["second"].append(torch.linalg.vector_norm(x, dim=-1).square_())
    for segment, start, stop in tile.pieces:
        sums.pieces.append((tile_number, segment))
        sums.z.append(p[:, start:stop].sum(dim=-1))
        sums.u.append(y[:, start:stop].sum(dim=-1))
    if tile.order is not None:
        for part in (p, y):
            bands = part.index_select(1, tile.order).split(tile.bands, dim=-1)
            sums.subsets += [band.sum(dim=-1) for band in bands]
    z = torch.stack(sums.z[-len(tile.pieces) :]).sum(dim=0)
    weighted = torch.mul(
        p.view(h, g * r, width), norms[:, None, tile.start : tile.stop], out=y.view(h, g * r, width)
    )
    weighted = weighted.view(-1, width)
    sums.norms += [weighted[:, start:stop].sum(dim=-1) for _, start, stop in tile.pieces]
    sums.rows["far"].append(_far(p.view(h * g, r, width), y.view(h * g, r, width), z, tile, rows, call))
    _near(sums, p.view(h * g, r, width), y.view(h * g, r, width), z, tile, len(plan.edges))


def _far(p: Tensor, scratch: Tensor, z: Tensor, tile: _Tile, rows: Tensor, call: Call) -> Tensor:
    """Sum of weight times distance, (N,)."""
    if tile.distance is not None:
        return torch.mul(p, tile.distance, out=scratch).sum(dim=-1).view(-1)
    steps = torch.arange(tile.stop - tile.start, device=p.device, dtype=torch.float32)
    within = torch.mul(p, steps, out=scratch).sum(dim=-1)
    first = (rows + (call.sight.first_query - call.sight.first_key - tile.start)).float()
    return (first * z.view(p.shape[:2]) - within).view(-1)


def _near(sums: _Sums, p: Tensor, scratch: Tensor, z: Tensor, tile: _Tile, n: int) -> None:
    """Sums of weights by distance bucket: columns of N rows, each with its tile and bucket."""
    number = len(sums.rows["shift"]) - 1
    if tile.which is not None:
        found = torch.zeros(*p.shape[:2], n, device=p.device)
        found.scatter_add_(-1, tile.which.expand(p.shape), p)
        sums.distances += found.view(-1, n).unbind(dim=-1)
        sums.buckets += [(number, bucket) for bucket in range(n)]
    elif tile.beyond is not None:
        for bucket, share in ((tile.bucket, 1 - tile.beyond), (tile.bucket + 1, tile.beyond)):
            sums.distances.append(torch.mul(p, share, out=scratch).sum(dim=-1).view(-1))
            sums.buckets.append((number, bucket))
    else:
        sums.distances.append(z)
        sums.buckets.append((number, tile.bucket))


def _top(x: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Largest of each fold of columns; the k largest logits of each row, unsorted; the column of the largest.

    The columns are folded eight deep: the k largest lie in the k folds of largest maximum, so a row of 512
    is searched in two short steps.
    """
    n, width = x.shape
    if width % _FOLD or width // _FOLD < k:
        return x, _largest_of(x, min(k, width)), x.argmax(dim=-1)
    folded = x.view(n, _FOLD, -1).amax(dim=1)
    columns = width // _FOLD
    best = _where_largest(folded, k)
    candidates = (best[:, None] + columns * torch.arange(_FOLD, device=x.device)[:, None]).view(n, -1)
    picked = x.gather(1, candidates)
    at = picked.max(dim=-1, keepdim=True)[1]
    return folded, _largest_of(picked, k), candidates.gather(1, at)[:, 0]


def _where_largest(x: Tensor, k: int) -> Tensor:
    if x.device.type != "cpu":
        return x.topk(k, dim=-1, sorted=False)[1]
    # numpy partitions with vector instructions, several times faster than topk
    return torch.from_numpy(np.argpartition(x.numpy(), -k, axis=-1)[:, -k:])


def _largest_of(x: Tensor, k: int) -> Tensor:
    if x.device.type != "cpu":
        return x.topk(k, dim=-1, sorted=False)[0]
    return torch.from_numpy(np.partition(x.numpy(), -k, axis=-1)[:, -k:])


def _merge(sums: _Sums, call: Call, plan: Plan, item: int, heads: slice) -> dict[str, NDArray[np.float64]]:
    """Tiles and pieces become rows: name -> (N,) or (N, width), float64."""
    z, u, norms = (torch.stack(part, dim=-1).double().cpu().numpy() for part in (sums.z, sums.u, sums.norms))
    tile_of, segment_of = np.array(sums.pieces).T
    shift = sums.column("shift")
    in_tile = tile_of[:, None] == np.arange(shift.shape[1])
    row = {name: sums.column(name) for name in ("visible", "v", "z2", "first", "second", "far")}
    tiles = RowSums(
        shift, row["visible"], z @ in_tile, u @ in_tile, row["v"], row["z2"], row["first"], row["second"]
    )
    rows = spread(merged(tiles))
    has = rows.visible > 0
    _, move = common_shift(shift, tiles.z)
    c = np.exp(move)
    by_segment = (segment_of[:, None] == np.arange(len(plan.cuts))).astype(float)
    own, moved = c[:, tile_of], move[:, tile_of]
    segments = [(own * part) @ by_segment for part in (z, u + moved * z, norms)]
    whole = np.where(has, segments[0].sum(axis=-1), 1.0)
    distances = torch.stack(sums.distances, dim=-1).double().cpu().numpy()
    near_tile, near_bucket = np.array(sums.buckets).T
    by_bucket = (near_bucket[:, None] == np.arange(len(plan.edges))).astype(float)
    found = {name: getattr(rows, name) for name in SCALARS if hasattr(rows, name)}
    found |= {
        "mean_distance": (c * row["far"]).sum(axis=-1) / whole,
        "value_norm": segments[2].sum(axis=-1) / whole,
        "positions": segments[0] @ plan.buckets.T / whole[:, None],
        "distances": (c[:, near_tile] * distances) @ by_bucket / whole[:, None],
    }
    if call.sinks is not None:
        found |= _learned(found, has, call, heads)
    found |= _largest(sums, found["log_z"], has, plan.measure.top)
    for name, members in plan.members.items():
        found |= {f"{name}.{key}": array for key, array in _group(members[item], segments, whole).items()}
    if plan.measure.subsets:
        found["subset_entropy"] = _subsets(sums, plan.measure.subsets, c, move)
    return found


def _learned(
    found: dict[str, NDArray[np.float64]], has: NDArray[np.bool_], call: Call, heads: slice
) -> dict[str, NDArray[np.float64]]:
    """Weight of a learned sink beside keys of this normaliser: a logistic function of their difference."""
    logits = call.sinks.double().view(-1, call.group)[heads].reshape(-1).cpu().numpy()
    gap = found["log_z"].reshape(len(logits), -1) - logits[:, None]
    return {"learned_sink": np.where(has, 1 / (1 + np.exp(gap.reshape(-1))), 0.0)}


def _largest(
    sums: _Sums, log_z: NDArray[np.float64], has: NDArray[np.bool_], k: int
) -> dict[str, NDArray[Any]]:
    values = torch.cat([v for v, _ in sums.top], dim=-1).cpu().numpy()
    values = np.sort(values, axis=-1)[:, : -k - 1 : -1].astype(np.float64)
    best = torch.stack([v.amax(dim=-1) for v, _ in sums.top], dim=-1).argmax(dim=-1, keepdim=True)
    keys = torch.stack([where for _, where in sums.top], dim=-1).gather(1, best)[:, 0].cpu().numpy()
    weights = np.exp(values - log_z[:, None])
    weights = np.pad(np.where(has[:, None], weights, 0.0), ((0, 0), (0, k - weights.shape[1])))
    return {"top": weights, "largest_key": np.where(has, keys, -1)}


def _group(
    members: NDArray[np.bool_], segments: list[NDArray[np.float64]], whole: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    z, u, norms = segments
    inside, outside = z @ members, z @ ~members
    normed = norms.sum(axis=-1)
    return {
        "mass": inside / whole,
        "log_odds": log_odds(inside, outside),
        "entropy": part_entropy(inside, u @ members),
        "entropy_outside": part_entropy(outside, u @ ~members),
        "value_mass": norms @ members / np.where(normed > 0, normed, 1.0),
    }


def _subsets(
    sums: _Sums, depth: int, c: NDArray[np.float64], move: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Entropy within the halves, quarters, ...: bands of keys, the rarest first, add up to them."""
    found = torch.stack(sums.subsets, dim=-1).double().cpu().numpy()
    z, u = found.reshape(len(found), -1, 2, depth).transpose(2, 0, 1, 3)
    z, u = c[..., None] * z, c[..., None] * (u + move[..., None] * z)
    z, u = (part.sum(axis=1).cumsum(axis=-1)[:, ::-1] for part in (z, u))
    return part_entropy(z, u)


def _layer(call: Call, plan: Plan, rows: NDArray[np.int64], found: dict[str, NDArray[Any]]) -> LayerAttention:
    groups = {
        name: GroupAttention(*(found[f"{name}.{key}"] for key in GroupAttention.__dataclass_fields__))
        for name in plan.members
    }
    return LayerAttention(
        call.name, call.layer, call.kind, call.window, call.scale, call.softcap, rows,
        found["visible"], {name: found[name] for name in SCALARS}, groups,
        found["positions"], found["distances"], found["top"],
        found["subset_entropy"], found["subset_visible"],
        closer(call, plan, rows) if plan.measure.closer else None,
    )  # fmt: skip
