import itertools
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from finetune import learner as learner_module
from finetune import packing, pretrain, vocabulary
from finetune.folders import work_folder
from finetune.learner import Learner
from finetune.packing import prepare
from finetune.stream import Plan
from geometry.checks import DataError, InputError
from geometry.live.models import load

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """Bits depend on the number of threads; and a compiler would take longer than these models."""
    monkeypatch.setattr(pretrain.shutil, "which", lambda name: None)
    monkeypatch.setattr(vocabulary, "FED", 20)
    monkeypatch.setattr(packing, "_TEXTS_AT_ONCE", 8)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def every_third(monkeypatch):
    """A clock that ticks once a look, and checkpoints every few ticks."""
    ticks = itertools.count()
    monkeypatch.setattr(pretrain.time, "monotonic", lambda: float(next(ticks)))
    monkeypatch.setattr(pretrain, "CHECKPOINT_SECONDS", 2.5)


@pytest.fixture
def plan(corpus, tiny_tokenizer, tiny_recipe, tmp_path):
    recipe = tiny_recipe()
    return Plan(recipe, prepare([corpus[0]], tiny_tokenizer, recipe, work=tmp_path))


@pytest.fixture
def start(plan, tiny_tokenizer, tiny_recipe):
    """Begin, or begin again, with nothing but what lies in a folder."""

    def begin(work):
        learner = Learner(tiny_recipe(), tiny_tokenizer, "cpu")
        return learner, pretrain.run(learner, plan, work)

    return begin


def folder(tmp_path, name):
    (tmp_path / name).mkdir()
    return tmp_path / name


def losses(log):
    return [(record["step"], record["loss"], record["tokens"]) for record in log]


def read(work):
    return [json.loads(line) for line in (work / "log.jsonl").read_text().splitlines()]


@pytest.fixture
def whole(start, tmp_path):
    """A run that nobody stopped: its learner and its log."""
    learner, records = start(folder(tmp_path, "whole"))
    return learner, list(records)


def same(a, b):
    return all(x.equal(b.masters[name]) for name, x in a.masters.items())


def test_a_run_counts_steps_tokens_and_seconds(whole, plan, tmp_path):
    _, log = whole
    assert [r["step"] for r in log] == list(range(1, plan.steps + 1))
    assert [r["tokens"] for r in log] == [512 * r["step"] for r in log]
    assert [r["seconds"] for r in log] == sorted(r["seconds"] for r in log)
    assert "held_out" in log[-1]
    assert read(tmp_path / "whole") == log
    assert log[-1]["loss"] < log[0]["loss"]


@pytest.mark.parametrize("stops", [[1], [2], [7], [3, 4, 5, 6], [1] * 15, [11], [12]])
def test_a_stopped_run_goes_on_bit_for_bit(start, whole, every_third, tmp_path, stops):
    work = folder(tmp_path, "work")
    for stop in stops:
        _, records = start(work)
        for record in itertools.islice(records, stop):
            assert record["step"] <= 12
        records.close()
    learner, records = start(work)
    list(records)
    assert same(learner, whole[0])
    assert losses(read(work)) == losses(whole[1])


def test_nothing_is_done_after_the_last_step(start, whole, tmp_path):
    learner, records = start(tmp_path / "whole")
    assert list(records) == []
    assert same(learner, whole[0])


@pytest.mark.parametrize(
    "torn", ['{"step": 5, "lo', "{", '{"step": 5, "loss": 3.1, "tokens": 2560, "seconds": 9.0}']
)
def test_a_torn_line_of_the_log_is_written_again(start, whole, every_third, tmp_path, torn):
    work = folder(tmp_path, "work")
    _, records = start(work)
    list(itertools.islice(records, 4))
    with (work / "log.jsonl").open("a") as log:
        log.write(torn)
    learner, records = start(work)
    list(records)
    assert same(learner, whole[0])
    assert losses(read(work)) == losses(whole[1])


def test_a_checkpoint_that_dies_leaves_the_one_before(start, whole, every_third, tmp_path, monkeypatch):
    work = folder(tmp_path, "work")
    real = learner_module.save_file
    saves = itertools.count(1)

    def die_at_the_second(tensors, fresh, metadata):
        if next(saves) == 2:
            fresh.write_bytes(b"half")
            raise KeyboardInterrupt
        real(tensors, fresh, metadata)

    monkeypatch.setattr(learner_module, "save_file", die_at_the_second)
    _, records = start(work)
    with pytest.raises(KeyboardInterrupt):
        list(records)
    (work / ".checkpoint.safetensors.1234-abcd").write_bytes(b"what kill -9 leaves")
    learner, records = start(work)
    list(records)
    assert same(learner, whole[0])
    assert losses(read(work)) == losses(whole[1])
    assert not list(work.glob(".*"))


