"""Long questions put to a model: options by likelihood, and what it writes, from one reading of the context.

A context is read once; its keys and values are shared by all options and by the written answer. A choice by
likelihood cannot fail for its form, so what a model knows and whether it answers in the form that was asked for
are told apart.
"""

from __future__ import annotations

import copy
import inspect
import re
import string
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from finetune.causal import context_length, evaluating, require_causal
from finetune.prompts import completion, token_spans
from finetune.transfer import answer_text, stop_ids
from geometry.checks import DataError, InputError, ModelError
from geometry.live.anatomy import unwrapped

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_SIGNS = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True)
class Reply:
    """How a model answers one question.

    Attributes:
        likelihoods: log-likelihood of each option after the prompt, nats, summed over its tokens.
        written: what the model writes, its likeliest token each time; empty if it was not asked to write.
        tokens: tokens of the prompt.
    """

    likelihoods: tuple[float, ...]
    written: str
    tokens: int

    @property
    def chosen(self) -> int:
        """The likeliest option; the first of equals."""
        return max(range(len(self.likelihoods)), key=self.likelihoods.__getitem__)


@dataclass(frozen=True)
class Reading:
    """What is made of a written answer.

    Attributes:
        correct: whether a right answer stands in it, and no wrong one before it.
        invalid: whether none of the options stands in it, so that it is no answer to the question.
    """

    correct: bool
    invalid: bool


def ask(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[tuple[str, Sequence[str]]],
    *,
    write: int = 0,
    progress: Callable[[float], None] | None = None,
) -> list[Reply]:
    """Put questions to a model.

    What all prompts begin with is read once, where it is half of them or more.

    Args:
        model: a causal language model, with or without an adapter; it comes back in the mode that it was in.
        tokenizer: the model's own.
        questions: prompt and options of each; a space is put between the two.
        write: most tokens of a written answer, which also ends at a new line; 0 writes nothing.
        progress: is told the share that is done.

    Returns:
        One reply a question, in order.

    Raises:
        InputError: ``write`` is negative.
        ModelError: not a causal language model, one that keeps no keys and values, or a likelihood that is not
            finite.
        DataError: a prompt with its longest answer does not fit the model's position table.
    """
    if write < 0:
        raise InputError(f"write: expected 0 tokens or more, got {write}")
    require_causal(model)
    limit, stops = position_limit(model), stop_ids(tokenizer)
    rows = []
    for prompt, options in questions:
        split = [token_spans(tokenizer, prompt, completion(option)) for option in options]
        rows.append((split[0][0], [answer for _, answer in split]))
        longest = len(split[0][0]) + max(write, *(len(answer) for _, answer in split))
        if limit is not None and longest > limit:
            raise DataError(
                f'"{prompt[:40]}...": takes {longest} positions with its answer, and the model has a table of '
                f"{limit}; ask for a shorter length"
            )
    replies = []
    with evaluating(model):
        opening = _Opening.of(model, [asked for asked, _ in rows])
        for number, (asked, answers) in enumerate(rows, 1):
            replies.append(_reply(model, tokenizer, opening, asked, answers, (write, stops)))
            if progress:
                progress(number / len(questions))
    return replies


def position_limit(model: nn.Module) -> int | None:
    """Return the positions of a model that looks them up in a table; None where nothing but training ends them.

    A model with rotary positions computes beyond its trained length, whatever it makes of it; one with a table
    cannot.

    Args:
        model: a transformers model, with or without an adapter.

    Returns:
        The number in its configuration if it has a table of about that size besides its word embeddings.
    """
    bare, stated = unwrapped(model), context_length(model)
    words = bare.get_input_embeddings()
    tables = (m for m in bare.modules() if isinstance(m, torch.nn.Embedding) and m is not words)
    return stated if any(stated <= table.num_embeddings <= stated + 8 for table in tables) else None


def read_answer(written: str, right: Sequence[str], wrong: Sequence[str]) -> Reading:
    """Find an answer in what was written.

    Texts are compared in lower case without articles, punctuation and spaces at will (Rajpurkar et al. 2016),
    and an option is found anywhere in the text, as in Liu et al. 2023; of several options the first counts.

    Args:
        written: what the model wrote.
        right: texts of which any is right.
        wrong: texts of which any is wrong.

    Returns:
        What is made of it.

    Examples:
        >>> read_answer("It is the Apple, not the bridge.", ["apple"], ["bridge"])
        Reading(correct=True, invalid=False)
        >>> read_answer("I do not know", ["apple"], ["bridge"])
        Reading(correct=False, invalid=True)
    """
    text = normalised(written)
    places = [
        (text.find(f" {normalised(option).strip()} "), not is_right)
        for is_right, options in ((True, right), (False, wrong))
        for option in options
    ]
    found = [place for place in places if place[0] >= 0]
    return Reading(correct=bool(found) and not min(found)[1], invalid=not found)


