"""Hand a model to transformer_lens as a ``TransformerBridge`` that is known to compute the same."""

from __future__ import annotations

import copy
import warnings
from typing import TYPE_CHECKING

import torch

from geometry.checks import AdapterError, ModelError
from geometry.live.quiet import quiet_transformers

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import PreTrainedModel

    from geometry.live.models import Loaded

TOLERANCE = 1e-4
"""Largest difference of a logit, in float32, that passes as rounding."""

_PROBE = (2, 16)


def as_bridge(loaded: Loaded) -> TransformerBridge:
    """A ``TransformerBridge`` of a copy, with raw weights, after a parity check on a probe batch.

    Building a bridge rewrites the model that it is given and switches it to eager attention, so a copy is
    bridged and the one handed in stays as it is. Weights are not processed: folding and centring turn the
    directions that geometry is about (``enable_compatibility_mode`` does both). A half-precision
    model is checked through a float32 twin, where a wrong number cannot pass for rounding.

    Feed it token ids. Given a string, a bridge adds a BOS token by rules of its own.

    Args:
        loaded: with a causal language model or an encoder that has its language-model head. An adapter
            has to be merged into it first.

    Returns:
        The bridge, in eval mode, on the device of the model. It shares no memory with the model.

    Raises:
        AdapterError: there is an adapter on the model. Bridges drop part of one silently where query, key
            and value share a matrix (GPT-2, GPT-NeoX).
        ModelError: transformer_lens does not know the architecture; the model has no logits; the bridge's
            logits differ from the model's by more than :data:`TOLERANCE` (or that part of a tenth of the
            largest logit, where this is more).
    """
    _require_no_adapter(loaded.model)
    with quiet_transformers():
        bridge = _checked_in_float32(loaded)
        if loaded.dtype != torch.float32:
            bridge = _boot(copy.deepcopy(loaded.model), loaded)
    return bridge.eval()


def _checked_in_float32(loaded: Loaded) -> TransformerBridge:
    plain = copy.deepcopy(loaded.model).float().eval()
    # the bridge computes attention in this way; other kernels round differently
    plain.set_attn_implementation("eager")
    probe = _probe(loaded)
    expected = _logits(plain, probe, loaded.name)
    bridge = _boot(plain, loaded).eval()
    _require_parity(_logits(bridge, probe, loaded.name), expected, loaded.name)
    return bridge


def _require_no_adapter(model: nn.Module) -> None:
    if any(type(module).__module__.startswith("peft.") for module in model.modules()):
        raise AdapterError("an adapter is on this model: merge it into a copy first (merge_and_unload)")


def _probe(loaded: Loaded) -> Tensor:
    batch, length = _PROBE
    shape = (batch, min(length, loaded.max_length))
    ids = torch.randint(len(loaded.tokenizer), shape, generator=torch.Generator().manual_seed(0))
    return ids.to(loaded.device)


def _boot(model: PreTrainedModel, loaded: Loaded) -> TransformerBridge:
    # importing transformer_lens adds a warning filter and takes seconds
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformer_lens.model_bridge import TransformerBridge

        tokenizer = copy.deepcopy(loaded.tokenizer)
        # where transformer_lens reads the tokenizer again, to have it add a BOS token
        tokenizer.init_kwargs.setdefault("name_or_path", tokenizer.name_or_path)
        try:
            return TransformerBridge.boot_transformers(
                model.config.name_or_path or loaded.name,
                hf_model=model,
                tokenizer=tokenizer,
                device=str(loaded.device),
                dtype=model.dtype,
            )
        except Exception as error:
            said = (str(error).strip().splitlines() or [""])[0]
            raise ModelError(
                f"{loaded.name}: transformer_lens cannot bridge it ({type(error).__name__}: {said})"
            ) from error


def _logits(model: nn.Module, probe: Tensor, name: str) -> Tensor:
    with torch.inference_mode():
        output = model(probe)
    logits = output if isinstance(output, torch.Tensor) else getattr(output, "logits", None)
    if logits is None:
        raise ModelError(f"{name}: has no logits, so a bridge of it cannot be checked; load it with its head")
    return logits


def _require_parity(found: Tensor, expected: Tensor, name: str) -> None:
    if found.shape != expected.shape:
        raise ModelError(
            f"{name}: the bridge gives logits of shape {tuple(found.shape)}, not {tuple(expected.shape)}"
        )
    worst = (found - expected).abs().max().item()
    allowed = TOLERANCE * max(1.0, expected.abs().max().item() / 10)
    # written so that NaN fails
    if not worst < allowed:
        raise ModelError(
            f"{name}: the bridge computes something else than the model (logits differ by {worst:.1e}, "
            f"{allowed:.1e} is allowed); use geometry.live.capture on the model itself"
        )
