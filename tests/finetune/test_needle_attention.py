"""Attention on a needle, against the weights that the model itself gives out in eager mode."""

import copy

import numpy as np
import pytest
import torch

from finetune.needle_attention import needle_attention
from finetune.needle_layout import Arrangement, lay_out, token_ranges
from finetune.needle_tasks import haystack, key_values, rivals
from finetune.prompts import completion, token_spans
from geometry.live.attention_calls import attention_calls


def eager(loaded, question):
    model = copy.deepcopy(loaded.model)
    model.set_attn_implementation("eager")
    asked, answer = token_spans(loaded.tokenizer, question.prompt, completion(question.answer))
    with torch.no_grad():
        found = model(input_ids=torch.tensor([asked + answer[:-1]]), output_attentions=True).attentions
    return torch.stack(found)[:, 0].double().numpy(), len(asked), answer  # (L, H, T, T)


def calls_of(loaded, question):
    asked, answer = token_spans(loaded.tokenizer, question.prompt, completion(question.answer))
    calls = []
    with torch.inference_mode(), attention_calls(loaded.model, calls.append):
        loaded.model(torch.tensor([asked + answer[:-1]]), use_cache=False)
    return calls


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "neox"])
def test_masses_are_those_of_the_model_s_own_weights(architecture, fresh):
    loaded = fresh(architecture)
    question = lay_out(haystack(np.random.default_rng(0), filler=rivals), 3, Arrangement(0.4))
    weights, n, _ = eager(loaded, question)
    spans = token_ranges(loaded.tokenizer, question.prompt, question.spans)
    found = needle_attention(loaded.model, loaded.tokenizer, question)

    def mass(name):
        return sum(weights[:, :, n - 1, a:b].sum(-1) for a, b in spans[name])

    np.testing.assert_allclose(found.mass, mass("needle"), atol=1e-5)
    np.testing.assert_allclose(found.rivals, mass("rivals"), atol=1e-5)
    np.testing.assert_allclose(found.log_odds, np.log(mass("needle") / (1 - mass("needle"))), atol=1e-3)
    np.testing.assert_allclose(found.sink, weights[:, :, n - 1, :4].sum(-1), atol=1e-5)
    assert (found.visible == n).all()
    assert (found.needle_keys == sum(b - a for a, b in spans["needle"])).all()
    assert (found.rival_keys == sum(b - a for a, b in spans["rivals"])).all()
    assert found.layers == (0, 1, 2)
    ranges = np.concatenate([np.arange(a, b) for a, b in spans["needle"]])
    for layer, call in enumerate(calls_of(loaded, question)):
        p, v = (
            weights[layer, :, n - 1 : n],
            call.value[0].double().repeat_interleave(call.group, dim=0).numpy(),
        )
        part, whole = p[..., ranges] @ v[:, ranges], p @ v
        norms = [np.linalg.norm(o[:, 0], axis=-1) for o in (part, whole)]
        np.testing.assert_allclose(found.signal[layer], norms[0] / norms[1], rtol=1e-3)


def test_a_head_retrieves_where_it_looks_most_at_the_token_that_comes_next(tiny_llama):
    question = lay_out(key_values(np.random.default_rng(1)), 1, Arrangement(0.0))
    weights, n, answer = eager(tiny_llama, question)
    asked = token_spans(tiny_llama.tokenizer, question.prompt, "")[0]
    found = needle_attention(tiny_llama.model, tiny_llama.tokenizer, question)
    ((_, end),) = token_ranges(tiny_llama.tokenizer, question.prompt, {"v": question.spans["value"]})["v"]
    same = next(k for k in range(len(answer) + 1) if k == len(answer) or asked[end - 1 - k] != answer[-1 - k])
    rows = range(n - 1 + len(answer) - same, n - 1 + len(answer))
    looks = np.stack([weights[:, :, row].argmax(-1) for row in rows], -1)
    np.testing.assert_allclose(found.retrieved, (looks == np.arange(end - same, end)).mean(-1))
    assert same > 10


def test_without_rivals_or_with_several_values_there_is_nothing_to_say_of_them(tiny_llama):
    case = haystack(np.random.default_rng(2), needles=2)
    found = needle_attention(tiny_llama.model, tiny_llama.tokenizer, lay_out(case, 2, Arrangement()))
    assert found.rivals is None
    assert found.rival_keys is None
    assert found.retrieved is None
    one = haystack(np.random.default_rng(2))
    other = needle_attention(tiny_llama.model, tiny_llama.tokenizer, lay_out(one, 2, Arrangement()))
    assert other.retrieved is not None
    assert ((other.mass > 0) & (other.mass < 1)).all()


def test_the_model_is_given_back_as_it_was(tiny_llama):
    before = tiny_llama.model.config._attn_implementation
    question = lay_out(haystack(np.random.default_rng(3)), 2, Arrangement())
    tiny_llama.model.train()
    needle_attention(tiny_llama.model, tiny_llama.tokenizer, question)
    assert tiny_llama.model.training
    assert tiny_llama.model.config._attn_implementation == before
