"""Figures of the evaluation: per subject, per slice, per region of interest."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from m2m.evaluate.identification import correlation_across_participants
from m2m.evaluate.metric_records import METRICS, REGIONS, panels
from m2m.evaluate.metric_tables import individuality, over_sessions
from m2m.evaluate.metrics import concordance
from m2m.evaluate.statistics import MIN_SUBJECTS, band
from m2m.figures.figure_records import FIGURES
from m2m.figures.style import (
    DOUBLE_MM,
    FEW,
    INK,
    MUTED,
    colours,
    dashes,
    legend_above,
    letter,
    letters,
    marker,
    model_axes,
    new_figure,
    per_line,
)

PER_LINE = 4
PROFILE_COLUMNS = FIGURES["profile"].columns


def draw_metrics(
    values: pd.DataFrame, summary: pd.DataFrame, models: Sequence[str], nature: str
) -> tuple[Figure, list[dict[str, Any]]]:
    """Draw every subject's value for every model, connected by lines, with mean and interval.

    Parameters
    ----------
    values : DataFrame
        Rows of `m2m.evaluate.metric_tables.by_participant`.
    summary : DataFrame
        summary.tsv.
    models : sequence of str
    nature : str
        Nature of the target.

    Returns
    -------
    Figure
    list of dict
        Rows of `values`.
    """
    many = len(models) > FEW
    shown = panels("metrics", nature)
    n_lines = -(-len(shown) // PER_LINE)
    figure = new_figure(DOUBLE_MM, n_lines * (55 if many else 49))
    lines = figure.subplots(n_lines, PER_LINE, sharex=many, squeeze=False)
    for axes in lines.flat[len(shown) :]:
        axes.set_axis_off()
    for axes, (region, metric), mark in zip(lines.flat, shown, letters(), strict=False):
        chosen = values[(values["region"] == region) & (values["metric"] == metric)]
        table = chosen.pivot(index="participant_id", columns="model", values="value")
        table = table.reindex(columns=list(models))
        estimates = summary[(summary["region"] == region) & (summary["metric"] == metric)]
        _paired(axes, table, estimates.set_index("model"))
        name = "" if region in ("rois", "bundles") else f", {REGIONS[region]}"
        axes.set_title(f"{METRICS[metric].label}{name}")
        axes.set_ylabel(f"{METRICS[metric].better} is better", color=MUTED, fontsize=6)
        letter(axes, mark)
    if many:
        for column in lines.T:
            axes = [one for one in column if one.axison][-1]
            if axes is not column[-1]:
                axes.tick_params(labelbottom=True)
            # Vertical names; the font size depends on the room for each.
            size = min(6.5, 88 / len(models))
            axes.set_xticks(axes.get_xticks(), models, rotation=90, va="center", fontsize=size)
    return figure, values.to_dict("records")


def _paired(axes: Axes, table: pd.DataFrame, estimates: pd.DataFrame) -> None:
    models = list(table.columns)
    colour = colours(models)
    if table.isna().all(axis=None):
        axes.text(0.5, 0.5, "not computed", transform=axes.transAxes, ha="center", color=MUTED)
    positions = np.arange(len(models))
    jitter = 0.1 * np.sin(2.4 * np.arange(len(table)))  # fixed, so that dots do not overlap
    axes.plot(positions[:, None] + jitter, table.to_numpy().T, color="#c8c8c8", linewidth=0.5, zorder=1)
    for i, model in enumerate(models):
        axes.plot(
            i + jitter,
            table[model],
            linestyle="",
            marker=marker(i),
            markersize=2.6,
            color=colour[model],
            alpha=0.75,
            markeredgewidth=0,
            zorder=2,
        )
        if model in estimates.index:
            row = estimates.loc[model]
            axes.plot(i + 0.3, row["mean"], marker="_", color=INK, markersize=6, zorder=3)
            axes.vlines(i + 0.3, row["low"], row["high"], color=INK, linewidth=1, zorder=3)
    axes.set_xticks(positions, models, rotation=20, ha="right", rotation_mode="anchor")
    axes.set_xlim(-0.5, len(models) - 0.4)


def draw_profile(profile: pd.DataFrame, models: Sequence[str]) -> tuple[Figure, list[dict[str, Any]]]:
    """Draw quality versus the axial slice's distance from the brain's centre.

    Only slices of at least half of the participants are drawn; bands are 95 % intervals over participants.

    Parameters
    ----------
    profile : DataFrame
        profile.tsv of all models.
    models : sequence of str

    Returns
    -------
    Figure
    list of dict
        Rows of `PROFILE_COLUMNS`.
    """
    figure = new_figure(DOUBLE_MM, 62 + 3.5 * (len(models) // 6))
    colour, rows = colours(models), []
    shown = ("ssim", "psnr", "mae")
    profile = over_sessions(profile, ["model", "offset_mm"], shown)
    for axes, metric, mark in zip(figure.subplots(1, 3), shown, letters(), strict=False):
        for k, model in enumerate(models):
            table = profile[profile["model"] == model].pivot(index="participant_id", columns="offset_mm", values=metric)
            table = table.loc[:, table.notna().sum() >= len(table) / 2].sort_index(axis=1)
            if table.empty:
                continue
            curves, offsets = table.to_numpy(), table.columns.to_numpy()
            mean, low, high = band(curves)
            axes.plot(offsets, mean, color=colour[model], label=model, linestyle=dashes(k))
            shade = 0.2 if len(models) <= FEW else 0.1
            axes.fill_between(offsets, low, high, color=colour[model], alpha=shade, linewidth=0)
            rows += [
                dict(zip(PROFILE_COLUMNS, (model, *numbers), strict=True))
                for numbers in zip(
                    offsets, [metric] * len(mean), mean, low, high, (~np.isnan(curves)).sum(0), strict=True
                )
            ]
        axes.axvline(0, color="#d8d8d8", linewidth=0.6, zorder=0)
        axes.set_title(f"{METRICS[metric].label}, brain")
        axes.set_xlabel("distance above the brain's centre (mm)")
        letter(axes, mark)
    legend_above(figure, figure.axes[0])
    return figure, rows


def draw_rois(rois: pd.DataFrame, models: Sequence[str], regional: str) -> tuple[Figure, list[dict[str, Any]]]:
    """Draw synthetic versus measured ROI means; with at least three participants also correlations.

    Parameters
    ----------
    rois : DataFrame
        rois.tsv of all models.
    models : sequence of str
    regional : str
        Quantity of the means, e.g. FA.

    Returns
    -------
    Figure
    list of dict
        One row per dot: a region of a participant.
    """
    rois = over_sessions(rois, ["model", "roi"], ["reference", "synthetic", "n_voxels"])
    colour = colours(models)
    names = list(dict.fromkeys(rois["roi"]))
    known = rois["participant_id"].nunique() >= MIN_SUBJECTS
    height = 22 + (2.8 if len(models) <= FEW else 3.6) * len(names) if known else 0
    columns, lines = per_line(len(models))
    above = 16 + lines * DOUBLE_MM / (columns + 0.8)
    figure = new_figure(DOUBLE_MM, above + height)
    top, *bottom = figure.subfigures(
        2 if height else 1, 1, squeeze=False, height_ratios=(above, height) if height else None
    )[:, 0]
    low, high = np.nanquantile(rois[["reference", "synthetic"]], (0, 1))
    margin = 0.05 * (high - low) or 0.03
    ends = np.array([low - margin, high + margin])
    panels = model_axes(top, len(models), f"measured {regional}", f"synthetic {regional}")
    marks = letters()
    for i, (axes, model) in enumerate(zip(panels, models, strict=True)):
        chosen = rois[rois["model"] == model]
        axes.plot(ends, ends, color=MUTED, linewidth=0.6, linestyle="--", zorder=1)
        axes.plot(
            chosen["reference"],
            chosen["synthetic"],
            linestyle="",
            marker=marker(i),
            markersize=2.4,
            color=colour[model],
            alpha=0.55,
            markeredgewidth=0,
        )
        pooled = f"{concordance(chosen['reference'], chosen['synthetic']):.3f}"
        axes.set(xlim=ends, ylim=ends, aspect="equal")
        axes.set_title(f"{model}\nconcordance {pooled.replace('nan', 'n/a')}")
        letter(axes, next(marks))
    if height:
        axes = bottom[0].subplots()
        _across_participants(axes, rois, models, names)
        legend_above(bottom[0], axes)
        letter(axes, next(marks))
    return figure, rois.to_dict("records")


def _across_participants(axes: Axes, rois: pd.DataFrame, models: Sequence[str], names: Sequence[str]) -> None:
    """Draw one row per region: correlation of synthetic and measured means across participants."""
    rows = {name: i for i, name in enumerate(names)}
    many = len(models) > FEW
    shift = np.linspace(-0.25, 0.25, len(models)) * many
    size = 2.4 if many else 3.2
    for i, model in enumerate(models):
        _, shared, measured, synthetic = individuality(rois[rois["model"] == model])
        r: NDArray | list[float] = correlation_across_participants(measured, synthetic) if shared else []
        axes.plot(
            r,
            [rows[name] + shift[i] for name in shared],
            linestyle="",
            marker=marker(i),
            markersize=size,
            color=colours(models)[model],
            label=model,
        )
    axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names], fontsize=5.5)
    axes.set_ylim(len(names) - 0.3, -0.7)
    axes.set_xlim(-1.02, 1.02)
    axes.grid(axis="y", color="#eeeeee", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.axvline(0, color="#d0d0d0", linewidth=0.6, zorder=0)
    axes.set_title("Correlation across participants, by region")
    axes.set_xlabel("Pearson's r of measured and synthetic means over test participants")
