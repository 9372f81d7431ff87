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
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from analyses.digits import digits
from geometry.checks import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    Data = Mapping[str, Any]

INK = "#6e7781"
"""Axes, text and floors: a grey that reads on white (4.6 to 1) and on near-black (4.1 to 1)."""

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's colours, told apart by every common kind of colour vision (yellow and black left out)."""

MARKERS = ("o", "s", "^", "D", "v", "P")
WIDTH = 6.0  # inches; a text column and a half in most journals

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
    figure, axes = _panel(2.9)
    train, validation = data.get("train"), data.get("validation")
    if train:
        axes.plot(
            _floats(train["x"]), _floats(train["y"]), color=PALETTE[0], lw=1.0, alpha=0.75, label="train"
        )
    if validation:
        x, y = _floats(validation["x"]), _floats(validation["y"])
        axes.plot(x, y, color=PALETTE[1], marker="o", ms=3.5, label="validation")
        best = data.get("best") or _lowest(x, y)
        if best:
            label = f"best: {digits(float(best['y']))} at {data.get('x_label', 'step')} {digits(best['x'])}"
            axes.plot([best["x"]], [best["y"]], "o", ms=9, mfc="none", mec=PALETTE[1], ls="none", label=label)
    axes.set_xlabel(data.get("x_label", "step"))
    axes.set_ylabel(data.get("y_label", "loss (nats per token)"))
    axes.xaxis.set_major_formatter(FuncFormatter(_short))
    _legend(figure, [axes])
    return figure


def by_layer(data: Data) -> Figure:
    """Draw one or more numbers of each layer.

    Args:
        data: ``layers`` (block numbers; -1 is the embedding) and ``series``, each with ``name``, ``values``
            (one a layer) and, where known, ``low`` and ``high`` (interval), ``null`` (``mean``, ``low``,
            ``high``, ``name``) and ``ceiling`` (values). A ``null`` and a ``ceiling`` (``name``, ``values``)
            of the whole figure stand for all series. ``y_label``, ``y_limits`` and ``log`` set the axis.

    Returns:
        One panel; or one for each series, with a shared axis, where several bring their own null.
    """
    series = data["series"]
    own = len(series) > 1 and any(s.get("null") is not None for s in series)
    groups = [[i] for i in range(len(series))] if own else [list(range(len(series)))]
    columns = min(3, len(groups))
    lines = math.ceil(len(groups) / columns)
    figure = Figure(figsize=(WIDTH, 2.9 if lines == 1 else 2.1 * lines + 0.5))
    grid = figure.subplots(lines, columns, sharey=True, squeeze=False).ravel()
    for axes, group in zip(grid, groups, strict=False):
        for i in group:
            _layer_series(axes, data, i)
        _band(axes, range(len(data["layers"])), data.get("null"))
        _ceiling(axes, range(len(data["layers"])), data.get("ceiling"))
        _layer_axis(axes, data["layers"], "layer" if axes in grid[-columns:] else "")
        if own:
            axes.set_title(series[group[0]]["name"], loc="left")
    for axes in grid[len(groups) :]:
        axes.remove()
    _value_axis(grid[0], data)
    for axes in grid[::columns][:lines]:
        axes.set_ylabel(data["y_label"])
    _legend(figure, grid[: len(groups)])
    return figure


def spectra(data: Data) -> Figure:
    """Draw scree plots, one small panel for each chosen layer.

    Args:
        data: ``panels``, each with ``title``, ``series`` (``name`` and ``values``, descending) and, where
            known, ``null`` (``name``, ``low``, ``high``, ``mean``); ``y_label`` (default "singular value /
            largest") and ``x_label`` (default "index").

    Returns:
        Panels with a shared logarithmic axis; values that are not positive are left out.
    """
    panels = data["panels"]
    columns = min(3, len(panels))
    lines = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(WIDTH, 2.9 if lines == 1 else 1.9 * lines + 0.5))
    grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, panel in zip(grid, panels, strict=False):
        axes.set_yscale("log")
        for i, one in enumerate(panel["series"]):
            values = _positive(one["values"])
            axes.plot(
                np.arange(1, len(values) + 1), values, color=PALETTE[i % 6], lw=1.3,
                marker=MARKERS[i % 6], ms=2.5 if len(values) < 40 else 0, label=one["name"],
            )  # fmt: skip
        floor = panel.get("null")
        if floor is not None:
            _band(axes, range(1, 1 + np.size(floor["low"])), floor, positive=True)
        axes.set_title(panel.get("title", ""), loc="left")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    for axes in grid[len(panels) :]:
        axes.remove()
    figure.supxlabel(data.get("x_label", "index"), fontsize=9)
    figure.supylabel(data.get("y_label", "singular value / largest"), fontsize=9)
    _legend(figure, grid[: len(panels)])
    return figure


