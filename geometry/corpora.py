"""Documents from files: plain text, JSON lines, parquet, gzipped or not, or a folder of them.

Everything streams: one document at a time is held, whatever the size of the corpus.
"""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

from geometry.checks import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

SUFFIXES = (".txt", ".txt.gz", ".jsonl", ".jsonl.gz", ".parquet")


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
        found = sorted(p for p in path.rglob("*") if p.name.endswith(SUFFIXES))
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

    A JSON line and a parquet row are a document each; of a plain text file each paragraph block between
    two empty lines is one. Bytes that are not UTF-8 are an error, since a corpus that is silently
    repaired is another corpus.

    Args:
        path: a file or folder, see :func:`files`.
        field: the key (JSON) or column (parquet) that holds the text.

    Yields:
        The text of each document; empty ones are passed over.

    Raises:
        DataError: a line that is not JSON, lacks the field or is not UTF-8, with its number; or no
            document at all.
    """
    empty = True
    for file in files(path):
        for text in _READERS[file.name.removesuffix(".gz").rsplit(".", 1)[-1]](file, field):
            if text.strip():
                empty = False
                yield text
    if empty:
        raise DataError(f"{path}: holds no text")


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    opener = gzip.open if file.suffix == ".gz" else Path.open
    with opener(file, "rb") as raw:
        try:
            for number, line in enumerate(io.BufferedReader(raw), start=1):
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{file}: line {number} is not UTF-8; convert the file first") from error
        except (gzip.BadGzipFile, EOFError) as error:
            raise DataError(f"{file}: damaged or incomplete gzip file; fetch it again") from error


def _json_lines(file: Path, field: str) -> Iterator[str]:
    for number, line in _lines(file):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{file}: line {number} is not JSON ({error.msg})") from error
        if not isinstance(record, dict) or not isinstance(record.get(field), str):
            raise DataError(f"{file}: line {number} has no text under the key '{field}'")
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
        table = pq.ParquetFile(file)
    except pa.ArrowInvalid as error:
        raise DataError(f"{file}: not a parquet file") from error
    if field not in table.schema_arrow.names:
        raise DataError(f"{file}: has no column '{field}', only {', '.join(table.schema_arrow.names)}")
    for batch in table.iter_batches(columns=[field]):
        yield from (text for text in batch.column(0).to_pylist() if text is not None)


_READERS = {"jsonl": _json_lines, "txt": _paragraphs, "parquet": _parquet}
