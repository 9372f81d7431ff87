import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.exercises import (
    OPEN_ROWS,
    Exercise,
    copying,
    denoising,
    exercises,
    pack,
    sentences,
    unneutralising,
)
from finetune.prompts import IGNORED, encode, one_line

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30).filter(str.strip)
SENTENCES = [
    "The ship came home in the morning with a cargo of oranges and salt.",
    "She wrote three letters to London before the summer.",
    "It rained and rained.",
    "On Monday the old king asked his daughter what the weather would be in January.",
]


def some_pairs(n, seed=0):
    words = " ".join(SENTENCES).split()
    rng = np.random.default_rng(seed)
    return [tuple(" ".join(rng.choice(words, rng.integers(1, 12))) for _ in "ab") for _ in range(n)]


def unpacked(ids, labels, end):
    """The exercises of packed rows, read back by their end tokens; the filling is dropped."""
    found = []
    for row_ids, row_labels in zip(ids.tolist(), labels.tolist(), strict=True):
        start = 0
        for i, label in enumerate(row_labels):
            if label == end:
                found.append((row_ids[start : i + 1], row_labels[start : i + 1]))
                start = i + 1
        assert set(row_ids[start:]) <= {end}
        assert set(row_labels[start:]) <= {IGNORED}
    return found


class Backwards:
    """An engine that swaps the first two words, and does what its list says for chosen sentences."""

    name = "test/backwards"

    def __init__(self, **answers):
        self.answers = answers

    def round_trip(self, items):
        return [self.answers.get(s.split()[0], " ".join([*s.split()[1::-1], *s.split()[2:]])) for s in items]


def test_sentences_end_before_a_capital_or_a_quotation_mark():
    text = 'He came to the house.  "Who is there now, sir?" she asked him twice. Nobody\nanswered her at all!'
    assert sentences(text) == [
        "He came to the house.",
        '"Who is there now, sir?" she asked him twice.',
        "Nobody answered her at all!",
    ]


def test_sentences_are_bounded():
    text = " ".join(f"W{' w' * (n - 1)}." for n in range(1, 41))
    assert [len(s.split()) for s in sentences(text)] == list(range(5, 31))
    assert [len(s.split()) for s in sentences(text, shortest=2, longest=3)] == [2, 3]
    assert sentences("") == []


def test_copying_copies():
    assert copying(SENTENCES) == [(s, s) for s in SENTENCES]


def test_noise_leaves_the_target_and_draws_from_the_words_at_hand():
    items = [one_line(" ".join(pair)) for pair in some_pairs(2000)]
    pairs = denoising(items, np.random.default_rng(1))
    assert [target for _, target in pairs] == items
    assert all(source for source, _ in pairs)
    assert {w for source, _ in pairs for w in source.split()} <= {w for item in items for w in item.split()}
    kept = sum(len(source.split()) for source, _ in pairs) / sum(len(item.split()) for item in items)
    assert kept == pytest.approx(0.9, abs=0.01)
    assert sum(source == target for source, target in pairs) < 0.3 * len(pairs)


def test_noise_is_the_generators():
    assert denoising(SENTENCES, np.random.default_rng(5)) == denoising(SENTENCES, np.random.default_rng(5))
    assert denoising(SENTENCES, np.random.default_rng(5)) != denoising(SENTENCES, np.random.default_rng(6))
    assert denoising([], np.random.default_rng(5)) == []


def test_a_word_alone_never_becomes_nothing():
    assert set(denoising(["Go."] * 200, np.random.default_rng(0))) == {("Go.", "Go.")}


def test_round_trips_that_are_empty_unchanged_or_adrift_are_left_out():
    engine = Backwards(She="", It="It rained and rained.", On="Bananas are yellow")
    assert unneutralising(SENTENCES, engine) == [
        ("ship The came home in the morning with a cargo of oranges and salt.", SENTENCES[0])
    ]


def test_groups_keep_the_order_and_lose_three_pairs_at_most():
    pairs = some_pairs(3000)
    groups = list(exercises(pairs, np.random.default_rng(0)))
    flat = [pair for group in groups for pair in group.pairs]
    assert flat == pairs[: len(flat)]
    assert len(pairs) - len(flat) <= 3
    sizes = np.bincount([len(group.pairs) for group in groups], minlength=5)[1:] / len(groups)
    np.testing.assert_allclose(sizes, [0.5, 0.25, 0.15, 0.1], atol=0.04)


@given(TEXT, TEXT)
def test_one_pair_is_what_training_and_transfer_read(tiny_tokenizer, source, target):
    ids, labels = encode(tiny_tokenizer, source, target)
    got_ids, got_labels = pack([Exercise(((source, target),))], tiny_tokenizer, len(ids))
    assert got_ids.tolist() == [ids]
    assert got_labels.tolist() == [labels]


@given(st.lists(st.tuples(TEXT, TEXT), min_size=2, max_size=4))
def test_several_pairs_are_a_prompt_with_examples(tiny_tokenizer, pairs):
    *examples, (source, target) = pairs
    ids, _ = encode(tiny_tokenizer, source, target, examples)
    got_ids, got_labels = pack([Exercise(tuple(pairs))], tiny_tokenizer, len(ids))
    assert got_ids.tolist() == [ids]
    answers = [t for t in got_labels[0].tolist() if t != IGNORED]
    alone = tiny_tokenizer([f" {one_line(t)}" for _, t in pairs], split_special_tokens=True)["input_ids"]
    assert answers == [*itertools.chain(*alone), tiny_tokenizer.eos_token_id]


def test_no_exercise_is_cut_lost_or_doubled(tiny_tokenizer):
    items = list(exercises(some_pairs(400), np.random.default_rng(0)))
    end, length = tiny_tokenizer.eos_token_id, 256
    alone = [pack([item], tiny_tokenizer, 4000) for item in items]
    whole = [unpacked(*one, end)[0] for one in alone]
    ids, labels = pack(items, tiny_tokenizer, length)
    assert ids.shape == labels.shape == (len(ids), length)
    assert ids.dtype == labels.dtype == np.int32
    assert sorted(unpacked(ids, labels, end)) == sorted(one for one in whole if len(one[0]) <= length)
    assert any(len(one[0]) > length for one in whole)


def test_rows_are_filled(tiny_tokenizer):
    ids, labels = pack(list(exercises(some_pairs(1500), np.random.default_rng(0))), tiny_tokenizer, 256)
    assert len(ids) > 2 * OPEN_ROWS
    spans = [len(row) - np.argmax(row[::-1] != IGNORED) for row in labels]
    assert np.mean(spans) > 0.9 * 256


def test_nothing_packs_to_no_rows(tiny_tokenizer):
    for items in ([], [Exercise((("a " * 50, "b"),))]):
        ids, labels = pack(items, tiny_tokenizer, 16)
        assert ids.shape == labels.shape == (0, 16)


def test_text_that_spells_the_end_does_not_end_the_exercise(tiny_tokenizer):
    ids, _ = pack([Exercise((("<|endoftext|> a", "b <|endoftext|><|pad|>"),))], tiny_tokenizer, 100)
    used = ids[0][: np.argmax(ids[0] == tiny_tokenizer.eos_token_id)].tolist()
    assert tiny_tokenizer.decode(used) == "Input: <|endoftext|> a\nOutput: b <|endoftext|><|pad|>"
