"""What a change of the residual stream says about the next token, beside the true change of the logits.

Base, adapter and random adapters read the same tokens. Kept are sums of vectors of the model's width alone: at each
layer the mean difference, and the mean difference as the final norm would pass it on, linearised at every token's
own base state; and the mean difference after the final norm, which the unembedding turns into the true change.
Since the unembedding is linear, it is applied once, to means. Nothing grows with tokens or vocabulary.
"""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from finetune.adapter import ADAPTER, BASE
from finetune.causal import evaluating, require_causal
from finetune.paired import paired_batches
from geometry.checks import DataError, ModelError
from geometry.live.anatomy import final_norm, unwrapped
from geometry.live.capture import block_outputs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray
    from torch import Tensor

    from finetune.adapter import Attached
    from finetune.pairs import Text

    Array = NDArray[np.float64]


BATCH_ROWS = 8192
"""Most tokens of a batch, all sides counted."""


@dataclass(frozen=True, eq=False)
class Readout:
    """The way from the last block to the logits: final norm, then unembedding.

    Attributes:
        norm: the final norm, a copy in float64.
        weight: the unembedding, (vocabulary, d).
        gap: largest difference from the base's own logits on a probe, over the largest of those. Above rounding it
            tells what is left out here: a soft cap or a scale of the logits.
    """

    norm: nn.Module
    weight: Tensor
    gap: float

    def logits(self, vectors: ArrayLike) -> Array:
        """Unembed vectors (..., d): logits (..., vocabulary), less their mean, which no probability depends on."""
        with torch.no_grad():
            found = torch.as_tensor(np.asarray(vectors), dtype=self.weight.dtype) @ self.weight.T
        found = found.double().numpy()
        return found - found.mean(axis=-1, keepdims=True)

    def normed(self, states: ArrayLike) -> Array:
        """Pass vectors (..., d) through the final norm."""
        with torch.no_grad():
            return self.norm(torch.tensor(np.asarray(states, dtype=np.float64))).double().numpy()


@dataclass(frozen=True, eq=False)
class Readings:
    """Means over n tokens, all of the model's width d, for V sides beside the base.

    Attributes:
        n: number of tokens.
        base: layer -> (d,) base state h.
        moved: layer -> (V, d) difference of each side from the base.
        linear: layer -> (V, d) the difference through the norm's Jacobian at h.
        true: (V, d) difference after the last block and the norm; unembedded, the true change of the logits.
    """

    n: int
    base: dict[int, Array]
    moved: dict[int, Array]
    linear: dict[int, Array]
    true: Array


def readout(attached: Attached) -> Readout:
    """Take the way from the last block to the logits out of a model.

    Args:
        attached: the attached adapter.

    Returns:
        The final norm and the unembedding, as copies on the processor.

    Raises:
        ModelError: not a causal language model, no norm before its unembedding, or one of the two that the
            adapter has trained too, so that base and adapted model read out differently.
    """
    require_causal(attached.model)
    model = unwrapped(attached.model)
    norm, head = final_norm(model), model.get_output_embeddings()
    for name, module in (("final norm", norm), ("unembedding", head)):
        if module is None:
            raise ModelError(f"{attached.loaded.name}: has no {name} to read the residual stream with")
        if any(hasattr(module, trace) for trace in ("base_layer", "modules_to_save", "lora_A")):
            raise ModelError(
                f"{attached.folder}: trained the {name} too, so base and adapter do not read the stream out alike"
            )
    made = Readout(
        copy.deepcopy(norm).cpu().double().requires_grad_(False), head.weight.detach().cpu().float(), 0.0
    )
    return Readout(made.norm, made.weight, _gap(attached, made))


def read_out(
    attached: Attached,
    texts: Sequence[Text],
    layers: Sequence[int],
    norm: nn.Module,
    *,
    names: Sequence[str] = (BASE, ADAPTER),
) -> Readings:
    """Average what every side changes, at each layer and at the end, over the same tokens.

    Args:
        attached: the attached adapter.
        texts: what to read; tokens as in :func:`finetune.paired.paired_batches`, less those that are attention
            sinks of the base at any of the layers or at the last.
        layers: blocks.
        norm: of :func:`readout`.
        names: the base, then the other sides.

    Returns:
        The means.

    Raises:
        DataError: no token is left; or a text that is empty, or longer than the model's context.
        LayerError: a layer that the model does not have.
    """
    last = attached.loaded.n_layers - 1
    read = sorted({*layers, last})
    width, sides = attached.loaded.width, len(names) - 1
    n, true = 0, np.zeros((sides, width))
    sums = {layer: np.zeros((1 + 2 * sides, width)) for layer in read}
    room = max(256, BATCH_ROWS // len(names))
    for batch in paired_batches(attached, texts, read, names=names, batch_tokens=room):
        kept = batch.chosen.clone()
        for layer in read:
            kept &= ~batch.sinks(layer)
        n += int(kept.sum())
        for layer in read:
            base, *others = batch.stream[layer][:, kept].clone().double()
            moved = [other - base for other in others]
            passed = [_passed_on(norm, base, d) for d in moved]
            sums[layer] += np.stack([rows.sum(0).double().numpy() for rows in (base, *moved, *passed)])
            if layer == last:
                ends = [norm(rows).double() for rows in (base, *others)]
                true += np.stack([(end - ends[0]).sum(0).numpy() for end in ends[1:]])
    if not n:
        raise DataError("lenses: every token of these texts is an attention sink; give longer texts")
    means = {layer: total / n for layer, total in sums.items()}
    return Readings(
        n=n,
        base={layer: means[layer][0] for layer in layers},
        moved={layer: means[layer][1 : 1 + sides] for layer in layers},
        linear={layer: means[layer][1 + sides :] for layer in layers},
        true=true / n,
    )


def _passed_on(norm: nn.Module, base: Tensor, moved: Tensor) -> Tensor:
    """J(h) d for every row, J the Jacobian of the norm at the base state h."""
    with warnings.catch_warnings():
        # torch 2.13 compiles its own rules with a function that it has deprecated
        warnings.filterwarnings("ignore", ".*torch.jit.script", DeprecationWarning)
        return torch.func.jvp(norm, (base,), (moved,))[1]


def _gap(attached: Attached, made: Readout) -> float:
    """Read the last block out, beside the base's own logits, at a few tokens spread over the vocabulary."""
    size = made.weight.shape[0]
    probe = torch.linspace(0, size - 1, 16, device=attached.loaded.device).long()[None]
    last = attached.loaded.n_layers - 1
    with evaluating(attached.model), attached.model.disable_adapter():
        with block_outputs(attached.model, [last]) as kept:
            logits = attached.model(input_ids=probe).logits.float().cpu()
        state = made.norm(kept[last].double().cpu())
        found = torch.nn.functional.linear(state.float(), made.weight, _bias(attached))
    return float((found - logits).abs().max() / logits.abs().max())


def _bias(attached: Attached) -> Tensor | None:
    """The bias of the unembedding; it cancels in every difference."""
    bias = getattr(unwrapped(attached.model).get_output_embeddings(), "bias", None)
    return None if bias is None else bias.detach().cpu().float()
