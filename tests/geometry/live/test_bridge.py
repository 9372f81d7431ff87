"""A bridge computes what the model computes, or there is no bridge; the model itself is never touched."""

from __future__ import annotations

import copy
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from geometry.checks import AdapterError, ModelError
from geometry.live import bridge
from geometry.live.capture import EMBEDDING, block_outputs, model_inputs, token_batches
from geometry.live.models import as_bridge, fingerprint, load
from tests.conftest import SENTENCES


@pytest.fixture
def ids():
    return torch.randint(3, 320, (3, 24), generator=torch.Generator().manual_seed(1))


def with_lora(model):
    config = LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    return get_peft_model(model, config)


def test_the_bridge_computes_what_the_model_computes(tiny_causal, ids):
    made = as_bridge(tiny_causal)
    with torch.inference_mode(), block_outputs(tiny_causal.model, range(3)) as stream:
        expected = tiny_causal.model(ids).logits
    with torch.inference_mode():
        logits, cache = made.run_with_cache(ids)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4)
    for layer in range(3):
        raw = cache[f"blocks.{layer}.hook_resid_post"]
        torch.testing.assert_close(raw, stream[layer], rtol=0, atol=1e-4)


def test_an_encoder_with_its_head(fresh, ids):
    loaded = fresh("bert")
    with torch.inference_mode():
        torch.testing.assert_close(as_bridge(loaded)(ids), loaded.model(ids).logits, rtol=0, atol=1e-4)


def test_the_model_that_was_handed_in_is_unchanged(tiny_causal, ids):
    model, tokenizer = tiny_causal.model, tiny_causal.tokenizer
    with torch.inference_mode():
        before = model(ids).logits
    kinds = [type(module) for module in model.modules()]
    attention = model.config._attn_implementation
    config, settings = model.config.to_json_string(), repr(tokenizer)
    made = as_bridge(tiny_causal)
    assert [type(module) for module in model.modules()] == kinds
    assert model.config._attn_implementation == attention
    assert (model.config.to_json_string(), repr(tokenizer)) == (config, settings)
    assert fingerprint(model) == tiny_causal.fingerprint
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.zero_()
        assert torch.equal(model(ids).logits, before)


IN_A_NEW_PROCESS = """
import logging, sys, warnings
from geometry.live.models import as_bridge, load
loaded = load(sys.argv[1], device="cpu")
def settings():
    return logging.getLogger("transformers").level, warnings.filters
before = settings()
assert "transformer_lens" not in sys.modules
as_bridge(loaded)
assert "transformer_lens" in sys.modules
assert settings() == before, (before, settings())
"""


