"""A name or a folder becomes a model that can be measured.

:func:`load` takes any causal language model or encoder that transformers knows, from a local folder or
from the hub, and either returns a :class:`Loaded` whose weights are whole, finite and identified by a
hash, or raises a :class:`~geometry.checks.ModelError` of one line.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers
from transformers.models.auto import modeling_auto

from geometry.checks import ModelError
from geometry.live.anatomy import blocks, final_norm, first_position, unwrapped
from geometry.live.bridge import as_bridge
from geometry.live.quiet import quiet_transformers

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["EMBEDDED", "Loaded", "as_bridge", "blocks", "final_norm", "fingerprint", "load", "unwrapped"]

EMBEDDED = Path(__file__).parent / "embedded"
"""Where the model called ``embedded`` lives: it is shipped inside this package."""

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]*\w)?")
_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
# bookkeeping of a config that training, saving or another version of the library may rewrite
_NOT_IDENTITY = re.compile(
    r"_.*|.*_token_id|output_.*|transformers_version|(torch_)?dtype|architectures|use_cache|return_dict"
)
_HASHED_AT_ONCE = 1 << 24


@dataclass(frozen=True)
class Loaded:
    """A model ready to be measured, with its tokenizer and what identifies it.

    Attributes:
        model: in eval mode, on one device.
        tokenizer: of the same folder or hub name; never has more tokens than the model has embeddings.
        name: as it was asked for: ``embedded``, a folder, or a hub name.
        revision: commit of the hub; None for a folder.
        fingerprint: of the weights, see :func:`fingerprint`.
    """

    model: PreTrainedModel = field(repr=False)
    tokenizer: PreTrainedTokenizerBase = field(repr=False)
    name: str
    revision: str | None
    fingerprint: str

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the weights."""
        return self.model.dtype

    @property
    def width(self) -> int:
        """Coordinates of the residual stream, d."""
        return self.model.config.get_text_config(decoder=True).hidden_size

    @property
    def n_layers(self) -> int:
        """Number of blocks, L."""
        return len(blocks(self.model))

    @property
    def max_length(self) -> int:
        """Longest text in tokens, special tokens included; ``sys.maxsize`` where nothing limits it."""
        config = self.model.config.get_text_config(decoder=True)
        stated = [getattr(config, key, None) for key in ("max_position_embeddings", "max_seq_len")]
        limits = [limit - first_position(self.model) for limit in stated if limit]
        return min([*limits, self.tokenizer.model_max_length, sys.maxsize])


