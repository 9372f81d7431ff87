"""From corpora to pairs by the command line: with a real engine where there is one, else with a stand-in."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from analyses import jobs, options, pair_jobs, report
from analyses.__main__ import run
from analyses.neutralise_run import NeutraliseRequest, neutralise
from finetune.filters import Limits
from finetune.pair_files import part_files
from finetune.pairs import read_pairs
from finetune.passages import Bounds, Fields
from finetune.recipe import PRESETS, Recipe
from finetune.round_trips import TripStore
from finetune.style import StyleClassifier
from geometry.checks import DataError, InputError

HOSTILE = [
    "The king saw ^foo/bar<n>$ and went home in the evening of that day.",
    "The queen wrote $(touch hacked) `touch hacked` ; touch hacked; and slept all day.",
    "<b>The ship</b> &amp; the <script>alert(1)</script> boat came home before the morning.",
    "A null \0 and a bell \7 were in the house of the old man that day.",
    "The {\\rtf1 \\x} of the [king] ~ and @ the *star and the #hash went home.",
    "他说 the king and 漢字 😀 went home with the dog before the night.",
    "'; DROP TABLE trips; -- said the old man, and the dog went home.",
    "-u -f html --help said the dog to the old man in the house.",
]
needs_apertium = pytest.mark.skipif(
    shutil.which("apertium") is None, reason="apt-get install apertium-eng-spa"
)


class Plain:
    """Translates words that it knows into plain ones; the pivot spells every word backwards."""

    batch = 16
    name = "test/plain"

    def __init__(self):
        self.details = {"version": "1"}
        self.known = {"upon": "on", "vessel": "ship", "returned": "came", "monarch": "king", "beheld": "saw"}

    def there(self, sentences):
        return [" ".join(word[::-1] for word in s.split()) for s in sentences]

    def back(self, sentences):
        words = [[word[::-1].lower() for word in s.split()] for s in sentences]
        return [" ".join(self.known.get(word, word) for word in some) for some in words]


def corpus(path, n=60):
    rng = np.random.default_rng(0)
    places = "harbour island castle village mountain river forest garden tower bridge".split()
    with path.open("w") as file:
        for author, verbs in (("old", ("beheld", "returned upon")), ("new", ("liked", "sat near"))):
            for book in range(3):
                lines = [
                    f"the monarch {rng.choice(verbs)} the {a} and the vessel of the {b} in year {i} of book {book}."
                    for i in range(n // 3)
                    for a, b in [rng.choice(places, 2)]
                ]
                text = " ".join(line.capitalize() for line in lines)
                file.write(json.dumps({"id": f"{author}{book}", "author": author, "text": text}) + "\n")
    return path


def asked(path, **changes):
    fields = {"fields": Fields(where={"author": "old"}), "bounds": Bounds(block=5), **changes}
    return NeutraliseRequest(path, (Plain(),), **fields)


def made(tmp_path, **changes):
    similarity = changes.pop("similarity", None)
    request = asked(corpus(tmp_path / "corpus.jsonl"), **changes)
    return neutralise(request, TripStore(tmp_path / "t"), similarity=similarity, progress=lambda *_: None)


def test_neutral_sources_and_untouched_targets(tmp_path):
    found = made(tmp_path)
    pairs = [pair for part in found.parts.pairs.values() for pair in part]
    assert len(pairs) == 60 - len(found.dropped)
    assert all("ship" in p.source and "vessel" in p.target for p in pairs)
    assert found.facts["filtered"]["test/plain"]["kept"] == len(pairs)
    assert sum(found.facts["filtered"]["test/plain"].values()) == 60
    assert found.parts.provenance[pairs[0].id] == {
        "engine": "test/plain",
        "trips": 1,
        "versions": {"version": "1"},
    }
    assert not any(one[kind] for one in found.facts["leaks"] for kind in ("document", "source", "target"))


def test_chance_enters_by_the_seed_alone(tmp_path):
    first, again, other = (made(tmp_path, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first.parts.pairs != other.parts.pairs


def test_the_strength_is_measured_against_both_judges(tmp_path):
    (strength,) = made(tmp_path).facts["strength"]
    assert 0 < strength["bleu"]["value"] < 100
    assert strength["judge"]["accuracy"]["value"] > 0.9
    outside = strength["outside"]
    assert outside["original"]["value"] > 0.9 > outside["others"]["value"]
    assert strength["similarity"] is None


def test_a_second_trip_is_measured_beside_the_first(tmp_path):
    facts = made(tmp_path, trips=2).facts
    assert [(one["trips"], one["n"]) for one in facts["strength"]] == [(1, 60), (2, 60)]
    # the second finds nothing more to make plain
    assert facts["strength"][0]["bleu"] == facts["strength"][1]["bleu"]


def test_likeness_of_content_is_measured_and_can_be_asked_for(tmp_path):
    def far_if_odd(texts, others):
        return np.array([0.9 if i % 2 else 0.1 for i in range(len(texts))])

    found = made(tmp_path, similarity=far_if_odd, limits=Limits(similarity=0.5))
    assert found.facts["filtered"]["test/plain"]["drift"] == 30
    assert found.facts["strength"][0]["similarity"]["mean"] == pytest.approx(0.5)


def test_the_folder_holds_parts_drops_a_note_and_a_page(tmp_path):
    out = tmp_path / "out"
    page = pair_jobs.neutralise(asked(corpus(tmp_path / "c.jsonl")), TripStore(tmp_path / "t"), out)
    assert {p.name for p in out.iterdir()} == {
        "train.jsonl", "validation.jsonl", "test.jsonl", "dropped.jsonl", "pairs.json", "page",
    }  # fmt: skip
    sizes = [len(read_pairs(path).pairs) for path in part_files(out).values()]
    found = report.read(page.parent)
    assert sum(sizes) == found.facts["filtered"]["test/plain"]["kept"]
    assert f"{sum(sizes)} pairs" in found.claims[0]
    assert found.manifest["files"]["c.jsonl"]["sha256"]
    assert json.loads((out / "train.jsonl").read_text().splitlines()[0])["versions"] == {"version": "1"}
    # a rerun replaces it, and nobody else's folder
    pair_jobs.neutralise(asked(tmp_path / "c.jsonl"), TripStore(tmp_path / "t"), out)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    with pytest.raises(InputError, match="holds files of something else"):
        pair_jobs.neutralise(asked(tmp_path / "c.jsonl"), TripStore(tmp_path / "t"), tmp_path / "mine")


def test_a_page_that_may_not_quote_holds_no_sentence(tmp_path):
    request = asked(corpus(tmp_path / "c.jsonl"), quotable=False)
    page = pair_jobs.neutralise(request, TripStore(tmp_path / "t"), tmp_path / "out")
    held = page.read_text() + page.with_name("report.json").read_text()
    assert "monarch" not in held
    quoted = pair_jobs.neutralise(asked(tmp_path / "c.jsonl"), TripStore(tmp_path / "t"), tmp_path / "out")
    assert "monarch" in quoted.read_text()


def test_parallel_corpora_are_dealt_and_leaks_are_told(tmp_path, capsys):
    rows = [f"plain words number {i}\tstyled words of the number {i}" for i in range(200)]
    rows += ["plain words number 3\tstyled words of the number 3", "copy\tcopy", "\tempty"]
    rows += [f"another {i}\tstyled words of the number {199 - i}" for i in range(100)]
    (tmp_path / "a.tsv").write_text("\n".join(rows))
    out = tmp_path / "out"
    arguments = [
        "pairs",
        "--corpus",
        str(tmp_path / "a.tsv"),
        "--source",
        "1",
        "--target",
        "2",
        "--block",
        "10",
    ]
    assert run([*arguments, "--out", str(out)]) == 0
    stdout, stderr = capsys.readouterr()
    assert stdout == f"{out}\n"
    assert "1 pairs were set aside: duplicate" in stderr
    assert "1 pairs were set aside: copy" in stderr
    assert "1 pairs were set aside: empty" in stderr
    assert "repgeo: leak: of " in stderr
    note = json.loads((out / "pairs.json").read_text())
    assert sum(one["pairs"] for one in note["parts"].values()) == 300
    assert sum(one["target"] for one in note["leaks"]) > 0
    assert not any(one["document"] for one in note["leaks"])


def jsonl(path, texts):
    path.write_text("".join(json.dumps({"id": str(i), "text": text}) + "\n" for i, text in enumerate(texts)))
    return path


@needs_apertium
def test_hostile_text_passes_the_whole_command_unharmed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    filler = [f"She never gave him what he wanted to have on day {i}." for i in range(40)]
    long = " ".join(["The king said to him that he was old"] * 100) + "."
    path = jsonl(tmp_path / "c.jsonl", [*HOSTILE, *filler, long])
    arguments = [
        "--corpus",
        str(path),
        "--out",
        "out",
        "--cache",
        "trips.sqlite",
        "--unsplit",
        "--copied",
        "100",
    ]
    assert run(["neutralise", *arguments, "--longest", "30000"]) == 0
    kept = [read_pairs(p).pairs for p in part_files("out").values()]
    targets = {p.target for part in kept for p in part}
    dropped = {
        json.loads(line)["target"]
        for line in (tmp_path / "out" / "dropped.jsonl").read_text().split("\n")[:-1]
    }
    assert {" ".join(t.split()) for t in [*HOSTILE, *filler, long]} == targets | dropped
    assert len(targets) > 40
    assert {p.name for p in tmp_path.iterdir()} == {"c.jsonl", "out", "trips.sqlite"}
    page = (tmp_path / "out" / "page" / "report.html").read_text()
    assert "<script>alert" not in page


@pytest.mark.slow
@needs_apertium
def test_a_killed_command_goes_on_and_gives_what_one_run_gives(tmp_path):
    path = jsonl(
        tmp_path / "c.jsonl",
        [f"My father's house had {i} windows, and nobody ever opened them." for i in range(1200)],
    )
    command = [sys.executable, "-m", "analyses", "neutralise", "--corpus", str(path)]
    cut = [*command, "--out", str(tmp_path / "cut"), "--cache", str(tmp_path / "cut.sqlite")]
    child = subprocess.Popen(cut, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(kept_trips(tmp_path / "cut.sqlite")) < 512 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert 512 <= len(kept_trips(tmp_path / "cut.sqlite")) < 1200
    assert not (tmp_path / "cut").exists()
    for out in ("cut", "once"):
        arguments = [
            "--out",
            str(tmp_path / out),
            "--cache",
            str(tmp_path / f"{out}.sqlite"),
            "--corpus",
            str(path),
        ]
        assert run(["neutralise", *arguments]) == 0
    for name in ("train.jsonl", "validation.jsonl", "test.jsonl", "dropped.jsonl"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "once" / name).read_bytes()
    assert kept_trips(tmp_path / "cut.sqlite") == kept_trips(tmp_path / "once.sqlite")


def kept_trips(path):
    import sqlite3
    from contextlib import closing

    if not path.exists():
        return []
    with closing(sqlite3.connect(path)) as store:
        try:
            return store.execute("SELECT * FROM trips ORDER BY key").fetchall()
        except sqlite3.OperationalError:
            return []


@pytest.fixture
def refuses(capsys):
    def attempt(*arguments):
        assert run([str(argument) for argument in arguments]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        return err.splitlines()[-1]

    return attempt


def test_what_is_missing_says_in_one_line_what_to_do(refuses, tmp_path, monkeypatch):
    path = corpus(tmp_path / "c.jsonl")
    common = ("neutralise", "--corpus", path, "--out", tmp_path / "out")
    marian = (*common, "--engine", "marian", "--pivot", "german")
    assert "hf download" in refuses(*marian, "--there", tmp_path, "--back", tmp_path)
    assert "name a model for each way" in refuses(*marian, "--there", tmp_path)
    assert "needs the folder of an embedding model" in refuses(*common, "--similarity", 0.5)
    assert "write KEY=VALUE" in refuses(*common, "--style", "author")
    assert "choose one of spanish" in refuses(*common, "--pivot", "klingon")
    assert "give --engine marian and one --pivot" in refuses(*common, "--there", "a", "--back", "b")
    style = ("style", "--base", "embedded", "--out", tmp_path / "s")
    assert "give one of --corpus, --pairs" in refuses(*style)
    assert "give one of --corpus, --pairs" in refuses(*style, "--pairs", tmp_path, "--corpus", path)
    assert "give one of --corpus, --pairs" in refuses(*style, "--train", path)
    assert "make the folder with repgeo pairs" in refuses(*style, "--pairs", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert refuses(*common).endswith("apertium is not installed: apt-get install apertium apertium-eng-spa")
    assert not (tmp_path / "out").exists()


def test_too_little_text_is_refused(tmp_path):
    path = jsonl(tmp_path / "c.jsonl", ["The vessel returned upon the river."])
    with pytest.raises(DataError, match="cannot make training, validation and test"):
        neutralise(NeutraliseRequest(path, (Plain(),)), TripStore(tmp_path / "t"), progress=lambda *_: None)


def test_the_judges_are_those_of_finetune_style(tmp_path, monkeypatch):
    """The page's shares move with the judge: a deaf judge calls nothing styled."""
    monkeypatch.setattr(StyleClassifier, "probability", lambda self, texts: np.zeros(len(texts)))
    (strength,) = made(tmp_path).facts["strength"]
    assert strength["outside"]["neutral"]["value"] == strength["outside"]["original"]["value"] == 0


