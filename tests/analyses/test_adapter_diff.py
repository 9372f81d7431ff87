"""Planted changes are found where they were planted, and nothing is found where nothing was."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch

from analyses.adapter_diff import DiffRequest, diff, half_of
from analyses.diff_page import diff_claims, diff_sections, pick
from geometry.checks import AdapterError, DataError, LayerError

WORDS = (
    "the ship came home in a morning with cargo of oranges and salt on monday old king asked his daughter "
    "what weather would be she wrote three letters to london none them was answered before summer"
).split()


def write_texts(path, n=40, seed=0):
    rng = np.random.default_rng(seed)
    with path.open("w") as file:
        for i in range(n):
            text = " ".join(rng.choice(WORDS, 12))
            file.write(json.dumps({"id": f"t{i}", "doc_id": f"d{i // 2}", "text": text}) + "\n")
    return path


def plant(folder, loaded, layer, direction):
    """An adapter that adds (v . input) * direction to the residual stream after one block, and no more."""
    from peft import LoraConfig, get_peft_model

    target = f"model.layers.{layer}.mlp.down_proj"
    model = get_peft_model(
        copy.deepcopy(loaded.model), LoraConfig(r=1, lora_alpha=1, target_modules=[target])
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.as_tensor(direction, dtype=torch.float32)[:, None])
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def texts(tmp_path):
    return {
        "style": write_texts(tmp_path / "style.jsonl"),
        "fact": write_texts(tmp_path / "fact.jsonl", seed=1),
    }


def run(loaded, adapter, texts, **options):
    return whole(loaded, adapter, texts, **options).facts


def whole(loaded, adapter, texts, **options):
    request = DiffRequest(texts, **{"k": 2, "n_random": 3, **options})
    return diff(loaded, adapter, request, progress=lambda what, share: None)


def test_a_planted_shift_is_found_at_its_layer_and_in_its_direction(tmp_path, tiny_llama, texts):
    direction = np.random.default_rng(3).normal(size=32)
    direction /= np.linalg.norm(direction)
    adapter = plant(tmp_path / "adapter", tiny_llama, 1, direction)
    from analyses.diff_measures import Side, Tally
    from finetune.adapter import attach
    from finetune.paired import paired_batches
    from finetune.pairs import read_texts

    tally = Tally(32, 0)
    read = read_texts(texts["style"]).texts
    with attach(tiny_llama, adapter) as attached:
        for batch in paired_batches(attached, read, [1]):
            rows = batch.stream[1][:, batch.chosen].numpy()
            tally.update(rows, np.zeros(rows.shape[1], int), batch.sinks(1)[batch.chosen].numpy())
    found = Side(tally.whole(), 1).subspace[:, 0]
    assert np.degrees(np.arccos(min(1.0, abs(found @ direction)))) < 1

    facts = run(tiny_llama, adapter, texts)
    size = {r["layer"]: r["value"] for r in pick(facts, "size", "style")}
    assert size[0] == 0
    assert size[1] > 0
    assert size[2] > 0
    # what block 1 writes is all its own, and block 2 passes more on than it was handed
    direct = {r["layer"]: r for r in pick(facts, "direct", "style")}
    assert set(direct) == {1, 2}
    assert direct[1]["value"] == pytest.approx(1, abs=1e-6)
    assert direct[1]["dimensions"] == direct[2]["dimensions"] == 1
    assert direct[2]["value"] < 0.999
    rank = {r["layer"]: r["value"] for r in pick(facts, "effective_rank", "style")}
    assert rank[0] == 0
    assert rank[1] == pytest.approx(1, abs=1e-4)
    assert rank[2] > 1.01


def test_an_inactive_adapter_gives_exactly_zero_and_says_so(tmp_path, tiny_llama, texts):
    adapter = plant(tmp_path / "adapter", tiny_llama, 1, np.zeros(32))
    facts = run(tiny_llama, adapter, texts)
    assert facts["preflight"]["active"] is False
    assert all(r["value"] == 0 for r in facts["measures"] if r["measure"] != "split_half")
    assert facts["tokens"] == []
    assert not any(r["measure"] in {"split_half", "overlap"} for r in facts["measures"])
    assert "inactive" in diff_claims(facts)[0]
    assert len(diff_sections(facts)) == 1


def test_a_random_adapter_is_not_told_from_random_adapters(tmp_path, tiny_llama, texts):
    """The null must hold where it should: an adapter drawn like the null ones is rarely outside its band."""
    from peft import LoraConfig, get_peft_model

    said = []
    for seed in range(4):
        torch.manual_seed(seed)
        settings = LoraConfig(r=4, target_modules="all-linear")
        model = get_peft_model(copy.deepcopy(tiny_llama.model), settings)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=0.2)
        model.save_pretrained(tmp_path / f"a{seed}")
        facts = run(tiny_llama, tmp_path / f"a{seed}", texts, n_random=6, layers=(2,), seed=seed)
        said += [r["null"]["verdict"] for r in facts["measures"] if "null" in r]
    outside = sum(verdict != "not distinguishable" for verdict in said)
    assert outside <= 0.15 * len(said)


def test_every_number_with_a_null_names_it_and_two_runs_agree(tmp_path, tiny_llama, texts):
    adapter = plant(tmp_path / "adapter", tiny_llama, 0, np.ones(32))
    first, second = (run(tiny_llama, adapter, texts, layers=(0, 2)) for _ in range(2))
    assert json.dumps(first) == json.dumps(second)
    assert first["layers"] == [0, 2]
    for record in first["measures"]:
        if record["measure"] != "split_half":
            null = record["null"]
            assert null["n"] == len(null["samples"]) == 3
            assert null["low"] <= null["mean"] <= null["high"]
            assert 0.5 <= null["p"] <= 1
    overlap = pick(first, "overlap", "style-fact")
    assert [r["layer"] for r in overlap] == [0, 2]
    for record in overlap:
        assert 0 <= record["value"] <= 1
        assert record["chance"] == pytest.approx(2 / 32)


def test_displaced_tokens_are_the_ones_with_the_largest_difference(tmp_path, tiny_llama, texts):
    adapter = plant(tmp_path / "adapter", tiny_llama, 1, np.ones(32))
    facts = run(tiny_llama, adapter, texts, layers=(1,))
    record = next(r for r in facts["tokens"] if r["group"] == "style" and r["direction"] == 1)
    for side in ("up", "down"):
        sizes = [abs(t["z"]) for t in record[side]]
        assert sizes == sorted(sizes, reverse=True)
        assert len({t["text"] for t in record[side]}) == len(record[side])
    extreme = max(abs(t["z"]) for side in ("up", "down") for t in record[side])
    assert extreme >= max(abs(t["z"]) for t in record["control"])


def test_halves_are_dealt_by_document_and_about_even():
    halves = [half_of(f"doc-{i}") for i in range(400)]
    assert halves == [half_of(f"doc-{i}") for i in range(400)]
    assert 160 < sum(halves) < 240


def test_refusals(tmp_path, tiny_llama, texts):
    adapter = plant(tmp_path / "adapter", tiny_llama, 1, np.ones(32))
    with pytest.raises(LayerError, match="no layer 7: this model has 0 to 2"):
        run(tiny_llama, adapter, texts, layers=(7,))
    with pytest.raises(DataError, match="choose 1 to 16"):
        run(tiny_llama, adapter, texts, k=17)
    with pytest.raises(AdapterError, match="no such adapter"):
        run(tiny_llama, tmp_path / "none", texts)
    one = tmp_path / "one.jsonl"
    one.write_text(json.dumps({"id": "a", "text": "the ship came home"}) + "\n")
    with pytest.raises(DataError, match="halves of"):
        run(tiny_llama, adapter, {"style": one})


def test_the_directions_of_every_side_are_kept_for_other_commands(tmp_path, tiny_llama, texts):
    from geometry.spectra import effective_rank

    adapter = plant(tmp_path / "adapter", tiny_llama, 1, np.ones(32))
    found = whole(tiny_llama, adapter, texts, layers=(0, 1, 2), n_random=2)
    sides = ["whole", "half0", "half1", "random0", "random1"]
    # the random adapters of a change in block 1 leave block 0 alone as well
    places = [f"{group}.{layer}" for group in texts for layer in (1, 2)]
    expected = {f"{p}.{s}.{part}" for p in places for s in sides for part in ("values", "vectors")}
    assert set(found.arrays) == expected | {f"{p}.{one}" for p in places for one in ("mean", "trace")}
    values, vectors = (found.arrays[f"style.2.whole.{part}"] for part in ("values", "vectors"))
    assert (values.shape, vectors.shape, values.dtype) == ((8,), (32, 8), np.float32)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(8), atol=1e-5)
    assert found.arrays["style.2.mean"].shape == (32,)
    assert values.sum() <= found.arrays["style.2.trace"][0] * (1 + 1e-6)
    listed = found.arrays["style.1.whole.values"]
    assert effective_rank(listed) == pytest.approx(1, abs=1e-4)


def test_a_wide_model_is_sketched_and_the_page_says_what_it_lacks(tmp_path, tiny_llama, texts):
    adapter = plant(tmp_path / "adapter", tiny_llama, 1, np.ones(32))
    exact, wide = (whole(tiny_llama, adapter, texts, exact_width=width) for width in (32, 31))
    assert (exact.facts["exact"], wide.facts["exact"]) == (True, False)
    for group in texts:
        for measure in ("size", "mean_share", "stable_rank", "direct"):
            one, other = (pick(f, measure, group)[-1] for f in (exact.facts, wide.facts))
            unseen = pick(wide.facts, "split_half", group)[-1]["unseen"]
            assert other["value"] == pytest.approx(one["value"], rel=2 * unseen + 1e-6), measure
    titles = [[s.title for s in diff_sections(f)] for f in (exact.facts, wide.facts)]
    assert [t for t in titles[0] if t not in titles[1]] == [
        "Do the principal directions of the activations turn?"
    ]
    said = " ".join(diff_sections(wide.facts)[0].text)
    assert "come from sketches, which leave out at most" in said
    with pytest.raises(DataError, match="choose 1 to 2, an eighth of the sketch"):
        run(tiny_llama, adapter, texts, exact_width=31, k=3)


def test_layers_that_do_not_fit_into_memory_read_the_texts_again(tmp_path, tiny_llama, texts, monkeypatch):
    adapter = plant(tmp_path / "adapter", tiny_llama, 1, np.ones(32))
    at_once = run(tiny_llama, adapter, texts)
    monkeypatch.setattr("analyses.diff_reading.MEMORY", 1)
    one_by_one = run(tiny_llama, adapter, texts)
    assert json.dumps(at_once) == json.dumps(one_by_one)
