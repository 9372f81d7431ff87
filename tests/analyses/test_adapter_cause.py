"""Planted causes are found where they were planted; what does nothing is not called a cause."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch

from analyses.adapter_cause import CauseRequest, cause
from analyses.cause_bases import CONTROLS, Site, control_columns, halves, of_equal_energy, own_columns
from analyses.cause_claims import cause_claims, own_metrics
from analyses.cause_exam import METRICS, Exam, read_groups
from analyses.cause_measures import Trial, effect, necessity, records, sufficiency, verdict
from analyses.cause_page import cause_sections
from analyses.compared import Compared, comparison
from analyses.manifest import manifest
from analyses.report import FigureSpec, Report
from finetune.facts import Fact
from finetune.pairs import Pair
from finetune.patched_likelihoods import Likelihoods
from geometry.checks import AdapterError, DataError, LayerError
from geometry.live.models import load
from geometry.moments import PairedMoments
from geometry.nulls import haar_basis

PLAIN = ("the ship came home", "on monday the king asked", "she wrote three letters", "he is glad to see you")
STYLED = (
    "the vessel hath returned",
    "upon monday did he ask",
    "three letters wrote she",
    "he rejoices in thee",
)


def jsonl(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def texts(tmp_path):
    pairs = [
        {
            "id": f"p{i}",
            "doc_id": f"d{i // 2}",
            "source": f"{PLAIN[i % 4]} {i}",
            "target": f"{STYLED[i % 4]} {i}",
        }
        for i in range(16)
    ]
    facts = [
        {
            "id": f"f{i}", "category": "letters", "prompt": f"{PLAIN[i % 4]} in {i}",
            "answer": "abcd"[i % 4], "foils": ["x", "y"], "styled_prompt": f"{STYLED[i % 4]} {i}",
        }
        for i in range(12)
    ]  # fmt: skip
    return {"style": jsonl(tmp_path / "style.jsonl", pairs), "fact": jsonl(tmp_path / "fact.jsonl", facts)}


def plant(folder, loaded, layer, direction):
    """An adapter that adds (v . input) * direction to the residual stream after one block, and no more."""
    from peft import LoraConfig, get_peft_model

    settings = LoraConfig(r=1, lora_alpha=1, target_modules=[f"model.layers.{layer}.mlp.down_proj"])
    model = get_peft_model(copy.deepcopy(loaded.model), settings)
    reads = torch.randn(1, 64, generator=torch.Generator().manual_seed(8)) / 8
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_A" in name:
                parameter.copy_(reads)
            if "lora_B" in name:
                parameter.copy_(torch.as_tensor(direction, dtype=torch.float32)[:, None])
    model.save_pretrained(folder)
    return folder


def run(loaded, adapter, texts, **options):
    request = CauseRequest(texts, **{"layers": (1,), "ks": (1, 2), "draws": 2, **options})
    return cause(loaded, adapter, request, progress=lambda what, share: None)


@pytest.fixture
def planted(tmp_path, tiny_llama, texts):
    direction = 3 * np.random.default_rng(3).normal(size=32)
    return plant(tmp_path / "adapter", tiny_llama, 1, direction), texts


def one(facts, **wanted):
    """The one record that is wanted."""
    (found,) = [r for r in facts["measures"] if all(r[key] == value for key, value in wanted.items())]
    return found


def test_the_one_direction_of_a_planted_change_is_all_there_is(planted, tiny_llama):
    folder, texts = planted
    before = {name: value.clone() for name, value in tiny_llama.model.state_dict().items()}
    facts = run(tiny_llama, folder, texts, all_layers=True)
    after = tiny_llama.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    effects = facts["effects"]
    sure = [metric for metric in METRICS if effects[metric]["sure"]]
    assert sure, "the planted change moves nothing: choose another one for this test"
    for metric in sure:
        for basis in ("style", "fact"):
            for measure in ("necessity", "sufficiency", "transplant"):
                found = one(facts, scope="one layer", basis=basis, k=1, measure=measure, metric=metric)
                assert found["value"] == pytest.approx(1, abs=1e-3)
                assert found["energy"] == pytest.approx(1, abs=1e-6)
                haar = next(c for c in found["controls"] if (c["control"], c["rule"]) == ("Haar", "equal k"))
                assert max(haar["values"]) < 0.9
                assert max(haar["energy"]) < 0.5
            everywhere = one(facts, scope="all layers", basis=basis, k=2, measure="necessity", metric=metric)
            assert everywhere["value"] is not None
    for metric in set(METRICS) - set(sure):
        found = one(facts, scope="one layer", basis="style", k=1, measure="necessity", metric=metric)
        assert found["value"] is None
        assert found["reason"] == f"the adapter's effect on the {metric} is within its interval"
        assert found["change"]["value"] == pytest.approx(-effects[metric]["effect"]["value"], abs=1e-3)

    found = one(facts, scope="one layer", basis="style", k=1, measure="necessity", metric=sure[0])
    assert {(c["control"], c["rule"]) for c in found["controls"]} == {
        (name, rule) for name in CONTROLS for rule in ("equal k", "equal energy")
    }
    for control in found["controls"]:
        if control["rule"] == "equal energy":
            assert min(control["energy"]) >= found["energy"] - 1e-6
    # the change is made by the modules of block 1, and there are no others
    for record in facts["modules"]:
        assert (record["block"], record["modules"]) == (1, 1)
        if record["metric"] in sure:
            assert record["value"] == pytest.approx(1, abs=1e-6)
    assert {m["measure"] for m in facts["means"]} >= {"mean removed", "mean kept", "steered by 1"}

    report = Report("cause", "t", cause_claims(facts), cause_sections(facts), facts)
    assert Report.from_json(report.as_json()).claims == report.claims
    again = run(tiny_llama, folder, texts, all_layers=True)
    assert json.dumps(facts) == json.dumps(again)


def test_refusals(planted, tmp_path, tiny_llama):
    folder, texts = planted
    with pytest.raises(LayerError, match="no layer 3: this model has 0 to 2"):
        run(tiny_llama, folder, texts, layers=(0, 3))
    with pytest.raises(DataError, match="k = 9: choose 1 to 8, a quarter"):
        run(tiny_llama, folder, texts, ks=(1, 9))
    with pytest.raises(DataError, match="no k"):
        run(tiny_llama, folder, texts, ks=())
    with pytest.raises(DataError, match="1 draws: a control needs at least 2"):
        run(tiny_llama, folder, texts, draws=1)
    with pytest.raises(LayerError, match="no layer: name at least one"):
        run(tiny_llama, folder, texts, layers=())
    with pytest.raises(DataError, match=r"groups style: a causal test needs style \(pairs\) and fact"):
        run(tiny_llama, folder, {"style": texts["style"]})
    with pytest.raises(DataError, match="layer 0: the adapter changes nothing there on style texts"):
        run(tiny_llama, folder, texts, layers=(0,))
    idle = plant(tmp_path / "idle", tiny_llama, 1, np.zeros(32))
    with pytest.raises(AdapterError, match="is inactive"):
        run(tiny_llama, idle, texts)
    few = jsonl(
        tmp_path / "few.jsonl", [{"id": "a", "doc_id": "a", "source": "he sat", "target": "he did sit"}]
    )
    with pytest.raises(DataError, match="group 'style': give at least 4 documents"):
        run(tiny_llama, folder, texts | {"style": few})
    short = [json.loads(line) for line in texts["fact"].read_text().splitlines()[:4]]
    with pytest.raises(DataError, match=r"group 'fact': .* tokens to fit on cannot carry the 32 directions"):
        run(tiny_llama, folder, texts | {"fact": jsonl(tmp_path / "short.jsonl", short)}, ks=(8,))


def test_no_document_is_fitted_and_measured(texts):
    dealt = read_groups(texts, np.random.default_rng(0))
    fitted = {t.doc_id for t in dealt.fit["style"]}
    assert fitted.isdisjoint(p.doc_id for p in dealt.exam.pairs)
    assert {t.doc_id for t in dealt.fit["fact"]}.isdisjoint(f.id for f in dealt.exam.facts)
    assert len(dealt.fit["style"]) + len(dealt.exam.pairs) == 16
    assert dealt.sizes["fact"]["fit"]["items"] + dealt.sizes["fact"]["measured"]["items"] == 12
    first, second = halves(f"d{i}" for i in range(9))
    assert (len(first), len(second)) == (5, 4)
    assert halves(f"d{8 - i}" for i in range(9)) == (first, second)


def test_the_style_is_asked_per_token_and_a_fact_against_its_best_foil():
    pairs = [Pair("1", "d", "s", "t"), Pair("2", "e", "s", "t")]
    facts = [Fact("1", "c", "p", "a", ("x", "y"), "q"), Fact("2", "c", "p", "a", ("x",), "q")]
    exam = Exam.of(pairs, facts, np.random.default_rng(0))
    assert [answer for _, answer in exam.questions] == ["t", "s", "t", "s", "a", "x", "y", "a", "x"]
    sums = np.array([[-2.0, -4.0, -3.0, -1.0, -1.0, -2.0, -4.0, -5.0, -3.0]])
    found = exam.means(Likelihoods(sums, sums, np.array([2, 2, 3, 1, 1, 1, 1, 1, 1])))
    assert {m: v.shape for m, v in found.items()} == dict.fromkeys(found, (1, 1001))
    assert found["style"][0, 0] == pytest.approx((-1 + 2 + -1 + 1) / 2)
    assert found["fact margin"][0, 0] == pytest.approx((1 - 2) / 2)
    assert found["fact share"][0, 0] == 0.5
    # a draw takes whole documents: here each is one item, so the mean is one of three
    assert set(np.round(found["fact margin"][0, 1:], 9)) == {1.0, -0.5, -2.0}


def states(base, adapted, patched, spread=0.1):
    rng = np.random.default_rng(0)
    noise = np.r_[0.0, spread * rng.normal(size=200)]
    return np.stack([
        np.full(201, base) + noise,
        np.full(201, adapted) + noise,
        np.full(201, patched) + noise,
    ])


def test_paired_noise_cancels_and_an_unsure_effect_has_no_share():
    np.testing.assert_allclose(necessity(states(0, 2, 0.5)), 0.75)
    np.testing.assert_allclose(sufficiency(states(0, 2, 0.5)), 0.25)
    assert effect(states(0, 2, 0.5))["effect"] == pytest.approx({"value": 2, "low": 2, "high": 2})
    unsure = np.stack([np.zeros(201), np.r_[0.1, np.linspace(-1, 1, 200)], np.zeros(201)])
    found = effect(unsure)
    assert not found["sure"]
    assert found["base"]["value"] == 0

    def tried(patched, **more):
        score = {"style": states(0, 2, patched), "fact margin": states(1, 2, 1.9), "fact share": unsure}
        return Trial("necessity", 0.5, **more), score

    trials = [
        tried(0.2),
        tried(1.9, control="Haar", rule="equal k"),
        tried(1.8, control="Haar", rule="equal k"),
        tried(0.2, control="base PCA", rule="equal k"),
    ]
    style, margin, share, selectivity, coarse = records(
        "necessity", necessity, trials, {"style", "fact margin"}
    )
    assert style["value"] == pytest.approx(0.9)
    assert [c["verdict"] for c in style["controls"]] == ["above", "not distinguishable"]
    assert style["controls"][0]["gap"]["value"] == pytest.approx(0.825)
    assert style["change"]["value"] == pytest.approx(-1.8)
    assert style["change"]["null"] == pytest.approx({"low": -1.8, "high": -0.1})
    assert margin["value"] == pytest.approx(0.1)
    assert share["value"] is None
    assert share["reason"] == "the adapter's effect on the fact share is within its interval"
    assert selectivity["value"] == pytest.approx(0.8)
    assert coarse["value"] is None
    assert (selectivity["metric"], coarse["metric"]) == ("style minus fact margin", "style minus fact share")
    *_, without, _ = records("necessity", necessity, trials, {"style"})
    assert without["value"] is None
    assert "fact margin is within its interval" in without["reason"]
    assert "selectivity" not in {r["measure"] for r in records("mean kept", sufficiency, trials, {"style"})}


def test_the_facts_are_followed_by_the_margin_unless_only_their_share_moves_for_sure():
    def chosen(margin, share):
        return own_metrics({"fact margin": {"sure": margin}, "fact share": {"sure": share}})["fact"]

    assert chosen(True, True) == chosen(True, False) == chosen(False, False) == "fact margin"
    assert chosen(False, True) == "fact share"


def test_a_verdict_needs_both_the_items_and_the_draws():
    own = np.r_[0.5, np.linspace(0.4, 0.6, 100)]
    low, high = own - 0.3, own + 0.3
    assert verdict(own, [low, low + 0.01]) == "above"
    assert verdict(own, [high, high + 0.01]) == "below"
    assert verdict(own, [low, high]) == "not distinguishable"
    assert verdict(own, [low - 0.6, own]) == "not distinguishable"
    assert verdict(own, [own - 1e-6]) == "not distinguishable"
    unpaired = np.r_[0.2, np.linspace(1.0, -0.6, 100)]
    assert verdict(own, [unpaired]) == "not distinguishable"


def test_controls_take_as_many_directions_as_hold_the_same_energy():
    rng = np.random.default_rng(0)
    moments = PairedMoments(8)
    base = rng.normal(size=(500, 8)) * np.arange(8, 0, -1)
    change = rng.normal(size=(500, 8)) * [0, 0, 0, 0, 0, 0, 1, 3]
    moments.update(base, base + change)
    haar = tuple(haar_basis(8, 8, rng) for _ in range(2))
    sites = {0: Site(moments.answer(), (np.eye(8), np.eye(8)), haar)}
    own = own_columns(sites, 1)[0]
    assert abs(own[7, 0]) > 0.99
    assert sites[0].energies(np.eye(8)) == pytest.approx([0, 0, 0, 0, 0, 0, 0.1, 1], abs=0.02)
    found = control_columns(sites, sites, 1, rng)
    assert set(found) == set(CONTROLS)
    for columns in (c for draws in found.values() for c in draws):
        assert np.abs(columns[0].T @ columns[0] - np.eye(columns[0].shape[1])).max() < 1e-12
    assert of_equal_energy(found["base PCA"][0], sites, 1)[0].shape[1] == 8
    assert of_equal_energy(found["other group"][0], sites, 1)[0].shape[1] == 1
    rotation = found["rotation in the top 4k"][0][0]
    assert rotation.shape == (8, 4)
    assert np.linalg.norm(rotation.T @ own) == pytest.approx(1)


def test_the_page_names_every_verdict_and_draws_every_figure(planted, tiny_llama):
    from analyses import plots

    folder, texts = planted
    facts = json.loads(json.dumps(run(tiny_llama, folder, texts, all_layers=True)))
    for metric in facts["effects"]:
        facts["effects"][metric]["sure"] = True
    facts["own_metric"] = own_metrics(facts["effects"])
    for record in facts["measures"]:
        record["value"], record["low"], record["high"] = 0.5, 0.4, 0.6
        names = ("Haar", "base PCA", "other group")
        record["controls"] = [
            {"control": n, "rule": r, "values": [0.1], "dimensions": [2], "energy": [0.3],
             "gap": {"value": 0.4, "low": 0.3, "high": 0.5}, "verdict": v}
            for r in ("equal k", "equal energy")
            for n, v in zip(names, ("above", "above", "not distinguishable"), strict=True)
        ]  # fmt: skip
    claims, sections = cause_claims(facts), cause_sections(facts)
    said = "above Haar, base PCA and not distinguishable from other group at equal k"
    assert sum(said in claim for claim in claims) >= 5
    assert "selectivity of 0.500 [0.400, 0.600]" in " ".join(claims)
    figures = [f for s in sections for f in s.figures]
    assert [f.name for f in figures] == [
        "necessity", "necessity-equal-energy", "sufficiency", "transplant", "all-layers", "modules-style",
        "modules-fact-margin",
    ]  # fmt: skip
    assert all(isinstance(f, FigureSpec) and plots.draw(f.plot, f.data) for f in figures)
    pitfalls = " ".join(sections[-1].text)
    assert "can write the change again" in pitfalls
    assert "Energy is not function" in pitfalls


def made_run(folder, loaded_folder, adapter, texts):
    """What a diff leaves: a folder with the manifest of a comparison."""
    folder.mkdir()
    loaded = load(str(loaded_folder), dtype="float32", device="cpu")
    record = manifest(files=texts, **comparison(loaded, adapter))
    (folder / "manifest.json").write_text(json.dumps(record))
    return folder


def test_the_command_writes_a_page_and_refuses_in_one_line(planted, tiny_folder, tmp_path, capsys):
    from analyses.__main__ import run as repgeo

    adapter, texts = planted
    made = made_run(tmp_path / "run", tiny_folder, adapter, texts)
    asked = ["cause", str(made), "--device", "cpu", "--draws", "2"]
    out = tmp_path / "page"
    assert repgeo([*asked, "--layer", "1,2", "--k", "2", "--write", "0", "--out", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out / "report.html")
    report = json.loads((out / "report.json").read_text())
    assert report["facts"]["ks"] == [2]
    assert report["facts"]["layers"] == [1, 2]
    assert report["facts"]["written"] is None
    assert report["claims"]
    assert Compared.read(out).texts == texts
    for wrong, message in (
        (["--layer", "1", "--k", "1,x"], "--k 1,x: write dimensions such as 1,2,4"),
        (["--layer", "1", "--k", "40"], "k = 40: choose 1 to 8"),
        (["--layer", "first"], "--layer first: write a block number, several as 0,2,4, or all"),
    ):
        assert repgeo([*asked, *wrong, "--out", str(tmp_path / "none")]) == 2
        found = capsys.readouterr()
        assert message in found.err.splitlines()[-1]
        assert found.out == ""
    texts["fact"].write_text("other")
    assert repgeo([*asked, "--layer", "1", "--out", str(tmp_path / "none")]) == 2
    assert "fact.jsonl: has changed since" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_the_page_shows_what_patched_copies_write_and_the_map_of_layers(planted, tiny_llama):
    from analyses import plots

    folder, texts = planted
    facts = json.loads(json.dumps(run(tiny_llama, folder, texts, layers=(1, 2), write=3)))
    written = facts["written"]
    assert (written["layer"], written["k"], written["n"]) == (facts["shown"], 2, 3)
    systems = {s["system"]: s for s in written["systems"]}
    assert systems["copy the input"]["bleu_to_input"]["value"] == pytest.approx(100)
    assert systems["base model"]["texts"] != systems["adapted model"]["texts"]
    # the planted change is one direction at one layer: without it the copy writes what the base writes
    assert systems["top-2 style directions taken out"]["texts"] == systems["base model"]["texts"]
    assert systems["top-2 style directions kept alone"]["texts"] == systems["adapted model"]["texts"]
    assert systems["2 Haar directions taken out"]["texts"] != systems["base model"]["texts"]
    sections = cause_sections(facts)
    assert "What does a patched copy write?" in {s.title for s in sections}
    figures = [f for s in sections for f in s.figures]
    assert {"written", "map-style-necessity"} <= {f.name for f in figures}
    assert all(plots.draw(f.plot, f.data) for f in figures)
    assert "judge calls" in cause_claims(facts)[-1]

    quiet = run(tiny_llama, folder, texts, write=3, quotable=False)
    assert not any(s["texts"] for s in quiet["written"]["systems"])
    assert PLAIN[0] not in json.dumps(quiet)
