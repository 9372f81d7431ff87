"""One row for each system, one panel for each score: dots with intervals, between floor and ceiling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analyses import marks
from analyses.marks import INK, PALETTE

if TYPE_CHECKING:
    from collections.abc import Mapping

    Data = Mapping[str, Any]

_COLUMNS = 2


def forest(data: Data) -> Figure:
    """Draw scores of many systems.

    Args:
        data: ``rows`` (names) and ``panels``, each with ``title``, ``values`` (one a row), where known ``low``
            and ``high``, and perhaps ``floor`` and ``ceiling`` (numbers) and ``limits``; perhaps ``floor_name``
            and ``ceiling_name``, and ``groups`` (a number a row, which chooses its colour).

    Returns:
        Panels in rows of two with one list of names; a line at the floor, a dashed one at the ceiling.
    """
    rows, panels = data["rows"], data["panels"]
    groups = data.get("groups") or [0] * len(rows)
    names = {end: data.get(f"{end}_name", end) for end in ("floor", "ceiling")}
    lines = -(-len(panels) // _COLUMNS)
    figure = Figure(figsize=(marks.WIDTH + 1.2, lines * (0.2 * len(rows) + 0.55) + 0.4))
    grid = figure.subplots(lines, _COLUMNS, sharey=True, squeeze=False).ravel()
    for axes in grid[len(panels) :]:
        axes.remove()
    for axes, panel in zip(grid, panels, strict=False):
        values = marks.floats(panel["values"], len(rows))
        for y, (value, group) in enumerate(zip(values, groups, strict=True)):
            axes.plot(value, y, marker="o", color=PALETTE[group % 6], ms=4.5, zorder=3)
        if panel.get("low") is not None:
            low, high = (marks.floats(panel[end], len(rows)) for end in ("low", "high"))
            axes.hlines(
                range(len(rows)),
                low,
                high,
                color=[PALETTE[g % 6] for g in groups],
                lw=2.4,
                alpha=0.4,
                zorder=2,
            )
        for end, dashes in (("floor", "-"), ("ceiling", (0, (4, 3)))):
            if panel.get(end) is not None:
                axes.axvline(panel[end], color=INK, lw=1.0, ls=dashes, label=names[end], zorder=1)
        axes.set_title(panel["title"], loc="left")
        axes.set_yticks(range(len(rows)), rows)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.grid(axis="y", color=INK, alpha=0.15, lw=0.6)
        if panel.get("limits"):
            axes.set_xlim(*panel["limits"])
    marks.legend(figure, list(grid[: len(panels)]))
    return figure


PLOTS = {"forest": forest}
"""Joined to those of :data:`analyses.plots.PLOTS`."""
