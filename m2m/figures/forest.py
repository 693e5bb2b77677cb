"""The main model compared with each other model: paired differences with their intervals.

In an ablation this is the effect of each change to the full model.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from m2m.evaluate.metric_records import METRICS, REGIONS, panels
from m2m.evaluate.statistics import ALPHA
from m2m.figures.figure_records import FIGURES
from m2m.figures.style import (
    DOUBLE_MM,
    MUTED,
    PALETTE,
    letter,
    letters,
    new_figure,
)

COLUMNS = FIGURES["forest"].columns
# Dots farther than this multiple of the third quartile of the extents are not drawn to scale.
FAR = 2.5


def draw_forest(comparison: pd.DataFrame, models: Sequence[str], nature: str) -> tuple[Figure, list[dict[str, Any]]]:
    """Draw the main model minus each other model, one panel per metric, better to the right.

    A dot is filled if its corrected p is at most .05 and its interval excludes 0. A value far beyond all
    others, which would compress the axis, is written at the edge as a number.

    Parameters
    ----------
    comparison : DataFrame
        comparison.tsv.
    models : sequence of str
        The main model first, at least two.
    nature : str
        Nature of the target.

    Returns
    -------
    Figure
    list of dict
        One row per dot.
    """
    main, *others = models
    own = comparison[comparison["model"] == main]
    figure = new_figure(DOUBLE_MM, 31 + 4.5 * len(others))
    shown = panels("forest", nature)
    line = figure.subplots(1, len(shown), sharey=True)
    rows: list[dict[str, Any]] = []
    for axes, (region, metric), mark in zip(line, shown, letters(), strict=False):
        chosen = own[(own["region"] == region) & (own["metric"] == metric)]
        _dots(axes, chosen.set_index("baseline").reindex(others))
        name = "" if region == "rois" else f", {REGIONS[region]}"
        axes.set_title(f"{METRICS[metric].label}{name}")
        if METRICS[metric].better == "lower":
            axes.invert_xaxis()
        axes.set_xlabel(f"{main}\nminus other; better →", fontsize=6.5)
        letter(axes, mark)
        rows += chosen[list(COLUMNS)].to_dict("records")
    line[0].set_yticks(range(len(others)), others)
    line[0].set_ylim(len(others) - 0.4, -0.6)
    return figure, rows


def _dots(axes: Axes, table: pd.DataFrame) -> None:
    """Draw one row per model: difference and interval."""
    axes.axvline(0, color=MUTED, linewidth=0.8, linestyle="--", zorder=0)
    axes.grid(axis="y", color="#eeeeee", linewidth=0.5)
    axes.set_axisbelow(True)
    if table["difference"].isna().all():
        axes.text(0.5, 0.5, "not computed", transform=axes.transAxes, ha="center", color=MUTED)
        return
    reach = table[["difference", "low", "high"]].abs().max(axis=1)
    edge = FAR * np.nanquantile(reach, 0.75)
    for i in np.flatnonzero(reach > edge):
        value = table["difference"].iloc[i]
        text = f"{value:+.2g}".replace("-", "−")
        axes.text(np.sign(value) * edge, int(i), text, color=PALETTE[0], fontsize=6, ha="center", va="center")
    y = np.arange(len(table))
    table = table.mask(reach > edge)
    axes.hlines(y, table["low"], table["high"], color=PALETTE[0], linewidth=1)
    significant = ((table["low"] > 0) | (table["high"] < 0)) & (table["p_holm"] <= ALPHA)
    for filled in (True, False):
        part = (significant == filled).to_numpy()
        axes.plot(
            table["difference"][part],
            y[part],
            linestyle="",
            marker="o",
            markersize=3.6,
            color=PALETTE[0],
            markerfacecolor=PALETTE[0] if filled else "white",
            markeredgewidth=0.8,
        )
    far = [text.get_position()[0] for text in axes.texts]
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, 0, *far), max(high, 0, *far))
    axes.locator_params(axis="x", nbins=3)
