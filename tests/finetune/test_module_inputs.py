"""What is accumulated along a few directions is the output change of each module on the tokens themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from finetune.deltas import read_updates, with_whole_updates
from finetune.module_inputs import module_inputs
from geometry.checks import DataError, ModelError
from geometry.functional import reading_basis
from tests.conftest import SENTENCES
from tests.finetune.test_deltas import trained_like

TEXTS = [*SENTENCES, "A short one.", "Another ship came home, and the king wrote to her in London."]


def quietly(share):
    pass


def read(loaded, updates, texts=TEXTS, **more):
    bases = {u.module: reading_basis([u.delta.a]) for u in updates}
    return module_inputs(loaded, bases, texts, progress=quietly, **more)


def rows_of(loaded, modules):
    """Inputs of each module on every text alone, but the first token: no sinks beside it in these models."""
    rows = {name: [] for name in modules}
    handles = [
        loaded.model.get_submodule(name).register_forward_pre_hook(
            lambda _, args, name=name: rows[name].append(args[0][0, 1:])
        )
        for name in modules
    ]
    with torch.inference_mode():
        for text in TEXTS:
            loaded.model(**loaded.tokenizer(text, return_tensors="pt"))
    for handle in handles:
        handle.remove()
    return {name: torch.cat(parts) for name, parts in rows.items()}


@pytest.mark.parametrize(
    ("kind", "config"),
    [("llama", {}), ("gpt2", {"use_rslora": True}), ("gpt2", {"use_dora": True}), ("neox", {})],
    ids=["llama", "gpt2-rslora", "gpt2-dora", "neox"],
)
def test_functional_spectra_are_those_of_the_output_change_that_merging_makes(tmp_path, fresh, kind, config):
    loaded = fresh(kind)
    changes = trained_like(loaded, tmp_path, **config)
    updates = with_whole_updates(read_updates(tmp_path), loaded).updates
    found = read(loaded, updates, batch_tokens=64)
    rows = rows_of(loaded, found)
    assert set(found) == {name for name, change in changes.items() if np.abs(change).max() > 1e-6}
    for update in updates:
        x = rows[update.module].double().numpy()
        inputs = found[update.module]
        assert inputs.n == len(x)
        assert inputs.mean_square == pytest.approx(np.mean(np.sum(x**2, axis=1)), rel=1e-4)
        dense = np.linalg.svd(x @ changes[update.module].T, compute_uv=False) / np.sqrt(len(x))
        values = inputs.seen_by(update.delta).singular_values()
        np.testing.assert_allclose(values, dense[: len(values)], rtol=1e-3, atol=1e-4 * dense[0])


def test_an_adapted_embedding_reads_unit_vectors_of_the_vocabulary(tmp_path, fresh):
    loaded = fresh("llama")
    changes = trained_like(loaded, tmp_path, target_modules=["embed_tokens", "lm_head"])
    updates = {u.module: u for u in read_updates(tmp_path).updates}
    found = read(loaded, updates.values())
    ids = np.concatenate([loaded.tokenizer(text)["input_ids"][1:] for text in TEXTS])
    name = "model.embed_tokens"
    dense = np.linalg.svd(changes[name].T[ids], compute_uv=False) / np.sqrt(len(ids))
    values = found[name].seen_by(updates[name].delta).singular_values()
    np.testing.assert_allclose(values, dense[:3], rtol=1e-4)
    assert found[name].mean_square == 1
    assert found["lm_head"].n == len(ids)


def test_batches_do_not_matter_and_the_model_is_given_back(tmp_path, fresh):
    loaded = fresh("gpt2")
    trained_like(loaded, tmp_path)
    updates = read_updates(tmp_path).updates
    one, other = read(loaded, updates, batch_tokens=1), read(loaded, updates[:2], TEXTS[::-1])
    for name, inputs in other.items():
        np.testing.assert_allclose(inputs.second, one[name].second, rtol=1e-4, atol=1e-5)
        assert inputs.n == one[name].n
    assert not any(module._forward_pre_hooks for module in loaded.model.modules())


def test_texts_of_sinks_alone_and_modules_that_read_no_tokens_are_refused(fresh):
    loaded = fresh("llama")
    bases = {"model.layers.0.mlp.down_proj": np.eye(64)}
    with pytest.raises(DataError, match="not an attention sink"):
        module_inputs(loaded, bases, ["a"], progress=quietly)

    class Router(torch.nn.Module):
        def forward(self, x):
            return x

    mlp = loaded.model.model.layers[0].mlp
    mlp.expert = Router()
    down = mlp.down_proj
    mlp.forward = lambda x: down(
        mlp.act_fn(mlp.gate_proj(x)) * mlp.up_proj(mlp.expert(x.flatten(0, 1)).view(x.shape))
    )
    with pytest.raises(ModelError, match="leave out --texts"):
        module_inputs(loaded, {"model.layers.0.mlp.expert": np.eye(32)}, TEXTS, progress=quietly)
