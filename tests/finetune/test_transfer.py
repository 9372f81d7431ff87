import copy

import pytest
import torch
from transformers import GenerationConfig

from finetune.prompts import encode_prompt
from finetune.transfer import Sampling, transfer
from geometry.checks import DataError, InputError, ModelError

TEXTS = [
    "The ship came home in the morning with a cargo of oranges and salt.",
    "Go.",
    "On Monday the old king asked his daughter.",
    "She wrote three letters to London, and none of them was answered before summer.",
    "So be it",
]


class Scripted(torch.nn.Module):
    """An unembedding that says one line over and over, counting from the position in the text."""

    def __init__(self, model, line):
        super().__init__()
        self.width, self.line, self.said = model.config.vocab_size, line, 0

    def forward(self, hidden):
        logits = hidden.new_zeros((*hidden.shape[:-1], self.width))
        logits[..., self.line[self.said % len(self.line)]] = 9.0
        self.said += 1
        return logits


def saying(loaded, text, *, end=True):
    ids = loaded.tokenizer(text)["input_ids"]
    loaded.model.lm_head = Scripted(loaded.model, ids + [loaded.tokenizer.eos_token_id] * end)
    return loaded


def one_by_one(loaded, text, new):
    """The slow obvious way: no padding, no cache, the most probable token each time."""
    ids = encode_prompt(loaded.tokenizer, text)
    for _ in range(new):
        with torch.no_grad():
            token = loaded.model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax().item()
        if token == loaded.tokenizer.eos_token_id:
            break
        ids.append(token)
        if "\n" in loaded.tokenizer.decode([token]):
            break
    answer = loaded.tokenizer.decode(ids, skip_special_tokens=True).split("Output:", 1)[1]
    return answer.split("\n")[0].strip()


def test_batches_give_what_single_texts_give(tiny_causal):
    got = transfer(tiny_causal.model, tiny_causal.tokenizer, TEXTS, max_new_tokens=12, batch_size=4)
    assert got == [one_by_one(tiny_causal, text, 12) for text in TEXTS]
    assert any(got)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_the_order_and_the_answers_do_not_depend_on_the_batch(tiny_llama, batch_size):
    once = transfer(tiny_llama.model, tiny_llama.tokenizer, TEXTS, max_new_tokens=8)
    model, tokenizer = tiny_llama.model, tiny_llama.tokenizer
    assert transfer(model, tokenizer, TEXTS, max_new_tokens=8, batch_size=batch_size) == once
    assert transfer(model, tokenizer, TEXTS[::-1], max_new_tokens=8, batch_size=batch_size) == once[::-1]


def test_an_answer_ends_at_the_end_token(tiny_llama):
    loaded = saying(tiny_llama, " Depart.")
    assert transfer(loaded.model, loaded.tokenizer, ["Go."]) == ["Depart."]
    assert loaded.model.lm_head.said == len(loaded.model.lm_head.line)


def test_an_answer_ends_at_a_newline(tiny_llama):
    loaded = saying(tiny_llama, " Depart.\nInput: more", end=False)
    assert transfer(loaded.model, loaded.tokenizer, ["Go."]) == ["Depart."]
    assert loaded.model.lm_head.said < len(loaded.model.lm_head.line)


def test_an_answer_ends_where_the_context_ends(tiny_llama):
    loaded = saying(tiny_llama, " word", end=False)
    prompt = len(encode_prompt(loaded.tokenizer, TEXTS[3]))
    both = transfer(loaded.model, loaded.tokenizer, [TEXTS[3], "Go."], max_new_tokens=110)
    assert prompt + loaded.model.lm_head.said > 128 > prompt
    assert len(loaded.tokenizer(both[1])["input_ids"]) > len(loaded.tokenizer(both[0])["input_ids"])


def test_examples_are_shown(tiny_llama):
    plain = transfer(tiny_llama.model, tiny_llama.tokenizer, ["Go."], max_new_tokens=8)
    shown = transfer(tiny_llama.model, tiny_llama.tokenizer, ["Go."], examples=[("a", "b")], max_new_tokens=8)
    assert plain != shown


def test_a_seed_decides_what_is_drawn(tiny_llama):
    model, tokenizer = tiny_llama.model, tiny_llama.tokenizer
    state = torch.random.get_rng_state()
    first, again, other = (
        transfer(model, tokenizer, TEXTS, max_new_tokens=8, sample=Sampling(seed)) for seed in (0, 0, 1)
    )
    assert first == again != other
    assert torch.equal(torch.random.get_rng_state(), state)
    greedy = transfer(model, tokenizer, TEXTS, max_new_tokens=8)
    assert greedy == transfer(model, tokenizer, TEXTS, max_new_tokens=8, sample=Sampling(0, temperature=1e-4))
    assert greedy == transfer(model, tokenizer, TEXTS, max_new_tokens=8, sample=Sampling(0, top_p=1e-6))


def test_the_model_comes_back_as_it_was_and_its_defaults_do_not_meddle(tiny_llama):
    plain = transfer(tiny_llama.model, tiny_llama.tokenizer, TEXTS, max_new_tokens=8)
    own = GenerationConfig(repetition_penalty=9.0, do_sample=True, num_beams=2, max_length=3)
    tiny_llama.model.generation_config = own
    tiny_llama.model.train()
    assert transfer(tiny_llama.model, tiny_llama.tokenizer, TEXTS, max_new_tokens=8) == plain
    assert tiny_llama.model.generation_config is own
    assert tiny_llama.model.training


def test_no_texts_give_no_answers(tiny_llama):
    assert transfer(tiny_llama.model, tiny_llama.tokenizer, []) == []


def test_what_cannot_be_rewritten_is_refused_by_number(tiny_llama, fresh):
    model, tokenizer = tiny_llama.model, tiny_llama.tokenizer
    with pytest.raises(DataError, match="text 2 is empty"):
        transfer(model, tokenizer, ["Go.", " \n"])
    with pytest.raises(DataError, match=r"text 2: its prompt has .* context 128"):
        transfer(model, tokenizer, ["Go.", "word " * 100])
    with pytest.raises(InputError, match="at least 1"):
        transfer(model, tokenizer, ["Go."], max_new_tokens=0)
    bert = fresh("bert")
    with pytest.raises(ModelError, match="not a causal"):
        transfer(bert.model, bert.tokenizer, ["Go."])
    endless = copy.deepcopy(tokenizer)
    endless.eos_token = None
    with pytest.raises(ModelError, match="end-of-text"):
        transfer(model, endless, ["Go."])


@pytest.mark.parametrize("bad", [{"temperature": 0.0}, {"top_p": 0.0}, {"top_p": 1.5}])
def test_impossible_sampling_is_refused(bad):
    with pytest.raises(InputError, match="temperature must be above 0"):
        Sampling(0, **bad)
