"""The shipped world against what is known of it, and a page whose sentences follow the numbers."""

import copy

import numpy as np
import pytest

from analyses.report import Report, plain
from analyses.world import MEASURES, Looks, measure_world, world_report
from analyses.world_numbers import cell, measured, over, overlap_at, reading
from analyses.world_page import world_claims, world_sections
from analyses.world_verdicts import COLUMNS, verdict_rows
from finetune.world import shipped
from finetune.world_models import Plan
from geometry.checks import DataError, InputError

LAYERS = range(4)


@pytest.fixture(scope="module")
def facts():
    looks = Looks(n_random=3, draws=1)
    found = measure_world(shipped(), looks, progress=lambda *_: None)
    return plain({
        "layers": [*LAYERS],
        "layer": 2,
        "k": looks.k,
        "n_random": looks.n_random,
        "width": 64,
        "worlds": [found],
    })


def values(facts, kind, measure):
    return {
        layer: [r["value"] for r in measured(facts, kind, measure) if r["layer"] == layer] for layer in LAYERS
    }


def nulls(facts, kind, measure):
    return {
        layer: [np.mean(r["null"]["samples"]) for r in measured(facts, kind, measure) if r["layer"] == layer]
        for layer in LAYERS
    }


def test_every_adapter_does_what_it_was_trained_to_do_and_nothing_else(facts):
    assert {w: reading(facts, "base", w)["value"] for w in ("style", "old", "new", "written")} == {
        "style": 0, "old": 1, "new": 0, "written": 0
    }  # fmt: skip
    style, fact = (
        {w: reading(facts, kind, w)["value"] for w in ("style", "written", "old", "new", "kept")}
        for kind in ("style", "fact")
    )
    assert style == pytest.approx({"style": 1, "written": 1, "old": 1, "new": 0, "kept": 1}, abs=0.03)
    assert fact == pytest.approx({"style": 0, "written": 0, "old": 0.5, "new": 1, "kept": 1}, abs=0.03)


def test_random_adapters_of_the_same_strength_do_nothing(facts):
    for adapter in facts["worlds"][0]["adapters"].values():
        for found in adapter["random_readings"]:
            assert found["style"] == 0
            assert found["new"] == 0
            assert found["kept"] > 0.9


def test_the_style_adapter_moves_fewer_directions_than_random_ones_at_every_layer(facts):
    trained, random = values(facts, "style", "effective_rank"), nulls(facts, "style", "effective_rank")
    for layer in LAYERS:
        assert max(trained[layer]) < 0.6 * min(random[layer])


def test_effective_rank_misses_rewritten_facts(facts):
    """Twenty new homes are twenty directions: no fewer than noise of that strength spreads over."""
    trained, random = values(facts, "fact", "effective_rank"), nulls(facts, "fact", "effective_rank")
    assert sum(max(trained[layer]) > min(random[layer]) for layer in LAYERS) >= 2


def test_size_alone_tells_little_about_the_facts(facts):
    trained, random = values(facts, "fact", "size"), nulls(facts, "fact", "size")
    assert all(max(trained[layer]) < 2.5 * min(random[layer]) for layer in LAYERS)


def test_cka_hardly_sees_that_half_of_the_homes_are_rewritten(facts):
    assert min(min(v) for v in values(facts, "fact", "cka").values()) > 0.95
    assert reading(facts, "fact", "new")["value"] > 0.95


def test_style_and_facts_overlap_less_than_two_seeds_and_random_adapters_more_than_uniform_ones(facts):
    for layer in LAYERS:
        at = {
            w: overlap_at(facts, w, layer)["value"]
            for w in ("style_fact", "style_seeds", "fact_seeds", "random", "haar", "style_halves")
        }
        assert at["style_fact"] < min(at["style_seeds"], at["fact_seeds"])
        assert at["haar"] < at["random"] < at["style_seeds"] < at["style_halves"]


def test_the_style_needs_its_own_directions_and_no_others(facts):
    last = facts["layers"][-1]
    for place in (last, "all"):
        assert cell(facts, "style", "ablate", "own", place)["style"]["value"] < 0.1
        assert cell(facts, "style", "ablate", "own", place)["kept"]["value"] > 0.95
        assert cell(facts, "style", "ablate", "fact", place)["style"]["value"] > 0.9
        assert cell(facts, "style", "ablate", "Haar", place)["style"]["value"] > 0.9


def test_what_is_taken_out_early_is_written_again(facts):
    assert cell(facts, "style", "ablate", "own", 0)["style"]["value"] > 0.9
    assert cell(facts, "style", "ablate", "own", 0)["energy"]["value"] > 0.85


def test_the_facts_need_their_own_directions(facts):
    assert cell(facts, "fact", "ablate", "fact", 2)["new"] == over([])  # its own are called own
    own, style, haar = (cell(facts, "fact", "ablate", b, 2)["new"]["value"] for b in ("own", "style", "Haar"))
    assert own < 0.5 < min(style, haar)


def test_energy_is_not_function(facts):
    kept = cell(facts, "fact", "keep", "own", 2)
    assert kept["new"]["value"] < kept["energy"]["value"]
    assert cell(facts, "style", "keep", "own", 3)["style"]["value"] > 0.9
    assert cell(facts, "style", "keep", "Haar", 3)["style"]["value"] < 0.1


