"""A diff reads its texts again for blocks, lenses and gradients, and its page shows all three."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch

from analyses.diff_measures import Sides, Tally
from analyses.report import plain
from analyses.second_page import second_claims, second_sections
from analyses.second_passes import Lead, second_passes
from analyses.separation import REDUCED
from finetune.adapter import ADAPTER, BASE, attach, random_adapters
from finetune.paired import paired_batches
from finetune.pairs import read_texts

WORDS = "the ship came home in a morning with cargo of oranges and salt on monday old king asked".split()
LAYERS, K = (0, 2), 1


@pytest.fixture
def paths(tmp_path):
    rng = np.random.default_rng(0)

    def words(n):
        return " ".join(rng.choice(WORDS, n))

    pairs = [
        {"id": f"p{i}", "doc_id": f"d{i // 2}", "source": words(6), "target": words(7)} for i in range(12)
    ]
    facts = [
        {
            "id": f"f{i}",
            "category": "c",
            "prompt": words(6),
            "answer": "salt",
            "foils": ["cargo", "oranges"],
            "styled_prompt": "x",
        }
        for i in range(12)
    ]
    for name, records in (("style", pairs), ("fact", facts)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    return {name: tmp_path / f"{name}.jsonl" for name in ("style", "fact")}


@pytest.fixture
def tiny_lora(tmp_path, tiny_llama):
    from peft import LoraConfig, get_peft_model

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = get_peft_model(copy.deepcopy(tiny_llama.model), LoraConfig(r=2, target_modules="all-linear"))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=0.02)
    model.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_all_three_run_on_what_the_first_pass_kept(tiny_llama, paths, tiny_lora):
    groups = {name: read_texts(path).texts for name, path in paths.items()}
    rng = np.random.default_rng(0)
    with attach(tiny_llama, tiny_lora) as attached:
        randoms = random_adapters(attached, 2, rng)
        leads = {}
        for group, texts in groups.items():
            tallies = {layer: Tally(32, 2) for layer in LAYERS}
            for batch in paired_batches(attached, texts, LAYERS, names=(BASE, ADAPTER, *randoms)):
                for layer, tally in tallies.items():
                    rows = batch.stream[layer][:, batch.chosen].numpy()
                    half = np.arange(rows.shape[1]) % 2
                    tally.update(rows, half, batch.sinks(layer)[batch.chosen].numpy())
            leads[group] = {layer: Lead.of(Sides.of(t, K, group)) for layer, t in tallies.items()}
        facts = second_passes(attached, groups, paths, leads, K, randoms=randoms, rng=rng)
    (lead, *_) = leads["style"].values()
    assert len(lead.spectra) == 3
    assert lead.spectra[0].vectors.shape == (32, 2 * REDUCED * K)
    assert [r["layer"] for r in facts["separation"]] == list(LAYERS)
    assert set(facts["lenses"]["groups"]) == set(facts["first_order"]["groups"]) == {"style", "fact"}
    titles = [section.title for section in second_sections(json.loads(json.dumps(plain(facts))))]
    assert titles[0] == "Is the overlap of style and fact texts more than sampling?"
    assert titles[1:3] == [
        "What the change says about the next token",
        "What of the change can touch behaviour",
    ]
    assert len(second_claims(facts)) == 3
    assert second_sections({}) == second_claims({}) == []
