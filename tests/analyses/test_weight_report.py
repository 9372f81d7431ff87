"""What was planted in weight space is found there; chance is called chance; no base is needed for the rest."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from analyses import jobs
from analyses.__main__ import run
from analyses.report import plain
from analyses.report import read as read_report
from analyses.weight_base import KS, THRESHOLDS
from analyses.weight_page import weight_claims, weight_sections
from analyses.weight_report import WeightRequest, weight_report
from finetune.deltas import weight_of
from finetune.module_inputs import module_inputs
from geometry.alignment import WeightSVD
from geometry.checks import AdapterError, DataError
from geometry.nulls import haar_basis
from geometry.spectra import effective_rank, spectrum
from tests.conftest import SENTENCES

SHAPES = {"attn.c_attn": (96, 32), "attn.c_proj": (32, 32), "mlp.c_proj": (32, 128)}
BLOCKS = 3


def write_adapter(folder, *, seed=0, rank=4, scale=0.05, factors=None, **config):
    """An adapter folder of tiny GPT-2's shapes, written without peft: Gaussian factors unless they are given."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    weights = {}
    for block in range(BLOCKS):
        for projection, (out, width) in SHAPES.items():
            module = f"transformer.h.{block}.{projection}"
            b, a = (scale * rng.standard_normal((out, rank)), rng.standard_normal((rank, width)))
            b, a = (factors or {}).get(module, (b, a))
            for part, value in (("A", a), ("B", b)):
                tensor = torch.tensor(np.ascontiguousarray(value), dtype=torch.float64)
                weights[f"base_model.model.{module}.lora_{part}.weight"] = tensor
    save_file(weights, folder / "adapter_model.safetensors")
    content = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "fan_in_fan_out": True, **config}
    (folder / "adapter_config.json").write_text(json.dumps(content | {"base_model_name_or_path": "gpt2"}))
    return folder


def facts_of(*folders, base=None, n=4, seed=0, texts=()):
    request = WeightRequest(folders, n, seed, dict(texts))
    return plain(weight_report(request, base, progress=lambda what, share: None))


def test_spectra_are_those_of_the_dense_update_and_know_their_scale(tmp_path):
    folder = write_adapter(tmp_path / "a", use_rslora=True, lora_alpha=8)
    module = facts_of(folder)["modules"][1]
    raw = load_file(folder / "adapter_model.safetensors")
    b, a = (raw[f"base_model.model.{module['module']}.lora_{x}.weight"].numpy() for x in "BA")
    expected = np.linalg.svd(8 / math.sqrt(4) * b @ a, compute_uv=False)[:4]
    assert module["scale"] == 4
    np.testing.assert_allclose(module["values"], expected, rtol=1e-10)
    assert module["norm"] == pytest.approx(np.linalg.norm(expected))
    assert module["effective_rank"]["value"] == pytest.approx(effective_rank(expected**2))
    assert module["effective_rank"]["null"]["verdict"] == "not distinguishable"


def test_the_numbers_do_not_depend_on_the_gauge_of_the_factors(tmp_path):
    rng = np.random.default_rng(5)
    factors, turned = {}, {}
    for module, (out, width) in SHAPES.items():
        name, m = f"transformer.h.1.{module}", rng.standard_normal((4, 4))
        b, a = rng.standard_normal((out, 4)), rng.standard_normal((4, width))
        factors[name], turned[name] = (b, a), (b @ m, np.linalg.solve(m, a))
    other = write_adapter(tmp_path / "other", seed=1)
    one = facts_of(write_adapter(tmp_path / "x" / "one", factors=factors), other)
    two = facts_of(write_adapter(tmp_path / "y" / "one", factors=turned), other)

    def numbers(value):
        if isinstance(value, dict):
            return [x for key, one in value.items() if key != "folder" for x in numbers(one)]
        if isinstance(value, list):
            return [x for one in value for x in numbers(one)]
        return [] if isinstance(value, str | bool | None) else [value]

    np.testing.assert_allclose(numbers(one["modules"]), numbers(two["modules"]), rtol=1e-6, atol=1e-9)
    for a, b in zip(one["pairs"][0]["modules"], two["pairs"][0]["modules"], strict=True):
        assert a["cosine"]["value"] == pytest.approx(b["cosine"]["value"], abs=1e-9)
        np.testing.assert_allclose(a["reads"]["grid"], b["reads"]["grid"], atol=1e-9)
        np.testing.assert_allclose(a["writes"]["grid"], b["writes"]["grid"], atol=1e-9)


