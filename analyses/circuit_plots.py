"""Pictures of a circuit: its modules by layer and projection, and what they have together. Pure functions of JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from analyses import marks
from analyses.marks import INK, PALETTE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Data = Mapping[str, Any]

LARGEST = 260.0  # points^2 of the mark of the largest effect


def circuit(data: Data) -> Figure:
    """Draw modules as marks in a grid of layers and projections, with lines between those of the circuit.

    Args:
        data: ``rows`` (layers, the first at the bottom) and ``columns`` (projections), both names; ``nodes``, each
            with ``row``, ``column``, ``value`` (its effect; the area of the mark) and ``kept``; ``edges``, each with
            ``one`` and ``other`` (numbers of nodes), ``value`` (the width of the line; what is negative is dashed)
            and ``sure``, whether its interval leaves out 0: only such are drawn; ``label`` and ``edge_label``.

    Returns:
        One panel.
    """
    nodes = data["nodes"]
    figure, axes = marks.panel(0.55 * len(data["rows"]) + 1.3)
    x, y = (np.array([node[key] for node in nodes], dtype=np.float64) for key in ("column", "row"))
    _edges(axes, data, x, y)
    largest = max(abs(node["value"]) for node in nodes) or 1.0
    for kept, name in ((True, "kept"), (False, "pruned")):
        at = [i for i, node in enumerate(nodes) if node["kept"] == kept]
        area = [14 + LARGEST * abs(nodes[i]["value"]) / largest for i in at]
        face = PALETTE[0] if kept else "none"
        edge = PALETTE[0] if kept else INK
        axes.scatter(
            x[at], y[at], area, facecolors=face, edgecolors=edge, linewidths=1.0, label=name, zorder=3
        )
    axes.set_xticks(range(len(data["columns"])), data["columns"])
    axes.set_yticks(range(len(data["rows"])), [str(row) for row in data["rows"]])
    axes.set(xlim=(-0.6, len(data["columns"]) - 0.4), ylim=(-0.6, len(data["rows"]) - 0.4), ylabel="layer")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    handles = figure.legend(loc="outside upper left", ncols=4, columnspacing=1.4, borderaxespad=0.2)
    for handle in handles.legend_handles:
        if hasattr(handle, "set_sizes"):
            handle.set_sizes([40])
    return figure


def _edges(axes: Axes, data: Data, x: np.ndarray, y: np.ndarray) -> None:
    shown = [edge for edge in data["edges"] if edge["sure"]]
    largest = max((abs(edge["value"]) for edge in shown), default=1.0)
    named: set[bool] = set()
    for edge in shown:
        ends, positive = [edge["one"], edge["other"]], edge["value"] > 0
        # modules of one layer or one projection would lie on a straight line, one over the other
        bend = 0.22 if x[ends[0]] == x[ends[1]] or y[ends[0]] == y[ends[1]] else 0.08
        axes.annotate(
            "", (x[ends[0]], y[ends[0]]), (x[ends[1]], y[ends[1]]), zorder=2,
            arrowprops={
                "arrowstyle": "-", "connectionstyle": f"arc3,rad={bend}", "color": PALETTE[2 if positive else 1],
                "lw": 0.5 + 3 * abs(edge["value"]) / largest, "alpha": 0.65, "ls": "-" if positive else "--",
            },
        )  # fmt: skip
        if positive not in named:
            named.add(positive)
            label = "need each other" if positive else "stand in for each other"
            axes.plot([], [], color=PALETTE[2 if positive else 1], ls="-" if positive else "--", label=label)


PLOTS = {"circuit": circuit}
"""Kinds of figures, for :data:`analyses.plots.PLOTS`."""
