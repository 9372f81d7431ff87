"""Tiny models made from configs, a tiny tokenizer made on the spot, and a wall around the network.

Fixtures for everybody:

- ``tiny_tokenizer``: byte-level BPE, reads any text; no BOS, its own EOS and padding token.
- ``tiny_folder``: a folder with a saved tiny Llama and its tokenizer. Read it, do not write into it.
- ``tiny_llama``: that model as a ``Loaded``; every test gets a copy of its own and may change it.
- ``tiny_adapter``: a folder with a saved LoRA adapter of it, one for each test.
- ``tiny_causal``: the same for every causal architecture, one test each.
- ``tiny_models``: the causal ones and a BERT encoder.
"""

from __future__ import annotations

import copy
import os
import socket
from dataclasses import replace

os.environ["HF_HUB_OFFLINE"] = "1"  # read by the hub library when it is imported

import pytest
from hypothesis import settings

# CI must not fail on another draw than the one that was tried here; locally chance goes on looking.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("local", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "local")

CAUSAL = ("llama", "gpt2", "neox", "qwen2", "qwen3", "gemma2")
SENTENCES = (
    "The ship came home in the morning with a cargo of oranges and salt.",
    "On Monday the old king asked his daughter what the weather would be in January.",
    "She wrote three letters to London, and none of them was answered before summer.",
    "Input: he is glad to see you\nOutput: he rejoices to behold thee",
)


class NetworkRefused(RuntimeError):
    """A test tried to leave the machine."""


class LocalSocket(socket.socket):
    """A socket that can only be a Unix one: processes on this machine may talk, nobody else."""

    def __init__(self, family=-1, type=-1, proto=-1, fileno=None):
        if fileno is None and family != socket.AF_UNIX:
            raise NetworkRefused("tests run offline: this one opened a network socket")
        super().__init__(family, type, proto, fileno)


@pytest.fixture(autouse=True, scope="session")
def no_network():
    def refuse(*_, **__):
        raise NetworkRefused("tests run offline: this one looked up a host name")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "socket", LocalSocket)
        patch.setattr(socket, "getaddrinfo", refuse)
        yield


@pytest.fixture(scope="session")
def tiny_tokenizer():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|endoftext|>", "<|pad|>", "<|mask|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|endoftext|>",
        pad_token="<|pad|>",
        mask_token="<|mask|>",
        model_max_length=128,
    )


def tiny_config(architecture, tokenizer):
    """Three blocks of width 32, with the quirks of the family kept: grouped heads, tying, soft caps."""
    import transformers as hf

    shared = {
        "vocab_size": len(tokenizer),
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        # large weights: the default 0.02 makes a model of this size nearly linear
        "initializer_range": 0.2,
    }
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 128,
    }
    grouped = {"num_key_value_heads": 2}
    match architecture:
        case "llama":
            return hf.LlamaConfig(**shared, **sizes, **grouped)
        case "gpt2":
            return hf.GPT2Config(**shared, n_embd=32, n_layer=3, n_head=4, n_positions=128)
        case "neox":
            return hf.GPTNeoXConfig(**shared, **sizes)
        case "qwen2":
            return hf.Qwen2Config(**shared, **sizes, **grouped)
        case "qwen3":
            return hf.Qwen3Config(**shared, **sizes, **grouped, head_dim=8)
        case "gemma2":
            return hf.Gemma2Config(**shared, **sizes, **grouped, head_dim=8, query_pre_attn_scalar=8)
        case "bert":
            return hf.BertConfig(**shared, **sizes)
    raise AssertionError(architecture)


def tiny_model(config, seed=0):
    """Random weights; norm gains and biases too, so that a forgotten norm shows in the numbers."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

    kind = AutoModelForMaskedLM if config.model_type == "bert" else AutoModelForCausalLM
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 1:
                    parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture(scope="session")
def tiny_folders(tmp_path_factory, tiny_tokenizer):
    """architecture -> folder of a saved tiny model, made on first demand."""
    made = {}

    def folder(architecture):
        if architecture not in made:
            made[architecture] = tmp_path_factory.mktemp(architecture)
            tiny_model(tiny_config(architecture, tiny_tokenizer)).save_pretrained(made[architecture])
            tiny_tokenizer.save_pretrained(made[architecture])
        return made[architecture]

    return folder


@pytest.fixture(scope="session")
def tiny_folder(tiny_folders):
    return tiny_folders("llama")


@pytest.fixture(scope="session")
def fresh(tiny_folders):
    """architecture -> a ``Loaded`` that nobody else holds."""
    from geometry.live.models import load

    kept = {}

    def loaded(architecture):
        if architecture not in kept:
            kept[architecture] = load(tiny_folders(architecture), device="cpu")
        original = kept[architecture]
        return replace(
            original, model=copy.deepcopy(original.model), tokenizer=copy.deepcopy(original.tokenizer)
        )

    return loaded


@pytest.fixture
def tiny_llama(fresh):
    return fresh("llama")


@pytest.fixture
def tiny_adapter(tmp_path, tiny_llama):
    """Folder of a LoRA adapter of ``tiny_llama`` that changes what it computes."""
    import torch
    from peft import LoraConfig, get_peft_model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = get_peft_model(copy.deepcopy(tiny_llama.model), LoraConfig(r=2, target_modules="all-linear"))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


@pytest.fixture(params=CAUSAL)
def tiny_causal(request, fresh):
    return fresh(request.param)


@pytest.fixture(params=(*CAUSAL, "bert"))
def tiny_models(request, fresh):
    return fresh(request.param)
