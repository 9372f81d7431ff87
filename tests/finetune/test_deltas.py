"""Updates read from the folder alone are what peft merges into the base."""

from __future__ import annotations

import copy
import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from finetune.deltas import (
    Update,
    read_updates,
    require_one_space,
    weight_of,
    whole_update,
    with_whole_updates,
)
from geometry.checks import AdapterError
from geometry.spectra import LowRank

TARGETS = {"llama": "all-linear", "gpt2": ["c_attn", "c_proj"], "neox": ["query_key_value", "dense"]}


def trained_like(loaded, folder, *, seed=0, **config):
    """Write an adapter with random B on a copy of the base; return what merging it changes, out x in."""
    from peft import LoraConfig, get_peft_model

    kind = loaded.model.config.model_type
    config = {"r": 3, "lora_alpha": 6, "target_modules": TARGETS.get(kind, "all-linear")} | config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = get_peft_model(
            copy.deepcopy(loaded.model), LoraConfig(fan_in_fan_out=kind == "gpt2", **config)
        )
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name or "lora_embedding_A" in name:
                    parameter.copy_(0.3 * torch.randn_like(parameter))
                if "magnitude" in name:
                    parameter.mul_(1 + 0.2 * torch.rand_like(parameter))
    model.save_pretrained(folder, save_embedding_layers=False)
    merged = model.merge_and_unload()
    changes = {}
    for name, module in merged.named_modules():
        weight = getattr(module, "weight", None)
        if weight is not None and weight.ndim == 2:
            change = (weight - loaded.model.get_submodule(name).weight).detach().double().numpy()
            turned = type(module).__name__ in {"Conv1D", "Embedding"}
            changes[name] = change.T if turned else change
    return changes


@pytest.mark.parametrize("kind", ["llama", "gpt2", "neox"])
@pytest.mark.parametrize("config", [{}, {"use_rslora": True}], ids=["lora", "rslora"])
def test_updates_are_what_merging_adds_out_x_in(tmp_path, fresh, kind, config):
    changes = trained_like(fresh(kind), tmp_path, **config)
    found = read_updates(tmp_path)
    assert found.variant == ("rslora" if config else "lora")
    scale = 6 / math.sqrt(3) if config else 2
    for update in found.updates:
        assert update.delta.scale == pytest.approx(scale)
        np.testing.assert_allclose(update.delta.dense(), changes[update.module], atol=1e-6)
    assert {u.module for u in found.updates} == {n for n, c in changes.items() if np.abs(c).max() > 0.01}


def test_patterns_of_single_modules_decide_their_rank_and_scale(tmp_path, fresh):
    patterns = {
        "rank_pattern": {"mlp.down_proj": 2},
        "alpha_pattern": {r"layers\.[01]\.self_attn\.q_proj": 30},
    }
    changes = trained_like(fresh("llama"), tmp_path, **patterns)
    updates = {u.module: u for u in read_updates(tmp_path).updates}
    assert updates["model.layers.1.mlp.down_proj"].rank == 2
    assert updates["model.layers.1.self_attn.q_proj"].delta.scale == 10
    assert updates["model.layers.2.self_attn.q_proj"].delta.scale == 2
    for name, update in updates.items():
        np.testing.assert_allclose(update.delta.dense(), changes[name], atol=1e-6)


def test_an_embedding_maps_the_vocabulary_to_the_width(tmp_path, fresh):
    loaded = fresh("llama")
    changes = trained_like(loaded, tmp_path, target_modules=["embed_tokens"])
    (update,) = read_updates(tmp_path).updates
    assert (update.layer, update.projection) == (None, "model.embed_tokens")
    np.testing.assert_allclose(update.delta.dense(), changes[update.module], atol=1e-6)
    assert weight_of(loaded, update.module).shape == update.delta.shape


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_the_whole_change_of_dora_is_merged_minus_pristine_and_not_s_b_a(tmp_path, fresh, kind):
    loaded = fresh(kind)
    changes = trained_like(loaded, tmp_path, use_dora=True)
    alone = read_updates(tmp_path)
    for before, after in zip(alone.updates, with_whole_updates(alone, loaded).updates, strict=True):
        np.testing.assert_allclose(after.delta.dense(), changes[after.module], atol=2e-6)
        assert np.abs(before.delta.dense() - changes[after.module]).max() > 0.01


def test_the_whole_change_of_lora_is_s_b_a(tmp_path, fresh):
    loaded = fresh("gpt2")
    trained_like(loaded, tmp_path)
    update = read_updates(tmp_path).updates[0]
    weight = weight_of(loaded, update.module)
    assert weight.shape == update.delta.shape == (96, 32)
    assert whole_update(update, weight) is update.delta
    with pytest.raises(AdapterError, match="trained on"):
        whole_update(update, weight.T)


