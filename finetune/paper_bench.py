"""Files of PAPerBench (arXiv 2602.15028): personalisation and privacy asked about long contexts.

The published harness reads one letter out of what a model writes, by a pattern that takes the article "a" for
option A, and counts what it cannot read as wrong. Here the letters are scored by their likelihood, so a failure of
form is no failure of memory; the published reading stands beside it, and a strict one, with the rate of answers that
are none.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from finetune.asked import Reply, ask
from finetune.folders import write_whole
from finetune.pairs import records
from geometry.checks import DataError
from geometry.over_prompts import Estimate, mean_over_prompts, share_of_prompts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from torch import nn
    from transformers import PreTrainedTokenizerBase

KINDS = ("ACCOUNT_ID", "ADDRESS", "CREDIT_CARD", "EMAIL", "PHONE", "SSN", "URL")
"""Private data that contexts hold."""

CONTEXTS = ("specific_generated_context", "generated_context", "context")
"""Keys that may hold the context; the first that is there counts."""

WRITTEN = 8
"""Tokens of a written answer, as published."""

_PUBLISHED = re.compile(r"\b([A-E])\b", re.IGNORECASE)
_STRICT = re.compile(r"^\W*(?:(?:the )?(?:answer|option) (?:is )?)?\W*([A-Ea-e])(?:[\W_]*$|[).:]\s)")


@dataclass(frozen=True)
class Choice:
    """A question with lettered options.

    Attributes:
        area: ``personalization`` or ``privacy``.
        topic: the kind of private data counted, the aggregate asked for, or ``personalization``.
        question: what is asked.
        options: letter -> text, in the order of the letters.
        right: the right letter.
        types: letter -> what is wrong with it, such as ``ignore_context``; empty where the file does not say.
    """

    area: str
    topic: str
    question: str
    options: Mapping[str, str]
    right: str
    types: Mapping[str, str]


@dataclass(frozen=True)
class Instance:
    """One long context with its questions.

    Attributes:
        id: as in the file.
        context: the long text.
        choices: personalisation first.
    """

    id: str
    context: str
    choices: tuple[Choice, ...]


@dataclass(frozen=True)
class Marked:
    """One question answered.

    Attributes:
        instance: id of its context.
        choice: the question.
        likeliest: the letter with the highest likelihood.
        published: the letter that the published pattern finds in what was written; None if there is none.
        strict: the letter of an answer that is one; None if it is none.
        written: what was written.
        blind: the likeliest letter without the context.
    """

    instance: str
    choice: Choice
    likeliest: str
    published: str | None
    strict: str | None
    written: str
    blind: str


def read_instances(path: str | Path, *, most: int | None = None) -> tuple[Instance, ...]:
    """Read a JSONL file of PAPerBench, or one of :func:`write_instances`.

    Args:
        path: a ``.jsonl`` file, gzipped or not.
        most: read so many lines; None reads all.

    Returns:
        One instance a line.

    Raises:
        DataError: the file cannot be read or is empty, or a line lacks a context, an option or a right letter.
    """
    found = []
    for number, record in records(path):
        if record is None:
            continue
        if most is not None and len(found) >= most:
            break
        found.append(_instance(f"{path}, line {number}", record, number))
    if not found:
        raise DataError(f"{path}: holds no record; give a file of PAPerBench")
    return tuple(found)


def write_instances(path: str | Path, instances: Sequence[Instance]) -> None:
    """Write instances with the fields that the published evaluators read, one JSON object a line."""
    lines = [json.dumps(_record(instance), ensure_ascii=False) + "\n" for instance in instances]
    write_whole(path, "".join(lines))


def mark(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    instances: Sequence[Instance],
    *,
    progress: Callable[[float], None] | None = None,
) -> tuple[Marked, ...]:
    """Put all questions of all instances to a model.

    Args:
        model: a causal language model, with or without an adapter.
        tokenizer: the model's own.
        instances: what to ask.
        progress: is told the share that is done.

    Returns:
        One a question, in order.

    Raises:
        ModelError: see :func:`finetune.asked.ask`.
        DataError: a context does not fit the model's position table.
    """
    marked: list[Marked] = []
    for number, instance in enumerate(instances, 1):
        with_context = [
            (prompt(instance.context, choice), tuple(choice.options)) for choice in instance.choices
        ]
        without = [(prompt("", choice), tuple(choice.options)) for choice in instance.choices]
        replies = ask(model, tokenizer, with_context, write=WRITTEN)
        blind = ask(model, tokenizer, without)
        marked += [
            _marked(instance.id, choice, reply, unseen)
            for choice, reply, unseen in zip(instance.choices, replies, blind, strict=True)
        ]
        if progress:
            progress(number / len(instances))
    return tuple(marked)


def prompt(context: str, choice: Choice) -> str:
    r"""Write the prompt of one question; the letter follows it.

    Examples:
        >>> prompt("C", Choice("privacy", "EMAIL", "How many?", {"A": "1", "B": "2"}, "A", {}))
        'C\n\nQuestion: How many?\nA. 1\nB. 2\nAnswer with one letter.\nAnswer:'
    """
    head = f"{context}\n\n" if context else ""
    options = "\n".join(f"{letter}. {text}" for letter, text in choice.options.items())
    return f"{head}Question: {choice.question}\n{options}\nAnswer with one letter.\nAnswer:"


def published_letter(written: str) -> str | None:
    """Find a letter as the published harness does: the first A to E that stands alone, in either case.

    Examples:
        >>> published_letter("This is a guess: C"), published_letter("C."), published_letter("none")
        ('A', 'C', None)
    """
    found = _PUBLISHED.search(written)
    return found.group(1).upper() if found else None


def strict_letter(written: str) -> str | None:
    """Find a letter in an answer that is one: the letter alone, or followed by a sign, or after "the answer is".

    Examples:
        >>> strict_letter("This is a guess: C"), strict_letter("C."), strict_letter("The answer is (c)")
        (None, 'C', 'C')
        >>> strict_letter("B) 4 of them"), strict_letter("A good question")
        ('B', None)
    """
    found = _STRICT.search(re.sub(r"^\W*(the answer is|answer:?)\s*", "", written, flags=re.IGNORECASE))
    return found.group(1).upper() if found else None


def paper_scores(marked: Sequence[Marked]) -> dict[str, dict[str, Estimate]]:
    """Average over questions within an instance, then over instances, which are what intervals are over.

    Args:
        marked: of two instances or more for an interval.

    Returns:
        Area -> ``likelihood`` (share right), ``blind`` (without the context), ``gain`` (the difference, paired),
        ``chance``, ``published`` (as the published harness counts), ``strict`` and ``invalid`` (shares of written
        answers that are right, and that are no answer).
    """
    found = {}
    for area in dict.fromkeys(one.choice.area for one in marked):
        shares: dict[str, dict[str, list[float]]] = {}
        for one in (one for one in marked if one.choice.area == area):
            right = one.choice.right
            numbers = {
                "likelihood": one.likeliest == right,
                "blind": one.blind == right,
                "gain": float(one.likeliest == right) - float(one.blind == right),
                "chance": 1 / len(one.choice.options),
                "published": one.published == right,
                "strict": one.strict == right,
                "invalid": one.strict is None,
            }
            for name, number in numbers.items():
                shares.setdefault(name, {}).setdefault(one.instance, []).append(float(number))
        found[area] = {
            name: _over_instances(name, [sum(values) / len(values) for values in by_instance.values()])
            for name, by_instance in shares.items()
        }
    return found


def _over_instances(name: str, values: Sequence[float]) -> Estimate:
    """Wilson's interval where an instance is all or nothing; Student's elsewhere, for shares within 0 to 1."""
    if name == "gain":
        return mean_over_prompts(values)
    if set(values) <= {0.0, 1.0}:
        return share_of_prompts(values)
    found = mean_over_prompts(values)
    return replace(found, low=np.clip(found.low, 0, 1), high=np.clip(found.high, 0, 1))


def confusion(marked: Sequence[Marked]) -> dict[str, dict[str, int]]:
    """Count right letters against likeliest ones; a model that favours a letter shows in its column.

    Returns:
        Right letter -> likeliest letter -> number of questions.
    """
    counts = Counter((one.choice.right, one.likeliest) for one in marked)
    letters = sorted({letter for one in marked for letter in one.choice.options})
    return {right: {given: counts[right, given] for given in letters} for right in letters}


def trap_rates(marked: Sequence[Marked]) -> dict[str, float]:
    """Share of personalisation questions in which each kind of wrong option was the likeliest.

    Returns:
        Kind -> share; empty where the options have no kinds.
    """
    known = [one for one in marked if one.choice.types]
    kinds = Counter(one.choice.types[one.likeliest] for one in known)
    return {kind: n / len(known) for kind, n in sorted(kinds.items())}


def _marked(instance: str, choice: Choice, reply: Reply, unseen: Reply) -> Marked:
    letters = tuple(choice.options)
    written = reply.written
    return Marked(
        instance, choice, letters[reply.chosen], published_letter(written), strict_letter(written), written,
        letters[unseen.chosen],
    )  # fmt: skip


def _instance(place: str, record: Mapping[str, Any], number: int) -> Instance:
    context = next((record[key] for key in CONTEXTS if record.get(key)), None)
    if not isinstance(context, str):
        raise DataError(f"{place}: has none of {', '.join(CONTEXTS)}")
    choices = []
    mcq = record.get("mcq")
    if mcq:
        options = _mapping(place, mcq, "options")
        texts = {k: v.get("text") if isinstance(v, dict) else v for k, v in options.items()}
        types = {k: str(v["type"]) for k, v in options.items() if isinstance(v, dict) and v.get("type")}
        asked = str(record.get("generated_query") or "Which answer fits the person best?")
        choices.append(_choice(place, ("personalization", "personalization", asked), texts, mcq.get("correct_option"),
                               types))  # fmt: skip
    for key, topic in (("pii_count_mcq", "pii_type"), ("privacy_aggregate_mcq", "mcq_type")):
        for one in record.get(key) or ():
            head = ("privacy", str(one.get(topic, key)), str(one.get("question", "")))
            choices.append(_choice(place, head, _mapping(place, one, "options"), one.get("answer"), {}))
    if not choices:
        raise DataError(f"{place}: asks nothing (mcq, pii_count_mcq and privacy_aggregate_mcq are missing)")
    return Instance(str(record.get("id", number)), context, tuple(choices))


def _mapping(place: str, record: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = record.get(key) if isinstance(record, dict) else None
    if not isinstance(found, dict) or len(found) < 2:
        raise DataError(f'{place}: "{key}" must map two letters or more to options')
    return dict(sorted(found.items()))


def _choice(
    place: str,
    head: tuple[str, str, str],
    options: Mapping[str, Any],
    right: object,
    types: Mapping[str, str],
) -> Choice:
    texts = {letter: str(text) for letter, text in options.items() if text is not None}
    if right not in texts or len(texts) < len(options):
        raise DataError(
            f"{place}: the right letter {right!r} is not among the options, or an option has no text"
        )
    return Choice(*head, texts, str(right), types if types.keys() == texts.keys() else {})


def _record(instance: Instance) -> dict[str, Any]:
    record: dict[str, Any] = {"id": instance.id, "context": instance.context}
    for choice in instance.choices:
        if choice.area == "personalization":
            options = {k: {"text": text, "type": choice.types.get(k)} for k, text in choice.options.items()}
            record["generated_query"] = choice.question
            record["mcq"] = {"options": options, "correct_option": choice.right}
            continue
        counted = choice.topic in KINDS
        key, topic = ("pii_count_mcq", "pii_type") if counted else ("privacy_aggregate_mcq", "mcq_type")
        one = {
            "question": choice.question,
            "options": dict(choice.options),
            "answer": choice.right,
            topic: choice.topic,
        }
        record.setdefault(key, []).append(one)
    return record