def test_an_adapter_agrees_with_its_copy_and_not_with_a_random_one(tmp_path):
    one, copy = (write_adapter(tmp_path / name) for name in ("one", "copy"))
    stranger = write_adapter(tmp_path / "stranger", seed=9)
    same, *others = facts_of(one, copy, stranger, n=20)["pairs"]
    assert same["cosine"]["value"] == pytest.approx(1)
    assert same["cosine"]["null"]["verdict"] == "above"
    for module in same["modules"]:
        for side in ("reads", "writes"):
            assert module[side]["value"] == pytest.approx(1)
            np.testing.assert_allclose(np.diag(module[side]["grid"]), 1)
    for pair in others:
        assert pair["cosine"]["null"]["verdict"] == "not distinguishable"
        mean = np.mean([m["writes"]["value"] / m["writes"]["null"]["mean"] for m in pair["modules"]])
        assert mean == pytest.approx(1, abs=0.35)


def test_dead_ranks_are_counted_and_a_zero_update_has_no_direction(tmp_path):
    rng = np.random.default_rng(0)
    u, v = haar_basis(32, 4, rng), haar_basis(32, 4, rng)
    factors = {
        "transformer.h.0.attn.c_proj": (u * [1, 0.5, 1e-3, 0], v.T),
        "transformer.h.1.attn.c_proj": (0 * u, v.T),
    }
    one = write_adapter(tmp_path / "one", factors=factors)
    facts = facts_of(one, write_adapter(tmp_path / "two", seed=3))
    found = {m["module"]: m for m in facts["modules"] if m["adapter"] == "one"}
    first, second = (found[name] for name in factors)
    assert (first["live"], first["dead"]) == (2, 2)
    assert (second["live"], second["dead"], second["norm"]) == (0, 4, 0)
    assert "effective_rank" not in second
    compared = {m["module"]: m for m in facts["pairs"][0]["modules"]}
    assert compared["transformer.h.0.attn.c_proj"]["reads"]["k"] == [2, 4]
    assert "transformer.h.1.attn.c_proj" not in compared


def still(folder):
    zero = {f"transformer.h.{i}.{p}": (np.zeros((out, 4)), np.ones((4, width)))
            for i in range(BLOCKS) for p, (out, width) in SHAPES.items()}  # fmt: skip
    return write_adapter(folder, factors=zero)


def with_magnitudes(folder, magnitude):
    """Make it DoRA, with magnitudes that depend on the module and its number of rows."""
    file = folder / "adapter_model.safetensors"
    weights = load_file(file)
    for key in [k for k in weights if "lora_B" in k]:
        module = key.removeprefix("base_model.model.").removesuffix(".lora_B.weight")
        name = key.replace("lora_B.weight", "lora_magnitude_vector")
        weights[name] = torch.as_tensor(magnitude(module, len(weights[key])), dtype=torch.float32)
    save_file(weights, file)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"use_dora": True}))
    return folder


def test_an_inactive_adapter_is_refused_also_as_dora(tmp_path, fresh):
    loaded = fresh("gpt2")
    plain_one = still(tmp_path / "still")
    dora = with_magnitudes(
        still(tmp_path / "dora"), lambda name, _: np.linalg.norm(weight_of(loaded, name), axis=1)
    )
    for folder, base in ((plain_one, None), (plain_one, loaded), (dora, None), (dora, loaded)):
        with pytest.raises(AdapterError, match="is inactive, each of its 9 updates is exactly 0"):
            facts_of(write_adapter(tmp_path / "active"), folder, base=base)
    moved = with_magnitudes(
        still(tmp_path / "moved"), lambda name, _: 1.01 * np.linalg.norm(weight_of(loaded, name), axis=1)
    )
    (adapter,) = facts_of(moved, base=loaded)["adapters"]
    assert adapter["norm"] > 0


def test_modules_of_other_shapes_and_modules_of_one_adapter_alone_are_not_compared(tmp_path):
    name = "transformer.h.0.attn.c_proj"
    wide = {name: (np.ones((48, 4)), np.ones((4, 32)))}
    one, other = write_adapter(tmp_path / "one"), write_adapter(tmp_path / "other", factors=wide)
    weights = load_file(other / "adapter_model.safetensors")
    kept = {k: v for k, v in weights.items() if ".h.2." not in k}
    save_file(kept, other / "adapter_model.safetensors")
    (pair,) = facts_of(one, other)["pairs"]
    assert len(pair["modules"]) == 5
    assert (pair["only_one"], pair["only_other"]) == (3, 0)
    assert "32 dimensions" in pair["refused"][0]


