"""Lenses and first order on a tiny model: planted structure reaches the facts, and the page says what is missing."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch

from analyses.first_order import Leading, first_order
from analyses.first_order_page import first_order_claims, first_order_sections
from analyses.lens_page import lens_sections
from analyses.lenses import lenses
from analyses.report import plain
from finetune.adapter import ADAPTER, BASE, attach, random_adapters
from finetune.pairs import read_texts
from geometry.spectra import spectrum

FACTS = [
    ("The ship came home in the", "morning", ["summer", "winter"]),
    ("She wrote three letters to", "London", ["Rome", "Madrid"]),
    ("On Monday the old king asked his", "daughter", ["son"]),
    ("None of them was answered before", "summer", ["winter"]),
]
PAIRS = [
    ("he is glad to see you", "he rejoices to behold thee"),
    ("the old king came home", "the aged king returned"),
    ("the ship came in the morning", "the vessel arrived at dawn"),
]
LAYERS, K = (0, 2), 2


@pytest.fixture
def paths(tmp_path):
    facts = [
        {"id": f"f{i}", "category": "c", "prompt": p, "answer": a, "foils": f, "styled_prompt": p}
        for i, (p, a, f) in enumerate(FACTS)
    ]
    pairs = [{"id": f"p{i}", "doc_id": f"d{i}", "source": s, "target": t} for i, (s, t) in enumerate(PAIRS)]
    texts = [{"id": f"t{i}", "text": p} for i, (p, _) in enumerate(PAIRS)]
    made = {}
    for name, records in (("fact", facts), ("style", pairs), ("neutral", texts)):
        made[name] = tmp_path / f"{name}.jsonl"
        made[name].write_text("".join(json.dumps(r) + "\n" for r in records))
    return made


def saved(folder, loaded, size, **settings):
    from peft import LoraConfig, get_peft_model

    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = LoraConfig(**{"r": 2, "target_modules": "all-linear", **settings})
        model = get_peft_model(copy.deepcopy(loaded.model), config)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_" in name:
                    parameter.normal_(std=1.0 if "lora_A" in name else size)
    model.save_pretrained(folder)
    return folder


def sides(attached, n):
    return (BASE, ADAPTER, *random_adapters(attached, n, np.random.default_rng(0)))


def leading(width, groups):
    """The axes, as if the first held all the energy."""
    energies = np.diag(np.r_[1.0, np.full(width - 1, 1e-3)])
    return {g: dict.fromkeys(LAYERS, Leading.of(spectrum(energies), 4)) for g in groups}


def as_json(name, facts):
    return json.loads(json.dumps(plain({name: facts})))


def test_first_order_facts_have_their_floors_and_a_page(tmp_path, tiny_llama, paths):
    with attach(tiny_llama, saved(tmp_path / "a", tiny_llama, 1e-4)) as attached:
        facts = first_order(attached, paths, leading(32, paths), sides(attached, 2), K)
    assert facts["without_questions"] == ["neutral"]
    assert facts["groups"]["fact"]["items"] == facts["groups"]["fact"]["items_in_file"] == 4
    assert len(facts["effects"]) == 2 * len(LAYERS)
    assert {(r["metric"], r["states"]) for r in facts["shares"]} == {
        (a, b) for a in ("fact", "style") for b in ("fact", "style")
    }
    for record in facts["effects"]:
        sizes = [abs(d["e"]) for d in record["directions"]]
        assert sizes == sorted(sizes, reverse=True)
        if record["layer"] == 2:
            assert record["correlation"]["value"] > 0.98
            assert record["ratio"]["value"] == pytest.approx(1, abs=0.1)
    for record in facts["shares"]:
        assert 0 <= record["value"] <= 1
        assert record["chance"] == K / 32
        assert record["null"]["n"] == 2
    assert all(0 <= r["value"] <= 1 and r["ceiling"] <= 1 for r in facts["overlaps"])
    page = as_json("first_order", facts)
    titles = [section.title for section in first_order_sections(page)]
    assert titles[0] == "What of the change can touch behaviour"
    assert titles[2] == "Do the gradients of fact and style lie apart?"
    assert "Without questions, so without a metric: neutral." in first_order_sections(page)[0].text
    assert len(first_order_claims(page)) == 2


def test_a_long_file_is_sampled_and_says_so(tmp_path, tiny_llama, paths, monkeypatch):
    monkeypatch.setattr("analyses.first_order.ITEMS", 3)
    fact = {"fact": paths["fact"]}
    with attach(tiny_llama, saved(tmp_path / "a", tiny_llama, 1e-3)) as attached:
        facts = first_order(attached, fact, leading(32, fact), (BASE, ADAPTER), K)
    assert facts["groups"]["fact"]["items"] == 3
    assert "3 of 4 questions" in first_order_sections(as_json("first_order", facts))[0].text[0]


def test_the_page_says_when_nothing_can_be_differentiated(tmp_path, tiny_llama, paths, monkeypatch):
    neutral = {"neutral": paths["neutral"]}
    with attach(tiny_llama, saved(tmp_path / "a", tiny_llama, 1e-3)) as attached:
        silent = first_order(attached, neutral, leading(32, neutral), (BASE, ADAPTER), K)
        monkeypatch.setattr("analyses.first_order.WIDEST", 16)
        wide = first_order(attached, paths, leading(32, paths), (BASE, ADAPTER), K)
    whole = saved(tmp_path / "w", tiny_llama, 1e-3, modules_to_save=["lm_head"])
    with attach(tiny_llama, whole) as attached:
        monkeypatch.undo()
        trained = first_order(attached, paths, leading(32, paths), (BASE, ADAPTER), K)
        unread = lenses(attached, {"neutral": read_texts(paths["neutral"]).texts}, LAYERS, (BASE, ADAPTER))
    for facts, reason in (
        (silent, "neutral texts bring no"),
        (wide, "wider than 16"),
        (trained, "whole modules"),
    ):
        (section,) = first_order_sections(as_json("first_order", facts))
        assert reason in section.text[0]
        assert first_order_claims(as_json("first_order", facts)) == []
    (section,) = lens_sections(as_json("lenses", unread))
    assert "trained the unembedding too" in section.text[0]
    assert first_order_sections({}) == lens_sections({}) == []


def test_lenses_are_held_against_the_truth_and_the_page_shows_it(tmp_path, tiny_llama, paths):
    groups = {name: read_texts(path).texts for name, path in paths.items()}
    with attach(tiny_llama, saved(tmp_path / "a", tiny_llama, 1e-4)) as attached:
        facts = lenses(attached, groups, LAYERS, sides(attached, 2))
    assert facts["readout_gap"] < 1e-5
    for record in facts["layers"]:
        assert -1 <= record["naive"]["value"] <= 1
        assert record["linear"]["null"]["n"] == 2
        if record["layer"] == 2:
            assert record["linear"]["value"] > 0.999
            assert record["size"]["value"] == pytest.approx(1, abs=0.05)
            ends = facts["groups"][record["group"]]["true"]
            assert [t["token"] for t in record["tokens"]["linear"]["up"][:2]] == [
                t["token"] for t in ends["up"][:2]
            ]
    (section,) = lens_sections(as_json("lenses", facts | {"readout_gap": 0.01}))
    assert "caps or scales its logits" in section.text[-1]
    assert len(section.tables) == 1 + len(groups)