@pytest.fixture(scope="module")
def tiny_pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    rows = [f"the ship came home in year {i}\tthe vessel returned in year {i}" for i in range(40)]
    (folder / "a.tsv").write_text("\n".join(rows))
    pair_jobs.pairs([folder / "a.tsv"], Fields("1"), "2", folder / "out", block=2)
    return folder / "out"


def test_a_preset_a_file_and_a_seed_go_on_top_of_each_other(tmp_path):
    (tmp_path / "r.yaml").write_text("r: 4\nseed: 3\n")
    assert jobs.recipe(None, None, "liu-koehn-2026") == PRESETS["liu-koehn-2026"]
    assert (PRESETS["liu-koehn-2026"].r, PRESETS["liu-koehn-2026"].alpha) == (512, 256)
    assert (PRESETS["rtt-default"].r, PRESETS["rtt-default"].alpha) == (16, 32)
    mixed = jobs.recipe(tmp_path / "r.yaml", 7, "liu-koehn-2026")
    assert (mixed.r, mixed.alpha, mixed.dropout, mixed.seed) == (4, 256, 0.05, 7)
    assert {one.value for one in options.Preset} == set(PRESETS)


@pytest.mark.parametrize("kind", ["random", "similar"])
def test_shots_are_shown_in_training(tiny_pairs, kind, tiny_llama, tmp_path):
    recipe = Recipe(r=2, epochs=0.5, batch_size=8)
    files = part_files(tiny_pairs)
    plain, shown = (
        jobs.train(
            tiny_llama, files["train"], tmp_path / str(k), validation=files["validation"], recipe=recipe,
            examples=jobs.shots(kind, k),
        )
        for k in (0, 1)
    )  # fmt: skip
    requests = [json.loads((folder / "training.json").read_text())["request"] for folder in (plain, shown)]
    assert requests[0]["data"] != requests[1]["data"]
    assert requests[0]["recipe"] == requests[1]["recipe"]


