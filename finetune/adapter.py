"""An adapter on its base: attached for a while, checked, and run beside the base in one forward pass.

The base is borrowed. :func:`attach` is a context manager; when it ends the base has its own modules,
weights and gradient flags again. Inside it, a forward pass can hold the base, the adapter and random
adapters as rows of one batch, so that all of them read the same tokens at the same price.
"""

from __future__ import annotations

import contextlib
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from finetune.adapter_folder import adapter_config, adapter_weights, require_same_base, variant_of
from geometry.checks import AdapterError
from geometry.nulls import matched_random
from geometry.spectra import LowRank

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from peft import PeftModel
    from peft.tuners.lora import LoraLayer

    from geometry.live.models import Loaded

BASE, ADAPTER = "__base__", "default"
"""Names of the two sides of a comparison, as peft's ``adapter_names`` wants them."""

PROBE_TOLERANCE = 1e-4
"""Largest logit difference (float32) between the base alone and the base with its adapter disabled."""


@dataclass(frozen=True)
class Preflight:
    """What was checked before anything was measured.

    Attributes:
        variant: ``lora``, ``rslora`` or ``dora``.
        rank: largest rank of a module.
        modules: number of adapted modules.
        norm: Frobenius norm of all updates s B A together.
        base_gap: largest logit difference between the base alone and the adapter disabled, on a probe.
        shift: largest logit difference between base and adapted model on the probe.
        notes: what a reader should know, a sentence each.
    """

    variant: str
    rank: int
    modules: int
    norm: float
    base_gap: float
    shift: float
    notes: tuple[str, ...]

    @property
    def active(self) -> bool:
        """Whether the adapter changes anything at all."""
        return self.norm > 0 and self.shift > 0


@dataclass(frozen=True)
class Attached:
    """A base with an adapter on it, inside :func:`attach`.

    Attributes:
        model: the PEFT model, in eval mode.
        loaded: the base.
        folder: where the adapter was read.
        preflight: what was checked.
    """

    model: PeftModel
    loaded: Loaded
    folder: Path
    preflight: Preflight

    @property
    def mixes(self) -> bool:
        """Whether peft can run several adapters as rows of one batch: not with modules trained whole."""
        config = self.model.peft_config[ADAPTER]
        return not (config.modules_to_save or getattr(config, "trainable_token_indices", None))


@contextlib.contextmanager
def attach(loaded: Loaded, folder: str | Path) -> Iterator[Attached]:
    """Put a LoRA adapter on a base for as long as the block lasts.

    Args:
        loaded: the base; its model is borrowed and given back as it was, also after an exception.
        folder: a PEFT adapter folder with safetensors.

    Yields:
        The attached adapter, checked: every key of the file is used, nothing is merged, and the model
        with the adapter switched off computes what the base computes.

    Raises:
        AdapterError: not a PEFT folder; not LoRA; an initialisation or bias training that rewrites the
            base; weights missing, left over or not finite; trained on another base or tokenizer; or the base
            carries an adapter already.
    """
    from peft import PeftModel

    folder = Path(folder)
    config = adapter_config(folder)
    _require_no_bias(config, folder)
    weights = adapter_weights(folder)
    _require_bare(loaded)
    require_same_base(loaded, folder)
    _require_no_own_base(loaded, weights, config, folder)
    probe = _probe(loaded)
    pristine = _logits(loaded.model, probe)
    gradients = [p.requires_grad for p in loaded.model.parameters()]
    parameters = list(loaded.model.parameters())
    model = None
    try:
        try:
            with warnings.catch_warnings():
                # keys are checked below, where a missing one is an error
                warnings.filterwarnings("ignore", "Found missing adapter keys")
                # peft 0.21 reads an attribute that transformers is about to rename
                warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
                model = PeftModel.from_pretrained(loaded.model, str(folder), autocast_adapter_dtype=False)
            model.eval()
        except (RuntimeError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())[:160]
            raise AdapterError(
                f"{folder}: does not fit {loaded.name} ({reason}); give the base that it was trained on"
            ) from error
        _require_keys(model, weights, folder)
        found = _preflight(model, config, probe, pristine, folder)
        if note := _other_name(config, loaded):
            found = replace(found, notes=(*found.notes, note))
        yield Attached(model, loaded, folder, found)
    finally:
        if model is not None:
            model.unload()
        _drop_traces(loaded.model)
        for parameter, flag in zip(parameters, gradients, strict=True):
            parameter.requires_grad_(flag)


