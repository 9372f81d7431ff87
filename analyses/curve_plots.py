"""Curves over positions, depths and lengths: several panels over one axis, with floors and what lies beyond."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from analyses import marks
from analyses.marks import INK, MARKERS, PALETTE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes

    Data = Mapping[str, Any]

_FEW = 16
"""Most points of a curve that are marked one by one."""


def curves(data: Data) -> Figure:
    """Draw curves over one number in one panel or more.

    Args:
        data: ``x_label``, perhaps ``x_log`` (logarithmic axis), ``beyond`` (from this x on the ground is grey) and
            ``beyond_name``; ``panels``, each with ``series`` (``name``, ``x``, ``values``, perhaps ``low`` and
            ``high``) and ``y_label``; perhaps ``title``, ``lines`` (references: ``name``, ``x``, ``values``),
            ``floor`` (``x``, ``low``, ``high``, ``name``), and ``y_limits``. A series keeps its colour in all
            panels.

    Returns:
        Panels side by side, up to three in a row, each with its own value axis.
    """
    panels = data["panels"]
    columns = min(3, len(panels)) if len(panels) != 4 else 2
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(marks.WIDTH, 2.8 if lines == 1 else 2.2 * lines + 0.5))
    grid = figure.subplots(lines, columns, sharex=True, squeeze=False).ravel()
    for axes in grid[len(panels) :]:
        axes.remove()
    names = list(dict.fromkeys(one["name"] for panel in panels for one in panel["series"]))
    for axes, panel in zip(grid, panels, strict=False):
        if data.get("x_log"):
            axes.set_xscale("log")
        _panel(axes, panel, names)
        axes.set_xlabel(data["x_label"])
        axes.tick_params(labelbottom=True)
        if data.get("x_log"):
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
    if data.get("beyond") is not None:
        for axes in grid[: len(panels)]:
            end = axes.get_xlim()[1]
            if data["beyond"] < end:
                name = data.get("beyond_name", "beyond")
                axes.axvspan(data["beyond"], end, color=INK, alpha=0.14, lw=0, zorder=0, label=name)
                axes.set_xlim(right=end)
    marks.legend(figure, list(grid[: len(panels)]))
    return figure


def _panel(axes: Axes, panel: Data, names: list[str]) -> None:
    for one in panel["series"]:
        i = names.index(one["name"])
        x, values = marks.floats(one["x"]), marks.floats(one["values"])
        few = len(x) <= _FEW
        axes.plot(
            x, values, color=PALETTE[i % 6], marker=MARKERS[i % 6] if few else None, lw=1.6 if few else 1.1,
            label=one["name"], zorder=3,
        )  # fmt: skip
        if one.get("low") is not None:
            ends = [marks.floats(one[end], len(x)) for end in ("low", "high")]
            axes.fill_between(x, *ends, color=PALETTE[i % 6], alpha=0.18, lw=0, zorder=2)
    for line in panel.get("lines") or []:
        axes.plot(
            marks.floats(line["x"]), marks.floats(line["values"]), color=INK, lw=1.0, label=line["name"],
            ls=_dashes(panel, line), zorder=1.5,
        )  # fmt: skip
    floor = panel.get("floor")
    if floor is not None:
        marks.band(axes, np.asarray(marks.floats(floor["x"])), floor)
    axes.set_title(panel.get("title", ""), loc="left")
    marks.value_limits(axes, panel.get("y_limits"))
    marks.value_label(axes, panel["y_label"])


def _dashes(panel: Data, line: Data) -> tuple[int, tuple[int, ...]]:
    """Another dash for each reference of a panel."""
    at = panel["lines"].index(line)
    return (0, ((4, 3), (1, 2), (6, 2, 1, 2), (8, 4))[at % 4])


PLOTS = {"curves": curves}
"""By the name that report.json gives it."""
