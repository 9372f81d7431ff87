import gzip
import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from geometry.checks import DataError
from geometry.corpora import documents, documents_read, files

TEXTS = [
    "It rained.\nAll day.",
    "naïve “café” 漢字 😀",
    "null \x00 and bell \x07 and \u2028 stay",
    "  kept spaces  ",
]


def write(path, content):
    content = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def lines(records):
    return "".join(json.dumps(record) + "\n" for record in records)


def parquet(path, column):
    pq.write_table(pa.table({"text": column}), path)
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_json_lines_come_back_as_they_were(tmp_path, name):
    path = write(tmp_path / name, "\n" + lines({"text": t, "id": 1} for t in TEXTS) + "\n\n")
    assert list(documents(path)) == TEXTS


def test_parquet_comes_back_as_it_was(tmp_path):
    assert list(documents(parquet(tmp_path / "a.parquet", [TEXTS[0], None, *TEXTS[1:]]))) == TEXTS


def test_parquet_of_many_batches(tmp_path):
    texts = [f"document {i}" for i in range(70_000)]
    assert list(documents(parquet(tmp_path / "a.parquet", pa.array(texts).dictionary_encode()))) == texts


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_blocks_of_plain_text_are_documents(tmp_path, name):
    path = write(tmp_path / name, "\n\none\nmore of one\n \t\n\ntwo\r\n\r\nthree")
    assert list(documents(path)) == ["one\nmore of one\n", "two\r\n", "three"]


def test_a_byte_order_mark_is_no_text(tmp_path):
    assert list(documents(write(tmp_path / "a.txt", b"\xef\xbb\xbfone"))) == ["one"]
    assert list(documents(write(tmp_path / "a.jsonl", b'\xef\xbb\xbf{"text": "one"}'))) == ["one"]


def arrow(path, texts, column="text"):
    table = pa.table({column: texts})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as out:
        out.write_table(table, max_chunksize=2)
    return path


def test_what_datasets_saves_comes_back_as_it_was(tmp_path):
    assert list(documents(arrow(tmp_path / "data-00000-of-00001.arrow", [*TEXTS, None]))) == TEXTS


def test_arrow_is_checked(tmp_path):
    with pytest.raises(DataError, match="not an Arrow stream"):
        list(documents(write(tmp_path / "a.arrow", "text, not arrow")))
    with pytest.raises(DataError, match="has no column 'text', only body"):
        list(documents(arrow(tmp_path / "b.arrow", ["x"], "body")))


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.txt"])
def test_how_far_a_corpus_is_read(tmp_path, name):
    texts = [f"{i} " * 500 for i in range(400)]
    content = "\n\n".join(texts) if name == "a.txt" else lines({"text": t} for t in texts)
    write(tmp_path / name, content)
    write(tmp_path / "b.txt", "the end")
    shares = [share for _, share in documents_read(tmp_path)]
    assert shares == sorted(shares)
    assert 0 < shares[0] < 1
    assert shares[-1] == 1


def test_another_field(tmp_path):
    path = write(tmp_path / "a.jsonl", lines([{"text": "no", "body": "yes"}]))
    assert list(documents(path, field="body")) == ["yes"]


def test_white_space_alone_is_no_document(tmp_path):
    path = write(tmp_path / "a.jsonl", lines([{"text": " \n\t"}, {"text": ""}, {"text": "x"}]))
    assert list(documents(path)) == ["x"]


def test_a_folder_is_read_through_all_depths_in_order(tmp_path):
    (tmp_path / "b" / "c").mkdir(parents=True)
    (tmp_path / "d.txt").mkdir()
    write(tmp_path / "b" / "c" / "late.txt.gz", "late")
    write(tmp_path / "a.jsonl", lines([{"text": "early"}]))
    write(tmp_path / "README.md", "not a corpus")
    assert [p.name for p in files(tmp_path)] == ["a.jsonl", "late.txt.gz"]
    assert list(documents(tmp_path)) == ["early", "late"]


def test_documents_stream(tmp_path):
    path = write(tmp_path / "a.jsonl", lines([{"text": "good"}]) + "broken\n")
    stream = documents(path)
    assert next(stream) == "good"
    with pytest.raises(DataError, match="line 2 is not JSON"):
        next(stream)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", "", "holds no text"),
        ("a.txt", " \n\n", "holds no text"),
        ("a.jsonl", "", "holds no text"),
        ("a.csv", "text", "expected a name that ends in one of .txt"),
        ("a.txt", b"fine\nna\xefve\n", "line 2 is not UTF-8"),
        ("a.jsonl", '{"text": "a"}\n{"text": 1}\n', "line 2 has no text under the key 'text'"),
        ("a.jsonl", '["text"]', "line 1 has no text"),
        ("a.jsonl", '{"text": "a"', "line 1 is not JSON"),
        ("a.jsonl", "[" * 100_000, "line 1 is not JSON"),
        ("a.jsonl", '{"text": "a", "n": ' + "1" * 5000 + "}", "line 1 is not JSON"),
        ("a.jsonl", '{"text": "half \\ud800 pair"}', "line 1 holds half a surrogate pair"),
        ("a.parquet", "", "not a parquet file"),
        ("a.parquet", "PAR1 but not really PAR1", "not a parquet file"),
    ],
)
def test_refused_in_one_line(tmp_path, name, content, says):
    with pytest.raises(DataError, match=says) as caught:
        list(documents(write(tmp_path / name, content)))
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_damaged_gzip_is_refused(tmp_path):
    whole = gzip.compress(os.urandom(20_000).hex().encode())
    broken = whole[:1000] + bytes([whole[1000] ^ 255]) + whole[1001:]
    for name, content in {"cut": whole[:-3000], "plain": b"not gzipped", "flipped": broken}.items():
        path = tmp_path / f"{name}.txt.gz"
        path.write_bytes(content)
        with pytest.raises(DataError, match="damaged or incomplete gzip"):
            list(documents(path))


def test_damaged_parquet_is_refused(tmp_path):
    path = parquet(tmp_path / "a.parquet", [os.urandom(200).hex() for _ in range(100)])
    content = bytearray(path.read_bytes())
    content[4:3000] = bytes(2996)
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        list(documents(path))


def test_parquet_columns_are_checked(tmp_path):
    with pytest.raises(DataError, match="has no column 'body', only text"):
        list(documents(parquet(tmp_path / "a.parquet", ["x"]), field="body"))
    with pytest.raises(DataError, match="row 1 of 'text' is no text but int64"):
        list(documents(parquet(tmp_path / "b.parquet", [1, 2])))
    bad = pa.StringArray.from_buffers(2, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0"), pa.py_buffer(b"a\xff"))
    with pytest.raises(DataError, match="row 2 is not UTF-8"):
        list(documents(parquet(tmp_path / "c.parquet", bad)))


def test_nothing_there(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        files(tmp_path / "missing.txt")
    with pytest.raises(DataError, match="no file in it ends in"):
        files(tmp_path)


def test_an_unreadable_file_is_refused(tmp_path, monkeypatch):
    path = write(tmp_path / "a.txt", "x")

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", refuse)  # the tests may run as root, whom no mode bits stop
    with pytest.raises(DataError, match=r"cannot be read \(Permission denied\)"):
        list(documents(path))
