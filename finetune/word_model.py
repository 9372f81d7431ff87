"""A small language model over whole words, made in a minute: to see what an edited corpus does to its states.

One token a word, Llama blocks, next-word prediction. It is made for comparisons: models of the same seed start from
the same weights and read rows in the same order, so that they differ by their corpora alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from finetune.causal import seeded
from geometry.checks import DataError, ShapeError
from geometry.live.capture import EMBEDDING, block_outputs
from geometry.words import cut

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray
    from transformers import LlamaForCausalLM

    from geometry.words import Letters

START, OTHER = 0, 1
"""Tokens before the words: the start of a row, and any word that has no number."""

_IGNORED = -100


@dataclass(frozen=True)
class WordPlan:
    """Shape and training of a word model.

    Attributes:
        width: of the stream.
        layers: number of blocks.
        context: tokens of a row, its start included.
        batch: rows of a step.
        steps: of the optimiser; rows are read again where they are fewer.
        rate: highest learning rate; warms up over a tenth of the steps, and then falls to 0 along a cosine.
    """

    width: int = 48
    layers: int = 2
    context: int = 16
    batch: int = 128
    steps: int = 600
    rate: float = 3e-3


def word_rows(
    texts: Iterable[str], words: Sequence[str], letters: Letters, context: int
) -> NDArray[np.int64]:
    """Cut texts into rows of tokens: word i of the vocabulary is token i + 2.

    Args:
        texts: each becomes as many rows as it needs, after a start token each; the last is filled up with -1.
        words: the vocabulary; phrases are words of it with a space.
        letters: how text is cut.
        context: length of a row, at least 3.

    Returns:
        Tokens, shape (rows, context), -1 where there is none.

    Raises:
        DataError: no text holds two words.

    Examples:
        >>> from geometry.words import cased
        >>> word_rows(["a b c, a!"], ["a", "b"], cased, 4)
        array([[ 0,  2,  3,  1],
               [ 0,  2, -1, -1]])
    """
    found = cut(texts, letters, [word for word in words if " " in word])
    tokens = found.numbered({word: i + 2 for i, word in enumerate(words)}).astype(np.int64)
    tokens[tokens < 0] = OTHER
    body = context - 1
    per_text = -(-found.lengths // body)
    if not len(tokens) or found.lengths.max() < 2:
        raise DataError("word model: no text holds two words; give a larger corpus")
    rows = np.full((int(per_text.sum()), context), -1, dtype=np.int64)
    rows[:, 0] = START
    first = np.cumsum(per_text) - per_text
    at = np.arange(len(tokens)) - np.repeat(np.cumsum(found.lengths) - found.lengths, found.lengths)
    rows[np.repeat(first, found.lengths) + at // body, 1 + at % body] = tokens
    return rows


def train_words(
    rows: NDArray[np.int64],
    size: int,
    plan: WordPlan,
    seed: int,
    *,
    tell: Callable[[float], None] = lambda share: None,
) -> tuple[LlamaForCausalLM, float]:
    """Train a word model.

    Args:
        rows: of :func:`word_rows`.
        size: words of the vocabulary.
        plan: shape and training.
        seed: of the weights and of the order of rows: step s reads rows drawn by the seed alone, so that corpora
            of equally many rows are read at the same places.
        tell: is told the share that is done.

    Returns:
        The model in float32 on the CPU, ready to be read, and its mean loss over the last tenth of the steps, in
        nats a word.

    Raises:
        ShapeError: rows longer than the context.
    """
    if rows.shape[1] != plan.context:
        raise ShapeError(f"rows: expected {plan.context} tokens a row, got {rows.shape[1]}")
    model = _fresh(size + 2, plan, seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=plan.rate, weight_decay=0.01, betas=(0.9, 0.99))
    rng, losses = np.random.default_rng(seed), []
    model.train()
    for step in range(plan.steps):
        drawn = torch.from_numpy(rows[(rng.random(plan.batch) * len(rows)).astype(np.int64)])
        loss = _loss(model, drawn)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        warm, share = max(1, plan.steps // 10), step / plan.steps
        optimiser.param_groups[0]["lr"] = plan.rate * min(
            (step + 1) / warm, 0.5 * (1 + np.cos(np.pi * share))
        )
        optimiser.step()
        losses.append(float(loss.detach()))
        tell((step + 1) / plan.steps)
    return model.eval(), float(np.mean(losses[-max(1, plan.steps // 10) :]))


def word_states(
    model: LlamaForCausalLM, contexts: NDArray[np.int64], items: Sequence[int]
) -> NDArray[np.float32]:
    """States of words at the end of the same contexts, so that nothing but the word differs.

    Args:
        model: of :func:`train_words`.
        contexts: tokens before the word, start token included, shape (contexts, t).
        items: words by number in the vocabulary.

    Returns:
        The embedding and then the stream after each block, averaged over contexts: shape (layers + 1, items,
        width), float32.
    """
    n, layers = len(items), (EMBEDDING, *range(model.config.num_hidden_layers))
    found = np.zeros((len(layers), n, model.config.hidden_size), dtype=np.float64)
    for context in contexts:
        ids = torch.from_numpy(np.column_stack([np.tile(context, (n, 1)), np.asarray(items) + 2]))
        with torch.inference_mode(), block_outputs(model, layers) as stream:
            model(input_ids=ids)
            for at, layer in enumerate(layers):
                found[at] += stream[layer][:, -1].double().numpy()
    return (found / len(contexts)).astype(np.float32)


def _fresh(tokens: int, plan: WordPlan, seed: int) -> LlamaForCausalLM:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=tokens,
        hidden_size=plan.width,
        intermediate_size=2 * plan.width,
        num_hidden_layers=plan.layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=plan.context,
        tie_word_embeddings=True,
        bos_token_id=START,
        eos_token_id=START,
        attn_implementation="eager",
    )
    with seeded(seed):
        return LlamaForCausalLM(config)


def _loss(model: LlamaForCausalLM, rows: torch.Tensor) -> torch.Tensor:
    """Mean loss over words; places after the end of a row, which none of its words sees, hold the start token."""
    labels = rows[:, 1:].clone()
    labels[labels < 0] = _IGNORED
    logits = model(input_ids=rows[:, :-1].clamp(min=0), use_cache=False).logits
    return cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=_IGNORED)
