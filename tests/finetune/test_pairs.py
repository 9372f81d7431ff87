import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.pairs import Pair, read_pairs, read_texts, split_by_document
from geometry.checks import DataError

GOOD = {"id": "a", "doc_id": "d", "source": "It rained.", "target": "It did rain."}


def written(path, *lines):
    path.write_text("".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines))
    return path


def test_pairs_come_back_in_order(tmp_path):
    second = GOOD | {"id": 7, "source": "Ünïcode\u2028here.", "note": "kept out"}
    got = read_pairs(written(tmp_path / "p.jsonl", GOOD, json.dumps(second, ensure_ascii=False)))
    assert got.pairs == (
        Pair(**GOOD),
        Pair("7", "d", "Ünïcode\u2028here.", "It did rain."),
    )
    assert got.refused == ()


def test_gzip_reads_the_same_whatever_its_name(tmp_path):
    plain = written(tmp_path / "p.jsonl", GOOD)
    packed = tmp_path / "q.jsonl"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert read_pairs(packed) == read_pairs(plain)
    assert read_pairs(packed).digest == read_pairs(plain).digest


def test_a_file_without_a_last_newline_has_the_same_lines(tmp_path):
    whole = written(tmp_path / "p.jsonl", GOOD)
    cut = tmp_path / "q.jsonl"
    cut.write_bytes(whole.read_bytes().rstrip(b"\n"))
    assert read_pairs(cut) == read_pairs(whole)


def test_what_is_set_aside_is_counted_with_its_line(tmp_path):
    path = written(
        tmp_path / "p.jsonl",
        GOOD,
        "  ",
        GOOD | {"id": "b", "target": " \n"},
        GOOD | {"source": "It  rained."},
    )
    got = read_pairs(path)
    assert len(got.pairs) == 1
    assert [r.line for r in got.refused] == [2, 3, 4]
    assert "empty line" in got.refused[0].reason
    assert "b is empty" in got.refused[1].reason
    assert "line 1" in got.refused[2].reason


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not JSON"),
        ("[1]", "line 2: expected an object, got list"),
        ({"id": "b", "doc_id": "d", "source": "x"}, 'line 2: the key "target" is missing'),
        (GOOD | {"id": "b", "source": 3}, 'line 2: "source" must be a string, got int'),
        (GOOD | {"id": True}, 'line 2: "id" must be a string, got bool'),
        (GOOD | {"source": "Another."}, 'line 2: the id "a" is already on line 1'),
    ],
)
def test_a_malformed_line_is_named(tmp_path, line, message):
    with pytest.raises(DataError, match=message) as refusal:
        read_pairs(written(tmp_path / "p.jsonl", GOOD, line))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("read", [read_pairs, read_texts])
def test_unreadable_files_are_refused(tmp_path, read):
    with pytest.raises(DataError, match="no such file"):
        read(tmp_path / "missing")
    with pytest.raises(DataError, match="cannot be read"):
        read(tmp_path)
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(DataError, match="holds no"):
        read(tmp_path / "empty")
    (tmp_path / "latin").write_bytes("é".encode("latin-1"))
    with pytest.raises(DataError, match="UTF-8"):
        read(tmp_path / "latin")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(json.dumps(GOOD).encode() * 99)[:-20])
    with pytest.raises(DataError, match="cannot be read"):
        read(tmp_path / "cut.gz")


def test_texts_of_three_forms(tmp_path):
    path = written(
        tmp_path / "t.jsonl",
        {"id": "1", "text": "Plain text."},
        {"id": "2", "doc_id": "d", "prompt": "The capital of France is ", "answer": "Paris"},
        GOOD,
    )
    plain, fact, style = read_texts(path).texts
    assert (plain.text, plain.doc_id, plain.answer_from) == ("Plain text.", "1", 0)
    assert (fact.text, fact.doc_id) == ("The capital of France is Paris", "d")
    assert fact.text[fact.answer_from :] == " Paris"
    assert style.text == "Input: It rained.\nOutput: It did rain."
    assert style.text[style.answer_from :] == " It did rain."


def test_texts_set_aside_and_refused(tmp_path):
    text = {"id": "1", "text": "a"}
    path = written(tmp_path / "t.jsonl", text, "", text | {"id": "2"}, {"id": "3", "text": " "})
    assert [r.line for r in read_texts(path).refused] == [2, 3, 4]
    with pytest.raises(DataError, match='line 1: has no "text"'):
        read_texts(written(path, {"id": "1"}))
    with pytest.raises(DataError, match='"answer" is missing'):
        read_texts(written(path, {"id": "1", "prompt": "a"}))
    with pytest.raises(DataError, match="already on line 1"):
        read_texts(written(path, text, text | {"text": "b"}))


def test_an_order_changes_the_digest(tmp_path):
    two = [GOOD, GOOD | {"id": "b", "source": "Other."}]
    digests = {read_pairs(written(tmp_path / "p", *order)).digest for order in (two, two[::-1])}
    assert len(digests) == 2
    texts = {read_texts(written(tmp_path / "p", *order)).digest for order in (two, two[::-1])}
    assert len(texts) == 2


@given(
    documents=st.lists(st.integers(0, 12), min_size=3, max_size=80),
    shares=st.lists(st.floats(0.05, 1), min_size=1, max_size=3),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_split_is_a_partition_by_document(documents, shares, seed):
    pairs = [Pair(str(i), str(d), "a", "b") for i, d in enumerate(documents)]
    named = {str(i): share / sum(shares) for i, share in enumerate(shares)}
    if len(set(documents)) < len(named):
        with pytest.raises(DataError, match="add documents"):
            split_by_document(pairs, named, seed)
        return
    parts = split_by_document(pairs, named, seed)
    assert sorted(int(p.id) for part in parts.values() for p in part) == list(range(len(pairs)))
    homes = [{p.doc_id for p in part} for part in parts.values()]
    assert all(homes)
    assert sum(map(len, homes)) == len(set(documents))
    assert all([int(p.id) for p in part] == sorted(int(p.id) for p in part) for part in parts.values())
    assert parts == split_by_document(pairs, named, seed)


def test_a_split_keeps_its_shares_and_follows_its_seed():
    pairs = [Pair(str(i), str(i // 5), "a", "b") for i in range(1000)]
    shares = {"train": 0.8, "valid": 0.1, "test": 0.1}
    parts = split_by_document(pairs, shares, seed=0)
    assert [len(part) for part in parts.values()] == [800, 100, 100]
    assert parts != split_by_document(pairs, shares, seed=1)


@pytest.mark.parametrize("shares", [{"a": 0.5, "b": 0.4}, {"a": 1.0, "b": 0.0}])
def test_shares_that_make_no_whole_are_refused(shares):
    with pytest.raises(DataError, match="together they must make 1"):
        split_by_document([Pair("1", "1", "a", "b"), Pair("2", "2", "a", "b")], shares, 0)
