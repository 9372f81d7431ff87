"""``repgeo score`` once its options are read."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from analyses.compared import WEIGHTS, base_record
from analyses.manifest import manifest, run_id
from analyses.report import Report, plain, write
from analyses.score_page import score_claims, score_sections
from analyses.score_run import ScoreRequest, score
from analyses.score_systems import Wanted
from analyses.score_writing import require_base
from analyses.terminal import note, refusals, watched
from finetune.folders import sha256_file, work_folder
from finetune.pairs import read_pairs
from finetune.templates import SHIPPED, Template
from geometry.checks import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from finetune.pairs import Pair
    from geometry.live.models import Loaded


def request(
    files: Mapping[str, Path],
    outputs: Mapping[str, Path],
    adapters: Mapping[str, Path],
    *,
    pivot: str = "none",
    embedder: Path | None = None,
    classifier: str | None = None,
    shots: int = 5,
    room: int = 128,
    prompt: tuple[str, Path | None] = ("plain", None),
    style: str = "the style",
    seed: int = 0,
    quotable: bool = True,
    device: str | None = None,
) -> ScoreRequest:
    """Read everything that a score needs but the base model.

    Args:
        files: ``pairs``, perhaps ``train``, ``judge`` and ``facts``.
        outputs: name -> file of what a system wrote.
        adapters: name -> PEFT folder.
        pivot: language of the round trip by apertium, or ``none``.
        embedder: folder of an embedding model.
        classifier: folder of a classifier as judge.
        shots: solved pairs in a prompt of examples.
        room: tokens of the longest answer.
        prompt: name of the template and the file that has it; None is that of ours.
        style: what the style is called.
        seed: of all chance.
        quotable: whether sentences may stand on the page.
        device: of embedder and classifier.

    Returns:
        The request.

    Raises:
        InputError: a file, model or template that cannot be used.
    """
    from finetune.embedder import Embedder
    from finetune.judges import TransformerJudge
    from finetune.neutralise import Apertium

    read = {use: _pairs(files[use]) for use in ("pairs", "train", "judge") if use in files}
    embedding = Embedder.load(embedder, device=device or "cpu") if embedder else None
    wanted = Wanted(
        train=read.get("train", ()),
        adapters=dict(adapters),
        engine=None if pivot == "none" else Apertium(pivot),
        shots=shots,
        room=room,
        template=Template.named(prompt[0], prompt[1] or SHIPPED),
        style=style,
        facts=files.get("facts"),
        embedding=embedding,
        seed=seed,
    )
    return ScoreRequest(
        read["pairs"],
        outputs,
        wanted,
        judged_by=read.get("judge", wanted.train),
        judge=TransformerJudge.load(classifier, device=device or "cpu") if classifier else None,
        embedding=embedding,
        seed=seed,
        quotable=quotable,
    )


def _pairs(path: Path) -> tuple[Pair, ...]:
    found = read_pairs(path)
    refusals(path, found.refused)
    return found.pairs


def _weights(folder: Path) -> str | None:
    """Hash an adapter's weights; a folder without any is refused where it is attached."""
    return sha256_file(folder / WEIGHTS) if (folder / WEIGHTS).is_file() else None


def scored(
    request: ScoreRequest,
    base: Loaded | None,
    out: Path | None,
    *,
    files: Mapping[str, Path],
    diff: Path | None = None,
) -> Path:
    """Score systems and write the page; see :func:`analyses.score_run.score`.

    Args:
        request: what is scored.
        base: the base model, if any.
        out: folder of the page; None names it after what was asked.
        files: what was read beside the outputs, for the manifest.
        diff: folder of a run that compared base and adapter; the page links to its page.

    Returns:
        The path of the page.

    Raises:
        InputError: see :func:`analyses.score_run.score`; or there is no page in ``diff``.
    """
    if diff is not None and not (diff / "report.html").is_file():
        raise DataError(f"--diff {diff}: holds no report.html; name the folder of a run of `repgeo diff`")
    wanted = request.wanted
    require_base(wanted, base)
    files = {**files, **{f"outputs of {name}": path for name, path in request.outputs.items()}}
    identity = {
        "files": {use: sha256_file(path) for use, path in files.items()},
        "base": base_record(base) if base else None,
        "adapters": {name: _weights(folder) for name, folder in wanted.adapters.items()},
        "round_trip": wanted.engine and wanted.engine.name,
        "shots": wanted.shots,
        "longest_answer": wanted.room,
        "template": asdict(wanted.template),
        "style": wanted.style,
        "judge": getattr(request.judge, "name", None),
        "embedding": getattr(request.embedding, "name", None),
        "exchanges": request.exchanges,
        "quotable": request.quotable,
        "seed": request.seed,
    }
    place = out or Path("results", "score", run_id(identity))
    with work_folder(place, identity) as keep, watched("scoring") as show:
        facts = plain(score(request, base, progress=show, keep=keep))
    for sentence in facts["shared"]:
        note(sentence)
    report = Report(
        command="score",
        title=f"How well {wanted.style} is written, and what it costs",
        claims=score_claims(facts),
        sections=score_sections(facts, diff and os.path.relpath(diff / "report.html", place)),
        facts=facts,
        manifest=manifest(files=files, **{k: v for k, v in identity.items() if k != "files"}),
    )
    return write(report, place)
