"""How readily a base model would have written a text itself: losses of its tokens, and perplexity.

The base is the one without an adapter, the same for all systems. It sees a text after the token that begins
documents, and the token that ends them counts as one of the text's: an empty text is not free.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from finetune.causal import context_length, evaluating, padding_id, require_causal, right_padded
from finetune.prompts import IGNORED
from finetune.score import score_of_sums
from geometry.checks import DataError, ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from finetune.causal import Row
    from finetune.score import Score

_BATCH_TOKENS = 4096


def text_losses(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]
) -> NDArray[np.float64]:
    """Return the negative log-likelihood of each text and its number of tokens.

    Args:
        model: a causal language model; it comes back as it was.
        tokenizer: the model's own.
        texts: any; one longer than the model's context is read up to there.

    Returns:
        Shape (n, 2): nats, and tokens with the one that ends the text.

    Raises:
        ModelError: not a causal language model, its tokenizer has no end-of-text token, or a loss is not finite.
    """
    require_causal(model)
    if tokenizer.eos_token_id is None:
        raise ModelError("the tokenizer has no end-of-text token, so texts cannot be compared; set one")
    rows = [_row(tokenizer, text, context_length(model)) for text in texts]
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]), reverse=True)
    found = np.zeros((len(rows), 2))
    with evaluating(model):
        while order:
            size = max(1, _BATCH_TOKENS // len(rows[order[0]][0]))
            batch, order = order[:size], order[size:]
            found[batch] = _batch_losses(model, [rows[i] for i in batch], padding_id(tokenizer))
    if not np.isfinite(found).all():
        raise ModelError("the model gives a loss that is not finite; check its weights for NaN")
    return found


def perplexity(losses: NDArray[np.float64], draws: NDArray[np.int32]) -> Score:
    """Return the perplexity of texts: exp(nats / tokens), over all tokens together (lower is more fluent).

    Args:
        losses: of each text, from :func:`text_losses`.
        draws: from :func:`finetune.score.bootstrap_draws`.

    Returns:
        The perplexity, at least 1; items are the perplexity of each text.

    Raises:
        DataError: the draws are for another number of texts.

    Examples:
        >>> perplexity(np.array([[2.0, 2.0], [0.0, 2.0]]), np.array([[0, 1]])).value
        1.648...
    """
    if len(losses) != draws.shape[1]:
        raise DataError(f"{len(losses)} texts and draws for {draws.shape[1]}: these must be the same items")
    return score_of_sums("perplexity", losses, lambda s: float(np.exp(s[0] / s[1])), draws)


def _row(tokenizer: PreTrainedTokenizerBase, text: str, limit: int) -> Row:
    ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
    begin = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    ids = [begin, *ids, tokenizer.eos_token_id][:limit]
    return ids, [IGNORED, *ids[1:]]


def _batch_losses(model: nn.Module, rows: list[Row], pad: int) -> NDArray[np.float64]:
    batch = right_padded(rows, pad, device=next(model.parameters()).device)
    labels = batch.pop("labels")[:, 1:]
    scored = labels != IGNORED
    logits = model(**batch).logits[:, :-1].float()
    losses = logits.log_softmax(dim=-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0].neg() * scored
    return np.stack([losses.double().sum(1).cpu().numpy(), scored.sum(1).cpu().numpy()], axis=1)
