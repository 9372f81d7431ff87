"""A report: facts first, pictures last.

Everything that a page shows is in ``report.json``. The page and its figures are drawn from that file alone,
so :func:`redraw` makes them anew without a model, and a reader can check every number of every figure.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from analyses import plots
from finetune.folders import whole_folder, write_whole
from geometry.checks import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.figure import Figure
    from numpy.typing import NDArray

# no string: json never breaks a line inside one, and the items of a list stand on lines of their own
_NUMBER = r"(?:-?\d[\d.eE+-]*|null)"
_NUMBERS = re.compile(rf"\[\n +({_NUMBER}(?:,\n +{_NUMBER})*)\n +\]")

SCHEMA = 1
"""The version of report.json. It grows when a reader of old files would misread new ones."""


@dataclass(frozen=True)
class FigureSpec:
    """One figure, as numbers.

    Attributes:
        name: file name without ending; lower-case letters, digits, hyphens; unique in its report.
        plot: a key of :data:`analyses.plots.PLOTS`.
        caption: one or two sentences: what it shows, and what it does not.
        data: what that plot documents, as JSON values.
    """

    name: str
    plot: str
    caption: str
    data: Mapping[str, Any]

    def __post_init__(self) -> None:
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", self.name), f"not a file name: {self.name!r}"
        assert self.plot in plots.PLOTS, f"no such plot: {self.plot!r}"


@dataclass(frozen=True)
class TableSpec:
    """One table.

    Attributes:
        caption: one or two sentences: what it shows, and what it does not.
        columns: names, with units.
        rows: one cell a column. A cell is a text, a number, a truth value, None, or a mapping that brings
            a number's floor along, as :func:`analyses.digits.measured` documents. A mapping of ``marked`` is a text
            in stretches, each with whether it stands out.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def __post_init__(self) -> None:
        for row in self.rows:
            assert len(row) == len(self.columns), f"{len(row)} cells for {len(self.columns)} columns: {row}"


@dataclass(frozen=True)
class Section:
    """A part of the page that folds.

    Attributes:
        title: heading, unique in its report.
        text: paragraphs; words between backticks are set as code.
        figures: shown after the text.
        tables: shown after the figures.
    """

    title: str
    text: tuple[str, ...] = ()
    figures: tuple[FigureSpec, ...] = ()
    tables: tuple[TableSpec, ...] = ()

    def __post_init__(self) -> None:
        assert not isinstance(self.text, str), "text is a tuple of paragraphs"


