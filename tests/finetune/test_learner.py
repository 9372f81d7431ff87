import math

import numpy as np
import pytest
import torch
from safetensors import safe_open

from finetune import learner as module
from finetune.learner import Learner, build, summed_loss
from finetune.prompts import IGNORED
from geometry.checks import InputError


@pytest.fixture(params=["muon", "adamw"])
def recipe(request, tiny_recipe):
    return tiny_recipe(optimiser=request.param)


@pytest.fixture
def learner(recipe, tiny_tokenizer):
    return Learner(recipe, tiny_tokenizer, "cpu")


def batch(seed):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, 320, (2, 32), generator=generator)
    labels = ids.roll(-1, 1)
    labels[0, :20] = IGNORED
    return ids, labels


def same(a, b):
    pairs = zip(a.masters.values(), b.masters.values(), strict=True)
    models = zip(a.model.parameters(), b.model.parameters(), strict=True)
    return all(x.equal(y) for x, y in (*pairs, *models))


def test_the_model_has_the_shape_of_the_recipe(recipe, tiny_tokenizer):
    model = build(recipe, tiny_tokenizer)
    assert model.config.vocab_size == len(tiny_tokenizer)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    shape = model.config
    assert (shape.hidden_size, shape.num_hidden_layers, shape.intermediate_size) == (16, 1, 32)
    assert (shape.num_attention_heads, shape.num_key_value_heads, shape.max_position_embeddings) == (
        2,
        1,
        512,
    )
    assert (shape.eos_token_id, shape.pad_token_id) == (
        tiny_tokenizer.eos_token_id,
        tiny_tokenizer.pad_token_id,
    )


def test_the_weights_are_the_seeds_and_nobody_elses(recipe, tiny_tokenizer):
    before = torch.random.get_rng_state()
    first, again = build(recipe, tiny_tokenizer), build(recipe, tiny_tokenizer)
    other = build(recipe.model_copy(update={"seed": 1}), tiny_tokenizer)
    assert torch.random.get_rng_state().equal(before)
    weights = [model.model.embed_tokens.weight for model in (first, again, other)]
    assert weights[0].equal(weights[1])
    assert not weights[0].equal(weights[2])


def test_loss_is_the_mean_over_the_labels_that_count(learner):
    ids, labels = batch(0)
    with torch.no_grad():
        logits, loss = learner.model(input_ids=ids).logits.float(), float(learner.loss(ids, labels))
    each = [
        -torch.log_softmax(logits[i, j], 0)[labels[i, j]]
        for i, j in zip(*(labels != IGNORED).nonzero(as_tuple=True), strict=True)
    ]
    assert loss == pytest.approx(float(torch.stack(each).mean()), rel=1e-5)


def test_steps_lower_the_loss(learner):
    losses = [learner.step(*batch(0), 1.0) for _ in range(30)]
    assert losses[0] == pytest.approx(math.log(320), abs=0.5)
    assert losses[-1] < losses[0] - 0.5


def test_the_copy_follows_the_masters(learner):
    for seed in range(3):
        learner.step(*batch(seed), 1.0)
    for name, p in learner.model.named_parameters():
        assert p.dtype == torch.bfloat16
        assert learner.masters[name].dtype == torch.float32
        assert p.equal(learner.masters[name].bfloat16())
        assert p.grad is None


def test_nothing_moves_at_rate_zero(learner):
    before = {name: p.clone() for name, p in learner.masters.items()}
    learner.step(*batch(0), 0.0)
    assert all(p.equal(before[name]) for name, p in learner.masters.items())


def test_a_restored_learner_goes_on_bit_for_bit(learner, recipe, tiny_tokenizer, tmp_path):
    for seed in range(4):
        learner.step(*batch(seed), 0.5)
    learner.save(tmp_path / "checkpoint", 4)
    other = Learner(recipe, tiny_tokenizer, "cpu")
    assert not same(learner, other)
    assert other.restore(tmp_path / "checkpoint") == 4
    assert same(learner, other)
    for seed in range(4, 8):
        assert learner.step(*batch(seed), 0.5) == other.step(*batch(seed), 0.5)
    assert same(learner, other)


