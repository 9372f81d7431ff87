"""Making pairs from the command line: neutralise a styled corpus, or deal a parallel one into parts."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analyses.manifest import manifest
from analyses.report import Report, plain, write
from analyses.terminal import note, watched
from finetune.folders import require_replaceable, whole_folder
from finetune.leaks import leaking
from finetune.pair_files import NOTE, Parts, dealt, part_files, write_lines, write_parts
from geometry.checks import DataError, InputError
from geometry.record_files import record_files

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analyses.neutralise_run import NeutraliseRequest, Similarity
    from analyses.style_run import StyleData
    from finetune.neutralise import Translator
    from finetune.passages import Fields
    from finetune.round_trips import TripStore


def neutralise(
    request: NeutraliseRequest, store: TripStore, out: Path, *, similarity: Similarity | None = None
) -> Path:
    """Make pairs of a styled corpus; see :func:`analyses.neutralise_run.neutralise`.

    Args:
        request: what is neutralised, and how.
        store: where round trips are kept.
        out: folder of ``train.jsonl``, ``validation.jsonl``, ``test.jsonl``, ``dropped.jsonl``, ``pairs.json``
            and the page, written whole or not at all.
        similarity: compares embeddings; None leaves this out.

    Returns:
        The path of the page.

    Raises:
        InputError: the corpus or an engine cannot be used, or the place cannot be written.
    """
    from analyses.neutralise_page import neutralise_claims, neutralise_sections
    from analyses.neutralise_run import neutralise

    require_replaceable(out, known_by=[NOTE])
    with watched("neutralising") as show:
        made = neutralise(request, store, similarity=similarity, progress=show)
    facts = plain(made.facts)
    files = {file.name: file for file in record_files(request.corpus)}
    report = Report(
        command="neutralise",
        title=f"{request.corpus.name}, made neutral",
        claims=neutralise_claims(facts),
        sections=neutralise_sections(facts),
        facts=facts,
        manifest=manifest(files=files, **_asked(request)),
    )
    with whole_folder(out, known_by=[NOTE]) as folder:
        write_parts(folder, made.parts)
        write_lines(folder / "dropped.jsonl", made.dropped)
        write(report, folder / "page")
    _tell(made.parts)
    return out / "page" / "report.html"


def pairs(
    corpora: Sequence[Path], source: Fields, target: str, out: Path, *, block: int = 100, seed: int = 0
) -> Path:
    """Deal a parallel corpus into training, validation and test; see :func:`finetune.passages.parallel`.

    Args:
        corpora: one file with both sides, or two text files.
        source: of the plain side.
        target: name of the styled side.
        out: the folder to make.
        block: neighbours split as one document where none is named.
        seed: of the deal.

    Returns:
        The folder.

    Raises:
        InputError: the corpus cannot be used, or the place cannot be written.
    """
    from finetune.passages import parallel, unique_pairs

    require_replaceable(out, known_by=[NOTE])
    kept, aside = unique_pairs(parallel(corpora, source, target, block=block))
    for reason, n in aside.items():
        note(f"{n} pairs were set aside: {reason}")
    parts = Parts(
        dealt(kept, seed), {"corpora": [str(path) for path in corpora], "seed": seed, "aside": aside}
    )
    with whole_folder(out, known_by=[NOTE]) as folder:
        write_parts(folder, parts)
    _tell(parts)
    return out


def style_data(source: Path | dict[str, Path], facts: Path | None, *, name: str, quotable: bool) -> StyleData:
    """Say which files a style run reads.

    Args:
        source: a folder of pairs, or the file of each part.
        facts: cloze facts; None takes those that this project wrote.
        name: of the style.
        quotable: whether sentences may stand on the page.

    Returns:
        The files.

    Raises:
        DataError: a file of the folder is missing.
    """
    from analyses.style_run import DATA, StyleData

    files = source if isinstance(source, dict) else part_files(source)
    return StyleData(name, **files, facts=facts or DATA / "facts.jsonl", quotable=quotable)


def engines(
    kind: str, pivots: Sequence[str], folders: tuple[str, str] | None, **settings: Any
) -> tuple[Translator, ...]:
    """Make the engines that the options name.

    Args:
        kind: ``apertium`` or ``marian``.
        pivots: names of the pivot languages, each once; none takes the first that the engine has.
        folders: of two Marian models; then there is one pivot.
        **settings: keywords of :meth:`finetune.marian.Marian.load`.

    Returns:
        One engine for each pivot.

    Raises:
        InputError: an engine, a pivot or a model that is not there; or folders for another engine or for several
            pivots.
    """
    chosen = tuple(dict.fromkeys(pivots))
    if folders and (kind != "marian" or len(chosen) > 1):
        raise InputError(
            "--there and --back are folders of two Marian models: give --engine marian and one --pivot"
        )
    if kind == "apertium":
        from finetune.neutralise import APERTIUM_PIVOTS, Apertium

        return tuple(map(Apertium, chosen or list(APERTIUM_PIVOTS)[:1]))
    from finetune.marian import MARIAN_PIVOTS, Marian

    default = ("pivot",) if folders else tuple(MARIAN_PIVOTS)[:1]
    return tuple(Marian.load(pivot, folders, **settings) for pivot in chosen or default)


def store(path: Path | None) -> TripStore:
    """Name the file in which round trips are kept; None is that of this user."""
    from finetune.round_trips import TripStore

    return TripStore.default() if path is None else TripStore(path)


def similarity(embedder: Path | None, least: float | None, *, device: str | None) -> Similarity | None:
    """Load what compares texts by their embeddings.

    Args:
        embedder: folder of a model; None compares nothing.
        least: the cosine that is asked for, if any.
        device: for the model; None is the CPU.

    Returns:
        A function of two lists of texts.

    Raises:
        DataError: a cosine is asked for and no model given.
        ModelError: the model cannot be loaded.
    """
    if embedder is None:
        if least is not None:
            raise DataError("--similarity needs the folder of an embedding model: add --embedder FOLDER")
        return None
    from finetune.content import cosines
    from finetune.embedder import Embedder

    loaded = Embedder.load(embedder, device=device or "cpu")
    return lambda texts, others: cosines(loaded, texts, others)


def unsplit(text: str) -> list[str]:
    """Take a text as it is: the splitter of those who want none."""
    return [text]


def _asked(request: NeutraliseRequest) -> dict[str, Any]:
    return {
        "engines": {engine.name: dict(engine.details) for engine in request.engines},
        "fields": asdict(request.fields),
        "bounds": asdict(request.bounds),
        "split": request.split.__name__,
        "trips": request.trips,
        "limits": asdict(request.limits),
        "seed": request.seed,
        "quotable": request.quotable,
    }


def _tell(parts: Parts) -> None:
    counts = parts.counts
    note(", ".join(f"{one['pairs']} pairs to {part}" for part, one in counts["parts"].items()))
    for sentence in leaking(counts["leaks"]):
        note(f"leak: {sentence}")
