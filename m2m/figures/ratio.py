"""Quality versus the ratio of resolutions, with models of the T1 alone at the end."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

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
from m2m.options import Task

COLUMNS = FIGURES["ratio"].columns
SHOWN = {
    ("brain", "psnr"): "brain PSNR (dB)",
    ("brain", "ssim"): "brain SSIM",
    ("rois", "concordance"): "ROI concordance",
}
OFFSET = 0.1
T1_ALONE = "T1 alone"


def ratio_rows(root: Path, tasks: Mapping[str, Task]) -> list[dict[str, Any]]:
    """Means and intervals of a study's models in the tasks where they were fitted; ratio None: T1 alone."""
    rows = []
    for name, task in tasks.items():
        summary = pd.read_csv(root / "evaluate" / name / "summary.tsv", sep="\t")
        for row in summary.to_dict("records"):
            shown = (row["region"], row["metric"]) in SHOWN
            if shown and task.training_task(name, row["model"]) == name:
                ratio = task.low_res.factor if task.low_res else None
                rows.append({"task": name, "ratio": ratio} | {k: row[k] for k in COLUMNS[2:]})
    return rows


def draw_ratio(rows: list[dict[str, Any]]) -> Figure:
    """Draw three metrics versus the ratio; models with the T1 as their only input are at the end.

    Parameters
    ----------
    rows : rows of `ratio_rows`, at least one
    """
    table = pd.DataFrame(rows)
    ratios = sorted(table["ratio"].dropna().unique())
    places = {ratio: i for i, ratio in enumerate(ratios)}
    models = list(dict.fromkeys(table["model"]))
    alone = list(dict.fromkeys(table.loc[table["ratio"].isna(), "model"]))
    # Side by side at the end, so that equal values do not hide each other.
    end = {model: len(places) + OFFSET * (i - (len(alone) - 1) / 2) for i, model in enumerate(alone)}
    figure = new_figure(DOUBLE_MM, 66)
    panels = figure.subplots(1, len(SHOWN))
    for axes, mark, ((region, metric), title) in zip(panels, letters(), SHOWN.items(), strict=False):
        group = table[(table["region"] == region) & (table["metric"] == metric)]
        for k, model in enumerate(models):
            own = group[group["model"] == model]
            x = own["ratio"].map(places).fillna(end.get(model))
            own = own.assign(x=x).sort_values("x")
            spread = (own["mean"] - own["low"], own["high"] - own["mean"])
            axes.errorbar(
                own["x"],
                own["mean"],
                yerr=[part.clip(0).fillna(0) for part in spread],
                color=colours(models)[model],
                marker=marker(k),
                linestyle=dashes(k),
                markersize=4,
                linewidth=1,
                elinewidth=0.8,
                label=model,
            )
        axes.set_xticks(range(len(places) + 1), [*(f"1/{ratio:g}" for ratio in ratios), T1_ALONE])
        axes.set_xlim(-0.4, len(places) + 0.4)
        axes.set_xlabel("resolution of the additional map")
        axes.set_ylabel(title)
        letter(axes, mark)
    legend_above(figure, panels[0])
    return figure
