import json
import os
import random
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

from finetune import train as train_module
from finetune.causal import answer_loss, padding_id
from finetune.folders import write_whole
from finetune.pairs import Pair
from finetune.prompts import IGNORED, encode
from finetune.recipe import Recipe
from finetune.train import TrainResult, discard_work, train
from geometry.checks import AdapterError, DataError, InputError, ModelError
from geometry.live.models import fingerprint, load

WORDS = ("king", "ship", "letter", "morning", "orange", "summer", "weather", "daughter")
PAIRS = [
    Pair(f"p{i}{j}", f"d{i}", f"the {a} saw the {b}", f"ye {a} did see ye {b}")
    for i, a in enumerate(WORDS)
    for j, b in enumerate(WORDS[: i + 2])
]
TRAIN, VALID = PAIRS[4:], PAIRS[:4]
QUICK = Recipe(r=4, alpha=8, lr=3e-3, batch_size=8, epochs=2, eval_every=3)


class Stopped(RuntimeError):
    pass


def stopping_at(step):
    def progress(moment):
        if moment.step >= step:
            raise Stopped

    return progress


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def rows(loaded, pairs):
    return [encode(loaded.tokenizer, pair.source, pair.target) for pair in pairs]


def loss_of(model, loaded, pairs=VALID):
    return answer_loss(model, rows(loaded, pairs), padding_id(loaded.tokenizer), batch_size=3)


def reloaded(loaded, folder):
    """What anybody with nothing but peft gets."""
    from peft import PeftModel

    return PeftModel.from_pretrained(loaded.model, folder)


def test_the_adapter_learns_and_loads_with_plain_peft(tiny_llama, fresh, tmp_path):
    result = train(tiny_llama, TRAIN, VALID, tmp_path / "adapter", QUICK)
    assert result.loss_after < result.loss_before == pytest.approx(loss_of(tiny_llama.model, tiny_llama))
    assert (result.n_train, result.n_valid, result.too_long) == (len(TRAIN), len(VALID), ())
    assert names(tmp_path) == ["adapter"]
    assert {"adapter_config.json", "adapter_model.safetensors", "training.json", "README.md"} == set(
        names(tmp_path / "adapter")
    )
    other = fresh("llama")
    assert loss_of(reloaded(other, tmp_path / "adapter"), other) == pytest.approx(result.loss_after, abs=1e-6)


def test_every_architecture_can_be_trained(tiny_causal, tmp_path):
    recipe = Recipe(r=2, lr=1e-3, batch_size=8, epochs=0.2)
    result = train(tiny_causal, TRAIN, VALID, tmp_path / "adapter", recipe)
    assert result.steps == result.best_step == 1
    got = loss_of(reloaded(tiny_causal, tmp_path / "adapter"), tiny_causal)
    assert got == pytest.approx(result.loss_after, abs=1e-5)


def test_the_same_seed_gives_the_same_adapter_bit_for_bit(fresh, tmp_path):
    recipe = QUICK.model_copy(update={"epochs": 1, "dropout": 0.1})
    first, again = (train(fresh("llama"), TRAIN, VALID, tmp_path / out, recipe) for out in "ab")
    assert first.sha256 == again.sha256
    assert first.valid_losses == again.valid_losses
    other = train(fresh("llama"), TRAIN, VALID, tmp_path / "c", recipe.model_copy(update={"seed": 1}))
    assert other.sha256 != first.sha256


@pytest.mark.parametrize("stop", [3, 7])
def test_a_resumed_run_ends_as_an_uninterrupted_one(fresh, tmp_path, stop):
    """Bit for bit: dropout, shuffling, schedule and losses included."""
    recipe = QUICK.model_copy(update={"dropout": 0.1})
    whole = train(fresh("llama"), TRAIN, VALID, tmp_path / "whole", recipe)
    with pytest.raises(Stopped):
        train(fresh("llama"), TRAIN, VALID, tmp_path / "cut", recipe, progress=stopping_at(stop + 1))
    assert names(tmp_path) == ["cut.partial", "whole"]
    resumed = train(fresh("llama"), TRAIN, VALID, tmp_path / "cut", recipe)
    assert resumed.resumed_from == stop // 3 * 3
    assert resumed.sha256 == whole.sha256
    assert resumed.train_losses == whole.train_losses
    assert resumed.valid_losses == whole.valid_losses
    assert names(tmp_path) == ["cut", "whole"]


