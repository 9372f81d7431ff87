"""Pictures of geometry: matrices side by side, curves in two and three dimensions, maps."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from analyses import marks
from analyses.marks import INK

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    Data = Mapping[str, Any]

LONGEST = 40
"""Characters of a row's name; longer ones are cut."""

NAMED = 13
"""Most items that are all named; of more, evenly spread ones are."""


def blocks(data: Data) -> Figure:
    """Draw matrices over the same items side by side, in one colour scale.

    Args:
        data: ``panels``, each with ``title`` and ``values`` (rows of numbers, None where empty); ``labels`` of
            the items; ``label`` of the colours, whose scale is the 1 to 99 % range of all panels.

    Returns:
        A row of square panels with one colour bar under them.
    """
    panels, labels = data["panels"], data["labels"]
    tables = [np.array([marks.floats(row, len(labels)) for row in panel["values"]]) for panel in panels]
    pairs = np.concatenate([table[np.isfinite(table)] for table in tables])
    low, high = np.quantile(pairs, [0.01, 0.99]) if len(pairs) else (0.0, 1.0)
    figure = Figure(figsize=(marks.WIDTH, marks.WIDTH / max(2, len(panels)) + 1.1))
    grid = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
    cmap = mpl.colormaps["cividis"].with_extremes(bad="none")
    for axes, panel, table in zip(grid, panels, tables, strict=True):
        # as a picture of one pixel a cell it stays sharp at any size, and small
        image = axes.imshow(table, cmap=cmap, vmin=low, vmax=high, interpolation="none")
        axes.set_title(panel["title"], loc="left")
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        _item_ticks(axes, labels)
    bar = figure.colorbar(image, ax=list(grid), location="bottom", shrink=0.5, aspect=40, pad=0.02)
    bar.outline.set_visible(False)
    bar.set_label(data["label"])
    return figure


def manifold(data: Data) -> Figure:
    """Draw items in two or three dimensions, with the predicted curve beneath them.

    Args:
        data: ``panels``, each with ``title``, ``points`` and ``curve`` (rows of two or three numbers);
            ``labels`` of the items; ``closed`` (whether the curve returns to its start), ``connected`` (whether
            there is a curve at all, as of places there is not), ``axes`` (a name for each dimension), and
            perhaps ``hues`` (0 to 1, round a circle of colours). Two dimensions are drawn without axes.

    Returns:
        A row of panels in which one unit is as long along every axis. Items without hues are coloured in order.
    """
    panels, solid = data["panels"], len(data["axes"]) == 3
    figure = Figure(figsize=(marks.WIDTH, marks.WIDTH / max(2, len(panels)) + (0.7 if solid else 0.5)))
    grid = figure.subplots(1, len(panels), squeeze=False, subplot_kw={"projection": "3d"} if solid else None)[
        0
    ]
    for axes, panel in zip(grid, panels, strict=True):
        points, curve = (np.array(panel[key], dtype=np.float64) for key in ("points", "curve"))
        draw = _solid if solid else _flat
        draw(axes, points, curve, data)
        axes.set_title(panel["title"], loc="left")
    return figure


