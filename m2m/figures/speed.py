"""Quality against the time that a volume takes, with what others have published.

Published figures are of other people, grids and machines: they are marked as such, and one without
a stated time stands at the edge.
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
    MUTED,
    colours,
    legend_above,
    letter,
    letters,
    marker,
    new_figure,
)
from m2m.io.bids import measure

COLUMNS = FIGURES["speed"].columns
# Of whole slices, background and all, as others report them.
METRICS = {"psnr": "PSNR (dB), whole slices", "ssim": "SSIM, whole slices"}
_EARLY = "README of the early public code of Macro2Micro, 2023"
_SPIE = "SPIE 12930:129302P, 2024, doi:10.1117/12.3009706"
# T1 to FA, whole slices: name, dB, SSIM, source. None of them states a time.
PUBLISHED = (
    ("Macro2Micro, early", 24.96, 0.590, _EARLY),
    ("pix2pix", 20.46, 0.66, _SPIE),
    ("CycleGAN", 18.65, 0.61, _SPIE),
)
# The only stated time: of one translation, of a slice there, without a figure of quality.
STATED = {
    "model": "Macro2Micro", "origin": "published", "seconds": 0.01,
    "reference": "arXiv:2412.11277: below 0.01 s a translation",
}  # fmt: skip


def job_seconds(study: Study, model: str) -> list[float]:
    """Wall seconds of jobs that translated a test person's volume.

    The program's start, reading and writing included, as Snakemake took them: rules/report.smk
    declares these files.
    """
    home = study.task.home(study.name, model)
    jobs = study.root / "benchmarks/translate_volume" / f"{home}_{model}"
    name = f"{{}}/{{}}_{measure(study.target.synthetic)}.tsv"
    paths = [jobs / name.format(folder, unit) for unit, folder in study.timed.items()]
    return [_seconds(path) for path in sorted(paths) if path.exists()]


def _seconds(path: Path) -> float:
    return float(pd.read_csv(path, sep="\t")["s"].iloc[0])


def speed_rows(study: Study) -> list[dict[str, Any]]:
    """Means and intervals of a study's models with their median seconds, then published figures."""
    summary = pd.read_csv(study.root / "evaluate" / study.name / "summary.tsv", sep="\t")
    chosen = summary[(summary["region"] == "slice") & summary["metric"].isin(METRICS)]
    rows = []
    for model in study.models:
        seconds = job_seconds(study, model)
        timed = {
            "origin": "measured", "n_timed": len(seconds),
            "seconds": float(np.median(seconds)) if seconds else None,
        }  # fmt: skip
        own = chosen[chosen["model"] == model].to_dict("records")
        rows += [{key: row.get(key) for key in COLUMNS} | timed for row in own]
    for name, psnr, ssim, reference in PUBLISHED:
        known = {"model": name, "origin": "published", "reference": reference}
        rows += [known | {"metric": "psnr", "mean": psnr}, known | {"metric": "ssim", "mean": ssim}]
    return [*rows, STATED]


def draw_speed(rows: list[dict[str, Any]], models: tuple[str, ...]) -> Figure:
    """Draw both metrics against seconds a volume.

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
        _measured(axes, group[group["origin"] == "measured"], models)
        _published(axes, group[group["origin"] == "published"])
        axes.set_xscale("log")
        axes.set_xlim(STATED["seconds"] / 2, 30 * max([1, *group["seconds"].dropna()]))
        axes.set_xlabel("seconds a volume, on the machine that ran this")
        axes.set_ylabel(title)
        letter(axes, mark)
    legend_above(figure, panels[0])
    return figure


def _measured(axes: Axes, table: pd.DataFrame, models: tuple[str, ...]) -> None:
    """Draw the study's own models: mean and interval over test subjects."""
    look = {"linestyle": "", "markersize": 4.5, "elinewidth": 0.8}
    for k, model in enumerate(models):
        own = table[(table["model"] == model) & table["seconds"].notna()]
        spread = [(own["mean"] - own["low"]).fillna(0), (own["high"] - own["mean"]).fillna(0)]
        axes.errorbar(
            own["seconds"], own["mean"], yerr=spread, marker=marker(k), label=model,
            color=colours(models)[model], **look,
        )  # fmt: skip


def _published(axes: Axes, table: pd.DataFrame) -> None:
    """Draw what others report: at the edge where no time is stated."""
    axes.axvline(STATED["seconds"], color=MUTED, linestyle=":", linewidth=0.8)
    axes.annotate(
        f"{STATED['model']} (published), below this a translation", (STATED["seconds"], 0.02),
        xycoords=axes.get_xaxis_transform(), xytext=(2, 0), textcoords="offset points",
        rotation=90, va="bottom", fontsize=5.5, color=MUTED,
    )  # fmt: skip
    for row in table.to_dict("records"):
        axes.plot(1, row["mean"], transform=axes.get_yaxis_transform(), clip_on=False, marker="<",
                  markersize=4, color=MUTED, markerfacecolor="white", linestyle="")  # fmt: skip
        axes.annotate(
            f"{row['model']} (published)", (1, row["mean"]),
            xycoords=axes.get_yaxis_transform(), xytext=(-5, 0), textcoords="offset points",
            ha="right", va="center", fontsize=5.5, color=MUTED,
        )  # fmt: skip
