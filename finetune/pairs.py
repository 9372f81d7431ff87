"""Texts for training and for comparing: sentence pairs and plain texts, one JSON object a line.

Nothing is dropped in silence. A line that is not what it should be stops the reading, and names its
number; a line that is empty or says again what an earlier one said is set aside and counted.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from finetune.prompts import completion, one_line, render
from geometry.checks import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


@dataclass(frozen=True)
class Pair:
    """One sentence in two styles.

    Attributes:
        id: unique in its file.
        doc_id: the document that it comes from; a split never cuts a document in two.
        source: the plain text.
        target: the same content in the style to learn.
    """

    id: str
    doc_id: str
    source: str
    target: str


@dataclass(frozen=True)
class Text:
    """One text to run through a model.

    Attributes:
        id: unique in its file.
        doc_id: the document that it comes from.
        text: what the model reads.
        answer_from: index of the character at which the answer begins, its leading space included;
            0 where the text is all of one kind.
    """

    id: str
    doc_id: str
    text: str
    answer_from: int = 0


@dataclass(frozen=True)
class Refused:
    """A line that was set aside: its number in the file, from 1, and the reason."""

    line: int
    reason: str


@dataclass(frozen=True)
class Pairs:
    """What a file of pairs held: the pairs in file order, and the lines that were set aside."""

    pairs: tuple[Pair, ...]
    refused: tuple[Refused, ...] = field(default=())

    @property
    def digest(self) -> str:
        """SHA-256 over ids, documents and texts in order, in 64 hexadecimal digits."""
        return _digest([[p.id, p.doc_id, p.source, p.target] for p in self.pairs])


@dataclass(frozen=True)
class Texts:
    """What a file of texts held: the texts in file order, and the lines that were set aside."""

    texts: tuple[Text, ...]
    refused: tuple[Refused, ...] = field(default=())

    @property
    def digest(self) -> str:
        """SHA-256 over ids, documents and texts in order, in 64 hexadecimal digits."""
        return _digest([[t.id, t.doc_id, t.text, t.answer_from] for t in self.texts])


def read_pairs(path: str | Path) -> Pairs:
    """Read sentence pairs: ``{"id", "doc_id", "source", "target"}`` a line, plain or gzipped.

    Other keys are allowed and ignored. A pair is empty when its source or target has no visible
    character, and a duplicate when an earlier line has the same source and target.

    Args:
        path: a ``.jsonl`` file, gzipped or not.

    Returns:
        The pairs and the lines that were set aside.

    Raises:
        DataError: the file is missing, unreadable, holds no usable pair, has a line that is not such an
            object, or gives one id to two different pairs.
    """
    pairs, refused, ids, seen = [], [], {}, {}
    for number, record in records(path):
        if record is None:
            refused.append(Refused(number, "empty line"))
            continue
        pair = Pair(*(_value(path, number, record, key) for key in ("id", "doc_id", "source", "target")))
        content = (one_line(pair.source), one_line(pair.target))
        if not all(content):
            refused.append(Refused(number, f"pair {pair.id} is empty"))
        elif content in seen:
            refused.append(Refused(number, f"pair {pair.id} says again what line {seen[content]} says"))
        else:
            _claim_id(path, number, pair.id, ids)
            seen[content] = number
            pairs.append(pair)
    if not pairs:
        raise DataError(f'{path}: holds no pair; write one {{"id", "doc_id", "source", "target"}} a line')
    return Pairs(tuple(pairs), tuple(refused))


def read_texts(path: str | Path) -> Texts:
    """Read texts to run through a model, plain or gzipped, one object a line in any of three forms.

    ``{"id", "text"}`` is read as it is. ``{"id", "prompt", "answer"}`` (a fact) becomes the prompt, a
    space and the answer. ``{"id", "source", "target"}`` (a style pair) becomes the prompt of
    :func:`finetune.prompts.render` with its answer: the very text on which an adapter was trained. The
    key ``doc_id`` may be left out; then each text is a document of its own. Other keys are ignored.

    Args:
        path: a ``.jsonl`` file, gzipped or not.

    Returns:
        The texts and the lines that were set aside as empty or as duplicates.

    Raises:
        DataError: the file is missing, unreadable, holds no usable text, has a line of another form, or
            gives one id to two different texts.
    """
    texts, refused, ids, seen = [], [], {}, {}
    for number, record in records(path):
        if record is None:
            refused.append(Refused(number, "empty line"))
            continue
        text = _text(path, number, record)
        if not text.text[text.answer_from :].strip() or not text.text.strip():
            refused.append(Refused(number, f"text {text.id} is empty"))
        elif text.text in seen:
            refused.append(Refused(number, f"text {text.id} says again what line {seen[text.text]} says"))
        else:
            _claim_id(path, number, text.id, ids)
            seen[text.text] = number
            texts.append(text)
    if not texts:
        raise DataError(f'{path}: holds no text; write one {{"id", "text"}} a line')
    return Texts(tuple(texts), tuple(refused))


def split_by_document(
    pairs: Sequence[Pair], shares: Mapping[str, float], seed: int
) -> dict[str, tuple[Pair, ...]]:
    """Split pairs into named parts so that no document is in two of them.

    Documents are shuffled by ``seed`` and dealt out one after another; each goes to the part that lacks
    most of its share of the pairs. Within a part the pairs keep their order.

    Args:
        pairs: the pairs to split.
        shares: name of each part and its share, in (0, 1]; they sum to 1.
        seed: of the shuffle.

    Returns:
        The pairs of each part, in the order of ``shares``; every part has at least one document.

    Raises:
        DataError: a share is not positive, they do not sum to 1, or there are fewer documents than parts.

    Examples:
        >>> few = [Pair(str(i), f"d{i // 2}", "a", "b") for i in range(8)]
        >>> parts = split_by_document(few, {"train": 0.5, "test": 0.5}, seed=0)
        >>> len(parts["train"]), len(parts["test"])
        (4, 4)
    """
    if any(share <= 0 for share in shares.values()) or abs(sum(shares.values()) - 1) > 1e-6:
        raise DataError(f"shares {dict(shares)}: each must be above 0 and together they must make 1")
    documents: dict[str, int] = {}
    for pair in pairs:
        documents[pair.doc_id] = documents.get(pair.doc_id, 0) + 1
    if len(documents) < len(shares):
        raise DataError(f"{len(documents)} documents cannot be split into {len(shares)} parts; add documents")
    order = np.random.default_rng(seed).permutation(len(documents))
    names = list(documents)
    lacking = {part: share * len(pairs) for part, share in shares.items()}
    part_of, unserved = {}, list(shares)
    for left, document in zip(range(len(names), 0, -1), (names[i] for i in order), strict=True):
        candidates = unserved if left <= len(unserved) else list(shares)
        part = max(candidates, key=lacking.__getitem__)
        part_of[document] = part
        lacking[part] -= documents[document]
        if part in unserved:
            unserved.remove(part)
    return {part: tuple(p for p in pairs if part_of[p.doc_id] == part) for part in shares}


def records(path: str | Path) -> Iterator[tuple[int, dict | None]]:
    """Read a file of JSON objects, one a line, plain or gzipped.

    Args:
        path: the file.

    Yields:
        The line's number, from 1, and its object; None for a line of white space.

    Raises:
        DataError: the file is missing, cannot be read as text, or a line is not a JSON object.
    """
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            yield number, None
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}, line {number}: not JSON ({error.msg}); mend the line") from error
        if not isinstance(record, dict):
            raise DataError(f"{path}, line {number}: expected an object, got {type(record).__name__}")
        yield number, record


def _lines(path: str | Path) -> list[str]:
    try:
        raw = Path(path).read_bytes()
        if raw[:2] == b"\x1f\x8b":
            raw = gzip.decompress(raw)
        return raw.decode("utf-8-sig").split("\n")[: None if raw[-1:] not in {b"\n", b""} else -1]
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; check the path") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text (byte {error.start}); save it as UTF-8") from error


def _value(path: str | Path, number: int, record: dict, key: str) -> str:
    if key not in record:
        raise DataError(f'{path}, line {number}: the key "{key}" is missing')
    value = record[key]
    if key in {"id", "doc_id"} and type(value) is int:
        value = str(value)
    if not isinstance(value, str):
        raise DataError(f'{path}, line {number}: "{key}" must be a string, got {type(value).__name__}')
    return value


def _text(path: str | Path, number: int, record: dict) -> Text:
    identity = _value(path, number, record, "id")
    document = _value(path, number, record, "doc_id") if "doc_id" in record else identity
    if "text" in record:
        return Text(identity, document, _value(path, number, record, "text"))
    if "prompt" in record:
        prompt = _value(path, number, record, "prompt").rstrip()
        return Text(
            identity, document, prompt + completion(_value(path, number, record, "answer")), len(prompt)
        )
    if "source" in record:
        prompt = render(_value(path, number, record, "source"))
        return Text(
            identity, document, prompt + completion(_value(path, number, record, "target")), len(prompt)
        )
    raise DataError(f'{path}, line {number}: has no "text", no "prompt" with "answer", no "source"')


def _claim_id(path: str | Path, number: int, identity: str, ids: dict[str, int]) -> None:
    if identity in ids:
        raise DataError(
            f'{path}, line {number}: the id "{identity}" is already on line {ids[identity]}; ids must differ'
        )
    ids[identity] = number


def _digest(rows: list[list[str | int]]) -> str:
    return hashlib.sha256(json.dumps(rows, ensure_ascii=True).encode()).hexdigest()