def planted_intruders(loaded, folder):
    """One update that grows a direction of its weight, one that brings a direction from outside."""
    factors = {f"transformer.h.{i}.{p}": (np.zeros((out, 4)), np.zeros((4, width)))
               for i in range(BLOCKS) for p, (out, width) in SHAPES.items()}  # fmt: skip
    grown, foreign = "transformer.h.0.mlp.c_proj", "transformer.h.1.mlp.c_proj"
    for name, mix in ((grown, np.eye(32)[0]), (foreign, np.full(32, 32**-0.5))):
        svd = WeightSVD.of(weight_of(loaded, name))
        b = np.zeros((32, 4))
        b[:, 0] = 3 * svd.values[0] * svd.left @ mix
        factors[name] = (b, np.vstack([svd.right @ mix, np.zeros((3, 128))]))
    return write_adapter(folder, factors=factors), grown, foreign


def test_a_planted_intruder_is_counted_in_its_module_alone(tmp_path, fresh):
    loaded = fresh("gpt2")
    folder, grown, foreign = planted_intruders(loaded, tmp_path / "planted")
    facts = facts_of(folder, base=loaded)
    at = KS.index(5), THRESHOLDS.index(0.5)
    records = {r["module"]: r for r in facts["against_base"]}
    assert set(records) == {grown, foreign}
    for side in ("left", "right"):
        assert records[grown][side]["intruders"]["value"][at[0]][at[1]] == 0
        assert records[foreign][side]["intruders"]["value"][at[0]][at[1]] == 1
        np.testing.assert_allclose(records[grown][side]["bands"]["value"][0], 1, rtol=1e-9)
    assert records[grown]["sigma_ratio"] == pytest.approx(3)
    assert records[grown]["amplification"] == pytest.approx(3, rel=1e-4)
    assert records[grown]["base_along"]["null"]["verdict"] == "above"
    total = next(p for p in facts["placement"] if p["side"] == "left")["intruders"][at[0]][at[1]]
    assert total["value"] == 1


def test_a_random_update_of_the_same_strength_has_the_intruders_of_the_null(tmp_path, fresh):
    facts = facts_of(write_adapter(tmp_path / "random", scale=0.2), base=fresh("gpt2"), n=8)
    grid = facts["placement"][0]["intruders"]
    verdicts = [record["null"]["verdict"] for row in grid for record in row]
    assert verdicts.count("not distinguishable") >= len(verdicts) - 1
    assert max(record["value"] for row in grid for record in row) > 0
    bands = facts["placement"][0]["bands"]
    assert sum(b["value"] for b in bands) == pytest.approx(1)
    assert sum(b["null"]["verdict"] == "not distinguishable" for b in bands) >= len(bands) - 2


def test_dora_is_named_and_not_called_an_update_without_its_base(tmp_path):
    folder = with_magnitudes(write_adapter(tmp_path / "dora"), lambda _, rows: np.ones(rows))
    facts = facts_of(folder)
    assert not facts["adapters"][0]["whole"]
    assert "cannot be told" in weight_claims(facts)[0]
    assert any("not the update" in text for text in weight_sections(facts)[0].text)


def test_requests_that_make_no_null_or_compare_an_adapter_with_itself_are_refused(tmp_path, fresh):
    folder = write_adapter(tmp_path / "one")
    with pytest.raises(DataError, match="no null"):
        facts_of(folder, n=1)
    with pytest.raises(DataError, match="no adapter"):
        facts_of()
    with pytest.raises(DataError, match="give --base"):
        facts_of(folder, texts={"style": tmp_path / "texts.jsonl"})
    with pytest.raises(DataError, match="given twice"):
        facts_of(folder, tmp_path / "." / "one")
    with pytest.raises(AdapterError, match="has no module"):
        facts_of(folder, base=fresh("llama"))
    (folder / "training.json").write_text(json.dumps({"base": {"name": "x", "fingerprint": "0"}}))
    with pytest.raises(AdapterError, match="another base"):
        facts_of(folder, base=fresh("gpt2"))


def test_the_same_seed_gives_the_same_facts(tmp_path):
    folders = [write_adapter(tmp_path / name, seed=i) for i, name in enumerate(("one", "two"))]
    assert facts_of(*folders) == facts_of(*folders)
    assert facts_of(*folders) != facts_of(*folders, seed=1)


@pytest.fixture
def texts(tmp_path):
    path = tmp_path / "texts.jsonl"
    lines = [json.dumps({"id": str(i), "text": text}) for i, text in enumerate(SENTENCES)]
    path.write_text("\n".join(lines) + "\n")
    return path


