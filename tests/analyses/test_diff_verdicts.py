"""Planted changes whose truth is known get the right number and the right verdict; nulls hold what they should."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch

from analyses.adapter_diff import DiffRequest, diff
from analyses.diff_buckets import Buckets, bucket_records
from analyses.diff_directions import SinkMean, direction_records
from analyses.diff_kept import Kept
from analyses.diff_measures import Sides, Tally
from analyses.diff_page import diff_claims, diff_sections
from analyses.diff_parts import written_records
from analyses.diff_records import between, measures, over_layers, record, told_apart, whitened_size
from analyses.diff_similarity import _all_pairs, similarity_records
from analyses.diff_variants import Flip, Variants, flip_records, variant_records
from finetune.adapter import attach, deltas, lora_layers
from finetune.paired import paired_batches
from finetune.pairs import read_texts
from geometry.moments import PairedMoments
from geometry.nulls import haar_basis, matched_random
from geometry.similarity import unbiased_cka
from tests.analyses.test_adapter_diff import write_texts

D, N, K = 32, 4000, 2


def tallied(rng, move, randoms, exact_width=D, n=N):
    """A tally of base rows of unequal spread, of an adapter and of random adapters, as functions of the base."""
    x = rng.normal(size=(n, D)) * np.r_[9, np.linspace(3, 0.5, D - 1)] + 1
    rows = np.stack([x, move(x), *(random(x) for random in randoms)])
    held = Tally(D, len(randoms), exact_width)
    held.update(rows, np.arange(n) % 2, np.zeros(n, bool))
    return held


def along(direction, rng, size=1.0):
    """Moves every row along one direction by a random amount."""
    return lambda x: x + size * rng.normal(size=(len(x), 1)) * direction


def spread(rng, rank=8):
    """Moves every row inside a random subspace."""
    basis = haar_basis(D, rank, rng)
    return lambda x: x + rng.normal(size=(len(x), rank)) @ basis.T


def by_name(records):
    return {r["measure"]: r for r in records}


def read(held, k=K):
    sides = Sides.of(held, k, "g")
    return by_name(measures(sides, held, group="g", layer=0)), sides


def test_a_low_rank_change_is_recovered_and_below_a_null_that_spreads():
    rng = np.random.default_rng(0)
    basis = haar_basis(D, 4, rng)
    held = tallied(
        rng, lambda x: x + rng.normal(size=(len(x), 4)) @ basis.T, [spread(rng, 8 + i) for i in range(8)]
    )
    found, sides = read(held, 4)
    cosines = np.linalg.svd(basis.T @ sides.whole.subspace, compute_uv=False)
    assert np.degrees(np.arccos(np.minimum(cosines, 1))).max() < 1
    for name in ("effective_rank", "participation", "participation_centred", "effective_rank_centred"):
        assert found[name]["value"] == pytest.approx(4, rel=0.05)
        assert found[name]["null"]["verdict"] == "below"
    assert found["k90"]["value"] == 4
    assert found["split_half"]["value"] > 0.99


def test_a_rotation_of_a_known_angle_is_that_angle_and_nothing_but_a_rotation():
    rng = np.random.default_rng(1)
    turn = np.eye(D)
    c, s = np.cos(np.radians(30)), np.sin(np.radians(30))
    turn[np.ix_([0, 31], [0, 31])] = [[c, -s], [s, c]]
    # a random adapter adds a little noise of its own, in all directions alike, which turns nothing
    held = tallied(rng, lambda x: (x - 1) @ turn.T + 1, [lambda x: x + 0.1 * rng.normal(size=x.shape)] * 4)
    found, sides = read(held, 1)
    assert found["turn"]["value"] == pytest.approx(30, abs=1)
    assert found["turn"]["null"]["verdict"] == "above"
    alike = by_name(similarity_records(sides, group="g", layer=0))
    assert alike["procrustes"]["value"] == pytest.approx(0, abs=1e-3)
    assert alike["rotation"]["value"] == pytest.approx(alike["unaligned"]["value"], rel=1e-2)
    assert alike["rotation"]["null"]["verdict"] == "above"
    # all of y is a linear map of x
    assert alike["linear_r2"]["value"] == pytest.approx(1, abs=1e-9)


def overlapping(rng, style, fact):
    """The overlap record of two groups; random adapters move both groups along one direction of their own."""
    own = [haar_basis(D, 1, rng).T for _ in range(8)]
    kept = []
    for direction in (style, fact):
        randoms = [along(v + 0.05 * rng.normal(size=(1, D)), rng) for v in own]
        held = tallied(rng, along(direction, rng), randoms)
        kept.append(Kept.of(Sides.of(held, 1, "g")))
    (made,) = between(*kept, "style-fact", 0, rng=rng)
    return made


def test_a_style_direction_orthogonal_to_the_fact_direction_is_below_the_null():
    style, fact = np.eye(D)[5:6], np.eye(D)[9:10]
    found = overlapping(np.random.default_rng(2), style, fact)
    assert found["value"] == pytest.approx(0, abs=1e-3)
    assert found["null"]["verdict"] == "below"
    assert found["ceiling"] > 0.99
    # chance alone would have said nothing: two random lines are nearly orthogonal as well
    assert found["chance"] == pytest.approx(1 / D)


def test_a_style_direction_equal_to_the_fact_direction_is_not_called_apart():
    style = np.eye(D)[5:6]
    found = overlapping(np.random.default_rng(3), style, style)
    assert found["value"] == pytest.approx(1, abs=1e-3)
    assert found["null"]["verdict"] != "below"
    assert found["shaped"]["verdict"] == "above"


def test_a_constant_shift_is_all_mean_and_its_direction_is_described():
    rng = np.random.default_rng(4)
    shift = np.zeros(D)
    shift[3] = 2.0
    held = tallied(rng, lambda x: x + shift, [spread(rng) for _ in range(4)])
    found, sides = read(held)
    assert found["mean_share"]["value"] == pytest.approx(1)
    assert found["mean_share"]["null"]["verdict"] == "above"
    assert found["effective_rank"]["value"] == pytest.approx(1)
    sinks = SinkMean(D)
    sinks.update(np.eye(D)[3:4] * 100)
    first = direction_records(sides, sinks, group="g", layer=0)[0]
    assert first["warn"]
    assert first["concentration"]["value"] == pytest.approx(1)
    assert first["concentration"]["null"]["verdict"] == "above"
    assert first["sinks"]["value"] == pytest.approx(1)
    assert first["energy"] == pytest.approx(1)
    assert first["halves"] == pytest.approx(1)
    assert first["mean_state"]["value"] == pytest.approx(1 / np.sqrt(D), abs=0.1)
    assert direction_records(sides, SinkMean(D), group="g", layer=0)[0]["sinks"]["value"] is None


def test_a_change_as_large_as_the_base_in_every_direction_has_whitened_size_one():
    rng = np.random.default_rng(5)
    held = tallied(rng, lambda x: x + (x - 1)[rng.permutation(len(x))], [])
    found, sides = read(held)
    assert whitened_size(sides.whole.stats, sides.whole) == pytest.approx(1, abs=0.02)
    assert found["relative_energy"]["value"] == pytest.approx(1, abs=0.02)
    assert "null" not in found["size"]


def test_what_a_layer_writes_itself_is_told_from_what_is_passed_on():
    rng = np.random.default_rng(6)
    space, elsewhere = np.split(haar_basis(D, 8, rng), 2, axis=1)
    held = tallied(rng, lambda x: x + rng.normal(size=(len(x), 4)) @ space.T, [spread(rng) for _ in range(3)])
    sides = Sides.of(held, K, "g")
    for columns, share in ((space, 1.0), (elsewhere, 0.0), (np.zeros((D, 0)), 0.0)):
        (found,) = written_records(sides, [columns] + [space] * 3, group="g", layer=0)
        assert found["value"] == pytest.approx(share, abs=1e-9)
        assert found["chance"] == columns.shape[1] / D
    assert written_records(sides, None, group="g", layer=0) == []


def test_buckets_add_up_to_the_whole_and_sinks_count_only_at_the_start():
    rng = np.random.default_rng(7)
    n = 900
    position = rng.integers(0, 60, n)
    sink = (position == 0) | (rng.random(n) < 0.05)
    rows = rng.normal(size=(3, n, D))
    buckets, tally = Buckets(D, 2), Tally(D, 1)
    for part in np.array_split(np.arange(n), 3):
        buckets.update(rows[:, part], position[part], sink[part])
        tally.update(rows[:, part], np.zeros(len(part), int), sink[part])
    later = sum(side.answer().n * (s := side.answer()).cov + s.n * np.outer(s.mean, s.mean)
                for side in (one[1] for one in buckets.moments[1:]))  # fmt: skip
    np.testing.assert_allclose(later / (~sink).sum(), tally.randoms[0].answer().second_diff)
    found = {(r["bucket"], r["measure"]): r for r in bucket_records(buckets, group="g", layer=1)}
    assert found["0", "size"]["n"] == (position == 0).sum()
    assert found["32+", "size"]["n"] == ((position >= 32) & ~sink).sum()
    assert "null" not in found["0", "size"]
    small = Buckets(D, 1)
    small.update(rows[:2, :3], np.array([40, 41, 2]), np.zeros(3, bool))
    assert bucket_records(small, group="g", layer=1) == []


def test_half_random_adapters_show_which_side_sets_the_directions():
    rng = np.random.default_rng(8)
    own = haar_basis(D, K, rng)
    held = tallied(rng, lambda x: x + rng.normal(size=(len(x), K)) @ own.T, [spread(rng) for _ in range(3)])
    variants = Variants(D, {"keep writes": 1, "keep reads": 1})
    base = rng.normal(size=(500, D))
    kept = base + rng.normal(size=(500, K)) @ own.T
    variants.update(base, np.stack([kept, spread(rng)(base)]))
    made = {r["kind"]: r for r in variant_records(variants, Sides.of(held, K, "g"), group="g", layer=0)}
    assert made["keep writes"]["overlaps"][0] > 0.99
    assert made["keep reads"]["overlaps"][0] < 0.5
    assert len(made["random"]["overlaps"]) == 3
    assert made["random"]["halves"] > 0.99


@pytest.mark.parametrize(("even", "cosine", "ratio"), [(0.0, 1.0, 1.0), (1.0, -1.0, 1.0)])
def test_a_flipped_adapter_measures_linearity(even, cosine, ratio):
    rng = np.random.default_rng(9)
    base, d = rng.normal(size=(2, 50, D))
    flip = Flip()
    flip.update(base, base + d, base + (d if even else -d))
    (found,) = flip_records(flip, group="g", layer=0)
    assert found["even"] == pytest.approx(even, abs=1e-12)
    assert found["cosine"] == pytest.approx(cosine)
    assert found["ratio"] == pytest.approx(ratio)
    assert flip_records(Flip(), group="g", layer=0) == []


def test_one_layer_of_twenty_is_not_news_but_a_far_one_is():
    """A number that leaves its own band somewhere is not told apart; one that is far out is."""
    rng = np.random.default_rng(10)
    names = ("size", "other")

    def twenty():
        return [record("size", "g", layer, rng.normal(), list(rng.normal(size=8))) for layer in range(20)]

    # an adapter drawn like the random ones is told apart at the nominal rate of 5 %, not in one layer of twenty
    assert sum(told_apart(twenty(), names)["apart"] for _ in range(200)) <= 20
    usual = twenty()
    far = [*usual, record("other", "g", 3, 90.0, list(rng.normal(size=8)))]
    found = told_apart(far, names)
    assert found["apart"] is True
    assert (found["measure"], found["layer"], found["looked_at"]) == ("other", 3, 21)
    assert found["p"] == pytest.approx(1 / 9)
    assert {r["measure"] for r in over_layers(far)} == {"size", "other"}
    # no null anywhere, nothing said
    assert told_apart([record("size", "g", 0, 1.0)], names) is None


def test_the_map_of_layers_holds_what_streamed_moments_say_of_one_layer():
    rng = np.random.default_rng(12)
    x = rng.normal(size=(200, D)) + 3
    y = x @ rng.normal(size=(D, D)) + rng.normal(size=(200, D))
    pairs = PairedMoments(D)
    pairs.update(x, y)
    rows = {0: np.stack([x, y]).astype(np.float32), 4: np.stack([y, x]).astype(np.float32)}
    table = _all_pairs(rows, 200)
    assert table[0][0] == pytest.approx(unbiased_cka(pairs.answer()).cka, abs=1e-5)
    assert table[0][1] == pytest.approx(1, abs=1e-6)
    assert table[1][0] == pytest.approx(1, abs=1e-6)
    assert _all_pairs(rows, 3) == [[None, None], [None, None]]


def test_a_sketch_agrees_with_exact_moments_within_the_error_that_it_shows():
    def held(exact_width):
        rng = np.random.default_rng(11)
        basis, energies = haar_basis(D, D, rng), 2.0 ** -np.arange(D)
        move = lambda x: x + (rng.normal(size=(len(x), D)) * np.sqrt(energies)) @ basis.T  # noqa: E731
        return tallied(rng, move, [spread(rng) for _ in range(3)], exact_width)

    (exact, sides), (sketched, wide) = read(held(D)), read(held(D - 1))
    assert not wide.whole.exact
    assert 0 < sketched["split_half"]["unseen"] < 1e-3
    # no measure that needs exact matrices is guessed
    assert not {"turn", "whitened_size", "effective_rank_centred"} & set(sketched)
    unseen = sketched["split_half"]["unseen"]
    energy = sides.whole.stats.mean_square_diff
    assert wide.whole.stats.mean_square_diff == pytest.approx(energy)
    gaps = sides.whole.moved.values[:K] - wide.whole.moved.values[:K]
    assert (gaps >= -1e-9).all()
    assert gaps.max() <= unseen * energy
    assert sketched["size"]["value"] == exact["size"]["value"]
    assert sketched["mean_share"]["value"] == pytest.approx(exact["mean_share"]["value"])
    assert sketched["effective_rank"]["value"] == pytest.approx(exact["effective_rank"]["value"], rel=0.01)
    assert (
        sketched["effective_rank"]["null"]["verdict"] == exact["effective_rank"]["null"]["verdict"] == "below"
    )


@pytest.fixture
def texts(tmp_path):
    return {
        "style": write_texts(tmp_path / "style.jsonl", 60),
        "fact": write_texts(tmp_path / "fact.jsonl", 60, 1),
    }


def last_size(loaded, folder, texts):
    """Median |d| / |h| after the last block."""
    with attach(loaded, folder) as attached:
        (batch,) = paired_batches(attached, read_texts(texts["style"]).texts, [2], batch_tokens=10**6)
        base, adapted = batch.stream[2][:, batch.real]
    return float(((adapted - base).norm(dim=-1) / base.norm(dim=-1)).median())


@pytest.mark.slow
def test_the_page_tells_a_trained_adapter_from_a_random_one_of_equal_diff_norm(tmp_path, tiny_llama, texts):
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    model = get_peft_model(
        copy.deepcopy(tiny_llama.model), LoraConfig(r=4, lora_alpha=8, target_modules="all-linear")
    )
    written = [json.loads(line)["text"] for line in texts["style"].read_text().splitlines()]
    ids = [tiny_llama.tokenizer(one, return_tensors="pt")["input_ids"] for one in written]
    # it learns to swap two words of the texts wherever they stand
    swap = torch.arange(len(tiny_llama.tokenizer))
    often = torch.bincount(torch.cat([row[0] for row in ids])).argsort(descending=True)[:8]
    swap[often] = often.roll(4)
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-3)
    for row in ids:
        model(input_ids=row, labels=swap[row]).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    model.save_pretrained(tmp_path / "trained")
    target = last_size(tiny_llama, tmp_path / "trained", texts)
    scale, rng = 1.0, np.random.default_rng(1)
    with attach(tiny_llama, tmp_path / "trained") as attached:
        drawn = {name: matched_random(update, rng) for name, update in deltas(attached).items()}
    for _ in range(8):
        with torch.no_grad():
            for name, layer in lora_layers(model).items():
                layer.lora_A["default"].weight.copy_(torch.from_numpy(drawn[name].a))
                layer.lora_B["default"].weight.copy_(torch.from_numpy(scale * drawn[name].b))
        model.save_pretrained(tmp_path / "random")
        found = last_size(tiny_llama, tmp_path / "random", texts)
        scale *= (target / found) ** 0.8
    assert found == pytest.approx(target, rel=0.05)

    def page(name):
        request = DiffRequest(texts, k=2, n_random=8)
        facts = diff(tiny_llama, tmp_path / name, request, progress=lambda what, share: None).facts
        diff_sections(facts)
        return diff_claims(facts)[0]

    assert page("trained").startswith("This adapter is told apart from random adapters of the same strength")
    assert page("random").startswith("This adapter is not distinguishable from random adapters")
