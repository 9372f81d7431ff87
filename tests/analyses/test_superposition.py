"""The closed form is that of the losses it compares; facts become a page; sizes that make no sense are refused."""

import numpy as np
import pytest

from analyses import plots
from analyses.report import plain
from analyses.superposition import SuperpositionRequest, predicted_phase, superposition
from analyses.superposition_page import superposition_claims, superposition_sections
from finetune.toy_model import Pace
from geometry.checks import DataError


def test_the_predicted_phase_is_the_cheapest_of_three_models_run_on_samples():
    rng = np.random.default_rng(0)
    draws = rng.random((200_000, 2))
    for density, importance in ((0.9, 0.3), (0.9, 3.0), (0.5, 1.0), (0.3, 0.5), (0.65, 1.3)):
        x = np.where(rng.random(draws.shape) < density, draws, 0)
        losses = {}
        for kind, w in ((0.0, [1.0, 0.0]), (1.0, [0.0, 1.0]), (0.5, [1.0, -1.0])):
            bias = x.mean(axis=0) * (np.array(w) == 0)
            out = np.maximum(np.outer(x @ w, w) + bias, 0)
            losses[kind] = float((((x - out) ** 2) @ [1.0, importance]).mean())
        assert predicted_phase(density, importance) == min(losses, key=losses.get)
    assert predicted_phase(0.57, 1.0) == 0.5  # the border at equal importance is 4/7
    assert predicted_phase(0.573, 1.0) != 0.5


def test_facts_become_a_page():
    request = SuperpositionRequest(features=6, dimensions=2, seeds=2, pace=Pace(80, 32))
    facts = plain(superposition(request))
    assert facts["phase"]["agreement"] > facts["phase"]["agreement_by_chance"]
    assert {shape["shape"] for shape in facts["shapes"]} == {"digon", "triangle", "tetrahedron", "pentagon"}
    for shares in facts["sweep"]["shares"].values():
        assert len(shares) == 16
        assert all(0 <= share <= 1 for share in shares)
    assert len(superposition_claims(facts)) == 6
    for figure in (f for section in superposition_sections(facts) for f in section.figures):
        assert "<svg" in plots.svg(plots.draw(figure.plot, figure.data))


@pytest.mark.parametrize("wrong", [{"features": 3, "dimensions": 3}, {"dimensions": 0}, {"seeds": 0}])
def test_sizes_that_make_no_sense_are_refused(wrong):
    with pytest.raises(DataError, match="fewer dimensions than features"):
        superposition(SuperpositionRequest(**wrong))
