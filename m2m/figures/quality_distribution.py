"""Distribution of the quality numbers that have limits over the cohort, with their limits."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from m2m.cohort.quality_numbers import LIMITED
from m2m.figures.style import DOUBLE_MM, INK, MUTED, PALETTE, new_figure

N_COLUMNS, ROW_MM = 4, 26


def draw_quality(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw a panel for each number: a dot for each unit, used or not, and dashed lines at the limits.

    Parameters
    ----------
    rows : rows of `m2m.cohort.quality_numbers.limited_rows`, at least one
    """
    names = list(dict.fromkeys(row["number"] for row in rows))
    n_rows = -(-len(names) // N_COLUMNS)
    figure = new_figure(DOUBLE_MM, ROW_MM * n_rows + 6)
    panels = figure.subplots(n_rows, N_COLUMNS, squeeze=False).ravel()
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    for axes, name in zip(panels, names, strict=False):
        _panel(axes, name, [row for row in rows if row["number"] == name])
    used = panels[0].scatter([], [], s=8, color=PALETTE[0], label="used")
    other = panels[0].scatter([], [], s=10, color=INK, marker="x", linewidths=0.8, label="not used")
    figure.legend(handles=[used, other], loc="outside upper right", ncols=2)
    return figure


def _panel(axes: Axes, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Values of one number along the x axis, spread by chance along y."""
    scale, spread = LIMITED[name].scale, np.random.default_rng(0).uniform(-1, 1, len(rows))
    for used in (True, False):
        own = [
            (row["value"] * scale, y) for row, y in zip(rows, spread, strict=True) if (row["state"] == "used") == used
        ]
        if own:
            look: dict[str, Any] = {"s": 8, "color": PALETTE[0]} if used else {"s": 10, "color": INK, "marker": "x"}
            axes.scatter(*zip(*own, strict=True), linewidths=0.8, **look)
    for limit in (rows[0]["low"], rows[0]["high"]):
        if limit is not None:
            axes.axvline(limit * scale, color=MUTED, linestyle="--", linewidth=0.8)
    axes.set(ylim=(-3, 3), yticks=[], xlabel=LIMITED[name].title)