def load(
    name_or_folder: str | Path,
    *,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> Loaded:
    """Load a causal language model or an encoder with its tokenizer, ready to be measured.

    Args:
        name_or_folder: a local folder, a name on the Hugging Face hub, or ``embedded`` for the model
            that is shipped with this package. What exists on disk, or looks like a path, is never
            asked of the hub.
        dtype: number format of the weights, such as ``"float32"``; None keeps that of the checkpoint.
        device: such as ``"cpu"`` or ``"cuda:1"``; None takes the first CUDA device, or else the CPU.
        revision: branch, tag or commit on the hub. The commit that it means is what gets recorded.
        trust_remote_code: whether code that comes with the model may run. Say yes to authors you trust.

    Returns:
        The model in eval mode. Only safetensors are read; a checkpoint of another format is refused.

    Raises:
        ModelError: there is no such folder or hub name; no config, tokenizer or safetensors in it; not a
            language model; weights missing, of another shape than the config says, or not finite; more
            memory needed than there is.
    """
    name = str(name_or_folder)
    number_format = _number_format(dtype)
    place = torch.device(_default_device()) if device is None else _device(device)
    folder = _folder(name_or_folder)
    source: dict[str, Any] = {
        "pretrained_model_name_or_path": name if folder is None else str(folder),
        "trust_remote_code": trust_remote_code,
        "local_files_only": folder is not None,
        "revision": None if folder is not None else revision,
    }
    with quiet_transformers():
        config = _attempt(name, "config", transformers.AutoConfig.from_pretrained, **source)
        kind = _kind(config, name)
        if folder is None:
            # the branch may move between one download and the next
            source["revision"] = getattr(config, "_commit_hash", None) or revision
        tokenizer = _attempt(name, "tokenizer", transformers.AutoTokenizer.from_pretrained, **source)
        weights = {"dtype": number_format, "use_safetensors": True, "output_loading_info": True}
        model, info = _attempt(name, "weights", kind.from_pretrained, **source, **weights)
        model = _attempt(name, "weights", model.to, place)
    _require_whole(model, info, name)
    _require_fit(model, tokenizer, name)
    return Loaded(model.eval(), tokenizer, name, source["revision"], fingerprint(model))


def fingerprint(model: PreTrainedModel) -> str:
    """Identify a model by what it computes with: its config and the values of its weights.

    Half-precision weights are hashed as the float32 numbers that they are, so the same checkpoint has one
    fingerprint however it was loaded without rounding. Bookkeeping in the config (token ids, caching,
    library versions) does not count.

    Args:
        model: any transformers model. An adapter on it counts: the hash is then another one.

    Returns:
        SHA-256, 64 hexadecimal digits.
    """
    config = {key: value for key, value in model.config.to_dict().items() if not _NOT_IDENTITY.fullmatch(key)}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        for part in tensor.detach().flatten().split(_HASHED_AT_ONCE):
            exact = part.float() if part.dtype in {torch.float16, torch.bfloat16} else part
            digest.update(exact.cpu().contiguous().numpy())
    return digest.hexdigest()


def _default_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _device(asked: torch.device | str) -> torch.device:
    try:
        device = torch.device(asked)
        torch.empty(0, device=device)
    # torch raises AssertionError for a CUDA that it was built without
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ModelError(f"device {asked}: cannot be used here ({_first_line(error)})") from error
    return device


def _number_format(asked: torch.dtype | str | None) -> torch.dtype | str:
    if asked is None:
        return "auto"
    found = getattr(torch, asked, None) if isinstance(asked, str) else asked
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ModelError(f"dtype {asked}: not a floating-point format; try float32 or bfloat16")
    return found


def _folder(name_or_folder: str | Path) -> Path | None:
    """The local folder that is meant, checked, or None if only the hub can have it."""
    name = str(name_or_folder)
    if name == "embedded":
        if not (EMBEDDED / "config.json").is_file():
            raise ModelError(f"embedded: its folder is missing in this installation ({EMBEDDED})")
        return EMBEDDED
    folder = Path(name).expanduser()
    if folder.is_file():
        raise ModelError(f"{name}: is a file; give the folder with config.json in it")
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            is_adapter = (folder / "adapter_config.json").is_file()
            hint = "it holds an adapter: load its base model" if is_adapter else "not a model folder"
            raise ModelError(f"{name}: no config.json in it; {hint}")
        return folder
    if isinstance(name_or_folder, Path) or not _HUB_NAME.fullmatch(name):
        raise ModelError(f"{name}: no such folder")
    return None


def _kind(config: PretrainedConfig, name: str) -> type:
    """The auto class that builds this checkpoint as it was trained, its own head included."""
    causal = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    masked = modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    remote = getattr(config, "auto_map", None) or {}
    known = config.model_type in causal or config.model_type in masked or "AutoModel" in str(remote)
    if not known or config.is_encoder_decoder:
        raise ModelError(
            f"{name}: not a causal language model or encoder (model_type is {config.model_type or 'not set'})"
        )
    trained_as = (config.architectures or [""])[0]
    if trained_as.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")):
        return transformers.AutoModelForCausalLM
    if trained_as.endswith("ForMaskedLM"):
        return transformers.AutoModelForMaskedLM
    if trained_as:
        return transformers.AutoModel
    return (
        transformers.AutoModelForMaskedLM
        if config.model_type in masked
        else transformers.AutoModelForCausalLM
    )


def _attempt(name: str, part: str, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Call a loader of transformers; whatever it raises becomes one line."""
    try:
        return function(*args, **options)
    except (Exception, MemoryError) as error:
        said = _first_line(error)
        if isinstance(error, MemoryError) or any(sign in str(error).lower() for sign in _NO_MEMORY):
            said = "out of memory; take a smaller model, dtype bfloat16, or another device"
        elif "ignore_mismatched_sizes" in str(error):
            said = "their shapes are not those that config.json says"
        elif "backend tokenizer" in str(error):
            said = "none found; copy tokenizer.json and tokenizer_config.json beside config.json"
        elif "no file named" in str(error).lower():
            said = "no safetensors found; convert the checkpoint with save_pretrained first"
        elif isinstance(error, OSError) and not options.get("local_files_only", True):
            said = f"there is no such folder here, and the hub does not give it ({said})"
        raise ModelError(f"{name}: cannot load the {part}: {said}") from error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _require_whole(model: PreTrainedModel, info: dict[str, Any], name: str) -> None:
    missing = sorted(info["missing_keys"])
    if missing and all(key.split(".")[-3:-2] == ["pooler"] for key in missing):
        # a masked-language-model checkpoint opened as a bare encoder: the pooler is no part of the stream
        model.base_model.pooler = None
    elif missing:
        raise ModelError(f"{name}: its safetensors lack {len(missing)} weights, the first is {missing[0]}")
    for key, weight in model.named_parameters():
        if weight.is_floating_point() and not torch.isfinite(weight).all():
            raise ModelError(f"{name}: NaN or infinity in the weights ({key}); the checkpoint is damaged")


def _require_fit(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    embeddings = model.get_input_embeddings().weight.shape[0]
    if not 0 < len(tokenizer) <= embeddings:
        raise ModelError(
            f"{name}: the tokenizer has {len(tokenizer)} tokens but the model {embeddings} embeddings; "
            "they do not belong together"
        )
    blocks(model)
