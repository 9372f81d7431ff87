"""A planted circuit is the one that is found; sets of chance are what they are called; pages need facts alone."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch

from analyses import plots
from analyses.circuit import CircuitRequest, circuit
from analyses.circuit_page import circuit_claims, circuit_sections
from analyses.circuit_sets import pruned, random_sets, sizes_up_to, smallest_enough
from analyses.report import FigureSpec, plain
from finetune.causal import padding_id, right_padded
from finetune.facts import question_rows
from finetune.pairs import read_pairs
from finetune.prompts import render
from geometry.checks import AdapterError, DataError

LETTERS = "abcdefghijklmnop"
PROJECTIONS = ("o_proj", "down_proj")


def jsonl(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def texts(tmp_path):
    rng = np.random.default_rng(0)
    pairs = [
        {"id": f"p{i}", "doc_id": f"d{i}", "source": word, "target": word.upper()}
        for i in range(12)
        for word in ["".join(rng.choice([*LETTERS], 5))]
    ]
    facts = [
        {
            "id": f"f{i}", "category": "digits", "prompt": f"<{''.join(rng.choice([*'+-*/'], 5))}> =",
            "answer": "7", "foils": ["3", "4"], "styled_prompt": "so",
        }
        for i in range(8)
    ]  # fmt: skip
    return {"style": jsonl(tmp_path / "style.jsonl", pairs), "fact": jsonl(tmp_path / "fact.jsonl", facts)}


def plant(folder, loaded, texts, active, **config):
    """An adapter of all output projections; those of ``active`` learn the style in a component each."""
    from peft import LoraConfig, get_peft_model

    settings = LoraConfig(r=2, lora_alpha=2, target_modules=list(PROJECTIONS), **config)
    model = get_peft_model(copy.deepcopy(loaded.model), settings)
    learnt, random = [], torch.Generator().manual_seed(4)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            on = any(f"layers.{layer}." in name and projection in name for layer, projection in active)
            if "lora_A" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=random) / parameter.shape[1] ** 0.5)
                parameter[1:] *= 0 if on else 1
            if "lora_B" in name:
                parameter.copy_(1e-4 * torch.randn(parameter.shape, generator=random))
            if on and "lora_" in name:
                learnt.append(parameter)
    if learnt:
        learn(model, loaded.tokenizer, learnt, texts)
    model.save_pretrained(folder)
    return folder


def learn(model, tokenizer, learnt, texts):
    """A few steps towards styled targets and away from plain sources; a component that reads nothing stays so."""
    pairs = read_pairs(texts["style"]).pairs
    asked = [(render(p.source), answer) for p in pairs for answer in (p.target, p.source)]
    batch = right_padded(question_rows(model, tokenizer, asked), padding_id(tokenizer))
    optimiser = torch.optim.Adam(learnt, lr=0.03)
    for _ in range(25):
        losses = torch.nn.functional.cross_entropy(
            model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1].mT,
            batch["labels"][:, 1:], ignore_index=-100, reduction="none",
        ).sum(1)  # fmt: skip
        (losses[::2] - losses[1::2]).mean().backward()
        for parameter in learnt:
            if parameter.shape[0] == 2:
                parameter.grad[1:] = 0
        optimiser.step()
        optimiser.zero_grad()


ACTIVE = ((0, "down_proj"), (2, "o_proj"))


@pytest.fixture
def planted(tmp_path, tiny_llama, texts):
    return plant(tmp_path / "a", tiny_llama, texts, ACTIVE)


def names(facts):
    modules = facts["modules"]
    return {
        (modules[i]["layer"], modules[i]["projection"].rsplit(".", 1)[-1]) for i in facts["circuit"]["kept"]
    }


def test_a_planted_circuit_is_recovered_exactly(planted, tiny_llama, texts):
    before = {name: value.clone() for name, value in tiny_llama.model.state_dict().items()}
    request = CircuitRequest(texts, draws=4, others=(planted,))
    facts = plain(circuit(tiny_llama, planted, request))
    assert all(torch.equal(before[name], value) for name, value in tiny_llama.model.state_dict().items())
    assert names(facts) == set(ACTIVE)
    found = facts["circuit"]
    assert found["of"] == 6
    assert found["sufficiency"]["value"] == pytest.approx(1, abs=0.02)
    assert found["necessity"]["value"] == pytest.approx(1, abs=0.02)
    assert found["sufficiency"]["value"] > found["sufficiency"]["null"]["mean"]
    # one component of each carries it: the first of its module
    components = facts["curves"]["components"]
    assert (components["of"], components["enough"]) == (12, 2)
    for curve in facts["curves"].values():
        assert curve["shares"][-1]["value"] == pytest.approx(1, abs=1e-9)
        assert all(len(values) == 4 for values in curve["random"])
    for record in facts["modules"]:
        on = (record["layer"], record["projection"].rsplit(".", 1)[-1]) in ACTIVE
        assert (abs(record["style"]["knock-in"]["value"]) > 0.1) == on
    told = facts["attribution"]
    assert told["sum"] == pytest.approx(told["effect"], rel=0.05)
    (same,) = facts["stability"]
    assert (same["shared"], same["modules"]) == (2, 2)
    assert same["rank_correlation"] == pytest.approx(1)
    (pair,) = facts["interactions"]
    both = found["sufficiency"]["value"]
    alone = [facts["modules"][i]["style"]["knock-in"]["value"] for i in found["kept"]]
    assert pair["value"] == pytest.approx(
        both - sum(alone), abs=1e-6
    )  # with nothing else on there is nothing
    sections = circuit_sections(facts)
    assert any("2 of 6 modules have" in claim for claim in circuit_claims(facts))
    for figure in (f for section in sections for f in section.figures):
        assert isinstance(figure, FigureSpec)
        assert "<svg" in plots.svg(plots.draw(figure.plot, figure.data))


def test_what_cannot_be_asked_is_refused(planted, tiny_llama, texts, tmp_path):
    for wrong in ({"keep": 1.0}, {"keep": 0.0}, {"draws": 1}):
        with pytest.raises(DataError, match="give a share in"):
            circuit(tiny_llama, planted, CircuitRequest(texts, **wrong))
    with pytest.raises(DataError, match="no sure effect on the style"):
        circuit(tiny_llama, plant(tmp_path / "weak", tiny_llama, texts, ()), CircuitRequest(texts))
    with pytest.raises(AdapterError, match="is inactive"):
        idle = plant(tmp_path / "idle", tiny_llama, texts, ())
        _silence(idle)
        circuit(tiny_llama, idle, CircuitRequest(texts))
    fewer = plant(tmp_path / "fewer", tiny_llama, texts, ACTIVE, layers_to_transform=[0, 2])
    with pytest.raises(DataError, match="adapts other modules"):
        circuit(tiny_llama, planted, CircuitRequest(texts, draws=2, others=(fewer,)))


def _silence(folder):
    from safetensors.torch import load_file, save_file

    path = folder / "adapter_model.safetensors"
    save_file({n: torch.zeros_like(v) if "lora_B" in n else v for n, v in load_file(path).items()}, path)


def test_pruning_leaves_nothing_that_could_go_and_asks_once_for_each_part():
    rng = np.random.default_rng(0)
    for _ in range(20):
        weights = rng.dirichlet(np.full(9, 0.5))
        asked = []

        def share(some, weights=weights, asked=asked):
            asked.append(some)
            return weights[list(some)].sum()

        kept, steps = pruned(np.argsort(weights).tolist(), share, 0.9)
        assert len(asked) == len(steps) == 9
        assert weights[list(kept)].sum() >= 0.9
        assert all(weights[list(kept)].sum() - weights[i] < 0.9 for i in kept)
        # adding parts up, the largest first, is the smallest set that there is
        assert len(kept) == 1 + np.searchsorted(np.sort(weights)[::-1].cumsum(), 0.9 - 1e-12)


def test_random_sets_are_uniform_and_sizes_end_at_everything():
    drawn = random_sets(5, 2, 4000, np.random.default_rng(0))
    assert all(a < b for a, b in drawn)
    counts = np.unique([5 * a + b for a, b in drawn], return_counts=True)[1]
    assert len(counts) == 10
    assert np.abs(counts - 400).max() < 4 * np.sqrt(400)
    for n in (1, 2, 3, 42, 672):
        sizes = sizes_up_to(n)
        assert sizes == sorted(set(sizes))
        assert (sizes[0], sizes[-1]) == (1, n)


def test_bisection_finds_the_first_size_that_is_enough():
    for n, first in ((1, 1), (7, 3), (100, 100), (672, 41)):
        assert smallest_enough(n, lambda k, first=first: float(k >= first), 0.9) == first
