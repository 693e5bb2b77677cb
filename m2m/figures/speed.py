"""Quality versus computation time per volume: both are of the same translation.

Published values are not drawn: they are of other participants, grids, regions and machines.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from m2m.figures.figure_records import FIGURES
from m2m.figures.study import Study
from m2m.figures.style import (
    DOUBLE_MM,
    colours,
    legend_above,
    letter,
    letters,
    marker,
    new_figure,
)
from m2m.io.bids import files_of, measure
from m2m.io.files import read_json

COLUMNS = FIGURES["speed"].columns
METRICS = {"psnr": "PSNR in the brain (dB)", "ssim": "SSIM in the brain"}


def translation_seconds(study: Study, model: str) -> list[float]:
    """Wall-clock seconds of each test participant's translation, reading and writing included.

    They made the maps that are evaluated, with all views of their model, mirrored ones included.
    """
    root, name = study.root / "synthetic" / study.name / model, measure(study.target.synthetic)
    paths = [Path(str(files_of(unit, root)("synth-status")).format(measure=name)) for unit in study.folders]
    found = (read_json(path).get("seconds") for path in sorted(paths) if path.exists())
    return [seconds for seconds in found if seconds is not None]


def speed_rows(study: Study) -> list[dict[str, Any]]:
    """Means and intervals of a task's models with the median seconds of the translations that made their maps."""
    summary = pd.read_csv(study.root / "evaluate" / study.name / "summary.tsv", sep="\t")
    chosen = summary[(summary["region"] == "brain") & summary["metric"].isin(METRICS)]
    rows = []
    for model in study.models:
        seconds = translation_seconds(study, model)
        timed = {"n_timed": len(seconds), "seconds": float(np.median(seconds)) if seconds else None}
        own = chosen[chosen["model"] == model].to_dict("records")
        rows += [{key: row.get(key) for key in COLUMNS} | timed for row in own]
    return rows


def draw_speed(rows: list[dict[str, Any]], models: tuple[str, ...]) -> Figure:
    """Draw both metrics versus seconds per volume.

    Parameters
    ----------
    rows : rows of `speed_rows`
    models : tuple of str
    """
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    figure = new_figure(DOUBLE_MM, 78)
    panels = figure.subplots(1, len(METRICS))
    for axes, mark, (metric, title) in zip(panels, letters(), METRICS.items(), strict=False):
        group = table[table["metric"] == metric]
        _measured(axes, group, models)
        axes.set_xscale("log")
        axes.set_xlabel("seconds per volume, on the machine used")
        axes.set_ylabel(title)
        letter(axes, mark)
    legend_above(figure, panels[0])
    return figure


def _measured(axes: Axes, table: pd.DataFrame, models: tuple[str, ...]) -> None:
    """Draw the task's models: mean and interval over test subjects."""
    style: dict[str, Any] = {"linestyle": "", "markersize": 4.5, "elinewidth": 0.8}
    for k, model in enumerate(models):
        own = table[(table["model"] == model) & table["seconds"].notna()]
        spread = [(own["mean"] - own["low"]).fillna(0), (own["high"] - own["mean"]).fillna(0)]
        axes.errorbar(
            own["seconds"],
            own["mean"],
            yerr=spread,
            marker=marker(k),
            label=model,
            color=colours(models)[model],
            **style,
        )
