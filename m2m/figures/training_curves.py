"""Training curves: losses, the validation metric and gradient norms, by step."""

import json
import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from m2m.figures.style import DOUBLE_MM, FEW, MARKERS, MUTED, PALETTE, letter, new_figure

SKIPPED = {"step", "epoch", "seconds", "learning_rate"}


def read_curves(path: Path, model: str) -> list[dict[str, Any]]:
    """Read metrics.jsonl (one JSON object per line) into rows of model, split, step, name, value.

    A baseline that is not trained in steps has one row with step None.
    """
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        for name, value in _numbers(record):
            rows.append(
                {"model": model, "split": record["split"], "step": record["step"], "name": name, "value": value}
            )
    return rows


def _numbers(record: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    """Names and values of a record's numbers, groups joined by a slash."""
    found = []
    for key, value in record.items():
        if isinstance(value, Mapping):
            found += _numbers(value, f"{prefix}{key}/")
        elif isinstance(value, int | float) and not isinstance(value, bool) and key not in SKIPPED:
            found.append((f"{prefix}{key}", float(value)))
    return found


def draw_training(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw one row of panels per trained model: terms of the loss, validation, gradients.

    Baselines appear as horizontal lines in the panels of validation.

    Parameters
    ----------
    rows : rows of `read_curves`, at least one of them with a step
    """
    table = pd.DataFrame(rows)
    computed, table = table[table["step"].isna()], table[table["step"].notna()]
    models = list(dict.fromkeys(table["model"]))
    figure = new_figure(DOUBLE_MM, 6 + (70 if len(models) <= FEW else 56) * len(models))
    panels = figure.subplots(len(models), 3, squeeze=False)
    for i, (line, model) in enumerate(zip(panels, models, strict=True)):
        own = table[table["model"] == model]
        gradient = own["name"].str.contains("grad")
        training = own["split"] == "train"
        groups = (
            (own[training & ~gradient], "terms of the loss (training)", True),
            (own[~training], "validation", False),
            (own[training & gradient], "gradient norms", True),
        )
        for j, (axes, (group, title, logarithmic)) in enumerate(zip(line, groups, strict=True)):
            _lines(axes, group, logarithmic)
            axes.set_title(title)
            if title == "validation":
                _baselines(axes, computed)
            if axes.lines:
                # Below the label of the axis for any height of the panel (unit: font size).
                axes.legend(loc="upper center", bbox_to_anchor=(0.45, 0), borderaxespad=4.5, ncols=2, fontsize=6)
            axes.set_xlabel(f"step ({model})")
            letter(axes, f"{string.ascii_lowercase[i]}{j + 1}")
    return figure


def _baselines(axes: Axes, computed: pd.DataFrame) -> None:
    for k, (model, value) in enumerate(zip(computed["model"], computed["value"], strict=True)):
        axes.axhline(
            value, color=PALETTE[(k + 1) % 7], linestyle=("--", ":")[k % 2], linewidth=0.9, label=f"{model} (baseline)"
        )


def _lines(axes: Axes, group: pd.DataFrame, logarithmic: bool) -> None:
    if group.empty:
        axes.text(0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center", color=MUTED)
        return
    for k, (name, curve) in enumerate(group.groupby("name", sort=False)):
        sparse = len(curve) <= 30
        axes.plot(
            curve["step"],
            curve["value"],
            color=PALETTE[k % 7],
            linewidth=0.9,
            markersize=2,
            linestyle=("-", "--")[k // 7 % 2],
            marker=MARKERS[k % 7] if sparse else "",
            label=name.removeprefix("grad_norm/"),
        )
    low, high = group["value"].min(), group["value"].max()
    if logarithmic and 0 < 10 * low < high:
        axes.set_yscale("log")
    elif logarithmic and low < 0:  # log_sd, with terms a hundred times smaller
        axes.set_yscale("symlog", linthresh=0.1)