def test_seconds_go_on_where_they_were(start, every_third, tmp_path):
    work = folder(tmp_path, "work")
    for stop in (5, 100):
        _, records = start(work)
        list(itertools.islice(records, stop))
    seconds = [record["seconds"] for record in read(work)]
    assert seconds == sorted(seconds)
    assert seconds[-1] > 12


def test_a_lost_log_is_said(start, every_third, tmp_path):
    work = folder(tmp_path, "work")
    _, records = start(work)
    list(itertools.islice(records, 6))
    for content in ("", "\n".join((work / "log.jsonl").read_text().splitlines()[1:])):
        (work / "log.jsonl").write_text(content)
        _, records = start(work)
        with pytest.raises(InputError, match="lacks steps that the checkpoint has done; remove"):
            next(records)


def test_a_loss_that_is_not_finite_stops_the_run(start, tmp_path):
    work = folder(tmp_path, "work")
    learner, records = start(work)
    next(records)
    learner.model.lm_head.weight.data.fill_(float("nan"))
    with pytest.raises(InputError, match="step 2: the loss is not finite; lower lr_matrix"):
        next(records)
    assert not (work / "checkpoint.safetensors").exists()
    assert len(read(work)) == 1


@pytest.fixture
def request_of(corpus, tiny_recipe, tmp_path):
    return {"corpora": [corpus[0]], "out": tmp_path / "model", "recipe": tiny_recipe()}


def test_the_result_is_a_whole_model_folder(request_of, tmp_path, tiny_recipe):
    seen = []
    out = pretrain.pretrain(**request_of, on_step=lambda record, steps: seen.append((record["step"], steps)))
    assert seen == [(step, 12) for step in range(1, 13)]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    loaded = load(out)
    assert loaded.dtype == torch.bfloat16
    assert loaded.max_length == 512
    assert loaded.tokenizer.eos_token == vocabulary.END
    made = json.loads((out / "pretraining.json").read_text())
    assert made["request"]["recipe"] == tiny_recipe().model_dump(mode="json")
    assert made["digest"] == tiny_recipe().digest
    assert made["parameters"] == sum(p.numel() for p in loaded.model.parameters())
    assert made["tokens"] == 12 * 512
    assert losses(made["log"])[-1][0] == 12
    assert set(made["split_words"]) <= set(vocabulary.SINGLE_WORDS)
    assert made["measured"]["copying"]["n"] > 1
    assert (out / "README.md").read_text().startswith("---\nlibrary_name: transformers")
    assert "_attn_implementation" not in (out / "config.json").read_text()


def test_a_request_that_is_done_is_not_done_again(request_of):
    out = pretrain.pretrain(**request_of)
    before = {path: path.read_bytes() for path in out.iterdir()}
    assert pretrain.pretrain(**request_of, on_step=lambda *_: pytest.fail("trained again")) == out
    assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_another_request_replaces_what_is_done(request_of, tiny_recipe):
    pretrain.pretrain(**request_of)
    out = pretrain.pretrain(**{**request_of, "recipe": tiny_recipe(seed=5)})
    assert json.loads((out / "pretraining.json").read_text())["request"]["recipe"]["seed"] == 5


def stopped_at(step):
    def stop(record, steps):
        if record["step"] == step:
            raise KeyboardInterrupt

    return stop