@dataclass(frozen=True)
class Report:
    """The answer of one command.

    Attributes:
        command: the command's name, such as ``diff``.
        title: heading of the page.
        claims: findings, one sentence each, the most important first; they open the page.
        sections: what supports them.
        facts: every number, as JSON values under names that stay the same between versions.
        manifest: how it was made, see :func:`analyses.manifest.manifest`.
    """

    command: str
    title: str
    claims: tuple[str, ...]
    sections: tuple[Section, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    manifest: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert not isinstance(self.claims, str), "claims is a tuple of sentences"
        names = [figure.name for figure in self.figures]
        assert len(set(names)) == len(names), f"figure names must differ: {names}"

    @property
    def figures(self) -> tuple[FigureSpec, ...]:
        """All figures, in the order of the page."""
        return tuple(figure for section in self.sections for figure in section.figures)

    def plot(self, name: str) -> Figure:
        """Draw one figure again.

        Args:
            name: that of a figure; it is the name of its file under ``figures/``.

        Returns:
            A matplotlib figure, to save or to change.

        Raises:
            DataError: there is no such figure, or its data cannot be drawn.

        Examples:
            >>> data = {"values": [[0.5]], "rows": ["a"], "columns": ["b"], "label": "overlap"}
            >>> heat = FigureSpec("overlap", "heat", "Overlap.", data)
            >>> Report("diff", "A run", (), (Section("Overlap", figures=(heat,)),)).plot("overlap")
            <Figure size 540x180 with 2 Axes>
        """
        for figure in self.figures:
            if figure.name == name:
                return plots.draw(figure.plot, figure.data)
        there = ", ".join(figure.name for figure in self.figures) or "none"
        raise DataError(f"no figure is called '{name}'; there are: {there}")

    def _repr_html_(self) -> str:
        """Show the whole page in a notebook, in a frame of its own so that neither changes the other's looks."""
        from markupsafe import escape

        from analyses.page import page

        vectors = {figure.name: plots.svg(self.plot(figure.name)) for figure in self.figures}
        frame = "width: 100%; height: 45rem; border: 1px solid #d8dee4; border-radius: 8px"
        return f'<iframe style="{frame}" srcdoc="{escape(page(self, vectors))}"></iframe>'

    def as_json(self) -> str:
        """Write the report as JSON with sorted keys, lists of numbers on one line; NaN and infinity become null."""
        return _json({"schema": SCHEMA, **asdict(self)})

    @classmethod
    def from_json(cls, text: str, name: str = "report.json") -> Self:
        """Read what :meth:`as_json` wrote.

        Args:
            text: the content of a report.json.
            name: where it came from; used in the message.

        Returns:
            The report; numbers that were not finite are None.

        Raises:
            DataError: not JSON, of another schema version, or with parts missing.
        """
        try:
            content = json.loads(text)
            schema = content.pop("schema")
            sections = tuple(map(_section, content.pop("sections")))
            if schema == SCHEMA:
                return cls(**{**content, "claims": tuple(content["claims"]), "sections": sections})
        except json.JSONDecodeError as error:
            raise DataError(f"{name}: is not JSON (line {error.lineno}); run the command again") from error
        except (KeyError, TypeError, AttributeError, AssertionError) as error:
            raise DataError(f"{name}: is not a report of repgeo; run the command again") from error
        raise DataError(f"{name}: has schema {schema}, this version reads {SCHEMA}; run the command again")


def plain(value: object) -> Any:
    """Turn a value into JSON values.

    Args:
        value: mappings, sequences, NumPy arrays and numbers, paths, texts, None, in any nesting.

    Returns:
        dict, list, str, int, float, bool or None. NaN and infinity become None.

    Raises:
        TypeError: there is something else in it; that is a bug of ours.

    Examples:
        >>> plain({1: (np.float64(0.5), np.nan), "x": np.arange(2)})
        {'1': [0.5, None], 'x': [0, 1]}
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return float(value) if np.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no place in report.json")


def write(
    report: Report, out: str | Path, *, arrays: Mapping[str, Mapping[str, NDArray[Any]]] | None = None
) -> Path:
    """Write a run: report.json, report.html, manifest.json, figures and arrays; whole or not at all.

    Args:
        report: what was found.
        out: the folder; an older run in it is replaced.
        arrays: file name without ending -> named arrays, kept as ``arrays/<name>.safetensors``.

    Returns:
        The path of report.html.

    Raises:
        InputError: ``out`` cannot be written, or holds something else.
    """
    from safetensors.numpy import save_file

    text = report.as_json()
    with whole_folder(out) as folder:
        write_whole(folder / "report.json", text)
        write_whole(folder / "manifest.json", _json(dict(report.manifest)))
        for name, tensors in (arrays or {}).items():
            (folder / "arrays").mkdir(exist_ok=True)
            contiguous = {key: np.ascontiguousarray(value) for key, value in tensors.items()}
            save_file(contiguous, folder / "arrays" / f"{name}.safetensors")
        # Drawn from what was written, so that a page can never show more than its report.json holds.
        _illustrate(Report.from_json(text), folder)
    return Path(out) / "report.html"


def read(folder: str | Path) -> Report:
    """Read the report of a run.

    Args:
        folder: what :func:`write` made.

    Returns:
        The report.

    Raises:
        DataError: there is no report.json in it, or it cannot be read.
    """
    path = Path(folder) / "report.json"
    if not path.is_file():
        raise DataError(f"{folder}: holds no report.json; name the folder of a run")
    return Report.from_json(path.read_text(encoding="utf-8", errors="replace"), str(path))


def redraw(folder: str | Path) -> Path:
    """Make report.html and the figures of a run again from its report.json alone; no model is needed.

    Args:
        folder: what :func:`write` made.

    Returns:
        The path of report.html.

    Raises:
        DataError: there is no report.json in it, or it cannot be read or drawn.
        InputError: the folder cannot be written.
    """
    _illustrate(read(folder), Path(folder))
    return Path(folder) / "report.html"


def _json(value: object) -> str:
    text = json.dumps(plain(value), sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    # a matrix with one entry a line is three times as long, and nobody can read it
    return _NUMBERS.sub(lambda found: "[" + " ".join(found.group(1).split()) + "]", text)


def _illustrate(report: Report, folder: Path) -> None:
    from analyses.page import page

    # All are drawn before one is written: data that cannot be drawn leave the old page as it is.
    drawn = {figure.name: plots.draw(figure.plot, figure.data) for figure in report.figures}
    (folder / "figures").mkdir(exist_ok=True)
    vectors = {name: plots.save(figure, folder / "figures" / name) for name, figure in drawn.items()}
    write_whole(folder / "report.html", page(report, vectors))


def _section(content: dict[str, Any]) -> Section:
    return Section(
        title=content["title"],
        text=tuple(content["text"]),
        figures=tuple(FigureSpec(**figure) for figure in content["figures"]),
        tables=tuple(
            TableSpec(table["caption"], tuple(table["columns"]), tuple(map(tuple, table["rows"])))
            for table in content["tables"]
        ),
    )
