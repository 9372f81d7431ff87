"""Questions over one shared context: the same numbers as asking each option alone."""

import copy
import inspect

import numpy as np
import pytest
import torch

from finetune.asked import ask, position_limit, read_answer
from finetune.facts import log_likelihoods
from finetune.transfer import stop_ids
from geometry.checks import DataError, InputError, ModelError

QUESTIONS = [
    ("The ship came home in the morning with a cargo of", ("oranges and salt", "no letters", "a", "salt")),
    ("On Monday the old king asked", ("his daughter", "the weather")),
]


def test_options_have_the_likelihoods_that_they_have_alone(tiny_causal):
    replies = ask(tiny_causal.model, tiny_causal.tokenizer, QUESTIONS)
    alone = [
        log_likelihoods(tiny_causal.model, tiny_causal.tokenizer, [(prompt, o) for o in options])
        for prompt, options in QUESTIONS
    ]
    for reply, expected in zip(replies, alone, strict=True):
        np.testing.assert_allclose(reply.likelihoods, expected, atol=2e-4)
        assert reply.chosen == int(np.argmax(expected))
        assert reply.written == ""


def test_what_is_written_is_what_generate_writes(tiny_causal):
    from transformers import GenerationConfig

    model, tokenizer = tiny_causal.model, tiny_causal.tokenizer
    prompt = QUESTIONS[0][0]
    ids = tokenizer(prompt, return_tensors="pt").input_ids
    settings = GenerationConfig(
        max_new_tokens=12,
        do_sample=False,
        eos_token_id=stop_ids(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
    )
    new = model.generate(input_ids=ids, generation_config=settings)[0, ids.shape[1] :]
    text = tokenizer.decode(new, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    (reply,) = ask(model, tokenizer, QUESTIONS[:1], write=12)
    assert reply.written == text.split("\n")[0].strip()
    assert reply.tokens == ids.shape[1]


def test_a_common_opening_is_read_once_and_changes_nothing(tiny_causal, monkeypatch):
    opening = "She wrote three letters to London, and none of them was answered before summer. " * 2
    questions = [(opening + prompt, options) for prompt, options in QUESTIONS]
    alone = [ask(tiny_causal.model, tiny_causal.tokenizer, [one], write=4)[0] for one in questions]
    forward, widths = type(tiny_causal.model).forward, []

    def counted(self, *args, **kwargs):
        widths.append(kwargs["input_ids"].shape[1])
        return forward(self, *args, **kwargs)

    counted.__signature__ = inspect.signature(forward)
    monkeypatch.setattr(type(tiny_causal.model), "forward", counted)
    together = ask(tiny_causal.model, tiny_causal.tokenizer, questions, write=4)
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one.likelihoods, other.likelihoods, atol=2e-4)
        assert (one.written, one.tokens) == (other.written, other.tokens)
    assert sum(width > 40 for width in widths) == 1


def test_the_model_is_given_back_as_it_was_and_progress_is_told(tiny_llama):
    tiny_llama.model.train()
    told = []
    ask(tiny_llama.model, tiny_llama.tokenizer, QUESTIONS, progress=told.append)
    assert told == [0.5, 1.0]
    assert tiny_llama.model.training


def test_a_table_of_positions_ends_a_context_and_rotary_positions_do_not(fresh):
    long = "The ship came home. " * 60
    gpt2, llama = fresh("gpt2"), fresh("llama")
    assert (position_limit(gpt2.model), position_limit(llama.model)) == (128, None)
    with pytest.raises(DataError, match="the model has a table of 128"):
        ask(gpt2.model, gpt2.tokenizer, [(long, ("a",))])
    (reply,) = ask(llama.model, llama.tokenizer, [(long, ("a",))])
    assert reply.tokens > 128


def test_what_cannot_be_asked_is_refused(tiny_llama, fresh):
    with pytest.raises(InputError, match="write: expected 0"):
        ask(tiny_llama.model, tiny_llama.tokenizer, QUESTIONS, write=-1)
    bert = fresh("bert")
    with pytest.raises(ModelError, match="not a causal language model"):
        ask(bert.model, bert.tokenizer, QUESTIONS)
    broken = copy.deepcopy(tiny_llama.model)
    with torch.no_grad():
        broken.lm_head.weight[0, 0] = torch.nan
    with pytest.raises(ModelError, match="not finite"):
        ask(broken, tiny_llama.tokenizer, QUESTIONS)


def test_a_model_without_a_cache_is_refused(tiny_llama, monkeypatch):
    forward = type(tiny_llama.model).forward

    def forgetful(self, *args, **kwargs):
        found = forward(self, *args, **kwargs)
        found.past_key_values = None
        return found

    monkeypatch.setattr(type(tiny_llama.model), "forward", forgetful)
    with pytest.raises(ModelError, match="keeps no keys and values"):
        ask(tiny_llama.model, tiny_llama.tokenizer, QUESTIONS)


@pytest.mark.parametrize(
    ("written", "correct", "invalid"),
    [
        ("apple", True, False),
        ("The Apple!", True, False),
        ("bridge", False, False),
        ("bridge or apple", False, False),
        ("apple, not bridge", True, False),
        ("pineapples", False, True),  # a word inside another word is no answer
        ("", False, True),
        ("a an the", False, True),
    ],
)
def test_a_written_answer_is_right_wrong_or_none(written, correct, invalid):
    found = read_answer(written, ["apple"], ["bridge"])
    assert (found.correct, found.invalid) == (correct, invalid)
