import os
import shutil
import signal
import subprocess
import sys
import threading

import pytest

from finetune.neutralise import Apertium
from finetune.round_trips import SANE, Trip, TripStore, require_sane, round_trips
from geometry.checks import DataError, InputError

SENTENCES = [f"sentence {i} of the corpus" for i in range(40)] + ["sentence 3 of the corpus"]


class Shouting:
    """Translates by shouting, and says in every answer who came first in its batch: company matters."""

    batch = 8

    def __init__(self, fails_at=None, **details):
        self.details, self.fails_at, self.given = details, fails_at, []

    @property
    def name(self):
        return "test/shouting"

    def there(self, sentences):
        self.given.append(list(sentences))
        if self.fails_at == len(self.given):
            raise InputError("the engine died")
        return [f"{s.upper()} after {sentences[0]}" for s in sentences]

    def back(self, sentences):
        return [s.lower() for s in sentences]


@pytest.fixture
def store(tmp_path):
    return TripStore(tmp_path / "deep" / "trips.sqlite")


def test_every_sentence_gets_its_own_trip_and_travels_once(store):
    engine = Shouting()
    trips = round_trips(SENTENCES, engine, store)
    assert [t.text.split(" after")[0] for t in trips] == SENTENCES
    assert trips[0] == Trip("SENTENCE 0 OF THE CORPUS after sentence 0 of the corpus",
                            "sentence 0 of the corpus after sentence 0 of the corpus")  # fmt: skip
    assert sum(map(len, engine.given)) == 40
    assert max(map(len, engine.given)) == 8


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_the_number_of_workers_changes_nothing(tmp_path, workers):
    once = round_trips(SENTENCES, Shouting(), TripStore(tmp_path / "a"))
    assert round_trips(SENTENCES, Shouting(), TripStore(tmp_path / "b"), workers=workers) == once


def test_workers_work_at_the_same_time(store):
    both = threading.Barrier(2, timeout=10)

    class Meeting(Shouting):
        def back(self, sentences):
            both.wait()
            return super().back(sentences)

    assert len(round_trips(SENTENCES[:16], Meeting(), store, workers=2)) == 16


def test_what_is_kept_is_not_done_again(store):
    first = round_trips(SENTENCES, Shouting(), store)
    idle = Shouting()
    assert round_trips(SENTENCES[::-1], idle, store) == first[::-1]
    assert idle.given == []


@pytest.mark.parametrize("at", [1, 3, 5])
def test_a_run_that_failed_and_is_resumed_is_one_run(tmp_path, at):
    once = round_trips(SENTENCES, Shouting(), TripStore(tmp_path / "once"))
    broken = TripStore(tmp_path / "broken")
    with pytest.raises(InputError, match="died"):
        round_trips(SENTENCES, Shouting(fails_at=at), broken)
    rest = Shouting()
    assert round_trips(SENTENCES, rest, broken) == once
    assert len(rest.given) == 6 - at


def test_other_settings_are_other_trips(store):
    round_trips(SENTENCES, Shouting(beams=1), store)
    other = Shouting(beams=2)
    round_trips(SENTENCES, other, store)
    assert len(other.given) == 5


def test_progress_counts_what_was_there_and_ends_at_all(store):
    told = []
    round_trips(SENTENCES[:16], Shouting(), store)
    round_trips(SENTENCES, Shouting(), store, progress=lambda *pace: told.append(pace))
    assert told[0] == (16, 40)
    assert told[-1] == (40, 40)


def test_nothing_asked_nothing_done(store):
    assert round_trips([], Shouting(), store) == []


def test_an_engine_that_brings_nothing_back_is_refused_before_the_corpus():
    with pytest.raises(
        InputError, match=r"test/shouting: 'The old man.*' came back as '' \(chrF 0"
    ) as caught:
        mute = Shouting()
        mute.back = lambda sentences: ["" for _ in sentences]
        require_sane(mute)
    assert "\n" not in str(caught.value)
    assert SANE.lower() in require_sane(Shouting()).text


def test_a_file_that_is_no_store_is_named(tmp_path):
    (tmp_path / "notes").write_text("these are no trips, but a long enough text to be sure of it" * 20)
    with pytest.raises(DataError, match="is no store of round trips"):
        round_trips(["a"], Shouting(), TripStore(tmp_path / "notes"))
    with pytest.raises(InputError, match="cannot be"):
        round_trips(["a"], Shouting(), TripStore(tmp_path / "notes" / "below"))
    with pytest.raises(InputError, match="choose another --cache"):
        round_trips(["a"], Shouting(), TripStore(tmp_path))


def test_the_store_of_this_user(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert TripStore.default().path == tmp_path / "repgeo" / "round-trips.sqlite"


KILLED = """
import sys
from pathlib import Path
from finetune.neutralise import Apertium
from finetune.round_trips import TripStore, round_trips
class Slow(Apertium):
    batch = 16
engine = Slow()
round_trips([f"The king saw {i} ships." for i in range(4000)], engine, TripStore(Path(sys.argv[1])),
            workers=2, progress=lambda done, n: print(done, flush=True))
"""


@pytest.mark.skipif(shutil.which("apertium") is None, reason="needs apertium")
def test_kill_9_loses_no_finished_batch_and_repeats_none(tmp_path):
    path = tmp_path / "trips.sqlite"
    child = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True)
    done = 0
    while done < 64:
        done = int(child.stdout.readline())
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    sentences = [f"The king saw {i} ships." for i in range(done + 32)]
    given = []

    class Small(Apertium):
        batch = 16

        def there(self, batch):
            given.extend(batch)
            return super().there(batch)

    trips = round_trips(sentences, Small(), TripStore(path))
    assert len(given) == len(set(given)) <= len(sentences) - done
    assert not set(given) & set(sentences[:done])
    assert trips == round_trips(sentences, Small(), TripStore(tmp_path / "once.sqlite"))
    assert all(str(i) in trip.text for i, trip in enumerate(trips))
