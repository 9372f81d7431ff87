"""Toy models find the solutions that are known, report the loss that they have, and repeat."""

import numpy as np
import pytest

from finetune.toy_model import Pace, train_toys
from geometry.checks import DataError
from geometry.polytopes import polytopes

SHORT = Pace(steps=600, batch=128)


def test_rare_features_lie_opposite_and_five_of_them_make_a_pentagon():
    rng = np.random.default_rng(0)
    two = train_toys([0.2] * 3, np.ones((3, 2)), 1, rng=rng, pace=SHORT)
    assert [g.name for g in polytopes(two.w[two.loss.argmin()])] == ["digon"]
    five = train_toys([0.05] * 3, np.ones((3, 5)), 2, rng=rng, pace=SHORT)
    assert [g.name for g in polytopes(five.w[five.loss.argmin()])] == ["pentagon"]


def test_losses_are_those_of_the_closed_form_and_models_do_not_mix():
    """Enough dimensions cost nothing; an unimportant dense feature costs its variance, at its importance."""
    density, importance = [0.5, 1.0], [[1.0, 1.0], [1.0, 0.1]]
    free = train_toys(density, importance, 2, rng=np.random.default_rng(0), pace=SHORT)
    assert free.loss == pytest.approx([0, 0], abs=1e-3)
    one = train_toys([1.0], [[1.0, 0.1]], 1, rng=np.random.default_rng(0), pace=SHORT)
    assert one.loss[0] == pytest.approx(0.1 / 12, rel=0.1)
    assert one.b[0, 1] == pytest.approx(0.5, abs=0.1)


def test_the_same_seed_gives_the_same_model():
    one, other = (
        train_toys([0.3], np.ones((1, 3)), 2, rng=np.random.default_rng(5), pace=Pace(20, 16))
        for _ in range(2)
    )
    np.testing.assert_array_equal(one.w, other.w)
    assert one.w.shape == (1, 2, 3)
    seen = []
    train_toys(
        [0.3], np.ones((1, 3)), 2, rng=np.random.default_rng(5), pace=Pace(101, 4), progress=seen.append
    )
    assert seen == [0.0, 100 / 101]


@pytest.mark.parametrize(
    ("density", "importance", "m"),
    [
        ([0.0], [[1.0]], 1), ([1.1], [[1.0]], 1), ([0.5], [[0.0]], 1), ([0.5], [1.0], 1),
        ([], np.ones((0, 2)), 1), ([0.5], [[1.0]], 0),
    ],
)  # fmt: skip
def test_what_is_out_of_range_is_refused(density, importance, m):
    with pytest.raises(DataError, match="toy models"):
        train_toys(density, importance, m, rng=np.random.default_rng(0))
