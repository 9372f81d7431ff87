"""Chosen rows of one attention, read tile by tile.

A tile is some rows of queries times some hundred keys, small enough to stay in the processor's cache. Each
tile is summed relative to its own largest logit (:class:`geometry.dispersion.RowSums`), cut where a marked
span or a bucket begins, so any union of segments is a sum and nothing is ever found by subtraction.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from geometry.attention_rows import SCALARS, GroupAttention, LayerAttention
from geometry.live.attention_sums import Sums, Tile, learned
from geometry.live.attention_whole import closer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from geometry.live.attention_calls import Call, Part
    from geometry.live.attention_request import Plan


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


def _tiles(call: Call, plan: Plan, item: int, rows: Tensor) -> Iterator[Tile]:
    """The tiles of which some row sees some key."""
    low, high = call.sight.limits(rows, call.n_keys)
    step = plan.measure.tile[1]
    everything = slice(0, call.key.shape[1])
    queries = rows.cpu().numpy() + call.sight.first_query
    for start in range(low // step * step, high, step):
        start, stop = max(start, low), min(start + step, high)
        part = call.part(item, everything, rows, start, stop)
        if part is None:
            continue
        first = start + call.sight.first_key
        last = first + stop - start - 1
        inside = queries.min() <= last and queries.max() >= first
        away = np.abs(queries[:, None] - np.array([first, last]))
        near, far = np.searchsorted(plan.edges, [0 if inside else away.min(), away.max()], side="right") - 1
        place = queries - first
        yield Tile(
            start, stop, first, None if part.seen is None else part.seen.float(), part.added,
            np.array(plan.pieces(first, last + 1)).T.copy(), place, _ahead(part, place, stop - start),
            int(near), int(far), _bands(plan, item, first, last + 1),
        )  # fmt: skip


def _ahead(part: Part, place: NDArray[np.int64], width: int) -> bool:
    """Whether some row sees a key ahead of it."""
    if place.min() >= width - 1:
        return False
    if part.seen is None:
        return True
    keys = torch.arange(width, device=part.seen.device)
    return bool((part.seen & (keys > torch.from_numpy(place).to(keys.device)[:, None])).any())


def _bands(plan: Plan, item: int, start: int, stop: int) -> NDArray[np.float32]:
    """(S, K) which keys of a tile each random subset has beyond the next rarer one, the rarest first."""
    known = plan.bands.get((item, start, stop))
    if known is None:
        depths = np.arange(plan.measure.subsets, 0, -1)
        levels = plan.levels(item, start, stop)
        known = plan.bands[item, start, stop] = (levels == depths[:, None]).astype(np.float32)
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


def _count(found: dict[str, NDArray[Any]], plan: Plan, item: int, part: slice, tiles: list[Tile]) -> None:
    """How many keys the rows see: all of them, those of a group, those of a random subset."""
    n = part.stop - part.start
    segments = np.zeros((n, len(plan.cuts)), np.int64)
    bands = np.zeros((n, plan.measure.subsets), np.int64)
    for tile in tiles:
        if tile.seen is None:
            segments[:, tile.pieces[0]] += tile.pieces[2] - tile.pieces[1]
            bands += tile.bands.sum(axis=-1, dtype=np.int64)
            continue
        # a mask that differs between heads is counted for the first of them
        seen = tile.seen[0, 0].bool().cpu().numpy()
        for segment, start, stop in tile.pieces.T:
            segments[:, segment] += seen[:, start:stop].sum(axis=-1)
        bands += (seen.astype(np.float32) @ tile.bands.T).astype(np.int64)
    found["visible"][item, part] = segments.sum(axis=-1)
    for group, members in plan.members.items():
        found[f"{group}.visible"][item, part] = segments @ members[item]
    found["subset_visible"][item, part] = bands.cumsum(axis=-1)[:, ::-1]


def _block(
    call: Call, plan: Plan, item: int, heads: slice, rows: Tensor, tiles: list[Tile], norms: Tensor
) -> dict[str, NDArray[Any]]:
    """All numbers of some rows of some heads: name -> (h * g, R) or (h * g, R, width)."""
    queries = call.queries(item, heads, rows)
    shape = ((heads.stop - heads.start) * call.group, len(rows))
    sums = Sums(shape[0] * shape[1], plan, norms)
    for tile in tiles:
        s = call.scores(queries, item, heads, tile.start, tile.stop).unflatten(1, (call.group, len(rows)))
        sums.add(s, replace(tile, seen=_own(tile.seen, heads), added=_own(tile.added, heads)))
    members = {name: own[item] for name, own in plan.members.items()}
    found = sums.rows(members, learned(call, heads, len(rows)))
    return {name: array.reshape(*shape, *array.shape[1:]) for name, array in found.items()}


def _own(shared: Tensor | None, heads: slice) -> Tensor | None:
    return shared[heads] if shared is not None and shared.shape[0] > 1 else shared


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
