"""How often a diff says that there is something where there is nothing, and whether it says so where there is.

A pool of random adapters with the same singular values is measured once, adapter by adapter, with the diff's own
accumulators and measures. A simulated study takes one of them as the observed adapter and eight others as its
null, as a diff does; no adapter is in two studies, so that the studies are independent.
"""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch

from analyses.adapter_diff import SUMMARY
from analyses.diff_measures import Side, Tally
from analyses.diff_records import of_differences, of_pairs, over_layers, record, told_apart
from finetune.adapter import ADAPTER, BASE, attach, deltas, lora_layers, random_adapters
from finetune.paired import paired_batches
from finetune.pairs import read_texts
from geometry.nulls import matched_random

STUDIES, NULLS, AT_ONCE, LAYERS, K = 200, 8, 24, (0, 1, 2), 2
WORDS = (
    "the ship came home in a morning with cargo of oranges and salt on monday old king wrote letters".split()
)

pytestmark = pytest.mark.slow


def rate_at_most(level, n):
    """Four standard errors above a level: a sound test is beyond it once in thirty thousand times."""
    return level + 4 * np.sqrt(level * (1 - level) / n)


def lora(loaded):
    from peft import LoraConfig, get_peft_model

    return get_peft_model(copy.deepcopy(loaded.model), LoraConfig(r=4, target_modules="all-linear"))


def numbers(attached, read, names):
    """The attached adapter's numbers and those of the others on the same model, (1 + V, M), and what they are."""
    tallies = {layer: Tally(attached.loaded.model.config.hidden_size, len(names)) for layer in LAYERS}
    for batch in paired_batches(attached, read, LAYERS, names=(BASE, ADAPTER, *names)):
        for layer, tally in tallies.items():
            rows = batch.stream[layer][:, batch.chosen].numpy()
            tally.update(rows, np.zeros(rows.shape[1], int), batch.sinks(layer)[batch.chosen].numpy())
    found = []
    for adapter in range(1 + len(names)):
        taken = {}
        for layer, tally in tallies.items():
            side = Side(tally.randoms[adapter - 1].answer() if adapter else tally.whole(), K)
            sizes = {"size": tally.sizes[adapter].answer().median}
            taken |= {(m, layer): v for m, v in (sizes | of_differences(side) | of_pairs(side)).items()}
        found.append(taken)
    return np.array([list(taken.values()) for taken in found]), list(found[0])


def drawn_again(attached, names, rng):
    """Overwrite random adapters with new ones; adding thousands to a model takes peft minutes."""
    updates = deltas(attached)
    for module, layer in lora_layers(attached.model).items():
        for name in names:
            fresh = matched_random(updates[module], rng)
            with torch.no_grad():
                layer.lora_A[name].weight.copy_(torch.from_numpy(fresh.a))
                layer.lora_B[name].weight.copy_(torch.from_numpy(fresh.b))


def study(places, row, null):
    """Records of one study, as a diff writes them."""
    return [
        record(measure, "texts", layer, value, samples)
        for (measure, layer), value, samples in zip(places, row.tolist(), null.T.tolist(), strict=True)
    ]


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("texts") / "texts.jsonl"
    lines = ({"id": f"t{i}", "text": " ".join(rng.choice(WORDS, 10))} for i in range(30))
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return read_texts(path).texts