def normalised(text: str) -> str:
    """Fold a text for comparison: lower case, no punctuation, no articles, single spaces, one at each end.

    Examples:
        >>> normalised("The  Quick-fox.")
        ' quickfox '
    """
    return f" {' '.join(_ARTICLES.sub(' ', text.lower().translate(_SIGNS)).split())} "


@dataclass(frozen=True)
class _Opening:
    """What all prompts begin with, read once; nothing where it is less than half of them."""

    length: int
    cache: Any

    @classmethod
    def of(cls, model: nn.Module, prompts: Sequence[list[int]]) -> _Opening:
        if len(prompts) < 2:
            return cls(0, None)
        shortest = min(map(len, prompts))
        same = next((i for i in range(shortest) if len({ids[i] for ids in prompts}) > 1), shortest)
        same = min(same, shortest - 1)
        if same < max(map(len, prompts)) / 2:
            return cls(0, None)
        ids = torch.tensor([prompts[0][:same]], device=next(model.parameters()).device)
        return cls(same, model(input_ids=ids, use_cache=True, **_last_only(model)).past_key_values)


def _reply(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    opening: _Opening,
    asked: list[int],
    answers: list[list[int]],
    writing: tuple[int, list[int]],
) -> Reply:
    device = next(model.parameters()).device
    rest = torch.tensor([asked[opening.length :]], device=device)
    before = {} if opening.cache is None else {"past_key_values": copy.deepcopy(opening.cache)}
    read = model(input_ids=rest, use_cache=True, **before, **_last_only(model))
    cache, last = read.past_key_values, read.logits[0, -1].float()
    if not hasattr(cache, "batch_repeat_interleave"):
        raise ModelError(
            f"{type(unwrapped(model)).__name__}: keeps no keys and values to share; take another model"
        )
    likelihoods = _likelihoods(model, copy.deepcopy(cache), last, answers, len(asked))
    if not torch.isfinite(likelihoods).all():
        raise ModelError("the model gives a log-likelihood that is not finite; check its weights for NaN")
    ids = _write(model, cache, last, *writing)
    return Reply(tuple(likelihoods.tolist()), answer_text(tokenizer, ids, writing[1]), len(asked))


def _likelihoods(model: nn.Module, cache: Any, last: Tensor, answers: list[list[int]], read: int) -> Tensor:
    width = max(map(len, answers))
    ids = torch.zeros(len(answers), width, dtype=torch.long, device=last.device)
    real = torch.zeros_like(ids)
    for row, answer in enumerate(answers):
        ids[row, : len(answer)] = torch.tensor(answer)
        real[row, : len(answer)] = 1
    logits = last.expand(len(answers), 1, -1)
    if width > 1:
        cache.batch_repeat_interleave(len(answers))
        mask = torch.cat([real.new_ones(len(answers), read), real[:, :-1]], dim=1)
        rest = model(input_ids=ids[:, :-1], attention_mask=mask, past_key_values=cache, use_cache=True)
        logits = torch.cat([logits, rest.logits.float()], dim=1)
    chosen = logits.log_softmax(dim=-1).gather(-1, ids[..., None])[..., 0]
    return torch.where(real > 0, chosen, 0.0).double().sum(dim=1).cpu()


def _write(model: nn.Module, cache: Any, last: Tensor, most: int, stops: list[int]) -> list[int]:
    """The likeliest token each time, up to one that ends the answer; uses the cache up."""
    ids: list[int] = []
    while len(ids) < most and not (ids and ids[-1] in stops):
        ids.append(int(last.argmax()))
        if len(ids) < most:
            step = torch.tensor([[ids[-1]]], device=last.device)
            last = model(input_ids=step, past_key_values=cache, use_cache=True).logits[0, -1]
    return ids


def _last_only(model: nn.Module) -> dict[str, int]:
    """Ask for the logits of the last token alone, where the model can: a long context has too many."""
    known = inspect.signature(unwrapped(model).forward).parameters
    return {"logits_to_keep": 1} if "logits_to_keep" in known else {}
