"""What every figure is made of: one palette, grey floors, dashed ceilings, one legend above the panels."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    Data = Mapping[str, Any]

INK = "#6e7781"
"""Axes, text and floors: a grey that reads on white (4.6 to 1) and on near-black (4.1 to 1)."""

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's colours, told apart by every common kind of colour vision (yellow and black left out)."""

MARKERS = ("o", "s", "^", "D", "v", "P")
WIDTH = 5.4  # inches; at this size the letters can still be read on a telephone

STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "figure.constrained_layout.use": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "repgeo",
}


def panel(height: float) -> tuple[Figure, Axes]:
    """Make a figure of one panel, ``height`` inches high."""
    figure = Figure(figsize=(WIDTH, height))
    return figure, figure.subplots()


def small_multiples(n: int, height: float, *, sharex: bool = False) -> tuple[Figure, list[Axes], int]:
    """Make n panels with one value axis in rows as even as they can be, and say how many stand in a row."""
    columns = n if n <= 3 else 2 if n == 4 else 3
    lines = math.ceil(n / columns)
    figure = Figure(figsize=(WIDTH, 2.8 if lines == 1 else height * lines + 0.5))
    figure.get_layout_engine().set(wspace=0.05)
    grid = list(figure.subplots(lines, columns, sharex=sharex, sharey=True, squeeze=False).ravel())
    for axes in grid[n:]:
        axes.remove()
    for axes in grid[max(0, n - columns) : n]:
        axes.tick_params(labelbottom=True)
    return figure, grid[:n], columns


def floats(values: object, n: int | None = None) -> NDArray[np.float64]:
    """Read numbers of report.json.

    Args:
        values: numbers or None in a sequence; or, where ``n`` is given, one that stands for all.
        n: how many are expected.

    Returns:
        Shape (n,), float64; None has become NaN.

    Raises:
        ValueError: there are not ``n``.

    Examples:
        >>> floats([1, None]), floats(0.5, 2)
        (array([ 1., nan]), array([0.5, 0.5]))
    """
    many = values if isinstance(values, list | tuple | np.ndarray) else [values] * (n or 1)
    array = np.array([np.nan if v is None else v for v in many], dtype=np.float64)
    if n is not None and len(array) != n:
        raise ValueError(f"{len(array)} numbers for {n} places")
    return array


def band(axes: Axes, x: Sequence[float], floor: Data | None) -> None:
    """Draw a floor above bars and below lines: a grey band, and its mean as a thin grey line.

    Args:
        axes: where.
        x: places, ascending. A single one gets a band of some width, so that it can be seen.
        floor: ``low``, ``high``, perhaps ``mean`` (or ``value``), each a number a place or one for all,
            and ``name``. None draws nothing.
    """
    if floor is None:
        return
    where = np.array([x[0] - 0.3, x[0] + 0.3]) if len(x) == 1 else np.asarray(x, dtype=np.float64)
    low, high = (
        np.broadcast_to(_on(axes, floats(floor[end], len(x))), where.shape) for end in ("low", "high")
    )
    name = floor.get("name", "random adapters")
    axes.fill_between(where, low, high, color=INK, alpha=0.28, lw=1.2, label=name, zorder=1.5)
    if floor.get("mean") is not None:
        mean = np.broadcast_to(_on(axes, floats(floor["mean"], len(x))), where.shape)
        axes.plot(where, mean, color=INK, lw=0.8, zorder=1.5)


def ceiling(axes: Axes, x: Sequence[float], values: object) -> None:
    """Draw a ceiling: a thin dashed line.

    Args:
        axes: where.
        x: places, ascending.
        values: a number a place or one for all; or a mapping of ``values`` (or ``value``) and ``name``. None
            draws nothing.
    """
    if values is None:
        return
    named = values if isinstance(values, dict) else {"values": values}
    line = floats(named["values"] if "values" in named else named["value"], len(x))
    axes.plot(
        x, line, color=INK, lw=1.0, ls=(0, (4, 3)), label=named.get("name", "ceiling"),
        marker="_" if len(x) == 1 else None, ms=24, zorder=1.5,
    )  # fmt: skip


def value_label(axes: Axes, label: str) -> None:
    """Name the value axis, in as many lines as it takes."""
    axes.set_ylabel(textwrap.fill(label, 34))


def value_limits(axes: Axes, limits: Sequence[float] | None) -> None:
    """Set the ends of the value axis; without any it starts at zero where all values are positive."""
    if limits:
        axes.set_ylim(*limits)
    elif axes.get_yscale() == "linear" and axes.get_ylim()[0] > 0:
        axes.set_ylim(bottom=0)


def legend(figure: Figure, panels: Sequence[Axes]) -> None:
    """Put one legend above all panels: each name once, series before floors and ceilings."""
    named: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
    # Bars come as containers, which have no zorder.
    series = {label: handle for label, handle in named.items() if getattr(handle, "zorder", 3) >= 2}
    named = series | named
    if len(named) > 1 or not series:
        figure.legend(
            list(named.values()), list(named), loc="outside upper left", ncols=_legend_columns(list(named)),
            handlelength=1.8, columnspacing=1.4, borderaxespad=0.2,
        )  # fmt: skip


def _legend_columns(labels: list[str]) -> int:
    """Fit as many columns as the width of a figure takes; a character counts as one, a handle as six."""
    for columns in range(len(labels), 1, -1):
        # as Matplotlib deals them: the first columns have one more where they do not come out even
        parts = np.array_split(np.array([len(label) for label in labels]), columns)
        if sum(6 + max(part) for part in parts) <= 70:
            return columns
    return 1


def _on(axes: Axes, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Leave out what a logarithmic axis cannot hold."""
    return values if axes.get_yscale() == "linear" else np.where(values > 0, values, np.nan)
