import numpy as np
import pytest

from finetune.pretrain_recipe import UNIT, PretrainRecipe
from finetune.prompts import IGNORED
from finetune.stream import Plan, Stream, layout
from geometry.checks import InputError

RECIPES = {
    "tiny": {},
    "no exercises": {"exercise_share": 0.0},
    "many stages": {"stages": [(1 / 6, length) for length in (512, 256, 512, 512, 256, 512)]},
    "mostly exercises": {"exercise_share": 0.9},
    "default, shorter": PretrainRecipe(tokens=400_000).model_dump(),
}


@pytest.fixture(params=RECIPES)
def recipe(request, tiny_recipe):
    return tiny_recipe(**RECIPES[request.param])


def counted(recipe, spare=0):
    """A stream whose every token tells its place: text from 0 upwards, exercises from -1 downwards."""
    last = layout(recipe)[-1]
    text = np.arange(last.text_end + 1 + spare)
    units = -1 - np.arange((last.unit_end + spare) * UNIT).reshape(-1, UNIT)
    return Stream(text=text, held_out=text, exercise_ids=units, exercise_labels=units)


def test_each_token_is_read_once_at_most(recipe):
    plan = Plan(recipe, counted(recipe))
    read = np.concatenate([plan.batch(step)[0].numpy().ravel() for step in range(plan.steps)])
    assert len(np.unique(read)) == len(read) == plan.steps * recipe.batch_tokens
    last = layout(recipe)[-1]
    assert np.array_equal(np.sort(read[read >= 0]), np.arange(last.text_end))
    assert np.array_equal(np.sort(-1 - read[read < 0]), np.arange(last.unit_end * UNIT))


def test_the_tokens_are_those_of_the_recipe(recipe):
    plan = Plan(recipe, counted(recipe))
    assert 0 <= recipe.tokens - plan.steps * recipe.batch_tokens < len(recipe.stages) * recipe.batch_tokens
    lengths = [plan.batch(step)[0].shape[1] for step in range(plan.steps)]
    assert list(dict.fromkeys(lengths)) == list(dict.fromkeys(length for _, length in recipe.stages))
    exercises = sum((plan.batch(step)[0][:, 0] < 0).sum().item() for step in range(plan.steps))
    rows = sum(stage.rows for stage in layout(recipe))
    assert exercises == pytest.approx(rows * recipe.exercise_share, abs=len(recipe.stages) / 2)


def test_labels_are_the_next_tokens(recipe):
    plan = Plan(recipe, counted(recipe))
    for step in range(plan.steps):
        ids, labels = plan.batch(step)
        assert ids.shape == labels.shape
        assert ids.numel() == recipe.batch_tokens
        assert ids.dtype == labels.dtype
        for row, label in zip(ids.tolist(), labels.tolist(), strict=True):
            if row[0] >= 0:
                assert label == [*row[1:], row[-1] + 1]
            else:
                assert label == [*row[1:], IGNORED]


def test_ignored_labels_stay_ignored(tiny_recipe):
    recipe = tiny_recipe(exercise_share=0.9)
    stream = counted(recipe)
    labels = np.where(stream.exercise_ids % 3 == 0, stream.exercise_ids, IGNORED)
    plan = Plan(recipe, Stream(stream.text, stream.held_out, stream.exercise_ids, labels))
    seen = 0
    for step in range(plan.steps):
        ids, labels = (side.numpy() for side in plan.batch(step))
        drills = ids[:, 0] < 0
        seen += drills.sum()
        following = ids[drills][:, 1:]
        assert np.array_equal(labels[drills][:, :-1], np.where(following % 3 == 0, following, IGNORED))
        assert (labels[drills][:, -1] == IGNORED).all()
    assert seen


def test_a_step_is_the_same_whatever_came_before(recipe):
    plan, again = Plan(recipe, counted(recipe)), Plan(recipe, counted(recipe, spare=7))
    for step in reversed(range(plan.steps)):
        assert all(a.equal(b) for a, b in zip(plan.batch(step), again.batch(step), strict=True))


def test_the_order_is_the_seeds(recipe):
    other = recipe.model_copy(update={"seed": 1})
    plan, another = Plan(recipe, counted(recipe)), Plan(other, counted(other))
    assert any(not plan.batch(step)[0].equal(another.batch(step)[0]) for step in range(plan.steps))


def test_rows_of_text_and_exercises_are_mixed():
    recipe = PretrainRecipe(tokens=400_000)
    plan = Plan(recipe, counted(recipe))
    assert sum((plan.batch(step)[0][:, 0] < 0).any().item() for step in range(10)) > 7


def test_steps_beyond_the_plan(recipe):
    plan = Plan(recipe, counted(recipe))
    for step in (-1, plan.steps):
        with pytest.raises(IndexError, match=f"step {step} is not in the plan, which has {plan.steps}"):
            plan.batch(step)


@pytest.mark.parametrize("short", ["text", "exercise_ids"])
def test_too_little_is_refused_with_what_is_needed(recipe, short):
    stream = counted(recipe)
    if not len(getattr(stream, short)):
        pytest.skip("this recipe needs none")
    cut = {name: array[:-1] if name.startswith(short[:8]) else array for name, array in vars(stream).items()}
    with pytest.raises(InputError, match="lower `tokens` or add corpora"):
        Plan(recipe, Stream(**cut))
