"""Two visits of each participant: change within participants, and agreement of the visits by region."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from m2m.evaluate.visit_statistics import ALL, MEASURED
from m2m.figures.style import DOUBLE_MM, INK, MUTED, colours, legend_above, letter, letters, marker, new_figure

HEIGHT_MM = 68
# Height of the dots of all images of one region, in units of the distance of two regions.
SPREAD = 0.7
WHEN = {"retest": "of one day", "change": "years apart", "unknown": "at unknown times"}


def visit_figure_rows(root: Path, tasks: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of the figure's table, from visits.tsv and visit_pairs.tsv of each task.

    Returns
    -------
    list of dict
        Panel ``change``: participants, by the mean over regions; panel ``icc``: regions. Where a cohort has both
        visits of one day and visits that are years apart, the first panel shows the latter, the second the former.
    """
    rows: list[dict[str, Any]] = []
    for task in tasks:
        folder = root / "evaluate" / task
        pairs = pd.read_csv(folder / "visit_pairs.tsv", sep="\t", dtype={"participant_id": str, "roi": str})
        if pairs.empty:
            continue
        shown = _first_of(pairs[pairs["roi"] == ALL], ("change", "unknown", "retest"))
        change = shown.assign(change=shown["second_value"] - shown["first_value"], panel="change")
        measured = change[change["image"] == MEASURED].set_index("participant_id")["change"].rename("measured_change")
        change = change[change["image"] != MEASURED].join(measured, on="participant_id")
        found = pd.read_csv(folder / "visits.tsv", sep="\t", dtype={"roi": str}).drop(columns="task")
        icc = _first_of(found[(found["metric"] == "icc") & (found["roi"] != ALL)], ("retest", "unknown", "change"))
        icc = icc.rename(columns={"value": "icc"}).assign(panel="icc")
        rows += [{"task": task, **row} for table in (change, icc) for row in table.to_dict("records")]
    return rows


def _first_of(table: pd.DataFrame, intervals: Sequence[str]) -> pd.DataFrame:
    """Rows of the first of these intervals that the table has."""
    there = set(table["interval"])
    return table[table["interval"] == next((name for name in intervals if name in there), None)]


def draw_visits(rows: Sequence[Mapping[str, Any]], regional: Mapping[str, str]) -> Figure:
    """Draw changes within participants, and the ICC of each region, one line of panels per task.

    Parameters
    ----------
    rows : rows of `visit_figure_rows`, at least one
    regional : mapping of str to str
        Quantity of the means of each task, e.g. FA.

    Returns
    -------
    Figure
    """
    table = pd.DataFrame(rows)
    tasks, images = list(dict.fromkeys(table["task"])), list(dict.fromkeys([MEASURED, *table["image"]]))
    figure = new_figure(DOUBLE_MM, 8 + HEIGHT_MM * len(tasks))
    panels, mark = figure.subplots(len(tasks), 2, squeeze=False), letters()
    for (left, right), task in zip(panels, tasks, strict=True):
        own = table[table["task"] == task]
        _draw_changes(left, own[own["panel"] == "change"], images, regional[task])
        _draw_icc(right, own[own["panel"] == "icc"], images)
        left.set_title(task)
        letter(left, next(mark))
        letter(right, next(mark))
    legend_above(figure, panels[0, 1])
    return figure


def _draw_changes(axes: Axes, table: pd.DataFrame, images: Sequence[str], regional: str) -> None:
    """Draw the change in each image versus the measured one."""
    axes.axhline(0, color="#d0d0d0", linewidth=0.6, zorder=0)
    axes.axvline(0, color="#d0d0d0", linewidth=0.6, zorder=0)
    axes.axline((0, 0), slope=1, color=MUTED, linewidth=0.8, linestyle="--", zorder=0)
    for i, image in enumerate(images):
        own = table[table["image"] == image]
        axes.plot(own["measured_change"], own["change"], **_look(i, images), markersize=3, alpha=0.8)
    axes.set_xlabel(f"change of measured {regional}, visits {_when(table)}")
    axes.set_ylabel(f"change of {regional} in each map")


def _draw_icc(axes: Axes, table: pd.DataFrame, images: Sequence[str]) -> None:
    """Draw the ICC of each region, the images side by side."""
    regions = list(dict.fromkeys(table["roi"]))
    for i, image in enumerate(images):
        own, look = table[table["image"] == image], _look(i, images)
        offset = SPREAD * ((i + 0.5) / len(images) - 0.5)
        places = np.array([regions.index(roi) for roi in own["roi"]], float) + offset
        axes.plot(own["icc"], places, **look, markersize=2.4, label=image)
    axes.set_yticks(range(len(regions)), regions, fontsize=5.5)
    axes.invert_yaxis()
    axes.grid(axis="y", color="#eeeeee", linewidth=0.5)
    axes.set_xlabel(f"ICC(2,1) of the visits, {_when(table)}")


def _when(table: pd.DataFrame) -> str:
    return WHEN[next(iter(table["interval"]))]


def _look(index: int, images: Sequence[str]) -> dict[str, Any]:
    """Marker and colour of an image: the measured one, which is first, in ink, the others as models."""
    colour = INK if index == 0 else colours(images[1:])[images[index]]
    return {"linestyle": "", "marker": marker(index), "color": colour, "markeredgewidth": 0}
