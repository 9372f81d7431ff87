"""Long contexts that hide an invented fact: key-value retrieval, needle in a haystack, many documents.

Each function draws one :class:`~finetune.needle_layout.Case`; the facts are invented, so no model has read them
elsewhere. A filler is neutral (plain text), of the same format (facts of another relation), or of rivals (the
same relation of other names): length is cheap, competition is not (Liu, arXiv 2611.04169), and only the filler
tells one from the other.
"""

from __future__ import annotations

import itertools
import uuid
from typing import TYPE_CHECKING

from finetune.needle_layout import Case, Filler, Piece
from finetune.needle_words import RELATIONS, VALUES, names, plain_sentences
from geometry.checks import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import numpy as np

    FillerOf = Callable[[str, Iterator[str], np.random.Generator], Iterator[Piece]]
    """Relation asked for, names nobody has yet, chance -> pieces of filler."""

FOILS = 3
"""Wrong options of a question; chance is one in four."""
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")


def neutral(relation: str, fresh: Iterator[str], rng: np.random.Generator) -> Iterator[Piece]:
    """Plain sentences, which have no name and no value in them."""
    return (Piece(sentence) for sentence in plain_sentences(rng))


def same_format(relation: str, fresh: Iterator[str], rng: np.random.Generator) -> Iterator[Piece]:
    """Facts in the same words about other names and other relations."""
    others = [other for other in RELATIONS if other != relation]
    while True:
        yield _fact(others[rng.integers(len(others))], next(fresh), _value(rng))


def rivals(relation: str, fresh: Iterator[str], rng: np.random.Generator) -> Iterator[Piece]:
    """Facts of the same relation about other names: each answers the question, but for its name."""
    while True:
        yield _fact(relation, next(fresh), _value(rng), rival=True)


def from_sentences(sentences: Iterable[str]) -> FillerOf:
    """Make a filler of somebody's text.

    Args:
        sentences: in order; they are read once and shared by all cases.

    Returns:
        A filler that begins at another sentence for each case, by chance, and goes round once.

    Raises:
        DataError: there is no sentence.
    """
    kept = tuple(sentences)
    if not kept:
        raise DataError("haystack: the text holds no sentence of 5 to 30 words; give another")

    def filler(relation: str, fresh: Iterator[str], rng: np.random.Generator) -> Iterator[Piece]:
        start = int(rng.integers(len(kept)))
        return (Piece(sentence) for sentence in (*kept[start:], *kept[:start]))

    return filler


def haystack(rng: np.random.Generator, *, filler: FillerOf = neutral, needles: int = 1) -> Case:
    """Hide a fact among sentences.

    Args:
        rng: source of chance.
        filler: what hides it.
        needles: parts of the fact, each in a sentence of its own; all of them are needed for the answer.

    Returns:
        The case: four options, which differ in one part each.

    Raises:
        DataError: needles is not in 1 to 8.

    Examples:
        >>> import numpy as np
        >>> case = haystack(np.random.default_rng(0))
        >>> case.needles[0].text.endswith(f"is the {case.answer}.")
        True
    """
    _require(needles)
    relation, fresh = RELATIONS[rng.integers(len(RELATIONS))], names(rng)
    name = next(fresh)
    answer, foils = _options(rng, needles)
    told = relation if needles == 1 else None
    parts = [
        _fact(told or f"{ORDINALS[i]} {relation}", name, value)
        for i, value in enumerate(answer.split(" and "))
    ]
    what = relation if needles == 1 else f"{needles} {relation}s"
    verb = "is" if needles == 1 else "are"
    return Case(
        needles=tuple(parts),
        filler=Filler(filler(relation, fresh, rng)),
        question=f"What {verb} the {what} of {name}?",
        lead=f"The {what} of {name} {verb} the",
        answer=answer,
        foils=foils,
    )


