"""Counts as a folder: arrays that are written piece by piece and read as memory maps.

The folder holds ``indptr.npy``, ``indices.npy``, ``data.npy`` (the upper half, int64), ``unigrams.npy``,
``words.txt`` and ``counts.json``; counts of blocks of its documents lie in folders of the same kind, ``blocks/00``
and on. NumPy's own format is used, since a map of it is an array at once: a matrix is never copied, neither to write
it nor to look at a few of its words.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geometry.checks import DataError
from geometry.cooccurrence import Cooccurrence, PairCounter, upper_half
from geometry.weightings import Weighting

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

ARRAYS = ("indptr", "indices", "data", "unigrams")
FORMAT = 1


def write_counts(
    folder: str | Path, counter: PairCounter, words: Sequence[str], notes: Mapping[str, Any]
) -> None:
    """Write counts.

    Args:
        folder: there already; files in it are replaced.
        counter: what was counted.
        words: what its numbers stand for.
        notes: JSON values to keep beside: how the text was cut, what was read.
    """
    folder, rows = Path(folder), counter.rows()
    counted = [np.diff(ends) for ends, _, _ in rows]
    indptr = np.concatenate([[0], np.cumsum(np.concatenate(counted))])
    _save(folder / "indices.npy", (indices for _, indices, _ in rows), "<i4", int(indptr[-1]))
    _save(folder / "data.npy", (data for _, _, data in rows), "<i8", int(indptr[-1]))
    np.save(folder / "indptr.npy", indptr)
    np.save(folder / "unigrams.npy", counter.unigrams)
    (folder / "words.txt").write_text("".join(f"{word}\n" for word in words), encoding="utf-8")
    weighting = counter.weighting
    record = {
        "format": FORMAT,
        "tokens": counter.tokens,
        "total": counter.total,
        "weighting": {"name": weighting.name, "steps": list(weighting.steps), "unit": weighting.unit},
        **notes,
    }
    (folder / "counts.json").write_text(json.dumps(record, indent=1, ensure_ascii=False), encoding="utf-8")


def read_counts(folder: str | Path) -> Cooccurrence:
    """Read counts; the matrix stays on disk and is read where it is used.

    Args:
        folder: that :func:`write_counts` wrote.

    Returns:
        The counts.

    Raises:
        DataError: the folder holds no counts, or damaged ones.
    """
    arrays, record = _read(folder)
    upper = upper_half(arrays["indptr"], arrays["indices"], arrays["data"])
    tokens, total = record["tokens"], record["total"]
    return Cooccurrence(read_words(folder), upper, arrays["unigrams"], tokens, total, _weighting(record))


def read_counter(folder: str | Path, *, threads: int = 1) -> PairCounter:
    """Read counts to add more to them.

    Args:
        folder: that :func:`write_counts` wrote; it is not changed.
        threads: of the counter.

    Raises:
        DataError: the folder holds no counts, or damaged ones.
    """
    arrays, record = _read(folder)
    weighting = _weighting(record)
    state = arrays | {
        "tokens": [record["tokens"]],
        "total": [record["total"]],
        "steps": list(weighting.steps),
        "unit": [weighting.unit],
    }
    return PairCounter.from_state(state, weighting.name, threads=threads)


def write_blocks(folder: str | Path, counters: Sequence[PairCounter], words: Sequence[str]) -> None:
    """Write the counts of blocks of documents into a folder of counts.

    Args:
        folder: there already, without such blocks.
        counters: one a block, over the same words.
        words: what their numbers stand for.
    """
    for number, counter in enumerate(counters):
        place = Path(folder) / "blocks" / f"{number:02d}"
        place.mkdir(parents=True)
        write_counts(place, counter, words, {})


def read_blocks(folder: str | Path) -> tuple[Cooccurrence, ...]:
    """Read the counts of blocks of documents.

    Args:
        folder: of counts.

    Returns:
        One a block; none where the documents were not counted in blocks.

    Raises:
        DataError: one of them is damaged.
    """
    return tuple(read_counts(place) for place in _blocks(folder))


def read_block_counters(folder: str | Path) -> list[PairCounter]:
    """Read the counts of blocks of documents to add more to them; see :func:`read_blocks`."""
    return [read_counter(place) for place in _blocks(folder)]


def read_words(folder: str | Path) -> tuple[str, ...]:
    """Read the vocabulary of counts.

    Raises:
        DataError: the folder holds no counts.
    """
    return tuple(_text(Path(folder) / "words.txt").splitlines())


def read_notes(folder: str | Path) -> dict[str, Any]:
    """Read how counts were made.

    Raises:
        DataError: the folder holds no counts, or of another version of the format.
    """
    text = _text(Path(folder) / "counts.json")
    try:
        record = json.loads(text)
    except ValueError as error:
        raise DataError(f"{folder}: its counts.json is damaged; count again") from error
    if record.get("format") != FORMAT:
        raise DataError(f"{folder}: was counted by another version; count again")
    return record


def _blocks(folder: str | Path) -> list[Path]:
    return sorted((Path(folder) / "blocks").glob("*"))


def _read(folder: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    record, size = read_notes(folder), len(read_words(folder))
    try:
        # copy-on-write: an ordinary array to compiled code, and the file stays what it is
        arrays = {name: np.load(Path(folder) / f"{name}.npy", mmap_mode="c") for name in ARRAYS}
    except (OSError, ValueError) as error:
        raise DataError(f"{folder}: an array of the counts is missing or damaged; count again") from error
    ends, entries = arrays["indptr"], len(arrays["data"])
    if not (
        len(ends) - 1 == len(arrays["unigrams"]) == size and entries == len(arrays["indices"]) == ends[-1]
    ):
        raise DataError(f"{folder}: its arrays do not fit together; count again")
    return arrays, record


def _weighting(record: dict[str, Any]) -> Weighting:
    made = record["weighting"]
    return Weighting(made["name"], tuple(made["steps"]), made["unit"])


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path.parent}: holds no counts; make them with repgeo count") from error


def _save(path: Path, parts: Iterable[np.ndarray], dtype: str, entries: int) -> None:
    """Write parts as one array; the whole of it is never held."""
    header = {"descr": dtype, "fortran_order": False, "shape": (entries,)}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for part in parts:
            file.write(np.ascontiguousarray(part, dtype).data)
