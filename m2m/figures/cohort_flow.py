"""Participant flow, and the age and sex of each part of the split."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from m2m.cohort.participants import age_of
from m2m.cohort.spellings import Row
from m2m.figures.style import DOUBLE_MM, INK, MUTED, PALETTE, letter, new_figure

PARTS = ("train", "validation", "test")
OUT = {
    "t1w-only": "no usable DWI (T1 translated only)",
    "dwi-only": "no usable T1w (DWI fitted only)",
    "failed": "neither scan usable",
    "excluded": "on the exclusion list",
}


def cohort_steps(
    units: Sequence[Row], parts: Mapping[str, str], quality: Sequence[Row], evaluated: int
) -> list[dict[str, Any]]:
    """Count the units of each step, and those that were lost before it.

    Parameters
    ----------
    units, quality : rows of units.tsv and quality.tsv
    parts : mapping
        Part of each participant.
    evaluated : int
        Test units whose maps of all models were compared with the measured map.

    Returns
    -------
    list of dict
        step (input, left, paired, lost, used, part, evaluated), detail, n.
    """
    states = Counter(row["state"] for row in units)
    paired = {row["unit"]: row["participant_id"] or "" for row in units if row["state"] == "paired"}
    outcome = Counter(row["state"] for row in quality if row["unit"] in paired)
    of_part = Counter(
        parts.get(paired[row["unit"]]) for row in quality if row["unit"] in paired and row["state"] == "used"
    )
    rows = [{"step": "input", "detail": "participants × sessions", "n": len(units)}]
    rows += [{"step": "left", "detail": text, "n": states[s]} for s, text in OUT.items()]
    rows.append({"step": "paired", "detail": "T1w and DWI usable", "n": len(paired)})
    rows.append({"step": "lost", "detail": "failed in processing", "n": outcome["failed"]})
    rows.append({"step": "lost", "detail": "excluded in quality control", "n": outcome["excluded"]})
    rows.append({"step": "lost", "detail": "not processed", "n": outcome["incomplete"]})
    rows.append({"step": "used", "detail": "used", "n": outcome["used"]})
    rows += [{"step": "part", "detail": part, "n": of_part[part]} for part in PARTS]
    rows.append({"step": "evaluated", "detail": "evaluated with every model", "n": evaluated})
    return rows


def draw_cohort(steps: Sequence[Mapping[str, Any]], split: Sequence[Row]) -> Figure:
    """Draw the participant flow and, where known, age and sex by part.

    Parameters
    ----------
    steps : rows of `cohort_steps`
    split : rows of split.tsv
    """
    aged = [(row, age) for row in split if (age := age_of(row)) is not None]
    figure = new_figure(DOUBLE_MM, 88)
    if not aged:
        axes = figure.subplots()
    else:
        left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(2.1, 1))[0]
        axes = left.subplots()
        _ages(right, aged)
        letter(axes, "a")
    _flow(axes, steps)
    return figure


def _flow(axes: Axes, steps: Sequence[Mapping[str, Any]]) -> None:
    axes.set_axis_off()
    axes.set(xlim=(0, 10), ylim=(-0.3, 10.1))
    n = {row["step"]: row["n"] for row in steps}
    left = [f"{r['n']}  {r['detail']}" for r in steps if r["step"] == "left" and r["n"]]
    lost = [f"{r['n']}  {r['detail']}" for r in steps if r["step"] == "lost" and r["n"]]
    parts = [row for row in steps if row["step"] == "part"]
    _box(axes, (2.6, 9.3), 5.0, f"{n['input']} participants × sessions in the dataset")
    _box(axes, (2.6, 6.7), 5.0, f"{n['paired']} with a usable T1w and DWI")
    _box(axes, (2.6, 4.1), 5.0, f"{n['used']} used")
    for top, bottom, reasons in ((9.3, 6.7, left), (6.7, 4.1, lost)):
        _arrow(axes, (2.6, top - 0.55), (2.6, bottom + 0.55))
        middle = (top + bottom) / 2
        text = "\n".join(reasons) if reasons else "none excluded"
        _arrow(axes, (2.6, middle), (5.35, middle))
        _box(axes, (7.65, middle), 4.5, text, muted=True, lines=max(1, len(reasons)))
    for i, part in enumerate(parts):
        x = 1.0 + 2.6 * i
        _arrow(axes, (2.6, 3.55), (x, 2.65))
        _box(axes, (x, 2.1), 1.9, f"{part['n']} {part['detail']}", colour=PALETTE[(1, 2, 0)[i]])
    _arrow(axes, (6.2, 1.55), (6.2, 1.05))
    _box(axes, (6.2, 0.5), 4.4, f"{n['evaluated']} evaluated with every model")


def _box(
    axes: Axes,
    centre: tuple[float, float],
    width: float,
    text: str,
    muted: bool = False,
    lines: int = 1,
    colour: str | None = None,
) -> None:
    height = 1.1 if lines == 1 else 0.35 + 0.55 * lines
    corner = centre[0] - width / 2, centre[1] - height / 2
    box = FancyBboxPatch(
        corner,
        width,
        height,
        boxstyle="round,pad=0,rounding_size=0.12",
        linewidth=0.8,
        facecolor="#f5f5f5" if muted else "white",
        edgecolor=colour or (MUTED if muted else INK),
    )
    axes.add_patch(box)
    axes.text(*centre, text, ha="center", va="center", fontsize=6 if muted else 6.8, linespacing=1.25)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    arrow = FancyArrowPatch(
        start, end, arrowstyle="-|>", mutation_scale=6, linewidth=0.7, color=MUTED, shrinkA=0, shrinkB=0
    )
    axes.add_patch(arrow)


def _ages(figure: Figure, aged: Sequence[tuple[Row, float]]) -> None:
    subjects, ages = [row for row, _ in aged], np.array([age for _, age in aged])
    sexes = [row.get("sex") or "not given" for row in subjects]
    bins = np.arange(5 * np.floor(ages.min() / 5), ages.max() + 5.01, 5)
    if len(bins) > 16:
        bins = np.arange(10 * np.floor(ages.min() / 10), ages.max() + 10.01, 10)
    kinds = sorted(set(sexes))
    panels = figure.subplots(len(PARTS), 1, sharex=True, sharey=True)
    for axes, part in zip(panels, PARTS, strict=True):
        chosen = [row["part"] == part for row in subjects]
        groups = [ages[[c and s == kind for c, s in zip(chosen, sexes, strict=True)]] for kind in kinds]
        axes.hist(
            groups,
            bins=bins,
            stacked=True,
            label=kinds,
            rwidth=0.9,
            color=[PALETTE[(5, 4, 3, 1)[i % 4]] for i in range(len(kinds))],
        )
        axes.set_title(f"{part}, n = {sum(chosen)}", fontsize=6.8)
        axes.yaxis.get_major_locator().set_params(integer=True)
    panels[1].set_ylabel("participants")
    panels[-1].set_xlabel("age (years)")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles,
        [f"sex {label}" for label in labels],
        loc="outside upper right",
        ncols=len(kinds),
        handlelength=0.9,
        columnspacing=0.8,
    )
    letter(panels[0], "b")
