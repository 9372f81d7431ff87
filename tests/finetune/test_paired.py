"""Rows of a paired pass equal what each side gives alone, at the positions that were asked for."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from finetune.adapter import ADAPTER, BASE, attach, random_adapters
from finetune.paired import paired_batches
from finetune.pairs import Text
from geometry.checks import DataError, LayerError
from geometry.live.capture import block_outputs

TEXTS = (
    Text("a", "d1", "The ship came home in the morning"),
    Text("b", "d1", "Input: he is glad\nOutput: he rejoices", answer_from=len("Input: he is glad\nOutput:")),
    Text("c", "d2", "On Monday the old king asked his daughter what the weather would be"),
)


@pytest.fixture
def adapter(tmp_path, tiny_llama):
    return make(tmp_path / "adapter", tiny_llama)


def make(folder, loaded, **config):
    from peft import LoraConfig, get_peft_model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        conv1d = loaded.model.config.model_type == "gpt2"
        settings = LoraConfig(r=2, target_modules="all-linear", fan_in_fan_out=conv1d, **config)
        model = get_peft_model(copy.deepcopy(loaded.model), settings)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name or "modules_to_save" in name:
                    parameter.add_(0.2 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return folder


def alone(model, tokenizer, text, layer):
    ids = torch.tensor([tokenizer(text)["input_ids"]])
    with torch.inference_mode(), block_outputs(model, [layer]) as stream:
        model(input_ids=ids)
    return stream[layer][0]


@pytest.mark.parametrize(
    ("architecture", "config"),
    [("llama", {}), ("llama", {"modules_to_save": ["norm"]}), ("gpt2", {}), ("neox", {})],
    ids=["mixed", "one by one", "absolute positions", "fused"],
)
def test_rows_equal_each_side_alone_in_any_batch(tmp_path, fresh, architecture, config):
    """Padding on the right, one batch or many, together or toggled: the rows of a text are its own."""
    loaded = fresh(architecture)
    folder = make(tmp_path / "adapter", loaded, **config)
    with attach(loaded, folder) as attached:
        names = (BASE, ADAPTER, *random_adapters(attached, 1, np.random.default_rng(0)))
        seen = []
        for batch in paired_batches(attached, TEXTS, [0, 2], names=names, batch_tokens=40):
            for row, index in enumerate(batch.text_index.tolist()):
                seen.append(index)
                real = batch.real[row]
                with attached.model.disable_adapter():
                    base = alone(attached.model, loaded.tokenizer, TEXTS[index].text, 2)
                adapted = alone(attached.model, loaded.tokenizer, TEXTS[index].text, 2)
                torch.testing.assert_close(batch.stream[2][0, row, real], base, rtol=0, atol=2e-5)
                torch.testing.assert_close(batch.stream[2][1, row, real], adapted, rtol=0, atol=2e-5)
                gap = batch.stream[2][2, row, real] - base
                assert gap.abs().max() > 1e-3
        assert sorted(seen) == [0, 1, 2]


def test_only_positions_that_predict_the_answer_are_chosen(tiny_llama, adapter):
    tokenizer = tiny_llama.tokenizer
    with attach(tiny_llama, adapter) as attached:
        chosen = {
            index: batch.chosen[row]
            for batch in paired_batches(attached, TEXTS, [0])
            for row, index in enumerate(batch.text_index.tolist())
        }
    prompt = len(tokenizer("Input: he is glad\nOutput:")["input_ids"])
    whole = len(tokenizer(TEXTS[1].text)["input_ids"])
    assert chosen[1].nonzero().ravel().tolist() == list(range(prompt - 1, whole))
    assert chosen[0].sum() == len(tokenizer(TEXTS[0].text)["input_ids"])


def test_the_first_token_is_a_sink_and_padding_never_is(tiny_llama, adapter):
    with attach(tiny_llama, adapter) as attached:
        (batch,) = paired_batches(attached, TEXTS, [1])
    sinks = batch.sinks(1)
    assert not (sinks & ~batch.real).any()
    for row, index in enumerate(batch.text_index.tolist()):
        assert bool(sinks[row, 0]) == (index != 1)


def test_refusals_name_the_text_and_the_layer(tiny_llama, adapter):
    long = Text("long", "d", "the ship came home " * 60)
    with attach(tiny_llama, adapter) as attached:
        with pytest.raises(DataError, match=r"text long: .* the context holds 128"):
            next(paired_batches(attached, [long], [0]))
        with pytest.raises(LayerError, match="no layer 9"):
            next(paired_batches(attached, TEXTS, [9]))
