"""The second pass agrees with the first, whatever the order of texts, and says when it cannot tell."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch

from analyses.report import plain
from analyses.separation import joint_bases, separation
from analyses.separation_page import separation_claims, separation_sections
from finetune.adapter import ADAPTER, BASE, attach, random_adapters
from finetune.paired import paired_batches
from finetune.pairs import Text
from geometry.moments import Moments
from geometry.spectra import spectrum
from geometry.subspaces import overlap

WORDS = "the ship came home in a morning with cargo of oranges and salt on monday old king asked".split()
LAYERS, K = (0, 2), 2


def texts(seed, documents=12, each=2):
    rng = np.random.default_rng(seed)
    return [
        Text(f"{seed}-{i}-{j}", f"d{seed}-{i}", " ".join(rng.choice(WORDS, 10)))
        for i in range(documents)
        for j in range(each)
    ]


@pytest.fixture
def folder(tmp_path, tiny_llama):
    from peft import LoraConfig, get_peft_model

    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights="gaussian")
        model = get_peft_model(copy.deepcopy(tiny_llama.model), config)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=0.1)
        model.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def seconds(attached, group, names):
    """Layer -> E[d d^T] of each side after the base, straight from the rows."""
    held = {layer: [Moments(32) for _ in names[1:]] for layer in LAYERS}
    for batch in paired_batches(attached, group, LAYERS, names=names):
        for layer in LAYERS:
            kept = batch.chosen & ~batch.sinks(layer)
            base, *others = batch.stream[layer][:, kept].double().numpy()
            for moments, other in zip(held[layer], others, strict=True):
                moments.update(other - base)
    return {
        layer: [m.cov + np.outer(m.mean, m.mean) for m in (one.answer() for one in many)]
        for layer, many in held.items()
    }


def run(loaded, folder, groups, n_random=2, order=lambda group: group):
    rng = np.random.default_rng(0)
    with attach(loaded, folder) as attached:
        names = (BASE, ADAPTER, *random_adapters(attached, n_random, rng))
        first = {group: seconds(attached, read, names) for group, read in groups.items()}
        bases = {
            layer: joint_bases(*([spectrum(c) for c in first[g][layer]] for g in groups), K)
            for layer in LAYERS
        }
        read = {group: order(t) for group, t in groups.items()}
        return first, separation(attached, read, {tuple(groups): bases}, names, K, rng)


def test_texts_of_one_kind_are_not_told_apart_and_any_order_gives_the_same(tiny_llama, folder):
    groups = {"one": texts(1), "other": texts(2)}
    first, records = run(tiny_llama, folder, groups)
    assert [r["layer"] for r in records] == list(LAYERS)
    for record in records:
        assert record["blocks"] == [12, 12]
        assert record["permutation"]["null"]["p"] > 0.05
        assert record["halves"]["across"] > record["ceiling"] - 0.05
        tops = [spectrum(first[group][record["layer"]][0]).top(K).vectors for group in groups]
        # 16 of 32 dimensions: what is outside may move the top-k a little
        assert record["overlap"]["value"] == pytest.approx(overlap(*tops), abs=0.05)
        moments = [first[group][record["layer"]][0] for group in groups]
        (basis,) = joint_bases(*([spectrum(c)] for c in moments), K)
        left = [1 - np.sum(basis * (c @ basis)) / np.trace(c) for c in moments]
        np.testing.assert_allclose(record["outside"], left, atol=1e-6)
        assert len(record["chance"]["samples"]) == 2
    _, again = run(tiny_llama, folder, groups, order=lambda group: group[::-1])
    for record, other in zip(records, again, strict=True):
        assert record["permutation"]["null"]["p"] == pytest.approx(
            other["permutation"]["null"]["p"], abs=0.01
        )
        for key in ("overlap", "matrix_cosine", "capture_first"):
            for end in ("value", "low", "high"):
                assert record[key][end] == pytest.approx(other[key][end], abs=1e-4)


def test_the_page_says_what_was_compared_and_what_could_not_be(tiny_llama, folder):
    _, records = run(tiny_llama, folder, {"one": texts(1), "other": texts(2)}, n_random=0)
    assert {r["chance"]["of"] for r in records} == {"uniform subspaces"}
    _, few = run(tiny_llama, folder, {"one": texts(1), "few": texts(2, documents=3)})
    assert len(few) == 1
    assert "fewer than 4 documents" in few[0]["left_out"]
    facts = json.loads(json.dumps(plain({"separation": records + few})))
    full, refused = separation_sections(facts)
    assert [figure.name for figure in full.figures] == ["blocks-one-other", "disattenuated-one-other"]
    assert "12 and 3" in refused.text[0]
    (claim,) = separation_claims(facts)
    assert "overlap less than random splits of their union in 0 of 2 layers" in claim
    assert all(r["permutation"]["p_over_layers"] >= 0.05 for r in records)
    assert separation_sections({}) == []
