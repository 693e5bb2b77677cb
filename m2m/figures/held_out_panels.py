"""Values between kept slices: a continuous field compared with interpolation."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from m2m.evaluate.metric_records import METRICS
from m2m.evaluate.metric_tables import over_sessions
from m2m.figures.figure_records import FIGURES
from m2m.figures.style import (
    DOUBLE_MM,
    colours,
    dashes,
    legend_above,
    letter,
    letters,
    marker,
    new_figure,
)

COLUMNS = FIGURES["held_out"].columns
SHOWN = ("psnr", "ssim", "pearson")
ORIENTATIONS = {1: "axial slices", 3: "three orientations"}


def held_out_rows(tables: Iterable[Path]) -> list[dict[str, Any]]:
    """Rows per participant, spacing, number of orientations and method, from `m2m compare-fields`.

    A method that uses one of several orientations is represented by its best one by PSNR. This
    favours the method, because the best orientation cannot be known in advance. A participant's sessions are averaged.
    """
    found = [pd.read_csv(path, sep="\t") for path in tables if path.stat().st_size]
    if not found:
        return []
    table = pd.concat(found).sort_values("psnr", ascending=False, kind="stable")
    keys = ["every", "n_planes", "method", "unit"]
    best = table.drop_duplicates(keys).copy()
    several = best["plane"].notna() & (best["n_planes"] > 1)
    best.loc[several, "method"] += ", best plane"
    best = over_sessions(best, keys[:3], [*SHOWN, "seconds", "n_voxels"])
    order = {method: i for i, method in enumerate(dict.fromkeys(pd.concat(found)["method"]))}
    place = best["method"].str.removesuffix(", best plane").map(order)
    best = best.assign(place=place).sort_values(["n_planes", "every", "place", "participant_id"])
    return best[list(COLUMNS)].to_dict("records")


def draw_held_out(rows: Sequence[dict[str, Any]]) -> Figure:
    """Draw three metrics versus the spacing of kept slices, one line of panels per set of orientations.

    Lines are means over participants, dots participants.

    Parameters
    ----------
    rows : rows of `held_out_rows`, at least one
    """
    table = pd.DataFrame(rows)
    table["method"] = table["method"].str.removesuffix(", best plane")
    kept = sorted(table["n_planes"].unique(), reverse=True)
    methods = list(dict.fromkeys(table["method"]))
    figure = new_figure(DOUBLE_MM, 16 + 44 * len(kept))
    panels = figure.subplots(len(kept), len(SHOWN), squeeze=False)
    marks = letters()
    for line, n_planes in zip(panels, kept, strict=True):
        for axes, metric in zip(line, SHOWN, strict=True):
            _draw(axes, table[table["n_planes"] == n_planes], metric, methods)
            axes.set_title(ORIENTATIONS.get(n_planes, f"{n_planes} orientations"))
            letter(axes, next(marks))
    legend_above(figure, panels[0][0])
    return figure


def _draw(axes: Axes, table: pd.DataFrame, metric: str, methods: Sequence[str]) -> None:
    """Draw one metric for one set of orientations."""
    places = {every: i for i, every in enumerate(sorted(table["every"].unique()))}
    for k, method in enumerate(methods):
        own = table[table["method"] == method]
        if own.empty:
            continue
        style: dict[str, Any] = {"color": colours(methods)[method], "marker": marker(k)}
        mean = own.groupby("every")[metric].mean()
        axes.plot(own["every"].map(places), own[metric], linestyle="", markersize=2, alpha=0.5, **style)
        axes.plot(mean.index.map(places), mean, linestyle=dashes(k), markersize=4, linewidth=1, label=method, **style)
    axes.set_xticks(range(len(places)), [f"{every}" for every in places])
    axes.set_xlim(-0.4, len(places) - 0.6)
    axes.set_xlabel("one slice kept in every")
    axes.set_ylabel(f"{METRICS[metric].label}, other voxels")