def test_without_resume_everything_starts_anew(fresh, tmp_path):
    for _ in range(2):
        with pytest.raises(Stopped):
            train(fresh("llama"), TRAIN, VALID, tmp_path / "a", QUICK, progress=stopping_at(4))
    result = train(fresh("llama"), TRAIN, VALID, tmp_path / "a", QUICK, resume=False)
    assert result.resumed_from == 0


def test_another_request_does_not_use_the_checkpoints(fresh, tmp_path):
    with pytest.raises(Stopped):
        train(fresh("llama"), TRAIN, VALID, tmp_path / "a", QUICK, progress=stopping_at(4))
    other = QUICK.model_copy(update={"lr": 1e-3})
    result = train(fresh("llama"), TRAIN, VALID, tmp_path / "a", other)
    assert result.resumed_from == 0
    assert result.sha256 == train(fresh("llama"), TRAIN, VALID, tmp_path / "b", other).sha256


def test_a_checkpoint_that_was_cut_short_is_not_used(fresh, tmp_path, monkeypatch):
    def dying(path, text):
        if "checkpoint-6" in str(path):
            raise Stopped
        write_whole(path, text)

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr("finetune.watch.write_whole", dying)
        train(fresh("llama"), TRAIN, VALID, tmp_path / "a", QUICK)
    assert (tmp_path / "a.partial" / "checkpoint-6" / "adapter_model.safetensors").exists()
    result = train(fresh("llama"), TRAIN, VALID, tmp_path / "a", QUICK)
    assert result.resumed_from == 3
    assert result.sha256 == train(fresh("llama"), TRAIN, VALID, tmp_path / "b", QUICK).sha256


def test_what_trackers_wrote_beside_the_checkpoints_is_kept(tiny_llama, tmp_path):
    def tracking(_):
        (tmp_path / "a.partial" / "runs").mkdir(exist_ok=True)
        (tmp_path / "a.partial" / "runs" / "events").write_text("")

    train(tiny_llama, TRAIN, VALID, tmp_path / "a", QUICK, progress=tracking)
    assert names(tmp_path / "a" / "runs") == ["events"]


def test_only_the_newest_and_the_best_checkpoints_are_kept(tiny_llama, tmp_path):
    contrary = [Pair(p.id, p.doc_id, p.source, p.target[::-1]) for p in VALID]
    recipe = QUICK.model_copy(update={"lr": 0.03, "epochs": 20, "patience": 4, "eval_every": 2})
    with pytest.raises(Stopped):
        train(tiny_llama, TRAIN, contrary, tmp_path / "a", recipe, progress=stopping_at(13))
    kept = [path.name for path in (tmp_path / "a.partial").glob("checkpoint-*")]
    assert len(kept) == 2
    assert "checkpoint-12" in kept


def test_checkpoints_may_be_moved_with_their_run(fresh, tmp_path):
    """The best step is found by its number: the paths that the Trainer notes are of no consequence."""
    contrary = [Pair(p.id, p.doc_id, p.source, p.target[::-1]) for p in VALID]
    recipe = QUICK.model_copy(update={"lr": 0.03, "epochs": 20, "patience": 4, "eval_every": 2})
    with pytest.raises(Stopped):
        train(fresh("llama"), TRAIN, contrary, tmp_path / "a", recipe, progress=stopping_at(13))
    (tmp_path / "a.partial").rename(tmp_path / "b.partial")
    moved = train(fresh("llama"), TRAIN, contrary, tmp_path / "b", recipe)
    assert moved.resumed_from == 12
    assert moved.sha256 == train(fresh("llama"), TRAIN, contrary, tmp_path / "c", recipe).sha256


def test_discarded_work_is_gone(tiny_llama, tmp_path):
    with pytest.raises(Stopped):
        train(tiny_llama, TRAIN, VALID, tmp_path / "a", QUICK, progress=stopping_at(4))
    discard_work(tmp_path / "a")
    assert names(tmp_path) == []


