"""What training, rewriting and asking need of a model that writes from left to right."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

import torch

from finetune.prompts import IGNORED
from geometry.checks import ModelError
from geometry.live.anatomy import unwrapped

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase


Row = tuple[list[int], list[int]]
"""Ids and labels of one text, see :func:`finetune.prompts.encode`; unlabelled tokens bear no loss."""


def require_causal(model: nn.Module) -> None:
    """Refuse a model that cannot continue a text.

    Args:
        model: a transformers model, with or without an adapter.

    Raises:
        ModelError: it is an encoder, or has an encoder.
    """
    bare = unwrapped(model)
    if bare.config.is_encoder_decoder or not bare.can_generate():
        raise ModelError(
            f"{type(bare).__name__}: is not a causal language model, so it cannot write; take one"
        )


def context_length(model: nn.Module) -> int:
    """Return the number of positions that a model has, prompt and answer together.

    Args:
        model: a transformers model, with or without an adapter.

    Returns:
        The number in its configuration; ``sys.maxsize`` where it names none.
    """
    config = unwrapped(model).config.get_text_config(decoder=True)
    return int(getattr(config, "max_position_embeddings", None) or sys.maxsize)


def padding_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return an id to fill short rows with; it is always masked, so a tokenizer without one will do."""
    pad, eos = tokenizer.pad_token_id, tokenizer.eos_token_id
    return pad if pad is not None else eos if eos is not None else 0


def right_padded(rows: Sequence[Row], pad: int, *, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """Stack token rows of several lengths, filled on the right.

    Args:
        rows: ids and labels of each text, see :func:`finetune.prompts.encode`.
        pad: id to fill with.
        device: where the tensors go.

    Returns:
        ``input_ids``, ``attention_mask`` and ``labels``, each (B, T) with T the longest row; no padding
        has a label.

    Examples:
        >>> batch = right_padded([([5, 6], [-100, 6]), ([7], [7])], pad=0)
        >>> batch["input_ids"].tolist(), batch["labels"].tolist()
        ([[5, 6], [7, 0]], [[-100, 6], [7, -100]])
    """
    width = max(len(ids) for ids, _ in rows)
    filled = {"input_ids": pad, "attention_mask": 0, "labels": IGNORED}
    batch = {name: torch.full((len(rows), width), fill) for name, fill in filled.items()}
    for i, (ids, labels) in enumerate(rows):
        batch["input_ids"][i, : len(ids)] = torch.tensor(ids)
        batch["attention_mask"][i, : len(ids)] = 1
        batch["labels"][i, : len(ids)] = torch.tensor(labels)
    return {name: tensor.to(device) for name, tensor in batch.items()}


def answer_loss(model: nn.Module, rows: Sequence[Row], pad: int, *, batch_size: int) -> float:
    """Return the mean negative log-likelihood of the answers' tokens, in nats.

    Args:
        model: a causal language model; it comes back in the mode that it was in.
        rows: tokenised pairs.
        pad: id to fill short rows with.
        batch_size: rows in one forward pass; does not change the result.

    Returns:
        The mean over all answer tokens of all rows, each token counting the same.
    """
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]), reverse=True)
    total, count = 0.0, 0
    with evaluating(model):
        for first in range(0, len(order), batch_size):
            picked = [rows[i] for i in order[first : first + batch_size]]
            batch = right_padded(picked, pad, device=next(model.parameters()).device)
            tokens = int((batch["labels"][:, 1:] >= 0).sum())
            total += float(model(**batch).loss) * tokens
            count += tokens
    return total / count


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Switch dropout and gradients off, and put the model back into the mode that it was in."""
    was_training = model.training
    model.eval()
    try:
        # not inference_mode: a table that a model builds lazily here may be needed by a backward pass later
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed every generator that the libraries draw from, and give all of them back as they were.

    transformers and peft can only be seeded through the global generators of torch, numpy and Python.
    """
    import random

    import numpy as np
    from transformers import set_seed

    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng():
        set_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
