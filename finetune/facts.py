"""What a model knows: facts asked as a choice between an answer and its foils.

A fact is known when the model gives the answer a higher probability than each of its foils. It is asked
twice, in a plain prompt and in a prompt written in the style: an adapter that merely changed the style may
stumble over one of them, and has forgotten the fact only when both fail.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from finetune.causal import context_length, evaluating, padding_id, require_causal, right_padded
from finetune.pairs import Refused, records
from finetune.prompts import IGNORED, completion, token_spans
from finetune.score import Score, bootstrap_draws, score_of_sums
from geometry.checks import DataError, ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor, nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from finetune.causal import Row

_BATCH_TOKENS = 4096


@dataclass(frozen=True)
class Fact:
    """One fact, asked in two wordings.

    Attributes:
        id: unique in its file.
        category: such as ``capitals``.
        prompt: a text that the answer completes.
        answer: the right completion, without its leading space.
        foils: wrong completions of the same kind.
        styled_prompt: the prompt in the words of the style.
    """

    id: str
    category: str
    prompt: str
    answer: str
    foils: tuple[str, ...]
    styled_prompt: str


@dataclass(frozen=True)
class Facts:
    """What a file of facts held: the facts in file order, and the lines that were set aside."""

    facts: tuple[Fact, ...]
    refused: tuple[Refused, ...] = ()


@dataclass(frozen=True)
class FactScore:
    """How a model does on one fact.

    Attributes:
        id: of the fact.
        category: of the fact.
        margin: log-likelihood of the answer minus that of its best foil after the plain prompt, in nats.
        styled_margin: the same after the styled prompt.
    """

    id: str
    category: str
    margin: float
    styled_margin: float

    @property
    def known(self) -> bool:
        """Whether the answer beats every foil after the plain prompt."""
        return self.margin > 0

    @property
    def styled_known(self) -> bool:
        """Whether the answer beats every foil after the styled prompt."""
        return self.styled_margin > 0


@dataclass(frozen=True)
class FactsKept:
    """What became of the facts that a base model knew.

    Attributes:
        kept: share of the facts known to the base that the adapted model knows too, plain prompt.
        styled_kept: the same for the styled prompt, over the facts that the base knew there.
        forgotten: ids that the base knew in both wordings and the adapted model in neither.
        learnt: share of the facts unknown to the base that the adapted model knows; chance finds some.
    """

    kept: Score
    styled_kept: Score
    forgotten: tuple[str, ...]
    learnt: Score


def read_facts(path: str | Path) -> Facts:
    """Read facts: ``{"id", "category", "prompt", "answer", "foils", "styled_prompt"}`` a line.

    Args:
        path: a ``.jsonl`` file, gzipped or not.

    Returns:
        The facts and the empty lines and duplicates that were set aside.

    Raises:
        DataError: the file is missing, unreadable or empty, or a line lacks a key, holds an empty text,
            has no foil, or has its answer among the foils.
    """
    facts, refused, ids, seen = [], [], {}, {}
    for number, record in records(path):
        if record is None:
            refused.append(Refused(number, "empty line"))
            continue
        fact = _fact(f"{path}, line {number}", record)
        if fact.prompt in seen:
            refused.append(Refused(number, f"fact {fact.id} asks again what line {seen[fact.prompt]} asks"))
            continue
        if fact.id in ids:
            raise DataError(f'{path}, line {number}: the id "{fact.id}" is already on line {ids[fact.id]}')
        ids[fact.id] = seen[fact.prompt] = number
        facts.append(fact)
    if not facts:
        raise DataError(f"{path}: holds no fact; see the help for the keys of a line")
    return Facts(tuple(facts), tuple(refused))


def fact_scores(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, facts: Sequence[Fact]
) -> tuple[FactScore, ...]:
    """Ask a model every fact in both wordings.

    Answer and foils are compared by the total log-likelihood of their tokens after the prompt; nothing is
    divided by their length, so foils should be as long as the answer.

    Args:
        model: a causal language model, with or without an adapter; it is put back into the mode it was in.
        tokenizer: the model's own.
        facts: what to ask.

    Returns:
        One score a fact, in order.

    Raises:
        ModelError: not a causal language model, or a log-likelihood is not finite.
        DataError: a prompt with its answer is longer than the model's context.
    """
    questions = [
        (prompt, option)
        for fact in facts
        for prompt in (fact.prompt, fact.styled_prompt)
        for option in (fact.answer, *fact.foils)
    ]
    likelihoods = iter(log_likelihoods(model, tokenizer, questions))
    scores = []
    for fact in facts:
        margins = []
        for _ in range(2):
            answer, *foils = (next(likelihoods) for _ in range(1 + len(fact.foils)))
            margins.append(float(answer - max(foils)))
        scores.append(FactScore(fact.id, fact.category, *margins))
    return tuple(scores)


def log_likelihoods(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, questions: Sequence[tuple[str, str]]
) -> list[float]:
    """Return the log-likelihood of each continuation after its prompt, in nats, summed over its tokens.

    Args:
        model: a causal language model.
        tokenizer: the model's own.
        questions: (prompt, continuation) texts; a space is put between the two.

    Returns:
        One number a question, in order.

    Raises:
        ModelError: not a causal language model, or a log-likelihood is not finite.
        DataError: a question is longer than the model's context.
    """
    rows = question_rows(model, tokenizer, questions)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]), reverse=True)
    found = np.zeros(len(rows))
    with evaluating(model):
        while order:
            size = max(1, _BATCH_TOKENS // len(rows[order[0]][0]))
            batch, order = order[:size], order[size:]
            padded = right_padded([rows[i] for i in batch], padding_id(tokenizer), device=model.device)
            found[batch] = _summed_log_probabilities(model, padded)
    if not np.isfinite(found).all():
        raise ModelError("the model gives a log-likelihood that is not finite; check its weights for NaN")
    return found.tolist()


def question_rows(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, questions: Sequence[tuple[str, str]]
) -> list[Row]:
    """Tokenise questions with their answers, labelled so that the answers alone are scored.

    Args:
        model: a causal language model, with or without an adapter.
        tokenizer: the model's own.
        questions: (prompt, continuation) texts; a space is put between the two.

    Returns:
        Ids and labels of each question, in order, see :func:`finetune.causal.right_padded`.

    Raises:
        ModelError: not a causal language model.
        DataError: a question is longer than the model's context.
    """
    require_causal(model)
    rows, limit = [], context_length(model)
    for prompt, answer in questions:
        asked, answered = token_spans(tokenizer, prompt, completion(answer))
        if len(asked) + len(answered) > limit:
            raise DataError(f'"{prompt[:40]}...": longer than the context of {limit} tokens; shorten it')
        rows.append((asked + answered, [IGNORED] * len(asked) + answered))
    return rows


def facts_kept(
    base: Sequence[FactScore], adapted: Sequence[FactScore], rng: np.random.Generator
) -> FactsKept:
    """Compare what an adapted model knows with what its base knew.

    Args:
        base: scores of the base model.
        adapted: scores of the adapted model on the same facts, in the same order.
        rng: source of chance for the intervals, which come from resampling the facts.

    Returns:
        The shares with their intervals; NaN where there is nothing to take a share of.

    Raises:
        DataError: the scores are not of the same facts.
    """
    if [s.id for s in base] != [s.id for s in adapted]:
        raise DataError("the two models were not asked the same facts in the same order; ask them again")
    draws = bootstrap_draws(len(base), rng)
    knew = np.array([[b.known, b.styled_known] for b in base], dtype=np.float64)
    knows = np.array([[a.known, a.styled_known] for a in adapted], dtype=np.float64)

    def share(name: str, hits: np.ndarray, of: np.ndarray) -> Score:
        counts = np.stack([hits * of, of], axis=1)
        return score_of_sums(name, counts, lambda s: float(s[0] / s[1]) if s[1] else float("nan"), draws)

    return FactsKept(
        kept=share("facts kept", knows[:, 0], knew[:, 0]),
        styled_kept=share("facts kept, styled prompt", knows[:, 1], knew[:, 1]),
        forgotten=tuple(b.id for b, x, y in zip(base, knew, knows, strict=True) if x.all() and not y.any()),
        learnt=share("facts learnt", knows[:, 0], 1 - knew[:, 0]),
    )


def _summed_log_probabilities(model: PreTrainedModel, batch: dict[str, Tensor]) -> NDArray[np.float64]:
    labels = batch.pop("labels")[:, 1:]
    scored = labels != IGNORED
    logits = model(**batch).logits[:, :-1][scored].float()
    chosen = logits.log_softmax(dim=-1).gather(-1, labels[scored][:, None])[:, 0]
    sums = chosen.new_zeros(len(labels), dtype=chosen.dtype)
    return sums.index_add(0, scored.nonzero()[:, 0], chosen).double().cpu().numpy()


def _fact(place: str, record: dict) -> Fact:
    for key in ("id", "category", "prompt", "answer", "styled_prompt"):
        if not isinstance(record.get(key), str) or not record[key].strip():
            raise DataError(f'{place}: "{key}" is missing or is not a text')
    foils = record.get("foils")
    if not isinstance(foils, list) or not foils or not all(isinstance(f, str) and f.strip() for f in foils):
        raise DataError(f'{place}: "foils" must be a list of at least one text')
    if record["answer"] in foils:
        raise DataError(f'{place}: the answer "{record["answer"]}" is among its own foils')
    return Fact(
        record["id"],
        record["category"],
        record["prompt"].rstrip(),
        record["answer"],
        tuple(foils),
        record["styled_prompt"].rstrip(),
    )
