"""A patched copy writes what its patch says: at its ends the base's text and the adapted model's."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from finetune.adapter import ADAPTER, BASE, attach
from finetune.causal import right_padded
from finetune.patched import Patch, ablate_diff, keep_only, patched_logits, transplant
from finetune.patched_transfer import patched_transfer
from finetune.prompts import encode_prompt
from finetune.transfer import answer_text, stop_ids, transfer
from geometry.checks import AdapterError, DataError, InputError, LayerError
from geometry.nulls import haar_basis

LAST = 2
SOURCES = ["The ship came home.", "On Monday the old king asked his daughter", "She", "salt and oranges"]
EVERYTHING = np.eye(32)
NEW = 12


def adapter(folder, loaded, **config):
    from peft import LoraConfig, get_peft_model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        transposed = loaded.model.config.model_type == "gpt2"
        settings = LoraConfig(r=2, target_modules="all-linear", fan_in_fan_out=transposed, **config)
        model = get_peft_model(copy.deepcopy(loaded.model), settings)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name or "modules_to_save" in name:
                    parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return folder


def test_at_its_ends_a_patch_writes_what_base_and_adapted_model_write(tmp_path, tiny_causal):
    with attach(tiny_causal, adapter(tmp_path / "a", tiny_causal)) as attached:

        def write(patch):
            return patched_transfer(attached, SOURCES, patch, max_new_tokens=NEW, batch_size=3)

        settings = {"max_new_tokens": NEW, "batch_size": 3}
        adapted = transfer(attached.model, tiny_causal.tokenizer, SOURCES, **settings)
        with attached.model.disable_adapter():
            base = transfer(attached.model, tiny_causal.tokenizer, SOURCES, **settings)
        assert base != adapted
        assert write(Patch({}, ADAPTER)) == adapted
        assert write(Patch({}, BASE)) == base
        assert write(ablate_diff({LAST: EVERYTHING})) == base
        assert write(keep_only({LAST: EVERYTHING})) == adapted
        assert write(transplant({LAST: EVERYTHING})) == adapted
        # every block held to the base from the first on: nothing of the adapter is left
        assert write(ablate_diff(dict.fromkeys(range(3), EVERYTHING))) == base
        assert not any(module._forward_hooks for module in tiny_causal.model.modules())


def test_one_cache_writes_what_reading_everything_anew_at_each_step_writes(tmp_path, tiny_causal):
    u = haar_basis(32, 6, np.random.default_rng(0))
    with attach(tiny_causal, adapter(tmp_path / "a", tiny_causal)) as attached:
        tokenizer = tiny_causal.tokenizer
        stops = stop_ids(tokenizer)
        plain = transfer(attached.model, tokenizer, SOURCES, max_new_tokens=NEW)
        for patch in (ablate_diff({0: u, 1: u}), keep_only({1: u}), transplant({0: u})):
            expected = []
            for source in SOURCES:
                ids = encode_prompt(tokenizer, source)
                start = len(ids)
                while len(ids) < start + NEW and not (len(ids) > start and ids[-1] in stops):
                    batch = right_padded([(ids, ids)], 1)
                    del batch["labels"]
                    with torch.inference_mode():
                        ids = [*ids, int(patched_logits(attached, batch, [patch])[2, 0, -1].argmax())]
                expected.append(answer_text(tokenizer, ids[start:], stops))
            assert patched_transfer(attached, SOURCES, patch, max_new_tokens=NEW) == expected
            one_by_one = patched_transfer(attached, SOURCES, patch, max_new_tokens=NEW, batch_size=1)
            assert one_by_one == expected
            assert expected != plain


def test_refusals(tmp_path, tiny_llama, fresh):
    with attach(tiny_llama, adapter(tmp_path / "a", tiny_llama)) as attached:
        with pytest.raises(InputError, match="must be at least 1"):
            patched_transfer(attached, SOURCES, Patch({}, BASE), max_new_tokens=0)
        with pytest.raises(DataError, match="text 2 is empty"):
            patched_transfer(attached, ["a", " "], Patch({}, BASE))
        with pytest.raises(LayerError, match="no layer 3"):
            patched_transfer(attached, SOURCES, keep_only({3: EVERYTHING}))
    other = fresh("llama")
    whole = adapter(tmp_path / "whole", other, modules_to_save=["norm"])
    with attach(other, whole) as attached, pytest.raises(AdapterError, match="trained whole modules"):
        patched_transfer(attached, SOURCES, Patch({}, BASE))
