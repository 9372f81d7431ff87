"""Where a change is small its first order is all of it, and what is orthogonal to every gradient changes nothing."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch

import finetune.gradients as gradients
from finetune.adapter import ADAPTER, BASE, attach, random_adapters
from finetune.contrasts import Contrast, read_contrasts
from finetune.facts import log_likelihoods
from finetune.gradients import first_order
from finetune.prompts import render
from geometry.checks import AdapterError, DataError, ModelError

FACTS = [
    ("The ship came home in the", "morning", ["summer", "winter"]),
    ("She wrote three letters to", "London", ["Rome", "Madrid"]),
    ("On Monday the old king asked his", "daughter", ["son"]),
    ("None of them was answered before", "summer", ["winter"]),
]
PAIRS = [
    ("he is glad to see you", "he rejoices to behold thee"),
    ("the old king came home", "the aged king returned"),
]


@pytest.fixture
def files(tmp_path):
    facts = [
        {"id": f"f{i}", "category": "c", "prompt": p, "answer": a, "foils": f, "styled_prompt": p}
        for i, (p, a, f) in enumerate(FACTS)
    ]
    pairs = [{"id": f"p{i}", "doc_id": f"d{i}", "source": s, "target": t} for i, (s, t) in enumerate(PAIRS)]
    texts = [{"id": "t", "text": "the ship"}]
    paths = {}
    for name, records in (("facts", facts), ("pairs", pairs), ("texts", texts)):
        paths[name] = tmp_path / f"{name}.jsonl"
        paths[name].write_text("".join(json.dumps(r) + "\n" for r in records))
    return paths


def saved(folder, loaded, change, **settings):
    """A LoRA adapter whose weights ``change`` sets, parameter by parameter."""
    from peft import LoraConfig, get_peft_model

    transposed = loaded.model.config.model_type == "gpt2"
    settings = {"r": 2, "target_modules": "all-linear", "fan_in_fan_out": transposed, **settings}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = get_peft_model(copy.deepcopy(loaded.model), LoraConfig(**settings))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_" in name:
                    change(name, parameter)
    model.save_pretrained(folder)
    return folder


def gaussian(size):
    return lambda name, p: p.normal_(std=1.0 if "lora_A" in name else size)


def planted(direction):
    def change(name, parameter):
        if "lora_B" in name:
            parameter.copy_(torch.as_tensor(direction, dtype=torch.float32)[:, None])

    return change


def axes(loaded, layers):
    return dict.fromkeys(layers, np.eye(loaded.width))


def test_a_small_change_is_all_first_order_at_the_last_block(tmp_path, fresh, files):
    for architecture in ("llama", "gpt2", "gemma2"):
        loaded, errors = fresh(architecture), []
        for size in (1e-3, 1e-4):
            with attach(
                loaded, saved(tmp_path / f"{architecture}{size}", loaded, gaussian(size))
            ) as attached:
                for name in ("facts", "pairs"):
                    items = read_contrasts(attached, files[name]).items
                    found = first_order(attached, items, axes(loaded, [0, 2]))
                    gap = np.linalg.norm(found.effect[2] - found.change) / np.linalg.norm(found.change)
                    errors.append(gap)
                    # blocks above the first change the metric on their own, too
                    assert np.linalg.norm(found.effect[0] - found.change) > 0.1 * np.linalg.norm(found.change)
        assert max(errors[2:]) < 0.05, (architecture, errors)
        assert max(errors[2:]) < max(errors[:2])


def test_a_change_of_one_block_passes_through_every_block_after_it(tmp_path, tiny_llama, files):
    """The effect to first order is the same wherever it is read, if nothing is added later."""
    v = 1e-4 * np.random.default_rng(0).normal(size=32)
    target = "model.layers.0.mlp.down_proj"
    folder = saved(tmp_path / "a", tiny_llama, planted(v), r=1, lora_alpha=1, target_modules=[target])
    with attach(tiny_llama, folder) as attached:
        items = read_contrasts(attached, files["pairs"]).items
        found = first_order(attached, items, axes(tiny_llama, [0, 1, 2]))
    for layer in range(3):
        np.testing.assert_allclose(found.effect[layer][0], found.change[0], rtol=0.03)


def test_the_metric_is_that_of_the_log_likelihoods(tmp_path, tiny_llama, files):
    with attach(tiny_llama, saved(tmp_path / "a", tiny_llama, gaussian(0.05))) as attached:
        found = first_order(attached, read_contrasts(attached, files["facts"]).items, axes(tiny_llama, [1]))
        pairs = first_order(attached, read_contrasts(attached, files["pairs"]).items, axes(tiny_llama, [1]))
        model, tokenizer = attached.model, attached.loaded.tokenizer

        def margins():
            asked = [log_likelihoods(model, tokenizer, [(p, o) for o in (a, *f)]) for p, a, f in FACTS]
            # the foil that the base likes best, for the adapted model too
            return np.array(asked, dtype=object)

        adapted = margins()
        with model.disable_adapter():
            base = margins()
            styled = log_likelihoods(model, tokenizer, [(render(s), o) for s, t in PAIRS for o in (t, s)])
    foil = [1 + int(np.argmax(b[1:])) for b in base]
    by_hand = [np.array([m[0] - m[j] for m, j in zip(many, foil, strict=True)]) for many in (base, adapted)]
    np.testing.assert_allclose(found.base, by_hand[0], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.change[0], by_hand[1] - by_hand[0], rtol=1e-3, atol=1e-3)
    count = [len(tokenizer(" " + o)["input_ids"]) for s, t in PAIRS for o in (t, s)]
    each = (np.array(styled) / count).reshape(-1, 2)
    np.testing.assert_allclose(pairs.base, each[:, 0] - each[:, 1], rtol=1e-4, atol=1e-4)


def test_a_change_orthogonal_to_every_gradient_does_nothing_and_one_along_them_does(
    tmp_path, tiny_llama, files
):
    target = "model.layers.2.mlp.down_proj"
    settings = {"r": 1, "lora_alpha": 1, "target_modules": [target]}
    start = saved(tmp_path / "start", tiny_llama, planted(np.ones(32)), **settings)
    with attach(tiny_llama, start) as attached:
        items = read_contrasts(attached, files["facts"]).items
        total = first_order(attached, items, axes(tiny_llama, [2])).gradient[2].sum(0)
    values, vectors = np.linalg.eigh(total)
    rank = int((values > 1e-9 * values[-1]).sum())
    assert rank < 30
    outside, inside = vectors[:, 0], vectors[:, -1]
    found = {}
    for name, v in (("outside", outside), ("inside", inside)):
        with attach(
            tiny_llama, saved(tmp_path / name, tiny_llama, planted(1e-3 * v), **settings)
        ) as attached:
            found[name] = first_order(attached, items, axes(tiny_llama, [2]))
    basis = vectors[:, -rank:]
    share = {n: np.trace(basis.T @ f.moved[2][0] @ basis) / np.trace(f.moved[2][0]) for n, f in found.items()}
    assert share["outside"] < 1e-4
    assert share["inside"] > 0.999
    effect = {name: np.abs(f.effect[2]).max() for name, f in found.items()}
    assert effect["outside"] < 1e-3 * effect["inside"]


def test_effects_along_all_directions_add_up_and_no_batching_matters(
    tmp_path, tiny_llama, files, monkeypatch
):
    with attach(tiny_llama, saved(tmp_path / "a", tiny_llama, gaussian(0.05))) as attached:
        names = (BASE, ADAPTER, *random_adapters(attached, 2, np.random.default_rng(0)))
        items = read_contrasts(attached, files["facts"]).items
        flags = [p.requires_grad for p in attached.model.parameters()]
        found = first_order(attached, items, axes(tiny_llama, [1]), names=names)
        monkeypatch.setattr(gradients, "LOGITS", 1)
        single = first_order(attached, items, axes(tiny_llama, [1]), names=names)
        assert flags == [p.requires_grad for p in attached.model.parameters()]
        assert all(p.grad is None for p in attached.model.parameters())
    np.testing.assert_allclose(found.along[1].sum(1), found.effect[1][0], rtol=1e-6, atol=1e-9)
    assert found.moved[1].shape == (3, 32, 32)
    assert found.states == single.states
    for name in ("gradient", "moved", "effect"):
        one, other = getattr(found, name)[1], getattr(single, name)[1]
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4 * np.abs(one).max())


def test_a_shared_prompt_counts_once(tmp_path, tiny_llama):
    with attach(tiny_llama, saved(tmp_path / "a", tiny_llama, gaussian(0.05))) as attached:
        question = Contrast("d", (5, 6, 7, 8), (9,), (10, 11))
        found = first_order(attached, [question], axes(tiny_llama, [0]))
    # prompt without its first token, a sink; and the first of two tokens of the worse answer
    assert found.states[0] == 3 + 1


def test_plain_texts_ask_nothing(tmp_path, tiny_llama, files):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"id": "a", "prompt": "the", "answer": "ship"}\n')
    with attach(tiny_llama, saved(tmp_path / "a", tiny_llama, gaussian(0.05))) as attached:
        assert read_contrasts(attached, files["texts"]) is None
        assert read_contrasts(attached, prompts) is None


def test_what_cannot_be_differentiated_is_refused(tmp_path, fresh, files):
    llama = fresh("llama")
    same, long = tmp_path / "same.jsonl", tmp_path / "long.jsonl"
    same.write_text('{"id": "a", "doc_id": "d", "source": "x y", "target": "x y"}\n')
    long.write_text(json.dumps({"id": "a", "doc_id": "d", "source": "salt " * 200, "target": "x"}) + "\n")
    with attach(llama, saved(tmp_path / "a", llama, gaussian(0.05))) as attached:
        with pytest.raises(DataError, match="no style to measure"):
            read_contrasts(attached, same)
        with pytest.raises(DataError, match="longer than the context"):
            read_contrasts(attached, long)
        with pytest.raises(DataError, match="at least one"):
            first_order(attached, [], axes(llama, [0]))
    whole = saved(tmp_path / "w", llama, gaussian(0.05), modules_to_save=["lm_head"])
    with attach(llama, whole) as attached, pytest.raises(AdapterError, match="whole modules"):
        first_order(attached, [Contrast("d", (5,), (6,), (7,))], axes(llama, [0]))
    bert = fresh("bert")
    encoder = saved(tmp_path / "bert", bert, gaussian(0.05), target_modules=["query"])
    with attach(bert, encoder) as attached, pytest.raises(ModelError, match="causal"):
        first_order(attached, [Contrast("d", (5,), (6,), (7,))], axes(bert, [0]))
