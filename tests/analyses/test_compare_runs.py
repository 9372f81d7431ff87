"""Runs that share a planted direction are told so, and chance is called chance; the incomparable is refused."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from analyses.__main__ import run
from analyses.compare_page import compare_claims, compare_sections
from analyses.compare_runs import compare_runs
from analyses.report import Report, plain, write
from analyses.report import read as read_report
from finetune.folders import sha256_file
from geometry.checks import DataError
from geometry.nulls import haar_basis

D, K, M, LAYERS = 60, 4, 16, (0, 1)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def sides(rng, whole=None, *, randoms=4, noise=0.02):
    """One place: a subspace (random unless given), two noisy halves of it, and random adapters."""
    energies = np.array([8.0, 6.0, 4.0, 3.0, *np.geomspace(0.5, 0.01, M - K)])
    whole = haar_basis(D, K, rng) if whole is None else whole

    def directions(start):
        q, r = np.linalg.qr(np.hstack([start, rng.standard_normal((D, M - K))]))
        return q * np.sign(np.diag(r))

    found = {"whole": directions(whole)}
    found |= {f"half{i}": directions(whole + noise * rng.standard_normal((D, K))) for i in range(2)}
    found |= {f"random{i}": haar_basis(D, M, rng) for i in range(randoms)}
    arrays = {"mean": whole[:, 0] * 2, "trace": np.array([energies.sum() + 1.0])}
    for name, vectors in found.items():
        arrays |= {f"{name}.values": energies, f"{name}.vectors": vectors}
    return arrays


def write_run(
    tmp_path, name, rng, *, wholes=None, groups=("style", "fact"), layers=LAYERS, seed=None, **changes
):
    """A folder as `repgeo diff` writes it, with an adapter beside it that says how it was trained."""
    adapter = tmp_path / "adapters" / name
    adapter.mkdir(parents=True)
    (adapter / "adapter_model.safetensors").write_bytes(name.encode())
    if seed is not None:
        request = {"base": "b", "data": changes.pop("data", "d"), "dtype": "float32", "versions": {}}
        note = {"recipe": {"r": 8, "seed": seed}, "request": {"recipe": f"with seed {seed}", **request}}
        (adapter / "training.json").write_text(json.dumps(note))
    arrays = {}
    for group in groups:
        for layer in layers:
            whole = None if wholes is None else wholes[group, layer]
            part = sides(rng, whole, randoms=changes.get("randoms", 4))
            arrays |= {f"{group}.{layer}.{key}": np.float32(value) for key, value in part.items()}
    rank = {"measure": "effective_rank", "layer": 0, "value": 3.0}
    facts = {"measures": [{**rank, "group": group} for group in groups], **changes.get("facts", {})}
    manifest = {
        "base": {"name": "embedded", "revision": None, "fingerprint": changes.get("base", "f")},
        "adapter": {"path": str(adapter), "sha256": sha256_file(adapter / "adapter_model.safetensors")},
        "files": {g: {"path": g, "sha256": changes.get("texts", g)} for g in groups},
        "k": changes.get("k", K),
    }
    report = Report("diff", "a diff", ("found",), facts=facts, manifest=manifest)
    write(report, tmp_path / name, arrays={"subspaces": arrays})
    return tmp_path / name


def places(rng, shared=None):
    """Random subspaces of every place, or such that hold given directions first."""
    found = {}
    for group in ("style", "fact"):
        for layer in LAYERS:
            own = (
                haar_basis(D, K, rng)
                if shared is None
                else np.hstack([shared, rng.standard_normal((D, K - shared.shape[1]))])
            )
            found[group, layer] = np.linalg.qr(own)[0]
    return found


def facts_of(*folders):
    return plain(compare_runs(folders))


def pair_of(facts, group, *names):
    return next(p for p in facts["pairs"] if p["group"] == group and {p["one"], p["other"]} == set(names))


def test_a_run_beside_its_copy_agrees_in_everything(tmp_path, rng):
    wholes = places(rng)
    one, copy = (
        write_run(tmp_path, name, np.random.default_rng(5), wholes=wholes) for name in ("one", "copy")
    )
    facts = facts_of(one, copy)
    for pair in facts["pairs"]:
        for layer in pair["layers"]:
            assert layer["overlap"]["value"] == pytest.approx(1, abs=1e-6)
            assert layer["energy_cosine"]["value"] == pytest.approx(1, abs=1e-6)
            assert layer["mean_cosine"]["value"] == pytest.approx(1, abs=1e-6)
            assert layer["size_ratio"] == 1
            assert max(layer["angles"]) < 1e-4
        assert pair["over_layers"]["overlap"]["null"]["verdict"] == "above"
    for place in facts["common"]:
        assert place["dimensions"] == K
        assert place["inside"]["one"] == pytest.approx(
            21 / (21 + np.geomspace(0.5, 0.01, M - K).sum() + 1), rel=1e-4
        )


def test_equal_draws_of_two_runs_are_never_paired(tmp_path, rng):
    """The random adapters of copies are the same, number by number; their overlap of 1 is not chance."""
    one, copy = (write_run(tmp_path, name, np.random.default_rng(5)) for name in ("one", "copy"))
    null = facts_of(one, copy)["pairs"][0]["layers"][0]["overlap"]["null"]
    assert null["mean"] == pytest.approx(K / D, abs=0.05)
    assert (null["n"], null["pairs"]) == (4, 12)


def test_strangers_are_not_distinguishable_from_random_adapters(tmp_path, rng):
    names = [f"run{letter}" for letter in "abcde"]
    facts = facts_of(*(write_run(tmp_path, name, rng, randoms=6) for name in names))
    verdicts = [layer["overlap"]["null"]["verdict"] for pair in facts["pairs"] for layer in pair["layers"]]
    assert verdicts.count("not distinguishable") >= 0.85 * len(verdicts)
    assert all(place["dimensions"] == 0 and set(place["inside"].values()) == {0} for place in facts["common"])
    assert facts["families"] == {}


def test_a_planted_direction_is_common_and_the_rest_is_not(tmp_path, rng):
    shared = haar_basis(D, 1, rng)
    folders = [write_run(tmp_path, f"run{i}", rng, wholes=places(rng, shared)) for i in "abc"]
    facts = facts_of(*folders)
    for place in facts["common"]:
        assert place["dimensions"] == 1
        assert place["eigenvalues"][0] == pytest.approx(1, abs=1e-6)
        assert min(place["shares"][0]) == pytest.approx(1, abs=1e-6)
        assert 8 / 25 < place["inside"]["runa"] < 9 / 21
    for pair in facts["pairs"]:
        assert pair["layers"][0]["overlap"]["null"]["verdict"] == "above"
        assert 0.25 <= pair["layers"][0]["overlap"]["value"] < 0.45
        assert pair["layers"][0]["overlap"]["ceiling"] > 0.9


def test_seeds_are_found_by_their_training_and_are_the_ceiling_of_other_pairs(tmp_path, rng):
    shared = haar_basis(D, 2, rng)
    seeds = [write_run(tmp_path, f"plain-{i}", rng, wholes=places(rng, shared), seed=i) for i in range(3)]
    other = write_run(tmp_path, "other", rng, wholes=places(rng), seed=0, data="of another corpus")
    facts = facts_of(*seeds, other)
    assert facts["families"] == {"plain": ["plain-0", "plain-1", "plain-2"]}
    inside, across = (
        pair_of(facts, "style", "plain-0", "plain-1"),
        pair_of(facts, "style", "plain-2", "other"),
    )
    assert "seeds" not in inside["over_layers"]["overlap"]
    found = across["over_layers"]["overlap"]["seeds"]
    values = [pair_of(facts, "style", f"plain-{i}", f"plain-{j}")["over_layers"]["overlap"]["value"]
              for i, j in ((0, 1), (0, 2), (1, 2))]  # fmt: skip
    assert found["pairs"] == 3
    assert (found["low"], found["high"]) == (min(values), max(values))
    assert found["value"] == pytest.approx(np.mean(values))
    claims = compare_claims(facts)
    across = next(
        c for c in claims if c.startswith("On `style`, the 4 directions in which `plain and other`")
    )
    assert "below what seeds of one recipe reach" in across
    (seeds[0].parent / "adapters" / "plain-0" / "adapter_model.safetensors").write_bytes(b"trained again")
    assert facts_of(*seeds, other)["families"] == {"plain": ["plain-1", "plain-2"]}


def test_seeds_may_be_told_and_many_kinds_of_pairs_open_the_page_in_one_sentence(tmp_path, rng):
    folders = [write_run(tmp_path, f"run-{i}", rng) for i in "abcde"]
    facts = plain(compare_runs(folders, [(1, 2), (3, 4)]))
    assert list(facts["families"].values()) == [["run-a", "run-b"], ["run-c", "run-d"]]
    across = pair_of(facts, "style", "run-a", "run-c")["over_layers"]["overlap"]["seeds"]
    own = [pair_of(facts, "style", *names)["over_layers"]["overlap"]["value"]
           for names in (("run-a", "run-b"), ("run-c", "run-d"))]  # fmt: skip
    assert across["value"] == pytest.approx(np.sqrt(np.prod(own)))
    assert len([c for c in compare_claims(facts) if c.startswith("On `style`, the")]) == 5
    assert len([c for c in compare_claims(facts_of(*folders)) if "`10 pairs of recipes`" in c]) == 2
    for wrong in ([(1,)], [(1, 9)], [(1, 2), (2, 3)]):
        with pytest.raises(DataError, match="two or more of the runs 1 to 5"):
            compare_runs(folders, wrong)


def test_the_order_of_the_runs_changes_no_number(tmp_path, rng):
    folders = [write_run(tmp_path, f"run{i}", rng) for i in "abc"]
    one, other = facts_of(*folders), facts_of(*folders[::-1])
    for pair in one["pairs"]:
        same = pair_of(other, pair["group"], pair["one"], pair["other"])
        for a, b in zip(pair["layers"], same["layers"], strict=True):
            assert a["overlap"]["value"] == pytest.approx(b["overlap"]["value"])
            assert a["overlap"]["null"]["mean"] == pytest.approx(b["overlap"]["null"]["mean"])
            assert a["size_ratio"] == pytest.approx(1 / b["size_ratio"])
    for a, b in zip(one["common"], other["common"], strict=True):
        np.testing.assert_allclose(a["eigenvalues"], b["eigenvalues"], atol=1e-9)


def test_without_enough_random_adapters_there_is_no_verdict_and_the_page_says_so(tmp_path, rng):
    facts = facts_of(*(write_run(tmp_path, f"run{i}", rng, randoms=1) for i in "ab"))
    assert "null" not in facts["pairs"][0]["layers"][0]["overlap"]
    assert "dimensions" not in facts["common"][0]
    text = " ".join(t for section in compare_sections(facts) for t in section.text)
    assert "--random-adapters 3" in text
    assert not any("null" in claim for claim in compare_claims(facts))


def test_what_cannot_be_compared_is_refused_with_the_reason(tmp_path, rng):
    one, other = (write_run(tmp_path, name, rng) for name in ("one", "other"))

    def refused(reason, *folders):
        with pytest.raises(DataError, match=reason) as error:
            compare_runs(folders)
        assert "\n" not in str(error.value)

    refused("two or more", one)
    refused("given twice", one, tmp_path / "." / "one")
    refused("another base", one, write_run(tmp_path, "elsewhere", rng, base="g"))
    refused("no group and layers in common", one, write_run(tmp_path, "deeper", rng, layers=(7,)))
    refused("no group and layers in common", one, write_run(tmp_path, "named", rng, groups=("tone",)))
    (tmp_path / "empty").mkdir()
    refused("holds no report.json", one, tmp_path / "empty")
    arrays = other / "arrays" / "subspaces.safetensors"
    whole = load_file(arrays)
    save_file({key: value for key, value in whole.items() if "half0" not in key}, arrays)
    refused("damaged or incomplete", one, other)
    save_file(
        {key: np.ascontiguousarray(v[:30]) if v.shape[0] == D else v for key, v in whole.items()}, arrays
    )
    refused("rows of 30 numbers", one, other)
    arrays.unlink()
    refused("run `repgeo diff` again", one, other)
    (other / "manifest.json").write_text("{}")
    refused("not that of a diff", one, other)


def test_other_texts_other_k_and_equal_seeds_are_said_on_the_page(tmp_path, rng):
    one = write_run(tmp_path, "one", rng, seed=3)
    other = write_run(tmp_path, "other", rng, seed=3, texts="changed", k=3, data="else")
    facts = facts_of(one, other)
    text = " ".join(compare_sections(facts)[0].text)
    for words in (
        "read other texts for fact and style",
        "first 3 of each",
        "the same random A",
        "no seed-to-seed ceiling",
    ):
        assert words in text
    assert facts["k"] == 3


@pytest.mark.parametrize("count", [2, 3])
def test_the_command_writes_a_page(tmp_path, rng, monkeypatch, capsys, count):
    import analyses.plots

    monkeypatch.setattr(analyses.plots, "save", lambda figure, stem: "<svg></svg>")
    scores = {"scores": {"systems": {"adapter": {"style": {"value": 0.9, "low": 0.8, "high": 1.0}}}}}
    folders = [write_run(tmp_path, f"run{i}", rng, facts=scores if i else {}) for i in range(count)]
    assert run(["compare", *map(str, folders), "--out", str(tmp_path / "page")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "page" / "report.html")
    report = read_report(tmp_path / "page")
    titles = [section.title for section in report.sections]
    assert titles[0] == "What was compared"
    assert titles[-1] == "Side by side"
    assert report.manifest["files"]["run0"]["sha256"]
    assert all(a != b for a, b in pairwise(titles))
    assert "style rate" in (tmp_path / "page" / "report.html").read_text()


def test_a_folder_that_is_no_run_ends_the_command_in_one_line(tmp_path, capsys):
    assert run(["compare", str(tmp_path), str(tmp_path / "nowhere")]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert run(["compare", str(tmp_path), str(tmp_path), "--seeds", "a,b"]) == 2
    assert "such as 1,2" in capsys.readouterr().err
