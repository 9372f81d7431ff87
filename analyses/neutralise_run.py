"""A styled corpus becomes pairs: read, translated there and back, filtered, dealt into parts, measured."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from analyses.neutral_strength import strengths
from finetune.filters import REASONS, Limits, faults
from finetune.pair_files import Parts, dealt
from finetune.pairs import Pair
from finetune.passages import Bounds, Fields, read_passages
from finetune.round_trips import require_sane, round_trips
from finetune.sentences import split_sentences

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from finetune.neutralise import Translator
    from finetune.pairs import Text
    from finetune.round_trips import Trip, TripStore

    Similarity = Callable[[Sequence[str], Sequence[str]], NDArray[np.float64]]
    """Cosine of the embeddings of each two texts."""


@dataclass(frozen=True)
class NeutraliseRequest:
    """What is neutralised, and how.

    Attributes:
        corpus: styled text, see :func:`geometry.record_files.records`.
        engines: each makes a pair of every sentence.
        fields, bounds: what is read of the corpus.
        split: takes a text and returns its sentences.
        trips: round trips one after the other.
        limits: which of them become pairs.
        workers: batches under way at a time.
        seed: of the sample, the parts and the intervals.
        quotable: whether sentences may stand on the page.
    """

    corpus: Path
    engines: tuple[Translator, ...]
    fields: Fields = field(default_factory=Fields)
    bounds: Bounds = field(default_factory=Bounds)
    split: Callable[[str], Sequence[str]] = split_sentences
    trips: int = 1
    limits: Limits = field(default_factory=Limits)
    workers: int = 1
    seed: int = 0
    quotable: bool = True


@dataclass(frozen=True)
class Neutralised:
    """Pairs and what was found on the way.

    Attributes:
        parts: the pairs, dealt by document.
        dropped: round trips that became no pair, as records with their ``reason``.
        facts: every number, as JSON values.
    """

    parts: Parts
    dropped: tuple[dict[str, Any], ...]
    facts: dict[str, Any]


def neutralise(
    request: NeutraliseRequest,
    store: TripStore,
    *,
    similarity: Similarity | None = None,
    progress: Callable[[str, float], None],
) -> Neutralised:
    """Make pairs neutral -> styled of a styled corpus.

    Args:
        request: what is neutralised, and how.
        store: where round trips are kept; a run that was killed goes on from there.
        similarity: compares two texts by their embeddings; None leaves this out.
        progress: is told what is done and the share.

    Returns:
        The pairs. Chance enters by ``request.seed`` alone: the same request gives the same pairs.

    Raises:
        DataError: the corpus cannot be read, or too few pairs are left to be dealt.
        InputError: an engine fails, or brings nothing back that can be known again.
    """
    rng = np.random.default_rng(request.seed)
    for engine in request.engines:
        require_sane(engine)
    passages = read_passages(request.corpus, request.fields, request.bounds, split=request.split, rng=rng)
    texts = passages.texts
    ways = {engine.name: _way(texts, engine, request, store, progress) for engine in request.engines}
    progress("measuring", 0.0)
    made = _paired(texts, ways, request, similarity)
    note = {"corpus": str(request.corpus), "versions": {e.name: dict(e.details) for e in request.engines}}
    parts = Parts(dealt(made.pairs, request.seed), note | {"filtered": made.reasons}, made.beside)
    facts = {
        "corpus": {
            "found": passages.found, "used": len(texts),
            "aside": dict(passages.aside), "documents": passages.documents,
        },
        "limits": asdict(request.limits),
        "trips": request.trips,
        "filtered": made.reasons,
        **parts.counts,
        "strength": strengths(request, texts, ways, similarity, rng, progress),
        "examples": _examples(request, texts, ways),
    }  # fmt: skip
    return Neutralised(parts, tuple(made.dropped), facts)


@dataclass(frozen=True)
class _Paired:
    """What the filters left and what they took: pairs, and by their ids what is written beside each."""

    pairs: list[Pair] = field(default_factory=list)
    beside: dict[str, dict[str, Any]] = field(default_factory=dict)
    dropped: list[dict[str, Any]] = field(default_factory=list)
    reasons: dict[str, dict[str, int]] = field(default_factory=dict)


def _paired(
    texts: Sequence[Text],
    ways: Mapping[str, list[list[Trip]]],
    request: NeutraliseRequest,
    similarity: Similarity | None,
) -> _Paired:
    made = _Paired()
    sentences = [text.text for text in texts]
    for engine in request.engines:
        last = ways[engine.name][-1]
        similarities = similarity(sentences, [trip.text for trip in last]) if similarity else None
        found = faults(sentences, last, request.limits, similarities=similarities)
        counted = Counter(found)
        made.reasons[engine.name] = {name: counted[name] for name in REASONS} | {"kept": counted[None]}
        origin = {"engine": engine.name, "trips": request.trips, "versions": dict(engine.details)}
        for text, trip, fault in zip(texts, last, found, strict=True):
            identity = text.id if len(request.engines) == 1 else f"{text.id}@{engine.name}"
            pair = Pair(identity, text.doc_id, trip.text, text.text)
            if fault:
                made.dropped.append(vars(pair) | {"reason": fault, "engine": engine.name})
            else:
                made.pairs.append(pair)
                made.beside[identity] = origin
    return made


def _way(
    texts: Sequence[Text],
    engine: Translator,
    request: NeutraliseRequest,
    store: TripStore,
    progress: Callable[[str, float], None],
) -> list[list[Trip]]:
    """Round trips of all texts: the first of each, the second, and so on."""
    way: list[list[Trip]] = []
    sentences = [text.text for text in texts]
    for number in range(request.trips):
        pace = _Pace(f"{engine.name}, trip {number + 1} of {request.trips}", progress)
        way.append(round_trips(sentences, engine, store, workers=request.workers, progress=pace))
        sentences = [trip.text for trip in way[-1]]
    return way


class _Pace:
    """Tells how many sentences were translated, and how many a second by this process."""

    def __init__(self, title: str, progress: Callable[[str, float], None]) -> None:
        self._title, self._progress = title, progress
        self._began, self._found = time.monotonic(), None

    def __call__(self, done: int, n: int) -> None:
        if self._found is None:
            self._found = done
        passed = time.monotonic() - self._began
        speed = f", {(done - self._found) / passed:.0f} sentences/s" if done > self._found else ""
        self._progress(f"{self._title}: {done} of {n}{speed}", done / max(1, n))


def _examples(
    request: NeutraliseRequest,
    texts: Sequence[Text],
    ways: Mapping[str, list[list[Trip]]],
    *,
    shown: int = 10,
) -> list[dict[str, Any]]:
    if not request.quotable:
        return []
    step = max(1, len(texts) // shown)
    return [
        {"original": texts[i].text, **{name: [trips[i].text for trips in way] for name, way in ways.items()}}
        for i in range(0, len(texts), step)
    ][:shown]