def places(data: Data) -> Figure:
    """Draw true places on a map, each joined to where a probe put it.

    Args:
        data: ``true`` and ``decoded`` (rows of degrees north and east), ``by`` (what decoded them, for the
            legend), ``labels``, and ``named`` (numbers of the items whose labels are written).

    Returns:
        One panel, an equirectangular map with lines every 30 degrees. A place across the date line is joined
        the shorter way, over the edge.
    """
    figure, axes = marks.panel(3.1)
    true, decoded = (np.array(data[key], dtype=np.float64) for key in ("true", "decoded"))
    for longitude in range(-180, 181, 30):
        axes.axvline(longitude, color=INK, lw=0.4, alpha=0.35, zorder=0)
    for latitude in range(-90, 91, 30):
        axes.axhline(latitude, color=INK, lw=0.9 if latitude == 0 else 0.4, alpha=0.35, zorder=0)
    colours = mpl.colormaps["hsv"]((true[:, 1] + 180) / 360)
    for start, end, colour in zip(true, decoded, colours, strict=True):
        across = end[1] - start[1]
        shift = -360 if across > 180 else 360 if across < -180 else 0
        axes.plot([start[1], end[1] + shift], [start[0], end[0]], color=colour, lw=0.7, alpha=0.6, zorder=1)
    axes.scatter(true[:, 1], true[:, 0], c=colours, s=13, zorder=3, label="true place", ec=INK, lw=0.3)
    axes.scatter(
        decoded[:, 1],
        decoded[:, 0],
        c=colours,
        s=11,
        marker="x",
        lw=0.9,
        zorder=2,
        label=data.get("by", "read off the model"),
    )
    for at in data["named"]:
        axes.annotate(
            data["labels"][at], (true[at, 1], true[at, 0]), textcoords="offset points", xytext=(3, 3),
            fontsize=7,
        )  # fmt: skip
    axes.set(xlim=(-180, 180), ylim=(-90, 90), aspect="equal", xlabel="degrees east", ylabel="degrees north")
    axes.set_xticks(range(-180, 181, 60))
    axes.set_yticks(range(-90, 91, 30))
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    marks.legend(figure, [axes])
    for handle in figure.legends[0].legend_handles:
        handle.set(color=INK)
    return figure


def threshold_map(data: Data) -> Figure:
    """Draw a matrix with long row names, its colours turning where chance ends.

    Args:
        data: ``values`` (rows of numbers, None where empty), ``rows`` and ``columns`` (labels), ``label`` (what
            the colour means), ``threshold`` (the value at which the scale turns from blue to red), ``x_label``.

    Returns:
        One panel; cells above the threshold have a dot.
    """
    values = np.array([marks.floats(row, len(data["columns"])) for row in data["values"]])
    figure, axes = marks.panel(0.21 * len(values) + 1.1)
    turn = data["threshold"]
    known = values[np.isfinite(values)]
    ends = min(0.0, turn - 0.01, *known), max(turn, turn + 0.01, *known)
    image = axes.pcolormesh(values, cmap=mpl.colormaps["RdBu_r"], norm=TwoSlopeNorm(turn, *ends))
    y, x = np.nonzero(values > turn)
    axes.scatter(x + 0.5, y + 0.5, s=4, color="black", alpha=0.7, lw=0)
    axes.invert_yaxis()
    shown = range(0, len(data["columns"]), math.ceil(len(data["columns"]) / 16))
    axes.set_xticks([at + 0.5 for at in shown], [data["columns"][at] for at in shown])
    axes.set_yticks(np.arange(len(values)) + 0.5, [_cut(row) for row in data["rows"]], fontsize=7)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel(data["x_label"])
    bar = figure.colorbar(image, ax=axes, pad=0.02)
    bar.outline.set_visible(False)
    bar.set_label(textwrap.fill(data["label"], 30))
    return figure


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _flat(axes: Axes, points: NDArray[np.float64], curve: NDArray[np.float64], data: Data) -> None:
    colours = _colours(len(points), data)
    if data["connected"]:
        line = np.vstack([curve, curve[:1]]) if data["closed"] else curve
        axes.plot(line[:, 0], line[:, 1], color=INK, lw=4.0, alpha=0.22, zorder=1)
        own = np.vstack([points, points[:1]]) if data["closed"] else points
        axes.plot(own[:, 0], own[:, 1], color=INK, lw=0.6, alpha=0.7, zorder=2)
    else:
        for start, end in zip(curve, points, strict=True):
            axes.plot([start[0], end[0]], [start[1], end[1]], color=INK, lw=0.5, alpha=0.35, zorder=1)
        axes.scatter(curve[:, 0], curve[:, 1], facecolors="none", edgecolors=INK, s=14, lw=0.6, zorder=2)
    axes.scatter(points[:, 0], points[:, 1], c=colours, s=16 if len(points) < 60 else 9, zorder=3)
    centre = points.mean(axis=0)
    for at in _named(len(points)):
        away = points[at, :2] - centre[:2]
        away = away / (np.linalg.norm(away) or 1.0)
        axes.annotate(
            data["labels"][at], points[at, :2], textcoords="offset points", xytext=7 * away, fontsize=7,
            ha="left" if away[0] > 0.3 else "right" if away[0] < -0.3 else "center",
            va="bottom" if away[1] > 0.3 else "top" if away[1] < -0.3 else "center",
        )  # fmt: skip
    # a square that holds everything, with room for names
    every = np.vstack([points[:, :2], curve[:, :2]])
    middle, reach = (every.max(axis=0) + every.min(axis=0)) / 2, 0.62 * np.ptp(every, axis=0).max()
    axes.set_xlim(middle[0] - 1.15 * reach, middle[0] + 1.15 * reach)
    axes.set_ylim(middle[1] - reach, middle[1] + reach)
    axes.set_aspect("equal")
    axes.spines[:].set_visible(False)
    axes.set(xticks=[], yticks=[])


