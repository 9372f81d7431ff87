"""An adapter that does nothing changes nothing; random ones are not flagged; one that moves items is seen."""

import json
import warnings

import numpy as np
import pytest
import torch

from analyses import symmetry_adapter
from analyses.__main__ import run
from analyses.concepts import load
from analyses.report import plain
from analyses.symmetry_adapter import AdapterRequest, adapter_facts
from analyses.symmetry_adapter_page import adapter_claim, adapter_section
from analyses.symmetry_held import held_against
from finetune.adapter import ADAPTER, BASE, attach, lora_layers
from finetune.sided_items import side_on, sided_item_states
from geometry.checks import DataError
from geometry.live.item_states import ITEM_END, item_states

WEEK = load("weekdays")
TEMPLATES = ("it was {}", "the king came in {} again", "on {} of the year", "before {}")


def saved(folder, loaded, change=None):
    """A LoRA folder whose updates are 0, or what ``change`` makes of each module's factors."""
    import copy

    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=2, lora_alpha=2, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = get_peft_model(copy.deepcopy(loaded.model), config)
        if change:
            with torch.no_grad():
                for layer in lora_layers(model).values():
                    change(layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight)
        model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def held():
    near = -WEEK.layout.distance
    return held_against(WEEK, near, [100] * 7, [], np.random.default_rng(0))


@pytest.fixture(autouse=True)
def fewer_draws(monkeypatch):
    monkeypatch.setattr(symmetry_adapter, "DRAWS", 10)


def loud(a, b):
    generator = torch.Generator().manual_seed(3)
    for factor in (a, b):
        factor.copy_(0.5 * torch.randn(factor.shape, generator=generator))


def test_an_adapter_of_zero_updates_changes_every_score_by_exactly_0(tmp_path, tiny_llama, held):
    folder = saved(tmp_path / "zero", tiny_llama)
    facts = adapter_facts(
        tiny_llama, held, TEMPLATES, AdapterRequest(folder, n_random=2), np.random.default_rng(0)
    )
    for score, record in facts["scores"].items():
        changes = [value for value in record["change"] if value is not None]
        assert changes, score
        assert np.allclose(changes, 0, atol=1e-5 if score == "turn" else 0 if score != "bend" else 1e-12), (
            score
        )
        assert set(record["adjusted"]) <= {None, 1.0}
    assert "No score" in adapter_claim({"adapter": plain(facts), "name": "weekdays"})


def test_sides_are_what_each_model_reads_alone(tmp_path, tiny_llama):
    folder = saved(tmp_path / "loud", tiny_llama, loud)
    alone = item_states(tiny_llama, TEMPLATES, WEEK.items).rows[ITEM_END]
    with attach(tiny_llama, folder) as attached:
        found = sided_item_states(attached, TEMPLATES, WEEK.items, [BASE, ADAPTER], ITEM_END)
        with side_on(attached, BASE):
            again = item_states(attached.loaded, TEMPLATES, WEEK.items).rows[ITEM_END]
        adapted = item_states(attached.loaded, TEMPLATES, WEEK.items).rows[ITEM_END]
    np.testing.assert_array_equal(found[BASE], alone)
    np.testing.assert_array_equal(again, alone)
    np.testing.assert_array_equal(found[ADAPTER], adapted)
    assert np.abs(found[ADAPTER] - alone)[1:].max() > 1e-3
    np.testing.assert_array_equal(item_states(tiny_llama, TEMPLATES, WEEK.items).rows[ITEM_END], alone)


def test_a_random_adapter_is_not_flagged_beside_random_ones(tmp_path, tiny_llama, held):
    folder = saved(tmp_path / "loud", tiny_llama, loud)
    request = AdapterRequest(folder, control=folder, n_random=7)
    facts = adapter_facts(tiny_llama, held, TEMPLATES, request, np.random.default_rng(1))
    assert facts["control"] and facts["n_random"] == 7
    for record in facts["scores"].values():
        assert min(p for p in record["adjusted"] if p is not None) > 0.1
        assert record["control"] == record["change"]  # the same adapter


@pytest.mark.parametrize("often", [30, 2])
def test_the_corpus_of_the_fine_tuning_is_asked_where_it_has_the_items(tmp_path, tiny_llama, held, often):
    rng = np.random.default_rng(0)
    pairs = tmp_path / "pairs.jsonl"
    records = [
        {
            "id": str(i),
            "doc_id": str(i),
            "source": f"plain {i}",
            "target": " ".join(rng.permutation(WEEK.items)) + f" {i}",
        }
        for i in range(often)
    ]
    pairs.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    folder = saved(tmp_path / "loud", tiny_llama, loud)
    request = AdapterRequest(folder, pairs=pairs, n_random=2)
    facts = plain(adapter_facts(tiny_llama, held, TEMPLATES, request, np.random.default_rng(0)))
    link = facts["link"]
    if often < symmetry_adapter.RARE:
        assert link["left_out"] == dict.fromkeys(WEEK.items, often) and "value" not in link
    else:
        assert link["items"] == list(WEEK.items) and len(link["value"]) == len(facts["layers"])
        assert min(p for p in link["adjusted"] if p is not None) > 0.01
    concept = {
        "name": "weekdays", "layout": "cycle", "adapter": facts, "corpus": {"items": list(WEEK.items)}
    }  # fmt: skip
    section = adapter_section(concept)
    assert any(figure.plot == "manifold" for figure in section.figures)
    assert ("cannot be asked" in " ".join(section.text)) == (often < symmetry_adapter.RARE)


def test_what_cannot_be_asked_is_refused(tmp_path, capsys):
    with pytest.raises(DataError, match="at least 2"):
        AdapterRequest(tmp_path, n_random=1)
    asked = ["symmetry", "--corpus", str(tmp_path), "--concept", "months"]
    assert run([*asked, "--adapter", str(tmp_path)]) == 2
    assert "give --model too" in capsys.readouterr().err
    assert run([*asked, "--pairs", str(tmp_path)]) == 2
    assert "give --adapter too" in capsys.readouterr().err
