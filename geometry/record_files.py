"""Records from files: JSON lines, JSON, tables of columns, PubTator, plain text; gzipped or not.

A record is a mapping of names to values, whatever the file. Everything but ``.json`` streams.
"""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geometry.checks import DataError
from geometry.corpora import lines, require_characters

if TYPE_CHECKING:
    from collections.abc import Iterator

RECORD_SUFFIXES = (".jsonl", ".json", ".tsv", ".csv", ".txt", ".pubtator")
"""The ends of file names that are read, in lower case; each may be followed by ``.gz``."""

WIDEST_CELL = 1 << 27
"""Characters of the longest cell of a ``.csv``; Python's own limit of 131,072 is short for a document."""

_PUBTATOR = re.compile(r"([^|\t]+)\|([a-z])\|(.*)", re.DOTALL)


def record_files(path: str | Path) -> list[Path]:
    """List the files of records at a path, in a fixed order.

    Args:
        path: one file, or a folder that is searched through all its depths.

    Returns:
        The file, or every file below the folder whose name ends as one of ``RECORD_SUFFIXES``, sorted.

    Raises:
        DataError: nothing there, or nothing that can be read.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; give the path of a corpus")
    found = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    known = [p for p in found if p.name.removesuffix(".gz").endswith(RECORD_SUFFIXES)]
    if not known:
        raise DataError(f"{path}: expected a name that ends in one of {', '.join(RECORD_SUFFIXES)}")
    return known


def records(path: str | Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Read the records of a file or folder.

    - ``.jsonl``: an object a line. ``.json``: a list of objects, or an object of objects.
    - ``.tsv``: no header; columns are called 1, 2, 3. ``.csv``: the first row names the columns.
    - ``.txt``: the whole file is one record ``{"text"}``, unless its first line is PubTator's.
    - PubTator (Wei et al. 2013): ``{"id", "title", "abstract", "text"}``; text is both; annotations are left out.

    Args:
        path: see :func:`record_files`.

    Yields:
        The place of the record, for messages, and the record. A record without an ``id`` gets the name of its
        file and its number, which no other record of the path has.

    Raises:
        DataError: a file that cannot be read as what its name says, with the line.
    """
    for file in record_files(path):
        kind = file.name.removesuffix(".gz").rsplit(".", 1)[-1]
        stem = file.name.removesuffix(".gz").rsplit(".", 1)[0]
        for number, (place, record) in enumerate(_READERS[kind](file), start=1):
            for value in record.values():
                if isinstance(value, str):
                    require_characters(file, place, value)
            yield f"{file}, {place}", {"id": f"{stem}:{number}"} | record


def _json_lines(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line, _ in lines(file):
        if line.strip():
            yield f"line {number}", _object(_parsed(file, f"line {number}", line), file, f"line {number}")


def _json(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    content = _parsed(file, "the file", "".join(line for _, line, _ in lines(file)))
    if isinstance(content, dict):
        for key, value in content.items():
            yield f"'{key}'", {"id": key} | _object(value, file, f"'{key}'")
    elif isinstance(content, list):
        for number, value in enumerate(content, start=1):
            yield f"item {number}", _object(value, file, f"item {number}")
    else:
        raise DataError(f"{file}: expected a list of objects, got {type(content).__name__}")


def _parsed(file: Path, place: str, text: str) -> Any:
    try:
        return json.loads(text)
    # besides JSONDecodeError: thousands of brackets, or a number of thousands of digits
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: {place} is not JSON that can be read; mend it") from error


def _object(value: object, file: Path, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"{file}: {place} holds no object but {type(value).__name__}; write {{...}}")
    return value


def _tsv(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line, _ in lines(file):
        if line.strip():
            cells = line.rstrip("\r\n").split("\t")
            yield f"line {number}", {str(i): cell for i, cell in enumerate(cells, start=1)}


def _csv(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    before = csv.field_size_limit(WIDEST_CELL)
    try:
        rows = csv.reader((line for _, line, _ in lines(file)), strict=True)
        header = next(rows, [])
        for row in rows:
            if row and len(row) != len(header):
                raise DataError(
                    f"{file}: line {rows.line_num} has {len(row)} cells, the header {len(header)}; mend it"
                )
            if row:
                yield f"line {rows.line_num}", dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise DataError(f"{file}: line {rows.line_num} is not CSV ({error}); mend it") from error
    finally:
        csv.field_size_limit(before)


def _text(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    content = [line for _, line, _ in lines(file)]
    first = next((line for line in content if line.strip()), "")
    if _PUBTATOR.fullmatch(first):
        yield from _pubtator(file, content)
    elif first:
        yield "the file", {"text": "".join(content)}


def _pubtator_file(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    yield from _pubtator(file, [line for _, line, _ in lines(file)])


def _pubtator(file: Path, content: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    names = {"t": "title", "a": "abstract"}
    document: dict[str, Any] = {}
    for number, line in enumerate([*content, ""], start=1):
        if not line.strip():
            if document:
                parts = [document[name] for name in names.values() if document.get(name)]
                yield f"document {document['id']}", {**document, "text": "\n\n".join(parts)}
            document = {}
        elif match := _PUBTATOR.fullmatch(line.rstrip("\r\n")):
            identity, kind, text = match.groups()
            document |= {"id": identity, names.get(kind, kind): text}
        elif "\t" not in line:
            raise DataError(f"{file}: line {number} is not PubTator's id|t|title, id|a|abstract or a mention")


_READERS = {
    "jsonl": _json_lines,
    "json": _json,
    "tsv": _tsv,
    "csv": _csv,
    "txt": _text,
    "pubtator": _pubtator_file,
}
