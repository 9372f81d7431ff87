"""Sums of a tile of logits, and rows read off the sums of all their tiles.

On the processor a tile is summed by :func:`geometry.row_kernels.add_tile`, one pass over each row; on other
devices, and where queries see keys ahead of them, by array code. Both fill the same columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from geometry.attention_rows import SCALARS
from geometry.dispersion import RowSums, common_shift, log_odds, merged, part_entropy, spread
from geometry.live.attention_sight import HIDDEN
from geometry.row_kernels import add_tile

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geometry.live.attention_calls import Call
    from geometry.live.attention_request import Plan

    Array = NDArray[np.float64]


@dataclass(frozen=True)
class Tile:
    """Keys start to stop for a block of rows of one text, and what all its heads share.

    Attributes:
        start: first key, as it is stored.
        stop: key after the last.
        first_key: absolute index of the first.
        seen: (h or 1, g or 1, R, K) float 0 or 1; None if every row sees every key.
        added: biases of the same shape, or None.
        pieces: (3, P): segment, from and to (counted from the first key) of each piece.
        place: (R,), where each query stands, counted from the first key.
        ahead: some row sees a key ahead of it.
        near: nearest distance bucket of the tile.
        far: farthest.
        bands: (S, K) float32, 1 at the keys of each band of the random subsets, the rarest first.
    """

    start: int
    stop: int
    first_key: int
    seen: Tensor | None
    added: Tensor | None
    pieces: NDArray[np.int64]
    place: NDArray[np.int64]
    ahead: bool
    near: int
    far: int
    bands: NDArray[np.float32]


class Sums:
    """Columns of sums of a block of N rows, a tile after the other.

    Args:
        rows: N.
        plan: what is asked.
        norms: (h, Tk) norms of the values of these key heads.
    """

    def __init__(self, rows: int, plan: Plan, norms: Tensor) -> None:
        self._plan, self._norms = plan, norms
        self.best = np.full((rows, plan.measure.top), -np.inf, np.float32)
        self.keys = np.full(rows, -1, np.int64)
        self.shift: list[NDArray[np.float32]] = []
        self.visible: list[NDArray[np.float32]] = []
        self.whole: list[NDArray[np.float32]] = []
        self.pieces: list[NDArray[np.float32]] = []
        self.subsets: list[NDArray[np.float32]] = []
        self.distances: list[NDArray[np.float32]] = []
        self.tiles: list[Tile] = []

    def add(self, s: Tensor, tile: Tile) -> None:
        """Sum one tile.

        Args:
            s: (h, g, R, K) float32 logits, biases and masks not yet in them; is written over.
            tile: what they are of.
        """
        seen = tile.seen
        if tile.added is not None:
            s += tile.added
        if seen is not None:
            s += (seen - 1) * HIDDEN
        h, g, r, width = s.shape
        count = np.float32(width) if seen is None else seen.sum(-1).expand(h, g, r).reshape(-1).cpu().numpy()
        self.visible.append(np.broadcast_to(count, (h * g * r,)))
        self.tiles.append(tile)
        if s.device.type == "cpu" and not tile.ahead:
            self._by_kernel(s.view(-1, width).numpy(), g * r, tile)
        else:
            self._by_arrays(s, tile)

    def _by_kernel(self, s: NDArray[np.float32], group_rows: int, tile: Tile) -> None:
        n = len(s)
        shift, whole = np.empty(n, np.float32), np.empty((n, 5), np.float32)
        pieces = np.empty((n, 3, tile.pieces.shape[1]), np.float32)
        subsets = np.zeros((n, 2, self._plan.measure.subsets), np.float32)
        distances = np.empty((n, tile.far - tile.near + 1), np.float32)
        add_tile(
            s, group_rows, self._norms[:, tile.start : tile.stop].numpy(), tile.pieces[1], tile.pieces[2],
            tile.bands, tile.place, np.append(self._plan.edges, 1 << 62), tile.near, tile.far,
            tile.first_key, shift, whole, pieces, subsets, distances, self.best, self.keys,
        )  # fmt: skip
        # far was summed from the first key on; distances run the other way, and no key lies ahead
        whole[:, 4] = np.resize(tile.place, n) * pieces[:, 0].sum(axis=-1) - whole[:, 4]
        self._keep(shift, whole, pieces, subsets, distances)

    def _by_arrays(self, s: Tensor, tile: Tile) -> None:
        h, g, r, width = s.shape
        x = s.view(-1, width)
        self._keep_largest(x, tile)
        shift = x.amax(dim=-1).clamp_min_(-HIDDEN / 10)
        x -= shift[:, None]
        p = torch.exp(x)
        if tile.seen is not None:
            s *= tile.seen  # a hidden key has no logit
        y = p * x
        keys = torch.arange(width, device=s.device)
        away = (torch.from_numpy(tile.place).to(s.device)[:, None] - keys).abs()
        far = (p.view(h * g, r, width) * away).sum(dim=-1).view(-1)
        rows = (y * x, p * p, x, x * x)
        whole = torch.stack([*(term.sum(dim=-1) for term in rows), far], dim=-1)
        normed = (p.view(h, g * r, width) * self._norms[:, None, tile.start : tile.stop]).view(-1, width)
        parts = [[t[:, a:b].sum(dim=-1) for _, a, b in tile.pieces.T] for t in (p, y, normed)]
        pieces = torch.stack([torch.stack(part, dim=-1) for part in parts], dim=1)
        bands = torch.from_numpy(tile.bands).to(s.device).T
        subsets = torch.stack([p @ bands, y @ bands], dim=1)
        edges = torch.from_numpy(self._plan.edges).to(s.device)
        bucket = (torch.searchsorted(edges, away, right=True) - 1 - tile.near).clamp_(0, tile.far - tile.near)
        distances = x.new_zeros(h * g, r, tile.far - tile.near + 1)
        distances.scatter_add_(-1, bucket.expand(h * g, r, width), p.view(h * g, r, width))
        found = (shift, whole, pieces, subsets, distances.flatten(0, 1))
        self._keep(*(part.cpu().numpy() for part in found))

    def _keep_largest(self, x: Tensor, tile: Tile) -> None:
        values, where = x.topk(min(self.best.shape[1], x.shape[-1]), dim=-1)
        values, where = values.cpu().numpy(), where[:, 0].cpu().numpy()
        newer = (values[:, 0] > self.best[:, -1]) & (values[:, 0] > -HIDDEN / 10)
        self.keys = np.where(newer, where + tile.first_key, self.keys)
        values = np.where(values > -HIDDEN / 10, values, -np.inf)
        both = np.sort(np.concatenate([self.best, values], axis=-1), axis=-1)
        self.best = np.ascontiguousarray(both[:, -self.best.shape[1] :])

    def _keep(self, shift: Any, whole: Any, pieces: Any, subsets: Any, distances: Any) -> None:
        self.shift.append(shift)
        self.whole.append(whole)
        self.pieces.append(pieces)
        self.subsets.append(subsets)
        self.distances.append(distances)

    def rows(self, members: dict[str, NDArray[np.bool_]], sinks: Array | None) -> dict[str, NDArray[Any]]:
        """Merge the tiles, in float64.

        Args:
            members: name -> (S,), which segments make up a group.
            sinks: (N,) logits of learned sinks, or None.

        Returns:
            Names of :class:`geometry.attention_rows.LayerAttention`, flat -> (N,) or (N, width).
        """
        shift, visible = np.stack(self.shift, -1).astype(float), np.stack(self.visible, -1).astype(float)
        v, z2, first, second, far = np.stack(self.whole, -1).astype(float).transpose(1, 0, 2)
        z, u, norms = np.concatenate(self.pieces, axis=-1).astype(float).transpose(1, 0, 2)
        sizes = [part.shape[-1] for part in self.pieces]
        borders = np.cumsum([0, *sizes[:-1]])
        tile_z, tile_u = (np.add.reduceat(part, borders, axis=-1) for part in (z, u))
        found = spread(merged(RowSums(shift, visible, tile_z, tile_u, v, z2, first, second)))
        has = found.visible > 0
        _, move = common_shift(shift, tile_z)
        c, of = np.exp(move), np.repeat(np.arange(len(sizes)), sizes)
        segments = _one_hot(np.concatenate([tile.pieces[0] for tile in self.tiles]), len(self._plan.cuts))
        parts = [(c[:, of] * part) @ segments for part in (z, u + move[:, of] * z, norms)]
        whole = np.where(has, parts[0].sum(axis=-1), 1.0)
        answer = {name: getattr(found, name) for name in SCALARS if hasattr(found, name)}
        answer |= {
            "mean_distance": (c * far).sum(axis=-1) / whole,
            "value_norm": parts[2].sum(axis=-1) / whole,
            "positions": parts[0] @ self._plan.buckets.T / whole[:, None],
            "distances": self._by_distance(c) / whole[:, None],
            "top": np.where(has[:, None], np.exp(self.best[:, ::-1] - found.log_z[:, None]), 0.0),
            "largest_key": np.where(has, self.keys, -1),
            "subset_entropy": self._subsets(c, move),
        }
        if sinks is not None:
            answer["learned_sink"] = np.where(has, 1 / (1 + np.exp(found.log_z - sinks)), 0.0)
        for name, own in members.items():
            answer |= {f"{name}.{key}": array for key, array in _group(own, parts, whole).items()}
        return answer

    def _by_distance(self, c: Array) -> Array:
        widths = [part.shape[-1] for part in self.distances]
        bucket = np.concatenate([np.arange(tile.near, tile.far + 1) for tile in self.tiles])
        columns = c[:, np.repeat(np.arange(len(widths)), widths)] * np.concatenate(self.distances, axis=-1)
        return columns @ _one_hot(bucket, len(self._plan.edges))

    def _subsets(self, c: Array, move: Array) -> Array:
        """Entropy within the halves, quarters, ...: bands of keys, the rarest first, add up to them."""
        z, u = np.stack(self.subsets, axis=-1).astype(float).transpose(1, 2, 0, 3)
        z, u = ((c * part).sum(axis=-1).cumsum(axis=0)[::-1].T for part in (z, u + move * z))
        return part_entropy(z, u)


def _one_hot(which: NDArray[np.int64], n: int) -> Array:
    return (which[:, None] == np.arange(n)).astype(float)


def _group(members: NDArray[np.bool_], parts: list[Array], whole: Array) -> dict[str, Array]:
    z, u, norms = parts
    inside, outside = z @ members, z @ ~members
    normed = norms.sum(axis=-1)
    return {
        "mass": inside / whole,
        "log_odds": log_odds(inside, outside),
        "entropy": part_entropy(inside, u @ members),
        "entropy_outside": part_entropy(outside, u @ ~members),
        "value_mass": norms @ members / np.where(normed > 0, normed, 1.0),
    }


def learned(call: Call, heads: slice, rows: int) -> Array | None:
    """Logits of learned sinks for the rows of some key heads.

    Args:
        call: the attention.
        heads: key heads.
        rows: R.

    Returns:
        (h * g * R,), or None if the model has none.
    """
    if call.sinks is None:
        return None
    return call.sinks.double().view(-1, call.group)[heads].reshape(-1).cpu().numpy().repeat(rows)
