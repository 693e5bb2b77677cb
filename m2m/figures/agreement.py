"""Bland-Altman plot of synthetic and measured regional means."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from m2m.evaluate.metric_tables import over_sessions
from m2m.evaluate.statistics import limits_of_agreement
from m2m.figures.figure_records import FIGURES
from m2m.figures.style import (
    DOUBLE_MM,
    INK,
    MUTED,
    colours,
    letter,
    letters,
    marker,
    model_axes,
    new_figure,
    per_line,
)

COLUMNS = FIGURES["agreement"].columns


def draw_agreement(rois: pd.DataFrame, models: Sequence[str], regional: str) -> tuple[Figure, list[dict[str, Any]]]:
    """Draw synthetic minus measured means versus their average, one panel per model, with bias and limits.

    Parameters
    ----------
    rois : DataFrame
        rois.tsv of all models, at least one row.
    models : sequence of str
    regional : str
        Quantity of the means, e.g. FA.

    Returns
    -------
    Figure
    list of dict
        One row per dot, a region of a participant, with its model's bias and 95 % limits of agreement.
    """
    rois = over_sessions(rois, ["model", "roi"], ["reference", "synthetic"])
    pair = rois[["reference", "synthetic"]]
    table = rois.assign(mean=pair.mean(axis=1), difference=pair["synthetic"] - pair["reference"])
    figure = new_figure(DOUBLE_MM, 12 + 52 * per_line(len(models))[1])
    panels = model_axes(figure, len(models), f"mean {regional}", f"synthetic minus measured {regional}")
    rows: list[dict[str, Any]] = []
    for i, (axes, model, mark) in enumerate(zip(panels, models, letters(), strict=False)):
        own = table[table["model"] == model]
        axes.axhline(0, color="#d0d0d0", linewidth=0.6, zorder=0)
        axes.plot(
            own["mean"],
            own["difference"],
            linestyle="",
            marker=marker(i),
            markersize=2.4,
            color=colours(models)[model],
            alpha=0.55,
            markeredgewidth=0,
        )
        letter(axes, mark)
        if own.empty:
            axes.set_title(model)
            continue
        bias, low, high = limits_of_agreement(own["difference"])
        axes.axhline(bias, color=INK, linewidth=1)
        for limit in (low, high):
            axes.axhline(limit, color=MUTED, linewidth=0.8, linestyle="--")
        interval = f"[{low:.2g}, {high:.2g}]" if low <= high else "[limits n/a]"
        axes.set_title(f"{model}\nbias {bias:.2g} {interval}")
        rows += own.assign(bias=bias, low=low, high=high)[list(COLUMNS)].to_dict("records")
    return figure, rows
