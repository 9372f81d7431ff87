"""Language models of an edited corpus follow it, and differ from those of the corpus by nothing else."""

import numpy as np
import pytest

from analyses.perturb_models import ModelEye, ModelPlan, contexts_of, with_members
from finetune.word_model import WordPlan
from geometry.checks import DataError
from geometry.circles import fourier_profile
from geometry.corpus_edits import Members, anywhere, renamed, rewritten_members
from geometry.kernel_edits import other_calendar
from geometry.latent import SeasonalCorpus
from geometry.layouts import cycle

QUICK = WordPlan(width=16, layers=1, context=5, batch=32, steps=5)
WORDS = tuple(f"w{i}" for i in range(8))


def test_contexts_stand_before_lone_members_and_hold_none():
    rows = np.array([[0, 5, 2, 6], [0, 2, 6, 6], [0, 5, 2, 3], [0, 6, 6, 3], [0, 6, 7, -1]])
    found = contexts_of(rows, 2, np.random.default_rng(0))
    assert [context.tolist() for context in found] == [[0, 5], [0, 6, 6]]
    with pytest.raises(DataError, match="no member stands alone"):
        contexts_of(np.array([[0, 2, 3]]), 2, np.random.default_rng(0))


def test_an_edit_that_changes_nothing_gives_the_same_scores():
    members = Members(WORDS[:4])
    plan = ModelPlan(QUICK, (0,), WORDS)
    eye = ModelEye(plan, members, lambda cloud: {"size": float(np.sum(cloud**2))})
    texts = [f"{WORDS[6]} {WORDS[i % 4]} {WORDS[7]}." for i in range(40)]
    edited = rewritten_members(texts, members, renamed(members, range(4), anywhere))
    assert eye.look(texts) == eye.look(edited)
    assert list(with_members(["No. w1 here. w9."], members)) == ["w1 here. "]


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