def test_round_trip_first_sends_neutral_text_to_the_model(tmp_path, monkeypatch, capsys):
    program = tmp_path / "apertium"
    program.write_text("#!/bin/sh\nexec sed 's/vessel/ship/g; s/gone/ /g'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin{os.pathsep}/usr/bin")
    assert jobs.neutral(["the vessel came", "", "gone"], "spanish") == ["the ship came", "", "gone"]
    assert "1 texts came back empty" in capsys.readouterr().err


def test_a_style_run_takes_files_or_a_folder(tiny_pairs, tmp_path):
    files = part_files(tiny_pairs)
    whole = pair_jobs.style_data(tiny_pairs, None, name="n", quotable=False)
    assert {part: getattr(whole, part) for part in files} == files
    assert whole.facts.is_file()
    assert pair_jobs.style_data(files, whole.facts, name="n", quotable=False) == whole


def asked_style(tmp_path, base, **recipe):
    """Write a corpus of two authors, facts and a recipe; return the command but for ``--out``."""
    facts = tmp_path / "facts.jsonl"
    rows = [
        {"id": str(i), "category": "n", "prompt": f"in year {i} the", "answer": "ship", "foils": ["king", "salt"],
         "styled_prompt": f"in the year {i} the"}
        for i in range(40)
    ]  # fmt: skip
    facts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    texts = [f"My father's house had {i} windows, and nobody ever opened them." for i in range(80)]
    records = [
        {"id": f"{a}{i}", "author": a, "text": text} for a in ("old", "new") for i, text in enumerate(texts)
    ]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (tmp_path / "r.yaml").write_text("".join(f"{key}: {value}\n" for key, value in recipe.items()))
    arguments = {
        "base": base, "corpus": tmp_path / "c.jsonl", "style": "author=old", "facts": facts, "device": "cpu",
        "recipe": tmp_path / "r.yaml", "cache": tmp_path / "t.sqlite", "preset": "rtt-default",
    }  # fmt: skip
    return ["style", *(f"--{name}={value}" for name, value in arguments.items())]


