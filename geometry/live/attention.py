"""Attention read inside the forward pass, at any length: spread, sinks, spans and distances of every head.

    from geometry.live.attention import AttentionProbe, Rows

    with AttentionProbe(loaded, spans={"needle": (120, 131)}) as probe, torch.inference_mode():
        loaded.model(**batch)
    answer = probe.answer()
    answer.layer(3).entropy                          # (B, H, R), nats
    answer.layer(3).groups["needle"].mass            # what each row gives to the needle
    save(answer, "results/attention")

No T x T matrix is made. The model computes what it computes with sdpa; queries and keys of chosen rows are
read again beside it, in float32 and tile by tile, so memory grows with the context only. Whatever the model
does to its keys is in the numbers: grouped heads, windows, soft caps, learned sinks, padding, packed texts,
caches. :class:`EagerAttentionProbe` serves models that compute attention in their own way.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from safetensors.numpy import load_file, save_file

from geometry.attention_rows import AttentionAnswer, LayerAttention
from geometry.checks import DataError, ModelError
from geometry.live.anatomy import blocks, unwrapped
from geometry.live.attention_calls import attention_calls
from geometry.live.attention_eager import eager_calls
from geometry.live.attention_request import DEFAULT_ROWS, Measure, Plan, Rows, Span, checked_spans
from geometry.live.attention_tiles import read_rows
from geometry.live.attention_whole import joined
from geometry.live.models import Loaded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from torch import nn

    from geometry.live.attention_calls import Call

__all__ = ["AttentionProbe", "EagerAttentionProbe", "Measure", "Rows", "save", "stored_layers"]


class AttentionProbe:
    """Reads the attention of every forward pass that is made while the context lasts.

    A pass that begins a context (its first query is token 0) begins a new answer; a pass that goes on from a
    cache (chunked prefill, ``generate``) goes on with the last one. The model is in eval mode and is borrowed:
    afterwards, also after an exception, it is what it was.

    Args:
        model: loaded, or any transformers model of the attention interface, also with an adapter on it.
        rows: which queries; by default about 256 spaced logarithmically, the last 64 and all marked spans.
        spans: name -> marked keys, as absolute token indices: (first, last + 1) for all texts, or for each
            text of the batch a list of such ranges. Padding on the left counts.
        length: tokens of the whole context where it arrives in parts; else that of the first pass.
        measure: how finely.
        folder: where rows are written, layer by layer, instead of being kept; see :func:`stored_layers`.
        rng: source of the random subsets of keys; None for a fixed draw.

    Raises:
        DataError: an impossible span; while the model runs: spans or rows beyond the context.
        ModelError: on entering, a model in training mode or off the attention interface.
    """

    _calls: Callable[[nn.Module, Callable[[Call], None]], AbstractContextManager[None]] = staticmethod(
        attention_calls
    )

    def __init__(
        self,
        model: Loaded | nn.Module,
        *,
        rows: Rows = DEFAULT_ROWS,
        spans: Mapping[str, Span] | None = None,
        length: int | None = None,
        measure: Measure | None = None,
        folder: str | Path | None = None,
        rng: np.random.Generator | None = None,
    ) -> None:
        self._model = model.model if isinstance(model, Loaded) else model
        self._about = {"model": _name(model), "adapter": _adapter(self._model)}
        self._rows, self._spans = rows, checked_spans(spans or {})
        self._length, self._measure = length, measure or Measure()
        self._folder = None if folder is None else Path(folder)
        self._salt = 0 if rng is None else int(rng.integers(1 << 62))
        self._plan: Plan | None = None
        self._passes: list[_Pass] = []
        self._inside = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Begin to read."""
        self._inside.enter_context(self._calls(self._model, self._receive))
        return self

    def __exit__(self, *what: object) -> None:
        """Give the model back."""
        self._inside.close()

    def answers(self) -> tuple[AttentionAnswer, ...]:
        """One answer for each context that was read, in order.

        Returns:
            As many as there were passes that began at token 0.

        Raises:
            DataError: the rows went to a folder.
        """
        if self._folder is not None:
            raise DataError(f"rows were written to {self._folder}: read them with stored_layers")
        return tuple(found.answer(self._model, self._about) for found in self._passes)

    def answer(self) -> AttentionAnswer:
        """The answer for the only context that was read.

        Returns:
            Rows of all its parts, joined.

        Raises:
            DataError: no context was read, or several were (use :meth:`answers`), or the rows went to a folder.
            ModelError: the model ran, but no layer of it has softmax attention.
        """
        found = self.answers()
        if len(found) > 1:
            raise DataError(f"{len(found)} contexts were read: use answers(), or a probe for each")
        if not found:
            raise DataError("no attention was read: run the model inside the context, once at least")
        return found[0]

    def _receive(self, call: Call) -> None:
        begins = call.sight.first_query == 0 and (not self._passes or call.name in self._passes[-1].parts)
        if begins or not self._passes:
            length = self._length or call.sight.first_query + call.query.shape[2]
            plan = Plan.of(length, _starts(call), self._rows, self._spans, self._measure, self._salt)
            self._passes.append(_Pass(plan))
        now = self._passes[-1]
        found = read_rows(call, now.plan)
        now.reached = max(now.reached, call.sight.first_key + call.n_keys)
        now.parts.setdefault(call.name, [])
        if found is not None and self._folder is None:
            now.parts[call.name].append(found)
        elif found is not None:
            now.written += 1
            number = f"{len(self._passes) - 1:03d}-{now.written:05d}"
            _write_layer(found, self._folder, number, self._about | {"length": now.reached})


