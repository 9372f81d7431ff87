"""Modules that are switched off compute what the base computes, and come back on."""

from __future__ import annotations

import copy

import pytest
import torch

from finetune.adapter import attach
from finetune.knockout import modules_by_block, without_modules
from geometry.checks import LayerError
from geometry.live.capture import block_outputs

IDS = torch.tensor([[5, 9, 7, 11], [3, 3, 8, 2]])


def adapter(folder, loaded, **config):
    from peft import LoraConfig, get_peft_model

    settings = LoraConfig(r=2, target_modules=["down_proj", "q_proj", "embed_tokens"], **config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = get_peft_model(copy.deepcopy(loaded.model), settings)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_" in name:
                    parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return folder


def streams(model):
    with torch.inference_mode(), block_outputs(model, [-1, 0, 1, 2]) as kept:
        model(input_ids=IDS)
    return kept


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`")  # of peft, about embeddings
@pytest.mark.parametrize("dora", [False, True])
def test_a_switched_off_block_is_the_bases_and_the_others_are_not(tmp_path, tiny_llama, dora):
    extra = {"use_dora": True} if dora else {}
    base = streams(tiny_llama.model)
    with attach(tiny_llama, adapter(tmp_path / "a", tiny_llama, **extra)) as attached:
        adapted = streams(attached.model)
        assert set(modules_by_block(attached)) == {None, 0, 1, 2}
        assert {len(m) for m in modules_by_block(attached).values()} == {1, 2}
        with without_modules(attached, [None, 0, 2]):
            one = streams(attached.model)
        assert torch.equal(one[0], base[0])
        assert not torch.equal(one[1], base[1])
        with without_modules(attached, [1]):
            with attached.model.disable_adapter():
                assert torch.equal(streams(attached.model)[2], base[2])
            others = streams(attached.model)
        ids = IDS.repeat(2, 1)
        with without_modules(attached, [None, 0, 1, 2]), torch.inference_mode():
            mixed = attached.model(input_ids=ids, adapter_names=["__base__"] * 2 + ["default"] * 2).logits
            assert torch.equal(mixed[:2], mixed[2:])
        assert torch.equal(others[0], adapted[0])
        assert not torch.equal(others[1], adapted[1])
        with without_modules(attached, [None, 0, 1, 2]):
            assert all(torch.equal(found, base[layer]) for layer, found in streams(attached.model).items())
        with pytest.raises(RuntimeError, match="bug"), without_modules(attached, [0]):
            raise RuntimeError("bug")
        assert all(torch.equal(found, adapted[layer]) for layer, found in streams(attached.model).items())
        no_block = pytest.raises(LayerError, match=r"no adapted module in block 3: .* in \[None, 0, 1, 2\]")
        with no_block, without_modules(attached, [0, 3]):
            pass
        assert torch.equal(streams(attached.model)[2], adapted[2])
