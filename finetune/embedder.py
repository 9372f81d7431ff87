"""Sentences as points: the mean of a model's last states, for telling whether two say the same."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import numpy as np
import torch

from geometry.checks import ModelError
from geometry.live.quiet import quiet_transformers

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_LONGEST = 256
"""Tokens of a text that are read; what sentence encoders are trained on."""


@dataclass(frozen=True, eq=False)
class Embedder:
    """A model whose last states, averaged over the tokens, stand for a text (Reimers & Gurevych 2019).

    Attributes:
        name: folder or hub name.
    """

    name: str
    _model: PreTrainedModel = field(repr=False)
    _tokenizer: PreTrainedTokenizerBase = field(repr=False)

    @classmethod
    def load(cls, name_or_folder: str | Path, *, device: str = "cpu") -> Self:
        """Load a sentence encoder, or any other model that transformers knows.

        Raises:
            ModelError: it cannot be loaded.
        """
        from transformers import AutoModel, AutoTokenizer

        try:
            with quiet_transformers():
                tokenizer = AutoTokenizer.from_pretrained(name_or_folder)
                model = AutoModel.from_pretrained(name_or_folder).eval().to(device)
        except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
            raise ModelError(
                f"{name_or_folder}: no embedding model can be loaded from it; give the folder of one"
            ) from error
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        return cls(str(name_or_folder), model, tokenizer)

    def __call__(self, texts: Sequence[str], *, batch_size: int = 32) -> NDArray[np.float32]:
        """Embed texts.

        Args:
            texts: any; an empty one has no direction.
            batch_size: texts in one forward pass; it changes nothing but the last digits.

        Returns:
            Rows of length 1, shape (n, d); zeros for a text without tokens.
        """
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        rows = np.zeros((len(texts), self._model.config.hidden_size), np.float32)
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            rows[chosen] = self._means([texts[i] for i in chosen])
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        return rows / np.where(norms > 0, norms, 1)

    def _means(self, texts: list[str]) -> NDArray[np.float32]:
        self._tokenizer.padding_side = "right"
        given = self._tokenizer(
            texts,
            padding=True,
            truncation=True,
            max_length=_LONGEST,
            return_tensors="pt",
            split_special_tokens=True,
        )
        mask = given["attention_mask"].to(self._model.device)
        if not mask.any():
            return np.zeros((len(texts), self._model.config.hidden_size), np.float32)
        with torch.inference_mode():
            states = self._model(
                input_ids=given["input_ids"].to(self._model.device), attention_mask=mask
            ).last_hidden_state
        weights = mask.unsqueeze(-1).to(states.dtype)
        return ((states * weights).sum(1) / weights.sum(1).clamp(min=1)).float().cpu().numpy()
