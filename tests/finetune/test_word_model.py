"""A model over whole words learns what its corpus says, and two of one seed differ by their corpora alone."""

import numpy as np
import pytest

from finetune.word_model import WordPlan, train_words, word_rows, word_states
from geometry.checks import DataError, ShapeError
from geometry.words import cased

QUICK = WordPlan(width=16, layers=1, context=5, batch=32, steps=60)
WORDS = tuple(f"w{i}" for i in range(8))


def alternating(n=200):
    rng = np.random.default_rng(0)
    return [" ".join(WORDS[(start + i) % 8] for i in range(8)) for start in rng.integers(8, size=n)]


def test_rows_hold_every_word_once_in_order():
    texts = ["w0 w1 w2 w3 w4 unknown.", "", "w7"]
    rows = word_rows(texts, WORDS, cased, 4)
    np.testing.assert_array_equal(rows, [[0, 2, 3, 4], [0, 5, 6, 1], [0, 9, -1, -1]])


def test_training_learns_and_is_the_same_twice():
    rows = word_rows(alternating(), WORDS, cased, 5)
    (one, loss), (other, again) = (train_words(rows, 8, QUICK, 3) for _ in range(2))
    assert loss == again < 0.9 * np.log(8)
    contexts = [np.array([0, 2]), np.array([0, 4, 5])]
    states = word_states(one, contexts, range(8))
    assert states.shape == (2, 8, 16)
    np.testing.assert_array_equal(states, word_states(other, contexts, range(8)))
    different, _ = train_words(rows, 8, QUICK, 4)
    assert not np.allclose(states, word_states(different, contexts, range(8)))


def test_states_are_means_over_contexts():
    rows = word_rows(alternating(), WORDS, cased, 5)
    model, _ = train_words(rows, 8, QUICK, 0)
    contexts = [np.array([0, 2]), np.array([0, 4, 5])]
    each = [word_states(model, [context], range(8)) for context in contexts]
    np.testing.assert_allclose(word_states(model, contexts, range(8)), np.mean(each, axis=0), atol=1e-6)


def test_what_cannot_be_trained_is_refused():
    with pytest.raises(DataError, match="two words"):
        word_rows(["w0", ""], WORDS, cased, 4)
    with pytest.raises(ShapeError, match="5 tokens a row"):
        train_words(np.zeros((3, 4), dtype=np.int64), 8, QUICK, 0)
