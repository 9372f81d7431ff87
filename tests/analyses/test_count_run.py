"""The whole way from files to counts, killed on the way, split over folders, and refused where it must be."""

import gzip
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from analyses import count_run
from analyses.__main__ import run
from analyses.count_run import CountRequest, count
from geometry.checks import DataError
from geometry.count_files import read_blocks, read_counts, read_notes
from geometry.weightings import flat, linear
from geometry.words import folded

ROOT = Path(__file__).parents[2]


def corpus(path, texts):
    content = "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def salad(n, seed=0):
    chance = random.Random(seed)
    words = [f"w{i}" for i in range(60)] + ["New York", "May", "may"]
    return [" ".join(chance.choices(words, k=chance.randint(1, 40))) for _ in range(n)]


def counted(request, out, workers=1):
    return read_counts(count(request, out, workers=workers, show=lambda text, share: None))


def slow(texts, size, window, others, words=None):
    """The obvious way: most frequent words, words removed or kept, pairs by distance."""
    documents = [text.replace("New York", "New_York").split() for text in texts]
    documents = [[word.replace("_", " ") for word in d] for d in documents]
    every = [word for d in documents for word in d]
    if words is None:
        words = sorted(set(every), key=lambda w: (-every.count(w), w))[:size]
    if others == "removed":
        documents = [[word for word in d if word in words] for d in documents]
    counts = np.zeros((len(words), len(words)), dtype=int)
    for d in documents:
        for p, word in enumerate(d):
            for q in range(max(0, p - window), min(len(d), p + window + 1)):
                if p != q and word in words and d[q] in words:
                    counts[words.index(word), words.index(d[q])] += window + 1 - abs(p - q)
    return words, counts


@pytest.mark.parametrize("others", ["removed", "kept"])
@pytest.mark.parametrize("fixed", [None, ["May", "w3", "New York", "w59"]])
def test_files_become_the_counts_of_the_slow_way(tmp_path, others, fixed, monkeypatch):
    monkeypatch.setattr(count_run, "BATCH", 700)  # many batches of these few texts
    texts = salad(60)
    first, second = corpus(tmp_path / "a.jsonl", texts[:25]), corpus(tmp_path / "b.jsonl.gz", texts[25:])
    words, counts = slow(texts, 20, 4, others, fixed)
    request = CountRequest(
        (first, second), linear(4), vocabulary=20, words=tuple(fixed or ()),
        phrases=("New York",), places=others == "kept",
    )  # fmt: skip
    found = counted(request, tmp_path / "out")
    assert found.words == tuple(words)
    assert (found.counts.toarray() == counts).all()
    if others == "kept":
        assert found.tokens == sum(len(t.replace("New York", "x").split()) for t in texts)


def test_a_long_list_of_words_counts_as_a_short_one(tmp_path, monkeypatch):
    path = corpus(tmp_path / "a.jsonl", salad(30))
    request = CountRequest((path,), flat(3), words=("w1", "w2", "May"), places=True)
    one = counted(request, tmp_path / "one")
    monkeypatch.setattr(count_run, "AT_ONCE", 2)
    other = counted(request, tmp_path / "other")
    assert (one.counts != other.counts).nnz == 0
    assert (one.tokens, one.total) == (other.tokens, other.total)


def test_processes_change_nothing(tmp_path, monkeypatch):
    path = corpus(tmp_path / "a.jsonl", salad(200))
    request = CountRequest((path,), linear(4), vocabulary=30)
    alone = counted(request, tmp_path / "one")
    monkeypatch.setattr(count_run, "BATCH", 2000)
    together = counted(request, tmp_path / "two", workers=2)
    assert alone.words == together.words
    assert (alone.counts != together.counts).nnz == 0


def test_shards_add_up_to_the_whole(tmp_path):
    texts = salad(80)
    whole = corpus(tmp_path / "whole.jsonl", texts)
    parts = [corpus(tmp_path / f"{i}.jsonl", texts[i::2]) for i in range(2)]
    expected = counted(CountRequest((whole,), linear(4), words=("w1", "w2", "w5")), tmp_path / "w")
    for i, part in enumerate(parts):
        counted(CountRequest((part,), linear(4), words=("w1", "w2", "w5")), tmp_path / f"c{i}")
    merged = counted(CountRequest((), linear(4), add=(tmp_path / "c0", tmp_path / "c1")), tmp_path / "m")
    further = counted(CountRequest((parts[1],), linear(4), add=(tmp_path / "c0",)), tmp_path / "f")
    for found in (merged, further):
        assert (found.counts != expected.counts).nnz == 0
        assert np.array_equal(found.unigrams, expected.unigrams)
        assert (found.tokens, found.total, found.words) == (expected.tokens, expected.total, expected.words)


