import pytest

from finetune.loop import _EvenBatches, _log_every, steps_of
from finetune.recipe import Recipe
from finetune.watch import stalled


def test_a_sampler_deals_every_pair_once_and_depends_on_seed_and_epoch_alone():
    lengths = [5 + (7 * i) % 31 for i in range(500)]
    sampler = _EvenBatches(lengths, 8, seed=3)
    first = list(sampler)
    assert sorted(first) == list(range(500)) and len(sampler) == 500
    assert list(sampler) == first
    sampler.set_epoch(1)
    assert list(sampler) != first
    again = _EvenBatches(lengths, 8, seed=3)
    again.set_epoch(1)
    assert list(again) == list(sampler)
    assert list(_EvenBatches(lengths, 8, seed=4)) != first


def test_a_batch_holds_texts_of_about_one_length():
    lengths = [5 + (7 * i) % 31 for i in range(800)]
    order = list(_EvenBatches(lengths, 8, seed=0))
    batches = [[lengths[i] for i in order[k : k + 8]] for k in range(0, 800, 8)]
    padded = sum(8 * max(batch) for batch in batches)
    assert padded < 1.06 * sum(lengths)


@pytest.mark.parametrize(
    ("losses", "patience", "ended"),
    [
        ([], 1, False),
        ([3.0], 1, False),
        ([3.0, 2.0], 1, False),
        ([2.0, 3.0], 1, True),
        ([2.0, 3.0], 2, False),
        ([2.0, 3.0, 2.5], 2, True),
        ([2.0, 2.0], 1, True),
        ([2.0, 3.0, 1.0, 1.5], 2, False),
    ],
)
def test_patience_counts_from_the_lowest_loss(losses, patience, ended):
    history = [{"step": float(i), "eval_loss": loss} for i, loss in enumerate(losses)]
    history.insert(len(history) // 2, {"step": 0.0, "loss": 1.0})
    assert stalled(history, patience) is ended


def test_every_evaluation_is_also_a_moment_of_logging():
    for every in range(1, 300):
        assert every % _log_every(every) == 0
        assert _log_every(every) <= max(1, every // 10)


@pytest.mark.parametrize(
    ("n", "fields", "steps"),
    [
        (100, {"batch_size": 10, "epochs": 3}, 30),
        (101, {"batch_size": 10, "epochs": 1}, 11),
        (100, {"batch_size": 10, "accumulation": 3, "epochs": 1}, 4),
        (100, {"batch_size": 10, "epochs": 0.25}, 3),
        (1, {"batch_size": 10, "epochs": 0.01}, 1),
    ],
)
def test_steps_are_counted(n, fields, steps):
    assert steps_of(n, Recipe(**fields)) == steps
