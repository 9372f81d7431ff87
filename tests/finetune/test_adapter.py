"""An adapter must be what it says, beside a base that is what it was."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from finetune.adapter import (
    ADAPTER,
    BASE,
    attach,
    deltas,
    forward_together,
    lora_layers,
    random_adapters,
)
from geometry.checks import AdapterError

LINEAR = {"llama": "all-linear", "gpt2": ["c_attn", "c_proj", "c_fc"], "neox": "all-linear"}


def save_adapter(folder, loaded, *, targets="all-linear", strength=0.3, seed=0, **config):
    """Write an adapter with random factors on a copy of the base; strength 0 leaves it inactive."""
    from peft import LoraConfig, get_peft_model

    conv1d = loaded.model.config.model_type == "gpt2"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = get_peft_model(
            copy.deepcopy(loaded.model),
            LoraConfig(r=4, lora_alpha=8, target_modules=targets, fan_in_fan_out=conv1d, **config),
        )
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.copy_(strength * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def adapter(tmp_path, tiny_llama):
    return save_adapter(tmp_path / "adapter", tiny_llama)


def ids_of(loaded, rows=2, length=9):
    return torch.randint(3, 300, (rows, length), generator=torch.Generator().manual_seed(0))


def test_base_and_adapted_rows_of_one_forward_equal_two_forwards(tiny_llama, adapter):
    ids = ids_of(tiny_llama)
    with torch.inference_mode():
        alone = tiny_llama.model(input_ids=ids).logits
        with attach(tiny_llama, adapter) as attached:
            adapted = attached.model(input_ids=ids).logits
            both = forward_together(attached.model, {"input_ids": ids}, (BASE, ADAPTER)).logits
    torch.testing.assert_close(both[:2], alone, rtol=0, atol=1e-5)
    torch.testing.assert_close(both[2:], adapted, rtol=0, atol=1e-5)
    assert (adapted - alone).abs().max() > 0.01


@pytest.mark.parametrize("fails", [False, True])
def test_the_base_comes_back_as_it_was(tiny_llama, adapter, fails):
    model = tiny_llama.model
    before = {k: v.clone() for k, v in model.state_dict().items()}
    modules = {name: type(m) for name, m in model.named_modules()}
    flags = [p.requires_grad for p in model.parameters()]
    attributes = set(vars(model))
    try:
        with attach(tiny_llama, adapter) as attached:
            random_adapters(attached, 2, np.random.default_rng(0))
            if fails:
                raise RuntimeError
    except RuntimeError:
        assert fails
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[k], before[k]) for k in before)
    assert {name: type(m) for name, m in model.named_modules()} == modules
    assert [p.requires_grad for p in model.parameters()] == flags
    assert set(vars(model)) == attributes


def test_preflight_tells_an_active_adapter_from_an_inactive_one(tmp_path, tiny_llama, adapter):
    with attach(tiny_llama, adapter) as attached:
        found = attached.preflight
    assert found.active
    assert (found.variant, found.rank, found.modules) == ("lora", 4, 21)
    assert found.base_gap == 0
    assert found.shift > 0
    idle = save_adapter(tmp_path / "idle", tiny_llama, strength=0.0)
    with attach(tiny_llama, idle) as attached:
        assert not attached.preflight.active
        assert attached.preflight.norm == attached.preflight.shift == 0


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "neox"])
@pytest.mark.parametrize("config", [{}, {"use_rslora": True}], ids=["lora", "rslora"])
def test_deltas_are_what_merging_adds_to_the_weights(tmp_path, fresh, architecture, config):
    loaded = fresh(architecture)
    folder = save_adapter(tmp_path / "adapter", loaded, targets=LINEAR[architecture], **config)
    with attach(loaded, folder) as attached:
        updates = deltas(attached)
        for name, layer in lora_layers(attached.model).items():
            before = layer.base_layer.weight.detach().clone()
            layer.merge()
            change = (layer.base_layer.weight.detach() - before).numpy()
            layer.unmerge()
            oriented = change.T if type(layer.base_layer).__name__ == "Conv1D" else change
            np.testing.assert_allclose(updates[name].dense(), oriented, atol=1e-6)


def test_random_adapters_keep_every_singular_value_and_no_direction(tiny_llama, adapter):
    with attach(tiny_llama, adapter) as attached:
        names = random_adapters(attached, 2, np.random.default_rng(1))
        trained = deltas(attached)
        for name in names:
            for module, update in deltas(attached, name).items():
                np.testing.assert_allclose(
                    update.singular_values(), trained[module].singular_values(), rtol=1e-5
                )
                cosine = update.inner(trained[module]) / trained[module].norm() ** 2
                assert abs(cosine) < 0.5
        assert attached.model.active_adapter == ADAPTER
    first, second = (_random_factors(tiny_llama, adapter, np.random.default_rng(seed)) for seed in (1, 1))
    np.testing.assert_array_equal(first, second)


def _random_factors(loaded, adapter, rng):
    with attach(loaded, adapter) as attached:
        (name,) = random_adapters(attached, 1, rng)
        return next(iter(deltas(attached, name).values())).b


@pytest.mark.parametrize("start", ["pissa", "pissa_niter_4", "olora"])
def test_initialisations_that_rewrite_the_base_are_refused_by_name(tmp_path, tiny_llama, start):
    folder = save_adapter(tmp_path / "adapter", tiny_llama, init_lora_weights=start)
    with pytest.raises(AdapterError, match=start.split("_")[0]), attach(tiny_llama, folder):
        pass


def test_a_rewritten_base_is_noticed_even_when_the_config_hides_it(tmp_path, tiny_llama):
    """The numbers decide, not the label: the base is changed under an adapter that claims to be plain."""
    folder = save_adapter(tmp_path / "adapter", tiny_llama)
    from peft import PeftModel

    original = PeftModel.from_pretrained

    def rewriting(model, *args, **options):
        wrapped = original(model, *args, **options)
        with torch.no_grad():
            next(iter(lora_layers(wrapped).values())).base_layer.weight.mul_(1.01)
        return wrapped

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PeftModel, "from_pretrained", rewriting)
        with pytest.raises(AdapterError, match="switched off"), attach(tiny_llama, folder):
            pass


def test_trained_biases_are_refused_by_name(tmp_path, fresh):
    loaded = fresh("gpt2")
    folder = save_adapter(tmp_path / "adapter", loaded, targets=["c_attn"], bias="all")
    with pytest.raises(AdapterError, match="bias='all'"), attach(loaded, folder):
        pass


def _edit(folder, **changes):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_other_kinds_of_adapter_are_refused(adapter, tiny_llama):
    _edit(adapter, peft_type="IA3")
    with pytest.raises(AdapterError, match="IA3"), attach(tiny_llama, adapter):
        pass


def test_a_folder_that_is_no_adapter_is_refused(tmp_path, tiny_llama, adapter):
    def refused(folder, reason):
        with pytest.raises(AdapterError, match=reason), attach(tiny_llama, folder):
            pass

    refused(tmp_path / "nowhere", "no such adapter folder")
    refused(tmp_path, "no adapter_config.json")
    (adapter / "adapter_config.json").write_text("{")
    refused(adapter, "is not JSON")


def test_damaged_or_missing_weights_are_refused(tmp_path, tiny_llama, adapter):
    from safetensors.torch import load_file, save_file

    file = adapter / "adapter_model.safetensors"
    weights = load_file(file)

    def refused(reason):
        with pytest.raises(AdapterError, match=reason), attach(tiny_llama, adapter):
            pass

    name = sorted(weights)[0]
    save_file({**weights, name: weights[name] * torch.nan}, file)
    refused("NaN")
    save_file({k: v for k, v in weights.items() if k != name}, file)
    refused("1 weights are missing")
    save_file({**weights, "base_model.model.foreign.lora_A.weight": torch.ones(1)}, file)
    refused("fit no module")
    file.write_bytes(file.read_bytes()[:100])
    refused("damaged")
    file.unlink()
    refused("no adapter_model.safetensors")


def test_an_adapter_of_another_architecture_is_refused(fresh, adapter):
    loaded = fresh("gpt2")
    with pytest.raises(AdapterError, match="does not fit"), attach(loaded, adapter):
        pass


def test_an_adapter_that_we_trained_on_another_base_is_refused_by_its_fingerprint(adapter, tiny_llama):
    note = {"base": {"name": "elsewhere", "fingerprint": "0" * 64}}
    (adapter / "training.json").write_text(json.dumps(note))
    with pytest.raises(AdapterError, match="elsewhere"), attach(tiny_llama, adapter):
        pass


def test_nobody_is_asked_about_the_base_that_an_adapter_names(adapter, tiny_llama, monkeypatch):
    """The user gave a folder; what the adapter calls its base is no reason to go on the network."""
    from peft.utils import save_and_load

    def asked(*_, **__):
        raise AssertionError("the hub was asked")

    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(
        json.dumps(config | {"base_model_name_or_path": "somebody/else"})
    )
    monkeypatch.setattr(save_and_load, "check_file_exists_on_hf_hub", asked)
    with attach(tiny_llama, adapter) as attached:
        assert attached.preflight.active


@pytest.mark.parametrize("touched", [False, True])
def test_embeddings_saved_along_must_be_those_of_the_base(adapter, tiny_llama, touched):
    weights = load_file(adapter / "adapter_model.safetensors")
    table = tiny_llama.model.get_input_embeddings().weight.detach().clone()
    key = "base_model.model.model.embed_tokens.weight"
    save_file(weights | {key: table + 0.5 * touched}, adapter / "adapter_model.safetensors")
    if touched:
        with pytest.raises(AdapterError, match="brings its own"), attach(tiny_llama, adapter):
            pass
        assert torch.equal(tiny_llama.model.get_input_embeddings().weight, table)
    else:
        with attach(tiny_llama, adapter) as attached:
            assert attached.preflight.active
