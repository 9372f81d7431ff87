import gzip
import json

import pytest

from geometry.checks import DataError
from geometry.record_files import record_files, records

PUBTATOR = "7|t|A gene.\n7|a|It causes HD. It does.\n7\t2\t6\tgene\tDisease\tD1\n\n8|t|Two.\n8|a|\n"


def write(path, content):
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def read(path):
    return [record for _, record in records(path)]


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.jsonl", '{"text": "one"}\n\n{"id": 3, "text": "two"}\n', [("a:1", "one"), (3, "two")]),
        ("a.json", '[{"text": "one"}, {"text": "two"}]', [("a:1", "one"), ("a:2", "two")]),
        ("a.json", '{"x": {"text": "one"}, "y": {"text": "two"}}', [("x", "one"), ("y", "two")]),
        ("a.csv", 'id,text\n1,"one, ""two"""\n2,two\n', [("1", 'one, "two"'), ("2", "two")]),
        ("a.txt", "one\n\ntwo\n", [("a:1", "one\n\ntwo\n")]),
    ],
)
def test_every_form_becomes_records(tmp_path, name, content, expected, suffix):
    path = write(tmp_path / f"{name}{suffix}", content)
    assert [(record["id"], record["text"]) for record in read(path)] == expected


def test_columns_without_a_header_have_numbers_and_quotes_mean_nothing(tmp_path):
    path = write(tmp_path / "a.tsv", 'he said "no\tnay, "quoth he\r\n\na\tb\tc\n')
    assert read(path) == [
        {"id": "a:1", "1": 'he said "no', "2": 'nay, "quoth he'},
        {"id": "a:2", "1": "a", "2": "b", "3": "c"},
    ]


@pytest.mark.parametrize("name", ["a.pubtator", "a.pubtator.txt.gz", "a.txt"])
def test_pubtator_gives_title_and_abstract_without_annotations(tmp_path, name):
    first, second = read(write(tmp_path / name, PUBTATOR))
    assert first == {
        "id": "7", "title": "A gene.", "abstract": "It causes HD. It does.",
        "text": "A gene.\n\nIt causes HD. It does.",
    }  # fmt: skip
    assert second["text"] == "Two."


def test_a_folder_is_read_in_order_and_ids_do_not_repeat(tmp_path):
    for name in ("b.txt", "a.txt"):
        write(tmp_path / name, name)
    write(tmp_path / "notes.md", "not a corpus")
    assert [file.name for file in record_files(tmp_path)] == ["a.txt", "b.txt"]
    assert [record["id"] for record in read(tmp_path)] == ["a:1", "b:1"]


def test_hostile_text_is_left_as_it_is(tmp_path):
    hostile = "null \0 bell \7 <b>&amp;</b> $(touch x) 漢字 \u2028 " + "a" * 200_000
    path = write(tmp_path / "a.jsonl", json.dumps({"text": hostile}) + "\n")
    assert read(path)[0]["text"] == hostile
    rows = f'text\n"{hostile.replace(chr(0), "")}"\n'
    assert read(write(tmp_path / "a.csv", rows))[0]["text"] == hostile.replace("\0", "")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"text": "one"}\nnot json\n', "line 2 is not JSON"),
        ("a.jsonl", "[1]\n", "line 1 holds no object but list"),
        ("a.jsonl", '{"text": "\\ud800"}\n', "half a surrogate pair"),
        ("a.json", "3", "expected a list of objects, got int"),
        ("a.json", '{"x": 3}', "'x' holds no object but int"),
        ("a.json", "[3]", "item 1 holds no object but int"),
        ("a.csv", "a,b\n1\n", "line 2 has 1 cells, the header 2"),
        ("a.csv", 'a,b\n"1" 2,3\n', "line 2 is not CSV"),
        ("a.pubtator", "7|t|A.\nwhat is this\n", "line 2 is not PubTator"),
        ("a.txt", b"\xff\xfe", "not UTF-8"),
        ("a.pdf", "%PDF", "expected a name that ends in one of .jsonl"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, name, content, message):
    with pytest.raises(DataError, match=message) as caught:
        read(write(tmp_path / name, content))
    assert "\n" not in str(caught.value)


def test_nothing_there(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        record_files(tmp_path / "none")
