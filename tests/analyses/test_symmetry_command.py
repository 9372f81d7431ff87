"""repgeo symmetry as a person meets it: texts or counts in, one page out, one line where something is wrong."""

import contextlib
import io
import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from analyses import symmetry_corpus, symmetry_held, symmetry_report
from analyses.__main__ import run
from analyses.concepts import load
from analyses.page import alternative
from analyses.report import read
from analyses.symmetry_counts import spelled
from geometry.checks import DataError

LINE = "about: Words along a line.\ntopology: line\nitems: [ash, birch, cedar, elm, fir, larch, maple, oak, pine]\n"
GLOBE = """about: Words on a globe.
topology: sphere
coordinates: {Alba: [60, 10], Brun: [50, 5], Cora: [40, -5], Doro: [-30, 20], Esme: [-35, 25], Fina: [-25, 30],
  Gala: [30, 120], Hilo: [35, 135], Iona: [25, 110], Jura: [40, -100]}
"""
TEMPLATES = "{}\nit was {}\nthe king came in {} again\n"


def written(layout, words, rng, n):
    """Documents in which two words that lie near each other stand side by side."""
    near = np.exp(-3 * layout.distance / layout.distance.max())
    np.fill_diagonal(near, 0)
    filler = ["and"] * 20
    texts = []
    for _ in range(n):
        first = rng.integers(len(words))
        second = rng.choice(len(words), p=near[first] / near[first].sum())
        texts.append(" ".join([words[first], words[second], *filler]))
    return texts


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("symmetry")
    (place / "trees.yaml").write_text(LINE)
    (place / "towns.yaml").write_text(GLOBE)
    (place / "templates.txt").write_text(TEMPLATES)
    rng, texts = np.random.default_rng(0), []
    for name in ("weekdays", place / "trees.yaml", place / "towns.yaml"):
        concept = load(str(name))
        texts += written(concept.layout, concept.items, rng, 1500)
    rng.shuffle(texts)
    (place / "corpus.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return place


@pytest.fixture(scope="module", autouse=True)
def fewer_shuffles():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(symmetry_held, "DRAWS", 199)
        patch.setattr(symmetry_corpus, "RESAMPLES", 40)
        yield


def concepts(place, *names):
    known = {"trees": str(place / "trees.yaml"), "towns": str(place / "towns.yaml")}
    return [part for name in names for part in ("--concept", known.get(name, name))]


@pytest.fixture(scope="module")
def corpus_alone(place):
    out = place / "alone"
    arguments = ["symmetry", "--corpus", str(place / "corpus.jsonl"), "--out", str(out)]
    with (
        contextlib.redirect_stdout(io.StringIO()) as printed,
        contextlib.redirect_stderr(io.StringIO()) as told,
    ):
        assert run([*arguments, *concepts(place, "weekdays", "trees", "towns")]) == 0
    return out, printed.getvalue(), told.getvalue()


@pytest.fixture(scope="module")
def with_model(place, corpus_alone, tiny_folder):
    out = place / "with-model"
    arguments = ["symmetry", "--corpus", str(place / "alone-counts"), "--out", str(out), "--untrained", "1"]
    arguments += ["--templates", str(place / "templates.txt"), "--device", "cpu"]
    assert run([*arguments, "--model", str(tiny_folder), *concepts(place, "weekdays", "towns", "trees")]) == 0
    return read(out)


@pytest.fixture
def refuses(capsys, place):
    def attempt(*arguments):
        assert run([str(argument) for argument in ("symmetry", *arguments)]) == 2
        out, err = capsys.readouterr()
        assert out == "" and "Traceback" not in err
        return err.splitlines()[-1]

    return attempt


def test_texts_are_counted_beside_the_page_and_the_page_alone_is_printed(corpus_alone):
    out, printed, told = corpus_alone
    assert printed == f"{out}/report.html\n"
    assert (out.with_name("alone-counts") / "counts.json").is_file()
    assert f"--corpus {out}-counts spares counting again" in told


def test_what_the_corpus_was_written_with_is_found(corpus_alone):
    facts = read(corpus_alone[0]).facts
    found = {one["name"]: one for one in facts["concepts"]}
    assert facts["model"] is None and all(one["model"] is None for one in found.values())
    for name in ("weekdays", "trees", "towns"):
        assert found[name]["corpus"]["monotone"]["value"] > 0.6, name
        assert found[name]["prediction"]["source"] == "fitted to the corpus"
    assert found["weekdays"]["corpus"]["verdict"]["gates"][0]["passed"]
    assert found["towns"]["places"][0] == pytest.approx([60, 10])
    assert found["trees"]["distance"]["unit"] == "steps" and found["towns"]["distance"]["unit"] == "km"
    assert found["trees"]["distance"]["at"] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_the_page_of_a_corpus_has_its_pictures(corpus_alone):
    report = read(corpus_alone[0])
    names = {figure.name for figure in report.figures}
    assert {"weekdays-block", "weekdays-distance", "weekdays-manifold-flat", "towns-manifold-solid"} <= names
    text = (corpus_alone[0] / "report.html").read_text()
    assert text.count("<svg") >= len(names)
    for figure in report.figures:
        ET.parse(corpus_alone[0] / "figures" / f"{figure.name}.svg")
        assert alternative(figure).endswith(".")


@pytest.mark.slow
def test_a_page_with_a_model_holds_every_side_and_every_figure(with_model, tiny_folder):
    names = {figure.name for figure in with_model.figures}
    for concept in ("weekdays", "trees", "towns"):
        parts = "layers scores positions probes templates-alignment manifold-flat gram spectrum modes".split()
        assert f"{concept}-model-ranks-1" in names
        assert {f"{concept}-{part}" for part in parts} <= names
    assert "towns-model-map" in names and "trees-model-map" not in names
    verdicts = with_model.sections[0].tables[0].rows
    assert [(row[0], row[1]) for row in verdicts[:2]] == [("weekdays", "corpus"), ("weekdays", "model")]
    assert with_model.facts["model"] == str(tiny_folder)
    assert with_model.facts["concepts"][0]["model"]["templates"] == ["it was {}", "the king came in {} again"]
    assert len(with_model.claims) == 6
    assert with_model.manifest["concepts"]["weekdays"][0] == "Monday"


@pytest.mark.slow
def test_counts_give_what_their_texts_gave(with_model, corpus_alone):
    found = {one["name"]: one["corpus"]["block"] for one in with_model.facts["concepts"]}
    for one in read(corpus_alone[0]).facts["concepts"]:
        assert found[one["name"]] == one["corpus"]["block"]


@pytest.mark.slow
def test_the_same_request_lands_on_the_same_facts(place, corpus_alone, capsys):
    out = place / "again"
    arguments = ["--corpus", str(place / "alone-counts"), "--out", str(out), "--json"]
    assert run(["symmetry", *arguments, *concepts(place, "weekdays", "trees", "towns")]) == 0
    assert json.loads(capsys.readouterr().out)["facts"] == read(corpus_alone[0]).facts
    assert run(["redraw", str(out)]) == 0


def test_what_cannot_be_looked_at_is_refused_in_a_line(refuses, place, corpus_alone, tiny_folder):
    counts = ["--corpus", place / "alone-counts", "--out", place / "refused"]
    assert "concept 'month': expected one of" in refuses(*counts, "--concept", "month")
    assert "give its path, such as cities15000.zip" in refuses(*counts, "--concept", "cities")
    assert "months: 0 items are left" in refuses(*counts, "--concept", "months")
    bad = place / "bad.txt"
    bad.write_text("no place\n")
    assert "template 'no place'" in refuses(*counts, "--concept", "weekdays", "--templates", bad)
    assert "no such folder" in refuses(*counts, "--concept", "weekdays", "--model", place / "nothing")
    assert "repgeo: error" in refuses(
        "--corpus", place / "nothing", "--concept", "weekdays", "--out", place / "x"
    )
    assert not (place / "refused").exists()


def test_concepts_that_take_words_from_each_other_are_not_counted_together():
    with pytest.raises(DataError, match="'January 1' would take 'January' away; ask for them in two runs"):
        spelled([load("months"), load("dates")])
    both = spelled([load("months"), load("weekdays")])
    assert {"Sept", "January", "Monday"} <= set(both) and len(set(both)) == len(both)


def test_concepts_are_read_before_any_work():
    request = symmetry_report.SymmetryRequest(("weekdays", "nothing"))
    with pytest.raises(DataError, match="concept 'nothing'"):
        symmetry_report.concepts_of(request)
    with pytest.raises(DataError, match="concept weekdays: is asked for twice"):
        symmetry_report.concepts_of(symmetry_report.SymmetryRequest(("weekdays", "weekdays")))
    with pytest.raises(DataError, match="seasons: 4 items are too few for any score"):
        symmetry_report.concepts_of(symmetry_report.SymmetryRequest(("seasons",)))
