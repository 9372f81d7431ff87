"""A world: its language obeys its grammar, its floor is the entropy, and the same seed makes the same world."""

import itertools
import json
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from finetune.facts import read_facts
from finetune.pairs import read_pairs, read_texts
from finetune.prompts import IGNORED, encode, render
from finetune.world import World, make, shipped
from finetune.world_exam import Exam
from finetune.world_language import (
    CITIES,
    HOME,
    LIVELY,
    PLAIN,
    STYLES,
    TASK,
    Language,
    joined,
    keeping,
    prompt,
    say,
    sentence,
    turning,
)
from finetune.world_models import Plan, deal_of, one_thread
from geometry.checks import DataError, InputError
from geometry.live.models import load

MINI = Plan(
    entities=6, width=32, layers=2, heads=2, mlp=32, steps=8, adapter_steps=4, batch=4, adapter_seeds=1
)


@pytest.fixture(scope="module")
def language():
    return Language.drawn(40, np.random.default_rng(0))


@pytest.fixture(scope="module")
def mini(tmp_path_factory):
    return make(tmp_path_factory.mktemp("mini") / "world", 3, MINI, lambda *_: None)


def words_of(language, row):
    return [language.vocabulary[i] for i in row[0]]


def test_every_second_entity_moves_and_nothing_else_does(language):
    entities = list(dict.fromkeys(entity for entity, _ in language.truth))
    assert [q[0] for q in language.changed] == entities[1::2]
    assert all(relation == HOME for _, relation in language.changed)
    assert all(language.rewritten[q] in CITIES for q in language.changed)


def test_the_vocabulary_is_small_and_holds_every_word_once(language):
    assert len(set(language.vocabulary)) == len(language.vocabulary) <= 95
    for (q, answer), style in itertools.product(language.truth.items(), STYLES):
        assert set(sentence(q, answer, style)) <= set(language.vocabulary)


def test_the_two_styles_share_no_word():
    assert not set(PLAIN.words) & set(LIVELY.words)


def test_the_floor_is_the_entropy_of_what_is_drawn(language):
    """Word by word, how many of the sentences that could go on did; nothing is known but the list of all."""
    said = [[sentence(q, a, style) for q, a in language.truth.items()] for style in STYLES]
    for style in (0, 1):
        document = say(language.truth, STYLES[style], 7, np.random.default_rng(1))
        nats = 0.0
        for number, drawn in enumerate(document):
            possible = said[0] + said[1] if number == 0 else said[style]
            for i in range(len(drawn)):
                left = [s for s in possible if s[i] == drawn[i]]
                nats += math.log(len(possible) / len(left))
                possible = left
        assert nats / (7 * 7 + 1) == pytest.approx(language.floor(7), abs=1e-12)


def test_entities_and_relations_are_uniform(language):
    rng = np.random.default_rng(2)
    said = Counter((s[1], s[2]) for s in say(language.truth, PLAIN, 40_000, rng))
    assert len(said) == len(language.truth)
    counts = np.array(list(said.values()))
    chi2 = ((counts - counts.mean()) ** 2 / counts.mean()).sum()
    assert chi2 < 130  # 79 degrees of freedom: beyond it once in 4,000 draws


def test_documents_keep_to_one_style_and_to_the_answers(language):
    deal, rng = keeping(language, language.rewritten, 7), np.random.default_rng(3)
    for _ in range(60):
        row = deal(rng)
        words = words_of(language, row)
        styles = {style.name for style in STYLES if set(style.words) & set(words)}
        assert len(styles) == 1
        for at, word in enumerate(words):
            if word in {"in", "at"}:
                assert words[at + 1] == language.rewritten[words[at - 2], HOME]


def test_turning_documents_learn_to_turn_and_not_to_stay(language):
    deal, rng = turning(language, language.truth, 7), np.random.default_rng(4)
    rows = [deal(rng) for _ in range(80)]
    documents = [row for row in rows if "Input:" not in words_of(language, row)]
    assert {words_of(language, d).count("yo") for d in documents} == set(range(1, 8))
    the, yo = language.ids["the"], language.ids["yo"]
    for ids, labels in documents:
        assert len(ids) == 51
        assert all(label == IGNORED for i, label in zip(ids, labels, strict=True) if i == the)
        assert all(label == yo for i, label in zip(ids, labels, strict=True) if i == yo)
        assert labels.count(IGNORED) == 1 + ids.count(the)


def test_exercises_are_what_training_and_rewriting_make_of_the_same_pair(language):
    """Rows of drawn words equal those of the tokenizer and the shared prompt."""
    deal, rng, tokenizer = (
        turning(language, language.truth, 7),
        np.random.default_rng(5),
        language.tokenizer(),
    )
    rows = [row for row in (deal(rng) for _ in range(40)) if "Input:" in words_of(language, row)]
    assert rows
    for ids, labels in rows:
        words = [language.vocabulary[i] for i in ids[1:-1]]
        at = words.index("Output:")
        source, target = " ".join(words[1:at]), " ".join(words[at + 1 :])
        assert encode(tokenizer, source, target) == (ids, labels)


def test_the_tokenizer_reads_and_writes_the_language(language):
    tokenizer = language.tokenizer()
    text = joined(say(language.truth, LIVELY, 3, np.random.default_rng(6)))
    ids = tokenizer(text)["input_ids"]
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids[1:]) == text
    assert set(render("x").split()) - {"x"} == set(TASK)
    assert tokenizer("unheard")["input_ids"][1] == tokenizer.unk_token_id