def test_in_one_adapter_of_both_style_and_facts_are_taken_out_one_without_the_other(facts):
    """By the directions of two other adapters, each of which changed one of them."""
    style, fact = (cell(facts, "both", "ablate", basis, "all") for basis in ("style", "fact"))
    assert style["style"]["value"] < 0.1
    assert style["new"]["value"] > 0.5
    assert fact["style"]["value"] > 0.9
    assert fact["new"]["value"] < 0.1


def test_the_page_is_a_report_that_reads_back(facts):
    report = Report("world", "t", world_claims(facts), world_sections(facts), facts)
    assert Report.from_json(report.as_json()).as_json() == report.as_json()


def test_the_table_has_a_row_for_every_measure_and_no_empty_verdict(facts):
    rows = verdict_rows(facts)
    assert len(rows) == len(MEASURES) + 1 + 6
    for row in rows:
        assert len(row) == len(COLUMNS)
        sees, misses = row[-2:]
        assert (sees, misses) != ("–", "–")


def turned(facts, change):
    other = copy.deepcopy(facts)
    for world in other["worlds"]:
        change(world)
    return {row[0]: row[-2:] for row in verdict_rows(other)}


def test_verdicts_follow_the_numbers(facts):
    """The same page from worlds where things are otherwise says otherwise."""

    def style_is_in_the_fact_directions(world):
        for one in world["cells"]:
            if (one["act"], one["layer"]) == ("ablate", "all") and one["adapter"] != "fact":
                swap = {"own": 1.0, "style": 1.0, "fact": 0.0}
                one["style"] = swap.get(one["basis"], one["style"])

    as_found, other = turned(facts, lambda _: None), turned(facts, style_is_in_the_fact_directions)
    name = "behaviour left without the top-6 directions, every layer (random: uniform ones)"
    assert "style ends without its own (0)" in as_found[name][0]
    assert "not so: style ends without its own (1)" in other[name][1]
    assert "not so: style goes on without the fact adapter's (0)" in other[name][1]
    name = "the same in an adapter of both, by other adapters' top-6, every layer"
    assert (
        "style ends and new facts go on without the style adapter's (style 0, new facts" in as_found[name][0]
    )
    assert (
        "not so: style ends and new facts go on without the style adapter's (style 1, new" in other[name][1]
    )


def test_an_overlap_like_that_of_seeds_is_not_called_two_changes(facts):
    def same_subspace(world):
        for one in world["overlaps"]:
            one["style_fact"] = 0.99

    name = "overlap, style against fact"
    assert "below the overlap of two seeds in 4 of 4" in turned(facts, lambda _: None)[name][0]
    assert "two changes" not in turned(facts, same_subspace)[name][0]


def test_a_measure_that_random_adapters_match_is_said_to_miss(facts):
    def as_random(world):
        for adapter in world["adapters"].values():
            for record in adapter["measures"]:
                record["null"]["verdict"] = "not distinguishable"

    sees, misses = turned(facts, as_random)["relative diff norm"]
    assert sees == "–"
    assert "style not distinguishable from random in 8 of 8" in misses


def test_numbers_are_means_and_ranges_over_worlds_not_over_seeds():
    records = [{"measure": "size", "layer": 0, "value": v} for v in (1.0, 3.0)]
    world = {
        "seed": 0,
        "adapters": {f"style-{i}": {"kind": "style", "measures": [r]} for i, r in enumerate(records)},
    }
    other = {
        "seed": 1,
        "adapters": {"style-0": {"kind": "style", "measures": [{**records[0], "value": 6.0}]}},
    }
    from analyses.world_numbers import at_layer

    assert at_layer({"worlds": [world, other]}, "style", "size", 0) == {
        "value": 4.0,
        "low": 2.0,
        "high": 6.0,
        "n": 2,
    }


def test_subspaces_wider_than_half_the_model_are_refused_before_anything_is_made(tmp_path):
    with pytest.raises(DataError, match="k = 33: choose 1 to 32"):
        world_report(tmp_path / "out", [0], Plan(), Looks(k=33), progress=lambda *_: None)
    assert not (tmp_path / "out").exists()


def test_a_page_that_cannot_be_written_is_refused_before_a_world_is_made(tmp_path):
    from analyses import jobs

    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="holds files of something else"):
        jobs.world(1, tmp_path)
    assert not (tmp_path / "world-0").exists()


@pytest.mark.slow
def test_a_mini_world_goes_from_nothing_to_a_page(tmp_path, monkeypatch):
    """Trained from scratch: a third of the entities are enough for a base near the floor and a style that turns."""
    from analyses import jobs
    from finetune import world_models

    class Mini(Plan):
        def __init__(self):
            super().__init__(
                entities=12, sentences=4, width=32, layers=2, heads=2, mlp=64, steps=250, adapter_steps=80
            )

    monkeypatch.setattr(world_models, "Plan", Mini)
    page = jobs.world(1, tmp_path / "run")
    assert page == tmp_path / "run" / "page" / "report.html"
    report = Report.from_json((page.parent / "report.json").read_text())
    base = report.facts["worlds"][0]["training"]["base"]
    assert base["floor"] < base["loss"] < 1.2 * base["floor"]
    assert reading(report.facts, "style", "style")["value"] > 0.9
    assert reading(report.facts, "base", "style")["value"] < 0.1