def test_every_state_of_the_optimisers_is_kept(learner, tmp_path):
    learner.step(*batch(0), 1.0)
    learner.save(tmp_path / "checkpoint", 1)
    with safe_open(tmp_path / "checkpoint", "pt") as file:
        assert {key.split(".")[0] for key in file.keys()} == {"weight", "state"}  # noqa: SIM118
        states = sum(key.startswith("state.") for key in file.keys())  # noqa: SIM118
    held = sum(len(state) for o in learner._optimisers for state in o.state.values())
    assert states == held > len(learner.masters)


def test_damaged_and_foreign_checkpoints_are_refused(learner, recipe, tiny_tokenizer, tmp_path):
    path = tmp_path / "checkpoint"
    learner.step(*batch(0), 1.0)
    learner.save(path, 1)
    other = Learner(recipe.model_copy(update={"seed": 1}), tiny_tokenizer, "cpu")
    with pytest.raises(InputError, match=r"is of another recipe; remove .* or choose another --out"):
        other.restore(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"is damaged; remove .* to start again"):
        learner.restore(path)


def test_a_save_that_dies_leaves_the_old_checkpoint(learner, tmp_path, monkeypatch):
    path = tmp_path / "checkpoint"
    learner.save(path, 0)
    before = path.read_bytes()

    def die(tensors, fresh, metadata):
        fresh.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "save_file", die)
    with pytest.raises(KeyboardInterrupt):
        learner.save(path, 1)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_compiler_that_fails_is_left_with_a_warning(recipe, tiny_tokenizer, monkeypatch):
    plain, compiled = Learner(recipe, tiny_tokenizer, "cpu"), Learner(recipe, tiny_tokenizer, "cpu")

    def broken(model, **_):
        def body(**_):
            raise RuntimeError("g++: error: no such instruction\nand a page more")

        return body

    monkeypatch.setattr(torch, "compile", broken)
    compiled.compile()
    with pytest.warns(
        UserWarning, match=r"torch.compile failed \(g\+\+: error: no such instruction\); going on"
    ):
        first = compiled.step(*batch(0), 1.0)
    assert first == plain.step(*batch(0), 1.0)
    assert compiled.step(*batch(1), 1.0) == plain.step(*batch(1), 1.0)
    assert same(plain, compiled)


def test_a_failure_in_the_backward_pass_leaves_no_half_gradients(recipe, tiny_tokenizer, monkeypatch):
    plain, compiled = Learner(recipe, tiny_tokenizer, "cpu"), Learner(recipe, tiny_tokenizer, "cpu")

    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            raise RuntimeError("out of luck")

    def half(model, **_):
        def body(**inputs):
            out = model(**inputs)
            return type(out)(last_hidden_state=Broken.apply(out.last_hidden_state))

        return body

    monkeypatch.setattr(torch, "compile", half)
    compiled.compile()
    with pytest.warns(UserWarning, match="out of luck"):
        compiled.step(*batch(0), 1.0)
    plain.step(*batch(0), 1.0)
    assert same(plain, compiled)


def test_no_compiler_for_this_platform(learner, monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("Dynamo is not supported here")

    monkeypatch.setattr(torch, "compile", refuse)
    learner.compile()
    assert math.isfinite(learner.step(*batch(0), 1.0))


def test_our_own_errors_are_not_taken_for_the_compilers(learner):
    with pytest.raises(IndexError):
        learner.step(torch.full((1, 8), 10_000), torch.zeros(1, 8, dtype=torch.int64), 1.0)


def test_summed_loss_is_the_sum_over_windows(tiny_llama):
    tokens = np.random.default_rng(0).integers(3, 300, 100).astype(np.uint16)
    for length, rows in ((16, 1), (16, 4), (33, 8), (99, 2)):
        total, n = summed_loss(tiny_llama.model, tokens, length=length, rows=rows)
        slow = 0.0
        for start in range(0, n, length):
            ids = torch.tensor(tokens[start : start + length + 1].astype(np.int64))
            with torch.no_grad():
                logits = tiny_llama.model(ids[None, :-1]).logits[0]
            slow += -float(torch.log_softmax(logits, -1).gather(1, ids[1:, None]).sum())
        assert n == 99 // length * length
        assert total == pytest.approx(slow, rel=1e-5)
    assert summed_loss(tiny_llama.model, tokens, length=100) == (0.0, 0)