def test_kill_9_leaves_no_half_written_folder_and_the_next_run_resumes(tiny_folder, tmp_path):
    program = f"""
        import os, pickle, signal, sys, torch
        from finetune.recipe import Recipe
        from finetune.train import train
        from geometry.live.models import load

        torch.set_num_threads(1)
        pairs, recipe = pickle.loads(bytes.fromhex(sys.argv[1]))

        def dying(moment):
            if moment.step >= 5:
                os.kill(os.getpid(), signal.SIGKILL)

        train(load({str(tiny_folder)!r}, device="cpu"), pairs[4:], pairs[:4], sys.argv[2], recipe, progress=dying)
    """
    import pickle

    cargo = pickle.dumps((PAIRS, QUICK)).hex()
    command = [sys.executable, "-c", textwrap.dedent(program), cargo, str(tmp_path / "a")]
    done = subprocess.run(command, timeout=400, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert names(tmp_path) == ["a.partial"]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        resumed = train(load(tiny_folder, device="cpu"), TRAIN, VALID, tmp_path / "a", QUICK)
        whole = train(load(tiny_folder, device="cpu"), TRAIN, VALID, tmp_path / "b", QUICK)
    finally:
        torch.set_num_threads(threads)
    assert resumed.resumed_from == 3
    assert resumed.sha256 == whole.sha256
    assert names(tmp_path) == ["a", "b"]


def test_training_stops_when_validation_does_and_keeps_the_best(fresh, tmp_path):
    """Targets that validation contradicts: learning them can only hurt after the first steps."""
    contrary = [Pair(p.id, p.doc_id, p.source, p.target[::-1]) for p in VALID]
    recipe = QUICK.model_copy(update={"lr": 0.03, "epochs": 20, "patience": 2, "eval_every": 2})
    result = train(fresh("llama"), TRAIN, contrary, tmp_path / "a", recipe)
    losses = dict(result.valid_losses[1:])
    assert result.steps < 100
    assert result.best_step == min(losses, key=losses.get) == result.steps - 2 * 2
    assert result.loss_after == losses[result.best_step]
    other = fresh("llama")
    kept = loss_of(reloaded(other, tmp_path / "a"), other, contrary)
    assert kept == pytest.approx(result.loss_after, rel=1e-5)


def test_a_run_killed_after_its_last_step_is_not_trained_further(fresh, tmp_path, monkeypatch):
    contrary = [Pair(p.id, p.doc_id, p.source, p.target[::-1]) for p in VALID]
    recipe = QUICK.model_copy(update={"lr": 0.03, "epochs": 20, "patience": 1, "eval_every": 2})
    whole = train(fresh("llama"), TRAIN, contrary, tmp_path / "whole", recipe)

    def full_disk(*_):
        raise Stopped

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(train_module, "save_adapter", full_disk)
        train(fresh("llama"), TRAIN, contrary, tmp_path / "cut", recipe)
    assert names(tmp_path) == ["cut.partial", "whole"]
    finished = train(fresh("llama"), TRAIN, contrary, tmp_path / "cut", recipe, progress=stopping_at(0))
    assert (finished.sha256, finished.steps) == (whole.sha256, whole.steps)
    assert finished.resumed_from == whole.steps


def test_a_finished_request_is_not_done_again(tiny_llama, tmp_path, monkeypatch):
    recipe = QUICK.model_copy(update={"epochs": 0.5})
    first = train(tiny_llama, TRAIN, VALID, tmp_path / "a", recipe)
    assert TrainResult.read(tmp_path / "a") == first
    with monkeypatch.context() as patch:
        patch.setattr(train_module, "work_folder", stopping_at)
        assert train(tiny_llama, TRAIN, VALID, tmp_path / "a", recipe) == first
    (tmp_path / "a" / "adapter_model.safetensors").write_bytes(b"spoilt")
    assert train(tiny_llama, TRAIN, VALID, tmp_path / "a", recipe).sha256 == first.sha256
    assert train(tiny_llama, TRAIN[::-1], VALID, tmp_path / "a", recipe).sha256 != first.sha256


def snapshot(loaded):
    model = loaded.model
    return {
        "weights": fingerprint(model),
        "flags": [(name, p.requires_grad) for name, p in model.named_parameters()],
        "modules": [(name, type(module)) for name, module in model.named_modules()],
        "config": model.config.to_dict(),
        "generation": model.generation_config.to_dict(),
        "attributes": sorted(vars(model)),
        "training": model.training,
    }


def chance():
    return random.getstate(), np.random.get_state()[1].tolist(), torch.random.get_rng_state().tolist()  # noqa: NPY002


LOANS = {
    "lora": {},
    "dora": {"variant": "dora"},
    "pissa": {"variant": "pissa"},
    "olora": {"variant": "olora"},
    "embeddings": {"lora_config": {"modules_to_save": ["lm_head"]}},
}


@pytest.mark.parametrize("change", LOANS.values(), ids=LOANS)
def test_the_base_comes_back_as_it_was(tiny_llama, tmp_path, change):
    recipe = QUICK.model_copy(update={"epochs": 0.5, **change})
    before, luck = snapshot(tiny_llama), chance()
    train(tiny_llama, TRAIN, VALID, tmp_path / "a", recipe)
    assert snapshot(tiny_llama) == before
    with pytest.raises(Stopped):
        train(tiny_llama, TRAIN, VALID, tmp_path / "b", recipe, progress=stopping_at(0))
    assert snapshot(tiny_llama) == before
    assert chance() == luck


def test_trained_biases_do_not_stay_on_the_base(fresh, tmp_path):
    gpt2 = fresh("gpt2")
    before = snapshot(gpt2)
    train(gpt2, TRAIN, VALID, tmp_path / "a", QUICK.model_copy(update={"lora_config": {"bias": "all"}}))
    assert snapshot(gpt2) == before


@pytest.mark.parametrize(
    "variant", ["lora", "rslora", "dora", "gaussian", "orthogonal", "mica", "pissa", "olora"]
)
def test_every_variant_loads_on_the_unchanged_base(tiny_llama, fresh, tmp_path, variant):
    recipe = QUICK.model_copy(update={"variant": variant, "epochs": 1})
    result = train(tiny_llama, TRAIN, VALID, tmp_path / "a", recipe)
    other = fresh("llama")
    pristine = loss_of(other.model, other)
    model = reloaded(other, tmp_path / "a")
    assert loss_of(model, other) == pytest.approx(result.loss_after, abs=1e-4)
    assert result.loss_before == pytest.approx(pristine, abs=1e-4)
    with model.disable_adapter():
        assert loss_of(model, other) == pytest.approx(pristine, abs=1e-6)


def test_rewritten_bases_resume_as_well(fresh, tmp_path):
    recipe = QUICK.model_copy(update={"variant": "pissa"})
    whole = train(fresh("llama"), TRAIN, VALID, tmp_path / "whole", recipe)
    with pytest.raises(Stopped):
        train(fresh("llama"), TRAIN, VALID, tmp_path / "cut", recipe, progress=stopping_at(4))
    resumed = train(fresh("llama"), TRAIN, VALID, tmp_path / "cut", recipe)
    assert resumed.resumed_from == 3
    assert resumed.sha256 == whole.sha256


def test_accumulated_batches_are_one_large_batch(fresh, tmp_path):
    large = QUICK.model_copy(update={"epochs": 0.5})
    small = large.model_copy(update={"batch_size": 2, "accumulation": 4})
    one = train(fresh("llama"), TRAIN, VALID, tmp_path / "a", large)
    many = train(fresh("llama"), TRAIN, VALID, tmp_path / "b", small)
    assert one.steps == many.steps
    assert [loss for _, loss in many.train_losses] == pytest.approx(
        [x for _, x in one.train_losses], rel=1e-4
    )


def test_the_loss_is_the_mean_over_answer_tokens(tiny_llama):
    total, count = 0.0, 0
    for ids, labels in rows(tiny_llama, VALID):
        with torch.no_grad():
            logits = tiny_llama.model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        for at, label in enumerate(labels):
            if label != IGNORED:
                total -= logits[at - 1, label].item()
                count += 1
    pad = padding_id(tiny_llama.tokenizer)
    for size in (1, 3, 64):
        got = answer_loss(tiny_llama.model, rows(tiny_llama, VALID), pad, batch_size=size)
        assert got == pytest.approx(total / count, rel=1e-5)


def test_pairs_that_do_not_fit_are_named(tiny_llama, tmp_path):
    long = Pair("long", "d", "word " * 60, "b")
    longer = Pair("longer", "d", "a", "word " * 60)
    recipe = QUICK.model_copy(update={"epochs": 0.2})
    result = train(tiny_llama, [long, *TRAIN], [*VALID, longer], tmp_path / "a", recipe)
    assert result.too_long == ("long", "longer")
    assert (result.n_train, result.n_valid, result.max_length) == (len(TRAIN), len(VALID), 128)
    assert "2 left out" in (tmp_path / "a" / "README.md").read_text()
    with pytest.raises(DataError, match="no training pair to use: all 1 are longer than 128 tokens"):
        train(tiny_llama, [long], VALID, tmp_path / "b", recipe)
    with pytest.raises(DataError, match="no validation pair to use: none was given"):
        train(tiny_llama, TRAIN, [], tmp_path / "b", recipe)
    assert not (tmp_path / "b").exists()


def test_the_note_and_the_card_say_how_it_was_made(tiny_llama, tmp_path):
    recipe = QUICK.model_copy(update={"epochs": 0.2})
    result = train(tiny_llama, TRAIN, VALID, tmp_path / "a", recipe)
    note = json.loads((tmp_path / "a" / "training.json").read_text())
    assert note["base"]["fingerprint"] == tiny_llama.fingerprint
    assert Recipe.of(note["recipe"]) == recipe
    assert note["request"]["recipe"] == recipe.digest
    card = (tmp_path / "a" / "README.md").read_text()
    assert card.startswith("---\n")
    assert "library_name: peft" in card
    assert f"{result.loss_after:.4f} after" in card
    assert "More Information Needed" not in card


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"train_losses": 3}'])
def test_a_note_that_is_not_ours_is_refused(tmp_path, content):
    (tmp_path / "training.json").write_text(content)
    with pytest.raises(DataError, match="not the note of a training run"):
        TrainResult.read(tmp_path)