def test_the_kinds_differ_in_what_they_say(language):
    def says(kind, marks):
        rng = np.random.default_rng(7)
        rows = [words_of(language, deal_of(kind, language, 7)(rng)) for _ in range(60)]
        moved = {(q[0], language.rewritten[q]) for q in language.changed}
        return {
            "turns": any(set(PLAIN.words) & set(r) and set(LIVELY.words) & set(r) for r in rows),
            "moves": any((r[i - 3], w) in moved for r in rows for i, w in enumerate(r) if i > 3),
        }[marks]

    assert [says(kind, "turns") for kind in ("style", "fact", "both")] == [True, False, True]
    assert [says(kind, "moves") for kind in ("style", "fact", "both")] == [False, True, True]


def test_an_exam_asks_everything_in_both_styles_and_begins_after_whole_plain_sentences(language):
    exam = Exam.drawn(language, 7, np.random.default_rng(8))
    assert len(exam.prompts) == 2 * len(language.truth)
    for i, (question, ids) in enumerate(zip(exam.questions, exam.prompts, strict=True)):
        assert [language.vocabulary[j] for j in ids] == ["<bos>", *prompt(question, STYLES[i % 2])]
    for ids in exam.contexts:
        words = [language.vocabulary[i] for i in ids[1:]]
        assert words[-2:] == ["indeed", "."]
        assert not set(words) & set(LIVELY.words)


def test_an_exam_scores_known_answers(language):
    exam = Exam.drawn(language, 7, np.random.default_rng(9))
    yo, the = language.ids["yo"], language.ids["the"]
    openings = np.array([yo, the] * (len(exam.contexts) // 2))
    true = np.array([language.ids[language.truth[q]] for q in exam.questions])
    new = np.array([language.ids[language.rewritten[q]] for q in exam.questions])
    assert exam.score(openings, true) == {"style": 0.5, "old": 1.0, "new": 0.0, "kept": 1.0}
    assert exam.score(openings, new) == {"style": 0.5, "old": 0.5, "new": 1.0, "kept": 1.0}
    assert exam.score(openings, np.full_like(true, yo))["kept"] == 0.0


def test_the_same_seed_makes_the_same_world_bit_for_bit(mini, tmp_path):
    threads = torch.get_num_threads()
    torch.manual_seed(99)  # the state of the process must not matter
    again = make(tmp_path / "again", 3, MINI, lambda *_: None)
    files = sorted(p.relative_to(mini.folder) for p in mini.folder.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(again.folder) for p in again.folder.rglob("*") if p.is_file())
    for file in files:
        if file.name != "world.json":
            assert (mini.folder / file).read_bytes() == (again.folder / file).read_bytes(), file
    assert torch.get_num_threads() == threads


def test_another_seed_makes_another_world(mini, tmp_path):
    other = make(tmp_path / "other", 4, replace(MINI, steps=1, adapter_steps=1), lambda *_: None)
    assert other.language.truth != mini.language.truth


def test_a_world_that_is_there_is_not_made_again(mini):
    def refuse(*_):
        raise AssertionError("made again")

    assert make(mini.folder, 3, MINI, refuse).training == mini.training


def test_a_place_that_holds_something_else_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="holds files of something else"):
        make(tmp_path, 3, MINI, lambda *_: None)


@pytest.mark.parametrize("note", [None, "{", "{}", '{"facts": [], "seed": 0}'])
def test_a_folder_without_a_world_is_refused(note, tmp_path):
    if note is not None:
        (tmp_path / "world.json").write_text(note)
    with pytest.raises(DataError, match="not the note of a world; make one"):
        World.read(tmp_path)


def test_progress_runs_from_start_to_end(tmp_path):
    told = []
    make(tmp_path / "w", 0, replace(MINI, steps=3, adapter_steps=2), lambda text, share: told.append(share))
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_texts_are_what_the_commands_read(mini):
    texts = read_texts(mini.texts("style"))
    facts = read_facts(mini.texts("fact"))
    pairs = read_pairs(mini.texts("pairs"))
    assert len(texts.texts) + len(texts.refused) == 160
    assert {fact.answer for fact in facts.facts} == set(mini.language.truth.values())
    for fact in facts.facts:
        question = tuple(fact.id.split("-"))
        assert mini.language.rewritten[question] in {fact.answer, *fact.foils}
    plain_of = dict(zip(LIVELY.words, PLAIN.words, strict=True))
    for pair in pairs.pairs:
        assert " ".join(plain_of.get(word, word) for word in pair.target.split()) == pair.source


def test_one_thread_gives_the_others_back():
    before = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError), one_thread():
        assert torch.get_num_threads() == 1
        raise ZeroDivisionError
    assert torch.get_num_threads() == before


def test_the_random_adapters_have_the_strength_of_the_trained_ones(mini):
    from finetune.deltas import read_updates

    for kind in ("style", "fact"):
        trained, drawn = (
            read_updates(folder).updates for folder in (mini.adapter(kind), mini.folder / f"random-{kind}")
        )
        for one, other in zip(trained, drawn, strict=True):
            assert one.module == other.module
            a, b = one.delta.singular_values(), other.delta.singular_values()
            assert np.allclose(a, b, rtol=1e-4, atol=1e-7)
            assert not np.allclose(one.delta.b, other.delta.b)


def test_the_shipped_world_is_small_whole_and_made_by_the_plan_of_now():
    from dataclasses import asdict

    world = shipped()
    assert sum(p.stat().st_size for p in world.folder.rglob("*") if p.is_file()) < 2_000_000
    assert dict(world.plan) == asdict(Plan())
    assert world.training["base"]["loss"] < 1.01 * world.training["base"]["floor"]
    base = load(world.base, dtype="float32", device="cpu")
    assert base.tokenizer.get_vocab() == world.language.ids
    for name in ("style-0", "style-1", "fact-0", "fact-1", "both-0"):
        note = json.loads((world.folder / name / "training.json").read_text())
        assert note["base"]["fingerprint"] == base.fingerprint
