"""Documents from files: plain text, JSON lines, parquet, gzipped or not, or a folder of them.

Everything streams: one document at a time is held, whatever the size of the corpus.
"""

from __future__ import annotations

import gzip
import json
import zlib
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from geometry.checks import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

SUFFIXES = (".txt", ".txt.gz", ".jsonl", ".jsonl.gz", ".parquet")
"""The ends of file names that are read, in lower case."""


def files(path: str | Path) -> list[Path]:
    """List the corpus files at a path, in a fixed order.

    Args:
        path: one file, or a folder that is searched through all its depths.

    Returns:
        The file itself, or every file below the folder whose name ends as one of ``SUFFIXES``, sorted.

    Raises:
        DataError: nothing there, or nothing in it that is a corpus.
    """
    path = Path(path)
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.name.endswith(SUFFIXES) and p.is_file())
        if not found:
            raise DataError(f"{path}: no file in it ends in one of {', '.join(SUFFIXES)}")
        return found
    if not path.is_file():
        raise DataError(f"{path}: no such file or folder; give the path of a corpus")
    if not path.name.endswith(SUFFIXES):
        raise DataError(f"{path}: expected a name that ends in one of {', '.join(SUFFIXES)}")
    return [path]


def documents(path: str | Path, *, field: str = "text") -> Iterator[str]:
    """Read the documents of a corpus one after the other.

    A JSON line and a parquet row are a document each; of a plain text file each block of lines between
    two empty ones is one. Nothing is repaired, since a corpus that is silently repaired is another corpus.

    Args:
        path: a file or folder, see :func:`files`.
        field: the key (JSON) or column (parquet) that holds the text.

    Yields:
        The text of each document as it stands in the file; those of white space alone are passed over.

    Raises:
        DataError: a line that is not UTF-8, is not JSON or lacks the field, with its number; a damaged
            or unreadable file; or no document at all.
    """
    empty = True
    for file in files(path):
        reader = _READERS[file.name.removesuffix(".gz").rsplit(".", 1)[-1]]
        for text in reader(file, field):
            if text.strip():
                empty = False
                yield text
    if empty:
        raise DataError(f"{path}: holds no text; give a corpus with at least one document")


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    """Turn what the machine says about a file into one line."""
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{file}: damaged or incomplete gzip file; fetch it again") from error
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror or error}); check the file") from error


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    opener = gzip.open if file.suffix == ".gz" else Path.open
    with _readable(file), opener(file, "rb") as raw:
        for number, line in enumerate(raw, start=1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise DataError(f"{file}: line {number} is not UTF-8; convert the file first") from error
            yield number, text


def _json_lines(file: Path, field: str) -> Iterator[str]:
    for number, line in _lines(file):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        # besides JSONDecodeError: thousands of brackets, or a number of thousands of digits
        except (ValueError, RecursionError) as error:
            raise DataError(f"{file}: line {number} is not JSON that can be read; mend the line") from error
        if not isinstance(record, dict) or not isinstance(record.get(field), str):
            raise DataError(
                f"{file}: line {number} has no text under the key '{field}'; add it or drop the line"
            )
        _require_characters(file, f"line {number}", record[field])
        yield record[field]


def _paragraphs(file: Path, _field: str) -> Iterator[str]:
    block: list[str] = []
    for _, line in _lines(file):
        if line.strip():
            block.append(line)
        elif block:
            yield "".join(block)
            block = []
    if block:
        yield "".join(block)


def _parquet(file: Path, field: str) -> Iterator[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with _readable(file), pq.ParquetFile(file) as table:
            names = table.schema_arrow.names
            if field not in names:
                raise DataError(f"{file}: has no column '{field}', only {', '.join(names)}; name one of them")
            values = chain.from_iterable(batch.column(0) for batch in table.iter_batches(columns=[field]))
            for row, value in enumerate(values, start=1):
                text = value.as_py()
                if not isinstance(text, str | None):
                    raise DataError(
                        f"{file}: row {row} of '{field}' is no text but {value.type}; name another"
                    )
                if text is not None:
                    yield text
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: row {row} is not UTF-8; convert the file first") from error
    except pa.ArrowException as error:
        raise DataError(f"{file}: not a parquet file, or a damaged one; fetch it again") from error


def _require_characters(file: Path, place: str, text: str) -> None:
    r"""Refuse half a surrogate pair: JSON can spell it (``"\ud800"``), but no UTF-8 and no tokenizer can."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{file}: {place} holds half a surrogate pair, which is no character; mend it"
        ) from error


_READERS = {"jsonl": _json_lines, "txt": _paragraphs, "parquet": _parquet}
