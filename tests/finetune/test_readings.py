"""The true change is that of the model's own logits, and the linearised lens becomes it where changes are small."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from finetune.adapter import ADAPTER, BASE, attach, forward_together
from finetune.pairs import Text
from finetune.readings import read_out, readout
from geometry.checks import DataError, ModelError
from geometry.live.capture import model_inputs, token_batches

WORDS = "the ship came home in a morning with cargo of oranges and salt on monday old king asked".split()


@pytest.fixture(scope="module")
def texts():
    rng = np.random.default_rng(0)
    return [Text(f"t{i}", f"t{i}", " ".join(rng.choice(WORDS, 6 + i % 4))) for i in range(8)]


def adapter(folder, loaded, size, **settings):
    """LoRA on every linear layer of the blocks, with updates of a chosen size."""
    from peft import LoraConfig, get_peft_model

    transposed = loaded.model.config.model_type == "gpt2"
    settings = {"r": 2, "target_modules": "all-linear", "fan_in_fan_out": transposed, **settings}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = get_peft_model(copy.deepcopy(loaded.model), LoraConfig(**settings))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_" in name:
                    parameter.normal_(std=1.0 if "lora_A" in name else size)
    model.save_pretrained(folder)
    return folder


def true_change(attached, texts):
    """Mean difference of the model's own logits at every token but the first, the slow way."""
    total, n = 0.0, 0
    for batch in token_batches(
        [t.text for t in texts], attached.loaded.tokenizer, max_length=128, batch_tokens=64
    ):
        inputs = model_inputs(attached.model, batch)
        with torch.no_grad():
            logits = (
                forward_together(attached.model, inputs, (BASE, ADAPTER))
                .logits.unflatten(0, (2, -1))
                .double()
            )
        real = batch.attention_mask.bool()
        real[:, 0] = False
        total, n = total + (logits[1] - logits[0])[real].sum(0).numpy(), n + int(real.sum())
    mean = total / n
    return n, mean - mean.mean()


def relative(x, y):
    return np.linalg.norm(x - y) / np.linalg.norm(y)


def test_the_true_change_is_that_of_the_models_logits(tmp_path, tiny_causal, texts):
    capped = getattr(tiny_causal.model.config, "final_logit_softcapping", None)
    with attach(tiny_causal, adapter(tmp_path / "a", tiny_causal, 0.05)) as attached:
        out = readout(attached)
        found = read_out(attached, texts, [0, 1], out.norm)
        n, expected = true_change(attached, texts)
    assert found.n == n
    assert set(found.linear) == {0, 1}
    if capped:
        assert out.gap > 1e-3
    else:
        assert out.gap < 1e-5
        assert relative(out.logits(found.true)[0], expected) < 1e-4


def test_at_the_last_block_a_small_change_is_read_exactly(tmp_path, fresh, texts):
    for architecture in ("llama", "gpt2"):
        loaded, errors = fresh(architecture), []
        for size in (1e-3, 1e-4):
            folder = adapter(tmp_path / f"{architecture}-{size}", loaded, size)
            with attach(loaded, folder) as attached:
                out = readout(attached)
                found = read_out(attached, texts, [0, 2], out.norm)
            true = out.logits(found.true)[0]
            errors.append(relative(out.logits(found.linear[2])[0], true))
            # earlier states will still be rewritten, whatever the size
            assert relative(out.logits(found.linear[0])[0], true) > 0.1
        # what is left is of second order
        assert errors[1] < 0.02
        assert errors[1] < errors[0] / 5


def test_means_do_not_depend_on_the_order_of_texts(tmp_path, tiny_llama, texts):
    with attach(tiny_llama, adapter(tmp_path / "a", tiny_llama, 0.05)) as attached:
        norm = readout(attached).norm
        there, back = (read_out(attached, t, [1], norm) for t in (texts, texts[::-1]))
    for name in ("base", "moved", "linear"):
        np.testing.assert_allclose(getattr(there, name)[1], getattr(back, name)[1], atol=1e-5)
    np.testing.assert_allclose(there.true, back.true, atol=1e-5)


def test_what_cannot_be_read_out_is_refused(tmp_path, fresh, texts):
    llama = fresh("llama")
    head = adapter(tmp_path / "head", llama, 0.05, modules_to_save=["lm_head"])
    with attach(llama, head) as attached, pytest.raises(ModelError, match="trained the unembedding too"):
        readout(attached)
    with attach(llama, adapter(tmp_path / "plain", llama, 0.05)) as attached:
        norm = readout(attached).norm
        with pytest.raises(DataError, match="every token"):
            read_out(attached, [Text("a", "a", "t")], [0], norm)
    bert = fresh("bert")
    encoder = adapter(tmp_path / "bert", bert, 0.05, target_modules=["query"])
    with attach(bert, encoder) as attached, pytest.raises(ModelError, match="causal"):
        readout(attached)


def test_a_model_without_a_final_norm_is_refused(tmp_path, tiny_llama, monkeypatch):
    monkeypatch.setattr("finetune.readings.final_norm", lambda model: None)
    folder = adapter(tmp_path / "a", tiny_llama, 0.05)
    with attach(tiny_llama, folder) as attached, pytest.raises(ModelError, match="has no final norm"):
        readout(attached)
