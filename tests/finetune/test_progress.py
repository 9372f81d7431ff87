import io

import pytest

from finetune.pairs import Pair
from finetune.progress import Progress, duration, shown
from finetune.recipe import Recipe
from finetune.train import train

MOMENT = Progress(step=5, steps=20, loss=1.25, valid_loss=2.5, best=2.0, seconds_left=75.4)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_moment_says_loss_and_time_left():
    assert str(MOMENT) == "step 5/20, loss 1.250, validation 2.500 (best 2.000), 1 min 15 s left"


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (3599.6, "1 h 00 min")]
)
def test_durations_are_rounded_before_they_are_split(seconds, said):
    assert duration(seconds) == said


def test_a_log_gets_lines_and_a_terminal_gets_a_bar():
    log, screen = io.StringIO(), Terminal()
    with shown(log) as show:
        show(MOMENT)
    assert log.getvalue() == f"{MOMENT}\n"
    with shown(screen) as show:
        show(MOMENT)
    assert "step 5/20" in screen.getvalue()
    assert "\x1b[" in screen.getvalue()


def test_nothing_goes_to_standard_output(capfd, tiny_llama, tmp_path):
    pairs = [Pair(str(i), "d", f"the ship {i}", f"ye ship {i}") for i in range(8)]
    with shown() as show:
        train(tiny_llama, pairs, pairs, tmp_path / "a", Recipe(r=2, epochs=3, batch_size=4), progress=show)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines()[-1].startswith("step 6/6, loss ")
    assert "left" in err
    train(tiny_llama, pairs, pairs, tmp_path / "b", Recipe(r=2, epochs=1, batch_size=4))
    assert capfd.readouterr() == ("", "")
