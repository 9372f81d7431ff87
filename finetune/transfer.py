"""Rewriting text: the prompt goes in, the answer comes out, one for each text."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from finetune.causal import context_length, evaluating, padding_id, require_causal, seeded
from finetune.prompts import encode_prompt
from geometry.checks import DataError, InputError
from geometry.live.anatomy import unwrapped

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import nn
    from transformers import GenerationConfig, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Sampling:
    """Draw each token by chance instead of taking the most probable one.

    Attributes:
        seed: of the draws. With the same seed, texts and batch size the same outputs come back.
        temperature: divides the logits; below 1 is safer, above 1 bolder.
        top_p: draw only from the most probable tokens that together have this probability, in (0, 1].

    Raises:
        InputError: temperature is not positive or top_p not in (0, 1].
    """

    seed: int
    temperature: float = 1.0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not self.temperature > 0 or not 0 < self.top_p <= 1:
            raise InputError("sampling: temperature must be above 0 and top_p in (0, 1]")


def transfer(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    examples: Sequence[tuple[str, str]] | None = None,
    max_new_tokens: int = 128,
    batch_size: int = 16,
    sample: Sampling | None = None,
) -> list[str]:
    """Rewrite texts with a model that was trained on :func:`finetune.prompts.render`.

    An answer ends at the end-of-text token, at a newline, after ``max_new_tokens``, or where the model's
    context ends. Prompts of similar length are run together, padded on the left with positions counted
    from their first token, so an answer does not depend on its neighbours beyond rounding.

    Args:
        model: a causal language model, usually with an adapter; it comes back as it was.
        tokenizer: the model's own.
        texts: what to rewrite, each folded to one line.
        examples: (source, target) texts that every prompt shows first.
        max_new_tokens: longest answer in tokens.
        batch_size: texts in one forward pass.
        sample: how to draw; None takes the most probable token each time.

    Returns:
        One answer for each text, in order, on one line and without spaces at its ends.

    Raises:
        DataError: a text is empty, or its prompt fills the model's context; the text's number, from 1, is
            named.
        ModelError: not a causal language model, or its tokenizer has no end-of-text token.
        InputError: ``max_new_tokens`` or ``batch_size`` is below 1.
    """
    require_causal(model)
    prompts = prompt_ids(tokenizer, texts, examples or (), context_length(model))
    return write_answers(
        model, tokenizer, prompts, max_new_tokens=max_new_tokens, batch_size=batch_size, sample=sample
    )


def write_answers(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[list[int]],
    *,
    max_new_tokens: int = 128,
    batch_size: int = 16,
    sample: Sampling | None = None,
) -> list[str]:
    """Let a model answer prompts that are already tokens; :func:`transfer` says how.

    Args:
        model: a causal language model; it comes back as it was.
        tokenizer: the model's own.
        prompts: token ids of each, fewer than the model's context holds.
        max_new_tokens: longest answer in tokens.
        batch_size: prompts in one forward pass.
        sample: how to draw; None takes the most probable token each time.

    Returns:
        One answer for each prompt, in order, on one line and without spaces at its ends.

    Raises:
        ModelError: not a causal language model.
        InputError: ``max_new_tokens`` or ``batch_size`` is below 1.
    """
    if max_new_tokens < 1 or batch_size < 1:
        raise InputError("max_new_tokens and batch_size must be at least 1")
    require_causal(model)
    room = [min(max_new_tokens, context_length(model) - len(prompt)) for prompt in prompts]
    stops = stop_ids(tokenizer)
    answers = [""] * len(prompts)
    random = seeded(sample.seed) if sample else contextlib.nullcontext()
    with random, evaluating(model):
        for batch in batches([len(prompt) for prompt in prompts], room, batch_size):
            settings = _settings(tokenizer, stops, room[batch[0]], sample)
            written = _generate(model, [prompts[i] for i in batch], settings)
            for i, ids in zip(batch, written, strict=True):
                answers[i] = answer_text(tokenizer, ids, stops)
    return answers


def prompt_ids(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    examples: Sequence[tuple[str, str]],
    limit: int,
) -> list[list[int]]:
    """Tokenise the prompt of each text, and refuse one that leaves no room for an answer.

    Args:
        tokenizer: of the model that will write.
        texts: what to rewrite.
        examples: (source, target) texts that every prompt shows first.
        limit: positions of the model.

    Returns:
        Token ids of each prompt, fewer than ``limit``.

    Raises:
        DataError: a text is empty, or its prompt fills the context.
        ModelError: the tokenizer has no end-of-text token.
    """
    prompts = []
    for number, text in enumerate(texts, start=1):
        if not text.strip():
            raise DataError(f"text {number} is empty; leave it out")
        prompts.append(encode_prompt(tokenizer, text, examples))
        if len(prompts[-1]) >= limit:
            raise DataError(
                f"text {number}: its prompt has {len(prompts[-1])} tokens and the model's context {limit}, "
                "so there is no room for an answer; shorten it"
            )
    return prompts


def batches(lengths: list[int], room: list[int], size: int) -> Iterator[list[int]]:
    """Texts of one answer length at a time, longest prompts first, so that little is padded."""
    order = sorted(range(len(lengths)), key=lambda i: (room[i], lengths[i]), reverse=True)
    while order:
        batch = [i for i in order[:size] if room[i] == room[order[0]]]
        order = order[len(batch) :]
        yield batch


def _settings(
    tokenizer: PreTrainedTokenizerBase, stops: list[int], room: int, sample: Sampling | None
) -> GenerationConfig:
    from transformers import GenerationConfig

    drawing = {"do_sample": False}
    if sample:
        drawing = {
            "do_sample": True,
            "temperature": sample.temperature,
            "top_p": sample.top_p,
            "top_k": 0,
        }
    return GenerationConfig(
        max_new_tokens=room, eos_token_id=stops, pad_token_id=padding_id(tokenizer), **drawing
    )


def _generate(model: nn.Module, prompts: list[list[int]], settings: GenerationConfig) -> list[list[int]]:
    width = max(map(len, prompts))
    ids = torch.full((len(prompts), width), settings.pad_token_id)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    bare = unwrapped(model)
    own = bare.generation_config
    # A checkpoint may ship defaults of its own, such as a repetition penalty, and generate would mix them in.
    bare.generation_config = settings
    try:
        out = model.generate(input_ids=ids.to(bare.device), attention_mask=mask.to(bare.device))
    finally:
        bare.generation_config = own
    return out[:, width:].tolist()


def stop_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """List the tokens that end an answer: end of text, and every token that holds a newline."""
    # How byte-level and byte-fallback vocabularies spell a newline; the decoded token decides.
    spelt = [
        i for token, i in tokenizer.get_vocab().items() if "Ċ" in token or "\n" in token or "0x0A" in token
    ]
    newlines = [i for i in spelt if "\n" in tokenizer.decode([i])]
    return [tokenizer.eos_token_id, *sorted(newlines)]


def answer_text(tokenizer: PreTrainedTokenizerBase, ids: list[int], stops: list[int]) -> str:
    """Decode what was written up to the first token that ends it: one line without spaces at its ends."""
    end = next((i for i, token in enumerate(ids) if token in stops), len(ids))
    text = tokenizer.decode(ids[: end + 1], skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text.split("\n")[0].strip()