def heat(data: Data) -> Figure:
    """Draw a matrix as coloured cells.

    Args:
        data: ``values`` (rows of numbers), ``rows`` and ``columns`` (labels), ``label`` (what the colour
            means, with its unit), ``low`` and ``high`` (ends of the colour scale), ``centre`` (a value that
            means nothing happened; makes the scale two-sided), ``x_label`` and ``y_label``.

    Returns:
        One panel; the number is printed in each cell where there are at most 12 columns and 20 rows.
    """
    values = np.array([_floats(row) for row in data["values"]])
    low, high = _colour_range(values, data)
    height = min(7.0, max(1.8, 0.32 * len(values) + 1.0))
    figure, axes = _panel(height)
    cmap = mpl.colormaps["RdBu_r" if data.get("centre") is not None else "cividis"]
    image = axes.pcolormesh(values, cmap=cmap, vmin=low, vmax=high, rasterized=values.size > 2500)
    axes.invert_yaxis()
    axes.set_xticks(np.arange(len(data["columns"])) + 0.5, [str(c) for c in data["columns"]])
    axes.set_yticks(np.arange(len(data["rows"])) + 0.5, [str(r) for r in data["rows"]])
    if max(len(str(c)) for c in data["columns"]) * len(data["columns"]) > 60:
        axes.tick_params(axis="x", labelrotation=60)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set(xlabel=data.get("x_label", ""), ylabel=data.get("y_label", ""))
    bar = figure.colorbar(image, ax=axes, label=data["label"], pad=0.02)
    bar.outline.set_visible(False)
    if values.shape[1] <= 12 and values.shape[0] <= 20:
        _cell_values(axes, values, image)
    return figure


def bars(data: Data) -> Figure:
    """Draw named groups of bars with intervals.

    Args:
        data: ``groups`` (names), ``series``, each with ``name``, ``values`` (one a group) and, where known,
            ``low`` and ``high``; ``floor`` and ``ceiling``, each with ``name`` and ``value`` (a floor also
            with ``low`` and ``high``: the band); ``y_label``, ``y_limits``.

    Returns:
        One panel; the value is written at the foot of each bar.
    """
    figure, axes = _panel(2.9)
    groups, series = data["groups"], data["series"]
    width = 0.72 / len(series)
    for i, one in enumerate(series):
        values = _floats(one["values"])
        x = np.arange(len(groups)) + (i - (len(series) - 1) / 2) * width
        axes.bar(x, values, width * 0.92, color=PALETTE[i % 6], alpha=0.85, label=one["name"], zorder=2)
        if one.get("low") is not None:
            ends = np.abs(np.stack([values - _floats(one["low"]), _floats(one["high"]) - values]))
            axes.errorbar(x, values, ends, fmt="none", ecolor=INK, elinewidth=1.4, capsize=3, zorder=3)
        for at, value in zip(x, values, strict=True):
            if math.isfinite(value):
                axes.annotate(
                    digits(float(value)), (at, 0), (0, 4), textcoords="offset points", ha="center",
                    fontsize=8, color="white", zorder=4,
                )  # fmt: skip
    reach = (-0.5, len(groups) - 0.5)
    floor = data.get("floor")
    if floor is not None:
        both = floor if "low" in floor else {**floor, "low": floor["value"], "high": floor["value"]}
        _band(axes, reach, {"mean": floor.get("value"), "name": "floor", **both})
    _ceiling(axes, reach, data.get("ceiling"))
    axes.set_xticks(range(len(groups)), groups)
    axes.set_xlim(*reach)
    axes.tick_params(axis="x", length=0)
    _value_axis(axes, data)
    axes.set_ylabel(data["y_label"])
    _legend(figure, [axes])
    return figure


PLOTS: dict[str, Callable[[Data], Figure]] = {
    "loss_curve": loss_curve,
    "by_layer": by_layer,
    "spectra": spectra,
    "heat": heat,
    "bars": bars,
}
"""Every kind of figure that a report can hold, by the name that report.json gives it."""


def _panel(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height))
    return figure, figure.subplots()


def _floats(values: Sequence[float | None]) -> NDArray[np.float64]:
    return np.array([np.nan if v is None else v for v in values], dtype=np.float64)


def _positive(values: Sequence[float | None]) -> NDArray[np.float64]:
    array = _floats(values)
    return np.where(array > 0, array, np.nan)


