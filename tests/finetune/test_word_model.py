"""A model over whole words learns what its corpus says, and two of one seed differ by their corpora alone."""

from dataclasses import replace

import numpy as np
import pytest

from analyses.perturb_models import ModelEye, ModelPlan, contexts_of, with_members
from finetune.word_model import WordPlan, train_words, word_rows, word_states
from geometry.checks import DataError, ShapeError
from geometry.circles import fourier_profile
from geometry.corpus_edits import Members, anywhere, renamed, rewritten_members
from geometry.kernel_edits import other_calendar
from geometry.latent import SeasonalCorpus
from geometry.layouts import cycle
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


def test_contexts_stand_before_lone_members_and_hold_none():
    rows = np.array([[0, 5, 2, 6], [0, 2, 6, 6], [0, 5, 2, 3], [0, 6, 6, 3], [0, 6, 7, -1]])
    found = contexts_of(rows, 2, np.random.default_rng(0))
    assert [context.tolist() for context in found] == [[0, 5], [0, 6, 6]]


def test_an_edit_that_changes_nothing_gives_the_same_scores():
    members = Members(WORDS[:4])
    plan = ModelPlan(replace(QUICK, steps=5), (0,), WORDS)
    eye = ModelEye(plan, members, lambda cloud: {"size": float(np.sum(cloud**2))})
    texts = [f"{WORDS[6]} {WORDS[i % 4]} {WORDS[7]}." for i in range(40)]
    edited = rewritten_members(texts, members, renamed(members, range(4), anywhere))
    assert eye.look(texts) == eye.look(edited)
    assert list(with_members(["No. w1 here. w9."], members)) == ["w1 here. "]


def test_what_cannot_be_trained_is_refused():
    with pytest.raises(DataError, match="two words"):
        word_rows(["w0", ""], WORDS, cased, 4)
    with pytest.raises(DataError, match="no member stands alone"):
        contexts_of(np.array([[0, 2, 3]]), 2, np.random.default_rng(0))
    with pytest.raises(ShapeError, match="5 tokens a row"):
        train_words(np.zeros((3, 4), dtype=np.int64), 8, QUICK, 0)


@pytest.mark.slow
def test_a_season_becomes_a_circle_in_the_states_and_follows_its_corpus_under_other_names():
    names = [f"m{i // 8}" if i % 8 == 0 else f"w{i}" for i in range(96)]
    members, order = Members(tuple(f"m{i}" for i in range(12))), other_calendar(cycle(12))
    rows = SeasonalCorpus(96, (0.9,)).documents(40_000, 4, np.random.default_rng(0))
    texts = [" ".join(names[i] for i in row) + "." for row in rows]
    words = (*members.names, *(name for name in names if name[0] == "w"))

    def shares(cloud):
        return dict(enumerate(fourier_profile(cloud).shares))

    eye = ModelEye(ModelPlan(WordPlan(), (0,), words), members, shares)
    last = eye.look(texts)[0]["scores"][-1]
    moved = eye.look(rewritten_members(texts, members, renamed(members, order.tolist(), anywhere)))[0][
        "scores"
    ][-1]
    assert last[0] > 0.8 > 0.1 > last[4]
    assert moved[4] > 0.8 > 0.1 > moved[0]
