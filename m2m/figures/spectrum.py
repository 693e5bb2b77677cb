"""Is it sharp because it is true? Power and coherence of the maps by spatial frequency."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

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


def draw_spectrum(
    table: pd.DataFrame, models: Sequence[str], n_resamples: int, seed: int
) -> tuple[Figure, list[dict[str, Any]]]:
    """Draw power of the true and of each model's map, their ratio, and their coherence.

    Power is averaged over units by its logarithm; bands are 95 % bootstrap intervals over units.

    Parameters
    ----------
    table : DataFrame
        spectrum.tsv of all models, at least one row.
    models : sequence of str
    n_resamples, seed : int

    Returns
    -------
    Figure
    list of dict
        Rows of `COLUMNS`; quantity: power (model ``true`` too), power_ratio, coherence.
    """
    figure = new_figure(DOUBLE_MM, 64 + 3.5 * ((len(models) + 1) // 6))
    power, ratio, coherence = figure.subplots(1, 3)
    shared = table[table["model"] == table["model"].iloc[0]]
    rows = _curve(power, shared, "true", "power", np.log10(_curves(shared, "true_power")),
                  (n_resamples, seed), color=INK)  # fmt: skip
    for i, model in enumerate(models):
        own = table[table["model"] == model]
        if own.empty:
            continue
        style = {"color": colours(models)[model], "linestyle": dashes(i)}
        logs = np.log10(_curves(own, "synthetic_power"))
        for axes, quantity, curves in (
            (power, "power", logs),
            (ratio, "power_ratio", logs - np.log10(_curves(own, "true_power"))),
            (coherence, "coherence", _curves(own, "coherence")),
        ):
            rows += _curve(axes, own, model, quantity, curves, (n_resamples, seed), **style)
    power.set(title="Power", yscale="log", ylabel="power spectral density (mm³)")
    ratio.set(title="Power, synthetic over true", yscale="log")
    ratio.axhline(1, color=INK, linewidth=0.6, zorder=0)
    coherence.set(title="Coherence with the truth", ylim=(min(0, coherence.get_ylim()[0]), 1.02))
    for axes, mark in zip((power, ratio, coherence), letters(), strict=False):
        axes.set_xlabel("spatial frequency (1/mm)")
        letter(axes, mark)
    legend_above(figure, power)
    return figure, rows


def _curves(table: pd.DataFrame, column: str) -> NDArray[np.float64]:
    """Curves of all units, shape (units, frequencies); NaN for no power."""
    curves = table.pivot(index="unit", columns="frequency_per_mm", values=column).to_numpy(float)
    return np.where(curves == 0, np.nan, curves)


def _curve(
    axes: Axes, table: pd.DataFrame, model: str, quantity: str, curves: NDArray,
    resampling: tuple[int, int], **style: Any,
) -> list[dict[str, Any]]:  # fmt: skip
    """Draw one mean curve with its band; powers come as logarithms."""
    frequency = np.sort(table["frequency_per_mm"].unique())
    drawn = band(curves, *resampling)
    mean, low, high = drawn if quantity == "coherence" else (10**one for one in drawn)
    axes.plot(frequency, mean, label=model, **style)
    axes.fill_between(frequency, low, high, color=style["color"], alpha=0.12, linewidth=0)
    n_units = (~np.isnan(curves)).sum(0)
    return [
        dict(zip(COLUMNS, (model, x, quantity, *numbers), strict=True))
        for x, *numbers in zip(frequency, mean, low, high, n_units, strict=True)
    ]
