"""A folder of pairs: train, validation and test in files of their own, no document in two of them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.folders import write_whole
from finetune.leaks import leaks, repeats
from finetune.pairs import split_by_document
from geometry.checks import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from finetune.pairs import Pair

NOTE = "pairs.json"
"""The file in the folder that says how it was made."""

SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}


@dataclass(frozen=True)
class Parts:
    """Pairs in three parts, and what is known of them.

    Attributes:
        pairs: part -> its pairs.
        note: how they were made, as JSON values.
        provenance: id of a pair -> what is written beside it, as JSON values.
    """

    pairs: Mapping[str, Sequence[Pair]]
    note: Mapping[str, Any]
    provenance: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, Any]:
        """Pairs, documents and repeated targets of each part, and what each two parts share."""
        return {
            "parts": {
                part: {
                    "pairs": len(p),
                    "documents": len({x.doc_id for x in p}),
                    "repeated_targets": repeats(p),
                }
                for part, p in self.pairs.items()
            },
            "leaks": leaks(self.pairs),
        }


def dealt(pairs: Sequence[Pair], seed: int) -> dict[str, tuple[Pair, ...]]:
    """Deal documents into training, validation and test by ``SHARES``.

    Raises:
        DataError: there are fewer documents than parts.
    """
    try:
        return split_by_document(pairs, SHARES, seed)
    except DataError as error:
        raise DataError(
            f"{len(pairs)} pairs of {len({p.doc_id for p in pairs})} documents cannot make training, validation and "
            "test; give more text, or cut documents into smaller blocks with --block"
        ) from error


def write_parts(folder: Path, parts: Parts) -> None:
    """Write ``train.jsonl``, ``validation.jsonl``, ``test.jsonl`` and ``pairs.json`` into a folder.

    Raises:
        InputError: the place cannot be written.
    """
    for part, pairs in parts.pairs.items():
        write_lines(folder / f"{part}.jsonl", [vars(p) | dict(parts.provenance.get(p.id, {})) for p in pairs])
    write_whole(folder / NOTE, json.dumps({**parts.note, **parts.counts}, indent=1, sort_keys=True))


def write_lines(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Write records as JSON lines.

    Raises:
        InputError: the place cannot be written.
    """
    write_whole(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))


def part_files(folder: str | Path) -> dict[str, Path]:
    """Return the three files of a folder of pairs.

    Raises:
        DataError: one is missing.
    """
    files = {part: Path(folder) / f"{part}.jsonl" for part in SHARES}
    for path in files.values():
        if not path.is_file():
            raise DataError(f"{path}: no such file; make the folder with repgeo pairs or repgeo neutralise")
    return files