@pytest.mark.parametrize("at_once", [0, 2000])
def test_a_run_that_fails_goes_on_without_counting_twice(tmp_path, monkeypatch, at_once):
    """Both ways of counting, stopped at every batch in turn; with a checkpoint after each batch."""
    monkeypatch.setattr(count_run, "BATCH", 700)
    monkeypatch.setattr(count_run, "CHECKPOINT", -1.0)
    monkeypatch.setattr(count_run, "AT_ONCE", at_once)
    path = corpus(tmp_path / "a.jsonl", salad(60))
    request = CountRequest((path,), linear(4), words=tuple(f"w{i}" for i in range(40)), places=True)
    expected = counted(request, tmp_path / "expected")
    fails = 0

    def failing(text, share):
        raise RuntimeError("killed")

    for _ in range(100):
        try:
            count(request, tmp_path / "out", workers=1, show=failing)
        except RuntimeError:
            fails += 1
        else:
            break
    assert fails > 5
    found = counted(request, tmp_path / "out")
    assert (found.counts != expected.counts).nnz == 0
    assert (found.tokens, found.total) == (expected.tokens, expected.total)
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.slow
def test_a_killed_run_goes_on_and_leaves_no_process_behind(tmp_path):
    path = corpus(tmp_path / "a.jsonl", salad(4000))
    code = (
        "import sys; from pathlib import Path; from analyses import count_run as c;"
        "from geometry.weightings import linear\n"
        "if __name__ == '__main__':\n"
        "    c.BATCH, c.CHECKPOINT = 20_000, -1.0\n"
        "    c.count(c.CountRequest((Path(sys.argv[1]),), linear(4), vocabulary=50), Path(sys.argv[2]),"
        " workers=2, show=lambda *_: None)\n"
    )
    script = tmp_path / "run.py"
    script.write_text(code)
    command = [sys.executable, str(script), str(path), str(tmp_path / "out")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    killed = subprocess.Popen(command, env=environment, start_new_session=True)
    work = tmp_path / "out.partial"
    while len(list(work.glob("batch-*.npz"))) < 3:
        assert killed.poll() is None, "over before it could be killed"
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    for _ in range(200):  # its processes end by themselves
        if not processes_of(killed.pid):
            break
        time.sleep(0.1)
    assert not processes_of(killed.pid)
    assert not (tmp_path / "out").exists()
    subprocess.run(command, env=environment, check=True)
    expected = counted(CountRequest((path,), linear(4), vocabulary=50), tmp_path / "expected")
    found = read_counts(tmp_path / "out")
    assert (found.counts != expected.counts).nnz == 0
    assert found.total == expected.total


def processes_of(session):
    """Ids of the processes that belong to a session."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(stat.parent.name)
    return found


def test_the_command(tmp_path, capsys):
    corpus(tmp_path / "a.jsonl", ["May we go to New York in May?", "in may"])
    (tmp_path / "words.txt").write_text("May\nNew York\nJune\n")
    arguments = [
        "count",
        "--corpus",
        f"{tmp_path}/a.jsonl",
        "--words",
        f"{tmp_path}/words.txt",
        "--window",
        "3",
    ]
    assert run([*arguments, "--weights", "inverse", "--out", f"{tmp_path}/out"]) == 0
    output = capsys.readouterr()
    assert output.out.strip() == f"{tmp_path}/out"
    assert "never seen in the corpus: June" in output.err
    assert "M words/s" in output.err
    found = read_counts(tmp_path / "out")
    assert found.unigrams.tolist() == [2, 1, 0]
    assert found.block(["May", "New York"]).tolist() == [[0, 3], [3, 0]]  # 1/2, in units of 1/6
    assert found.tokens == 9
    assert run([*arguments, "--fold-case", "--out", f"{tmp_path}/folded"]) == 0
    assert read_counts(tmp_path / "folded").unigrams.tolist() == [3, 1, 0]
    assert read_notes(tmp_path / "folded")["recipe"]["letters"] == folded.__name__


@pytest.mark.parametrize(
    ("content", "arguments", "says"),
    [
        ("", [], "holds no text"),
        ("... --- ...", [], "holds no words, only signs"),
        (b"na\xefve", [], "line 1 is not UTF-8"),
        ("one two", ["--words", "WORDS"], "none of the words occurs"),
        ("one two", ["--window", "5000"], "window: expected 1 to 4096"),
        ("one two", ["--window", "23", "--weights", "inverse"], "window: expected 1 to 22"),
        ("one two", ["--words", "/no/such/file"], "cannot be read as UTF-8"),
        ("one two", ["--add", "/no/such/folder"], "holds no counts"),
        ("one two", ["--words", "WORDS", "--vocab", "9"], "--vocab and --words: each says which words"),
    ],
)
def test_refused_in_one_line(tmp_path, capsys, content, arguments, says):
    (tmp_path / "a.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
    (tmp_path / "words.txt").write_text("May\n")
    arguments = [a.replace("WORDS", f"{tmp_path}/words.txt") for a in arguments]
    assert run(["count", "--corpus", f"{tmp_path}/a.txt", "--out", f"{tmp_path}/out", *arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert says in error
    assert not (tmp_path / "out").exists()


def test_a_corpus_of_one_document_is_counted(tmp_path):
    (tmp_path / "a.txt").write_text("one two one")
    found = counted(CountRequest((tmp_path / "a.txt",), flat(1)), tmp_path / "out")
    assert found.words == ("one", "two")
    assert found.counts.toarray().tolist() == [[0, 2], [2, 0]]


def test_refused_before_anything_is_read(tmp_path, capsys):
    path = corpus(tmp_path / "a.jsonl", salad(3))
    show = lambda text, share: None  # noqa: E731
    for request, says in (
        (CountRequest((), flat(2)), "name a corpus, or counts to add up"),
        (CountRequest((path,), flat(2), words=("w1", "--")), "'--' holds no letter"),
        (CountRequest((path,), flat(2), words=("w1", "W1"), letters=folded), "'W1' is there twice"),
        (CountRequest((path,), flat(2), phrases=("w1",)), "fewer than two words"),
        (CountRequest((path, tmp_path), flat(2)), "would be counted twice"),
    ):
        with pytest.raises(DataError, match=says):
            count(request, tmp_path / "out", workers=1, show=show)
    (tmp_path / "empty.txt").write_text("\n")
    assert run(["count", "--words", f"{tmp_path}/empty.txt", "--out", f"{tmp_path}/out"]) == 2
    assert "is empty" in capsys.readouterr().err


def test_only_like_counts_are_added(tmp_path):
    path = corpus(tmp_path / "a.jsonl", salad(10))
    for name, request in {
        "one": CountRequest((path,), flat(2), words=("w1", "w2")),
        "words": CountRequest((path,), flat(2), words=("w1", "w3")),
        "window": CountRequest((path,), flat(3), words=("w1", "w2")),
        "weights": CountRequest((path,), linear(2), words=("w1", "w2")),
        "others": CountRequest((path,), flat(2), words=("w1", "w2"), places=True),
        "letters": CountRequest((path,), flat(2), words=("w1", "w2"), letters=folded),
    }.items():
        counted(request, tmp_path / name)

    def add(corpora, *names, words=()):
        request = CountRequest(corpora, flat(2), words=words, add=tuple(tmp_path / name for name in names))
        return counted(request, tmp_path / "out")

    with pytest.raises(
        DataError, match=r"words: has other words than .*one; count it with --words .*words.txt"
    ):
        add((), "one", "words")
    for name in ("window", "weights", "others", "letters"):
        for corpora, names in (((), ("one", name)), ((path,), (name,))):
            with pytest.raises(DataError, match=f"{tmp_path}/{name}: was counted with {name} "):
                add(corpora, *names)
    with pytest.raises(DataError, match="bring their own words"):
        add((), "one", words=("w1",))
    # alone, counts of any kind can be added up: nothing is cut, so no option has to be repeated
    more = corpus(tmp_path / "more.jsonl", salad(10, seed=1))
    counted(CountRequest((more,), flat(2), words=("w1", "w2"), places=True), tmp_path / "more")
    added = add((), "others", "more")
    assert added.tokens == sum(read_counts(tmp_path / name).tokens for name in ("others", "more"))
    assert set(read_notes(tmp_path / "out")["files"]) == {str(path), str(more)}


def test_nothing_is_counted_twice_by_adding(tmp_path):
    path = corpus(tmp_path / "a.jsonl", salad(10))
    counted(CountRequest((path,), flat(2), words=("w1", "w2")), tmp_path / "one")
    for request in (
        CountRequest((path,), flat(2), add=(tmp_path / "one",)),
        CountRequest((), flat(2), add=(tmp_path / "one", tmp_path / "one")),
    ):
        with pytest.raises(
            DataError, match=r"one: holds the counts of .*a.jsonl, which would be counted twice"
        ):
            counted(request, tmp_path / "out")


def blocks_sum_to(whole, blocks):
    assert len(blocks) == 8
    words = blocks[0].words
    assert (sum(block.block(words) for block in blocks) == whole.block(words)).all()
    assert (sum(block.unigrams for block in blocks) == whole.unigrams[whole.of(words)]).all()
    assert sum(block.tokens for block in blocks) == whole.tokens
    assert sum(block.total for block in blocks) == whole.total
    assert sum(block.tokens > 0 for block in blocks) > 4  # the documents are really dealt


@pytest.mark.parametrize(("at_once", "workers"), [(2, 1), (2000, 1), (2000, 2)])
def test_blocks_of_documents_sum_to_the_whole(tmp_path, monkeypatch, at_once, workers):
    monkeypatch.setattr(count_run, "AT_ONCE", at_once)
    monkeypatch.setattr(count_run, "BATCH", 4000)
    path, words = corpus(tmp_path / "a.jsonl", salad(120)), ("w1", "May", "New York")
    apart = words[:2] if at_once == 2 else ()
    request = CountRequest((path,), linear(4), words=words, places=True, blocks=8, apart=apart)
    whole = counted(request, tmp_path / "out", workers)
    plain = counted(CountRequest((path,), linear(4), words=words, places=True), tmp_path / "plain")
    assert (whole.counts != plain.counts).nnz == 0
    blocks_sum_to(whole, read_blocks(tmp_path / "out"))


def test_a_vocabulary_has_blocks_for_some_of_its_words_and_shards_add_up_block_by_block(tmp_path):
    texts = salad(120)
    paths = [corpus(tmp_path / f"{i}.jsonl", some) for i, some in enumerate((texts, texts[:50], texts[50:]))]
    shared = {"vocabulary": 62, "phrases": ("New York",), "blocks": 8, "apart": ("w3", "w5", "never")}
    whole = counted(CountRequest(paths[:1], linear(4), **shared), tmp_path / "whole")
    blocks = read_blocks(tmp_path / "whole")
    blocks_sum_to(whole, blocks)
    assert blocks[0].words == ("w3", "w5")
    listed = {"words": whole.words, "blocks": 8, "apart": ("w3", "w5"), "phrases": ("New York",)}
    for i in (1, 2):
        counted(CountRequest(paths[i : i + 1], linear(4), **listed), tmp_path / f"part{i}")
    counted(CountRequest(paths[:1], linear(4), **listed), tmp_path / "one")
    merged = CountRequest((), linear(4), add=(tmp_path / "part1", tmp_path / "part2"))
    counted(merged, tmp_path / "merged")
    further = CountRequest(paths[2:], linear(4), phrases=("New York",), add=(tmp_path / "part1",))
    counted(further, tmp_path / "further")
    for name in ("merged", "further"):
        for one, other in zip(read_blocks(tmp_path / name), read_blocks(tmp_path / "one"), strict=True):
            assert (one.counts != other.counts).nnz == 0
            assert (one.tokens, one.total, one.words) == (other.tokens, other.total, other.words)


def test_blocks_survive_a_run_that_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(count_run, "BATCH", 700)
    monkeypatch.setattr(count_run, "CHECKPOINT", -1.0)
    path = corpus(tmp_path / "a.jsonl", salad(60))
    request = CountRequest((path,), linear(4), words=("w1", "w2"), places=True, blocks=8)
    whole, tally_of = counted(request, tmp_path / "whole"), count_run._count_batch
    calls = []

    def failing(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return tally_of(*arguments)

    monkeypatch.setattr(count_run, "_count_batch", failing)
    with pytest.raises(KeyboardInterrupt):
        counted(request, tmp_path / "out")
    again = counted(request, tmp_path / "out")
    assert (again.counts != whole.counts).nnz == 0
    blocks_sum_to(again, read_blocks(tmp_path / "out"))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"blocks": 3}, "give no interval"),
        ({"blocks": 8, "words": ()}, "name up to"),
        ({"blocks": 8, "apart": ("w9",)}, "'w9' is not among the words"),
        ({"apart": ("w1",)}, "need a number of blocks"),
        ({"blocks": 8, "words": (), "apart": ("never",)}, "none of the words to count by block"),
    ],
)
def test_blocks_that_cannot_be_are_refused(tmp_path, changed, says):
    path = corpus(tmp_path / "a.jsonl", salad(10))
    asked = {"words": ("w1", "w2"), "places": True} | changed
    with pytest.raises(DataError, match=says):
        counted(CountRequest((path,), linear(4), **asked), tmp_path / "out")


def test_only_counts_with_like_blocks_are_added(tmp_path):
    path, other = corpus(tmp_path / "a.jsonl", salad(10)), corpus(tmp_path / "b.jsonl", salad(10, seed=1))
    made = {"words": ("w1", "w2"), "places": True}
    counted(CountRequest((path,), linear(4), blocks=8, **made), tmp_path / "eight")
    counted(CountRequest((other,), linear(4), **made), tmp_path / "none")
    counted(CountRequest((other,), linear(4), blocks=8, apart=("w1",), **made), tmp_path / "one word")
    for second, says in (("none", "blocks None, not 8"), ("one word", "other words by block")):
        with pytest.raises(DataError, match=says):
            counted(
                CountRequest((), linear(4), add=(tmp_path / "eight", tmp_path / second)), tmp_path / "out"
            )
    with pytest.raises(DataError, match="bring their own blocks"):
        counted(CountRequest((), linear(4), add=(tmp_path / "eight",), blocks=8), tmp_path / "out")
