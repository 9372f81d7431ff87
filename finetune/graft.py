"""A fresh adapter on a borrowed base, for as long as it is trained."""

from __future__ import annotations

import contextlib
import warnings
from typing import TYPE_CHECKING

from finetune.recipe import REWRITES_BASE
from geometry.checks import AdapterError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from peft import LoraConfig, PeftModel
    from torch import Tensor
    from transformers import PreTrainedModel

    from finetune.recipe import Recipe


@contextlib.contextmanager
def grafted(model: PreTrainedModel, recipe: Recipe) -> Iterator[PeftModel]:
    """Put an untrained adapter on a model, and take it off again.

    Args:
        model: borrowed: when the block ends, also by an exception, it has its own modules, weights,
            gradient flags and mode again.
        recipe: says which adapter.

    Yields:
        The PEFT model in training mode, whose adapter's weights follow from the global random state of
        torch.

    Raises:
        AdapterError: the model carries an adapter already.
        InputError: the recipe's target modules are not in the model, or peft refuses the recipe.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    if any(isinstance(module, BaseTunerLayer) for module in model.modules()):
        raise AdapterError("the base carries an adapter already; give a model without one, or a merged one")
    config = recipe.peft_config()
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    touched = _weights(model) if recipe.variant in REWRITES_BASE or recipe.lora_config else {}
    was_training, caches = model.training, getattr(model.config, "use_cache", True)
    try:
        yield _wrapped(model, config).train()
    finally:
        _unwrap(model)
        if touched:
            model.load_state_dict(touched)
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
            parameter.grad = None
        model.config.use_cache = caches  # which the Trainer switches off
        model.train(was_training)


def save_start(model: PeftModel, folder: Path) -> None:
    """Keep the untrained adapter, which :func:`save_adapter` needs where the base was rewritten."""
    model.save_pretrained(folder)


def load_weights(model: PeftModel, folder: Path) -> None:
    """Set the adapter's weights to those saved in a folder."""
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    set_peft_model_state_dict(model, load_file(folder / "adapter_model.safetensors"))


def save_adapter(model: PeftModel, recipe: Recipe, start: Path, folder: Path) -> None:
    """Write a PEFT folder that loads on the unchanged base.

    Args:
        model: the trained adapter on its base.
        recipe: what it was trained with.
        start: folder of the untrained adapter, see :func:`save_start`.
        folder: where to write. For ``pissa`` and ``olora`` what is written is the plain LoRA of rank 2 r
            that turns the unchanged base into the trained model (Meng et al. 2024, arXiv 2404.02948,
            appendix on the equivalent LoRA).
    """
    if recipe.variant not in REWRITES_BASE:
        model.save_pretrained(folder)
        return
    with warnings.catch_warnings():
        # peft warns of the very case that it is converting
        warnings.filterwarnings("ignore", "(PiSSA|OLoRA) changes the base weights", UserWarning)
        model.save_pretrained(folder, path_initial_model_for_weight_conversion=str(start))


def _weights(model: PreTrainedModel) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def _wrapped(model: PreTrainedModel, config: LoraConfig) -> PeftModel:
    from peft import get_peft_model

    with warnings.catch_warnings():
        # peft 0.21 reads an attribute that transformers is renaming
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing.*", FutureWarning)
        # for GPT-2, whose linear layers are stored the other way round; peft then does what is right
        warnings.filterwarnings("ignore", "fan_in_fan_out is set to False", UserWarning)
        try:
            return get_peft_model(model, config)
        except (ValueError, RuntimeError, KeyError) as error:
            raise InputError(f"recipe: peft refuses it: {' '.join(str(error).split())[:200]}") from error


def _unwrap(model: PreTrainedModel) -> None:
    """Put the model's own modules back. peft's ``unload`` would leave trained copies of some of them."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    for name, module in list(model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            model.set_submodule(name, module.get_base_layer())
        elif isinstance(module, AuxiliaryTrainingWrapper):
            model.set_submodule(name, module.original_module)
    for mark in ("peft_config", "_hf_peft_config_loaded"):
        if mark in vars(model):
            delattr(model, mark)
