"""Strength 0 is the model itself, bit for bit; a planted shift steers; no hook stays; chance stands beside."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch

from analyses import plots
from analyses.options import strengths
from analyses.report import plain
from analyses.steer import SteerRequest, added, steering
from analyses.steer_page import steer_claims, steer_sections
from finetune.adapter import ADAPTER, BASE, attach
from finetune.patched import patched_logits
from finetune.patched_likelihoods import patched_likelihoods
from geometry.checks import AdapterError, DataError, LayerError

LETTERS = "abcdefghijklmnop"
QUESTIONS = [("the ship came home", "in the morning"), ("on monday", "she wrote")]


def jsonl(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def texts(tmp_path):
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice([*LETTERS], 5)) for _ in range(12)]
    pairs = [
        {"id": f"p{i}", "doc_id": f"d{i}", "source": word, "target": word.upper()}
        for i, word in enumerate(words)
    ]
    facts = [
        {
            "id": f"f{i}", "category": "digits", "prompt": f"<{word}> =", "answer": "7", "foils": ["3", "4"],
            "styled_prompt": "so",
        }
        for i, word in enumerate(words)
    ]  # fmt: skip
    return {"style": jsonl(tmp_path / "style.jsonl", pairs), "fact": jsonl(tmp_path / "fact.jsonl", facts)}


@pytest.fixture
def adapter(tmp_path, tiny_llama):
    """The last block writes one direction, towards capitals, as much as its input says."""
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(
        copy.deepcopy(tiny_llama.model),
        LoraConfig(r=1, lora_alpha=1, target_modules=["model.layers.2.mlp.down_proj"]),
    )
    weight, tokenizer = tiny_llama.model.get_output_embeddings().weight.detach(), tiny_llama.tokenizer

    def mean(signs):
        ids = {i for s in signs for i in tokenizer(f" {s}{s}", add_special_tokens=False)["input_ids"]}
        return weight[sorted(ids)].mean(dim=0)

    towards = mean(LETTERS.upper()) - mean(LETTERS)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_A" in name:
                parameter.copy_(torch.randn(1, 64, generator=torch.Generator().manual_seed(2)) / 8)
            if "lora_B" in name:
                parameter.copy_(8 * towards[:, None] / towards.norm())
    model.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_dose_and_response_of_a_planted_direction(tiny_llama, adapter, texts):
    before = {name: value.clone() for name, value in tiny_llama.model.state_dict().items()}
    request = SteerRequest(texts, layer=2, strengths=(-2.0, -1.0, 0.0, 1.0, 2.0), draws=8)
    facts = plain(steering(tiny_llama, adapter, request))
    assert all(torch.equal(before[name], value) for name, value in tiny_llama.model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in tiny_llama.model.modules())
    assert len(facts["doses"]) == 2 * 3 * 5 * 3
    for record in facts["doses"]:
        if record["strength"] == 0:
            assert record["value"] == record["low"] == record["high"] == 0
            assert record["null"]["mean"] == 0
    # everything that the adapter writes lies along one direction, so all vectors do
    assert all(
        abs(c) == pytest.approx(1, abs=1e-4) for v in facts["vectors"].values() for c in v["cosines"].values()
    )
    moved = {
        r["strength"]: r
        for r in facts["doses"]
        if (r["side"], r["vector"], r["metric"]) == ("base", "style top direction", "style")
    }
    values = [moved[a]["value"] for a in request.strengths]
    assert values == sorted(values) or values == sorted(values, reverse=True)
    assert {moved[2.0]["null"]["verdict"], moved[-2.0]["null"]["verdict"]} == {"above", "below"}
    assert len(steer_claims(facts)) == 4
    for figure in (f for section in steer_sections(facts) for f in section.figures):
        assert "<svg" in plots.svg(plots.draw(figure.plot, figure.data))
    idle = plain(steering(tiny_llama, adapter, SteerRequest(texts, layer=2, strengths=(0.0,), draws=2)))
    assert all(record["value"] == 0 for record in idle["doses"])
    assert steer_claims(idle) == ("Only strength 0 was asked for, which changes nothing.",)


def test_strength_0_is_bit_identical_and_strength_1_is_what_is_added(tiny_llama, adapter):
    vector = np.random.default_rng(0).normal(size=32)
    batch = {"input_ids": torch.tensor([[5, 9, 7, 11]]), "attention_mask": torch.ones(1, 4, dtype=torch.long)}
    with attach(tiny_llama, adapter) as attached, torch.inference_mode():
        patches = [added(vector, 1, a, side) for side in (BASE, ADAPTER) for a in (0.0, 1.0, -1.0)]
        logits = patched_logits(attached, batch, patches)
        for row, first in ((0, 2), (1, 5)):
            assert torch.equal(logits[first], logits[row])
            assert not torch.allclose(logits[first + 1], logits[row], atol=1e-2)
            assert not torch.allclose(logits[first + 1], logits[first + 2], atol=1e-2)
        for side, row in ((BASE, 0), (ADAPTER, 1)):
            asked = patched_likelihoods(attached, QUESTIONS, [added(vector, 1, 0.0, side)]).sums
            np.testing.assert_array_equal(asked[2], asked[row])
        # an exception inside a patch leaves no hook behind
        with pytest.raises(ValueError, match="width"):
            patched_logits(attached, batch, [added(np.ones(31), 1, 1.0, BASE)])
        assert torch.equal(patched_logits(attached, batch, [])[0], logits[0])


def test_what_cannot_be_steered_is_refused(tiny_llama, adapter, texts):
    with pytest.raises(LayerError, match="no layer 3"):
        steering(tiny_llama, adapter, SteerRequest(texts, layer=3))
    for wrong in ({"strengths": ()}, {"draws": 1}):
        with pytest.raises(DataError, match="give a strength"):
            steering(tiny_llama, adapter, SteerRequest(texts, layer=2, **wrong))
    with pytest.raises(DataError, match="has no length at this layer"):
        steering(tiny_llama, adapter, SteerRequest(texts, layer=1))
    from safetensors.torch import load_file, save_file

    path = adapter / "adapter_model.safetensors"
    save_file({name: 0 * value for name, value in load_file(path).items()}, path)
    with pytest.raises(AdapterError, match="is inactive"):
        steering(tiny_llama, adapter, SteerRequest(texts, layer=2))


@pytest.mark.parametrize("given", ["1,two", "", "nan", "inf,1"])
def test_strengths_that_are_no_numbers_are_refused(given):
    with pytest.raises(DataError, match="--strengths"):
        strengths(given)