def documents(rng: np.random.Generator, *, filler: FillerOf = neutral, needles: int = 1) -> Case:
    """Hide a fact in one of many short documents, numbered and titled as in Liu et al. 2023 (arXiv 2307.03172).

    Args:
        rng: source of chance.
        filler: what the fourth sentence of every other document is; the rest of all documents is plain.
        needles: parts of the fact, each in a document of its own.

    Returns:
        The case: four options.

    Raises:
        DataError: needles is not in 1 to 8.
    """
    case = haystack(rng, filler=filler, needles=needles)
    plain = plain_sentences(rng)
    titles = names(rng)

    def document(fact: Piece) -> Piece:
        before, after = (" ".join(itertools.islice(plain, 3)) for _ in range(2))
        lead = f"(Title: {next(titles)}) {before} "
        marks = {
            name: tuple((a + len(lead), b + len(lead)) for a, b in ranges)
            for name, ranges in fact.marks.items()
        }
        return Piece(f"{lead}{fact.text} {after}", marks, fact.rival)

    return Case(
        needles=tuple(map(document, case.needles)),
        filler=Filler(map(document, case.filler)),
        question=case.question,
        lead=case.lead,
        answer=case.answer,
        foils=case.foils,
        head="One of these documents holds the answer to the question.",
        joint="\n",
        numbered="Document [{}]",
    )


def key_values(rng: np.random.Generator, *, needles: int = 1) -> Case:
    """Hide a pair of identifiers among such pairs, as in Liu et al. 2023; every other pair is a rival.

    Args:
        rng: source of chance.
        needles: keys whose values are asked for.

    Returns:
        The case: four options; a foil is the value of another pair, one of the first of the filler, in place of
        one of the values.

    Raises:
        DataError: needles is not in 1 to 8.
    """
    _require(needles)
    pairs = ((_identifier(rng), _identifier(rng)) for _ in itertools.count())
    asked = [next(pairs) for _ in range(needles)]
    others = [next(pairs) for _ in range(FOILS)]
    return records_case(asked, itertools.chain(others, pairs), [value for _, value in others])


def records_case(asked: list[tuple[str, str]], others: Iterable[tuple[str, str]], wrong: list[str]) -> Case:
    """Make a case of key-value records.

    Args:
        asked: keys whose values are asked for, with these.
        others: the other records, in order.
        wrong: values that make the foils.

    Returns:
        The case, laid out as a JSON object.
    """
    values = [value for _, value in asked]
    foils = tuple(
        ", ".join(one if place == i % len(values) else value for place, value in enumerate(values))
        for i, one in enumerate(wrong)
    )
    keys = ", ".join(f'"{key}"' for key, _ in asked)
    return Case(
        needles=tuple(_record(*pair) for pair in asked),
        filler=Filler(_record(*pair, rival=True) for pair in others),
        question=f"Key: {keys}",
        lead="Corresponding value:",
        answer=", ".join(values),
        foils=foils,
        head="Extract the value corresponding to the specified key in the JSON object below.",
        joint=",\n",
    )


def _record(key: str, value: str, *, rival: bool = False) -> Piece:
    text = f'"{key}": "{value}"'
    end = len(text) - 1
    return Piece(text, {"key": ((1, 1 + len(key)),), "value": ((end - len(value), end),)}, rival)


def _fact(relation: str, name: str, value: str, *, rival: bool = False) -> Piece:
    lead = f"The {relation} of "
    text = f"{lead}{name} is the {value}."
    end = len(text) - 1
    marks = {"key": ((len(lead), len(lead) + len(name)),), "value": ((end - len(value), end),)}
    return Piece(text, marks, rival)


def _options(rng: np.random.Generator, needles: int) -> tuple[str, tuple[str, ...]]:
    drawn = [VALUES[i] for i in rng.permutation(len(VALUES))[: needles + FOILS]]
    values, wrong = drawn[:needles], drawn[needles:]
    foils = (
        [one if place == i % needles else value for place, value in enumerate(values)]
        for i, one in enumerate(wrong)
    )
    return " and ".join(values), tuple(" and ".join(foil) for foil in foils)


def _value(rng: np.random.Generator) -> str:
    return VALUES[rng.integers(len(VALUES))]


def _identifier(rng: np.random.Generator) -> str:
    return str(uuid.UUID(bytes=rng.bytes(16), version=4))


def _require(needles: int) -> None:
    if not 1 <= needles <= len(ORDINALS):
        raise DataError(f"needles: expected 1 to {len(ORDINALS)}, got {needles}")
