"""Attention of base and adapter in one pass, against two eager passes."""

import numpy as np
import pytest
import torch

from finetune.adapter import attach
from finetune.attention_shift import attention_shift
from geometry.checks import ShapeError
from geometry.dispersion import distance_edges
from geometry.live.attention_calls import attention_calls
from geometry.live.attention_pairs import shift_between
from geometry.live.attention_request import Rows
from geometry.live.capture import model_inputs, token_batches
from tests.conftest import SENTENCES
from tests.finetune.test_adapter import save_adapter


@pytest.fixture
def batch(tiny_llama):
    return next(token_batches(SENTENCES[:2], tiny_llama.tokenizer, max_length=128))


@torch.inference_mode()
def eager(attached, batch, on):
    model = attached.model
    model.set_attn_implementation("eager")
    inputs = {**model_inputs(model, batch), "output_attentions": True, "use_cache": False}
    if on:
        weights = model(**inputs).attentions
    else:
        with model.disable_adapter():
            weights = model(**inputs).attentions
    model.set_attn_implementation("sdpa")
    return [w.double().numpy() for w in weights]


@pytest.mark.parametrize("saved", [None, ["lm_head"]], ids=["mixed", "apart"])
def test_one_pass_says_what_two_eager_passes_say(tmp_path, tiny_llama, batch, saved):
    folder = save_adapter(
        tmp_path / "adapter", tiny_llama, modules_to_save=saved, targets=["q_proj", "v_proj"]
    )
    with attach(tiny_llama, folder) as attached:
        found = attention_shift(attached, batch, rows=Rows.every())
        base, adapted = eager(attached, batch, on=False), eager(attached, batch, on=True)
    real = batch.attention_mask.bool().numpy()
    length = real.shape[1]
    edges = distance_edges(length)
    away = np.abs(np.arange(length)[:, None] - np.arange(length))
    assert [layer.layer for layer in found] == [0, 1, 2]
    for layer, p, q in zip(found, base, adapted, strict=True):
        rows = np.broadcast_to(real[:, None], layer.kl.shape)
        with np.errstate(divide="ignore", invalid="ignore"):
            gap = np.where((p > 0) & (q > 0), np.log(p) - np.log(q), 0.0)
        root = (np.sqrt(p) - np.sqrt(q)) ** 2 / 2
        oracle = {"kl": p * gap, "kl_reverse": -q * gap, "mass_change": q - p, "hellinger": root}
        for name, term in oracle.items():
            for e, low in enumerate(edges):
                high = edges[e + 1] if e + 1 < len(edges) else length
                binned = (term * ((away >= low) & (away < high))).sum(-1)
                key = name if name == "mass_change" else f"{name}_by_distance"
                assert np.abs(getattr(layer, key)[..., e] - binned)[rows].max() < 1e-5, (name, e)
        assert np.abs(layer.kl - oracle["kl"].sum(-1))[rows].max() < 1e-5
        assert np.abs(layer.hellinger - np.sqrt(root.sum(-1)))[rows].max() < 1e-4
        assert np.abs(layer.kl_by_distance.sum(-1) - layer.kl)[rows].max() < 1e-5
        assert (layer.visible[:, None] == (p > 0).sum(-1))[rows].all()
    assert max(layer.kl.max() for layer in found) > 1e-3


def test_an_adapter_of_values_and_outputs_moves_no_attention_of_layer_0_at_all(tmp_path, tiny_llama, batch):
    folder = save_adapter(tmp_path / "adapter", tiny_llama, targets=["v_proj", "o_proj"])
    with attach(tiny_llama, folder) as attached:
        first, second, *_ = attention_shift(attached, batch)
    for name in ("entropy_change", "kl", "kl_reverse", "hellinger", "mass_change", "kl_by_distance"):
        assert (getattr(first, name) == 0).all(), name
    assert second.kl.max() > 1e-4, "in layer 1 it must show: its input has moved"


@torch.inference_mode()
def test_other_texts_cannot_be_compared(tiny_llama, batch):
    calls = []
    with attention_calls(tiny_llama.model, calls.append):
        tiny_llama.model(batch.input_ids)
        tiny_llama.model(batch.input_ids[:, :5])
    with pytest.raises(ShapeError, match="other texts"):
        shift_between(calls[0], calls[3], np.arange(3), distance_edges(5), stacked=False)
