import itertools
import json

import numpy as np
import pytest

from finetune import packing
from finetune.mixture import apart
from finetune.packing import drills, held_out_texts, prepare, tokenise
from finetune.pretrain_recipe import UNIT
from finetune.prompts import IGNORED
from finetune.stream import Plan, Stream, layout
from geometry.checks import InputError

TEXTS = ["The ship came home.", "On Monday the old king asked.", "<|endoftext|> is text here", "naïve 😀\x00"]


class Shouting:
    name = "test/shouting"

    def round_trip(self, items):
        return [item.replace(item.split()[1], item.split()[1].upper()) for item in items]


class Silent:
    name = "test/silent"

    def round_trip(self, items):
        raise InputError("the engine is out of order")


@pytest.fixture
def packed(corpus, tiny_tokenizer, tiny_recipe, tmp_path):
    return prepare([corpus[0]], tiny_tokenizer, tiny_recipe(), work=tmp_path)


def decoded(ids, tokenizer):
    """Texts between end tokens."""
    return tokenizer.decode(ids).split(tokenizer.eos_token)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(packing, "_TEXTS_AT_ONCE", 8)
    monkeypatch.setattr(packing, "_SENTENCES_AT_ONCE", 100)


def test_texts_are_closed_by_the_end_token(tiny_tokenizer):
    ids, begun = tokenise(TEXTS, tiny_tokenizer, 10_000)
    assert ids.dtype == np.uint16
    assert begun == (ids == tiny_tokenizer.eos_token_id).sum() == len(TEXTS)
    pieces = np.split(ids, np.flatnonzero(ids == tiny_tokenizer.eos_token_id) + 1)
    assert [tiny_tokenizer.decode(piece[:-1]) for piece in pieces[:-1]] == TEXTS


def test_tokens_stop_at_n(tiny_tokenizer):
    texts = TEXTS * 5
    whole, _ = tokenise(texts, tiny_tokenizer, 10_000)
    ends = np.flatnonzero(whole == tiny_tokenizer.eos_token_id)
    for n in (0, 1, 17, ends[7], ends[7] + 1, ends[7] + 2, len(whole)):
        ids, begun = tokenise(texts, tiny_tokenizer, n)
        assert np.array_equal(ids, whole[:n])
        assert begun == (ends < n - 1).sum() + (n > 0)
    assert tokenise([], tiny_tokenizer, 5)[1] == len(tokenise([], tiny_tokenizer, 5)[0]) == 0


def test_exercises_stop_at_n(tiny_tokenizer):
    endless = itertools.cycle(["It rained all day long. " * 3])
    ids, labels = drills(endless, tiny_tokenizer, 20, engine=None, seed=0)
    assert ids.shape == labels.shape == (20, UNIT)
    ids, labels = drills([], tiny_tokenizer, 20, engine=None, seed=0)
    assert ids.shape == labels.shape == (0, UNIT)


@pytest.mark.parametrize(("engine", "copied"), [(None, 0.5), (Shouting(), 0.4)])
def test_kinds_have_their_shares(corpus, tiny_tokenizer, engine, copied):
    ids, _ = drills(corpus[1], tiny_tokenizer, 10_000, engine=engine, seed=0)
    pairs = []
    for row in ids:
        for line in tiny_tokenizer.decode(row).replace(tiny_tokenizer.eos_token, "\n\n").split("\n\n"):
            if line.startswith("Input: "):
                pairs.append(line.removeprefix("Input: ").split("\nOutput: "))
    same = sum(source == target for source, target in pairs) / len(pairs)
    shouted = sum(any(word.isupper() and len(word) > 1 for word in s.split()) for s, _ in pairs) / len(pairs)
    assert len(pairs) > 250
    assert copied < same < copied + 0.25  # noise leaves some sentences as they are
    assert shouted == pytest.approx(0.4 if engine else 0, abs=0.08)


