"""The recipe of a pretraining run: every number that decides what the model becomes, and its hash."""

from __future__ import annotations

import hashlib
import math
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

UNIT = 256
"""Tokens of one row of exercises; sequence lengths are multiples of it, so that no exercise is cut."""


class PretrainRecipe(BaseModel):
    """What decides a pretraining run; its digest names the run. Frozen.

    Attributes:
        width, layers, heads, kv_heads, mlp: the shape of the Llama model; heads divide width into even
            parts, and kv_heads divide heads.
        vocabulary: number of BPE tokens.
        context: longest sequence that the model promises to take.
        tokens: tokens seen in all, exercises included.
        stages: (share of the tokens, sequence length), in order. Shares add to one and are a step at
            least; lengths are multiples of ``UNIT``, divide ``batch_tokens``, and fit the context.
        batch_tokens: tokens of one step.
        exercise_share: share of the rows that are rewriting exercises.
        optimiser: ``muon`` (Jordan 2024: matrices by Muon, the rest by AdamW) or ``adamw``.
        lr_matrix, lr_rest: peak learning rates of the hidden matrices and of everything else.
        weight_decay: decoupled, on matrices.
        warmup, decay: shares of the steps that warm up and that decay linearly to zero.
        seed: of the initial weights, the data order and the exercises.

    Examples:
        >>> PretrainRecipe().digest, PretrainRecipe(seed=1).digest
        ('e1cac1a30d12', 'b76f84b8059a')
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    width: int = Field(256, gt=0)
    layers: int = Field(6, gt=0)
    heads: int = Field(4, gt=0)
    kv_heads: int = Field(2, gt=0)
    mlp: int = Field(704, gt=0)
    vocabulary: int = Field(8192, ge=300, le=65535)
    context: int = Field(1024, gt=0)
    tokens: int = Field(15_000_000, gt=0)
    stages: tuple[tuple[float, int], ...] = ((0.88, 256), (0.06, 512), (0.06, 1024))
    batch_tokens: int = Field(8192, gt=0)
    exercise_share: float = Field(0.15, ge=0, lt=1)
    optimiser: Literal["muon", "adamw"] = "muon"
    lr_matrix: float = Field(4e-3, gt=0)
    lr_rest: float = Field(4e-3, gt=0)
    weight_decay: float = Field(0.1, ge=0)
    warmup: float = Field(0.02, ge=0, le=1)
    decay: float = Field(0.6, ge=0, le=1)
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} must be a multiple of twice the heads ({self.heads})")
        if self.heads % self.kv_heads:
            raise ValueError(f"heads {self.heads} must be a multiple of kv_heads ({self.kv_heads})")
        return self

    @model_validator(mode="after")
    def _stages_fit(self) -> Self:
        if abs(sum(share for share, _ in self.stages) - 1) > 1e-6:
            raise ValueError("the shares of the stages must add to 1")
        for share, length in self.stages:
            if length < 1 or length % UNIT or self.batch_tokens % length or length > self.context:
                raise ValueError(
                    f"stage length {length} must be a multiple of {UNIT}, divide batch_tokens "
                    f"({self.batch_tokens}) and fit the context ({self.context})"
                )
            if share * self.tokens < self.batch_tokens:
                raise ValueError(
                    f"the stage of length {length} gets less than one step of {self.batch_tokens} tokens; "
                    "raise tokens or its share"
                )
        return self

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that change with any field."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]


def schedule(recipe: PretrainRecipe, step: int, steps: int) -> float:
    """Give the learning rate factor of a step: linear warm-up, plateau, linear decay to zero.

    Args:
        recipe: its ``warmup`` and ``decay``; where they overlap the lower of the two lines counts.
        step: from 0 to ``steps - 1``.
        steps: of the whole run.

    Returns:
        A factor in (0, 1]; the last step has one step's share of the decay.

    Examples:
        >>> recipe = PretrainRecipe(warmup=0.1, decay=0.5)
        >>> [round(schedule(recipe, s, 100), 2) for s in (0, 9, 49, 75, 99)]
        [0.1, 1.0, 1.0, 0.5, 0.02]
    """
    warm = max(1, math.ceil(recipe.warmup * steps))
    fall = max(1, math.ceil(recipe.decay * steps))
    return min(1.0, (step + 1) / warm, (steps - step) / fall)
