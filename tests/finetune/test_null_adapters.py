"""Adapters that share one side with the trained one, the flipped one, and the base against itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from finetune.adapter import ADAPTER, BASE, attach, deltas, forward_together, random_adapters, require_active
from finetune.null_adapters import flipped_adapter, half_random_adapters
from finetune.placebo import BATCHING, BFLOAT16, placebo_sizes
from finetune.written import written_spaces
from geometry.checks import AdapterError
from geometry.subspaces import overlap
from tests.finetune.test_adapter import LINEAR, save_adapter

TEXTS = ("The ship came home in the morning", "On Monday the old king asked", "She wrote three letters")


@pytest.fixture
def adapter(tmp_path, tiny_llama):
    return save_adapter(tmp_path / "adapter", tiny_llama)


def test_half_random_adapters_keep_the_values_and_one_side(tiny_llama, adapter):
    with attach(tiny_llama, adapter) as attached:
        rng = np.random.default_rng(0)
        (writes,) = half_random_adapters(attached, "keep writes", 1, rng)
        (reads,) = half_random_adapters(attached, "keep reads", 1, rng)
        assert attached.model.active_adapter == ADAPTER
        own, kept, read = deltas(attached), deltas(attached, writes), deltas(attached, reads)
    for module, update in own.items():
        u, s, vt = update.svd()
        for made in (kept[module], read[module]):
            np.testing.assert_allclose(made.singular_values(), s, rtol=1e-4)
        assert overlap(kept[module].svd()[0], u) == pytest.approx(1, abs=1e-5)
        assert overlap(read[module].svd()[2].T, vt.T) == pytest.approx(1, abs=1e-5)
        assert overlap(kept[module].svd()[2].T, vt.T) < 0.9
        assert overlap(read[module].svd()[0], u) < 0.9


def test_a_flipped_adapter_is_the_negative_update(tiny_llama, adapter):
    with attach(tiny_llama, adapter) as attached:
        flipped = deltas(attached, flipped_adapter(attached))
        for module, update in deltas(attached).items():
            np.testing.assert_allclose(flipped[module].dense(), -update.dense(), atol=1e-7)
        ids = torch.randint(3, 300, (1, 7), generator=torch.Generator().manual_seed(0))
        names = (BASE, ADAPTER, "flipped")
        base, plus, minus = forward_together(attached.model, {"input_ids": ids}, names).logits
    assert not torch.allclose(plus - base, minus - base, atol=1e-3)


def test_the_base_against_itself_differs_by_rounding_and_by_more_in_half_precision(tiny_causal, tmp_path):
    targets = LINEAR.get(tiny_causal.model.config.model_type.removeprefix("gpt_"), "all-linear")
    adapter = save_adapter(tmp_path / "adapter", tiny_causal, targets=targets)
    with attach(tiny_causal, adapter) as attached:
        found = placebo_sizes(attached, TEXTS, [0, 2])
        assert attached.model.dtype == torch.float32
    assert set(found) == {BATCHING, BFLOAT16}
    for layer in (0, 2):
        # right padding, and batches of any size, leave every row what it is alone
        assert found[BATCHING][layer] < 1e-5
        assert 1e-4 < found[BFLOAT16][layer] < 0.1


@pytest.mark.parametrize(("architecture", "writers"), [("llama", 2), ("gpt2", 2)])
def test_what_the_first_block_writes_lies_in_the_span_of_its_updates(tmp_path, fresh, architecture, writers):
    loaded = fresh(architecture)
    adapter = save_adapter(tmp_path / "adapter", loaded, targets=LINEAR[architecture])
    with attach(loaded, adapter) as attached:
        (random,) = random_adapters(attached, 1, np.random.default_rng(0))
        spaces = written_spaces(attached, ADAPTER, [0, 1])
        others = written_spaces(attached, random, [0, 1])
    for found in (spaces, others):
        # rank 4, and so many projections of each block add to the stream
        assert found[0].shape == (32, 4 * writers)
        assert found[1].shape == (32, 8 * writers)
        np.testing.assert_allclose(found[1].T @ found[1], np.eye(8 * writers), atol=1e-9)
        assert overlap(found[0], found[1]) == pytest.approx(1)
    assert overlap(spaces[0], others[0]) < 0.9


def test_spaces_are_not_told_where_outputs_are_rescaled(tmp_path, fresh):
    for architecture, config in (("llama", {"use_dora": True}), ("gemma2", {})):
        loaded = fresh(architecture)
        adapter = save_adapter(tmp_path / architecture, loaded, **config)
        with attach(loaded, adapter) as attached:
            assert written_spaces(attached, ADAPTER, [0]) is None


def test_an_inactive_adapter_is_refused_where_it_must_be_active(tmp_path, tiny_llama, adapter):
    with attach(tiny_llama, adapter) as attached:
        require_active(attached)
    idle = save_adapter(tmp_path / "idle", tiny_llama, strength=0.0)
    with attach(tiny_llama, idle) as attached, pytest.raises(AdapterError, match="idle: is inactive"):
        require_active(attached)


@pytest.mark.parametrize("merged", [False, True])
def test_a_base_that_carries_an_adapter_is_refused(tiny_llama, adapter, merged):
    from dataclasses import replace

    from peft import PeftModel

    wrapped = PeftModel.from_pretrained(tiny_llama.model, str(adapter))
    if merged:
        wrapped.merge_adapter()
    carrying = replace(tiny_llama, model=wrapped.get_base_model())
    kind = "a merged" if merged else "an"
    with pytest.raises(AdapterError, match=f"carries {kind} adapter already"), attach(carrying, adapter):
        pass


def test_an_adapter_that_names_another_base_is_noted(tiny_llama, adapter):
    import json

    with attach(tiny_llama, adapter) as attached:
        assert attached.preflight.notes == ()
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": "someone/other"}))
    with attach(tiny_llama, adapter) as attached:
        assert "someone/other" in attached.preflight.notes[0]
