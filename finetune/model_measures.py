"""What a pretrained model can do, in the numbers and samples that its card shows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from finetune.causal import context_length, evaluating, padding_id, require_causal, seeded
from finetune.learner import summed_loss
from finetune.prompts import one_line
from finetune.score import bleu, bootstrap_draws, score_of_sums
from finetune.transfer import transfer
from geometry.checks import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from finetune.score import Score
    from geometry.live.models import Loaded

WINDOW = 1024
"""Most tokens of a window in which perplexity is measured."""
PROMPTS = ("Once upon a time", "The city of London", "In January 1845", "She opened the door and")
_NEW_TOKENS = 60


def measure_card(
    loaded: Loaded, *, validation_text: str, held_out_sentences: Sequence[str], rng: np.random.Generator
) -> dict[str, Any]:
    """Measure what a card says about a model.

    Args:
        loaded: a causal language model; it is borrowed and comes back as it was.
        validation_text: a text that it was not trained on.
        held_out_sentences: sentences that it was not trained on; it is asked to copy them.
        rng: of the bootstrap and of the samples.

    Returns:
        JSON values under three keys. ``validation``: characters, tokens, window (tokens), and the loss in
        ``nats_per_token``, as ``perplexity`` and in ``bits_per_character``; every token is predicted once,
        from those before it in its window, the first from the end token. ``unigram_nats_per_token`` is the
        floor, what knowing the frequencies of the tokens alone would give. ``copying``: ``n`` sentences
        that are answered greedily in the prompt of :mod:`finetune.prompts`, with ``exact`` (share of equal
        answers) and ``bleu``, each with the interval of a bootstrap, and ``bleu_of_another`` as the floor,
        the score of answering with the next sentence. ``samples`` and ``copies``: texts.

    Raises:
        DataError: the text is empty, or there are fewer than two sentences, or an empty one.
        ModelError: not a causal language model, or no end-of-text token.
    """
    require_causal(loaded.model)
    if not validation_text.strip():
        raise DataError("the validation text is empty; give one to measure perplexity on")
    if len(held_out_sentences) < 2:
        raise DataError(f"{len(held_out_sentences)} held-out sentences: give two at least to copy")
    copies, copying = _copying(loaded, held_out_sentences, rng)
    return {
        "validation": _perplexity(loaded, validation_text),
        "copying": copying,
        "copies": copies,
        "samples": _samples(loaded, rng),
    }


def _perplexity(loaded: Loaded, text: str) -> dict[str, float]:
    ids = loaded.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    tokens = np.array([loaded.tokenizer.eos_token_id, *ids])
    window = min(WINDOW, context_length(loaded.model))
    with evaluating(loaded.model):
        nats, read = summed_loss(loaded.model, tokens, length=window, rows=4)
        if rest := len(ids) - read:
            nats += summed_loss(loaded.model, tokens[read:], length=rest)[0]
    shares = np.unique(ids, return_counts=True)[1] / len(ids)
    return {
        "characters": len(text),
        "tokens": len(ids),
        "window": window,
        "nats_per_token": nats / len(ids),
        "perplexity": math.exp(nats / len(ids)),
        "bits_per_character": nats / math.log(2) / len(text),
        "unigram_nats_per_token": float(-(shares * np.log(shares)).sum()),
    }


def _copying(
    loaded: Loaded, sentences: Sequence[str], rng: np.random.Generator
) -> tuple[list[dict[str, str]], dict[str, Any]]:
    sentences = [one_line(sentence) for sentence in sentences]
    longest = max(len(ids) for ids in loaded.tokenizer(sentences, add_special_tokens=False)["input_ids"])
    answers = transfer(loaded.model, loaded.tokenizer, sentences, max_new_tokens=longest + 8, batch_size=32)
    draws = bootstrap_draws(len(sentences), rng)
    equal = np.array([[a == s, 1] for a, s in zip(answers, sentences, strict=True)], dtype=np.float64)
    scored = bleu(answers, sentences, draws)
    numbers = {
        "n": len(sentences),
        "exact": _interval(score_of_sums("exact copies", equal, lambda sums: sums[0] / sums[1], draws)),
        "bleu": _interval(scored),
        "bleu_signature": scored.signature,
        "bleu_of_another": bleu([*sentences[1:], sentences[0]], sentences, draws).value,
    }
    shown = zip(sentences[:3], answers[:3], strict=True)
    return [{"source": source, "answer": answer} for source, answer in shown], numbers


def _interval(score: Score) -> dict[str, float]:
    return {"value": float(score.value), "low": float(score.low), "high": float(score.high)}


def _samples(loaded: Loaded, rng: np.random.Generator) -> list[dict[str, str]]:
    """Continue the prompts, each at the beginning of a document, with tokens drawn by chance."""
    import torch
    from transformers import GenerationConfig

    end = loaded.tokenizer.eos_token_id
    settings = GenerationConfig(
        max_new_tokens=_NEW_TOKENS,
        do_sample=True,
        temperature=0.8,
        top_p=0.95,
        eos_token_id=end,
        pad_token_id=padding_id(loaded.tokenizer),
    )
    written = []
    with seeded(int(rng.integers(2**31))), evaluating(loaded.model):
        for prompt in PROMPTS:
            ids = torch.tensor([[end, *loaded.tokenizer(prompt, add_special_tokens=False)["input_ids"]]])
            out = loaded.model.generate(
                input_ids=ids.to(loaded.device),
                attention_mask=torch.ones_like(ids).to(loaded.device),
                generation_config=settings,
            )
            new = loaded.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
            written.append({"prompt": prompt, "text": new})
    return written
