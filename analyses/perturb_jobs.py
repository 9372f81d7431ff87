"""Perturbing a corpus from the command line: measure, and write the page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from analyses.manifest import manifest, run_id
from analyses.report import Report, plain, write
from analyses.terminal import watched
from geometry.corpora import files

if TYPE_CHECKING:
    from analyses.perturb_run import PerturbRequest


def perturb(request: PerturbRequest, out: Path | None) -> Path:
    """Edit a corpus, embed it again, and write what became of a concept; see :func:`analyses.perturb_run.measure`.

    Args:
        request: corpora, concept and edits.
        out: folder of the page; None names it after what was asked.

    Returns:
        The path of the page.

    Raises:
        InputError: see :func:`analyses.perturb_run.measure`, or the place cannot be written.
    """
    from analyses.perturb_page import perturb_claims, perturb_sections
    from analyses.perturb_run import measure

    read = {str(file): file for corpus in request.corpora for file in files(corpus)}
    made = manifest(files=read, **_asked(request))
    hashes = sorted(one["sha256"] for one in made["files"].values())
    with watched("perturbing") as show:
        facts = plain(measure(request, show=show))
    report = Report(
        command="perturb",
        title=f"{request.concept.name}: does geometry follow an edited corpus?",
        claims=perturb_claims(facts),
        sections=perturb_sections(facts),
        facts=facts,
        manifest=made,
    )
    asked = {**_asked(request), "corpora": hashes}
    return write(report, out or Path("results", "perturb", run_id(asked)))


def _asked(request: PerturbRequest) -> dict[str, Any]:
    asked = {name: value for name, value in vars(request).items() if name != "concept"}
    return plain({**asked, "concept": request.concept.name, "items": request.concept.items})
