"""What the commands about long contexts do between reading options and writing a page."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from analyses.compared import base_record, comparison
from analyses.manifest import manifest, run_id
from analyses.report import Report, plain, write
from analyses.terminal import watched
from geometry.checks import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import nn

    from analyses.needle_run import NeedleRequest
    from finetune.attention_passages import Passage
    from finetune.needle_layout import Case
    from finetune.needle_tasks import FillerOf
    from geometry.attention_rows import AttentionAnswer
    from geometry.live.models import Loaded


ADAPTED = "adapted"
"""Name of the side with the adapter."""


@dataclass(frozen=True)
class Told:
    """Which needles are asked for, as the command line says it.

    Attributes:
        task: ``kv``, ``haystack`` or ``documents``.
        filler: ``neutral``, ``same`` or ``rival``; None for what the task has of itself.
        needles: parts of the answer.
        prompts: how many questions.
        data: a file of Lost in the Middle in place of invented facts.
        text: a corpus whose sentences are the neutral filler.
        seed: of all draws.
    """

    task: str
    filler: str | None = None
    needles: int = 1
    prompts: int = 12
    data: Path | None = None
    text: Path | None = None
    seed: int = 0

    def record(self) -> dict[str, Any]:
        """As JSON values, without the paths."""
        return {name: getattr(self, name) for name in ("task", "filler", "needles", "prompts", "seed")}


def cases(told: Told) -> tuple[Case, ...]:
    """Draw the questions, each by a generator of its own.

    Args:
        told: what is asked for.

    Returns:
        One case a prompt.

    Raises:
        DataError: options that do not go together, a file that cannot be read or holds too few records.
    """
    from finetune.needle_tasks import documents, haystack, key_values

    rngs = np.random.default_rng(told.seed).spawn(told.prompts)
    if told.data is not None:
        return _from_file(told, rngs)
    if told.task == "kv":
        if told.filler not in {None, "rival"} or told.text is not None:
            raise DataError("--task kv: every record is a rival; leave --filler and --haystack out")
        return tuple(key_values(rng, needles=told.needles) for rng in rngs)
    make = {"haystack": haystack, "documents": documents}[told.task]
    filler = _filler(told)
    return tuple(make(rng, filler=filler, needles=told.needles) for rng in rngs)


def needle(
    loaded: Loaded, adapter: Path | None, told: Told, request: NeedleRequest, out: Path | None
) -> Path:
    """Ask for needles and write the page; see :func:`analyses.needle_run.needle_facts`.

    Args:
        loaded: the base.
        adapter: PEFT folder, or None.
        told: which needles.
        request: the cases, lengths and depths.
        out: folder of the page; None names it after what was asked.

    Returns:
        The path of the page.

    Raises:
        InputError: see :func:`analyses.needle_run.needle_facts`; or the adapter is not of the base.
    """
    from analyses.needle_page import needle_claims, needle_sections
    from analyses.needle_run import needle_facts

    with watched("asking") as show:
        facts = plain(needle_facts(lambda: sides(loaded, adapter), loaded.tokenizer, request, progress=show))
    facts["task"] = told.record()
    identity = _compared(loaded, adapter) | {
        **told.record(),
        **{key: facts[key] for key in ("lengths", "depths", "unit", "question", "spacing", "write")},
    }
    given = {"data": told.data, "haystack": told.text}
    files = {name: path for name, path in given.items() if path is not None and path.is_file()}
    made = manifest(files=files, device=str(loaded.device), **identity)
    whose = (
        Path(loaded.name).name
        if adapter is None
        else f"{Path(loaded.name).name}, before and after an adapter"
    )
    report = Report(
        command="needle",
        title=f"Needles by length and depth: {told.task} for {whose}",
        claims=needle_claims(facts),
        sections=needle_sections(facts),
        facts=facts,
        manifest=made,
    )
    return write(report, place(out, "needle", identity, made["files"]))


def sides(loaded: Loaded, adapter: Path | None) -> Iterator[tuple[str, nn.Module]]:
    """Give the base and, where there is an adapter, the base again with it; each is whole while it is used.

    Args:
        loaded: the base; it is given back as it was.
        adapter: PEFT folder, or None.

    Yields:
        Name and model.

    Raises:
        AdapterError: the adapter does not belong to the base, or changes nothing.
    """
    if adapter is None:
        yield Path(loaded.name).name, loaded.model
        return
    from finetune.adapter import attach, require_active

    with contextlib.ExitStack() as stack:
        attached = stack.enter_context(attach(loaded, adapter))
        require_active(attached)
        with attached.model.disable_adapter():
            yield "base", attached.model
        yield ADAPTED, attached.model


def place(out: Path | None, command: str, identity: dict[str, Any], files: dict[str, dict[str, str]]) -> Path:
    """Name a run after what was asked and the hashes of what was read, unless a place was given."""
    hashes = {name: file["sha256"] for name, file in files.items()}
    return out or Path("results", command, run_id({**identity, "files": hashes}))


def ascending(given: str, flag: str, kind: Callable[[str], Any]) -> tuple[Any, ...]:
    """Read numbers such as lengths or depths.

    Args:
        given: separated by commas.
        flag: what the option is called, for the message.
        kind: ``int`` or ``float``.

    Returns:
        The numbers in ascending order, each once.

    Raises:
        DataError: something in it is not such a number.

    Examples:
        >>> ascending("512, 256", "--lengths", int)
        (256, 512)
    """
    try:
        return tuple(sorted({kind(part) for part in given.split(",")}))
    except ValueError:
        raise DataError(f"{flag} {given}: write numbers separated by commas") from None


def sentences_of(path: Path) -> Iterator[str]:
    """Sentences of 5 to 30 words of a corpus, in order, see :func:`finetune.exercises.sentences`."""
    from finetune.exercises import sentences
    from geometry.corpora import documents

    for document in documents(path):
        yield from sentences(document)


def _compared(loaded: Loaded, adapter: Path | None) -> dict[str, Any]:
    alone = {"base": base_record(loaded), "dtype": str(loaded.dtype).removeprefix("torch.")}
    return alone if adapter is None else comparison(loaded, adapter)


def _filler(told: Told) -> FillerOf:
    from itertools import islice

    from finetune.needle_tasks import from_sentences, neutral, rivals, same_format

    if told.text is None:
        return {"neutral": neutral, None: neutral, "same": same_format, "rival": rivals}[told.filler]
    if told.filler not in {None, "neutral"}:
        raise DataError("--haystack: its sentences are a neutral filler; leave --filler out")
    return from_sentences(islice(sentences_of(told.text), 200_000))


def _from_file(told: Told, rngs: Sequence[np.random.Generator]) -> tuple[Case, ...]:
    from finetune.lost_in_middle import documents_case, read_key_values, read_open_questions

    if told.needles != 1 or told.filler not in {None, "rival"} or told.text is not None:
        raise DataError(
            "--data: its records bring needle and filler along; drop --needles, --filler, --haystack"
        )
    if told.task == "kv":
        found = tuple(read_key_values(told.data, most=told.prompts))
        if len(found) < told.prompts:
            raise DataError(f"{told.data}: holds {len(found)} records; ask for as many --prompts at most")
        return found
    if told.task != "documents":
        raise DataError("--data: is for --task kv or documents")
    questions = read_open_questions(told.data)
    if len(questions) < told.prompts:
        raise DataError(f"{told.data}: holds {len(questions)} questions; ask for as many --prompts at most")
    drawn = np.random.default_rng(told.seed).permutation(len(questions))[: told.prompts]
    return tuple(documents_case(questions, int(i), rng) for i, rng in zip(drawn, rngs, strict=True))


@dataclass(frozen=True)
class Reading:
    """What ``repgeo attention`` reads.

    Attributes:
        text: corpus of the passages.
        lengths: tokens, ascending.
        prompts: passages, and questions with a needle.
        seed: of needles, sign flips and random adapters.
        n_random: random adapters beside an adapter.
        rows: folder for the rows of every passage and length, see :func:`geometry.live.attention.save`; or None.
    """

    text: Path
    lengths: tuple[int, ...]
    prompts: int = 12
    seed: int = 0
    n_random: int = 8
    rows: Path | None = None


def attention(loaded: Loaded, adapter: Path | None, reading: Reading, out: Path | None) -> Path:
    """Read attention by position and length, with a needle, and write the page.

    Args:
        loaded: the base.
        adapter: PEFT folder, or None.
        reading: what to read.
        out: folder of the page; None names it after what was asked.

    Returns:
        The path of the page.

    Raises:
        InputError: see :func:`analyses.attention_run.attention_facts` and :func:`analyses.needle_run.needle_facts`.
    """
    from analyses.attention_page import attention_claims, attention_sections
    from analyses.attention_run import attention_facts
    from analyses.needle_run import NeedleRequest, needle_facts
    from finetune.attention_passages import passages
    from geometry.corpora import documents

    found = passages(documents(reading.text), loaded.tokenizer, reading.lengths[-1], reading.prompts)
    told = Told("haystack", prompts=reading.prompts, seed=reading.seed)
    with watched("reading attention") as show:
        facts = attention_facts(
            lambda: sides(loaded, adapter), found, reading.lengths,
            seed=reading.seed, keep=_keeper(loaded, adapter, reading.rows), progress=show,
        )  # fmt: skip
    facts["moved"] = None if adapter is None else _moved(loaded, adapter, found, reading)
    request = NeedleRequest(
        cases(told), reading.lengths, (0.0, 0.25, 0.5, 0.75, 1.0), write=0, seed=reading.seed
    )
    with watched("asking for needles") as show:
        facts["needle"] = needle_facts(
            lambda: sides(loaded, adapter), loaded.tokenizer, request, progress=show
        )
    facts = plain(facts)
    identity = _compared(loaded, adapter) | {
        "lengths": list(reading.lengths),
        "prompts": reading.prompts,
        "seed": reading.seed,
        "random_adapters": 0 if adapter is None else facts["moved"]["random"],
    }
    files = {"text": reading.text} if reading.text.is_file() else {}
    made = manifest(files=files, device=str(loaded.device), **identity)
    whose = (
        Path(loaded.name).name
        if adapter is None
        else f"{Path(loaded.name).name}, before and after an adapter"
    )
    report = Report(
        command="attention",
        title=f"Attention by position and length: {whose}",
        claims=attention_claims(facts),
        sections=attention_sections(facts),
        facts=facts,
        manifest=made,
    )
    return write(report, place(out, "attention", identity, made["files"]))


def _keeper(
    loaded: Loaded, adapter: Path | None, folder: Path | None
) -> Callable[[str, int, AttentionAnswer], None]:
    """Writes rows to ``<side>/<passage>-<length>``, if they are to be kept."""
    if folder is None:
        return lambda *_: None
    from geometry.live.attention import save

    def keep(side: str, passage: int, answer: AttentionAnswer) -> None:
        about = {
            "model": loaded.name,
            "fingerprint": loaded.fingerprint,
            "adapter": str(adapter) if side == ADAPTED else None,
            "passage": passage,
        }
        save(replace(answer, about=about), folder / side / f"{passage:03d}-{answer.length}")

    return keep


def _moved(loaded: Loaded, adapter: Path, found: Sequence[Passage], reading: Reading) -> dict[str, Any]:
    from analyses.attention_moved import moved_facts
    from finetune.adapter import attach

    rng = np.random.default_rng(reading.seed)
    with attach(loaded, adapter) as attached, watched("comparing attention") as show:
        return moved_facts(
            attached, found, reading.lengths[-1], n_random=reading.n_random, rng=rng, progress=show
        )


@dataclass(frozen=True)
class Persons:
    """What ``repgeo privacy`` asks.

    Attributes:
        data: a file of PAPerBench, or None to invent instances.
        lengths: tokens of invented contexts.
        prompts: instances of a length, or lines of the file.
        sparse: whether each kind of private data comes once at most.
        decoys: look-alikes in a context.
        seed: of all draws.
    """

    data: Path | None
    lengths: tuple[int, ...]
    prompts: int = 12
    sparse: bool = False
    decoys: int = 0
    seed: int = 0


def privacy(loaded: Loaded, adapter: Path | None, persons: Persons, out: Path | None) -> Path:
    """Ask about persons in long contexts and write the page; see :func:`analyses.privacy_run.privacy_facts`.

    Args:
        loaded: the base.
        adapter: PEFT folder, or None.
        persons: what to ask.
        out: folder of the page; None names it after what was asked.

    Returns:
        The path of the page.

    Raises:
        InputError: see :func:`analyses.privacy_run.privacy_facts`.
    """
    from analyses.privacy_run import privacy_claims, privacy_facts, privacy_sections
    from finetune.paper_bench import read_instances
    from finetune.personas import Recipe, persona_instance

    if persons.data is not None:
        groups = {persons.data.name: read_instances(persons.data, most=persons.prompts)}
    else:
        groups = {
            f"{length:,} tokens": [
                persona_instance(Recipe(length, persons.sparse, persons.decoys), loaded.tokenizer, rng)
                for rng in np.random.default_rng(persons.seed).spawn(persons.prompts)
            ]
            for length in persons.lengths
        }
    with watched("asking") as show:
        facts = plain(privacy_facts(lambda: sides(loaded, adapter), loaded.tokenizer, groups, progress=show))
    identity = _compared(loaded, adapter) | {
        "lengths": list(persons.lengths) if persons.data is None else None,
        **{key: getattr(persons, key) for key in ("prompts", "sparse", "decoys", "seed")},
    }
    made = manifest(
        files={"data": persons.data} if persons.data else {}, device=str(loaded.device), **identity
    )
    whose = (
        Path(loaded.name).name
        if adapter is None
        else f"{Path(loaded.name).name}, before and after an adapter"
    )
    report = Report(
        command="privacy",
        title=f"Personalisation and privacy in long contexts: {whose}",
        claims=privacy_claims(facts),
        sections=privacy_sections(facts),
        facts=facts,
        manifest=made,
    )
    return write(report, place(out, "privacy", identity, made["files"]))
