"""A shelf of finished runs: one page that shows what each found and leads to its page."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from analyses import plots
from analyses.page import drawing, environment
from analyses.report import read
from finetune.folders import write_whole
from geometry.checks import DataError

if TYPE_CHECKING:
    from markupsafe import Markup

    from analyses.report import FigureSpec, Report

INDEX = "index.html"


@dataclass(frozen=True)
class Shelved:
    """A run as the index shows it.

    Attributes:
        folder: where it lies, seen from the index.
        link: the way from the index to its page.
        report: what it found.
        picture: its first figure; None where it has none.
    """

    folder: str
    link: str
    report: Report
    picture: Markup | None


def index(folder: str | Path) -> Path:
    """Write ``index.html`` into a folder, over all runs in it and in the folders below.

    Only the report.json of each run is read; no model is needed.

    Args:
        folder: where runs lie, at any depth. Runs that are being written, whose folder ends in ``.partial``, and
            hidden folders are passed over.

    Returns:
        The path of the index.

    Raises:
        DataError: there is no run in it, or a run whose report.json cannot be read or drawn, or whose page is gone.
        InputError: the index cannot be written.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"{folder}: is not a folder; name one that holds runs")
    places = sorted(path.parent for path in root.rglob("report.json") if not _passed_over(path, root))
    if not places:
        raise DataError(f"{folder}: holds no run; a run is a folder with a report.json")
    runs = [_shelved(place, root, f"run-{at}") for at, place in enumerate(places)]
    # the newest first; of the same second, by name
    runs.sort(key=lambda run: str(run.report.manifest.get("time", "")), reverse=True)
    write_whole(root / INDEX, environment().get_template("index.html.j2").render(runs=runs))
    return root / INDEX


def _passed_over(path: Path, root: Path) -> bool:
    return any(
        part.startswith(".") or part.endswith(".partial") for part in path.relative_to(root).parts[:-1]
    )


def _shelved(place: Path, root: Path, prefix: str) -> Shelved:
    if not (place / "report.html").is_file():
        raise DataError(f"{place}: has lost its page; draw it again with `repgeo redraw {place}`")
    report = read(place)
    folder = place.relative_to(root).as_posix()
    picture = _picture(report.figures[0], prefix) if report.figures else None
    return Shelved(root.name if folder == "." else folder, f"{folder}/report.html", report, picture)


def _picture(figure: FigureSpec, prefix: str) -> Markup:
    """Draw a figure under a name of its own: two runs of one command would both call it the same."""
    vector = plots.svg(plots.draw(figure.plot, figure.data))
    return drawing(replace(figure, name=f"{prefix}-{figure.name}"), vector)