def _spread(values: object, n: int) -> NDArray[np.float64]:
    """One number for all, or one for each."""
    if values is None or isinstance(values, int | float):
        return np.full(n, np.nan if values is None else float(values))
    return _floats(values)  # type: ignore[arg-type]


def _lowest(x: NDArray[np.float64], y: NDArray[np.float64]) -> dict[str, float] | None:
    if not np.isfinite(y).any():
        return None
    at = int(np.nanargmin(y))
    return {"x": int(x[at]) if float(x[at]).is_integer() else float(x[at]), "y": float(y[at])}


def _band(axes: Axes, x: Sequence[float], floor: Data | None, *, positive: bool = False) -> None:
    """Draw a floor: a grey band from low to high, and its mean as a thin grey line."""
    if floor is None:
        return
    clean = _positive if positive else _floats
    low, high = (clean(_spread(floor[end], len(x))) for end in ("low", "high"))
    name = floor.get("name", "random adapters")
    # One layer alone has no extent, and a band must still be seen.
    where = np.asarray(x, dtype=float) if len(x) > 1 else np.array([x[0] - 0.3, x[0] + 0.3])
    low, high = (np.broadcast_to(v, where.shape) if len(v) == 1 else v for v in (low, high))
    axes.fill_between(where, low, high, color=INK, alpha=0.28, lw=1.2, label=name, zorder=1)
    if floor.get("mean") is not None:
        mean = clean(_spread(floor["mean"], len(x)))
        axes.plot(where, np.broadcast_to(mean, where.shape), color=INK, lw=0.8, zorder=1)


def _ceiling(axes: Axes, x: Sequence[float], ceiling: object, colour: str = INK) -> None:
    if ceiling is None:
        return
    named = ceiling if isinstance(ceiling, dict) else {"values": ceiling}
    values = _spread(named.get("values", named.get("value")), len(x))
    axes.plot(
        x, values, color=colour, lw=1.0, ls=(0, (4, 3)), label=named.get("name", "ceiling"),
        marker="_" if len(x) == 1 else None, ms=24, zorder=1.5,
    )  # fmt: skip


def _layer_series(axes: Axes, data: Data, i: int) -> None:
    one, x = data["series"][i], range(len(data["layers"]))
    colour = PALETTE[i % 6]
    values = _floats(one["values"])
    axes.plot(x, values, color=colour, marker=MARKERS[i % 6], label=one["name"], zorder=3)
    if one.get("low") is not None:
        low, high = _floats(one["low"]), _floats(one["high"])
        axes.vlines(x, low, high, color=colour, lw=3.5, alpha=0.35, zorder=2)
    _band(axes, x, one.get("null"))
    _ceiling(axes, x, one.get("ceiling"), colour)


def _layer_axis(axes: Axes, layers: Sequence[int], label: str) -> None:
    step = max(1, math.ceil(len(layers) / 16))
    shown = range(0, len(layers), step)
    axes.set_xticks(list(shown), ["emb" if layers[i] == -1 else str(layers[i]) for i in shown])
    axes.set_xlim(-0.4, len(layers) - 0.6)
    axes.set_xlabel(label)


def _value_axis(axes: Axes, data: Data) -> None:
    if data.get("log"):
        axes.set_yscale("log")
    if data.get("y_limits"):
        axes.set_ylim(*data["y_limits"])
    elif not data.get("log") and axes.get_ylim()[0] > 0:
        axes.set_ylim(bottom=0)


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
    colours = image.cmap(image.norm(values))
    bright = colours[..., :3] @ np.array([0.299, 0.587, 0.114])
    for (i, j), value in np.ndenumerate(values):
        if math.isfinite(value):
            axes.text(
                j + 0.5, i + 0.5, digits(float(value), 2), ha="center", va="center", fontsize=8,
                color="black" if bright[i, j] > 0.5 else "white",
            )  # fmt: skip


def _legend(figure: Figure, panels: Sequence[Axes]) -> None:
    """One legend for all panels above them; each name once."""
    named: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
    if len(named) < 2 and len(panels) == 1:
        return
    columns = max(1, min(len(named), 66 // (6 + max(len(label) for label in named))))
    figure.legend(
        list(named.values()), list(named), loc="outside upper left", ncols=columns, handlelength=1.8,
        columnspacing=1.4, borderaxespad=0.2,
    )  # fmt: skip


def _short(value: float, _: int) -> str:
    """Write a tick: thousands as they are, more with k, M or G."""
    for least, unit, letter in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(value) >= least:
            return f"{value / unit:g} {letter}"
    return f"{value:g}"