@pytest.mark.slow
def test_what_importing_transformer_lens_changes_is_put_back(tiny_folder):
    answer = subprocess.run(
        [sys.executable, "-c", IN_A_NEW_PROCESS, str(tiny_folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_half_precision_is_checked_through_a_float32_twin_and_kept(tiny_folders, ids, family):
    loaded = load(tiny_folders(family), dtype="bfloat16", device="cpu")
    made = as_bridge(loaded)
    assert {parameter.dtype for parameter in made.parameters()} == {torch.bfloat16}
    assert made.cfg.dtype == torch.bfloat16
    with torch.inference_mode():
        expected, found = loaded.model(ids).logits, made(ids)
    assert found.dtype == torch.bfloat16
    # two bfloat16 kernels; the rounding of the weights alone is of this size
    assert (found - expected).float().norm() < 0.03 * expected.float().norm()


@pytest.mark.parametrize("wrong", ["weight", "nan"])
def test_a_bridge_that_computes_something_else_is_refused(tiny_causal, monkeypatch, wrong):
    boot = bridge._boot

    def perturbed(model, loaded):
        made = boot(model, loaded)
        with torch.no_grad():
            next(iter(made.blocks[1].parameters())).view(-1)[0].add_(0.1 if wrong == "weight" else torch.nan)
        return made

    monkeypatch.setattr(bridge, "_boot", perturbed)
    with pytest.raises(ModelError, match="the bridge computes something else than the model"):
        as_bridge(tiny_causal)


def test_logits_of_another_shape_are_refused(tiny_llama, monkeypatch):
    class Short(torch.nn.Module):
        def forward(self, ids):
            return torch.zeros(*ids.shape, 7)

    monkeypatch.setattr(bridge, "_boot", lambda *_: Short())
    with pytest.raises(ModelError, match=r"logits of shape \(2, 16, 7\), not \(2, 16, 320\)"):
        as_bridge(tiny_llama)


@pytest.mark.filterwarnings("ignore:fan_in_fan_out")
def test_an_adapter_is_refused_until_it_is_merged(tiny_causal, ids):
    wrapped = with_lora(tiny_causal.model).eval()
    for model in (wrapped, wrapped.get_base_model()):
        with pytest.raises(AdapterError, match="merge it into a copy first"):
            as_bridge(replace(tiny_causal, model=model))
    with wrapped.disable_adapter(), pytest.raises(AdapterError):
        as_bridge(replace(tiny_causal, model=wrapped))
    with torch.inference_mode():
        expected = wrapped(ids).logits
    merged = copy.deepcopy(wrapped).merge_and_unload()
    with torch.inference_mode():
        found = as_bridge(replace(tiny_causal, model=merged))(ids)
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-4)


@pytest.mark.filterwarnings("ignore:fan_in_fan_out")
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_merged_adapter_gives_the_same_rows_through_the_bridge_and_through_hooks(tmp_path, fresh, family):
    """At every layer, for texts of different lengths: padded batches on our side, one text at a time on theirs."""
    loaded = fresh(family)
    with_lora(copy.deepcopy(loaded.model)).save_pretrained(tmp_path)
    with torch.inference_mode():
        pristine = loaded.model(loaded.tokenizer(SENTENCES[0], return_tensors="pt")["input_ids"]).logits
    merged = PeftModel.from_pretrained(loaded.model, tmp_path).merge_and_unload().eval()
    made = as_bridge(replace(loaded, model=merged))
    layers = range(EMBEDDING, 3)
    texts = [*SENTENCES, "Salt."]
    seen = 0
    for batch in token_batches(texts, loaded.tokenizer, max_length=128, batch_tokens=256):
        with torch.inference_mode(), block_outputs(merged, layers) as stream:
            logits = merged(**model_inputs(merged, batch)).logits
        for row, index in enumerate(batch.text_index.tolist()):
            real = batch.attention_mask[row].bool()
            with torch.inference_mode():
                expected, cache = made.run_with_cache(batch.input_ids[row, real][None])
            torch.testing.assert_close(logits[row, real], expected[0], rtol=0, atol=2e-4)
            if index == 0:
                assert (expected[0] - pristine[0]).abs().max() > 0.1
            for layer in layers:
                name = "blocks.0.hook_resid_pre" if layer == EMBEDDING else f"blocks.{layer}.hook_resid_post"
                torch.testing.assert_close(stream[layer][row, real], cache[name][0], rtol=0, atol=2e-4)
            seen += 1
    assert seen == len(texts)


def test_an_architecture_that_transformer_lens_does_not_know(tiny_llama):
    from transformers import ElectraConfig, ElectraForMaskedLM

    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = ElectraConfig(vocab_size=320, embedding_size=8, max_position_embeddings=128, **sizes)
    with pytest.raises(ModelError, match="transformer_lens cannot bridge it") as caught:
        as_bridge(replace(tiny_llama, model=ElectraForMaskedLM(config)))
    assert "\n" not in str(caught.value)


def test_a_model_without_head_is_refused(tiny_llama):
    with pytest.raises(ModelError, match="has no logits"):
        as_bridge(replace(tiny_llama, model=tiny_llama.model.model))
