"""The recipe of a training run: every number that decides what the adapter becomes, and its hash."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from finetune.folders import sha256_text
from geometry.checks import InputError

if TYPE_CHECKING:
    from peft import LoraConfig

Variant = Literal["lora", "rslora", "dora", "gaussian", "orthogonal", "mica", "pissa", "olora"]
Schedule = Literal[
    "linear",
    "cosine",
    "constant",
    "constant_with_warmup",
    "inverse_sqrt",
    "polynomial",
    "cosine_with_restarts",
]

Checked = TypeVar("Checked", bound=BaseModel)

REWRITES_BASE = frozenset({"pissa", "olora"})
"""Variants that move part of the base weights into the adapter before training."""


def read_fields(path: str | Path) -> dict[str, Any]:
    """Read the fields of a recipe from a YAML or JSON file; an empty file changes none.

    Args:
        path: the file.

    Returns:
        Names and values, not yet checked, see :func:`validated`.

    Raises:
        InputError: the file is missing, is not YAML, or holds something else than fields.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is not YAML; write one `field: value` a line") from error
    if not isinstance(content, dict | None):
        raise InputError(f"{path}: expected `field: value` lines, got {type(content).__name__}")
    return content or {}


def validated(kind: type[Checked], fields: dict[str, Any], *, name: str) -> Checked:
    """Make a recipe of any kind from its fields, with one-line errors.

    Args:
        kind: the pydantic model.
        fields: names and values.
        name: what the message calls the recipe.

    Returns:
        The recipe.

    Raises:
        InputError: a field is unknown or out of its range; the first three are named.
    """
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, e['loc'])) or 'recipe'}: {e['msg']}" for e in error.errors()]
        raise InputError(f"{name}: {'; '.join(faults[:3])}") from error


class Recipe(BaseModel):
    """How an adapter is trained. Frozen; two recipes with one digest train the same adapter.

    The defaults (rank 16, alpha 32, all linear layers) follow Hu et al. 2021 (arXiv 2106.09685) with
    alpha = 2 r as Biderman et al. 2024 (arXiv 2405.09673) advise.

    Attributes:
        r: rank of the update of each matrix.
        alpha: the update is scaled by alpha / r (alpha / sqrt(r) for ``rslora``).
        dropout: share of the adapter's inputs that is dropped in training, in [0, 1).
        target_modules: ``all-linear`` (every linear layer but the output head), a regular expression, or
            the ends of module names.
        variant: which kind of LoRA; those that must see data before they start (EVA, CorDA, LoRA-GA) or
            that quantise the base (LoftQ) are not offered. ``pissa`` and ``olora`` rewrite the base weights
            while they train; the adapter is converted when it is written, to a plain LoRA of rank 2 r on
            the unchanged base.
        lora_config: further fields of :class:`peft.LoraConfig`, such as ``rank_pattern`` or ``bias``.
        lr: highest learning rate of AdamW.
        weight_decay: of AdamW.
        warmup: share of the steps in which the rate climbs from 0.
        schedule: how the rate falls after that.
        epochs: passes over the training pairs, at most; fractions are allowed.
        batch_size: pairs in one forward pass.
        accumulation: forward passes in one step.
        max_grad_norm: gradients are scaled down to this norm.
        max_length: tokens of prompt and answer together; longer pairs are left out and counted. The
            model's own context is the limit where it is shorter.
        eval_every: steps between evaluations on the validation pairs; None is once an epoch.
        patience: evaluations without a new lowest validation loss after which training stops.
        seed: of the adapter's initial weights, the order of the pairs and dropout.
        report_to: experiment trackers that transformers knows, such as ``tensorboard``. Changes nothing
            in the adapter and is no part of the digest.

    Examples:
        >>> Recipe().r, Recipe(r=8).digest == Recipe(r=8, report_to=("wandb",)).digest
        (16, True)
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    r: int = Field(16, ge=1)
    alpha: int = Field(32, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: str | tuple[str, ...] = "all-linear"
    variant: Variant = "lora"
    lora_config: dict[str, Any] = Field(default_factory=dict)
    lr: float = Field(2e-4, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    warmup: float = Field(0.05, ge=0, lt=1)
    schedule: Schedule = "cosine"
    epochs: float = Field(3, gt=0)
    batch_size: int = Field(16, ge=1)
    accumulation: int = Field(1, ge=1)
    max_grad_norm: float = Field(1.0, gt=0)
    max_length: int = Field(512, ge=8)
    eval_every: int | None = Field(None, ge=1)
    patience: int = Field(3, ge=1)
    seed: int = Field(0, ge=0, lt=2**32)
    report_to: tuple[str, ...] = ()

    @field_validator("lora_config")
    @classmethod
    def _only_further_fields(cls, value: dict[str, Any]) -> dict[str, Any]:
        own = {"r", "lora_alpha", "lora_dropout", "target_modules", "init_lora_weights", "task_type"}
        if taken := sorted(own & value.keys()):
            raise ValueError(f"{', '.join(taken)} must be set by the recipe's own fields")
        return value

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a recipe from a YAML or JSON file; fields that it leaves out keep their defaults.

        Args:
            path: the file.

        Returns:
            The recipe.

        Raises:
            InputError: the file is missing or is not YAML, or a field is unknown or out of its range.
        """
        return cls.of(read_fields(path), name=str(path))

    @classmethod
    def of(cls, fields: dict[str, Any], *, name: str = "recipe") -> Self:
        """Make a recipe from a dictionary of its fields, with one-line errors.

        Args:
            fields: names and values.
            name: what the message calls the recipe.

        Returns:
            The recipe.

        Raises:
            InputError: a field is unknown or out of its range; the first three are named.

        Examples:
            >>> Recipe.of({"rank": 8})
            Traceback (most recent call last):
            ...
            geometry.checks.InputError: recipe: rank: Extra inputs are not permitted
        """
        return validated(cls, fields, name=name)

    @property
    def digest(self) -> str:
        """SHA-256 of every field but ``report_to``, in 64 hexadecimal digits."""
        fields = self.model_dump(mode="json", exclude={"report_to"})
        return sha256_text(json.dumps(fields, sort_keys=True))

    def peft_config(self) -> LoraConfig:
        """Return the adapter's configuration for peft.

        Raises:
            InputError: ``lora_config`` holds a field that peft does not know or refuses.
        """
        from peft import LoraConfig

        by_flag = {"rslora": {"use_rslora": True}, "dora": {"use_dora": True}, "lora": {}}
        kind = by_flag.get(self.variant, {"init_lora_weights": self.variant})
        targets = self.target_modules if isinstance(self.target_modules, str) else list(self.target_modules)
        try:
            return LoraConfig(
                task_type="CAUSAL_LM",
                r=self.r,
                lora_alpha=self.alpha,
                lora_dropout=self.dropout,
                target_modules=targets,
                **{**kind, **self.lora_config},
            )
        except (TypeError, ValueError) as error:
            raise InputError(f"recipe: lora_config: {str(error).splitlines()[0]}") from error


LIU_KOEHN_2026 = Recipe(r=512, alpha=256, dropout=0.05)
"""What Liu & Koehn 2026 (arXiv 2602.15013) report; the rest, which they do not, is our default."""

PRESETS = {"rtt-default": Recipe(r=16, alpha=32), "liu-koehn-2026": LIU_KOEHN_2026}
"""Recipes by name, for training on round trips."""
