"""Documents from files: plain text, JSON lines, parquet, Arrow, gzipped or not, or a folder of them.

Everything streams: one document at a time is held, whatever the size of the corpus.
"""

from __future__ import annotations

import gzip
import json
import zlib
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geometry.checks import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SUFFIXES = (".txt", ".txt.gz", ".jsonl", ".jsonl.gz", ".parquet", ".arrow")
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

    A JSON line and a row of parquet or Arrow (what ``datasets.save_to_disk`` writes) are a document each; of a
    plain text file each block of lines between two empty ones is one. Nothing is repaired, since a corpus that
    is silently repaired is another corpus.

    Args:
        path: a file or folder, see :func:`files`.
        field: the key (JSON) or column (parquet, Arrow) that holds the text.

    Yields:
        The text of each document as it stands in the file; those of white space alone are passed over.

    Raises:
        DataError: a line that is not UTF-8, is not JSON or lacks the field, with its number; a damaged
            or unreadable file; or no document at all.
    """
    for text, _ in documents_read(path, field=field):
        yield text


def documents_read(path: str | Path, *, field: str = "text") -> Iterator[tuple[str, float]]:
    """Read documents and how far the corpus is read.

    Args:
        path: a file or folder.
        field: as for :func:`documents`.

    Yields:
        The text of each document, and the share of the bytes of the corpus that were read by then, 0 to 1.

    Raises:
        DataError: see :func:`documents`.
    """
    empty, found = True, files(path)
    sizes = [file.stat().st_size for file in found]
    for i, file in enumerate(found):
        reader = _READERS[file.name.removesuffix(".gz").rsplit(".", 1)[-1]]
        for text, share in reader(file, field):
            if text.strip():
                empty = False
                yield text, (sum(sizes[:i]) + share * sizes[i]) / max(1, sum(sizes))
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


def lines(file: Path) -> Iterator[tuple[int, str, float]]:
    """Read a text file, gzipped or not, line by line.

    Args:
        file: the file; a name that ends in ``.gz`` is unpacked.

    Yields:
        Number of the line, from 1; its text with its line end; and the share of the file's bytes read by then.

    Raises:
        DataError: a line that is not UTF-8, or a damaged or unreadable file.
    """
    with _readable(file), file.open("rb") as raw:
        size = max(1, file.stat().st_size)
        raw_lines = gzip.GzipFile(fileobj=raw) if file.suffix == ".gz" else raw
        for number, line in enumerate(raw_lines, start=1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise DataError(f"{file}: line {number} is not UTF-8; convert the file first") from error
            yield number, text, raw.tell() / size


def _json_lines(file: Path, field: str) -> Iterator[tuple[str, float]]:
    for number, line, share in lines(file):
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
        require_characters(file, f"line {number}", record[field])
        yield record[field], share


def _paragraphs(file: Path, _field: str) -> Iterator[tuple[str, float]]:
    block: list[str] = []
    share = 1.0
    for _, line, share in lines(file):
        if line.strip():
            block.append(line)
        elif block:
            yield "".join(block), share
            block = []
    if block:
        yield "".join(block), share


def _parquet(file: Path, field: str) -> Iterator[tuple[str, float]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with _readable(file), pq.ParquetFile(file) as table:
            _require_column(file, field, table.schema_arrow.names)
            batches = (batch.column(0) for batch in table.iter_batches(columns=[field]))
            for row, text in enumerate(_texts(file, field, batches)):
                yield text, row / table.metadata.num_rows
    except pa.ArrowException as error:
        raise DataError(f"{file}: not a parquet file, or a damaged one; fetch it again") from error


def _arrow(file: Path, field: str) -> Iterator[tuple[str, float]]:
    import pyarrow as pa

    try:
        with _readable(file), file.open("rb") as raw, pa.ipc.open_stream(raw) as table:
            _require_column(file, field, table.schema.names)
            size = max(1, file.stat().st_size)
            batches = (batch.column(field) for batch in table)
            for text in _texts(file, field, batches):
                yield text, raw.tell() / size
    except pa.ArrowException as error:
        raise DataError(f"{file}: not an Arrow stream, or a damaged one; fetch it again") from error


def _require_column(file: Path, field: str, names: list[str]) -> None:
    if field not in names:
        raise DataError(f"{file}: has no column '{field}', only {', '.join(names)}; name one of them")


def _texts(file: Path, field: str, batches: Iterable[Any]) -> Iterator[str]:
    """Texts of a column; empty cells are passed over."""
    for row, value in enumerate(chain.from_iterable(batches), start=1):
        try:
            text = value.as_py()
        except UnicodeDecodeError as error:
            raise DataError(f"{file}: row {row} is not UTF-8; convert the file first") from error
        if not isinstance(text, str | None):
            raise DataError(f"{file}: row {row} of '{field}' is no text but {value.type}; name another")
        if text is not None:
            yield text


def require_characters(file: Path, place: str, text: str) -> None:
    r"""Refuse half a surrogate pair: JSON can spell it (``"\ud800"``), but no UTF-8 and no tokenizer can.

    Args:
        file: where the text is from.
        place: where in it, such as ``line 3``.
        text: the text.

    Raises:
        DataError: there is one.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{file}: {place} holds half a surrogate pair, which is no character; mend it"
        ) from error


_READERS = {"jsonl": _json_lines, "txt": _paragraphs, "parquet": _parquet, "arrow": _arrow}
