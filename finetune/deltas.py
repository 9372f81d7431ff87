"""The updates of an adapter, read from its folder alone: no base model, no peft, no forward pass.

peft keeps the factors of every kind of layer as those of a plain linear map, so s B A is out x in in the
orientation of ``x @ W.T``, also for GPT-2's Conv1D whose stored weight is in x out.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from finetune.adapter_folder import adapter_config, adapter_weights, variant_of
from geometry.checks import AdapterError
from geometry.spectra import LowRank

if TYPE_CHECKING:
    from geometry.live.models import Loaded

Side = Literal["reads", "writes"]

_KEY = re.compile(r"(?:base_model\.model\.)?(.+)\.(lora_\w+?)(?:\.(weight|bias))?$")
_FACTORS = ({"lora_A", "lora_B"}, {"lora_embedding_A", "lora_embedding_B"})
_MAGNITUDE = "lora_magnitude_vector"
# what these do to the factors is not s B A
_OTHER_PRODUCTS = ("target_parameters", "use_qalora", "layer_replication")
_WRITERS = frozenset("o_proj down_proj c_proj out_proj dense dense_4h_to_h fc2 fc_out lin2".split())
_READERS = frozenset(
    "q_proj k_proj v_proj gate_proj up_proj qkv_proj gate_up_proj c_attn c_fc query_key_value dense_h_to_4h "
    "intermediate.dense query key value fc1 fc_in lin1 Wqkv".split()
)


@dataclass(frozen=True, eq=False)
class Update:
    """What an adapter does to one weight.

    Attributes:
        module: name of the module in the base.
        delta: s B A, out x in. For DoRA the direction before magnitudes rescale the weight; see
            :func:`whole_update`.
        rank: r of the config.
        alpha: alpha of the config.
        magnitude: DoRA's row norms of the adapted weight, shape (out,); else None.
    """

    module: str
    delta: LowRank
    rank: int
    alpha: float
    magnitude: np.ndarray | None = None

    @property
    def layer(self) -> int | None:
        """Number of the block; None outside blocks."""
        found = re.search(r"(?:^|\.)(\d+)(?=\.)", self.module)
        return int(found[1]) if found else None

    @property
    def projection(self) -> str:
        """Name of the module inside its block, such as ``self_attn.q_proj``."""
        found = re.search(r"(?:^|\.)\d+\.(.+)$", self.module)
        return found[1] if found else self.module

    @property
    def reads(self) -> bool | None:
        """Whether its input is the residual stream; None where the name does not tell."""
        return _named(self.projection, _READERS, _WRITERS)

    @property
    def writes(self) -> bool | None:
        """Whether its output is added to the residual stream; None where the name does not tell."""
        return _named(self.projection, _WRITERS, _READERS)


@dataclass(frozen=True, eq=False)
class AdapterUpdates:
    """All updates of an adapter folder.

    Attributes:
        folder: where they were read.
        variant: ``lora``, ``rslora`` or ``dora``.
        base: name of the base in the config, or None.
        updates: one for each adapted module, by layer and then by name.
        notes: what a reader should know, a sentence each.
    """

    folder: Path
    variant: str
    base: str | None
    updates: tuple[Update, ...]
    notes: tuple[str, ...]


def read_updates(folder: str | Path) -> AdapterUpdates:
    """Read every update of a LoRA adapter from its config and weights alone.

    Args:
        folder: a PEFT adapter folder with safetensors.

    Returns:
        The updates with the scale that peft applies: alpha / r, or alpha / sqrt(r) for rsLoRA, with the
        patterns of single modules.

    Raises:
        AdapterError: not a PEFT folder; not LoRA, or a kind whose update is not s B A; an initialisation
            that rewrites the base; weights missing, damaged, not finite or of another rank than the config.
    """
    folder = Path(folder)
    config = adapter_config(folder)
    for option in _OTHER_PRODUCTS:
        if config.get(option):
            raise AdapterError(
                f"{folder}: uses {option}, so that no update is s B A of one weight of the base"
            )
    parts, others = _sorted_parts(adapter_weights(folder), folder)
    if not parts:
        raise AdapterError(f"{folder}: holds no LoRA weights; save the adapter again")
    updates = [_update(module, found, config, folder) for module, found in parts.items()]
    updates.sort(key=lambda u: (-1 if u.layer is None else u.layer, u.module))
    return AdapterUpdates(
        folder, variant_of(config), config.get("base_model_name_or_path"), tuple(updates),
        tuple(_notes(config, others)),
    )  # fmt: skip


def weight_of(loaded: Loaded, module: str) -> np.ndarray:
    """Read the weight of a module of the base, out x in in the orientation of ``x @ W.T``.

    Args:
        loaded: the base.
        module: its name in the base.

    Returns:
        Shape (out, in), float64. For an embedding, width x vocabulary.

    Raises:
        AdapterError: the base has no such module, or it has no matrix of weights.
    """
    from transformers.pytorch_utils import Conv1D

    try:
        part = loaded.model.get_submodule(module)
    except AttributeError as error:
        raise AdapterError(
            f"{loaded.name}: has no module {module}; give the base that the adapter was trained on"
        ) from error
    weight = getattr(part, "weight", None)
    if weight is None or weight.ndim != 2:
        raise AdapterError(f"{loaded.name}: {module} has no matrix of weights; give an unquantised base")
    dense = weight.detach().double().cpu().numpy()
    return dense.T if isinstance(part, Conv1D | torch.nn.Embedding) else dense


def whole_update(update: Update, weight: np.ndarray) -> LowRank:
    """The whole change of a weight, merged minus pristine.

    For LoRA and rsLoRA that is s B A. DoRA gives every row of W0 + s B A a norm of its own (Liu et al. 2024,
    eq. 5), which changes directions that B and A never touched: its change has full rank.

    Args:
        update: what an adapter does.
        weight: W0 of its module, shape (out, in).

    Returns:
        The change as factors; for DoRA of rank min(out, in).

    Raises:
        AdapterError: the weight has another shape.
    """
    if weight.shape != update.delta.shape:
        raise AdapterError(
            f"{update.module}: the adapter changes {update.delta.shape}, the base has {weight.shape}; "
            "give the base that it was trained on"
        )
    if update.magnitude is None:
        return update.delta
    moved = weight + update.delta.dense()
    norms = np.linalg.norm(moved, axis=1)
    # untrained magnitudes are the norms of the rows in float32: their rounding must not pass for an update
    if update.delta.norm() == 0 and np.allclose(update.magnitude, norms, rtol=1e-5, atol=0):
        return update.delta
    rescale = update.magnitude / norms
    u, s, vt = np.linalg.svd(rescale[:, None] * moved - weight, full_matrices=False)
    return LowRank(u * s, vt)


def with_whole_updates(adapter: AdapterUpdates, loaded: Loaded) -> AdapterUpdates:
    """Replace each update by the whole change of its weight in a base; see :func:`whole_update`.

    Args:
        adapter: what was read.
        loaded: the base that it was trained on.

    Returns:
        The same adapter; only DoRA's updates differ.

    Raises:
        AdapterError: a module is missing from the base or has another shape.
    """
    whole = [replace(u, delta=whole_update(u, weight_of(loaded, u.module))) for u in adapter.updates]
    return replace(adapter, updates=tuple(whole))


def require_one_space(one: Update, other: Update, side: Side) -> None:
    """Refuse an angle between directions that do not live in one space.

    Two updates of the same module share both spaces. Different modules share the residual stream, where they
    read from it or write to it; heads and hidden units of different modules have nothing to do with each
    other, although their widths may agree.

    Args:
        one: an update.
        other: another.
        side: ``reads`` (right singular vectors, A) or ``writes`` (left ones, B).

    Raises:
        AdapterError: the spaces differ, or the names do not tell.
    """
    axis = 1 if side == "reads" else 0
    widths = one.delta.shape[axis], other.delta.shape[axis]
    if widths[0] != widths[1]:
        raise AdapterError(
            f"{one.module} {side} in {widths[0]} dimensions and {other.module} in {widths[1]}; "
            "compare updates of the same module"
        )
    if one.module == other.module:
        return
    for update in (one, other):
        if not getattr(update, side):
            raise AdapterError(
                f"{update.module} {side} outside the residual stream, as far as its name tells, so its angle "
                "with another module means nothing; compare the same module of two adapters"
            )


def _named(projection: str, yes: frozenset[str], no: frozenset[str]) -> bool | None:
    """Ask the last two parts of the name before the last one: BERT has ``intermediate.dense``."""
    parts = projection.split(".")
    for name in (".".join(parts[-2:]), parts[-1]):
        if name in yes or name in no:
            return name in yes
    return None


def _sorted_parts(
    weights: dict[str, torch.Tensor], folder: Path
) -> tuple[dict[str, dict[str, np.ndarray]], list[str]]:
    """Module -> its tensors by name, and the keys that belong to no LoRA layer."""
    parts: dict[str, dict[str, np.ndarray]] = {}
    others = []
    for key, tensor in weights.items():
        if key.endswith(".base_layer.weight"):  # a copy of the base's own, saved beside an adapted embedding
            continue
        found = _KEY.match(key)
        if found is None or found[3] == "bias":
            others.append(key)
            continue
        if found[2] not in {*_FACTORS[0], *_FACTORS[1], _MAGNITUDE}:
            raise AdapterError(
                f"{folder}: holds {found[2]}, so that its update is not s B A; it cannot be read"
            )
        parts.setdefault(found[1], {})[found[2]] = tensor.double().numpy()
    return parts, others


def _update(module: str, found: dict[str, np.ndarray], config: dict[str, Any], folder: Path) -> Update:
    a, b = (found.get(f"lora_{side}", found.get(f"lora_embedding_{side}")) for side in "AB")
    if a is None or b is None:
        missing = "lora_A" if a is None else "lora_B"
        raise AdapterError(f"{folder}: {module} has no {missing}; save the adapter again")
    magnitude = found.get(_MAGNITUDE)
    if (magnitude is not None) != bool(config.get("use_dora")):
        raise AdapterError(
            f"{folder}: config and weights of {module} disagree on DoRA; save the adapter again"
        )
    rank = _matching(config.get("rank_pattern"), module, config["r"])
    alpha = _matching(config.get("alpha_pattern"), module, config.get("lora_alpha", 8))
    if a.ndim != 2 or b.ndim != 2 or a.shape[0] != rank or b.shape[1] != rank:
        raise AdapterError(
            f"{folder}: {module} has factors {b.shape} and {a.shape}, not (out, {rank}) and ({rank}, in) as "
            "its config says; convolutions and other ranks cannot be read"
        )
    scale = alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank
    return Update(module, LowRank(b, a, scale), rank, alpha, None if magnitude is None else magnitude.ravel())


def _matching(pattern: dict[str, Any] | None, module: str, otherwise: Any) -> Any:
    """The value of the first pattern that a module's name ends with, as peft matches them."""
    for key, value in (pattern or {}).items():
        if re.match(rf"(.*\.)?({key})$", module):
            return value
    return otherwise


def _notes(config: dict[str, Any], others: list[str]) -> list[str]:
    notes = []
    if others:
        listed = ", ".join(f"`{key.removeprefix('base_model.model.')}`" for key in sorted(others)[:3])
        notes.append(
            f"{len(others)} trained weight{'s' if len(others) > 1 else ''} beside the LoRA updates "
            f"({listed}{', ...' if len(others) > 3 else ''}) cannot be read as updates without their start; "
            "nothing below counts them."
        )
    if config.get("alora_invocation_tokens"):
        notes.append("The updates are active only after the invocation tokens (aLoRA).")
    if config.get("fan_in_fan_out"):
        notes.append(
            "The base stores its weights as in x out (Conv1D); all directions here are of the map itself: the "
            "A side is what a module reads, the B side what it writes."
        )
    return notes