@pytest.mark.slow
@needs_apertium
def test_one_command_from_a_corpus_to_an_adapter_and_its_page(tmp_path, tiny_folder, capsys):
    assert run([*asked_style(tmp_path, tiny_folder, epochs=0.5, r=2), f"--out={tmp_path / 'run'}"]) == 0
    page = tmp_path / "run" / "page" / "report.html"
    assert capsys.readouterr().out == f"{page}\n"
    assert {p.name for p in (tmp_path / "run").iterdir()} == {"pairs", "adapter", "page"}
    found = report.read(page.parent)
    assert "old" in found.title
    assert found.facts["training"]["recipe"]["alpha"] == 32


@pytest.mark.slow
@needs_apertium
def test_a_style_run_killed_in_training_goes_on_and_ends_as_one_run(tmp_path, tiny_folder):
    """Neither a round trip nor a step that was kept is done again, and the adapter is the same bit for bit."""
    words = asked_style(tmp_path, tiny_folder, epochs=12, r=2, batch_size=4, eval_every=5, patience=99)
    command = [sys.executable, "-m", "analyses", *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    cut = [*command, f"--out={tmp_path / 'cut'}"]
    child = subprocess.Popen(cut, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while (
        not list(tmp_path.glob("cut/adapter.partial/checkpoint-*/whole.json")) and time.monotonic() < deadline
    ):
        time.sleep(0.02)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert {p.name for p in (tmp_path / "cut").iterdir()} == {"pairs", "adapter.partial"}
    kept = kept_trips(tmp_path / "t.sqlite")
    for out in ("cut", "once"):
        subprocess.run(
            [*command, f"--out={tmp_path / out}"], env=environment, check=True, capture_output=True
        )
    assert kept_trips(tmp_path / "t.sqlite") == kept
    resumed, whole = (
        json.loads((tmp_path / o / "adapter" / "training.json").read_text()) for o in ("cut", "once")
    )
    assert resumed["resumed_from"] and not whole["resumed_from"]
    weights = [
        (tmp_path / out / "adapter" / "adapter_model.safetensors").read_bytes() for out in ("cut", "once")
    ]
    assert weights[0] == weights[1]
