import math

import numpy as np
import pytest
import torch

from finetune import model_measures
from finetune.model_measures import PROMPTS, measure_card
from geometry.checks import DataError, ModelError

TEXT = "The ship came home in the morning with a cargo of oranges and salt.\n" * 30 + "naïve 😀 <|endoftext|>"
SENTENCES = ["The ship came home.", "On Monday the old\nking asked.", "She wrote three letters to London."]


@pytest.fixture
def measure(monkeypatch):
    monkeypatch.setattr(model_measures, "_NEW_TOKENS", 4)
    monkeypatch.setattr(model_measures, "WINDOW", 50)

    def measured(loaded, seed=0, **changes):
        inputs = {"validation_text": TEXT, "held_out_sentences": SENTENCES, **changes}
        return measure_card(loaded, **inputs, rng=np.random.default_rng(seed))

    return measured


@pytest.fixture
def answers(monkeypatch):
    def say(*said):
        monkeypatch.setattr(model_measures, "transfer", lambda *_, **__: list(said))

    return say


def slow_nats(loaded, text, window):
    """Every token from those before it in its window, the end token at the very front."""
    ids = loaded.tokenizer(text, split_special_tokens=True)["input_ids"]
    stream = [loaded.tokenizer.eos_token_id, *ids]
    nats = 0.0
    for i in range(1, len(stream)):
        start = (i - 1) // window * window
        with torch.no_grad():
            logits = loaded.model(torch.tensor([stream[start:i]])).logits[0, -1]
        nats -= float(torch.log_softmax(logits, -1)[stream[i]])
    return nats, len(ids)


@pytest.mark.parametrize("length", [20, 113, 460])
def test_every_token_is_predicted_once_from_its_window(tiny_llama, measure, length):
    got = measure(tiny_llama, validation_text=TEXT[:length])["validation"]
    nats, n = slow_nats(tiny_llama, TEXT[:length], 50)
    assert (got["characters"], got["tokens"], got["window"]) == (length, n, 50)
    assert got["nats_per_token"] == pytest.approx(nats / n, rel=1e-5)
    assert got["perplexity"] == pytest.approx(math.exp(nats / n), rel=1e-4)
    assert got["bits_per_character"] == pytest.approx(nats / math.log(2) / length, rel=1e-5)


def test_a_model_that_knows_nothing_is_uniform(tiny_llama, measure):
    tiny_llama.model.lm_head.weight.data.zero_()
    got = measure(tiny_llama)["validation"]
    assert got["perplexity"] == pytest.approx(tiny_llama.model.config.vocab_size, rel=1e-5)
    assert 0 < got["unigram_nats_per_token"] < got["nats_per_token"]


def test_the_floor_is_the_entropy_of_the_tokens(tiny_llama, measure):
    letters = "q7" * 40
    assert len(tiny_llama.tokenizer(letters)["input_ids"]) == 80
    got = measure(tiny_llama, validation_text=letters)["validation"]
    assert got["unigram_nats_per_token"] == pytest.approx(math.log(2))


def test_the_window_is_no_longer_than_the_context(tiny_llama, measure, monkeypatch):
    monkeypatch.setattr(model_measures, "WINDOW", 10_000)
    assert measure(tiny_llama)["validation"]["window"] == 128


def test_copies_are_counted_and_scored(tiny_llama, measure, answers):
    answers("The ship came home.", "On Monday the old king asked.", "She wrote three letters to London.")
    perfect = measure(tiny_llama)["copying"]
    assert perfect["n"] == 3
    assert perfect["exact"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert perfect["bleu"]["value"] == pytest.approx(100)
    assert perfect["bleu_of_another"] < 20
    assert "tok:13a" in perfect["bleu_signature"]
    answers("The ship came home.", "On Monday the old king slept.", "")
    flawed = measure(tiny_llama)["copying"]
    assert flawed["exact"]["value"] == pytest.approx(1 / 3)
    assert flawed["exact"]["low"] < flawed["exact"]["value"] < flawed["exact"]["high"]
    assert flawed["bleu"]["value"] < 80


def test_a_sentence_can_be_copied_whole(tiny_llama, measure, monkeypatch):
    asked = {}
    monkeypatch.setattr(
        model_measures, "transfer", lambda model, tokenizer, texts, **options: asked.update(options) or texts
    )
    measure(tiny_llama)
    longest = max(len(tiny_llama.tokenizer(s)["input_ids"]) for s in SENTENCES)
    assert asked["max_new_tokens"] > longest
    assert "sample" not in asked


def test_the_same_generator_gives_the_same_card(tiny_llama, measure):
    first, again, other = (measure(tiny_llama, seed) for seed in (0, 0, 1))
    assert first == again
    assert first["samples"] != other["samples"]
    assert first["validation"] == other["validation"]
    assert [sample["prompt"] for sample in first["samples"]] == list(PROMPTS)
    assert [copy["source"] for copy in first["copies"]] == [" ".join(s.split()) for s in SENTENCES]


def test_model_and_generators_come_back_as_they_were(tiny_llama, measure):
    tiny_llama.model.train()
    state = torch.random.get_rng_state()
    measure(tiny_llama)
    assert tiny_llama.model.training
    assert torch.random.get_rng_state().equal(state)


def test_refused(tiny_llama, fresh, measure):
    with pytest.raises(DataError, match="the validation text is empty; give one"):
        measure(tiny_llama, validation_text=" \n")
    with pytest.raises(DataError, match="1 held-out sentences: give two at least"):
        measure(tiny_llama, held_out_sentences=SENTENCES[:1])
    with pytest.raises(DataError, match="text 2 is empty"):
        measure(tiny_llama, held_out_sentences=["Fine.", " "])
    with pytest.raises(ModelError, match="not a causal language model"):
        measure(fresh("bert"))
    tiny_llama.tokenizer.eos_token = None
    with pytest.raises(ModelError, match="no end-of-text token"):
        measure(tiny_llama)
