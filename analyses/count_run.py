"""Counting a corpus from its files: in batches, by several processes, and going on where a killed run stopped.

Batches are cut in the order of the documents and depend on nothing but the corpus, so that a batch is either done
or not. For a vocabulary that the corpus itself decides, words are cut once and kept as numbers on disk (four bytes
a word) until the vocabulary is known; a given list of words is counted at once and nothing is kept.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections import Counter, deque
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from analyses.count_tally import Plan, Tally
from analyses.manifest import manifest
from finetune.folders import replace_file, sha256_file, whole_folder, work_folder
from geometry.checks import DataError
from geometry.corpora import documents_read, files
from geometry.count_files import read_blocks, read_notes, read_words
from geometry.document_counts import LEAST_BLOCKS, document_keys
from geometry.words import Words, cased, closed_up, cut, normal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from geometry.weightings import Weighting
    from geometry.words import Letters

    Show = Callable[[str, float], None]

BATCH = 8_000_000
"""Characters of a batch, at least; the last document is not torn."""

AT_ONCE = 2000
"""Longest list of words that is counted as it is read; the counts of longer ones would be too large to hand over."""

CHECKPOINT = 120.0
"""Seconds of counting between two checkpoints."""


@dataclass(frozen=True)
class CountRequest:
    """What to count.

    Attributes:
        corpora: files or folders of documents; may be empty if counts are added up.
        weighting: the window.
        vocabulary: size of the vocabulary, the most frequent words of the corpus, if no words are given.
        words: the words to count, phrases among them; empty to take the most frequent.
        phrases: further runs of words to join.
        letters: how text is cut, :func:`geometry.words.cased` or :func:`~geometry.words.folded`.
        places: whether other words keep their places in the window, or are removed before.
        field: key or column that holds the text.
        add: folders of counts to add; their words are counted.
        blocks: blocks that documents are dealt to, by their text, and counted in apart; 0 for none.
        apart: the words that are counted so; empty for all that are given.
    """

    corpora: tuple[Path, ...]
    weighting: Weighting
    vocabulary: int = 25_000
    words: tuple[str, ...] = ()
    phrases: tuple[str, ...] = ()
    letters: Letters = cased
    places: bool = False
    field: str = "text"
    add: tuple[Path, ...] = ()
    blocks: int = 0
    apart: tuple[str, ...] = ()


@dataclass
class _Pace:
    """Words that came by, and how fast."""

    words: int = 0
    began: float = field(default_factory=time.monotonic)

    def tell(self, words: int) -> str:
        self.words += words
        rate = self.words / max(1e-9, time.monotonic() - self.began)
        return f"{self.words / 1e6:.1f} M words, {rate / 1e6:.2f} M words/s"


def count(request: CountRequest, out: Path, *, workers: int, show: Show) -> Path:
    """Count a corpus, or add counts up.

    Args:
        request: what to count.
        out: the folder to make.
        workers: processes that cut, and threads that count; the counts are the same for any number.
        show: is told how far it is.

    Returns:
        The folder.

    Raises:
        InputError: a corpus that cannot be read or holds none of the words, counts that cannot be added, or a
            place that cannot be written.
    """
    request = _with_words_of_the_first(_with_normal_words(request))
    read = _hashes(request)
    if not read and not request.add:
        raise DataError("count: name a corpus, or counts to add up")
    recipe, every = _recipe(request), _with_files_of(request.add, read)
    with work_folder(out, recipe | {"files": list(read.values()), "batch": BATCH}) as work:
        tally = _counted(request, work, workers, show) if read else None
        for folder in request.add:
            more = Tally.read(_plan(request, request.words), folder, threads=workers)
            if tally is None:
                tally = more
            else:
                tally.merge(more)
        words = tally.plan.words
        absent = [word for word, n in zip(words, tally.whole.unigrams, strict=True) if not n]
        if len(absent) == len(words):
            raise DataError("count: none of the words occurs in the corpus; look at their spelling and case")
        with whole_folder(out, known_by=["counts.json"]) as fresh:
            tally.save(fresh, {"recipe": recipe, "files": every, "absent": absent, "manifest": manifest()})
    return out


def _hashes(request: CountRequest) -> dict[str, str]:
    """Path -> SHA-256 of every file that will be read."""
    found = [file for corpus in request.corpora for file in files(corpus)]
    places = Counter(file.resolve() for file in found)
    for file in found:
        if places[file.resolve()] > 1:
            raise DataError(f"{file}: would be counted twice; name it once")
    return {str(file): sha256_file(file) for file in found}


def _with_files_of(added: Sequence[Path], read: dict[str, str]) -> dict[str, str]:
    """The files that were read, here and for the counts that are added; none of them twice."""
    together = dict(read)
    for folder in added:
        for file, digest in read_notes(folder)["files"].items():
            if digest in together.values():
                raise DataError(f"{folder}: holds the counts of {file}, which would be counted twice")
            together[file] = digest
    return together


def _with_normal_words(request: CountRequest) -> CountRequest:
    """Write the given words as the corpus is cut."""
    words: dict[str, None] = {}
    for given in request.words:
        word = normal(given, request.letters)
        if not word:
            raise DataError(f"words: '{given}' holds no letter; leave it out")
        if word in words:
            raise DataError(
                f"words: '{given}' is there twice once case and signs are taken off; leave one out"
            )
        words[word] = None
    apart = tuple(dict.fromkeys(normal(word, request.letters) for word in request.apart))
    return _checked_blocks(replace(request, words=tuple(words), apart=apart))


def _checked_blocks(request: CountRequest) -> CountRequest:
    """Refuse blocks that cannot be, and count all given words in them if none are named."""
    if request.apart and not request.blocks:
        raise DataError("count: words to count by block need a number of blocks, such as 32")
    if not request.blocks or request.add:  # counts that are added bring their own
        return request
    if request.blocks < LEAST_BLOCKS:
        raise DataError(f"blocks: fewer than {LEAST_BLOCKS} give no interval; 32 are usual")
    apart = request.apart or request.words
    if not 0 < len(apart) <= AT_ONCE:
        raise DataError(
            f"blocks: name up to {AT_ONCE} words that are counted by block; a vocabulary is too large"
        )
    if request.words and (unknown := sorted(set(apart) - set(request.words))):
        raise DataError(f"blocks: {unknown[0]!r} is not among the words that are counted; add it to them")
    return replace(request, apart=apart)


def _with_words_of_the_first(request: CountRequest) -> CountRequest:
    """Take over the words of counts that are added, once they all are of one kind."""
    if not request.add:
        return request
    if request.words:
        raise DataError("count: counts that are added bring their own words; leave out the list")
    first = request.add[0]
    if request.blocks:
        raise DataError("count: counts that are added bring their own blocks; leave out the number")
    blocks = read_blocks(first)
    request = replace(request, words=read_words(first), blocks=len(blocks))
    request = replace(request, apart=blocks[0].words if blocks else ())
    wanted = _recipe(request)
    for folder in request.add:
        recipe = read_notes(folder)["recipe"]
        if read_words(folder) != request.words:
            raise DataError(
                f"{folder}: has other words than {first}; count it with --words {first}/words.txt"
            )
        for key in (wanted.keys() | recipe.keys()) - {"vocabulary", "by block"}:
            if recipe.get(key) != wanted.get(key):
                raise DataError(
                    f"{folder}: was counted with {key} {recipe.get(key)}, not {wanted.get(key)}; choose the same"
                )
        if request.blocks and read_blocks(folder)[0].words != request.apart:
            raise DataError(f"{folder}: counts other words by block than {first}; choose the same")
    return request


def _recipe(request: CountRequest) -> dict[str, Any]:
    """What decides the counts besides the corpus, as JSON values."""
    if request.add and not request.corpora:  # nothing is cut: all that matters is that they agree
        return read_notes(request.add[0])["recipe"]
    recipe = {
        "weights": request.weighting.name,
        "window": request.weighting.window,
        "letters": request.letters.__name__,
        "others": "kept" if request.places else "removed",
        "phrases": sorted({
            *request.phrases,
            *(word for word in (*request.words, *request.apart) if " " in word),
        }),
        "field": request.field,
        "vocabulary": list(request.words) or request.vocabulary,
    }
    return recipe | ({"blocks": request.blocks, "by block": list(request.apart)} if request.blocks else {})


def _plan(request: CountRequest, words: Sequence[str]) -> Plan:
    """What is counted, once the vocabulary is known."""
    there = set(words)
    apart = tuple(word for word in request.apart if word in there)
    if request.blocks and not apart:
        raise DataError("blocks: none of the words to count by block is in the vocabulary; take a larger one")
    return Plan(tuple(words), apart, request.blocks, request.weighting)


def _counted(request: CountRequest, work: Path, workers: int, show: Show) -> Tally:
    phrases = _recipe(request)["phrases"]
    sizes = [file.stat().st_size for corpus in request.corpora for file in files(corpus)]
    processes = workers if sum(sizes) > BATCH else 1  # a small corpus is done before a process has started
    if 0 < len(request.words) <= AT_ONCE:
        return _counted_at_once(request, phrases, work, processes, show)
    n = _cut_all(request, phrases, work, processes, show)
    words = request.words or _most_frequent(work, n, request.vocabulary)
    return _counted_from(work, n, request, _plan(request, words), workers, show)


def _counted_at_once(
    request: CountRequest, phrases: Sequence[str], work: Path, processes: int, show: Show
) -> Tally:
    plan = _plan(request, request.words)
    done, tally = _checkpoint(work, plan, 1)
    how = (plan, request.letters, phrases, request.places)
    tasks = ((share, (texts, *how)) for _, texts, share in _batches(request, done, set()))
    pace, saved = _Pace(), time.monotonic()
    for share, state in _in_order(_count_batch, tasks, processes):
        before = tally.whole.tokens
        tally.merge(Tally.from_state(plan, state))
        done += 1
        show(pace.tell(tally.whole.tokens - before), share)
        if time.monotonic() - saved > CHECKPOINT:
            _save_checkpoint(work, done, tally)
            saved = time.monotonic()
    return tally


def _count_batch(
    texts: list[str], plan: Plan, letters: Letters, phrases: Sequence[str], places: bool
) -> list[dict[str, NDArray]]:
    tally, numbers = Tally.empty(plan), {word: i for i, word in enumerate(plan.words)}
    tally.update(*_numbered(cut(texts, letters, phrases), numbers, places), document_keys(texts))
    return tally.state()


def _cut_all(request: CountRequest, phrases: Sequence[str], work: Path, processes: int, show: Show) -> int:
    """Cut every batch that no earlier run has cut; return how many there are."""
    have = {int(path.stem.removeprefix("batch-")) for path in work.glob("batch-*.npz")}
    pace, last = _Pace(), -1
    how = (request.letters, phrases)

    def tasks() -> Iterator[tuple[float, tuple[Any, ...]]]:
        nonlocal last
        for last, texts, share in _batches(request, 0, have):
            if texts:
                yield share, (texts, work / f"batch-{last:06d}.npz", *how)

    for share, words in _in_order(_cut_batch, tasks(), processes):
        show(pace.tell(words), share)
    return last + 1


def _cut_batch(texts: list[str], path: Path, letters: Letters, phrases: Sequence[str]) -> int:
    words = cut(texts, letters, phrases)
    arrays = {
        "ids": words.ids,
        "lengths": words.lengths,
        "names": np.frombuffer("\n".join(words.names).encode(), dtype=np.uint8),
        "frequencies": words.frequencies(),
        "keys": document_keys(texts),
    }

    def save(fresh: Path) -> None:
        with fresh.open("wb") as file:
            np.savez(file, **arrays)

    replace_file(path, save)
    return len(words.ids)


def _most_frequent(work: Path, n: int, size: int) -> tuple[str, ...]:
    """The most frequent words of all batches; of equally frequent ones those that come first by code point.

    Every different word of the corpus is held for this, about 0.1 KB each: some 60 MB for the words of Wikipedia's
    good articles.
    """
    frequencies: Counter[str] = Counter()
    for number in range(n):
        with np.load(work / f"batch-{number:06d}.npz") as batch:
            seen = zip(_names(batch["names"]), batch["frequencies"].tolist(), strict=True)
            for name, times in seen:
                if times:  # a phrase, or a word that is never outside one
                    frequencies[name] += times
    if not frequencies:
        raise DataError("count: the corpus holds no words, only signs; give another")
    ordered = sorted(frequencies.items(), key=lambda item: (-item[1], item[0]))
    return tuple(name for name, _ in ordered[:size])


def _counted_from(work: Path, n: int, request: CountRequest, plan: Plan, threads: int, show: Show) -> Tally:
    done, tally = _checkpoint(work, plan, threads)
    numbers = {word: i for i, word in enumerate(plan.words)}
    pace, saved = _Pace(), time.monotonic()
    for number in range(done, n):
        with np.load(work / f"batch-{number:06d}.npz") as batch:
            cut_words = Words(batch["ids"], batch["lengths"], _names(batch["names"]))
            keys = batch["keys"]
        before = tally.whole.tokens
        tally.update(*_numbered(cut_words, numbers, request.places), keys)
        if number == n - 1:
            tally.whole.rows()
        show(f"counting pairs, {pace.tell(tally.whole.tokens - before)}", (number + 1) / n)
        if time.monotonic() - saved > CHECKPOINT:
            _save_checkpoint(work, number + 1, tally)
            saved = time.monotonic()
    return tally


def _names(encoded: NDArray[np.uint8]) -> list[str]:
    text = encoded.tobytes().decode()
    return text.split("\n") if text else []


def _numbered(words: Words, numbers: dict[str, int], places: bool) -> tuple[NDArray, NDArray]:
    ids = words.numbered(numbers)
    return (ids, words.lengths) if places else closed_up(ids, words.lengths)


def _batches(request: CountRequest, done: int, have: set[int]) -> Iterator[tuple[int, list[str], float]]:
    """Number, texts and share read of every batch from ``done`` on; without its texts if it is there already."""
    number, texts, size = 0, [], 0
    n = len(request.corpora)
    for i, corpus in enumerate(request.corpora):
        for text, share in documents_read(corpus, field=request.field):
            texts.append(text)
            size += len(text)
            if size >= BATCH:
                if number >= done:
                    yield number, [] if number in have else texts, (i + share) / n
                number, texts, size = number + 1, [], 0
    if texts and number >= done:
        yield number, [] if number in have else texts, 1.0


def _in_order(
    work: Callable[..., Any], tasks: Iterable[tuple[float, tuple[Any, ...]]], processes: int
) -> Iterator[tuple[float, Any]]:
    """Do tasks in other processes, a few ahead, and hand the results out in order beside their share."""
    if processes == 1:
        yield from ((share, work(*arguments)) for share, arguments in tasks)
        return
    ahead: deque[tuple[float, Any]] = deque()
    pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_end_with_parent)
    try:
        for share, arguments in tasks:
            ahead.append((share, pool.submit(work, *arguments)))
            if len(ahead) > processes + 1:
                first, future = ahead.popleft()
                yield first, future.result()
        while ahead:
            first, future = ahead.popleft()
            yield first, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """End this process when the one that started it is killed, which cannot tell it to."""

    def watch() -> None:
        parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _checkpoint(work: Path, plan: Plan, threads: int) -> tuple[int, Tally]:
    """The latest counts and the number of batches in them."""
    found = sorted(work.glob("counted-*"))
    if not found:
        return 0, Tally.empty(plan, threads=threads)
    return int(found[-1].name.removeprefix("counted-")), Tally.read(plan, found[-1], threads=threads)


def _save_checkpoint(work: Path, done: int, tally: Tally) -> None:
    """Write counts beside the last ones, and only then remove those."""
    fresh = work / "fresh"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    tally.save(fresh, {})
    older = sorted(work.glob("counted-*"))
    fresh.rename(work / f"counted-{done:06d}")
    for folder in older:
        shutil.rmtree(folder)
