import json
import shutil

import numpy as np
import pytest

from geometry.checks import DataError
from geometry.cooccurrence import PairCounter
from geometry.count_files import read_counter, read_counts, read_notes, read_words, write_counts
from geometry.weightings import inverse


@pytest.fixture
def counter():
    made = PairCounter(50, inverse(4))
    made.update(np.random.default_rng(0).integers(-1, 50, 300), [100, 200])
    return made


@pytest.fixture
def folder(counter, tmp_path):
    write_counts(tmp_path, counter, [f"w{i} ä" for i in range(50)], {"corpus": "here"})
    return tmp_path


def test_counts_come_back_as_they_were(counter, folder):
    words = read_words(folder)
    assert words == tuple(f"w{i} ä" for i in range(50))
    read, held = read_counts(folder), counter.answer(words)
    assert (read.upper != held.upper).nnz == 0
    assert read.upper.dtype == np.int64
    assert np.array_equal(read.unigrams, held.unigrams)
    assert (read.tokens, read.total, read.weighting) == (held.tokens, held.total, held.weighting)
    assert read_notes(folder)["corpus"] == "here"


def test_the_matrix_stays_on_disk(folder):
    upper = read_counts(folder).upper
    for array in (upper.data, upper.indices):
        while isinstance(array, np.ndarray) and not isinstance(array, np.memmap):
            array = array.base
        assert isinstance(array, np.memmap)


def test_more_can_be_added_and_the_files_stay(counter, folder, tmp_path):
    before = (folder / "data.npy").read_bytes()
    read = read_counter(folder)
    read.merge(counter)
    read.update([1, 2], [2])
    counter.merge(read_counter(folder))
    counter.update([1, 2], [2])
    assert all(np.array_equal(a, counter.state()[key]) for key, a in read.state().items())
    assert (folder / "data.npy").read_bytes() == before


def test_words_that_never_meet(tmp_path):
    counter = PairCounter(2, inverse(4))
    counter.update([0, 1], [1, 1])
    write_counts(tmp_path, counter, ["a", "b"], {})
    assert read_counts(tmp_path).upper.nnz == 0
    assert read_counter(tmp_path).tokens == 2


def damage_json(folder):
    (folder / "counts.json").write_text("{")


def another_version(folder):
    (folder / "counts.json").write_text(json.dumps({"format": 99}))


def no_words(folder):
    (folder / "words.txt").unlink()


def one_word_less(folder):
    (folder / "words.txt").write_text("w\n" * 49)


def half_an_array(folder):
    content = (folder / "data.npy").read_bytes()
    (folder / "data.npy").write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (damage_json, "counts.json is damaged"),
        (another_version, "another version"),
        (no_words, "holds no counts"),
        (one_word_less, "do not fit together"),
        (half_an_array, "missing or damaged"),
        (shutil.rmtree, "holds no counts"),
    ],
)
def test_damage_is_told_in_one_line(folder, harm, says):
    harm(folder)
    for read in (read_counts, read_counter):
        with pytest.raises(DataError, match=says) as caught:
            read(folder)
        assert "\n" not in str(caught.value)
