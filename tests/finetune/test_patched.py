"""Patches at their ends are the base and the adapted model; in between they act on the part that was named."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from finetune.adapter import attach
from finetune.causal import right_padded
from finetune.facts import log_likelihoods, question_rows
from finetune.patched import (
    ablate_diff,
    keep_mean,
    keep_only,
    patched_logits,
    remove_mean,
    steer,
    transplant,
    zero_project,
)
from finetune.patched_likelihoods import patched_likelihoods
from geometry.checks import AdapterError, DataError, LayerError, ModelError, ShapeError
from geometry.live.anatomy import blocks
from geometry.live.capture import block_outputs
from geometry.nulls import haar_basis

LAST = 2
BATCH = {
    "input_ids": torch.tensor([[5, 9, 7, 11, 4], [3, 8, 2, 1, 1]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]),
}
REAL = BATCH["attention_mask"].bool()
EVERYTHING = np.eye(32)
QUESTIONS = [
    ("On Monday", "night"),
    ("The ship came home in the", "morning"),
    ("a", "b"),
    ("On Monday", "the old king asked"),
    ("The ship came home in the", "rain"),
    ("On Monday", "salt"),
]


def full_adapter(folder, loaded, **config):
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


def rank_one(folder, loaded, layer, direction):
    from peft import LoraConfig, get_peft_model

    settings = LoraConfig(r=1, lora_alpha=1, target_modules=[f"model.layers.{layer}.mlp.down_proj"])
    model = get_peft_model(copy.deepcopy(loaded.model), settings)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.as_tensor(direction, dtype=torch.float32)[:, None])
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def attached(tmp_path, tiny_llama):
    with attach(tiny_llama, full_adapter(tmp_path / "adapter", tiny_llama)) as found:
        yield found


def run(attached, *patches):
    with torch.inference_mode():
        return patched_logits(attached, BATCH, patches)[:, REAL]


def close(a, b, atol=1e-6):
    torch.testing.assert_close(a, b, rtol=0, atol=atol)


def test_everything_taken_out_at_the_last_block_is_the_base_and_everything_kept_is_the_adapted_model(
    tmp_path, tiny_causal
):
    with attach(tiny_causal, full_adapter(tmp_path / "adapter", tiny_causal)) as attached:
        base, adapted, out, kept, put = run(
            attached,
            *(patch({LAST: EVERYTHING}) for patch in (ablate_diff, keep_only, transplant)),
        )
        assert (base - adapted).abs().max() > 1e-2
        close(out, base)
        close(kept, adapted)
        close(put, adapted)


def test_no_patch_is_the_plain_forward_of_both_models(attached):
    alone = run(attached)
    beside = run(attached, ablate_diff({1: haar_basis(32, 2, np.random.default_rng(0))}))
    assert len(alone) == 2
    close(beside[:2], alone)
    with torch.inference_mode():
        close(alone[1], attached.model(**BATCH).logits[REAL], atol=1e-5)
        with attached.model.disable_adapter():
            close(alone[0], attached.model(**BATCH).logits[REAL], atol=1e-5)


def test_columns_may_be_a_view_in_reversed_order(attached):
    u = haar_basis(32, 4, np.random.default_rng(0))
    _, _, forwards, backwards = run(attached, keep_only({1: u}), keep_only({1: u[:, ::-1]}))
    close(forwards, backwards, atol=1e-5)


def test_a_patch_of_no_direction_does_nothing_or_all(attached):
    nothing = np.zeros((32, 0))
    base, adapted, out, kept, put = run(
        attached, ablate_diff({LAST: nothing}), keep_only({LAST: nothing}), transplant({LAST: nothing})
    )
    close(out, adapted)
    close(kept, base)
    close(put, base)


def test_one_direction_takes_out_a_planted_rank_one_change_and_a_random_one_does_not(tmp_path, tiny_llama):
    direction = np.random.default_rng(3).normal(size=32)
    own = (direction / np.linalg.norm(direction))[:, None]
    folder = rank_one(tmp_path / "planted", tiny_llama, 1, direction)
    patches = [ablate_diff({1: u}) for u in (own, haar_basis(32, 1, np.random.default_rng(0)))]
    with (
        attach(tiny_llama, folder) as attached,
        torch.inference_mode(),
    ):
        base, adapted, out, random = run(attached, *patches)
        change = (adapted - base).abs().max()
        assert change > 1e-2
        close(out, base, atol=1e-5)
        assert (random - base).abs().max() > 0.3 * change


def test_each_formula_at_its_block(attached):
    """The slow obvious way: both models alone, the formula by hand, the rest of the model on top of it."""
    rng = np.random.default_rng(0)
    u, mean = haar_basis(32, 3, rng), rng.normal(size=32)

    def alone(adapter, written=None):
        def put(_, __, output):
            return None if written is None else written

        hook = blocks(attached.model)[1].register_forward_hook(put)
        try:
            with torch.inference_mode(), block_outputs(attached.model, [1]) as stream:
                if adapter:
                    found = attached.model(**BATCH).logits
                else:
                    with attached.model.disable_adapter():
                        found = attached.model(**BATCH).logits
        finally:
            hook.remove()
        return found[REAL], stream[1].double()

    (_, base), (_, adapted) = alone(False), alone(True)
    part = torch.tensor(u @ u.T)
    m = torch.tensor(mean)
    expected = [
        alone(True, (adapted - (adapted - base) @ part).float()),
        alone(True, (base + (adapted - base) @ part).float()),
        alone(False, (base + (adapted - base) @ part).float()),
        alone(True, (adapted - m).float()),
        alone(True, (base + m).float()),
        alone(False, (base + 0.5 * m).float()),
    ]
    got = run(
        attached,
        ablate_diff({1: u}),
        keep_only({1: u}),
        transplant({1: u}),
        remove_mean({1: mean}),
        keep_mean({1: mean}),
        steer({1: mean}, 0.5),
    )
    for mine, (theirs, _) in zip(got[2:], expected, strict=True):
        close(mine, theirs, atol=2e-5)


def test_patches_of_several_blocks_stop_what_one_block_lets_through(attached):
    """With every block above L held to the base, nothing of the change is left; at one block some is."""
    base, adapted, one, all_blocks = run(
        attached, ablate_diff({0: EVERYTHING}), ablate_diff(dict.fromkeys(range(3), EVERYTHING))
    )
    close(all_blocks, base)
    assert (one - base).abs().max() > 1e-3
    assert (one - adapted).abs().max() > 1e-3


def test_likelihoods_are_those_of_each_model_alone_in_any_batch(attached):
    model, tokenizer = attached.model, attached.loaded.tokenizer
    patches = [ablate_diff({LAST: EVERYTHING}), keep_only({LAST: EVERYTHING})]
    found = patched_likelihoods(attached, QUESTIONS, patches)
    adapted = log_likelihoods(model, tokenizer, QUESTIONS)
    with model.disable_adapter():
        base = log_likelihoods(model, tokenizer, QUESTIONS)
    np.testing.assert_allclose(found.sums, [base, adapted, base, adapted], atol=1e-4)
    answers = [tokenizer(f" {answer}", add_special_tokens=False)["input_ids"] for _, answer in QUESTIONS]
    assert found.tokens.tolist() == [len(ids) for ids in answers]
    one_by_one = patched_likelihoods(attached, QUESTIONS, patches, batch_tokens=1)
    np.testing.assert_allclose(one_by_one.sums, found.sums, atol=1e-4)


def test_entering_in_the_middle_gives_what_all_copies_in_one_batch_give(tmp_path, tiny_causal):
    """The slow way has every copy as rows of one full forward pass."""
    rng = np.random.default_rng(0)
    one, other = haar_basis(32, 3, rng), haar_basis(32, 5, rng)
    patches = [
        ablate_diff({0: one, 2: other}),
        keep_only({1: other}),
        transplant({1: one}),
        transplant({2: one}),
        zero_project({0: one}),
        steer({0: rng.normal(size=32)}, 1.0),
        ablate_diff({0: one}),
    ]
    with attach(tiny_causal, full_adapter(tmp_path / "adapter", tiny_causal)) as attached:
        rows = question_rows(attached.model, attached.loaded.tokenizer, QUESTIONS)
        batch = right_padded(rows, 1)
        labels = batch.pop("labels")[:, 1:]
        with torch.inference_mode():
            logs = patched_logits(attached, batch, patches)[:, :, :-1].log_softmax(-1)
        scored = labels >= 0
        picked = logs.gather(-1, labels.clamp(min=0).expand(len(logs), -1, -1)[..., None])[..., 0]
        kl = (logs[0].exp() * (logs[0] - logs)).sum(-1)
        found = patched_likelihoods(attached, QUESTIONS, patches)
        np.testing.assert_allclose(found.sums, (picked * scored).sum(-1), atol=2e-4)
        np.testing.assert_allclose(found.divergences, (kl * scored).sum(-1), atol=2e-4)
        assert (found.divergences[0] == 0).all()
        assert np.ptp(found.sums, axis=0).max() > 1e-2


def test_the_base_comes_back_and_no_hook_stays_after_an_exception(tmp_path, tiny_llama):
    before = {name: value.clone() for name, value in tiny_llama.model.state_dict().items()}

    def bad(own, base, adapted):
        raise RuntimeError("bug in a patch")

    patch = replace(ablate_diff({1: EVERYTHING}), rewrites={1: bad})
    folder = full_adapter(tmp_path / "adapter", tiny_llama)
    with pytest.raises(RuntimeError, match="bug in a patch"), attach(tiny_llama, folder) as attached:
        run(attached, patch)
    after = tiny_llama.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert before.keys() == after.keys()
    assert not any(module._forward_hooks for module in tiny_llama.model.modules())


def test_refusals(tmp_path, attached, fresh):
    with pytest.raises(LayerError, match="no layer 3: this model has 0 to 2"):
        run(attached, ablate_diff({3: EVERYTHING}))
    with pytest.raises(ShapeError, match="basis of layer 1: its columns are not orthonormal"):
        keep_only({1: 2 * EVERYTHING})
    for wrong in (transplant({1: np.eye(8)}), steer({1: np.ones(8)}, 1.0)):
        with pytest.raises(ShapeError, match="made for a width of 8, but the model's is 32"):
            patched_likelihoods(attached, QUESTIONS, [wrong])
    with pytest.raises(LayerError, match="no layer 3: this model has 0 to 2"):
        patched_likelihoods(attached, QUESTIONS, [ablate_diff({3: EVERYTHING})])
    with pytest.raises(DataError, match="longer than the context of 128"):
        patched_likelihoods(attached, [("word " * 200, "x")], [])
    with torch.no_grad():
        attached.model.get_output_embeddings().weight[0] = torch.nan
    with pytest.raises(ModelError, match="not finite"):
        patched_likelihoods(attached, QUESTIONS, [])
    other = fresh("llama")
    folder = full_adapter(tmp_path / "saved", other, modules_to_save=["norm"])
    with (
        attach(other, folder) as whole,
        pytest.raises(AdapterError, match="trained whole modules"),
    ):
        run(whole)
