"""How far an adapter moves attention: what must be 0 is 0, terms add up, and random adapters stand beside it."""

import numpy as np
import pytest

from analyses import report
from analyses.attention_moved import moved_facts
from analyses.attention_moved_page import moved_claim, moved_section
from finetune.adapter import attach
from finetune.attention_passages import Passage
from tests.finetune.test_adapter import save_adapter

LENGTH = 70
NAMES = ["0", "1", "2+", "4+", "8+", "16+", "32+", "64+"]


def facts_of(tmp_path, loaded, *, n_random=3, **saved):
    folder = save_adapter(tmp_path / "adapter", loaded, **saved)
    rng = np.random.default_rng(0)
    passages = [Passage((1,), tuple(rng.integers(3, 90, LENGTH - 1).tolist()), 1) for _ in range(3)]
    told = []
    with attach(loaded, folder) as attached:
        facts = moved_facts(
            attached,
            passages,
            LENGTH,
            n_random=n_random,
            rng=rng,
            progress=lambda what, share: told.append(share),
        )
    assert told[-1] == 1.0
    return report.plain(facts)


def test_an_adapter_of_values_alone_moves_no_head_of_layer_0_and_neither_do_random_ones(tmp_path, tiny_llama):
    facts = facts_of(tmp_path, tiny_llama, targets=["v_proj", "o_proj"])
    for name in ("hellinger", "kl", "kl_reverse"):
        assert not np.any(facts[name]["value"][0]), name
        assert not np.any(facts[name]["null"]["high"][0]), name
        assert not np.any(facts[name]["above"][0]), name
        assert np.all(np.array(facts[name]["value"][1:]) > 0), name


def test_terms_by_distance_add_to_the_whole(tmp_path, tiny_llama):
    facts = facts_of(tmp_path, tiny_llama, targets=["q_proj"])
    terms = {
        name: np.array(facts[name]["by_distance"]["value"]) for name in ("hellinger", "kl", "kl_reverse")
    }
    heads = np.array(facts["kl"]["value"]).shape
    assert terms["kl"].shape == (*heads, len(facts["distance_edges"]))
    for name in ("kl", "kl_reverse"):
        np.testing.assert_allclose(terms[name].sum(-1), facts[name]["value"], atol=1e-5)
    # the mean of squares is the square of the mean and the variance
    assert (terms["hellinger"].sum(-1) >= np.square(facts["hellinger"]["value"]) - 1e-9).all()
    assert np.array(facts["kl"]["null"]["mean"]).shape == heads
    assert np.all(np.array(facts["kl"]["null"]["low"]) <= facts["kl"]["null"]["high"])


def test_the_page_sets_every_distance_beside_the_random_adapters(tmp_path, tiny_llama):
    facts = facts_of(tmp_path, tiny_llama, targets=["q_proj"])
    above = np.sum(facts["hellinger"]["above"])
    assert f"{above} of 12 heads move further than with any of the 3 random ones" in moved_claim(facts)
    section = moved_section(facts, NAMES)
    layers, heads = section.tables
    assert all(set(cell) >= {"value", "null"} for row in layers.rows for cell in row[1:])
    assert [row[1]["value"] for row in heads.rows] == sorted(
        (row[1]["value"] for row in heads.rows), reverse=True
    )
    assert {row[4].partition(" ")[0] for row in heads.rows} <= set(NAMES)


@pytest.mark.parametrize(
    ("n_random", "saved"), [(0, None), (2, ["lm_head"])], ids=["none asked for", "cannot mix"]
)
def test_without_random_adapters_the_page_says_that_there_is_no_floor(n_random, saved, tmp_path, tiny_llama):
    facts = facts_of(tmp_path, tiny_llama, n_random=n_random, targets=["q_proj"], modules_to_save=saved)
    assert facts["random"] == 0
    assert facts["kl"]["null"] is facts["kl"]["above"] is None
    assert "no random adapters beside it" in moved_claim(facts)
    assert "There is no null" in moved_section(facts, NAMES).text[1]