def _solid(axes: Any, points: NDArray[np.float64], curve: NDArray[np.float64], data: Data) -> None:
    colours = _colours(len(points), data)
    if data["connected"]:
        line = np.vstack([curve, curve[:1]]) if data["closed"] else curve
        axes.plot(*line.T, color=INK, lw=3.5, alpha=0.25)
        own = np.vstack([points, points[:1]]) if data["closed"] else points
        axes.plot(*own.T, color=INK, lw=0.6, alpha=0.8)
    axes.scatter(*points.T, c=colours, s=14 if len(points) < 60 else 8, depthshade=False)
    brief = _brief(data["labels"])
    for at in _named(len(points)):
        axes.text(*points[at], f" {brief[at]}", fontsize=7)
    reach = np.ptp(np.vstack([points, curve]), axis=0)
    axes.set_box_aspect(np.maximum(reach, 0.35 * reach.max()), zoom=1.12)
    axes.view_init(elev=24, azim=-58)
    axes.set(xticklabels=[], yticklabels=[], zticklabels=[])
    for axis, name in zip((axes.xaxis, axes.yaxis, axes.zaxis), data["axes"], strict=True):
        axis.set_pane_color((0.5, 0.5, 0.5, 0.05))
        axis._axinfo["grid"] |= {"color": (0.5, 0.5, 0.5, 0.25), "linewidth": 0.5}
        axis.set_tick_params(length=0)
        axis.set_label_text(name)
        axis.labelpad = -12


def _colours(n: int, data: Data) -> NDArray[np.float64]:
    if data.get("hues") is not None:
        return mpl.colormaps["hsv"](np.array(data["hues"]))
    if data["closed"]:
        return mpl.colormaps["twilight_shifted"](np.arange(n) / n)
    # both ends stay dark enough for white ground and bright enough for black
    return mpl.colormaps["viridis"](np.linspace(0.12, 0.88, n))


def _brief(labels: Sequence[str]) -> list[str]:
    """First three letters where they tell all labels apart: in space there is less room."""
    short = [label[:3] for label in labels]
    return short if len(set(short)) == len(labels) and max(map(len, labels)) > 5 else list(labels)


def _named(n: int) -> list[int]:
    return list(range(n)) if n <= NAMED else [round(x) for x in np.linspace(0, n - 1, 8)]


def _item_ticks(axes: Axes, labels: Sequence[str]) -> None:
    shown = _named(len(labels))
    axes.set_xticks(shown, [labels[at] for at in shown], rotation=90)
    axes.set_yticks(shown, [labels[at] for at in shown])
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        label.set_fontsize(7)


PLOTS = {"threshold_map": threshold_map, "blocks": blocks, "manifold": manifold, "places": places}
"""To be drawn like those of :mod:`analyses.plots`."""