def test_another_request_does_not_clear_hours_of_work(request_of, every_third, tiny_recipe, corpus, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        pretrain.pretrain(**request_of, on_step=stopped_at(6))
    work = {path.name: path.read_bytes() for path in (tmp_path / "model.partial").glob("*.*")}
    assert {"stream.npz", "log.jsonl", "checkpoint.safetensors", "request.json"} == set(work)
    grown = tmp_path / "grown.jsonl"
    grown.write_text(corpus[0].read_text() + '{"text": "one more"}\n')
    for change in ({"recipe": tiny_recipe(seed=5)}, {"corpora": [grown]}):
        with pytest.raises(InputError, match=r"model.partial: holds the unfinished run of another request"):
            pretrain.pretrain(**{**request_of, **change})
    assert {path.name: path.read_bytes() for path in (tmp_path / "model.partial").glob("*.*")} == work
    assert not (tmp_path / "model").exists()
    pretrain.pretrain(**request_of)


def test_a_request_that_never_trained_makes_room_for_the_next(request_of, tiny_recipe, tmp_path):
    with pytest.raises(InputError, match="lower `tokens` or add corpora"):
        pretrain.pretrain(**{**request_of, "recipe": tiny_recipe(tokens=10**6)})
    assert (tmp_path / "model.partial" / "stream.npz").exists()
    pretrain.pretrain(**request_of)


def test_two_runs_do_not_write_one_folder(request_of):
    def meanwhile(record, steps):
        with pytest.raises(InputError, match="another run is writing it"):
            pretrain.pretrain(**request_of)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain.pretrain(**request_of, on_step=meanwhile)


def test_refused_before_any_work(request_of, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is a file; name a folder"):
        pretrain.pretrain(**{**request_of, "out": tmp_path / "file"})
    with pytest.raises(DataError, match="no such file or folder"):
        pretrain.pretrain(**{**request_of, "corpora": [tmp_path / "missing.txt"]})
    with pytest.raises(DataError, match="one document at most"):
        pretrain.pretrain(**{**request_of, "corpora": []})
    assert not request_of["out"].exists()


def test_a_foreign_partial_folder_is_left_alone(request_of, tmp_path):
    (tmp_path / "model.partial").mkdir()
    (tmp_path / "model.partial" / "thesis.txt").write_text("x")
    with pytest.raises(InputError, match="holds something else; move it away"):
        pretrain.pretrain(**request_of)
    assert (tmp_path / "model.partial" / "thesis.txt").exists()


def test_the_request_is_compared_as_work_folder_writes_it(request_of, tmp_path):
    """_refuse_another reads what work_folder writes; should their spelling part, it would refuse every resume."""
    request = {"b": [1, 2.5], "a": None}
    with pytest.raises(KeyboardInterrupt), work_folder(tmp_path / "model", request) as work:
        (work / pretrain.CHECKPOINT).touch()
        raise KeyboardInterrupt
    pretrain._refuse_another(tmp_path / "model", request)


SCRIPT = """
import os, signal, sys, itertools
import torch
torch.set_num_threads(1)
from finetune import learner, packing, pretrain, vocabulary
from finetune.pretrain_recipe import PretrainRecipe

corpus, out, recipe, where = sys.argv[1:]
die = lambda: os.kill(os.getpid(), signal.SIGKILL)
ticks = itertools.count()
pretrain.time.monotonic = lambda: float(next(ticks))
pretrain.CHECKPOINT_SECONDS = 2.5
pretrain.shutil.which = lambda name: None
vocabulary.FED, packing._TEXTS_AT_ONCE = 20, 8

def on_step(record, steps):
    if where == f"step {record['step']}":
        with open(out + ".partial/log.jsonl", "a") as log:
            log.write('{"step": ')
            log.flush()
        die()

def half(real, number):
    calls = itertools.count(1)
    def write(*args, **kwargs):
        if next(calls) == number:
            file = args[0] if hasattr(args[0], "write") else open(args[1], "wb")
            file.write(b"half"); file.flush()
            die()
        return real(*args, **kwargs)
    return write

if where == "packing":
    packing.np.savez = half(packing.np.savez, 1)
if where == "checkpoint":
    learner.save_file = half(learner.save_file, 2)
if where == "vocabulary":
    pretrain.wrap = lambda tokenizer: die()
if where == "card":
    pretrain.measure_card = lambda *_, **__: die()
pretrain.pretrain([corpus], out, PretrainRecipe.model_validate_json(recipe), on_step=on_step)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_kill_minus_nine_at_any_moment_changes_nothing(request_of, tmp_path):
    def child(out, where):
        arguments = [request_of["corpora"][0], tmp_path / out, request_of["recipe"].model_dump_json(), where]
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, *map(str, arguments)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stderr

    moments = ["vocabulary", "packing", "step 2", "step 7", "checkpoint", "step 12", "card"]
    for moment in moments:
        code, said = child("killed", moment)
        assert code == -signal.SIGKILL, (moment, said)
        assert not (tmp_path / "killed").exists()
    for out in ("killed", "whole"):
        code, said = child(out, "nowhere")
        assert code == 0, said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["killed", "whole"]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    assert {p.name for p in killed.iterdir()} == {p.name for p in whole.iterdir()}
    weights = [load_file(folder / "model.safetensors") for folder in (killed, whole)]
    assert weights[0].keys() == weights[1].keys()
    assert all(weights[0][name].equal(weights[1][name]) for name in weights[0])
    logs = [json.loads((folder / "pretraining.json").read_text())["log"] for folder in (killed, whole)]
    assert losses(logs[0]) == losses(logs[1])
    assert [step for step, _, _ in losses(logs[0])] == list(range(1, 13))
