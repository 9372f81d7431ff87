import subprocess
import sys

import pytest
from pydantic import ValidationError

from finetune.recipe import LIU_KOEHN_2026, REWRITES_BASE, Recipe
from geometry.checks import InputError


def test_the_defaults_are_the_promised_ones():
    recipe = Recipe()
    assert (recipe.r, recipe.alpha, recipe.lr, recipe.dropout) == (16, 32, 2e-4, 0.0)
    assert recipe.target_modules == "all-linear"
    assert (LIU_KOEHN_2026.r, LIU_KOEHN_2026.alpha) == (512, 256)


def test_a_recipe_cannot_be_changed():
    with pytest.raises(ValidationError):
        Recipe().r = 3


def test_the_digest_is_of_everything_that_matters():
    digests = [
        Recipe().digest,
        Recipe(seed=1).digest,
        Recipe(variant="dora").digest,
        Recipe(lora_config={"rank_pattern": {"q_proj": 4}}).digest,
        Recipe(target_modules=["q_proj"]).digest,
    ]
    assert len(set(digests)) == len(digests)
    assert Recipe(report_to=["tensorboard"]).digest == Recipe().digest
    assert Recipe.of(Recipe(r=4).model_dump(mode="json")).digest == Recipe(r=4).digest


def test_the_digest_is_the_same_in_another_process():
    code = "from finetune.recipe import Recipe; print(Recipe(r=4, lora_config={'bias': 'none'}).digest)"
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=400).stdout
    assert there.strip() == Recipe(r=4, lora_config={"bias": "none"}).digest


def test_a_file_sets_what_it_names(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("r: 4\nlr: 1e-3\ntarget_modules: [q_proj, v_proj]\n")
    assert Recipe.read(path) == Recipe(r=4, lr=1e-3, target_modules=("q_proj", "v_proj"))
    path.write_text("")
    assert Recipe.read(path) == Recipe()
    path.write_text('{"r": 8}')
    assert Recipe.read(path).r == 8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rank: 4", "rank: Extra inputs"),
        ("r: 0", "r: .*greater than or equal to 1"),
        ("variant: loftq", "variant: "),
        ("lr: .nan", "lr: "),
        ("lora_config: {r: 4}", "own fields"),
        ("- 4", "got list"),
        ("r: [", "is not YAML"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(tmp_path, text, message):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as refusal:
        Recipe.read(path)
    assert str(refusal.value).startswith(str(path))
    assert "\n" not in str(refusal.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        Recipe.read(tmp_path / "missing.yaml")


def test_peft_gets_what_the_recipe_says():
    config = Recipe(
        r=4, alpha=4, dropout=0.1, target_modules=("q_proj",), lora_config={"bias": "all"}
    ).peft_config()
    assert (config.r, config.lora_alpha, config.lora_dropout, config.bias) == (4, 4, 0.1, "all")
    assert config.target_modules == {"q_proj"}
    assert config.task_type == "CAUSAL_LM"
    assert Recipe(variant="rslora").peft_config().use_rslora
    assert Recipe(variant="dora").peft_config().use_dora
    for variant in (*REWRITES_BASE, "gaussian", "orthogonal", "mica"):
        assert Recipe(variant=variant).peft_config().init_lora_weights == variant


@pytest.mark.parametrize("extra", [{"no_such_field": 1}, {"layers_pattern": "h"}])
def test_what_peft_refuses_is_refused_in_one_line(extra):
    with pytest.raises(InputError, match="lora_config") as refusal:
        Recipe(lora_config=extra).peft_config()
    assert "\n" not in str(refusal.value)
