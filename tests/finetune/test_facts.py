import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from finetune.facts import Fact, FactScore, fact_scores, facts_kept, log_likelihoods, read_facts
from geometry.checks import DataError, ModelError

LINE = {
    "id": "f1",
    "category": "capitals",
    "prompt": "The capital of France is",
    "answer": "Paris",
    "foils": ["Rome", "London"],
    "styled_prompt": "The chief city of the realm of France is",
}
FACT = Fact(**LINE | {"foils": ("Rome", "London")})


def written(path, *lines):
    path.write_text("".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines))
    return path


def test_facts_come_back(tmp_path):
    got = read_facts(written(tmp_path / "f.jsonl", LINE, "", LINE | {"id": "f2"}))
    assert got.facts == (FACT,)
    assert [r.line for r in got.refused] == [2, 3]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": 3}, '"answer" is missing or is not a text'),
        ({"category": " "}, '"category" is missing'),
        ({"foils": []}, '"foils" must be a list'),
        ({"foils": "Rome"}, '"foils" must be a list'),
        ({"foils": ["Rome", "Paris"]}, "among its own foils"),
        ({"prompt": "Another prompt"}, "already on line 1"),
    ],
)
def test_bad_facts_are_refused_with_their_line(tmp_path, change, message):
    with pytest.raises(DataError, match=message) as refusal:
        read_facts(written(tmp_path / "f.jsonl", LINE, LINE | change))
    assert "line 2" in str(refusal.value)


def test_no_facts_are_refused(tmp_path):
    with pytest.raises(DataError, match="holds no fact"):
        read_facts(written(tmp_path / "f.jsonl", ""))


def one_by_one(loaded, prompt, answer):
    """The slow obvious way: one text, no padding, one token after the other."""
    asked = loaded.tokenizer(prompt)["input_ids"]
    answered = loaded.tokenizer(f" {answer}", add_special_tokens=False)["input_ids"]
    total = 0.0
    for i, token in enumerate(answered):
        ids = torch.tensor([asked + answered[:i]])
        with torch.no_grad():
            total += loaded.model(ids).logits[0, -1].double().log_softmax(-1)[token].item()
    return total


def test_batches_give_what_single_texts_give(tiny_causal):
    questions = [("On Monday", "night"), ("The ship came home in the", "morning"), ("a", "b")]
    got = log_likelihoods(tiny_causal.model, tiny_causal.tokenizer, questions)
    assert got == pytest.approx([one_by_one(tiny_causal, *q) for q in questions], abs=1e-4)


def test_many_batches_keep_the_order(tiny_llama, monkeypatch):
    questions = [("word " * (i % 5 + 1), str(i)) for i in range(12)]
    once = log_likelihoods(tiny_llama.model, tiny_llama.tokenizer, questions)
    monkeypatch.setattr("finetune.facts._BATCH_TOKENS", 1)
    assert log_likelihoods(tiny_llama.model, tiny_llama.tokenizer, questions) == pytest.approx(once, abs=1e-4)


def test_the_model_comes_back_as_it_was(tiny_llama):
    tiny_llama.model.train()
    fact_scores(tiny_llama.model, tiny_llama.tokenizer, [FACT])
    assert tiny_llama.model.training


def test_a_planted_fact_is_known_and_its_margin_is_the_planted_one(tiny_llama):
    """An unembedding that prefers the letters x and y by three nats over everything else."""
    model, tokenizer = tiny_llama.model, tiny_llama.tokenizer
    ids = {letter: tokenizer(f" {letter}")["input_ids"] for letter in "xyzq"}
    assert {len(pieces) for pieces in ids.values()} == {2}

    class Preferring(torch.nn.Module):
        def forward(self, hidden):
            logits = hidden.new_zeros((*hidden.shape[:-1], model.config.vocab_size))
            logits[..., [ids["x"][-1], ids["y"][-1]]] = 3.0
            return logits

    model.lm_head = Preferring()
    known = Fact("1", "planted", "Say", "x", ("z", "q"), "Pray say")
    unknown = replace(known, id="2", answer="z", foils=("x", "q"))
    torn = replace(known, id="3", foils=("y", "q"))
    scores = fact_scores(model, tokenizer, [known, unknown, torn])
    assert [(s.known, s.styled_known) for s in scores] == [(True, True), (False, False), (False, False)]
    assert [s.margin for s in scores] == pytest.approx([3.0, -3.0, 0.0], abs=1e-5)
    assert scores[0].styled_margin == pytest.approx(3.0, abs=1e-5)


def test_what_cannot_be_asked_is_refused(tiny_llama, fresh):
    long = replace(FACT, prompt="word " * 200)
    with pytest.raises(DataError, match="longer than the context of 128"):
        fact_scores(tiny_llama.model, tiny_llama.tokenizer, [long])
    with torch.no_grad():
        tiny_llama.model.lm_head.weight.fill_(float("nan"))
    with pytest.raises(ModelError, match="not finite"):
        fact_scores(tiny_llama.model, tiny_llama.tokenizer, [FACT])
    bert = fresh("bert")
    with pytest.raises(ModelError, match="not a causal language model"):
        fact_scores(bert.model, bert.tokenizer, [FACT])


def scores(*margins):
    return [FactScore(str(i), "x", *pair) for i, pair in enumerate(margins)]


def test_kept_forgotten_and_learnt_are_told_apart():
    base = scores((1, 1), (1, 1), (1, 1), (-1, -1), (-1, 1))
    adapted = scores((2, 2), (-1, 2), (-1, -1), (1, 1), (-1, -1))
    got = facts_kept(base, adapted, np.random.default_rng(0))
    assert got.kept.value == pytest.approx(1 / 3)
    assert got.styled_kept.value == pytest.approx(2 / 4)
    assert got.forgotten == ("2",)
    assert got.learnt.value == pytest.approx(1 / 2)


def test_the_same_model_keeps_everything():
    base = scores((1, -1), (1, 1), (-1, -1))
    got = facts_kept(base, base, np.random.default_rng(0))
    assert (got.kept.value, got.kept.low, got.forgotten, got.learnt.value) == (1, 1, (), 0)


def test_a_base_that_knows_nothing_gives_no_share():
    ignorant = scores((-1, -1), (-1, -1))
    assert np.isnan(facts_kept(ignorant, ignorant, np.random.default_rng(0)).kept.value)


def test_other_facts_are_refused():
    with pytest.raises(DataError, match="same facts"):
        facts_kept(scores((1, 1)), scores((1, 1), (1, 1)), np.random.default_rng(0))