def test_exercises_are_the_seeds(corpus, tiny_tokenizer):
    first, again, other = (drills(corpus[1], tiny_tokenizer, 20, engine=None, seed=s)[0] for s in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_stream_is_what_its_recipe_needs(packed, tiny_recipe):
    last = layout(tiny_recipe())[-1]
    assert len(packed.text) > last.text_end
    assert packed.exercise_ids.shape == packed.exercise_labels.shape == (last.unit_end, UNIT)
    assert Plan(tiny_recipe(), packed).steps == 12


def test_text_exercises_and_held_out_documents_share_no_sentence(packed, corpus, tiny_tokenizer, tiny_recipe):
    mixture = apart([corpus[0]], tiny_recipe().seed)
    text = tiny_tokenizer.decode(packed.text).replace(tiny_tokenizer.eos_token, "")
    assert text == "".join(mixture.training)[: len(text)]
    answers = np.where(packed.exercise_labels == IGNORED, tiny_tokenizer.eos_token_id, packed.exercise_labels)
    targets = {t.strip() for row in answers for t in decoded(row, tiny_tokenizer)} - {""}
    held_out = " ".join(" ".join(mixture.held_out).split())
    assert targets
    assert not any(target in " ".join(text.split()) or target in held_out for target in targets)
    assert not any(line in text for line in "\n".join(mixture.held_out).splitlines())


def test_held_out_texts_come_back(packed, corpus, tiny_tokenizer, tiny_recipe):
    assert held_out_texts(packed, tiny_tokenizer) == apart([corpus[0]], tiny_recipe().seed).held_out


def test_a_cut_held_out_document_comes_back_as_far_as_it_goes(packed, tiny_tokenizer):
    cut = Stream(packed.text, packed.held_out[:-40], packed.exercise_ids, packed.exercise_labels)
    *whole, last = held_out_texts(packed, tiny_tokenizer)
    *kept, begun = held_out_texts(cut, tiny_tokenizer)
    assert kept == whole
    assert last.startswith(begun)


def test_a_corpus_of_one_chunk_leaves_its_rest_to_the_exercises(
    packed, corpus, tiny_tokenizer, tiny_recipe, tmp_path, monkeypatch
):
    monkeypatch.setattr(packing, "_TEXTS_AT_ONCE", 10_000)
    (tmp_path / "stream.npz").unlink()
    again = prepare([corpus[0]], tiny_tokenizer, tiny_recipe(), work=tmp_path)
    assert np.array_equal(again.text, packed.text)
    assert again.exercise_ids.shape == packed.exercise_ids.shape


def test_packing_is_done_once(packed, tiny_tokenizer, tiny_recipe, tmp_path):
    assert {path.name for path in tmp_path.iterdir()} == {"stream.npz"}
    again = prepare(["/nowhere"], tiny_tokenizer, tiny_recipe(), work=tmp_path)
    assert all(np.array_equal(a, b) for a, b in zip(vars(packed).values(), vars(again).values(), strict=True))


def test_nothing_is_left_of_packing_that_failed(corpus, tiny_tokenizer, tiny_recipe, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="out of order"):
        prepare([corpus[0]], tiny_tokenizer, tiny_recipe(), work=tmp_path, engine=Silent())

    def fail(file, **arrays):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(packing.np, "savez", fail)
    with pytest.raises(OSError, match="disk full"):
        prepare([corpus[0]], tiny_tokenizer, tiny_recipe(), work=tmp_path)
    assert not list(tmp_path.iterdir())


def test_too_little_to_hold_out(tmp_path, tiny_tokenizer, tiny_recipe):
    path = tmp_path / "small.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    with pytest.raises(InputError, match="513 are needed to measure on; add corpora"):
        prepare([path], tiny_tokenizer, tiny_recipe(), work=tmp_path)


def test_held_out_documents_without_sentences(tiny_tokenizer):
    ids, _ = tokenise(["no sentence here at all " * 30], tiny_tokenizer, 1000)
    with pytest.raises(InputError, match="no two sentences of 5 to 30 words"):
        held_out_texts(Stream(ids, ids, ids, ids), tiny_tokenizer)