def require_active(attached: Attached) -> None:
    """Refuse an adapter that changes nothing.

    Args:
        attached: the attached adapter.

    Raises:
        AdapterError: every update is 0, or none of them reaches the output.
    """
    if not attached.preflight.active:
        raise AdapterError(f"{attached.folder}: is inactive, it changes nothing; train it, or name another")


def lora_layers(model: PeftModel) -> dict[str, LoraLayer]:
    """List the adapted modules by name, in the order of the model."""
    from peft.tuners.lora import LoraLayer

    return {name: m for name, m in model.named_modules() if isinstance(m, LoraLayer)}


def deltas(attached: Attached, name: str = ADAPTER) -> dict[str, LowRank]:
    """Read the update s B A of every adapted module, never multiplied out.

    Args:
        attached: the attached adapter.
        name: which adapter on the model.

    Returns:
        Module name -> update, out x in in the orientation of ``x @ W.T``. For DoRA this is the direction
        before magnitudes rescale it, not the whole change of the weight.
    """
    return {module: _update(layer, name) for module, layer in lora_layers(attached.model).items()}


def random_adapters(attached: Attached, n: int, rng: np.random.Generator) -> tuple[str, ...]:
    """Add n random adapters that match the attached one module by module.

    Each keeps the singular values of every update and draws its singular vectors from the Haar measure:
    the same strength, spread over as many directions, pointing anywhere. What such an adapter does to
    the activations is the floor under what the trained one does.

    Args:
        attached: the attached adapter; the new ones live on the same model, and go when it is detached.
        n: how many, 0 or more.
        rng: source of chance.

    Returns:
        Their names, to be used beside ``BASE`` and ``ADAPTER``.
    """
    names = tuple(f"random_{i}" for i in range(n))
    for name in names:
        add_adapter(attached, name, lambda update: matched_random(update, rng))
    return names


def add_adapter(attached: Attached, name: str, make: Callable[[LowRank], LowRank]) -> None:
    """Add an adapter that is made from the attached one, update by update.

    Args:
        attached: the attached adapter, which stays the active one; the new one goes when it is detached.
        name: of the new adapter.
        make: update of the attached adapter -> that of the new one, with factors of the same shapes.
    """
    updates = deltas(attached)
    attached.model.add_adapter(name, attached.model.peft_config[ADAPTER])
    for module, layer in lora_layers(attached.model).items():
        fresh = make(updates[module])
        with torch.no_grad():
            for target, value in zip(_factors(layer, name), (fresh.a, fresh.b), strict=True):
                target.copy_(torch.from_numpy(value))
            _copy_magnitude(layer, name)
    attached.model.set_adapter(ADAPTER)
    attached.model.eval()


def forward_together(
    model: PeftModel, batch: dict[str, torch.Tensor], names: Sequence[str], **options: Any
) -> Any:
    """Run the same texts through several adapters as rows of one forward pass.

    Args:
        model: a PEFT model in eval mode.
        batch: tensors of B rows: input_ids, attention_mask, position_ids.
        names: V adapters, among them ``BASE`` for none at all.
        **options: further arguments of the model's forward pass.

    Returns:
        The model's output over V * B rows: the B rows of the first name, then those of the next.
    """
    rows = batch["input_ids"].shape[0]
    stacked = {key: value.repeat(len(names), 1) for key, value in batch.items()}
    return model(**stacked, adapter_names=[name for name in names for _ in range(rows)], **options)


def _require_no_bias(config: dict[str, Any], folder: Path) -> None:
    if config.get("bias", "none") != "none" or config.get("lora_bias"):
        raise AdapterError(
            f"{folder}: trained biases (bias={config.get('bias')!r}), which stay when the adapter is switched "
            "off; train with bias='none'"
        )


def _require_bare(loaded: Loaded) -> None:
    """Refuse a base that is none: with adapter layers in it, merged or not, nothing says what the base was."""
    for name, module in loaded.model.named_modules():
        if hasattr(module, "base_layer") or hasattr(module, "lora_A"):
            state = "a merged" if getattr(module, "merged", False) else "an"
            raise AdapterError(
                f"{loaded.name}: carries {state} adapter already, at {name}; load the base without it"
            )


def _require_no_own_base(
    loaded: Loaded, weights: dict[str, torch.Tensor], config: dict[str, Any], folder: Path
) -> None:
    """Refuse weights of the base itself, unless they are its own: peft would write them into the borrowed model."""
    own = loaded.model.state_dict()
    trained_whole = tuple(config.get("modules_to_save") or ())
    for key, value in weights.items():
        name = key.removeprefix("base_model.model.").replace(".base_layer.", ".")
        if name not in own or name.rpartition(".")[0].endswith(trained_whole):
            continue  # of a module trained whole peft makes a copy, and the base keeps its own
        if value.shape != own[name].shape or not torch.equal(value.to(own[name]), own[name]):
            raise AdapterError(
                f"{folder}: brings its own {name}, so there is no base left to compare with; train without "
                "changing or resizing embeddings"
            )


