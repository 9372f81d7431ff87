"""What a probe of attention found, as arrays and as one long table.

:class:`AttentionAnswer` is what :mod:`geometry.live.attention` returns. It holds numpy arrays only, so whoever
computes on it needs no torch.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geometry.checks import DataError, LayerError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa
    from numpy.typing import NDArray

SINK = "sink"
"""Name of the group of the first tokens of a text."""

SCALARS = {
    "entropy": "nats, over keys that are seen; a learned sink is not among them",
    "log_z": "logarithm of the normaliser",
    "participation": "1 / sum p^2",
    "largest": "largest weight",
    "largest_key": "absolute index of the key that has it",
    "sensitivity": "variance of the logits under the weights, nats^2",
    "logit_mean": "mean of the logits over the keys that are seen",
    "logit_variance": "their variance, nats^2",
    "mean_distance": "sum of weight times |query - key|, tokens",
    "value_norm": "sum of weight times Euclidean norm of the value",
    "learned_sink": "weight that goes to a learned sink, which the other numbers leave out",
}
"""Names in ``LayerAttention.values``, each (B, H, R), and what they are."""


@dataclass(frozen=True)
class GroupAttention:
    """What each row gives to a group of keys; arrays (B, H, R).

    Attributes:
        mass: sum of the weights, in [0, 1]; 0 where the row sees none of it.
        log_odds: log(mass / rest), nats, both accumulated; minus infinity where the mass is 0.
        entropy: within the group, as if the row saw nothing else; 0 where the mass is 0.
        entropy_outside: within all other keys. Outside the group ``sink`` this is the entropy to report.
        value_mass: share of sum p |v|: weights times value norms.
        visible: (B, R), keys of the group that the row sees.
    """

    mass: NDArray[np.float32]
    log_odds: NDArray[np.float32]
    entropy: NDArray[np.float32]
    entropy_outside: NDArray[np.float32]
    value_mass: NDArray[np.float32]
    visible: NDArray[np.int32]


@dataclass(frozen=True)
class CloserAttention:
    """What needs whole rows, see ``Measure.closer``.

    Attributes:
        received: (B, H, T), mean weight that each key has from the chosen rows that see it; 0 if none does.
        seen_by: (B, T), how many of the chosen rows see it.
        nucleus: (B, H, R), fewest keys that hold .9 of the weight.
        gaps: (B, H, R, 3), keys whose logit is at most 1, 2 and 4 nats below the largest.
        block_map: (B, H, n, n), mean mass from the chosen rows in a block to the keys in a block, for n
            equal blocks over the context; lines add to 1, or are 0 where no chosen row lies in the block.
        block_rows: (n,), how many chosen rows lie in each block.
        signal: (B, H, R, G), |o_R| / |o| of each group R in alphabetical order: the length of what the group adds to
            the head's output, sum over it of weights times values, over that of the whole output. It passes 1 where
            the rest points against it; NaN where values are not known.
    """

    received: NDArray[np.float32]
    seen_by: NDArray[np.int32]
    nucleus: NDArray[np.int32]
    gaps: NDArray[np.int32]
    block_map: NDArray[np.float32]
    block_rows: NDArray[np.int32]
    signal: NDArray[np.float32]


@dataclass(frozen=True)
class LayerAttention:
    """The chosen rows of one attention module; B texts, H query heads, R rows.

    Attributes:
        name: path of the module.
        layer: its block, from 0.
        kind: ``full_attention``, ``sliding_attention``, ``chunked_attention`` or the model's own word.
        window: most keys that a row sees; None for full attention.
        scale: factor of the logits.
        softcap: soft cap of the logits, or None.
        rows: (R,), absolute index of each query, ascending; padding on the left counts.
        visible: (B, R), number of keys that the row sees, n: use it, and never the length.
        values: name -> (B, H, R), names as in :data:`SCALARS`.
        groups: name -> :class:`GroupAttention`: ``sink`` and every span that was marked.
        positions: (B, H, R, P), mass on P equal parts of the context.
        distances: (B, H, R, E), mass at distances 0, 1, 2-3, 4-7, ..., see
            :func:`geometry.dispersion.distance_edges`.
        top: (B, H, R, K), the K largest weights, descending; running sums are top-k masses.
        subset_entropy: (B, H, R, S), entropy within random nested halves, quarters, ... of the keys that
            are not sinks: what dilution alone does to this very row.
        subset_visible: (B, R, S), how many keys of the subset the row sees.
        closer: None unless asked for.
    """

    name: str
    layer: int
    kind: str
    window: int | None
    scale: float
    softcap: float | None
    rows: NDArray[np.int64]
    visible: NDArray[np.int32]
    values: Mapping[str, NDArray[Any]] = field(repr=False)
    groups: Mapping[str, GroupAttention] = field(repr=False)
    positions: NDArray[np.float32] = field(repr=False)
    distances: NDArray[np.float32] = field(repr=False)
    top: NDArray[np.float32] = field(repr=False)
    subset_entropy: NDArray[np.float32] = field(repr=False)
    subset_visible: NDArray[np.int32] = field(repr=False)
    closer: CloserAttention | None = field(repr=False, default=None)

    @property
    def entropy(self) -> NDArray[np.float32]:
        """(B, H, R), nats."""
        return self.values["entropy"]

    @property
    def shape(self) -> tuple[int, int, int]:
        """B, H, R."""
        return self.entropy.shape

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything under flat names, such as ``groups.sink.mass``, for safetensors."""
        flat = {name: getattr(self, name) for name in _ARRAYS}
        flat |= {f"values.{name}": array for name, array in self.values.items()}
        for name, group in self.groups.items():
            flat |= {
                f"groups.{name}.{key}": getattr(group, key) for key in GroupAttention.__dataclass_fields__
            }
        if self.closer is not None:
            flat |= {f"closer.{key}": array for key, array in vars(self.closer).items()}
        return flat

    def facts(self) -> dict[str, Any]:
        """What is not an array, for JSON."""
        return {name: getattr(self, name) for name in _FACTS}

    @classmethod
    def from_arrays(cls, facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> LayerAttention:
        """The inverse of :meth:`facts` and :meth:`arrays`."""
        parts: dict[str, dict[str, Any]] = {"values": {}, "groups": {}, "closer": {}}
        for name, array in arrays.items():
            kind, _, rest = name.partition(".")
            if kind in parts:
                parts[kind][rest] = array
        groups: dict[str, dict[str, Any]] = {}
        for name, array in parts["groups"].items():
            group, _, key = name.rpartition(".")
            groups.setdefault(group, {})[key] = array
        return cls(
            **{name: facts[name] for name in _FACTS},
            **{name: arrays[name] for name in _ARRAYS},
            values=parts["values"],
            groups={name: GroupAttention(**found) for name, found in groups.items()},
            closer=CloserAttention(**parts["closer"]) if parts["closer"] else None,
        )

    def table(self) -> dict[str, NDArray[Any]]:
        """One line for each text, head and row: column name -> (B * H * R,)."""
        b, h, r = self.shape
        index = np.indices((b, h, r)).reshape(3, -1)
        columns = {
            "text": index[0].astype(np.int32),
            "layer": np.full(b * h * r, self.layer, np.int32),
            "module": np.full(b * h * r, self.name),
            "kind": np.full(b * h * r, self.kind),
            "head": index[1].astype(np.int32),
            "row": self.rows[index[2]],
            "visible": self.visible[index[0], index[2]],
        }
        columns |= {name: array.reshape(-1) for name, array in self.values.items()}
        for name, group in self.groups.items():
            for key, array in vars(group).items():
                flat = array[index[0], index[2]] if key == "visible" else array.reshape(-1)
                columns[f"{name}.{key}"] = flat
        for name in ("positions", "distances", "top", "subset_entropy"):
            array = getattr(self, name)
            columns |= {f"{name}.{i}": array[..., i].reshape(-1) for i in range(array.shape[-1])}
        for i in range(self.subset_visible.shape[-1]):
            columns[f"subset_visible.{i}"] = self.subset_visible[index[0], index[2], i]
        return columns


_FACTS = ("name", "layer", "kind", "window", "scale", "softcap")
_ARRAYS = ("rows", "visible", "positions", "distances", "top", "subset_entropy", "subset_visible")


@dataclass(frozen=True)
class AttentionAnswer:
    """The chosen rows of all attention layers in one pass over one batch of texts.

    Attributes:
        layers: one for each attention module that ran, in the order of the model.
        length: tokens of the context, padding included: the index after the last key that was read.
        distance_edges: (E,), lower edges of the distance buckets.
        position_edges: (P,), absolute index of the first key of each position bucket.
        skipped: block -> why it has no attention in it (no softmax, as in a state-space layer).
        about: of the model and the request: what to write beside the numbers.
    """

    layers: tuple[LayerAttention, ...]
    length: int
    distance_edges: NDArray[np.int64]
    position_edges: NDArray[np.int64]
    skipped: Mapping[int, str] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)

    def layer(self, layer: int) -> LayerAttention:
        """The (first) attention module of a block.

        Args:
            layer: the block, from 0.

        Returns:
            Its rows.

        Raises:
            LayerError: the block has no attention, or there is no such block.
        """
        for found in self.layers:
            if found.layer == layer:
                return found
        why = self.skipped.get(layer, f"there are {sorted({found.layer for found in self.layers})}")
        raise LayerError(f"no attention in layer {layer}: {why}")

    def stack(self, name: str) -> NDArray[np.float32]:
        """One value of all layers that have the same heads and rows.

        Args:
            name: of :data:`SCALARS`, or a group and its key, such as ``needle.mass``.

        Returns:
            (L, B, H, R), layers in the order of ``layers``.

        Raises:
            DataError: there is no such value.
        """
        group, _, key = name.rpartition(".")
        try:
            found = [getattr(x.groups[group], key) if group else x.values[key] for x in self.layers]
        except (KeyError, AttributeError):
            known = [*SCALARS, *(f"{g}.mass" for g in (self.layers[0].groups if self.layers else ()))]
            raise DataError(f"attention: no value {name!r}; there are {', '.join(known)}") from None
        return np.stack(found)

    def arrow(self) -> pa.Table:
        """All layers as one long table, with what they are in the metadata of its schema."""
        import pyarrow as pa

        tables = [pa.table(layer.table()) for layer in self.layers]
        about = {
            "about": dict(self.about),
            "length": self.length,
            "distance_edges": self.distance_edges.tolist(),
            "position_edges": self.position_edges.tolist(),
            "skipped": {str(key): why for key, why in self.skipped.items()},
            "layers": [layer.facts() for layer in self.layers],
        }
        whole = pa.concat_tables(tables, promote_options="default") if tables else pa.table({})
        return whole.replace_schema_metadata({"repgeo": json.dumps(about, default=str)})

    def write_parquet(self, path: str | Path) -> None:
        """Write :meth:`arrow` to a file, zstd inside."""
        import pyarrow.parquet as pq

        pq.write_table(self.arrow(), Path(path), compression="zstd")
