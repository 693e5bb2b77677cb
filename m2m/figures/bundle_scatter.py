"""Streamlines by bundle: length, volume and density, synthetic versus measured."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from m2m.evaluate.metric_tables import BUNDLE_COLUMNS, over_sessions
from m2m.evaluate.metrics import concordance
from m2m.figures.style import (
    DOUBLE_MM,
    INK,
    MUTED,
    colours,
    legend_above,
    letter,
    marker,
    new_figure,
)

MEASURES = {"length_mm": ("mean length (mm)", 1.0), "volume_mm3": ("volume (ml)", 1e-3)}


def draw_bundles(bundles: pd.DataFrame, models: Sequence[str]) -> tuple[Figure, list[dict[str, Any]]]:
    """Draw length and volume, synthetic versus measured, and density r of every bundle.

    Parameters
    ----------
    bundles : DataFrame
        bundles.tsv of all models, at least one row.
    models : sequence of str

    Returns
    -------
    Figure
    list of dict
        One row per dot: a bundle of a participant.
    """
    bundles = over_sessions(bundles, ["model", "bundle"], BUNDLE_COLUMNS[2:])
    names = list(dict.fromkeys(bundles["bundle"]))
    height = 20 + 3.2 * len(names)
    above = 64 + 3 * len(models)
    figure = new_figure(DOUBLE_MM, above + height)
    top, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=(above, height))[:, 0]
    for axes, (key, (label, factor)), mark in zip(top.subplots(1, 2), MEASURES.items(), "ab", strict=True):
        _scatter(axes, bundles, models, key, factor)
        axes.set(xlabel=f"measured {label}", ylabel=f"synthetic {label}")
        letter(axes, mark)
    axes = bottom.subplots()
    _density(axes, bundles, models, names)
    legend_above(bottom, axes)
    letter(axes, "c")
    return figure, bundles.to_dict("records")


def _scatter(axes: Axes, bundles: pd.DataFrame, models: Sequence[str], key: str, factor: float) -> None:
    """Draw one dot per subject and bundle, and each model's pooled concordance."""
    pair = bundles[[f"reference_{key}", f"synthetic_{key}"]].to_numpy(float) * factor
    low, high = np.nanmin(pair), np.nanmax(pair)
    margin = 0.03 * (high - low) or 1.0
    ends = (low - margin, high + margin)
    axes.plot(ends, ends, color=MUTED, linewidth=0.6, linestyle="--", zorder=1)
    for i, model in enumerate(models):
        own = pair[(bundles["model"] == model).to_numpy()]
        own = own[np.isfinite(own).all(axis=1)]
        agreement = f"{concordance(*own.T):.3f}".replace("nan", "n/a")
        axes.plot(
            *own.T,
            linestyle="",
            marker=marker(i),
            markersize=2.4,
            alpha=0.55,
            color=colours(models)[model],
            markeredgewidth=0,
            label=f"{model}: concordance {agreement}",
        )
    axes.set(xlim=ends, ylim=ends, aspect="equal")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), borderpad=0)


def _density(axes: Axes, bundles: pd.DataFrame, models: Sequence[str], names: Sequence[str]) -> None:
    """Draw one row per bundle: the density r of each subject, and the mean of each model."""
    shift = np.linspace(-0.2, 0.2, len(models)) if len(models) > 1 else [0.0]
    for i, model in enumerate(models):
        own = bundles[bundles["model"] == model].groupby("bundle")["density_r"]
        shape, colour = marker(i), colours(models)[model]
        for row, name in enumerate(names):
            if name not in own.groups:
                continue
            r = own.get_group(name).to_numpy(float)
            axes.plot(
                r,
                np.full(len(r), row + shift[i]),
                linestyle="",
                marker=shape,
                markersize=2,
                color=colour,
                alpha=0.45,
                markeredgewidth=0,
            )
            if np.isfinite(r).any():
                axes.plot(np.nanmean(r), row + shift[i], marker="|", color=INK, markersize=5)
        axes.plot([], [], linestyle="", marker=shape, color=colour, label=model)
    axes.plot([], [], linestyle="", marker="|", color=INK, label="mean over participants")
    axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names], fontsize=5.5)
    axes.set_ylim(len(names) - 0.3, -0.7)
    axes.grid(axis="y", color="#eeeeee", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.axvline(0, color="#d0d0d0", linewidth=0.6, zorder=0)
    axes.set_title("Density r of each bundle")
    axes.set_xlabel("Pearson's r of measured and synthetic counts; 0: bundle missing in the synthetic streamlines")
