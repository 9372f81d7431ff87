"""What load promises: whole and finite weights, one line for everything else; places found by structure."""

from __future__ import annotations

import copy
import json
import logging
import shutil
import socket
import sys
from dataclasses import replace

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers.utils import logging as transformers_logging

from geometry.checks import ModelError
from geometry.live import models
from geometry.live.models import blocks, final_norm, fingerprint, load


@pytest.fixture
def folder(tiny_folder, tmp_path):
    """A copy of the tiny model that a test may damage."""
    return shutil.copytree(tiny_folder, tmp_path / "model")


def rewrite_config(folder, **changes):
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def rewrite_weights(folder, change):
    path = folder / "model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path, metadata={"format": "pt"})


def refusal(*args, **options):
    with pytest.raises(ModelError) as caught:
        load(*args, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_loads_every_family_ready_to_measure(tiny_models):
    assert not tiny_models.model.training
    assert tiny_models.width == 32
    assert tiny_models.n_layers == 3
    assert tiny_models.max_length == 128
    assert tiny_models.dtype == torch.float32
    assert tiny_models.device == torch.device("cpu")
    assert tiny_models.revision is None
    assert len(tiny_models.fingerprint) == 64
    assert len(repr(tiny_models)) < 300


def test_blocks_are_the_layers_of_the_family(tiny_models):
    kinds = {type(block).__name__ for block in blocks(tiny_models.model)}
    assert len(kinds) == 1
    assert kinds.pop().endswith(("Layer", "Block"))


def test_final_norm_is_the_one_before_the_unembedding(tiny_models):
    model = tiny_models.model
    family = model.config.model_type
    where = {"gpt2": "transformer.ln_f", "gpt_neox": "gpt_neox.final_layer_norm"}.get(family, "model.norm")
    assert final_norm(model) is (None if family == "bert" else model.get_submodule(where))


@pytest.mark.filterwarnings(
    "ignore:fan_in_fan_out"
)  # peft finds out by itself that GPT-2 stores its weights so
def test_blocks_and_norm_are_found_through_an_adapter(tiny_causal):
    from peft import LoraConfig, get_peft_model

    before, norm = blocks(tiny_causal.model), final_norm(tiny_causal.model)
    wrapped = get_peft_model(
        tiny_causal.model, LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM")
    )
    assert all(a is b for a, b in zip(blocks(wrapped), before, strict=True))
    assert final_norm(wrapped) is norm


def test_a_model_that_shares_its_block_is_refused():
    config = transformers.AlbertConfig(
        vocab_size=8,
        embedding_size=8,
        hidden_size=8,
        num_attention_heads=2,
        intermediate_size=8,
        num_hidden_layers=3,
    )
    with pytest.raises(ModelError, match="share one block"):
        blocks(transformers.AlbertModel(config))


def test_a_norm_of_the_embeddings_is_not_the_final_norm():
    config = transformers.BloomConfig(vocab_size=8, hidden_size=8, n_layer=2, n_head=2)
    model = transformers.BloomForCausalLM(config)
    assert final_norm(model) is model.transformer.ln_f


def test_dtype_defaults_to_that_of_the_checkpoint(folder):
    rewrite_config(folder, dtype="bfloat16")
    rewrite_weights(folder, lambda weights: weights.update({k: v.bfloat16() for k, v in weights.items()}))
    assert load(folder, device="cpu").dtype == torch.bfloat16
    assert load(folder, device="cpu", dtype="float32").dtype == torch.float32
    assert load(folder, device="cpu", dtype=torch.float64).dtype == torch.float64


def test_fingerprint_is_of_values_not_of_storage(folder):
    rewrite_weights(folder, lambda weights: weights.update({k: v.bfloat16() for k, v in weights.items()}))
    half, full = load(folder, dtype="bfloat16"), load(folder, dtype="float32")
    assert half.fingerprint == full.fingerprint


def test_fingerprint_survives_saving_and_bookkeeping(tiny_models, tmp_path):
    tiny_models.model.config.use_cache = False
    tiny_models.model.config.pad_token_id = 0
    tiny_models.model.save_pretrained(tmp_path)
    tiny_models.tokenizer.save_pretrained(tmp_path)
    assert load(tmp_path).fingerprint == tiny_models.fingerprint


def test_fingerprint_sees_one_changed_number_anywhere(tiny_models):
    for parameter in tiny_models.model.parameters():
        kept = parameter.detach().flatten()[-1].item()
        with torch.no_grad():
            parameter.view(-1)[-1] += 1e-3
            assert fingerprint(tiny_models.model) != tiny_models.fingerprint
            parameter.view(-1)[-1] = kept
    assert fingerprint(tiny_models.model) == tiny_models.fingerprint


def test_fingerprint_sees_a_config_that_computes_something_else(tiny_llama):
    tiny_llama.model.config.rms_norm_eps = 1e-3
    assert fingerprint(tiny_llama.model) != tiny_llama.fingerprint


def test_max_length_is_the_shorter_limit_or_none_at_all(tiny_llama):
    tokenizer = copy.deepcopy(tiny_llama.tokenizer)
    tokenizer.model_max_length = 100
    assert replace(tiny_llama, tokenizer=tokenizer).max_length == 100
    tokenizer.model_max_length = int(1e30)
    assert replace(tiny_llama, tokenizer=tokenizer).max_length == 128
    alibi = transformers.BloomModel(
        transformers.BloomConfig(vocab_size=8, hidden_size=8, n_layer=2, n_head=2)
    )
    assert replace(tiny_llama, model=alibi, tokenizer=tokenizer).max_length == sys.maxsize


def test_a_bare_encoder_drops_the_pooler_that_was_never_trained(tiny_folders, tmp_path):
    folder = shutil.copytree(tiny_folders("bert"), tmp_path / "bert")
    rewrite_config(folder, architectures=["BertModel"])
    loaded = load(folder)
    assert loaded.model.pooler is None
    assert load(folder).fingerprint == loaded.fingerprint


@pytest.mark.parametrize(("family", "kind"), [("llama", "LlamaForCausalLM"), ("bert", "BertForMaskedLM")])
def test_a_config_that_names_no_class_is_still_understood(tiny_folders, tmp_path, family, kind):
    folder = shutil.copytree(tiny_folders(family), tmp_path / "model")
    rewrite_config(folder, architectures=None)
    assert type(load(folder).model).__name__ == kind


def test_loading_leaves_no_trace_on_stderr_or_on_log_levels(folder, capfd):
    before = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    load(folder)
    with pytest.raises(ModelError):
        load(folder, dtype="int8")
    assert capfd.readouterr() == ("", "")
    assert (transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()) == before
    assert logging.getLogger("transformers").level == before[0]


def test_the_embedded_model_may_be_absent(monkeypatch, tmp_path):
    monkeypatch.setattr(models, "EMBEDDED", tmp_path / "embedded")
    assert refusal("embedded").startswith("embedded: its folder is missing in this installation")


def test_the_embedded_model_is_found_by_its_name(monkeypatch, tiny_folder):
    monkeypatch.setattr(models, "EMBEDDED", tiny_folder)
    assert load("embedded").name == "embedded"


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/folder", "a/b/c", "runs/", "~/no-such-folder-here"])
def test_a_missing_path_is_never_asked_of_the_hub(name, monkeypatch):
    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", None)
    assert refusal(name) == f"{name}: no such folder"


def test_a_path_object_is_a_folder_whatever_it_looks_like(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "no such folder" in refusal(tmp_path.__class__("gpt2"))


def test_the_wall_around_the_tests_stands():
    for leave in (lambda: socket.create_connection(("127.0.0.1", 9)), socket.socket):
        with pytest.raises(RuntimeError, match="tests run offline"):
            leave()
    for end in socket.socketpair(socket.AF_UNIX):
        end.close()


@pytest.mark.parametrize("name", ["no-such-model", "nobody/no-such-model"])
def test_a_hub_name_that_is_not_to_be_had(name):
    assert "there is no such folder here, and the hub does not give it" in refusal(name)


def test_the_commit_that_a_branch_means_is_used_and_recorded(tiny_llama, monkeypatch):
    tiny_llama.model.config._commit_hash = "c0ffee"
    whole = {"missing_keys": set()}
    asked = []
    for auto_class, answer in (
        (transformers.AutoConfig, tiny_llama.model.config),
        (transformers.AutoTokenizer, tiny_llama.tokenizer),
        (transformers.AutoModelForCausalLM, (tiny_llama.model, whole)),
    ):

        def give(*, revision, answer=answer, **_):
            asked.append(revision)
            return answer

        monkeypatch.setattr(auto_class, "from_pretrained", give)
    assert load("some/name", revision="main").revision == "c0ffee"
    assert asked == ["main", "c0ffee", "c0ffee"]


def test_a_file_is_not_a_folder(folder):
    assert "is a file" in refusal(folder / "config.json")


def test_a_folder_without_config(folder):
    (folder / "config.json").unlink()
    assert "no config.json in it; not a model folder" in refusal(folder)


def test_an_adapter_is_not_a_model(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    assert "load its base model" in refusal(tmp_path)


@pytest.mark.parametrize("text", ["{", "{}", '{"model_type": "not-known-to-anyone"}'])
def test_a_config_that_cannot_be_read(folder, text):
    (folder / "config.json").write_text(text)
    assert "cannot load the config" in refusal(folder)


def test_a_tokenizer_is_required(folder):
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    assert "cannot load the tokenizer: none found" in refusal(folder)


def test_a_tokenizer_of_another_model(folder):
    rewrite_config(folder, vocab_size=100)
    rewrite_weights(
        folder,
        lambda weights: weights.update({
            key: weights[key][:100] for key in ("model.embed_tokens.weight", "lm_head.weight")
        }),
    )
    assert "do not belong together" in refusal(folder)


@pytest.mark.parametrize("config", [transformers.ViTConfig(), transformers.T5Config()])
def test_not_a_language_model(tmp_path, config):
    config.save_pretrained(tmp_path)
    assert "not a causal language model or encoder" in refusal(tmp_path)


def test_weights_of_another_format(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "no safetensors found" in refusal(folder)


def test_weights_cut_short(folder):
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "cannot load the weights" in refusal(folder)


def test_weights_that_are_missing_are_not_invented(folder):
    rewrite_weights(folder, lambda weights: weights.pop("model.norm.weight"))
    assert "lack 1 weights, the first is model.norm.weight" in refusal(folder)


def test_weights_of_another_shape(folder):
    rewrite_config(folder, intermediate_size=65)
    assert "not those that config.json says" in refusal(folder)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite(folder, value):
    rewrite_weights(folder, lambda weights: weights["model.norm.weight"].fill_(value))
    assert "NaN or infinity in the weights (model.norm.weight)" in refusal(folder)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_out_of_memory(tiny_folder, monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", fail)
    assert "out of memory; take a smaller model" in refusal(tiny_folder)


@pytest.mark.parametrize("dtype", ["int8", "no_such_format", "nn", torch.int64])
def test_a_dtype_that_is_none(tiny_folder, dtype):
    assert "not a floating-point format" in refusal(tiny_folder, dtype=dtype)


def test_a_device_that_is_none(tiny_folder):
    assert "cannot be used here" in refusal(tiny_folder, device="abacus")
    assert "cannot be used here" in refusal(tiny_folder, device="cuda:99")
