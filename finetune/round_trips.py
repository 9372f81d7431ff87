"""Round trips of a whole corpus: kept on disk by content, resumed after a kill, by several workers.

A trip is known by what went in and all that decided what came out. Sentences are handed over in batches
whose composition depends on the corpus alone, and a batch is kept whole or not at all. So a run that was
killed and resumed gives what one run gives, also with engines whose answer depends on a batch's company.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from finetune.filters import likeness
from finetune.folders import sha256_text
from geometry.checks import DataError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from finetune.neutralise import Translator

SANE = "The old man gave his daughter three letters and went home."
"""What an engine must bring back in a form that can be known again before it is given a corpus."""
LEAST_SANE = 30.0
"""Lowest chrF, in [0, 100], of the round trip of ``SANE``."""

_SCHEMA = "CREATE TABLE IF NOT EXISTS trips (key TEXT PRIMARY KEY, pivot TEXT NOT NULL, text TEXT NOT NULL)"
_AT_ONCE = 500


@dataclass(frozen=True)
class Trip:
    """A sentence there and back.

    Attributes:
        pivot: in the pivot language; empty where the engine failed.
        text: in English again.
    """

    pivot: str
    text: str


@dataclass(frozen=True)
class TripStore:
    """A file of round trips that were made: SQLite, safe against kills and several processes at a time."""

    path: Path

    @classmethod
    def default(cls) -> TripStore:
        """Return the store of this user: ``repgeo/round-trips.sqlite`` in ``XDG_CACHE_HOME`` or ``~/.cache``."""
        place = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return cls(Path(place) / "repgeo" / "round-trips.sqlite")

    def read(self, keys: Sequence[str]) -> dict[str, Trip]:
        """Return those of the trips that are kept.

        Raises:
            DataError: the file is not such a store.
            InputError: it cannot be opened or made.
        """
        found = {}
        with self._open() as store:
            for start in range(0, len(keys), _AT_ONCE):
                some = keys[start : start + _AT_ONCE]
                marks = ",".join("?" * len(some))
                rows = store.execute(f"SELECT key, pivot, text FROM trips WHERE key IN ({marks})", some)
                found |= {key: Trip(pivot, text) for key, pivot, text in rows}
        return found

    def keep(self, trips: dict[str, Trip]) -> None:
        """Keep trips, all of them or, if killed, none; one that is kept already stays as it is.

        Raises:
            DataError: the file is not such a store.
            InputError: it cannot be written.
        """
        with self._open() as store, store:
            store.executemany(
                "INSERT OR IGNORE INTO trips VALUES (?, ?, ?)",
                [(k, t.pivot, t.text) for k, t in trips.items()],
            )

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.closing(sqlite3.connect(self.path, timeout=60)) as store:
                store.execute(_SCHEMA)
                yield store
        except sqlite3.OperationalError as error:
            raise InputError(f"{self.path}: cannot be written ({error}); choose another --cache") from error
        except sqlite3.DatabaseError as error:
            raise DataError(
                f"{self.path}: is no store of round trips; name another file or delete it"
            ) from error
        except OSError as error:
            raise InputError(
                f"{self.path}: cannot be made ({error.strerror}); choose another --cache"
            ) from error


def round_trips(
    sentences: Sequence[str],
    engine: Translator,
    store: TripStore,
    *,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> list[Trip]:
    """Translate sentences there and back, and keep what comes of it.

    Args:
        sentences: English; one that occurs twice travels once.
        engine: translates.
        store: is asked first, and keeps every batch as soon as it is back.
        workers: batches under way at a time; each is a thread that waits for the engine.
        progress: is told sentences done and sentences in all.

    Returns:
        The trip of each sentence, in order.

    Raises:
        InputError: the engine failed, or the store cannot be used.
    """
    keys = {sentence: _key(engine, sentence) for sentence in sentences}
    unique = list(keys)
    batches = [unique[i : i + engine.batch] for i in range(0, len(unique), engine.batch)]
    known = store.read(list(keys.values()))
    lacking = [lack for batch in batches if (lack := [s for s in batch if keys[s] not in known])]
    done = len(unique) - sum(map(len, lacking))
    if progress:
        progress(done, len(unique))
    for batch, made in _in_order(lacking, lambda batch: _trips(engine, batch), workers):
        fresh = {keys[sentence]: trip for sentence, trip in zip(batch, made, strict=True)}
        store.keep(fresh)
        known |= fresh
        done += len(batch)
        if progress:
            progress(done, len(unique))
    return [known[keys[sentence]] for sentence in sentences]


def require_sane(engine: Translator) -> Trip:
    """Send one plain sentence there and back before a corpus is.

    Args:
        engine: translates.

    Returns:
        The trip of ``SANE``.

    Raises:
        InputError: it comes back empty or beyond recognition: models of other languages, swapped or damaged.
    """
    trip = _trips(engine, [SANE])[0]
    if (alike := likeness(trip.text, SANE)) < LEAST_SANE:
        raise InputError(
            f"{engine.name}: '{SANE}' came back as '{trip.text[:80]}' (chrF {alike:.0f}, needed are "
            f"{LEAST_SANE:.0f}); are the models those of the pivot, and there and back in this order?"
        )
    return trip


def _trips(engine: Translator, batch: Sequence[str]) -> list[Trip]:
    there = engine.there(batch)
    return [Trip(pivot, text) for pivot, text in zip(there, engine.back(there), strict=True)]


def _key(engine: Translator, sentence: str) -> str:
    return sha256_text(json.dumps([engine.name, dict(engine.details), sentence], sort_keys=True))


def _in_order(
    batches: list[list[str]], work: Callable[[list[str]], list[Trip]], workers: int
) -> Iterator[tuple[list[str], list[Trip]]]:
    pool = ThreadPoolExecutor(workers)
    try:
        yield from zip(batches, pool.map(work, batches), strict=True)
    finally:
        # what has not begun is dropped: a failure or Ctrl-C must not wait for the rest of the corpus
        pool.shutdown(cancel_futures=True)