@pytest.fixture(scope="module")
def studies(fresh, read, tmp_path_factory):
    """Records of every study: one random adapter beside eight others."""
    loaded, folder = fresh("llama"), tmp_path_factory.mktemp("random")
    model = lora(loaded)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    model.save_pretrained(folder)
    rng, pool = np.random.default_rng(1), []
    with attach(loaded, folder) as attached:
        names = random_adapters(attached, AT_ONCE, rng)
        for _ in range(STUDIES * (1 + NULLS) // AT_ONCE):
            drawn_again(attached, names, rng)
            found, places = numbers(attached, read, names)
            pool.append(found[1:])  # the saved adapter is not drawn as the others are
    pool = np.concatenate(pool).reshape(STUDIES, 1 + NULLS, -1)
    return [study(places, rows[0], rows[1:]) for rows in pool]


def test_a_random_adapter_leaves_the_band_once_in_twenty_times(studies):
    said = {}
    for records in studies:
        for one in records:
            outside = one["null"]["verdict"] != "not distinguishable"
            said.setdefault((one["measure"], one["layer"]), []).append(outside)
    rates = {place: np.mean(outside) for place, outside in said.items()}
    # the band is Student's; measures are not normal, so each has room, and all together have less
    assert max(rates.values()) <= rate_at_most(0.05, STUDIES)
    assert np.mean(list(rates.values())) == pytest.approx(0.05, abs=0.02)


def test_rank_p_values_of_random_adapters_are_valid(studies):
    least = 2 / (1 + NULLS)
    said = {}
    for records in studies:
        for one in records:
            said.setdefault((one["measure"], one["layer"]), []).append(one["null"]["p"] <= least * (1 + 1e-9))
    rates = {place: float(np.mean(outermost)) for place, outermost in said.items()}
    assert max(rates.values()) <= rate_at_most(least, STUDIES)
    # not empty either: without ties the outermost of nine is the observed one in two of nine
    assert np.mean(list(rates.values())) == pytest.approx(least, abs=0.03)


def test_looking_at_every_layer_and_measure_is_paid_for(studies):
    measures = sorted({one["measure"] for one in studies[0]})
    layers = {m: [] for m in measures}
    apart, farthest, alone = [], [], []
    for records in studies:
        for one in over_layers(records):
            layers[one["measure"]].append(one["p"] <= (1 + 1e-9) / (1 + NULLS))
        whole = told_apart(records, SUMMARY)
        apart.append(whole["apart"])
        farthest.append(whole["p"] <= (1 + 1e-9) / (1 + NULLS))
        alone.append(any(one["null"]["verdict"] != "not distinguishable" for one in records))
    # ranks: the observed adapter is the farthest of nine as often as any other of the nine
    for found in (*layers.values(), farthest):
        assert np.mean(found) <= rate_at_most(1 / (1 + NULLS), STUDIES)
    assert np.mean(farthest) >= 1 / (1 + NULLS) - 4 * np.sqrt(1 / 9 * 8 / 9 / STUDIES)
    # what a page would say: told apart from random adapters
    assert np.mean(apart) <= rate_at_most(0.05, STUDIES)
    # number by number, most studies of nothing would show something
    assert np.mean(alone) > 0.3


@pytest.mark.parametrize("seed", range(3))
def test_a_trained_adapter_is_told_apart(fresh, read, tmp_path, seed):
    loaded = fresh("llama")
    train(loaded, read, tmp_path, seed)
    with attach(loaded, tmp_path) as attached:
        names = random_adapters(attached, NULLS, np.random.default_rng(seed))
        found, places = numbers(attached, read, names)
    records = study(places, found[0], found[1:])
    whole = told_apart(records, SUMMARY)
    assert whole["apart"]
    ranks = [one["null"] for one in records if one["measure"] == "effective_rank" and one["layer"] == 2]
    assert ranks[0]["verdict"] == "below"


def train(loaded, read, folder, seed):
    """Fit a few steps to what no random adapter does: one token after everything."""
    model = lora(loaded)
    torch.manual_seed(seed)
    weights = [p for name, p in model.named_parameters() if "lora_" in name]
    optimiser = torch.optim.Adam(weights, lr=0.01)
    batch = loaded.tokenizer([text.text for text in read], return_tensors="pt", padding=True)
    for _ in range(30):
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        loss = -logits.log_softmax(-1)[batch["attention_mask"].bool()][:, 65 + seed].mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.save_pretrained(folder)
