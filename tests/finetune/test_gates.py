"""Gates switch components exactly: none is the base, all are the adapted model, and derivatives are differences."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from finetune.adapter import attach, deltas, lora_layers
from finetune.facts import log_likelihoods
from finetune.gates import gate_gradient, gated_likelihoods, gated_modules
from finetune.knockout import without_modules
from geometry.checks import AdapterError, DataError, ModelError, ShapeError

QUESTIONS = [
    ("the ship came home", "in the morning"),
    ("the ship came home", "with salt"),
    ("on monday the king", "asked his daughter what"),
]


def adapter(folder, loaded, *, targets=("down_proj", "q_proj"), **config):
    from peft import LoraConfig, get_peft_model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = get_peft_model(
            copy.deepcopy(loaded.model), LoraConfig(r=3, target_modules=list(targets), **config)
        )
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_" in name:
                    parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def attached(tmp_path, tiny_llama):
    with attach(tiny_llama, adapter(tmp_path / "a", tiny_llama)) as found:
        yield found


def told(attached):
    return np.array(log_likelihoods(attached.model, attached.loaded.tokenizer, QUESTIONS))


def test_no_component_is_the_base_and_all_are_the_adapted_model(attached):
    modules = gated_modules(attached)
    assert [(m.layer, m.projection) for m in modules] == [
        (layer, name) for layer in range(3) for name in ("self_attn.q_proj", "mlp.down_proj")
    ]
    assert [m.gates for m in modules] == [slice(3 * i, 3 * i + 3) for i in range(6)]
    adapted = told(attached)
    with attached.model.disable_adapter():
        base = told(attached)
    found = gated_likelihoods(attached, np.stack([np.zeros(18), np.ones(18)]), QUESTIONS)
    assert np.abs(base - adapted).min() > 1e-2
    np.testing.assert_allclose(found.sums, [base, adapted], rtol=1e-6)
    assert found.tokens.shape == (3,)
    np.testing.assert_array_equal(told(attached), adapted)
    assert not any("forward" in vars(layer) for layer in lora_layers(attached.model).values())


def test_a_modules_gates_do_what_switching_its_block_off_does(attached):
    gates = np.ones(18)
    gates[6:12] = 0
    with without_modules(attached, [1]):
        expected = told(attached)
    np.testing.assert_allclose(gated_likelihoods(attached, gates, QUESTIONS).sums[0], expected, rtol=1e-6)


def test_a_component_off_is_an_update_without_that_singular_direction(attached):
    """Written down as an adapter whose update lacks it; and copies of one batch do not see each other's gates."""
    module = gated_modules(attached)[3]
    u, s, vt = deltas(attached)[module.name].svd()
    layer = lora_layers(attached.model)[module.name]
    gates = np.ones((3, 18))
    gates[1, module.first] = 0
    gates[2] = 0
    found = gated_likelihoods(attached, gates, QUESTIONS).sums
    with torch.no_grad():
        layer.lora_B["default"].weight.copy_(
            torch.from_numpy(u[:, 1:] * s[1:] / layer.scaling["default"]) @ torch.eye(2, 3).double()
        )
        layer.lora_A["default"].weight[:2] = torch.from_numpy(vt[1:])
    np.testing.assert_allclose(found[1], told(attached), rtol=1e-6)
    with attached.model.disable_adapter():
        np.testing.assert_allclose(found[2], told(attached), rtol=1e-6)


def test_derivatives_by_gates_are_central_differences(attached):
    rng = np.random.default_rng(0)
    point, weights = rng.uniform(0.3, 0.9, 18), np.array([1.0, -0.5, 0.25])
    slopes = gate_gradient(attached, point, QUESTIONS, weights)
    step = 1e-2
    shifted = np.concatenate([point + step * np.eye(18), point - step * np.eye(18)])
    sums = gated_likelihoods(attached, shifted, QUESTIONS).sums @ weights
    differences = (sums[:18] - sums[18:]) / (2 * step)
    assert np.abs(differences).max() > 0.1
    np.testing.assert_allclose(slopes, differences, atol=3e-3 * np.abs(differences).max())
    tiny = gate_gradient(attached, point, QUESTIONS, weights, batch_tokens=1)
    np.testing.assert_allclose(tiny, slopes, rtol=1e-4, atol=1e-6)


def test_any_batch_size_gives_the_same(attached):
    gates = np.random.default_rng(1).integers(0, 2, (5, 18))
    one = gated_likelihoods(attached, gates, QUESTIONS).sums
    np.testing.assert_allclose(
        gated_likelihoods(attached, gates, QUESTIONS, batch_tokens=1).sums, one, rtol=1e-5
    )


def test_what_cannot_be_gated_is_refused(tiny_llama, attached):
    adapted = told(attached)
    with pytest.raises(ShapeError, match="expected 18 a copy"):
        gated_likelihoods(attached, np.ones(17), QUESTIONS)
    with pytest.raises(DataError, match="no question"):
        gate_gradient(attached, np.ones(18), [], [])
    with pytest.raises(DataError, match="longer than the context"):
        gated_likelihoods(attached, np.ones(18), [("a " * 200, "b")])
    np.testing.assert_array_equal(told(attached), adapted)
    with torch.no_grad():
        tiny_llama.model.model.norm.weight[0] = float("nan")
    with pytest.raises(ModelError, match="not finite"):
        gated_likelihoods(attached, np.ones(18), QUESTIONS)


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`")  # of peft, about embeddings
def test_variants_without_components_are_refused(tmp_path, fresh):
    for name, options, says in (
        ("dora", {"use_dora": True}, "is DoRA"),
        ("embedding", {"targets": ("q_proj", "embed_tokens")}, "is no linear module"),
    ):
        loaded = fresh("llama")
        folder = adapter(tmp_path / name, loaded, **options)
        with attach(loaded, folder) as found, pytest.raises(AdapterError, match=says):
            gated_modules(found)