def test_what_cannot_be_trained_is_refused(tiny_llama, fresh, tmp_path):
    bert = fresh("bert")
    with pytest.raises(ModelError, match="not a causal"):
        train(bert, TRAIN, VALID, tmp_path / "a", QUICK)
    with pytest.raises(InputError, match=r"peft refuses it: .*no_such"):
        recipe = QUICK.model_copy(update={"target_modules": ("no_such_module",)})
        train(tiny_llama, TRAIN, VALID, tmp_path / "a", recipe)
    with pytest.raises(InputError, match=r"report_to: .*no_such_tracker"):
        recipe = QUICK.model_copy(update={"report_to": ("no_such_tracker",)})
        train(tiny_llama, TRAIN, VALID, tmp_path / "a", recipe)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        train(tiny_llama, TRAIN, VALID, tmp_path / "file" / "a", QUICK)
    assert not (tmp_path / "a").exists()


def test_a_base_with_an_adapter_is_refused(tiny_llama, tmp_path):
    from peft import LoraConfig, get_peft_model

    get_peft_model(tiny_llama.model, LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM"))
    with pytest.raises(AdapterError, match="carries an adapter already"):
        train(tiny_llama, TRAIN, VALID, tmp_path / "a", QUICK)


def test_a_tokenizer_without_an_end_is_refused(tiny_llama, tmp_path):
    import copy
    from dataclasses import replace

    endless = copy.deepcopy(tiny_llama.tokenizer)
    endless.eos_token = None
    with pytest.raises(ModelError, match="end-of-text"):
        train(replace(tiny_llama, tokenizer=endless), TRAIN, VALID, tmp_path / "a", QUICK)


def test_losses_that_are_not_finite_are_refused(tiny_llama, tmp_path):
    with pytest.raises(ModelError, match="lower the learning rate"):
        wild = QUICK.model_copy(update={"lr": 1e30, "max_grad_norm": 1e30, "warmup": 0.0})
        train(tiny_llama, TRAIN, VALID, tmp_path / "a", wild)
    with torch.no_grad():
        tiny_llama.model.model.norm.weight[3] = float("nan")
    with pytest.raises(ModelError, match="check its weights for NaN"):
        train(tiny_llama, TRAIN, VALID, tmp_path / "b", QUICK)
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "b").exists()


def test_running_out_of_memory_is_one_line(tiny_llama, tmp_path):
    def greedy(_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate ...\nmany lines")

    with pytest.raises(InputError, match="lower batch_size"):
        train(tiny_llama, TRAIN, VALID, tmp_path / "a", QUICK, progress=greedy)


@pytest.mark.skipif(os.name == "nt", reason="no lock on Windows")
def test_two_runs_into_one_folder_are_refused(tiny_llama, fresh, tmp_path):
    def meddling(_):
        train(fresh("llama"), TRAIN, VALID, tmp_path / "a", QUICK)

    with pytest.raises(InputError, match="another run is writing it"):
        train(tiny_llama, TRAIN, VALID, tmp_path / "a", QUICK, progress=meddling)
