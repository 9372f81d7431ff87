import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from finetune.pretrain_recipe import PretrainRecipe, schedule

SHARES = st.floats(0, 1)


def test_the_digest_of_the_shipped_model_does_not_change():
    assert PretrainRecipe().digest == "e1cac1a30d12"


def test_every_field_changes_the_digest():
    other = {
        "width": 128, "layers": 3, "heads": 8, "kv_heads": 1, "mlp": 8, "vocabulary": 500, "context": 2048,
        "tokens": 10**7, "stages": ((1.0, 256),), "batch_tokens": 4096, "exercise_share": 0.0,
        "optimiser": "adamw", "lr_matrix": 1e-3, "lr_rest": 1e-3, "weight_decay": 0.0, "warmup": 0.0,
        "decay": 1.0, "seed": 1,
    }  # fmt: skip
    assert other.keys() == PretrainRecipe.model_fields.keys()
    digests = {PretrainRecipe(**{name: value}).digest for name, value in other.items()}
    assert len(digests | {PretrainRecipe().digest}) == len(other) + 1


def test_a_recipe_survives_json(tiny_recipe):
    recipe = tiny_recipe()
    assert PretrainRecipe.model_validate_json(recipe.model_dump_json()).digest == recipe.digest


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"heads": 3}, "width 16 must be a multiple of twice the heads"),
        ({"heads": 8, "kv_heads": 3}, "heads 8 must be a multiple of kv_heads"),
        ({"stages": ((0.5, 256),)}, "shares of the stages must add to 1"),
        ({"stages": ()}, "shares of the stages must add to 1"),
        ({"stages": ((1.0, 300),)}, "stage length 300 must be a multiple of 256"),
        ({"stages": ((1.0, 0),)}, "stage length 0 must be"),
        ({"stages": ((1.0, 512),), "batch_tokens": 768}, "divide batch_tokens"),
        ({"stages": ((1.0, 512),), "context": 256}, "fit the context"),
        ({"tokens": 511, "stages": ((1.0, 256),)}, "less than one step of 512 tokens; raise tokens"),
        ({"stages": ((1.5, 256), (-0.5, 512))}, "less than one step"),
        ({"optimiser": "sgd"}, "'muon' or 'adamw'"),
        ({"vocabulary": 70_000}, "less than or equal to 65535"),
        ({"lr_rest": float("nan")}, "finite"),
        ({"exercise_share": 1.0}, "less than 1"),
        ({"tempo": 3}, "Extra inputs"),
    ],
)
def test_refused_by_name(tiny_recipe, changes, says):
    with pytest.raises(ValidationError, match=says):
        tiny_recipe(**changes)


@given(SHARES, SHARES, st.integers(1, 300))
def test_the_schedule_stays_between_nothing_and_one(warmup, decay, steps):
    recipe = PretrainRecipe(warmup=warmup, decay=decay)
    factors = [schedule(recipe, step, steps) for step in range(steps)]
    assert all(0 < factor <= 1 for factor in factors)
    peak = factors.index(max(factors))
    assert factors[: peak + 1] == sorted(factors[: peak + 1])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)


def test_the_ends_of_the_schedule():
    flat = PretrainRecipe(warmup=0, decay=0)
    assert {schedule(flat, step, 50) for step in range(50)} == {1.0}
    falling = PretrainRecipe(warmup=0, decay=1)
    assert [schedule(falling, step, 4) for step in range(4)] == [1.0, 0.75, 0.5, 0.25]
    rising = PretrainRecipe(warmup=1, decay=0)
    assert [schedule(rising, step, 4) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert schedule(PretrainRecipe(), 0, 1) == 1.0