def test_modules_are_placed_and_their_side_of_the_residual_stream_is_named(tmp_path, fresh):
    trained_like(fresh("gpt2"), tmp_path)
    updates = {u.module: u for u in read_updates(tmp_path).updates}
    attn, out = (updates[f"transformer.h.1.attn.{name}"] for name in ("c_attn", "c_proj"))
    assert (attn.layer, attn.projection, attn.reads, attn.writes) == (1, "attn.c_attn", True, False)
    assert (out.layer, out.projection, out.reads, out.writes) == (1, "attn.c_proj", False, True)
    assert list(updates) == sorted(updates, key=lambda n: (int(n.split(".")[2]), n))


@pytest.mark.parametrize(
    ("module", "writes"),
    [
        ("bert.encoder.layer.0.intermediate.dense", False),
        ("bert.encoder.layer.0.attention.output.dense", True),
        ("gpt_neox.layers.0.mlp.dense_h_to_4h", False),
        ("model.layers.0.mlp.experts.5.down_proj", True),
        ("lm_head", None),
    ],
)
def test_names_of_other_families(module, writes):
    update = Update(module, LowRank([[1.0]], [[1.0]]), rank=1, alpha=1.0)
    assert update.writes is writes
    assert update.layer == (None if module == "lm_head" else 0)


def test_angles_between_spaces_that_have_nothing_to_do_with_each_other_are_refused(tmp_path, fresh):
    trained_like(fresh("gpt2"), tmp_path)
    updates = {u.module.removeprefix("transformer.h."): u for u in read_updates(tmp_path).updates}
    attn, out, mlp = (updates[n] for n in ("0.attn.c_attn", "0.attn.c_proj", "2.mlp.c_proj"))
    require_one_space(out, mlp, "writes")
    require_one_space(attn, updates["2.attn.c_attn"], "reads")
    require_one_space(attn, attn, "writes")
    with pytest.raises(AdapterError, match="outside the residual stream"):
        require_one_space(attn, updates["2.attn.c_attn"], "writes")
    with pytest.raises(AdapterError, match="outside the residual stream"):
        require_one_space(attn, out, "reads")
    with pytest.raises(AdapterError, match="in 96 dimensions"):
        require_one_space(attn, out, "writes")


def test_trained_weights_beside_the_updates_are_named(tmp_path, fresh):
    trained_like(fresh("gpt2"), tmp_path, modules_to_save=["wpe"])
    notes = " ".join(read_updates(tmp_path).notes)
    assert "transformer.wpe.weight" in notes
    assert "Conv1D" in notes


@pytest.fixture
def folder(tmp_path, fresh):
    trained_like(fresh("gpt2"), tmp_path / "adapter")
    return tmp_path / "adapter"


def edit_config(folder, **changes):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"peft_type": "IA3"}, "is a IA3 adapter"),
        ({"init_lora_weights": "pissa_niter_4"}, "pissa"),
        ({"target_parameters": ["experts.w"]}, "uses target_parameters"),
        ({"r": 4}, r"not \(out, 4\)"),
        ({"use_dora": True}, "disagree on DoRA"),
    ],
)
def test_configs_that_do_not_describe_s_b_a_are_refused(folder, changes, reason):
    edit_config(folder, **changes)
    with pytest.raises(AdapterError, match=reason) as error:
        read_updates(folder)
    assert "\n" not in str(error.value)


def test_an_invocation_is_noted(folder):
    edit_config(folder, alora_invocation_tokens=[1, 2])
    assert any("invocation" in note for note in read_updates(folder).notes)


def test_weights_that_are_no_whole_updates_are_refused(folder):
    file = folder / "adapter_model.safetensors"
    weights = load_file(file)
    name = next(key for key in weights if "lora_A" in key)

    def refused(changed, reason):
        save_file(changed, file)
        with pytest.raises(AdapterError, match=reason):
            read_updates(folder)

    refused({k: v for k, v in weights.items() if k != name}, "has no lora_A")
    refused({k: v for k, v in weights.items() if k != name.replace("lora_A", "lora_B")}, "has no lora_B")
    refused({**weights, name: weights[name] * torch.nan}, "NaN")
    refused({**weights, name.replace("lora_A", "lora_diag"): torch.ones(2)}, "holds lora_diag")
    refused({"score.weight": torch.ones(2)}, "no LoRA weights")
    file.unlink()
    (folder / "adapter_model.bin").write_bytes(b"")
    with pytest.raises(AdapterError, match="other formats"):
        read_updates(folder)


def test_a_base_without_the_module_or_its_matrix_is_refused(fresh):
    with pytest.raises(AdapterError, match="has no module"):
        weight_of(fresh("llama"), "transformer.h.0.attn.c_attn")
    with pytest.raises(AdapterError, match="no matrix"):
        weight_of(fresh("llama"), "model.norm")


def test_the_scale_is_not_hidden_in_the_factors(tmp_path, fresh):
    trained_like(fresh("gpt2"), tmp_path)
    update = read_updates(tmp_path).updates[0]
    raw = load_file(tmp_path / "adapter_model.safetensors")
    b = raw[f"base_model.model.{update.module}.lora_B.weight"].double().numpy()
    assert isinstance(update.delta, LowRank)
    np.testing.assert_array_equal(update.delta.b, b)
