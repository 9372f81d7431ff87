import pytest

from finetune.pairs import Pair
from finetune.progress import Progress, duration
from finetune.recipe import Recipe
from finetune.train import train

MOMENT = Progress(step=5, steps=20, loss=1.25, valid_loss=2.5, best=2.0, seconds_left=75.4)


def test_a_moment_says_loss_and_time_left():
    assert str(MOMENT) == "step 5/20, loss 1.250, validation 2.500 (best 2.000), 1 min 15 s left"


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (3599.6, "1 h 00 min")]
)
def test_durations_are_rounded_before_they_are_split(seconds, said):
    assert duration(seconds) == said


def test_training_says_nothing_unless_it_is_asked(capfd, tiny_llama, tmp_path):
    pairs = [Pair(str(i), "d", f"the ship {i}", f"ye ship {i}") for i in range(8)]
    moments = []
    capfd.readouterr()  # what making the fixtures said
    train(tiny_llama, pairs, pairs, tmp_path, Recipe(r=2, epochs=3, batch_size=4), progress=moments.append)
    assert capfd.readouterr() == ("", "")
    assert [moment.step for moment in moments] == [1, 2, 2, 3, 4, 4, 5, 6, 6]
    assert {moment.steps for moment in moments} == {6}
    assert moments[-1].seconds_left == 0
    assert moments[-1].best == min(moment.valid_loss for moment in moments)
    assert "left" in str(moments[0])
