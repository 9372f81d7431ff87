import json

import numpy as np
import pytest

from finetune.pairs import Pair
from finetune.passages import Bounds, Fields, parallel, read_others, read_passages, said, unique_pairs
from finetune.sentences import split_sentences
from geometry.checks import DataError


def jsonl(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def read(path, fields=None, bounds=None, reader=read_passages, seed=0):
    rng = np.random.default_rng(seed)
    return reader(path, fields or Fields(), bounds or Bounds(1), split=split_sentences, rng=rng)


@pytest.fixture
def novels(tmp_path):
    return jsonl(
        tmp_path / "novels.jsonl",
        [
            {
                "id": f"{author}-{n}",
                "author": author,
                "text": " ".join(f"{author} wrote line {n} {i}." for i in range(25)),
            }
            for author in ("Dickens", "Conrad")
            for n in range(4)
        ],
    )


def test_sentences_know_their_documents_and_blocks(novels):
    found = read(novels, Fields(where={"author": "Conrad"}), Bounds(1, block=10))
    assert found.found == len(found.texts) == 100
    assert found.documents == 4
    assert {t.doc_id for t in found.texts[:25]} == {"Conrad-0#1", "Conrad-0#2", "Conrad-0#3"}
    assert len({t.id for t in found.texts}) == 100
    assert all("Conrad" in t.text for t in found.texts)


def test_whole_documents_stay_whole(novels):
    assert len({t.doc_id for t in read(novels, bounds=Bounds(1, block=0)).texts}) == 8


def test_the_others_are_the_rest(novels):
    chosen = Fields(where={"author": "Conrad"})
    both = {t.text for t in read(novels, chosen).texts} | {
        t.text for t in read(novels, chosen, reader=read_others).texts
    }
    assert both == {t.text for t in read(novels).texts}


def test_a_sample_is_chance_of_the_seed_alone_and_keeps_the_order(novels):
    some = [read(novels, bounds=Bounds(1, most=30), seed=seed).texts for seed in (0, 0, 1)]
    assert some[0] == some[1] != some[2]
    places = [t.id for t in read(novels).texts]
    assert [places.index(t.id) for t in some[0]] == sorted(places.index(t.id) for t in some[0])


def test_what_is_set_aside_is_counted(tmp_path):
    path = jsonl(
        tmp_path / "a.jsonl",
        [{"text": "Too short. It rained all day long. It RAINED, all day long! 1 2 3 4 5. A" + " a" * 61}],
    )
    found = read(path, bounds=Bounds())
    assert [t.text for t in found.texts] == ["It rained all day long."]
    assert found.aside == {"too short": 2, "duplicate": 1, "too long": 1}
    assert found.found == 5


def test_documents_may_be_named_by_several_values(tmp_path):
    path = jsonl(
        tmp_path / "bible.jsonl", [{"book": "Ruth", "chapter": c, "KJV": f"Verse of {c}"} for c in (1, 1, 2)]
    )
    texts = read(path, Fields("KJV", ("book", "chapter")), Bounds(1, block=0)).texts
    assert [(t.id, t.doc_id) for t in texts] == [("Ruth-1:1", "Ruth-1"), ("Ruth-2:1", "Ruth-2")]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (Fields("body"), "no text under 'body', only id, text, author"),
        (Fields(where={"author": "Eliot"}), "no record has author=Eliot; it has author: A"),
        (Fields(document=("book",)), "no text under 'book'"),
        (Fields(), r"no sentence to use \(1 too short\)"),
    ],
)
def test_what_a_corpus_lacks_is_named(tmp_path, fields, message):
    path = jsonl(tmp_path / "a.jsonl", [{"text": "No.", "author": "A"}])
    with pytest.raises(DataError, match=message):
        read(path, fields, Bounds())


def test_bounds_that_hold_nothing_are_refused():
    with pytest.raises(DataError, match="5 to 4 words: there are none such"):
        Bounds(5, 4)


def test_two_columns_and_two_files_are_the_same_pairs(tmp_path):
    sides = [(f"plain {i}", f"styled {i}") for i in range(250)]
    (tmp_path / "both.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in sides))
    (tmp_path / "a.txt").write_text("".join(f"{a}\n" for a, _ in sides))
    (tmp_path / "b.txt").write_text("".join(f"{b}\n" for _, b in sides))
    columns = parallel([tmp_path / "both.tsv"], Fields("1"), "2")
    files = parallel([tmp_path / "a.txt", tmp_path / "b.txt"], Fields(), "")
    assert [(p.source, p.target) for p in columns] == [(p.source, p.target) for p in files] == sides
    assert len({p.doc_id for p in columns}) == len({p.doc_id for p in files}) == 3


def test_pairs_of_records_keep_ids_and_documents(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", [{"id": 1, "doc_id": "d", "source": "a\nb", "target": "c"}])
    assert parallel([path], Fields("source"), "target") == (Pair("1", "d", "a b", "c"),)


def test_files_that_are_not_parallel_are_refused(tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    (tmp_path / "b.txt").write_text("one\n")
    with pytest.raises(DataError, match=r"b.txt: ends before line 2"):
        parallel([tmp_path / "a.txt", tmp_path / "b.txt"], Fields(), "")
    with pytest.raises(DataError, match="no such file; give two text files"):
        parallel([tmp_path / "a.txt", tmp_path / "c.txt"], Fields(), "")
    with pytest.raises(DataError, match="3 corpora"):
        parallel([tmp_path] * 3, Fields(), "")


def test_empty_pairs_are_counted():
    kept, aside = unique_pairs([Pair("1", "d", "", "b"), Pair("2", "d", "!", "b"), Pair("3", "d", "a", "b")])
    assert [p.id for p in kept] == ["3"]
    assert aside == {"empty": 2}


def test_what_is_said_is_words_and_numbers_of_any_script():
    assert said("漢字 É 3!") == ("漢字", "é", "3")