def _require_keys(model: PeftModel, weights: dict[str, torch.Tensor], folder: Path) -> None:
    from peft import get_peft_model_state_dict

    # left to itself, peft asks the hub for the base that the adapter names, to see whether its vocabulary has grown
    known = set(get_peft_model_state_dict(model, save_embedding_layers=False))
    if missing := sorted(known - set(weights)):
        raise AdapterError(f"{folder}: {len(missing)} weights are missing, first {missing[0]}; save it again")
    # weights of the base that were saved along are its own, see _require_no_own_base
    if extra := sorted(set(weights) - known - set(model.state_dict())):
        raise AdapterError(
            f"{folder}: {len(extra)} weights fit no module of the base, first {extra[0]}; is it another base?"
        )


def _probe(loaded: Loaded) -> torch.Tensor:
    """Token ids spread over the vocabulary; no text, so that every tokenizer can have them."""
    size = loaded.model.get_input_embeddings().weight.shape[0]
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, size, (2, min(16, loaded.max_length)))).to(loaded.device)


def _logits(model: torch.nn.Module, probe: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        out = model(input_ids=probe)
    return (out.logits if hasattr(out, "logits") else out.last_hidden_state).float()


def _preflight(
    model: PeftModel, config: dict[str, Any], probe: torch.Tensor, pristine: torch.Tensor, folder: Path
) -> Preflight:
    layers = lora_layers(model)
    if any(layer.merged for layer in layers.values()):
        raise AdapterError(f"{folder}: is merged into its base; load an unmerged base")
    with model.disable_adapter():
        gap = float((_logits(model, probe) - pristine).abs().max())
    if not gap <= PROBE_TOLERANCE * max(1.0, float(pristine.abs().max())):
        raise AdapterError(
            f"{folder}: with the adapter switched off the logits differ from the base by {gap:.3g}; "
            "its kind rewrites base weights, so there is no base left to compare with"
        )
    shift = float((_logits(model, probe) - pristine).abs().max())
    norms = [_update(layer, ADAPTER).norm() for layer in layers.values()]
    variant = variant_of(config)
    notes = []
    if variant == "dora":
        notes.append("DoRA rescales whole weights: s B A is not its full change of the weight.")
    if config.get("modules_to_save"):
        notes.append("Whole modules were trained too; random adapters keep them as they are.")
    if pristine.dtype != torch.float32 or next(model.parameters()).dtype != torch.float32:
        notes.append("The model runs in half precision, which drowns small differences; float32 is exact.")
    return Preflight(
        variant=variant,
        rank=max(layer.r[ADAPTER] for layer in layers.values()),
        modules=len(layers),
        norm=float(np.linalg.norm(norms)),
        base_gap=gap,
        shift=shift,
        notes=tuple(notes),
    )


def _other_name(config: dict[str, Any], loaded: Loaded) -> str | None:
    """Say that the adapter names another base, by the last part of its name; a copy may have any name."""
    named = config.get("base_model_name_or_path")
    if not named or Path(named).name == Path(loaded.name).name:
        return None
    return (
        f"The adapter names `{named}` as its base, and was put on `{loaded.name}`; shapes fit, and where our "
        "own training left a fingerprint it fits as well."
    )


def _factors(layer: LoraLayer, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The factors A (r, in) and B (out, r), of a linear layer or of an embedding."""
    if name in layer.lora_A:
        return layer.lora_A[name].weight, layer.lora_B[name].weight
    return layer.lora_embedding_A[name], layer.lora_embedding_B[name]


def _update(layer: LoraLayer, name: str) -> LowRank:
    a, b = _factors(layer, name)
    return LowRank(_array(b), _array(a), float(layer.scaling[name]))


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().cpu().numpy()


def _copy_magnitude(layer: LoraLayer, name: str) -> None:
    """Give a random DoRA adapter the trained magnitudes; other variants have none."""
    magnitudes = getattr(layer, "lora_magnitude_vector", {})
    if name in magnitudes:
        magnitudes[name].weight.copy_(magnitudes[ADAPTER].weight)


def _drop_traces(model: torch.nn.Module) -> None:
    """Remove the attributes that peft leaves on a base it has wrapped."""
    for trace in ("peft_config", "_hf_peft_config_loaded"):
        if trace in vars(model):
            delattr(model, trace)
