import os
import shutil
import subprocess

import pytest

from finetune.neutralise import APERTIUM_PIVOTS, Apertium
from geometry.checks import InputError

HOSTILE = [
    "^foo/bar<n>$ is here.",
    "[x] and {y} and \\n and ~ and @.",
    "$(touch hacked) `touch hacked` ; touch hacked",
    "a\x00b holds a null.",
    "",
    " \t ",
    "one\u2028two\u2029three\x85four\rfive\nsix",
    "emoji 😀 and 漢字.",
    "<b>bold</b> &amp; so",
    "-u -f html",
    "*star #hash /slash",
    "a" * 5000,
    "half \ud800 pair",
    "\ufeffmark first",
    "The last one ends it.",
]


def installed(pivot):
    there, back, package = APERTIUM_PIVOTS[pivot]
    if shutil.which("apertium"):
        modes = subprocess.run(["apertium", "-l"], capture_output=True, text=True, check=False).stdout.split()
        if {there, back} <= set(modes):
            return
    pytest.skip(f"needs a real engine: apt-get install apertium {package}")


def stand_in(tmp_path, monkeypatch, script):
    """Put a program called apertium on the path, and nothing of the real one."""
    program = tmp_path / "apertium"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin{os.pathsep}/usr/bin")


@pytest.mark.parametrize("pivot", APERTIUM_PIVOTS)
def test_round_trip_keeps_what_is_said(pivot):
    installed(pivot)
    (trip,) = Apertium(pivot).round_trip(["The king has three daughters."])
    assert "king" in trip
    assert "three daughters" in trip


@pytest.mark.parametrize("pivot", APERTIUM_PIVOTS)
def test_hostile_text_does_not_shift_its_neighbours(pivot, tmp_path, monkeypatch):
    installed(pivot)
    monkeypatch.chdir(tmp_path)
    engine = Apertium(pivot)
    marked = [part for text in HOSTILE for part in (text, "The dog sees the moon.")]
    trips = engine.round_trip(marked)
    assert len(trips) == len(marked)
    assert all("dog" in trip for trip in trips[1::2])
    assert trips[2 * HOSTILE.index("")] == trips[2 * HOSTILE.index(" \t ")] == ""
    assert "foo" in trips[0].lower()
    assert not any("\n" in trip for trip in trips)
    assert not list(tmp_path.iterdir())


def test_sentences_travel_as_data(tmp_path, monkeypatch):
    stand_in(tmp_path, monkeypatch, "exec cat")
    kept = [" ".join(text.replace("\0", " ").split()) for text in HOSTILE if "\ud800" not in text]
    assert Apertium().round_trip([text for text in HOSTILE if "\ud800" not in text]) == kept


def test_nothing_asked_nothing_run(tmp_path, monkeypatch):
    stand_in(tmp_path, monkeypatch, "exit 1")
    assert Apertium().round_trip([]) == []


def test_the_name_says_engine_and_pivot(tmp_path, monkeypatch):
    stand_in(tmp_path, monkeypatch, "exec cat")
    assert Apertium("catalan").name == "apertium/catalan"


def test_missing_engine_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"apt-get install apertium apertium-eo-en$") as caught:
        Apertium("esperanto")
    assert "\n" not in str(caught.value)


def test_unknown_pivot():
    with pytest.raises(InputError, match="'klingon': choose one of spanish, catalan, esperanto"):
        Apertium("klingon")


def test_missing_pair_says_how_to_install_it(tmp_path, monkeypatch):
    stand_in(tmp_path, monkeypatch, 'echo "Error: Mode $5 does not exist" >&2; echo more >&2; exit 1')
    with pytest.raises(
        InputError, match=r"Mode eng-spa does not exist.*apt-get install apertium-eng-spa"
    ) as caught:
        Apertium().round_trip(["It rained."])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("script", ["cat; echo more", "head -z -n 1", "cat > /dev/null", "tr -d '[]'"])
def test_answers_that_do_not_match_are_refused(tmp_path, monkeypatch, script):
    stand_in(tmp_path, monkeypatch, script)
    with pytest.raises(InputError, match=r"other than the 2 sentences .* reinstall apertium-eng-spa"):
        Apertium().round_trip(["It rained.", "It snowed."])


@pytest.mark.parametrize("pivot", APERTIUM_PIVOTS)
def test_the_end_of_a_sentence_is_kept(pivot):
    installed(pivot)
    trips = Apertium(pivot).round_trip(["The king is old.", "The king is old?", "The king is old"])
    assert [trip[-1] for trip in trips] == [".", "?", "d"]


def test_the_same_batch_gives_the_same_answer_whatever_came_before():
    installed("spanish")
    batch = [f"The king saw {n} ships that were called home." for n in range(40)]
    assert Apertium().round_trip(batch) == Apertium().round_trip(batch)


def test_details_name_the_versions():
    installed("spanish")
    assert Apertium().details["apertium"]
    assert Apertium("catalan").details.keys() == {"apertium", "apertium-eng-cat"}


def test_a_version_that_nobody_tells_is_none(tmp_path, monkeypatch):
    stand_in(tmp_path, monkeypatch, "exit 3")
    assert Apertium().details["apertium"] is None
