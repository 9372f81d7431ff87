"""A dictionary from corpus to page: facts that hang together, one page, dictionaries that load; refusals."""

from __future__ import annotations

import json
from importlib.util import find_spec

import numpy as np
import pytest

from analyses import plots
from analyses.features import FeaturesRequest, features
from analyses.features_page import features_claims, features_sections
from analyses.report import plain
from geometry.checks import DataError, LayerError
from geometry.live.dictionary import Dictionary, Recipe

needs_sae = pytest.mark.skipif(
    find_spec("sae_lens") is None, reason="needs sae-lens: pip install 'repgeo[sae]'"
)
RECIPE = Recipe("topk", 64, 4, 51_200, batch=128, lr=5e-3)


def jsonl(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    words = "ship king morning letter salt London summer daughter weather cargo".split()
    corpus = jsonl(tmp_path / "corpus.jsonl", [{"text": " ".join(rng.choice(words, 40))} for _ in range(60)])
    names = ["".join(rng.choice([*"abcdefgh"], 5)) for _ in range(12)]
    pairs = [
        {"id": f"p{i}", "doc_id": f"d{i}", "source": n, "target": n.upper()} for i, n in enumerate(names)
    ]
    facts = [
        {
            "id": f"f{i}", "category": "digits", "prompt": f"<{n}> =", "answer": "7", "foils": ["3", "4"],
            "styled_prompt": "so",
        }
        for i, n in enumerate(names)
    ]  # fmt: skip
    return corpus, {"style": jsonl(tmp_path / "s.jsonl", pairs), "fact": jsonl(tmp_path / "f.jsonl", facts)}


def request_of(files, **changes):
    corpus, texts = files
    given = {"compared": texts, "length": 32, "held_tokens": 60, "n_random": 2} | changes
    return FeaturesRequest((corpus,), given.pop("layer", 1), RECIPE, **given)


@needs_sae
def test_facts_of_an_adapter_hang_together_and_are_drawn(tiny_llama, tiny_adapter, files):
    found = features(tiny_llama, tiny_adapter, request_of(files))
    facts = plain(found.facts)
    codes = facts["quality"]["base"]["codes"]
    assert codes["seed 0"]["active"]["value"] <= 4
    assert codes["seed 0"]["explained"]["value"] > codes["random features"]["explained"]["value"]
    assert facts["loss"]["adapted"]["codes"]["mean"]["recovered"]["value"] == 0.0
    assert facts["stability"][0]["mean"]["value"] > facts["stability"][0]["mean"]["null"]["mean"]
    assert facts["changes"]["style"]["explained"]["null"]["n"] == 2
    turned = facts["causal"]["turned_back"]
    assert [one["features"] for one in turned] == sorted(one["features"] for one in turned)
    assert turned[-1]["features"] == facts["causal"]["moved"]
    assert set(facts["causal"]["whole_change"]) == {"style", "fact margin"}
    named = {one["feature"] for one in facts["features"]}
    assert {one["feature"] for group in facts["changes"].values() for one in group["listed"]} == named
    claims = features_claims(facts)
    assert any("in no feature" in claim for claim in claims)
    for section in features_sections(facts):
        for figure in section.figures:
            plots.draw(figure.plot, figure.data)


@needs_sae
def test_the_base_alone_has_quality_and_features(tiny_llama, files):
    facts = plain(features(tiny_llama, None, request_of(files, compared={})).facts)
    assert facts["sides"] == ["base"]
    assert "changes" not in facts
    assert facts["features"]
    assert features_sections(facts)[-2].title == "What are its features?"
    assert len(features_claims(facts)) == 3


@needs_sae
def test_the_command_writes_a_page_and_dictionaries(tiny_folder, files, tmp_path, capsys):
    from analyses.__main__ import run

    corpus, _ = files
    out = tmp_path / "run"
    words = ["features", "--model", str(tiny_folder), "--layer", "1", "--corpus", str(corpus), "--size", "64"]
    words += ["--active", "4", "--rows", "8192", "--out", str(out), "--device", "cpu"]
    assert run(words) == 2
    assert "windows of 256 tokens" in capsys.readouterr().err
    assert run([*words, "--length", "64"]) == 0
    assert (out / "page" / "report.html").is_file()
    assert not (out / "page.partial").exists()
    assert Dictionary.load(out / "dictionary-1").size == 64


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seeds": (0,)}, "2 or more"),
        ({"seeds": (1, 1)}, "2 or more"),
        ({"n_random": 1}, "2 or more"),
        ({}, "need an adapter"),
    ],
)
def test_requests_that_make_no_sense_are_refused(tiny_llama, files, changes, words):
    with pytest.raises(DataError, match=words):
        features(tiny_llama, None, request_of(files, **changes))


def test_a_layer_that_there_is_not_is_refused(tiny_llama, files):
    with pytest.raises(LayerError, match="no layer 3"):
        features(tiny_llama, None, request_of(files, layer=3))


@needs_sae
def test_a_corpus_too_small_to_hold_documents_out_is_refused(tiny_llama, tmp_path):
    corpus = jsonl(
        tmp_path / "small.jsonl", [{"text": "The ship came home in the morning with salt. " * 9}] * 5
    )
    request = FeaturesRequest((corpus,), 1, RECIPE, length=32)
    with pytest.raises(DataError, match="held out"):
        features(tiny_llama, None, request)
