"""A planted corpus is edited, and statistics and geometry move where they must and nowhere else."""

import json

import numpy as np
import pytest

from analyses.__main__ import run
from analyses.concepts import load
from analyses.perturb_counts import counted_in_blocks, vocabulary_of, whole_of, without_block
from analyses.perturb_page import perturb_claims, perturb_sections
from analyses.perturb_run import PerturbRequest, _inside, measure, scores_of
from geometry.checks import DataError
from geometry.kernel_edits import other_calendar
from geometry.latent import SeasonalCorpus
from geometry.layouts import cycle
from geometry.weightings import linear
from geometry.words import cased

MONTHS = load("months").items
WORDS = [MONTHS[i // 8] if i % 8 == 0 else f"w{i}" for i in range(96)]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("season") / "season.jsonl"
    rng = np.random.default_rng(0)
    rows = SeasonalCorpus(96, (0.9,)).documents(20_000, 4, rng)
    texts = (" ".join([*(WORDS[i] for i in row), "x", "y"]) + "." for row in rows)
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def facts(corpus):
    edits = ("delete", "reorder", "rename-together", "rename-alone", "rename-all")
    request = PerturbRequest((corpus,), load("months"), edits, 98, 3, blocks=3, controls=1)
    return measure(request)


def lean(facts, side, **which):
    (found,) = [v for v in facts["variants"] if all(v[key] == value for key, value in which.items())]
    return found["scores"][f"{side} lean"]


def test_statistics_follow_the_reordered_pairs_and_geometry_the_helpers(facts):
    assert lean(facts, "m_star", kind="corpus")["low"] > 0 and lean(facts, "cloud", kind="corpus")["low"] > 0
    reordered = {side: lean(facts, side, kind="edit", edit="reorder") for side in ("m_star", "cloud")}
    assert reordered["m_star"]["change_high"] < 0 < 0.5 < reordered["cloud"]["value"]
    assert lean(facts, "cloud", kind="edit", edit="rename-together")["value"] > 0.5
    assert lean(facts, "cloud", kind="edit", edit="rename-alone")["value"] < -0.5
    assert lean(facts, "cloud", kind="matrix")["value"] > 0


def test_renaming_everything_is_the_same_world_under_other_names(facts):
    for side in ("m_star", "cloud"):
        before, after = lean(facts, side, kind="corpus"), lean(facts, side, kind="edit", edit="rename-all")
        assert after["value"] == pytest.approx(-before["value"], abs=0.01)
        assert (after["low"], after["high"]) == pytest.approx((-before["high"], -before["low"]), abs=0.02)
    after = next(v for v in facts["variants"] if v["edit"] == "rename-all" and v["kind"] == "edit")
    order = np.array(facts["order"])
    before = np.array(facts["variants"][0]["m_star"])
    np.testing.assert_array_equal(np.array(after["m_star"])[np.ix_(order, order)], before)


def test_deletion_and_its_control_take_as_many_words_and_members(facts):
    by_name = {(v["edit"], v["name"]): v for v in facts["variants"]}
    whole = facts["variants"][0]
    deleted = by_name["delete", "delete"]
    by_size = by_name["delete", "others of equal length deleted"]
    by_member = by_name["delete", "each member as often deleted alone"]
    assert deleted["tokens"] == by_size["tokens"] < whole["tokens"]
    assert deleted["seen"] == by_member["seen"]


def test_the_page_is_drawn_from_facts_alone(facts):
    again = json.loads(json.dumps(facts))
    claims = perturb_claims(again)
    assert len(claims) == 6 and "follows the other order" in " ".join(claims)
    assert perturb_sections(again)[0].title == "Who follows which order"


def test_every_edit_is_drawn_beside_its_controls(facts):
    (lean,) = (
        figure for section in perturb_sections(facts) for figure in section.figures if figure.name == "lean"
    )
    controls = lean.data["series"][-1]
    assert controls["name"] == "the embedding, controls" and controls["values"][0] is None
    drawn = [one["scores"]["cloud lean"]["value"] for one in facts["variants"] if one["kind"] == "control"]
    assert min(drawn) in controls["low"] and max(drawn) in controls["high"]


def test_no_interval_of_a_share_passes_one():
    record = {"value": 0.9, "low": 0.7, "high": 1.1}
    assert _inside("symmetry", record) == {"value": 0.9, "low": 0.7, "high": 1.0}
    assert _inside("m_star lean", record) == record
    assert _inside("first true", dict.fromkeys(record)) == dict.fromkeys(record)


def test_blocks_add_up_to_the_whole_and_one_left_out_is_the_count_of_the_rest():
    rng = np.random.default_rng(1)
    texts = [" ".join(rng.choice(["New York", "b", "c", "d"], 20)) for _ in range(30)]
    how, words = (cased, linear(4)), ["New York", "b", "c"]
    parts = counted_in_blocks(texts, words, how, members=["New York"], blocks=3)
    (once,) = counted_in_blocks(texts, words, how, members=["New York"])
    whole = whole_of(parts)
    for one, other in ((whole, once), (without_block(whole, parts[2]), whole_of(parts[:2]))):
        np.testing.assert_array_equal(one.counts.toarray(), other.counts.toarray())
        np.testing.assert_array_equal(one.unigrams, other.unigrams)
        assert (one.tokens, one.total) == (other.tokens, other.total)
    (rest,) = counted_in_blocks(
        [t for i, t in enumerate(texts) if i % 3 != 2], words, how, members=["New York"]
    )
    np.testing.assert_array_equal(without_block(whole, parts[2]).counts.toarray(), rest.counts.toarray())


def test_the_vocabulary_holds_its_members_first():
    texts = ["a a a b b New York c", "a b d"]
    assert vocabulary_of(texts, 3, ["New York"], cased) == ("New York", "a", "b")
    with pytest.raises(DataError, match="Rome: never seen"):
        vocabulary_of(texts, 3, ["Rome"], cased)


def test_each_calendar_is_told_from_the_other():
    year, order = cycle(12), other_calendar(cycle(12))
    true = scores_of(-year.distance, year.targets, year, order)
    there = np.empty_like(year.targets)
    there[order] = year.targets
    moved = -year.distance[np.ix_(np.argsort(order), np.argsort(order))]
    other = scores_of(moved, there, year, order)
    assert true["cloud lean"] > 0.5 and true["m_star lean"] > 0.5 and true["first true"] == pytest.approx(1)
    for side in ("m_star", "cloud"):
        assert other[f"{side} lean"] == pytest.approx(-true[f"{side} lean"])
    assert other["first other"] == pytest.approx(1) and other["symmetry"] == pytest.approx(true["symmetry"])


def test_the_command_writes_a_page(corpus, tmp_path, capsys):
    out = tmp_path / "page"
    words = [
        "perturb",
        "--corpus",
        str(corpus),
        "--concept",
        "months",
        "--edit",
        "flatten",
        "--out",
        str(out),
    ]
    assert run([*words, "--vocab", "100", "--dimensions", "4", "--blocks", "2", "--controls", "1"]) == 0
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    kernel = report["facts"]["edits"]["flatten"]["after"]
    np.testing.assert_allclose(kernel[:5], kernel[0], rtol=1e-6)
    assert "What" not in capsys.readouterr().err
    assert "flatten" in (out / "report.html").read_text(encoding="utf-8")


def test_what_cannot_be_asked_is_refused(corpus, tmp_path, capsys):
    year = load("months")
    with pytest.raises(DataError, match="expected one of delete"):
        PerturbRequest((corpus,), year, ("shuffle",))
    with pytest.raises(DataError, match="name an edit"):
        PerturbRequest((corpus,), year, ())
    empty = tmp_path / "empty.jsonl"
    empty.write_text(json.dumps({"text": "nothing of it"}) + "\n", encoding="utf-8")
    assert run(["perturb", "--corpus", str(empty), "--concept", "months", "--out", str(tmp_path / "x")]) == 2
    assert "never seen" in capsys.readouterr().err
