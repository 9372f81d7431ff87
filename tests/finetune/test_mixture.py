import json

import numpy as np
import pytest

from finetune.mixture import HELD_OUT_SHARE, PIECE, apart, mixed
from geometry.checks import DataError


def write(path, texts):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def lines(texts):
    return sorted(line for text in texts for line in text.splitlines())


def test_every_line_is_read_once(corpus):
    path, texts = corpus
    pieces = list(mixed([path], 0))
    assert lines(pieces) == lines(texts)
    assert len(pieces) > len(texts)


def test_pieces_end_at_line_ends_a_little_above_their_size(corpus):
    path, texts = corpus
    whole = set(texts)
    cut = [piece for piece in mixed([path], 0) if piece not in whole]
    longest = max(len(line) for text in texts for line in text.splitlines(keepends=True))
    assert cut
    assert all(len(piece) < PIECE + longest for piece in cut)
    assert sum(not piece.endswith("\n") for piece in cut) <= 2  # the last of each long document


def test_a_line_is_never_cut(tmp_path):
    long_line = "word " * PIECE
    assert sorted(mixed([write(tmp_path / "a.jsonl", [long_line, "short"])], 0)) == ["short", long_line]


def test_the_order_is_the_seeds(corpus):
    path, _ = corpus
    assert list(mixed([path], 0)) == list(mixed([path], 0))
    assert list(mixed([path], 0)) != list(mixed([path], 1))


def test_corpora_are_mixed_throughout(tmp_path):
    paths = [write(tmp_path / f"{name}.jsonl", [f"{name} {i}" for i in range(500)]) for name in "ab"]
    first = [text[0] for text in mixed(paths, 0)][:200]
    assert 70 < first.count("a") < 130


def test_no_held_out_document_is_trained_on_not_even_in_part(corpus):
    path, texts = corpus
    mixture = apart([path], 0)
    assert set(mixture.held_out) <= set(texts)
    trained = "".join(mixture.training)
    assert not any(line in trained for line in lines(mixture.held_out))
    assert len(trained) + sum(map(len, mixture.held_out)) == sum(map(len, texts))


def test_enough_is_held_out_but_not_much_more(corpus):
    path, texts = corpus
    everything = sum(map(len, texts))
    held = sum(map(len, apart([path], 0).held_out))
    assert HELD_OUT_SHARE * everything <= held < HELD_OUT_SHARE * everything + 1000
    assert 2000 <= sum(map(len, apart([path], 0, characters=2000).held_out)) < 3000


def test_training_reads_in_one_order_whatever_is_held_out(corpus):
    path, _ = corpus
    little, much = (apart([path], 0, characters=n).training for n in (1, 5000))
    assert [piece for piece in little if piece in much] == much
    assert set(apart([path], 0).training) < set(mixed([path], 0))


def test_a_copy_of_a_held_out_document_is_not_trained_on(corpus, tmp_path):
    path, texts = corpus
    twin = write(tmp_path / "twin.jsonl", texts)
    mixture = apart([path, twin], 0)
    assert not set(mixture.held_out) & set(mixture.training)


def test_books_are_held_out_where_there_is_nothing_shorter(tmp_path, document):
    rng = np.random.default_rng(0)
    texts = [document(rng, size) for size in (60_000, 30_000, 90_000)]
    mixture = apart([write(tmp_path / "books.jsonl", texts)], 0)
    assert mixture.held_out == [texts[1]]
    assert lines(mixture.training) == lines([texts[0], texts[2]])


def test_something_is_left_to_train_on(tmp_path):
    mixture = apart([write(tmp_path / "two.jsonl", ["a short one", "another one"])], 0)
    assert len(mixture.held_out) == len(mixture.training) == 1


@pytest.mark.parametrize("texts", [[], ["only one"], ["one line\n" * 3000]])
def test_one_document_is_refused(tmp_path, texts):
    paths = [write(tmp_path / "one.jsonl", texts)] if texts else []
    with pytest.raises(DataError, match="one document at most; give more"):
        apart(paths, 0)
