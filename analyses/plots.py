"""Figures as pure functions of numbers: the same facts give the same picture, byte for byte.

Each function of :data:`PLOTS` takes the JSON-able ``data`` of a figure and returns a Matplotlib figure.
Floors are grey bands, ceilings thin dashed lines, intervals are drawn whenever they are given, and None
leaves a gap. Where a floor or a ceiling is asked for, one number stands for that number everywhere.
"""

from __future__ import annotations

import io
import math
import re
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from analyses import circuit_plots, curve_plots, forest, marks, symmetry_plots
from analyses.digits import decimals, digits, measured
from analyses.marks import INK, MARKERS, PALETTE, STYLE
from finetune.folders import replace_file, write_whole
from geometry.checks import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    Data = Mapping[str, Any]


def draw(plot: str, data: Data) -> Figure:
    """Draw a figure.

    Args:
        plot: a key of :data:`PLOTS`.
        data: what that function documents.

    Returns:
        A figure that belongs to nobody else: no pyplot, no global state.

    Raises:
        DataError: there is no such plot, or the data lack what it needs.
    """
    if plot not in PLOTS:
        raise DataError(f"figure: there is no plot '{plot}'; choose one of {', '.join(PLOTS)}")
    with mpl.rc_context(STYLE):
        try:
            return PLOTS[plot](data)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise DataError(f"figure: the data of a '{plot}' are not what it needs ({error!r})") from error


def svg(figure: Figure) -> str:
    """Write a figure as SVG text; text stays text, and no date or random id is in it."""
    stream = io.StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return stream.getvalue()


def png(figure: Figure) -> bytes:
    """Write a figure as PNG with a transparent ground, 220 dots per inch."""
    stream = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(stream, format="png", dpi=220, metadata={"Software": None})
    return stream.getvalue()


def save(figure: Figure, stem: Path) -> str:
    """Write a figure beside ``stem`` as .svg and .png, each whole or not at all.

    Args:
        figure: what to write.
        stem: the path without ending; its folder is there.

    Returns:
        The SVG text.
    """
    vector = svg(figure)
    # The layout that the first drawing found is kept: it takes half of the time, and both should agree.
    figure.set_layout_engine("none")
    pixels = png(figure)
    write_whole(stem.with_suffix(".svg"), vector)
    replace_file(stem.with_suffix(".png"), lambda path: path.write_bytes(pixels))
    return vector


