"""Questions with a better and a worse answer: what a change of behaviour is measured on, one number an item.

=========== ======================================== =====================================================
a file of   the two answers                          the metric m of a model
=========== ======================================== =====================================================
facts       the answer; the base's likeliest foil    log p(answer) - log p(foil), nats
style pairs the styled target; the plain source      log p(target) - log p(source), each over its tokens
=========== ======================================== =====================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from finetune.causal import context_length
from finetune.facts import log_likelihoods, read_facts
from finetune.pairs import read_pairs, records
from finetune.prompts import completion, render, token_spans
from geometry.checks import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from finetune.adapter import Attached


@dataclass(frozen=True)
class Contrast:
    """One question with two answers; m = weight_better log p(better) - weight_worse log p(worse).

    Attributes:
        doc_id: the document that it comes from.
        prompt: token ids, at least one.
        better: token ids of the one answer.
        worse: token ids of the other.
        weight_better: of the log-likelihood of the better answer, its tokens summed.
        weight_worse: of that of the worse.
    """

    doc_id: str
    prompt: tuple[int, ...]
    better: tuple[int, ...]
    worse: tuple[int, ...]
    weight_better: float = 1.0
    weight_worse: float = 1.0


@dataclass(frozen=True)
class Contrasts:
    """What a file says of behaviour.

    Attributes:
        metric: what m is, with its unit.
        items: the questions, in file order.
    """

    metric: str
    items: tuple[Contrast, ...]


def read_contrasts(attached: Attached, path: str | Path) -> Contrasts | None:
    """Read a file of facts or of style pairs as questions with two answers.

    Args:
        attached: the attached adapter; its base chooses each fact's likeliest foil.
        path: a JSONL file.

    Returns:
        The questions; None where the file holds plain texts or prompts without foils, which ask nothing.

    Raises:
        DataError: the file cannot be read, or a question is longer than the model's context.
        ModelError: not a causal language model.
    """
    keys = next((set(record) for _, record in records(path) if record), set())
    if "text" in keys:
        return None
    if "foils" in keys:
        return Contrasts("log p(answer) - log p(best foil), nats", _facts(attached, path))
    if {"source", "target"} <= keys:
        return Contrasts("log p(styled target) - log p(plain source), nats a token", _pairs(attached, path))
    return None


def _facts(attached: Attached, path: str | Path) -> tuple[Contrast, ...]:
    facts = read_facts(path).facts
    model, tokenizer = attached.model, attached.loaded.tokenizer
    with model.disable_adapter():
        asked = log_likelihoods(model, tokenizer, [(f.prompt, foil) for f in facts for foil in f.foils])
    likelihoods = iter(asked)
    made = []
    for fact in facts:
        foil = max(fact.foils, key=lambda _: next(likelihoods))
        made.append(_contrast(attached, fact.id, fact.prompt, (fact.answer, foil)))
    return tuple(made)


def _pairs(attached: Attached, path: str | Path) -> tuple[Contrast, ...]:
    made = []
    for pair in read_pairs(path).pairs:
        one = _contrast(attached, pair.doc_id, render(pair.source), (pair.target, pair.source))
        if one.better != one.worse:
            made.append(
                Contrast(
                    one.doc_id, one.prompt, one.better, one.worse, 1 / len(one.better), 1 / len(one.worse)
                )
            )
    if not made:
        raise DataError(f"{path}: every target equals its source, so there is no style to measure")
    return tuple(made)


def _contrast(attached: Attached, document: str, prompt: str, answers: Sequence[str]) -> Contrast:
    limit = context_length(attached.model)
    spans = [token_spans(attached.loaded.tokenizer, prompt, completion(answer)) for answer in answers]
    for asked, answered in spans:
        if len(asked) + len(answered) > limit:
            raise DataError(f'"{prompt[:40]}...": longer than the context of {limit} tokens; shorten it')
    better, worse = (tuple(answered) for _, answered in spans)
    return Contrast(document, tuple(spans[0][0]), better, worse)
