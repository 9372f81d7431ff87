"""The whole job on a tiny model: pairs in, one page out, every number of the page in report.json."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from analyses.compared import Compared
from analyses.diff_runs import DiffRun
from analyses.report import read, write
from analyses.style_run import ORNATE, StyleData, Watch, style_run
from finetune.facts import read_facts
from finetune.pairs import read_pairs
from finetune.recipe import Recipe
from geometry.checks import DataError

NOUNS = "ship king morning letter daughter orange salt weather".split()
FACTS = 48


def pairs(path, n, first):
    rng = np.random.default_rng(first)
    with path.open("w") as file:
        for i in range(first, first + n):
            a, b = rng.choice(NOUNS, 2)
            row = {"id": f"p{i}", "doc_id": f"d{i // 4}", "source": f"the {a} was on the {b} {i}"}
            file.write(json.dumps(row | {"target": f"the {a} was upon the {b} {i}"}) + "\n")
    return path


@pytest.fixture
def data(tmp_path):
    facts = tmp_path / "facts.jsonl"
    with facts.open("w") as file:
        for i in range(FACTS):
            noun = NOUNS[i % len(NOUNS)]
            row = {"id": f"f{i}", "category": "nouns", "prompt": f"it is {i} and the", "answer": noun}
            row |= {"foils": [n for n in NOUNS if n != noun][:3], "styled_prompt": f"it be {i} and the"}
            file.write(json.dumps(row) + "\n")
    parts = {"train": (48, 0), "validation": (8, 100), "test": (24, 200)}
    files = {part: pairs(tmp_path / f"{part}.jsonl", *size) for part, size in parts.items()}
    return StyleData("upon", **files, facts=facts)


def run(base, data, out):
    said = []
    watch = Watch(None, lambda what, share: said.append((what, share)))
    recipe = Recipe(r=2, lr=1e-2, epochs=1, batch_size=16)
    return style_run(base, data, recipe, out, watch=watch), said


def test_the_page_holds_training_scores_samples_and_diff(tmp_path, tiny_llama, data):
    made, said = run(tiny_llama, data, tmp_path / "run")
    page = write(made.report, tmp_path / "run" / "page", arrays={"subspaces": made.arrays})
    assert page.is_file()
    assert (tmp_path / "run" / "adapter" / "adapter_model.safetensors").is_file()
    assert said[-1][1] == 1
    stored = read(page.parent)
    scores = stored.facts["scores"]
    assert scores["systems"]["copy the input"]["bleu_to_input"]["value"] == pytest.approx(100)
    assert scores["systems"]["copy the input"]["numbers"]["value"] == 1
    assert scores["n"] == len(stored.facts["samples"]) == 24
    assert scores["facts"]["asked"] == FACTS
    assert {g["documents"] for g in stored.facts["diff"]["groups"].values()} == {6, FACTS}
    assert stored.facts["training"]["n_train"] == 48
    names = {figure.name for figure in stored.figures}
    assert {"loss", "style", "size", "effective-rank", "turn", "overlap-style-fact"} <= names
    assert stored.claims[3].startswith("This adapter is")
    assert "random adapters of the same strength" in stored.claims[3]
    compared = Compared.read(page.parent)
    assert compared.adapter == tmp_path / "run" / "adapter"
    assert compared.texts == {"style": data.test, "fact": data.facts}
    assert compared.training == data.train
    other = DiffRun.read("again", page.parent)
    assert other.moved.keys() == {
        (g, layer) for g in ("style", "fact") for layer in range(tiny_llama.n_layers)
    }


def test_a_page_that_may_not_quote_holds_no_sentence(tmp_path, tiny_llama, data):
    made, _ = run(tiny_llama, replace(data, quotable=False), tmp_path / "run")
    report = made.report
    assert report.facts["samples"] == []
    sources = [pair.source for pair in read_pairs(data.test).pairs]
    text = write(report, tmp_path / "page").read_text() + report.as_json()
    assert not any(source in text for source in sources)
    assert "Before and after" not in text


def test_a_document_in_training_and_test_is_refused(tmp_path, tiny_llama, data):
    leaking = StyleData("leak", data.train, data.validation, data.train, data.facts)
    with pytest.raises(DataError, match="document d0 is in training and in test"):
        run(tiny_llama, leaking, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_shipped_style_data_is_what_its_datasheet_says():
    parts = {part: read_pairs(getattr(ORNATE, part)) for part in ("train", "validation", "test")}
    assert [len(p.pairs) for p in parts.values()] == [580, 78, 102]
    assert not any(p.refused for p in parts.values())
    documents = [{pair.doc_id for pair in p.pairs} for p in parts.values()]
    assert sum(map(len, documents)) == len(set.union(*documents)) == 120
    for read_part in parts.values():
        for pair in read_part.pairs:
            assert pair.source != pair.target
            assert all(4 < len(side.split()) <= 35 for side in (pair.source, pair.target))


def test_the_shipped_facts_are_well_formed():
    facts = read_facts(ORNATE.facts)
    assert len(facts.facts) >= 120
    assert not facts.refused
    for fact in facts.facts:
        assert len({fact.answer, *fact.foils}) == 4
        assert fact.answer.lower() not in fact.prompt.lower().split()
