"""Basic English -> King James pairs from a parallel Bible, split by book, for the second reference run.

``python -m benchmarks.kjv_pairs BIBLE.jsonl.gz OUT`` reads lines of ``{"book", "chapter", "verse", "BBE", "KJV"}``
(Carlson et al. 2018, github.com/keithecarlson/StyleTransferBibleData) and writes train, validation and test
JSONL. Nothing of the text is kept in this repository.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from finetune.pairs import records

TEST_BOOKS = ("Ruth", "Jonah", "Mark", "Ecclesiastes", "Esther", "James")
VALIDATION_BOOKS = ("Joel", "Philippians", "Galatians", "Lamentations", "Hosea")
LONGEST = 30
"""Words of the longer side; a small model has little use for longer verses."""

SIZES = {"train": 4800, "validation": 120, "test": 240}


def part_of(book: str) -> str:
    """Say which part a book belongs to."""
    return "test" if book in TEST_BOOKS else "validation" if book in VALIDATION_BOOKS else "train"


def main(bible: str, out: str) -> None:
    """Write the three files; each takes a random sample of its books' verses, in the order of the Bible."""
    parts: dict[str, list[dict[str, str]]] = {part: [] for part in SIZES}
    for _, record in records(bible):
        if record is None or not 4 <= len(record["BBE"].split()) <= LONGEST:
            continue
        if not 4 <= len(record["KJV"].split()) <= LONGEST or record["BBE"] == record["KJV"]:
            continue
        place = f"{record['book']}-{record['chapter']}-{record['verse']}"
        pair = {"id": place, "doc_id": f"{record['book']}-{record['chapter']}"}
        parts[part_of(record["book"])].append(pair | {"source": record["BBE"], "target": record["KJV"]})
    Path(out).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for part, pairs in parts.items():
        chosen = sorted(rng.permutation(len(pairs))[: SIZES[part]])
        lines = [json.dumps(pairs[i], ensure_ascii=False) + "\n" for i in chosen]
        (Path(out) / f"kjv-{part}.jsonl").write_text("".join(lines), encoding="utf-8")
        print(f"{part}: {len(lines)} of {len(pairs)} pairs")


if __name__ == "__main__":
    main(*sys.argv[1:])
