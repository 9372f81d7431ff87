import random
import sys

import numpy as np
import pytest
import torch
from transformers import BloomConfig, BloomForCausalLM

from finetune.causal import (
    context_length,
    evaluating,
    padding_id,
    require_causal,
    right_padded,
    seeded,
)
from finetune.prompts import IGNORED
from geometry.checks import ModelError


def test_causal_models_pass_and_encoders_do_not(tiny_models):
    if tiny_models.model.config.model_type != "bert":
        require_causal(tiny_models.model)
        assert context_length(tiny_models.model) == 128
    else:
        with pytest.raises(ModelError, match="BertForMaskedLM: is not a causal"):
            require_causal(tiny_models.model)


def test_a_model_without_a_limit_has_none():
    sizes = {"vocab_size": 8, "hidden_size": 8, "n_layer": 1, "n_head": 2}
    assert context_length(BloomForCausalLM(BloomConfig(**sizes))) == sys.maxsize


def test_padding_bears_no_mask_and_no_label():
    rows = [([5, 6, 7], [IGNORED, 6, 7]), ([8], [8])]
    batch = right_padded(rows, 9)
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 9, 9]]
    assert (batch["labels"][batch["attention_mask"] == 0] == IGNORED).all()


def test_a_tokenizer_without_padding_can_pad(tiny_tokenizer):
    import copy

    bare = copy.deepcopy(tiny_tokenizer)
    assert padding_id(bare) == bare.pad_token_id
    bare.pad_token = None
    assert padding_id(bare) == bare.eos_token_id
    bare.eos_token = None
    assert padding_id(bare) == 0


def test_evaluating_is_undone_also_after_a_failure(tiny_llama):
    tiny_llama.model.train()
    with pytest.raises(KeyError), evaluating(tiny_llama.model):
        assert not tiny_llama.model.training
        assert not torch.is_grad_enabled()
        raise KeyError
    assert tiny_llama.model.training
    assert torch.is_grad_enabled()


def test_chance_is_lent_and_given_back():
    def drawn():
        return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002

    with seeded(3):
        first = drawn()
        with seeded(4):
            other = drawn()
    with seeded(3):
        assert drawn() == first != other
        expected = drawn()
    with seeded(3):
        drawn()
        with pytest.raises(KeyError), seeded(5):
            raise KeyError
        assert drawn() == expected
