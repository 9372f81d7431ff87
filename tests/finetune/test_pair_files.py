import json

import pytest

from finetune.pair_files import Parts, dealt, part_files, write_parts
from finetune.pairs import Pair, read_pairs
from geometry.checks import DataError

PAIRS = [Pair(str(i), f"d{i // 5}", f"plain {i}", f"styled {i} 漢字\u2028 <b>") for i in range(100)]


def test_what_is_written_is_read_again_with_its_origin(tmp_path):
    parts = Parts(dealt(PAIRS, 0), {"made": "so"}, {"3": {"engine": "e"}})
    write_parts(tmp_path, parts)
    read = {part: read_pairs(path).pairs for part, path in part_files(tmp_path).items()}
    assert read == parts.pairs
    assert sorted(p.id for pairs in read.values() for p in pairs) == sorted(p.id for p in PAIRS)
    lines = "".join(path.read_text() for path in part_files(tmp_path).values())
    assert lines.count('"engine": "e"') == 1
    note = json.loads((tmp_path / "pairs.json").read_text())
    assert note["made"] == "so"
    assert note["parts"]["train"] == {"pairs": 80, "documents": 16, "repeated_targets": 0}
    assert [(one["earlier"], one["later"], one["document"]) for one in note["leaks"]] == [
        ("train", "validation", 0), ("train", "test", 0), ("validation", "test", 0),
    ]  # fmt: skip


def test_too_few_documents_say_what_helps():
    with pytest.raises(DataError, match=r"5 pairs of 1 documents cannot make .* --block"):
        dealt(PAIRS[:5], 0)


def test_a_folder_without_parts_says_how_to_make_one(tmp_path):
    with pytest.raises(DataError, match=r"train.jsonl: no such file; make the folder with repgeo pairs"):
        part_files(tmp_path)
