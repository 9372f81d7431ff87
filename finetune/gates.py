"""Switch single modules and rank components of an adapter on and off, exactly, and differentiate by the switches.

A LoRA module adds s B A x to what the base's own module writes. The factors B and A mean nothing one by one, so the
components are those of the singular value decomposition, s B A = sum_i sigma_i u_i v_i^T, which do not change when
the adapter is written down differently. Each has a gate g_i:

    module(x) = base(x) + sum_i g_i sigma_i u_i (v_i . x)

With every gate at 1 this is the adapted model, with every gate at 0 the base, and a gate can be differentiated by.
Copies of the model with other gates run as rows of one batch.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from finetune.adapter import deltas, lora_layers
from finetune.causal import evaluating, padding_id
from finetune.facts import question_rows
from finetune.packed import packed_batches
from finetune.patched_likelihoods import asked_logits
from finetune.prompts import IGNORED
from geometry.checks import AdapterError, DataError, ModelError, ShapeError
from geometry.live.anatomy import blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray
    from peft.tuners.lora import LoraLayer
    from torch import Tensor

    from finetune.adapter import Attached
    from finetune.packed import Packed


@dataclass(frozen=True)
class Module:
    """One adapted module and its place among the gates.

    Attributes:
        name: of the module, as peft has it.
        layer: its block; None outside the blocks.
        projection: its name inside the block, such as ``mlp.down_proj``.
        first: number of its first gate.
        rank: how many gates it has.
    """

    name: str
    layer: int | None
    projection: str
    first: int
    rank: int

    @property
    def gates(self) -> slice:
        """Its gates."""
        return slice(self.first, self.first + self.rank)


@dataclass(frozen=True, eq=False)
class Answers:
    """Log-likelihoods of answers under copies of the model.

    Attributes:
        sums: (C, n) nats, summed over the tokens of each answer.
        tokens: (n,) tokens of each answer.
    """

    sums: NDArray[np.float64]
    tokens: NDArray[np.int64]


def gated_modules(attached: Attached) -> tuple[Module, ...]:
    """List the adapted modules with their gates, in the order of the model.

    Args:
        attached: the attached adapter.

    Returns:
        The modules; their gates are numbered through, components of larger singular value first.

    Raises:
        AdapterError: DoRA, whose update is not a sum of components; or an adapted module that is not linear.
    """
    if attached.preflight.variant == "dora":
        raise AdapterError(
            f"{attached.folder}: is DoRA, whose change is not a sum of rank components; train with variant lora"
        )
    place = {
        id(module): (i, name)
        for i, block in enumerate(blocks(attached.model))
        for name, module in block.named_modules()
    }
    found, first = [], 0
    for name, layer in lora_layers(attached.model).items():
        if not layer.lora_A:
            raise AdapterError(f"{attached.folder}: {name} is no linear module; train without embeddings")
        block, projection = place.get(id(layer), (None, name.rsplit(".", 1)[-1]))
        rank = min(next(iter(layer.lora_A.values())).weight.shape[0], layer.in_features, layer.out_features)
        found.append(Module(name, block, projection, first, rank))
        first += rank
    return tuple(found)


def gated_likelihoods(
    attached: Attached,
    gates: ArrayLike,
    questions: Sequence[tuple[str, str]],
    *,
    batch_tokens: int = 4096,
) -> Answers:
    """Ask copies of the model with some components switched off how likely answers are, teacher-forced.

    Args:
        attached: the attached adapter; it is whole again afterwards, also after an exception.
        gates: (C, K) gates of C copies, see :func:`gated_modules`; 1 is on and 0 is off.
        questions: (prompt, answer) texts; a space is put between the two.
        batch_tokens: most tokens of a forward pass, all copies together; one text alone may need more.

    Returns:
        The log-likelihoods, copies and questions in order.

    Raises:
        AdapterError: see :func:`gated_modules`.
        DataError: a question is longer than the model's context.
        ModelError: not a causal language model, or a log-likelihood is not finite.
        ShapeError: gates for another number of components.
    """
    table = torch.as_tensor(np.array(gates, dtype=np.float64, ndmin=2))
    asked = question_rows(attached.model, attached.loaded.tokenizer, questions)
    found = np.zeros((len(table), len(asked)))
    room = max(1, batch_tokens // min(4, len(table)))
    pad = padding_id(attached.loaded.tokenizer)
    with evaluating(attached.model), _gated(attached, table.shape[1]) as switch:
        for batch in packed_batches(attached.model, asked, pad, tokens=room):
            size = max(1, batch_tokens // batch.inputs["input_ids"].numel())
            for start in range(0, len(table), size):
                some = table[start : start + size]
                switch(some)
                likely = _likely(asked_logits(attached, batch, len(some)), batch)
                number = batch.question.cpu().numpy()
                np.add.at(found[start : start + size].T, number, likely.double().cpu().numpy().T)
    if not np.isfinite(found).all():
        raise ModelError("a log-likelihood is not finite; check the model and the adapter for NaN")
    return Answers(found, np.array([sum(label != IGNORED for label in labels) for _, labels in asked]))


def gate_gradient(
    attached: Attached,
    gates: ArrayLike,
    questions: Sequence[tuple[str, str]],
    weights: ArrayLike,
    *,
    batch_tokens: int = 2048,
) -> NDArray[np.float64]:
    """Differentiate a weighted sum of log-likelihoods by every gate, in one pass over the questions.

    Args:
        attached: the attached adapter; it is whole again afterwards, also after an exception.
        gates: (K,) where to differentiate.
        questions: n (prompt, answer) texts.
        weights: (n,) of the log-likelihood of each answer.
        batch_tokens: most tokens of a forward pass; one text alone may need more.

    Returns:
        (K,) derivatives of sum_i w_i log p_i. The gate of a module, which moves all of its components together, has
        the sum of theirs.

    Raises:
        AdapterError: see :func:`gated_modules`.
        DataError: no question, or one longer than the model's context.
        ModelError: not a causal language model.
        ShapeError: gates for another number of components.
    """
    if not len(questions):
        raise DataError("gates: no question to differentiate; give at least one")
    point = torch.as_tensor(np.array(gates, dtype=np.float64, ndmin=2)).requires_grad_()
    asked = question_rows(attached.model, attached.loaded.tokenizer, questions)
    weight = torch.as_tensor(np.asarray(weights, np.float64))
    pad = padding_id(attached.loaded.tokenizer)
    total = torch.zeros_like(point)
    with evaluating(attached.model), _gated(attached, point.shape[1]) as switch, torch.enable_grad():
        for batch in packed_batches(attached.model, asked, pad, tokens=batch_tokens):
            switch(point)
            likely = _likely(asked_logits(attached, batch, 1), batch)[0].double().cpu()
            (part,) = torch.autograd.grad((weight[batch.question.cpu()] * likely).sum(), point)
            total += part
    return total[0].numpy()


def _likely(logits: Tensor, batch: Packed) -> Tensor:
    """Log-likelihood of each target, (copies, N)."""
    target = batch.target[None, :, None].expand(len(logits), -1, 1)
    return logits.gather(-1, target)[..., 0] - logits.logsumexp(dim=-1)


@contextmanager
def _gated(attached: Attached, count: int) -> Iterator[Callable[[Tensor], None]]:
    """Let gates stand before all components, and yield what sets them: (C, K) for the C copies of a batch."""
    modules, updates, layers = gated_modules(attached), deltas(attached), lora_layers(attached.model)
    expected = modules[-1].first + modules[-1].rank
    if count != expected:
        raise ShapeError(f"gates: expected {expected} a copy, one for each component, got {count}")
    now: list[Tensor] = []
    with ExitStack() as restored:
        for module in modules:
            layer = layers[module.name]
            u, sigma, vt = updates[module.name].svd()
            weight = layer.base_layer.weight
            writes = torch.from_numpy(np.ascontiguousarray((u * sigma).T)).to(weight)
            reads = torch.from_numpy(np.ascontiguousarray(vt.T)).to(weight)
            layer.forward = _forward(layer, reads, writes, now, module.gates)
            restored.callback(delattr, layer, "forward")

        def switch(values: Tensor) -> None:
            now[:] = [values]

        yield switch


def _forward(
    layer: LoraLayer, reads: Tensor, writes: Tensor, now: list[Tensor], own: slice
) -> Callable[..., Any]:
    def forward(x: Tensor, *args: Any, adapter_names: Any = None, **options: Any) -> Tensor:
        gates = now[0][:, own]
        out = layer.base_layer(x, *args, **options)
        if not gates.requires_grad and not gates.any():
            return out
        gates = gates.to(x)
        seen = (x @ reads).unflatten(0, (len(gates), -1)) * gates[:, None, None]
        return out + seen.flatten(0, 1) @ writes

    return forward
