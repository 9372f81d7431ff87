import pytest

from finetune.pairs import Pair
from finetune.prompts import IGNORED
from finetune.shots import RandomShots
from finetune.train import _rows
from geometry.checks import DataError

PAIRS = [Pair(str(i), "d", f"plain {i % 9}", f"styled {i % 7}") for i in range(30)]


def test_nobody_is_shown_itself_its_source_or_its_target():
    shots = RandomShots(PAIRS, 4)
    for pair in PAIRS:
        shown = shots(pair)
        assert len(shown) == len(set(shown)) == 4
        assert all(s.source != pair.source and s.target != pair.target for s in shown)


def test_examples_depend_on_pair_and_seed_alone():
    assert RandomShots(PAIRS, 4)(PAIRS[3]) == RandomShots(PAIRS, 4)(PAIRS[3])
    assert RandomShots(PAIRS, 4, 1)(PAIRS[3]) != RandomShots(PAIRS, 4)(PAIRS[3])
    assert RandomShots(PAIRS, 4)(PAIRS[4]) != RandomShots(PAIRS, 4)(PAIRS[3])


def test_none_asked_none_shown():
    assert RandomShots([], 0)(PAIRS[0]) == ()


def test_more_than_there_are_is_refused():
    with pytest.raises(DataError, match="30 examples cannot be drawn from 30 pairs"):
        RandomShots(PAIRS, 30)


def test_examples_lead_bear_no_loss_and_give_way(tiny_llama):
    pair = PAIRS[0]
    plain = _rows(tiny_llama, [pair], 128, lambda p: (), "training")[0][0]
    shown = _rows(tiny_llama, [pair], 128, RandomShots(PAIRS, 2), "training")[0][0]
    assert shown[0][-len(plain[0]) :] == plain[0]
    assert [label for label in shown[1] if label != IGNORED] == [l for l in plain[1] if l != IGNORED]
    assert len(shown[0]) > len(plain[0])
    tight = _rows(tiny_llama, [pair], len(plain[0]), RandomShots(PAIRS, 2), "training")
    assert tight == ([plain], ())