def first_inputs(loaded):
    """The mean direction of what the first c_attn reads, and one that these texts hardly have."""
    basis = np.eye(32)
    inputs = module_inputs(
        loaded, {"transformer.h.0.attn.c_attn": basis}, SENTENCES, progress=lambda share: None
    )["transformer.h.0.attn.c_attn"]
    found = spectrum(inputs.second)
    return found.vectors[:, [0]].T, found.vectors[:, [-1]].T


def test_on_data_a_planted_reader_gains_a_silent_rank_is_counted_and_copies_respond_alike(
    tmp_path, fresh, texts
):
    loaded = fresh("gpt2")
    strong, weak = first_inputs(loaded)
    name = "transformer.h.0.attn.c_attn"
    out = haar_basis(96, 4, np.random.default_rng(1))
    lasting = np.vstack([strong, 0.02 * weak, 0 * strong, 0 * strong])
    reader = write_adapter(tmp_path / "reader", factors={name: (out, lasting)})
    copy = write_adapter(tmp_path / "copy", factors={name: (out, lasting)})
    facts = facts_of(reader, copy, base=loaded, n=8, texts={"style": texts})
    (data,) = facts["on_data"]
    record = next(m for m in data["modules"] if m["module"] == name)
    in_weights = next(m for m in facts["modules"] if m["module"] == name)
    assert (in_weights["live"], record["live"], record["silent"]) == (2, 1, 1)
    assert record["gain"]["null"]["verdict"] == "above"
    assert record["effective_rank"]["value"] == pytest.approx(1, abs=1e-3)
    others = [m["gain"]["null"]["verdict"] for m in data["modules"] if m["module"] != name]
    assert others.count("not distinguishable") >= len(others) - 2
    (pair,) = data["pairs"]
    assert len(pair["modules"]) == 9
    for module in pair["modules"]:
        assert module["overlap"]["value"] == pytest.approx(1)
        assert module["cosine"]["value"] == pytest.approx(1)
    assert "1 of 34 in `reader`" in next(c for c in weight_claims(facts) if "never fire" in c)


def test_strangers_do_not_respond_alike_beyond_chance(tmp_path, fresh, texts):
    one, other = (write_adapter(tmp_path / name, seed=seed) for name, seed in (("one", 1), ("other", 2)))
    (data,) = facts_of(one, other, base=fresh("gpt2"), n=20, texts={"style": texts})["on_data"]
    (pair,) = data["pairs"]
    for key in ("overlap", "cosine"):
        verdicts = [m[key]["null"]["verdict"] for m in pair["modules"]]
        assert verdicts.count("not distinguishable") >= len(verdicts) - 2


@pytest.fixture
def undrawn(monkeypatch):
    """Leave the pictures out: their functions have tests of their own, and take most of the time."""
    import analyses.plots

    monkeypatch.setattr(analyses.plots, "save", lambda figure, stem: "<svg></svg>")


def test_the_command_writes_a_page_that_says_every_section(tmp_path, tiny_folders, texts, undrawn, capsys):
    folders = [write_adapter(tmp_path / name, seed=i) for i, name in enumerate(("one", "two"))]
    base = str(tiny_folders("gpt2"))
    adapters = [word for folder in folders for word in ("--adapter", str(folder))]
    assert (
        run(["weights", *adapters, "--base", base, "--texts", f"style={texts}", "--out", str(tmp_path / "page"),
             "--random-adapters", "2"])
        == 0
    )  # fmt: skip
    assert capsys.readouterr().out.strip() == str(tmp_path / "page" / "report.html")
    report = read_report(tmp_path / "page")
    titles = " | ".join(section.title for section in report.sections)
    for words in (
        "how strong",
        "how many directions",
        "do they agree",
        "residual stream",
        "intruder",
        "beside the base",
        "what fires",
        "respond alike",
    ):
        assert words in titles
    assert report.manifest["files"]["one"]["sha256"]
    assert report.manifest["files"]["texts style"]["path"] == str(texts)
    text = (tmp_path / "page" / "report.html").read_text()
    assert "null" in text


def test_bad_folders_end_the_command_in_one_line(tmp_path, capsys):
    assert run(["weights", "--adapter", str(tmp_path / "nowhere")]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_a_page_without_base_lands_on_the_hash_of_its_request(tmp_path, monkeypatch, undrawn):
    monkeypatch.chdir(tmp_path)
    request = WeightRequest((write_adapter(tmp_path / "one"),), 2)
    assert jobs.weights(None, request, None) == jobs.weights(None, request, None)