def inline(text: str, prefix: str) -> str:
    """Make an SVG file fit to stand inside a page, together with others.

    Ids and the references to them get a prefix, the XML header and metadata go, and ink and series colours
    become CSS variables, so that the page can choose them for light and dark.

    Args:
        text: what :func:`svg` wrote.
        prefix: letters, digits and hyphens; another one for every figure of the page.

    Returns:
        One ``<svg>`` element.
    """
    body = text[text.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>\s*", "", body, flags=re.DOTALL)
    body = re.sub(r'\bid="', f'id="{prefix}-', body)
    body = body.replace("url(#", f"url(#{prefix}-").replace('href="#', f'href="#{prefix}-')
    for i, colour in enumerate(PALETTE):
        body = body.replace(colour, f"var(--series-{i}, {colour})")
    return body.replace(INK, f"var(--ink, {INK})")


def loss_curve(data: Data) -> Figure:
    """Draw losses against training progress.

    Args:
        data: ``train`` and ``validation`` (either may be missing), each with ``x`` and ``y``; ``x_label``
            (default "step"), ``y_label`` (default "loss (nats per token)"), and ``best`` with ``x`` and
            ``y`` (default: the lowest validation loss).

    Returns:
        One panel; the running training loss is thin, the best validation loss is marked and named.
    """
    figure, axes = marks.panel(2.8)
    step = data.get("x_label", "step")
    if data.get("train"):
        x, y = marks.floats(data["train"]["x"]), marks.floats(data["train"]["y"])
        axes.plot(x, y, color=PALETTE[0], lw=1.0, alpha=0.75, label="train")
    if data.get("validation"):
        x, y = marks.floats(data["validation"]["x"]), marks.floats(data["validation"]["y"])
        axes.plot(x, y, color=PALETTE[1], marker="o", ms=3.5, label="validation")
        best = data.get("best") or _lowest(x, y)
        if best:
            label = f"best: {digits(float(best['y']))} at {step} {digits(best['x'])}"
            axes.plot(best["x"], best["y"], marker="o", ms=9, mfc="none", mec=PALETTE[1], ls="", label=label)
    axes.set_xlabel(step)
    marks.value_label(axes, data.get("y_label", "loss (nats per token)"))
    axes.xaxis.set_major_formatter(FuncFormatter(_short))
    marks.legend(figure, [axes])
    return figure


def by_layer(data: Data) -> Figure:
    """Draw one or more numbers of each layer.

    Args:
        data: ``layers`` (block numbers; -1 is the embedding) and ``series``, each with ``name``, ``values``
            (one a layer) and, where known, ``low`` and ``high`` (interval), ``null`` (``low``, ``high``,
            perhaps ``mean`` and ``name``) and ``ceiling`` (numbers, or ``values`` and ``name``). A ``null``
            and a ``ceiling`` of the whole figure stand for all series. ``y_label``; perhaps ``x_label``
            (default "layer", for steps that are something else), ``y_limits``, and ``log`` for a
            logarithmic axis.

    Returns:
        One panel; or one for each series, with a shared axis, where several bring their own null.
    """
    series, places = data["series"], range(len(data["layers"]))
    own = len(series) > 1 and any(one.get("null") is not None for one in series)
    groups = [[i] for i in range(len(series))] if own else [list(range(len(series)))]
    figure, grid, columns = marks.small_multiples(len(groups), 2.1)
    if data.get("log"):
        grid[0].set_yscale("log")
    for axes, group in zip(grid, groups, strict=True):
        for i in group:
            _layer_series(axes, places, series[i], i, label="_" if own else series[i]["name"])
        marks.band(axes, places, data.get("null"))
        marks.ceiling(axes, places, data.get("ceiling"))
        _layer_axis(axes, data["layers"], data.get("x_label", "layer"))
        if own:
            axes.set_title(series[group[0]]["name"], loc="left")
            axes.tick_params(axis="x", labelsize=7)
    marks.value_limits(grid[0], data.get("y_limits"))
    for axes in grid[::columns]:
        marks.value_label(axes, data["y_label"])
    marks.legend(figure, grid)
    return figure


def spectra(data: Data) -> Figure:
    """Draw scree plots, one small panel for each chosen layer.

    Args:
        data: ``panels``, each with ``title``, ``series`` (``name`` and ``values``, descending) and, where
            known, ``null`` (``low``, ``high``, perhaps ``mean`` and ``name``); perhaps ``y_label`` (default
            "singular value / largest") and ``x_label`` (default "index").

    Returns:
        Panels with a shared logarithmic axis; values that are not positive are left out.
    """
    panels = data["panels"]
    figure, grid, _ = marks.small_multiples(len(panels), 1.9, sharex=True)
    grid[0].set_yscale("log")
    grid[0].yaxis.set_minor_locator(NullLocator())
    for axes, panel in zip(grid, panels, strict=True):
        for i, one in enumerate(panel["series"]):
            values = marks.floats(one["values"])
            axes.plot(
                np.arange(1, len(values) + 1), np.where(values > 0, values, np.nan), label=one["name"],
                color=PALETTE[i % 6], lw=1.3, marker=MARKERS[i % 6], ms=2.5 if len(values) < 40 else 0,
            )  # fmt: skip
        if panel.get("null") is not None:
            marks.band(axes, range(1, 1 + np.size(panel["null"]["low"])), panel["null"])
        axes.set_title(panel.get("title", ""), loc="left")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    figure.supxlabel(data.get("x_label", "index"), fontsize=9)
    figure.supylabel(data.get("y_label", "singular value / largest"), fontsize=9)
    marks.legend(figure, grid)
    return figure


def heat(data: Data) -> Figure:
    """Draw a matrix as coloured cells.

    Args:
        data: ``values`` (rows of numbers), ``rows`` and ``columns`` (labels), ``label`` (what the colour
            means, with its unit); perhaps ``low`` and ``high`` (ends of the colour scale), ``centre`` (a
            value that means nothing happened; makes the scale two-sided), ``x_label`` and ``y_label``.

    Returns:
        One panel; the number is printed in each cell where there are at most 12 columns and 20 rows.
    """
    values = np.array([marks.floats(row, len(data["columns"])) for row in data["values"]])
    low, high = _colour_range(values, data)
    figure, axes = marks.panel(min(7.0, max(1.8, 0.32 * len(values) + 1.0)))
    cmap = mpl.colormaps["RdBu_r" if data.get("centre") is not None else "cividis"]
    # Thousands of cells would make thousands of paths; as a picture they stay small.
    image = axes.pcolormesh(values, cmap=cmap, vmin=low, vmax=high, rasterized=values.size > 2500)
    axes.invert_yaxis()
    axes.set_xticks(np.arange(len(data["columns"])) + 0.5, [str(c) for c in data["columns"]])
    axes.set_yticks(np.arange(len(data["rows"])) + 0.5, [str(r) for r in data["rows"]])
    if max(len(str(c)) for c in data["columns"]) * len(data["columns"]) > 55:
        for label in axes.get_xticklabels():
            label.set(rotation=60, ha="right", va="center", rotation_mode="anchor")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set(xlabel=data.get("x_label", ""), ylabel=data.get("y_label", ""))
    figure.colorbar(image, ax=axes, label=data["label"], pad=0.02).outline.set_visible(False)
    if values.shape[1] <= 12 and values.shape[0] <= 20:
        _cell_values(axes, values, image)
    return figure


def bars(data: Data) -> Figure:
    """Draw named groups of bars with intervals.

    Args:
        data: ``groups`` (names), ``series``, each with ``name``, ``values`` (one a group) and, where known,
            ``low`` and ``high``; ``y_label``; perhaps ``floor`` (``name``, ``low``, ``high``, perhaps
            ``mean``), ``ceiling`` (a number, or ``values`` and ``name``) and ``y_limits``.

    Returns:
        One panel; with a single series its values and intervals are written under the groups.
    """
    figure, axes = marks.panel(2.8)
    groups, series = data["groups"], data["series"]
    width = 0.72 / len(series)
    for i, one in enumerate(series):
        values = marks.floats(one["values"], len(groups))
        x = np.arange(len(groups)) + (i - (len(series) - 1) / 2) * width
        axes.bar(x, values, width * 0.92, color=PALETTE[i % 6], alpha=0.7, label=one["name"], zorder=1)
        if one.get("low") is not None:
            low, high = (marks.floats(one[end], len(groups)) for end in ("low", "high"))
            ends = np.abs([values - low, high - values])
            axes.errorbar(x, values, ends, fmt="none", ecolor=INK, elinewidth=1.4, capsize=3, zorder=3)
    reach = (-0.5, len(groups) - 0.5)
    marks.band(axes, reach, data.get("floor"))
    marks.ceiling(axes, reach, data.get("ceiling"))
    notes = _notes(series[0]) if len(series) == 1 else [""] * len(groups)
    axes.set_xticks(range(len(groups)), [f"{g}\n{note}" for g, note in zip(groups, notes, strict=True)])
    axes.set_xlim(*reach)
    axes.tick_params(axis="x", length=0)
    marks.value_limits(axes, data.get("y_limits"))
    marks.value_label(axes, data["y_label"])
    marks.legend(figure, [axes])
    return figure


PLOTS: dict[str, Callable[[Data], Figure]] = {
    "loss_curve": loss_curve,
    "by_layer": by_layer,
    "spectra": spectra,
    "heat": heat,
    "bars": bars,
    **symmetry_plots.PLOTS,
    **circuit_plots.PLOTS,
    **curve_plots.PLOTS,
    **forest.PLOTS,
}
"""Every kind of figure that a report can hold, by the name that report.json gives it."""


def _lowest(x: NDArray[np.float64], y: NDArray[np.float64]) -> dict[str, float] | None:
    if not np.isfinite(y).any():
        return None
    at = int(np.nanargmin(y))
    return {"x": int(x[at]) if float(x[at]).is_integer() else float(x[at]), "y": float(y[at])}


def _short(value: float, _: int) -> str:
    """Write a tick: thousands as they are, more with k, M or G."""
    for least, unit, letter in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(value) >= least:
            return f"{value / unit:g} {letter}"
    return f"{value:g}"


def _layer_series(axes: Axes, places: Sequence[int], one: Data, i: int, *, label: str) -> None:
    values, colour = marks.floats(one["values"], len(places)), PALETTE[i % 6]
    axes.plot(places, values, color=colour, marker=MARKERS[i % 6], label=label, zorder=3)
    if one.get("low") is not None:
        low, high = (marks.floats(one[end], len(values)) for end in ("low", "high"))
        axes.vlines(places, low, high, color=colour, lw=3.5, alpha=0.35, zorder=2)
    marks.band(axes, places, one.get("null"))
    marks.ceiling(axes, places, one.get("ceiling"))


def _layer_axis(axes: Axes, layers: Sequence[int], label: str) -> None:
    shown = range(0, len(layers), max(1, math.ceil(len(layers) / 16)))
    axes.set_xticks(list(shown), ["emb" if layers[i] == -1 else str(layers[i]) for i in shown])
    axes.set_xlim(-0.4, len(layers) - 0.6)
    axes.set_xlabel(label)


def _notes(one: Data) -> list[str]:
    """Write each value with its interval, as they stand under the bars."""
    places = decimals(one["values"])
    lows, highs = (one.get(end) or [None] * len(one["values"]) for end in ("low", "high"))
    triples = zip(one["values"], lows, highs, strict=True)
    return [measured({"value": v, "low": low, "high": high}, places)[0] for v, low, high in triples]


def _colour_range(values: NDArray[np.float64], data: Data) -> tuple[float, float]:
    if not np.isfinite(values).any():
        return 0.0, 1.0
    low = float(np.nanmin(values)) if data.get("low") is None else data["low"]
    high = float(np.nanmax(values)) if data.get("high") is None else data["high"]
    if data.get("centre") is None:
        return low, high
    reach = max(abs(high - data["centre"]), abs(low - data["centre"]))
    return data["centre"] - reach, data["centre"] + reach


def _cell_values(axes: Axes, values: NDArray[np.float64], image: Any) -> None:
    bright = image.cmap(image.norm(values))[..., :3] @ np.array([0.299, 0.587, 0.114])
    places = decimals(values.ravel().tolist(), 2)
    for (i, j), value in np.ndenumerate(values):
        if math.isfinite(value):
            axes.text(
                j + 0.5, i + 0.5, digits(float(value), 2, places), ha="center", va="center", fontsize=8,
                color="black" if bright[i, j] > 0.5 else "white",
            )  # fmt: skip