class EagerAttentionProbe(AttentionProbe):
    """The same for models off the attention interface (Falcon, Bloom, MPT, GPT-J, GPT-Neo, CodeGen).

    The model runs with its own eager attention and each layer's weights are reduced and dropped before the
    next layer runs, so memory grows with the square of the context, but for one layer only. Logits are known
    from the weights only: ``log_z`` is 0 and a weight that underflows counts as a key that is not seen.
    """

    _calls = staticmethod(eager_calls)


class _Pass:
    """Rows of one context, while its parts come in."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.parts: dict[str, list[LayerAttention]] = {}
        self.reached = 0
        self.written = 0

    def answer(self, model: nn.Module, about: dict[str, Any]) -> AttentionAnswer:
        layers = tuple(_joined(parts) for parts in self.parts.values() if parts)
        if not layers:
            raise DataError(
                "none of the chosen rows was reached: run the whole context, or choose earlier rows"
            )
        plan = self.plan
        return AttentionAnswer(
            layers, self.reached, plan.edges, plan.position_edges, _skipped(model, layers), dict(about)
        )


def save(answer: AttentionAnswer, folder: str | Path) -> None:
    """Write an answer: ``rows.parquet`` to look at, and a safetensors file for each layer to compute with.

    Model, adapter, length and what kind of layer it is are in the metadata of both.

    Args:
        answer: what a probe found.
        folder: is made if it is not there.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    answer.write_parquet(folder / "rows.parquet")
    for number, layer in enumerate(answer.layers):
        about = {**answer.about, "length": answer.length}
        _write_layer(layer, folder, f"000-{number + 1:05d}", about)


def stored_layers(folder: str | Path) -> Iterator[LayerAttention]:
    """Read back what :func:`save` or a probe with a folder wrote, one layer at a time.

    Args:
        folder: with ``attention-*.safetensors`` in it.

    Yields:
        Rows of a layer, in the order in which they were measured.

    Raises:
        DataError: there are none, or a file is not one of these.
    """
    files = sorted(Path(folder).glob("attention-*.safetensors"))
    if not files:
        raise DataError(f"{folder}: no attention-*.safetensors in it")
    for file in files:
        yield _read_layer(file)


def _write_layer(layer: LayerAttention, folder: Path, number: str, about: Mapping[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    facts = {"layer": json.dumps(layer.facts()), "about": json.dumps(dict(about), default=str)}
    arrays = {name: np.ascontiguousarray(array) for name, array in layer.arrays().items()}
    # a name of its own until it is whole: a killed run leaves no half file that reads as a layer
    unfinished = folder / f"unfinished-{number}"
    save_file(arrays, unfinished, metadata=facts)
    unfinished.rename(folder / f"attention-{number}.safetensors")


def _read_layer(file: Path) -> LayerAttention:
    from safetensors import safe_open

    try:
        with safe_open(file, framework="numpy") as opened:
            facts = json.loads(opened.metadata()["layer"])
        return LayerAttention.from_arrays(facts, load_file(file))
    except Exception as error:
        raise DataError(f"{file}: not a layer of attention; remove it or measure again") from error


def _joined(parts: list[LayerAttention]) -> LayerAttention:
    """Rows of one module that were read in several passes."""
    if len(parts) == 1:
        return parts[0]
    last = parts[-1]
    arrays = [part.arrays() for part in parts]
    axes = {"rows": 0, "visible": 1, "subset_visible": 1}
    whole = {}
    for name in arrays[0]:
        if name.startswith("closer."):
            continue
        axis = axes.get(name, 1 if name.endswith(".visible") else 2)
        whole[name] = np.concatenate([part[name] for part in arrays], axis=axis)
    rows = LayerAttention.from_arrays(last.facts(), whole)
    return rows if last.closer is None else replace(rows, closer=joined([part.closer for part in parts]))


def _starts(call: Call) -> np.ndarray:
    """Index of the first token of each text that is not padding."""
    real = call.sight.real
    if real is None:
        return np.zeros(call.query.shape[0], np.int64)
    return real.int().argmax(dim=-1).cpu().numpy()


def _skipped(model: nn.Module, layers: tuple[LayerAttention, ...]) -> dict[int, str]:
    """Blocks in which no attention ran, and what is in them instead."""
    ran = {layer.layer for layer in layers}
    try:
        stack = blocks(model)
    except ModelError:
        return {}
    kinds = getattr(unwrapped(model).config.get_text_config(decoder=True), "layer_types", None) or []
    return {
        i: f"no softmax attention in it ({kinds[i] if i < len(kinds) else type(block).__name__})"
        for i, block in enumerate(stack)
        if i not in ran
    }


def _name(model: Loaded | nn.Module) -> str:
    return model.name if isinstance(model, Loaded) else type(unwrapped(model)).__name__


def _adapter(model: nn.Module) -> list[str] | None:
    """Names of the active adapters of a PEFT model."""
    active = getattr(model, "active_adapters", None) if hasattr(model, "get_base_model") else None
    return list(active) if active else None
