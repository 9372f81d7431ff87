"""The commands as a person meets them: what is on standard output, what on standard error, which exit code."""

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from analyses import terminal
from analyses.__main__ import quiet_libraries, run
from finetune.folders import sha256_file

PLAIN = ("the ship came home", "on Monday the king asked", "she wrote three letters", "he is glad to see you")
STYLED = (
    "the vessel returned",
    "upon Monday did the king ask",
    "three letters wrote she",
    "he rejoices in thee",
)


def jsonl(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(scope="module")
def pairs(place):
    records = [
        {
            "id": str(i),
            "doc_id": f"d{i // 2}",
            "source": f"{PLAIN[i % 4]} {i}",
            "target": f"{STYLED[i % 4]} {i}",
        }
        for i in range(32)
    ]
    return jsonl(place / "pairs.jsonl", records)


@pytest.fixture(scope="module")
def facts(place):
    records = [{"id": str(i), "text": f"{STYLED[i % 4]}, and {PLAIN[i % 3]} in year {i}"} for i in range(12)]
    return jsonl(place / "facts.jsonl", records)


@pytest.fixture(scope="module")
def base(tiny_folder):
    return ["--base", str(tiny_folder), "--device", "cpu"]


@pytest.fixture(scope="module")
def trained(base, pairs, place):
    recipe = place / "recipe.yaml"
    recipe.write_text("epochs: 2\nbatch_size: 8\nlr: 0.02\nr: 2\n")
    out = place / "adapter"
    code = run([
        "train",
        *base,
        "--pairs",
        str(pairs),
        "--out",
        str(out),
        "--recipe",
        str(recipe),
        "--seed",
        "3",
    ])
    assert code == 0
    return out


@pytest.fixture
def refuses(capsys):
    """Run a command that must be refused; give its one line."""

    def attempt(*arguments):
        assert run([str(argument) for argument in arguments]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        last = err.splitlines()[-1]
        assert last.startswith("repgeo: error: ")
        assert "Traceback" not in err
        return last

    return attempt


def test_training_leaves_a_peft_folder_with_its_loss_curve(trained):
    files = {path.name for path in trained.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "loss_curve.svg", "loss_curve.png"} <= files
    assert json.loads((trained / "training.json").read_text())["recipe"]["seed"] == 3
    assert "validation" in (trained / "loss_curve.svg").read_text()


def test_training_prints_the_folder_and_keeps_the_rest_off_standard_output(
    base, trained, pairs, tmp_path, capsys
):
    held_out = tmp_path / "held-out.jsonl"
    record = {"id": "a", "doc_id": "z", "source": "x y", "target": "z"}
    jsonl(held_out, [record, {**record, "id": "b"}])
    out = tmp_path / "adapter"
    recipe = tmp_path / "r.yaml"
    recipe.write_text("epochs: 1\nr: 2\n")
    files = ["--pairs", str(pairs), "--validation", str(held_out), "--recipe", str(recipe)]
    code = run(["train", *base, *files, "--out", str(out)])
    stdout, stderr = capsys.readouterr()
    assert (code, stdout) == (0, f"{out}\n")
    assert "held-out.jsonl, line 2: set aside" in stderr
    assert "validation loss" in stderr
    assert json.loads((out / "training.json").read_text())["n_valid"] == 1


def test_transfer_writes_one_line_for_each_input_line_and_nothing_else(base, trained, tmp_path, capsys):
    lines = ["the ship came home", "", "she wrote\u2028three letters", "he is glad"]
    (tmp_path / "in.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    arguments = ["transfer", *base, "--adapter", str(trained), "--max-new-tokens", "5"]
    assert run([*arguments, "--input", str(tmp_path / "in.txt")]) == 0
    out, err = capsys.readouterr()
    written = out.split("\n")
    assert len(written) == len(lines) + 1 and written[-1] == ""
    assert written[1] == ""
    assert "1 blank line stays blank" in err
    assert run([*arguments, lines[0]]) == 0
    assert capsys.readouterr().out == written[0] + "\n"


def test_sampling_follows_its_seed(base, trained, capsys):
    said = []
    for seed in ("1", "1", "2"):
        arguments = ["transfer", *base, "--adapter", str(trained), "--sample", "--seed", seed, "the ship"]
        assert run([*arguments, "--max-new-tokens", "20", "--temperature", "1.5"]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] != said[2]


def test_transfer_reads_standard_input(base, trained, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("one ship\ntwo ships"))
    arguments = ["transfer", *base, "--adapter", str(trained), "--input", "-", "--max-new-tokens", "2"]
    assert run(arguments) == 0
    assert capsys.readouterr().out.count("\n") == 2


@pytest.fixture(scope="module")
def diffed(base, trained, pairs, facts):
    return [
        "diff", *base, "--adapter", str(trained), "--texts", f"style={pairs}", "--texts", f"fact={facts}",
        "--k", "2", "--layers", "0,2",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def page(diffed, place):
    """The page of a diff, and what its command wrote to standard output and standard error."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        assert run([*diffed, "--out", str(place / "page")]) == 0
    return place / "page" / "report.html", out.getvalue(), err.getvalue()


def test_diff_ends_with_the_path_of_its_page(page):
    path, out, err = page
    assert out.splitlines()[-1] == str(path)
    assert "repgeo: comparing" in err


def test_a_page_says_what_was_compared_with_what(page, trained, pairs):
    report = json.loads(page[0].with_name("report.json").read_text())
    made = report["manifest"]
    assert report["title"].startswith("What adapter changes in ")
    assert made["layers"] == report["facts"]["layers"] == [0, 2]
    assert made["files"]["style"] == {"path": str(pairs), "sha256": sha256_file(pairs)}
    assert made["adapter"]["sha256"] == sha256_file(trained / "adapter_model.safetensors")
    assert (made["dtype"], made["random_adapters"], made["weights"]) == ("float32", 8, "raw")


def test_diff_prints_its_json_and_a_rerun_lands_on_itself(diffed, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    quick = [*diffed[:-1], "1", "--random-adapters", "0"]
    assert run([*quick, "--json"]) == 0
    (path,) = tmp_path.glob("results/diff/*/report.html")
    assert json.loads(capsys.readouterr().out) == json.loads(path.with_name("report.json").read_text())
    assert len(path.parent.name) == 12
    assert run(quick) == 0
    assert capsys.readouterr().out == f"{path.relative_to(tmp_path)}\n"


def test_a_diff_may_be_sketched_and_may_hold_no_sentence(diffed, tmp_path, capsys):
    sparing = [*diffed[:-1], "1", "--random-adapters", "0", "--exact-width", "16", "--k", "2", "--no-quote"]
    assert run([*sparing, "--out", str(tmp_path / "run"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["facts"]["exact"] is False
    assert (report["manifest"]["quotable"], report["manifest"]["exact_width"]) == (False, 16)
    shown = [t for r in report["facts"]["tokens"] for side in ("up", "down", "control") for t in r[side]]
    assert shown
    assert {token["before"] for token in shown} == {""}


def test_redraw_prints_the_page(page, tmp_path, capsys):
    folder = shutil.copytree(page[0].parent, tmp_path / "page")
    (folder / "report.html").unlink()
    assert run(["redraw", str(folder)]) == 0
    assert capsys.readouterr().out == f"{folder / 'report.html'}\n"
    assert (folder / "report.html").read_bytes() == page[0].read_bytes()


def test_the_demo_is_the_style_job_on_what_is_shipped(tmp_path, capsys, monkeypatch):
    """The job itself is tested in test_style_run; here, that the demo hands it the shipped model and data."""
    from analyses import style_run
    from analyses.demo import RECIPE
    from analyses.report import Report
    from geometry.live import models

    asked = []

    def fake(base, data, recipe, out, *, watch, seed=0):
        asked.append((base, data, recipe, out))
        watch.progress("reading style", 0.5)
        return style_run.StyleResult(Report("style", "a title", ("a claim",)), {})

    monkeypatch.setattr(models, "load", lambda name, **settings: name)
    monkeypatch.setattr(style_run, "style_run", fake)
    assert run(["demo", "--out", str(tmp_path / "run")]) == 0
    out, err = capsys.readouterr()
    assert out == f"{tmp_path / 'run' / 'page' / 'report.html'}\n"
    assert "style: 50 %, reading style" in err
    assert asked == [("embedded", style_run.ORNATE, RECIPE, tmp_path / "run")]


def test_pretraining_draws_its_loss_curve(tmp_path, capsys, monkeypatch):
    import finetune.pretrain

    seen = {}

    def fake(corpora, out, recipe, *, engine, on_step):
        seen.update(corpora=corpora, layers=recipe.layers, engine=engine)
        on_step({"step": 1, "loss": 9.0, "tokens": 10, "seconds": 1.0}, 2)
        log = [{"step": i, "loss": 9.0 - i, "tokens": 10 * i} for i in (1, 2)]
        log[-1]["held_out"] = 7.5
        out.mkdir()
        (out / "pretraining.json").write_text(json.dumps({"log": log}))
        return out

    monkeypatch.setattr(finetune.pretrain, "pretrain", fake)
    (tmp_path / "r.yaml").write_text("layers: 2\n")
    out = tmp_path / "model"
    arguments = [
        "pretrain",
        "--corpus",
        "a",
        "--corpus",
        "b",
        "--out",
        str(out),
        "--recipe",
        str(tmp_path / "r.yaml"),
    ]
    assert run(arguments) == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert seen == {"corpora": ["a", "b"], "layers": 2, "engine": None}
    assert "best: 7.50 at tokens 20" in (out / "loss_curve.svg").read_text()


def test_wrong_words_get_the_nearest_right_one(refuses):
    assert "'dif'" in refuses("dif") and "'diff'" in refuses("dif")
    assert "--layers" in refuses("diff", "--layrs", "3")
    assert "'--base'" in refuses("train")
    assert "'--batch-size'" in refuses("transfer", "--base", "x", "--adapter", "y", "--batch-size", "0")
    assert "spanish" in refuses("pretrain", "--corpus", "x", "--out", "y", "--round-trip", "klingon")


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["style.jsonl"], "write NAME=PATH"),
        (["a style=x"], "in letters and digits"),
        (["style=none.jsonl"], "there is no file none.jsonl"),
        (["style={facts}", "style={facts}"], "the name style is taken"),
    ],
)
def test_groups_of_texts_are_checked_before_anything_is_loaded(texts, message, facts, refuses):
    options = [part for text in texts for part in ("--texts", text.format(facts=facts))]
    assert message in refuses("diff", "--base", "nowhere", "--adapter", "nowhere", *options)


def test_bad_layers_are_refused(diffed, refuses, tmp_path):
    given = [*diffed[:-1], "0,x", "--out", tmp_path / "page"]
    assert "--layers 0,x: write block numbers" in refuses(*given)
    assert "this model has 0 to 2" in refuses(*diffed[:-1], "7", "--out", tmp_path / "page")
    assert not (tmp_path / "page").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        ("", "holds no pair"),
        ("{", "line 1: not JSON"),
        ('{"id": "1", "doc_id": "1", "source": "a"}', 'the key "target" is missing'),
    ],
)
def test_bad_pairs_are_refused(content, message, base, tmp_path, refuses):
    path = tmp_path / "pairs.jsonl"
    if content is not None:
        path.write_text(content)
    assert message in refuses("train", *base, "--pairs", path, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot be read"), ("a: [", "is not YAML"), ("rank: 3", "rank: "), ("r: 0", "r: ")],
)
@pytest.mark.parametrize("command", ["train", "pretrain"])
def test_bad_recipes_are_refused(command, content, message, base, pairs, tmp_path, refuses):
    path = tmp_path / "recipe.yaml"
    if content is not None:
        path.write_text(content.replace("r: 0", "layers: 0") if command == "pretrain" else content)
    inputs = [*base, "--pairs", pairs] if command == "train" else ["--corpus", pairs]
    said = refuses(command, *inputs, "--out", tmp_path / "out", "--recipe", path)
    assert (
        message.replace("r: ", "layers: ") in said
        if content == "r: 0" and command == "pretrain"
        else message in said
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either a text or --input"),
        (["a text", "--input", "-"], "give either a text or --input"),
        (["--input", "none.txt"], "cannot be read"),
        (["--input", "{empty}"], "holds no text"),
        (["--input", "{latin}"], "is not UTF-8 (byte 0)"),
        (["the ship", "--sample", "--temperature", "0"], "temperature must be above 0"),
        (["word " * 200], "text 1"),
    ],
)
def test_bad_texts_to_rewrite_are_refused(arguments, message, base, trained, tmp_path, refuses):
    places = {"empty": tmp_path / "empty.txt", "latin": tmp_path / "latin.txt"}
    places["empty"].write_text("\n\n")
    places["latin"].write_bytes("Übung".encode("latin-1"))
    given = [argument.format(**places) for argument in arguments]
    assert message in refuses("transfer", *base, "--adapter", trained, *given)


def test_models_and_adapters_that_do_not_fit_are_refused(base, trained, tiny_folders, tmp_path, refuses):
    other = ["--base", str(tiny_folders("qwen2")), "--device", "cpu"]
    assert "was trained on another base" in refuses("transfer", *other, "--adapter", trained, "the ship")
    assert "no such adapter folder" in refuses("transfer", *base, "--adapter", tmp_path / "none", "the ship")
    missing = ["--base", str(tmp_path / "no-model")]
    assert str(tmp_path / "no-model") in refuses("transfer", *missing, "--adapter", trained, "the ship")
    wrong = refuses("transfer", *base, "--dtype", "float33", "--adapter", trained, "the ship")
    assert "float33" in wrong


def test_weights_that_are_not_finite_are_refused(trained, base, tmp_path, refuses):
    broken = tmp_path / "broken"
    shutil.copytree(trained, broken)
    weights = load_file(broken / "adapter_model.safetensors")
    weights[next(iter(weights))].fill_(torch.nan)
    save_file(weights, broken / "adapter_model.safetensors")
    assert "NaN" in refuses("transfer", *base, "--adapter", broken, "the ship")


def test_a_folder_of_something_else_is_refused_before_the_model_is_read(
    diffed, base, pairs, tmp_path, refuses
):
    (tmp_path / "thesis.tex").write_text("years of work")
    given = ["--adapter", "nowhere", "--texts", f"style={pairs}", "--out", tmp_path]
    assert "holds files of something else" in refuses("diff", "--base", "nowhere", *given)
    (tmp_path / "file").write_text("")
    assert "is a file" in refuses(*diffed, "--out", tmp_path / "file")
    assert "is a file" in refuses("train", *base, "--pairs", pairs, "--out", tmp_path / "file")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a place that nobody can write")
def test_a_place_that_cannot_be_written_is_refused(diffed, refuses):
    assert "cannot be written" in refuses(*diffed, "--out", "/proc/self/page")


def test_redrawing_what_is_no_run_is_refused(tmp_path, refuses):
    assert "holds no report.json" in refuses("redraw", tmp_path)


def test_our_own_bugs_are_not_dressed_up_as_user_errors(tmp_path, monkeypatch):
    from analyses import report

    monkeypatch.setattr(report, "redraw", lambda folder: int("x"))
    with pytest.raises(ValueError, match="invalid literal"):
        run(["redraw", str(tmp_path)])


def test_interrupting_ends_in_one_line_with_130(tmp_path, monkeypatch, capsys):
    from analyses import report

    def interrupted(folder):
        raise KeyboardInterrupt

    monkeypatch.setattr(report, "redraw", interrupted)
    assert run(["redraw", str(tmp_path)]) == 130
    assert capsys.readouterr() == ("", "repgeo: interrupted\n")


def test_a_real_interrupt_ends_in_one_line(tmp_path):
    fifo = tmp_path / "report.json"
    os.mkfifo(fifo)
    code = (
        "import signal, sys; from pathlib import Path; from analyses import report;"
        "from analyses.__main__ import main;"
        # shells start background jobs, and so perhaps CI, with the interrupt ignored
        "signal.signal(signal.SIGINT, signal.default_int_handler);"
        "Path.is_file = lambda self: True; print('ready', flush=True); sys.argv[1:] = ['redraw', sys.argv[1]]; main()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.5)  # it now waits for somebody to write into the pipe
        process.send_signal(signal.SIGINT)
        try:
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, out, err) == (130, "", "repgeo: interrupted\n")


def test_a_reader_that_goes_away_is_met_with_silence():
    code = (
        "import sys; from analyses import report; from analyses.__main__ import main;"
        "report.redraw = lambda folder: 'x' * 10_000_000; sys.argv[1:] = ['redraw', '.']; main()"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.read(1) == b"x"
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(timeout=30) == 1
    process.stderr.close()


def test_libraries_are_quiet_unless_the_environment_asks(monkeypatch):
    monkeypatch.setattr(os, "environ", {"TRANSFORMERS_VERBOSITY": "info"})
    monkeypatch.setattr("warnings.simplefilter", lambda action: None)
    quiet_libraries()
    assert os.environ["TRANSFORMERS_VERBOSITY"] == "info"
    assert os.environ["TOKENIZERS_PARALLELISM"] == "false"


def test_plain_progress_says_when_it_will_end_and_is_not_a_flood(capsys, monkeypatch):
    clock = iter(range(0, 1000, 3))
    monkeypatch.setattr(terminal.time, "monotonic", lambda: float(next(clock)))
    with terminal.watched("reading") as show:
        for share in (0.5, 0.6, 0.7, 0.8, 0.9, 0.1):
            show("texts", share)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "repgeo: reading: 50 %, texts"
    assert lines[1].startswith("repgeo: reading: 70 %, texts, ") and lines[1].endswith(" left")
    assert lines[-1] == "repgeo: reading: 10 %, texts"
    assert len(lines) < 6


def test_a_bar_is_drawn_where_somebody_watches(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm-256color")
    with terminal.watched("reading") as show:
        show("style texts", 0.25)
    assert "style texts" in screen.getvalue()
    assert "25%" in screen.getvalue()


def test_many_refusals_are_counted(capsys):
    from finetune.pairs import Refused

    terminal.refusals("f.jsonl", [Refused(i, "empty line") for i in range(1, 9)])
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "repgeo: f.jsonl, line 1: set aside, empty line"
    assert lines[-1] == "repgeo: f.jsonl: 3 more lines were set aside"
