"""Predicted uncertainty: calibration, error retention, and maps of error and standard deviation."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray

from m2m.evaluate.metric_tables import over_sessions
from m2m.figures.study import Study, Subject
from m2m.figures.style import (
    DOUBLE_MM,
    INK,
    MUTED,
    colours,
    dashes,
    legend_above,
    letter,
    new_figure,
)
from m2m.figures.views import AXIS, PLANES, crop, cut, windows


def draw_uncertainty(
    study: Study, table: pd.DataFrame, subjects: Sequence[Subject]
) -> tuple[Figure, list[dict[str, Any]]]:
    """Draw calibration and retention of every model, and maps of the first model for one subject.

    Parameters
    ----------
    study : Study
    table : DataFrame
        uncertainty.tsv of all models, at least one row.
    subjects : sequence of Subject
        The median one, or else the first, is shown.

    Returns
    -------
    Figure
    list of dict
        Mean curves over participants (curve: calibration, retention, oracle); and of the maps
        (curve: error_map, sd_map) the mean inside the mask of each slice, x being its index in
        `PLANES`.
    """
    models = study.models
    figure = new_figure(DOUBLE_MM, 132 + 3.5 * ((len(models) + 2) // 6))
    top, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=(76, 56))[:, 0]
    calibration, retention = top.subplots(1, 2)
    calibration.plot([0, 1], [0, 1], color=INK, linewidth=0.6, linestyle="--", label="perfect")
    rows, table = [], over_sessions(table, ["model", "curve", "x"], ["y"])
    for i, model in enumerate(models):
        own = table[table["model"] == model]
        style: dict[str, Any] = {"color": colours(models)[model], "linestyle": dashes(i), "label": model}
        for name, axes in (("calibration", calibration), ("retention", retention)):
            rows += _curve(own, model, name, axes, **style)
    oracle: dict[str, Any] = {"color": MUTED, "linewidth": 0.8, "label": f"oracle of {models[0]}"}
    rows += _curve(table[table["model"] == models[0]], models[0], "oracle", retention, **oracle)
    # For the legend only.
    calibration.plot([], [], **oracle)
    calibration.set(
        xlim=(0, 1),
        ylim=(0, 1),
        title="Calibration",
        aspect="equal",
        xlabel="nominal probability of the interval",
        ylabel="share of voxels inside it",
    )
    retention.set(
        xlim=(0, 1),
        ylim=(0, None),
        title="Error retention",
        xlabel="share of voxels kept, most certain first",
        ylabel=f"mean absolute error of {study.look.scaled}",
    )
    for axes, mark in ((calibration, "a"), (retention, "b")):
        letter(axes, mark)
    legend_above(top, calibration)
    subject = next((one for one in subjects if one.rank == "median"), subjects[0])
    return figure, rows + _maps(bottom, study, subject)


def _curve(own: pd.DataFrame, model: str, name: str, axes: Any, **style: Any) -> list[dict[str, Any]]:
    """Draw the mean over participants of one model's curve."""
    curves = own[own["curve"] == name].groupby("x")["y"]
    if not len(curves):
        return []
    mean, n_subjects = curves.mean(), curves.size()
    axes.plot(mean.index, mean, **style)
    return [
        {"model": model, "curve": name, "x": x, "y": float(y), "n_subjects": int(n)}
        for x, y, n in zip(mean.index, mean, n_subjects, strict=True)
    ]


def _maps(figure: SubFigure, study: Study, subject: Subject) -> list[dict[str, Any]]:
    """Draw the absolute error and its predicted standard deviation, in three planes."""
    model = study.models[0]
    maps = error_and_sd(study, subject, model)
    if maps is None:
        figure.text(0.5, 0.5, f"No maps of {model} for {subject.unit}.", ha="center", color=MUTED)
        return []
    ((start, size, centre),) = windows([subject.mask])
    top = float(np.percentile(maps[0][subject.mask], 99)) or 1.0
    panels, rows = figure.subplots(1, 6), []
    for k, (name, image) in enumerate(zip(("error_map", "sd_map"), maps, strict=True)):
        for x, plane in enumerate(PLANES):
            index, axis = int(centre[AXIS[plane]]), AXIS[plane]
            axes = panels[3 * k + x]
            shown = axes.imshow(
                cut(crop(image, start, size), plane, index - int(start[axis])),
                origin="lower",
                cmap="inferno",
                vmin=0,
                vmax=top,
                interpolation="bilinear",
            )
            axes.set_axis_off()
            inside = np.take(subject.mask, index, axis=axis)
            mean = float(np.take(image, index, axis=axis)[inside].mean()) if inside.any() else None
            rows.append({"model": model, "unit": subject.unit, "curve": name, "x": x, "y": mean})
    panels[0].set_title(f"Absolute error: {model}, {subject.unit}")
    panels[3].set_title("Predicted standard deviation")
    letter(panels[0], "c")
    letter(panels[3], "d")
    bar = figure.colorbar(shown, ax=panels, orientation="horizontal", aspect=50, shrink=0.5)
    bar.outline.set_linewidth(0.4)
    bar.set_label(study.look.scaled)
    return rows


def error_and_sd(study: Study, subject: Subject, model: str) -> tuple[NDArray, NDArray] | None:
    """Absolute error of a map, and its standard deviation, of scaled values inside the mask.

    Parameters
    ----------
    study : Study
    subject : Subject
    model : str

    Returns
    -------
    ndarray, shape (X, Y, Z), twice, or None
        Root mean square over channels; None where there is no map.
    """
    sd = study.deviations(subject, model)
    if sd is None or model not in subject.synthetic:
        return None
    scaled = (study.target.scale(one.values) for one in (subject.measured, subject.synthetic[model]))
    error = np.subtract(*scaled)
    pair = (one.reshape(*subject.mask.shape, -1) for one in (error, sd))
    sizes = (np.sqrt(np.mean(one.astype(np.float64) ** 2, axis=-1)) for one in pair)
    error_size, sd_size = (np.where(subject.mask, size, 0) for size in sizes)
    return error_size, sd_size
