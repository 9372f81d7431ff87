"""A corpus of any form becomes sentences to neutralise, or pairs that are parallel already.

Every sentence knows its document, since what is split into training and test is documents.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from finetune.entities import words
from finetune.pairs import Pair, Text
from finetune.prompts import one_line
from geometry.checks import DataError
from geometry.corpora import lines
from geometry.record_files import records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence


@dataclass(frozen=True)
class Fields:
    """Which records of a corpus are read, and which of their values.

    Attributes:
        text: name of the value that holds the text.
        document: names of the values that together name the document; none takes the record's ``id``.
        where: name -> value: only records that have it, compared as text.
    """

    text: str = "text"
    document: tuple[str, ...] = ()
    where: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Bounds:
    """Which sentences are used.

    Attributes:
        shortest, longest: words.
        block: sentences that are split as one document: a longer document is cut into blocks of so many
            neighbours; 0 keeps documents whole.
        most: sentences in all, drawn by chance from the whole corpus; None takes every one.
    """

    shortest: int = 4
    longest: int = 60
    block: int = 100
    most: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.shortest <= self.longest:
            raise DataError(f"sentences of {self.shortest} to {self.longest} words: there are none such")


@dataclass(frozen=True)
class Passages:
    """Sentences of a corpus.

    Attributes:
        texts: in the order of the corpus.
        found: sentences that the corpus has.
        aside: reason -> how many of them were set aside.
        documents: documents that the corpus has, before any is cut.
    """

    texts: tuple[Text, ...]
    found: int
    aside: Mapping[str, int]
    documents: int


def read_passages(
    path: str | Path,
    fields: Fields,
    bounds: Bounds,
    *,
    split: Callable[[str], Sequence[str]],
    rng: np.random.Generator,
) -> Passages:
    """Read the sentences of a corpus.

    Args:
        path: a file or folder, see :func:`geometry.record_files.records`.
        fields: what is read of it.
        bounds: which sentences are used.
        split: takes a text and returns its sentences, such as :func:`finetune.sentences.split_sentences`; a
            function that returns the text alone takes texts as they are.
        rng: draws ``bounds.most`` sentences.

    Returns:
        The sentences, white space folded and otherwise as they stand. One that says again what an earlier one
        said, but for case and punctuation, is set aside, so that none can be in training and in test.

    Raises:
        DataError: the corpus cannot be read, lacks a field, or has no sentence to use.
    """
    return _sentences(path, _chosen(path, fields.where), fields, bounds, split, rng)


def read_others(
    path: str | Path,
    fields: Fields,
    bounds: Bounds,
    *,
    split: Callable[[str], Sequence[str]],
    rng: np.random.Generator,
) -> Passages:
    """Read the sentences of the records that :func:`read_passages` leaves out: the other authors of a corpus.

    Args:
        path: as there.
        fields: as there; records that have all of ``where`` are left out.
        bounds: as there.
        split: as there.
        rng: as there.

    Returns:
        The sentences.

    Raises:
        DataError: the corpus cannot be read, or has no other record.
    """
    rest = ((p, r) for p, r in records(path) if not _fits(r, fields.where, p))
    return _sentences(path, rest, fields, bounds, split, rng)


def parallel(
    paths: Sequence[str | Path], source: Fields, target: str, *, block: int = 100
) -> tuple[Pair, ...]:
    """Read pairs that are parallel already.

    Args:
        paths: one file or folder of records that hold both sides; or two text files, the plain one first,
            with the same sentence on the same line.
        source: of the plain side. With two files only the line counts.
        target: name of the value that holds the styled side.
        block: neighbouring pairs that are split as one document, where no document is named; at least 1.

    Returns:
        The pairs in file order, white space folded. Empty ones are left in: :func:`unique_pairs` counts them.

    Raises:
        DataError: a file cannot be read, lacks a field, or two files differ in length.
    """
    if len(paths) == 2:
        found = list(_aligned(Path(paths[0]), Path(paths[1])))
        return tuple(Pair(str(i), f"lines {i // block + 1}", *both) for i, both in enumerate(found, start=1))
    if len(paths) != 1:
        raise DataError(f"{len(paths)} corpora: give one with both sides, or two text files")
    pairs = []
    for i, (place, record) in enumerate(_chosen(paths[0], source.where), start=1):
        sides = (one_line(_value(record, name, place)) for name in (source.text, target))
        named = source.document or (("doc_id",) if "doc_id" in record else ())
        document = _document(record, named, place) if named else f"block {(i - 1) // block + 1}"
        pairs.append(Pair(str(record["id"]), document, *sides))
    return tuple(pairs)


def unique_pairs(pairs: Sequence[Pair]) -> tuple[tuple[Pair, ...], dict[str, int]]:
    """Take out pairs that are empty, that copy, or that say again what an earlier one says.

    Args:
        pairs: of any origin.

    Returns:
        The others in order, and reason -> how many were taken out. Two pairs are the same when both their
        sides have the same words.

    Examples:
        >>> made = [Pair("1", "d", "a", "b"), Pair("2", "d", "A.", "b!"), Pair("3", "d", "c", "c")]
        >>> kept, aside = unique_pairs(made)
        >>> [pair.id for pair in kept], aside
        (['1'], {'duplicate': 1, 'copy': 1})
    """
    kept, aside, seen = [], Counter(), set()
    for pair in pairs:
        content = (said(pair.source), said(pair.target))
        if not all(content):
            aside["empty"] += 1
        elif pair.source == pair.target:
            aside["copy"] += 1
        elif content in seen:
            aside["duplicate"] += 1
        else:
            seen.add(content)
            kept.append(pair)
    return tuple(kept), dict(aside)


def said(text: str) -> tuple[str, ...]:
    """Return what two texts must share to say the same: their words and numbers, without case or punctuation.

    Examples:
        >>> said("It rained, 3 times!") == said("it rained 3 times")
        True
    """
    return tuple("".join(c.lower() if c.isalnum() else " " for c in text).split())


def _sentences(
    path: str | Path,
    chosen: Iterator[tuple[str, dict[str, Any]]],
    fields: Fields,
    bounds: Bounds,
    split: Callable[[str], Sequence[str]],
    rng: np.random.Generator,
) -> Passages:
    aside: Counter[str] = Counter()
    texts: list[Text] = []
    seen: set[tuple[str, ...]] = set()
    positions: Counter[str] = Counter()
    for place, record in chosen:
        document = _document(record, fields.document, place)
        text = _value(record, fields.text, place)
        for sentence in split(text):
            number = positions[document]
            positions[document] += 1
            reason, content = _unfit(sentence, bounds, seen)
            if reason:
                aside[reason] += 1
                continue
            seen.add(content)
            block = f"{document}#{number // bounds.block + 1}" if bounds.block else document
            texts.append(Text(f"{document}:{number + 1}", block, one_line(sentence)))
    if not texts:
        said = ", ".join(f"{n} {reason}" for reason, n in aside.items()) or "no record fits"
        raise DataError(f"{path}: holds no sentence to use ({said}); check the names of its fields")
    return Passages(_drawn(texts, bounds.most, rng), positions.total(), dict(aside), len(positions))


def _chosen(path: str | Path, where: Mapping[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
    any_record, seen = False, {name: Counter[str]() for name in where}
    for place, record in records(path):
        for name in where:
            seen[name][_value(record, name, place)] += 1
        if _fits(record, where, place):
            any_record = True
            yield place, record
    if not any_record and where:
        wanted = ", ".join(f"{name}={value}" for name, value in where.items())
        found = "; ".join(
            f"{name}: {', '.join(v for v, _ in counts.most_common(8))}" for name, counts in seen.items()
        )
        raise DataError(f"{path}: no record has {wanted}; it has {found}")


def _fits(record: Mapping[str, Any], where: Mapping[str, str], place: str) -> bool:
    return all(_value(record, name, place) == value for name, value in where.items())


def _value(record: Mapping[str, Any], name: str, place: str) -> str:
    if name not in record or isinstance(record[name], dict | list | None):
        raise DataError(f"{place}: has no text under '{name}', only {', '.join(record)}; name one of them")
    return str(record[name])


def _document(record: Mapping[str, Any], names: tuple[str, ...], place: str) -> str:
    return "-".join(one_line(_value(record, name, place)) for name in names or ("id",))


def _unfit(sentence: str, bounds: Bounds, seen: set[tuple[str, ...]]) -> tuple[str | None, tuple[str, ...]]:
    length = len(sentence.split())
    if length < bounds.shortest or not words(sentence):
        return "too short", ()
    if length > bounds.longest:
        return "too long", ()
    content = said(sentence)
    return ("duplicate" if content in seen else None), content


def _drawn(texts: list[Text], most: int | None, rng: np.random.Generator) -> tuple[Text, ...]:
    if most is None or most >= len(texts):
        return tuple(texts)
    return tuple(texts[i] for i in np.sort(rng.choice(len(texts), most, replace=False)))


def _aligned(plain: Path, styled: Path) -> Iterator[tuple[str, str]]:
    for file in (plain, styled):
        if not file.is_file():
            raise DataError(f"{file}: no such file; give two text files with a sentence a line")
    both = zip_longest(lines(plain), lines(styled))
    for i, (one, other) in enumerate(both, start=1):
        if one is None or other is None:
            short = plain if one is None else styled
            raise DataError(f"{short}: ends before line {i} of the other; the files must be parallel")
        yield one_line(one[1]), one_line(other[1])
