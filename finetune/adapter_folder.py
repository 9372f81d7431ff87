"""What may be read from an adapter's folder, with or without its base: the config, the weights, whose base.

Nothing here loads peft, which takes seconds.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from geometry.checks import AdapterError

if TYPE_CHECKING:
    from pathlib import Path

    from geometry.live.models import Loaded

WEIGHTS = "adapter_model.safetensors"

# These initialisations move a part of W0 into the adapter, so switching it off does not give W0 back.
REWRITING = ("pissa", "olora", "corda", "loftq", "lora_ga")


def adapter_config(folder: Path) -> dict[str, Any]:
    """Read the config of a LoRA adapter that leaves the base as it is.

    Args:
        folder: a PEFT adapter folder.

    Returns:
        The content of adapter_config.json.

    Raises:
        AdapterError: no such folder; no config, or not JSON; not LoRA; an initialisation that rewrites the
            base.
    """
    path = folder / "adapter_config.json"
    if not folder.is_dir():
        raise AdapterError(f"{folder}: no such adapter folder; give the folder that `repgeo train` made")
    if not path.is_file():
        raise AdapterError(f"{folder}: has no adapter_config.json; give a PEFT adapter folder")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise AdapterError(f"{path}: is not JSON; fetch the adapter again") from error
    kind = config.get("peft_type") if isinstance(config, dict) else None
    if kind != "LORA":
        raise AdapterError(f"{folder}: is a {kind} adapter; only LoRA and its variants can be compared")
    start = str(config.get("init_lora_weights", True)).lower()
    if start.startswith(REWRITING):
        name = start.split("_niter")[0]
        raise AdapterError(
            f"{folder}: was started with {name}, which rewrites the base weights, so that switching it off "
            "does not give the base back; save it with path_initial_model_for_weight_conversion first"
        )
    return config


def adapter_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Read the weights of an adapter.

    Args:
        folder: a PEFT adapter folder.

    Returns:
        Key -> tensor, as the file has them.

    Raises:
        AdapterError: there is no safetensors file, it is damaged, or it holds NaN or infinity.
    """
    path = folder / WEIGHTS
    if not path.is_file():
        raise AdapterError(f"{folder}: has no {WEIGHTS}; other formats are not read")
    try:
        weights = load_file(path)
    except (SafetensorError, OSError) as error:
        raise AdapterError(f"{path}: is damaged ({error}); fetch or train it again") from error
    bad = [key for key, value in weights.items() if not torch.isfinite(value).all()]
    if bad:
        raise AdapterError(f"{path}: {bad[0]} holds NaN or infinity; train again with a lower rate")
    return weights


def variant_of(config: dict[str, Any]) -> str:
    """Name the kind of LoRA: ``lora``, ``rslora`` or ``dora``."""
    return "dora" if config.get("use_dora") else "rslora" if config.get("use_rslora") else "lora"


def require_same_base(loaded: Loaded, folder: Path) -> None:
    """Compare fingerprints where our own training left them; shapes decide for other adapters.

    Args:
        loaded: the base that is given now.
        folder: the adapter's.

    Raises:
        AdapterError: it was trained on a base of other weights.
    """
    note = folder / "training.json"
    if not note.is_file():
        return
    made = json.loads(note.read_text(encoding="utf-8"))
    expected = made.get("base", {})
    if expected.get("fingerprint") not in {None, loaded.fingerprint}:
        raise AdapterError(
            f"{folder}: was trained on another base ({expected.get('name')}) than {loaded.name}; give that one"
        )
