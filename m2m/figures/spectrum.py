"""Power and coherence of the maps by spatial frequency."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from m2m.evaluate.metric_tables import over_sessions
from m2m.evaluate.statistics import band
from m2m.figures.figure_records import FIGURES
from m2m.figures.style import (
    DOUBLE_MM,
    INK,
    colours,
    dashes,
    legend_above,
    letter,
    letters,
    new_figure,
)

COLUMNS = FIGURES["spectrum"].columns


def draw_spectrum(table: pd.DataFrame, models: Sequence[str]) -> tuple[Figure, list[dict[str, Any]]]:
    """Draw power of the measured and of each model's map, their ratio, and their coherence.

    Power is averaged by its logarithm, over the sessions of each participant and then over participants; bands are
    95 % intervals over participants.

    Parameters
    ----------
    table : DataFrame
        spectrum.tsv of all models, at least one row.
    models : sequence of str

    Returns
    -------
    Figure
    list of dict
        Rows of `COLUMNS`; quantity: power (also of model ``measured``), power_ratio, coherence.
    """
    figure = new_figure(DOUBLE_MM, 64 + 3.5 * ((len(models) + 1) // 6))
    power, ratio, coherence = figure.subplots(1, 3)
    table = of_participants(table)
    shared = table[table["model"] == table["model"].iloc[0]]
    rows = _curve(power, shared, "measured", "power", "log_reference", color=INK)
    for i, model in enumerate(models):
        own = table[table["model"] == model]
        if own.empty:
            continue
        style = {"color": colours(models)[model], "linestyle": dashes(i)}
        for axes, quantity, column in (
            (power, "power", "log_synthetic"),
            (ratio, "power_ratio", "log_ratio"),
            (coherence, "coherence", "coherence"),
        ):
            rows += _curve(axes, own, model, quantity, column, **style)
    power.set(title="Power", yscale="log", ylabel="power spectral density (mm³)")
    ratio.set(title="Power ratio, synthetic to measured", yscale="log")
    ratio.axhline(1, color=INK, linewidth=0.6, zorder=0)
    coherence.set(title="Coherence with the measured map", ylim=(min(0, coherence.get_ylim()[0]), 1.02))
    for axes, mark in zip((power, ratio, coherence), letters(), strict=False):
        axes.set_xlabel("spatial frequency (1/mm)")
        letter(axes, mark)
    legend_above(figure, power)
    return figure, rows


def of_participants(table: pd.DataFrame) -> pd.DataFrame:
    """Average logarithms of power (NaN: no power), and coherence, over the sessions of each participant."""
    reference, synthetic = (table[name].astype(float) for name in ("reference_power", "synthetic_power"))
    logs = {"log_reference": np.log10(reference.mask(reference == 0))}
    logs["log_synthetic"] = np.log10(synthetic.mask(synthetic == 0))
    logs["log_ratio"] = logs["log_synthetic"] - logs["log_reference"]
    return over_sessions(table.assign(**logs), ["model", "frequency_per_mm"], [*logs, "coherence"])


def _curve(
    axes: Axes,
    table: pd.DataFrame,
    model: str,
    quantity: str,
    column: str,
    **style: Any,
) -> list[dict[str, Any]]:
    """Draw one mean curve with its band; powers are given as logarithms."""
    by_frequency = table.pivot(index="participant_id", columns="frequency_per_mm", values=column)
    frequency, curves = by_frequency.columns.to_numpy(float), by_frequency.to_numpy(float)
    drawn = band(curves)
    mean, low, high = drawn if quantity == "coherence" else (10**one for one in drawn)
    axes.plot(frequency, mean, label=model, **style)
    axes.fill_between(frequency, low, high, color=style["color"], alpha=0.12, linewidth=0)
    n_subjects = (~np.isnan(curves)).sum(0)
    return [
        dict(zip(COLUMNS, (model, x, quantity, *numbers), strict=True))
        for x, *numbers in zip(frequency, mean, low, high, n_subjects, strict=True)
    ]
