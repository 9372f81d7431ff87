"""Every row comes once a pass, in another order; a restored buffer goes on as it would."""

import pytest
import torch

from geometry.checks import DataError
from geometry.live.shuffled_rows import ShuffledRows

CHUNKS = [torch.arange(5 * i, 5 * i + 5.0)[:, None].repeat(1, 2) for i in range(40)]


def opened(first):
    return iter(CHUNKS[first:])


def taken(rows, n):
    return torch.cat([next(rows) for _ in range(n)])[:, 0].tolist()


def test_rows_come_once_a_pass_and_in_another_order():
    rows = ShuffledRows(opened, room=40, batch=10, seed=0)
    found = taken(rows, 16)
    assert len(set(found)) == len(found)
    assert found != sorted(found)
    assert rows.passes == 0


def test_a_stream_that_ends_begins_again():
    rows = ShuffledRows(opened, room=40, batch=10, seed=0)
    found = taken(rows, 55)
    assert rows.passes == 2
    assert set(found) == set(range(200))


def test_the_seed_decides_the_order():
    one, same, other = (taken(ShuffledRows(opened, room=40, batch=10, seed=s), 8) for s in (0, 0, 1))
    assert one == same != other


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 7, 30])
def test_a_restored_buffer_gives_the_batches_that_were_to_come(steps):
    whole = ShuffledRows(opened, room=40, batch=10, seed=3)
    next(whole)
    taken(whole, steps) if steps else None
    state = {name: tensor.clone() for name, tensor in whole.state().items()}
    resumed = ShuffledRows(opened, room=40, batch=10, seed=9)
    resumed.restore(state)
    assert taken(resumed, 25) == taken(whole, 25)
    assert resumed.passes == whole.passes


def test_a_buffer_holds_no_more_than_it_has_room_for():
    rows = ShuffledRows(opened, room=40, batch=10, seed=0)
    for _ in range(100):
        next(rows)
        assert len(rows.state()["held"]) <= 25


@pytest.mark.parametrize("batch", [0, 21])
def test_a_batch_that_does_not_fit_is_refused(batch):
    with pytest.raises(DataError, match="two batches"):
        ShuffledRows(opened, room=40, batch=batch, seed=0)


def test_a_stream_without_rows_is_refused():
    with pytest.raises(DataError, match="no row"):
        next(ShuffledRows(lambda first: iter(()), room=4, batch=2, seed=0))
