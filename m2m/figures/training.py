"""How training went: losses, the validation metric and gradients, step by step."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from m2m.figures.style import DOUBLE_MM, MARKERS, MUTED, PALETTE, letter, new_figure

COLUMNS = ("model", "split", "step", "name", "value")
SKIPPED = {"step", "epoch", "seconds", "learning_rate"}


def read_curves(path: Path, model: str) -> list[dict[str, Any]]:
    """Read metrics.jsonl (one JSON object a line) into rows of model, split, step, name, value.

    A baseline that is computed, not trained, has no steps and gives no rows.
    """
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        if record.get("step") is None:
            continue
        for name, value in _numbers(record):
            rows.append(
                {"model": model, "split": record.get("split", "train"), "step": record["step"],
                 "name": name, "value": value}
            )  # fmt: skip
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

    Parameters
    ----------
    rows : rows of `read_curves`, at least one
    """
    table = pd.DataFrame(rows)
    models = [m for m in dict.fromkeys(table["model"]) if _steps(table, m) > 1]
    models = models or list(dict.fromkeys(table["model"]))
    figure = new_figure(DOUBLE_MM, 6 + 62 * len(models))
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
            axes.set_xlabel(f"step ({model})")
            letter(axes, "abcdefghijkl"[(3 * i + j) % 12])
    return figure


def _steps(table: pd.DataFrame, model: str) -> int:
    return table.loc[table["model"] == model, "step"].nunique()


def _lines(axes: Axes, group: pd.DataFrame, logarithmic: bool) -> None:
    if group.empty:
        axes.text(0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center", color=MUTED)
        return
    for k, (name, curve) in enumerate(group.groupby("name", sort=False)):
        sparse = len(curve) <= 30
        axes.plot(
            curve["step"], curve["value"], color=PALETTE[k % 7], label=name, linewidth=0.9,
            linestyle=("-", "--")[k // 7 % 2], marker=MARKERS[k % 7] if sparse else "",
            markersize=2,
        )  # fmt: skip
    low, high = group["value"].min(), group["value"].max()
    if logarithmic and 0 < 10 * low < high:
        axes.set_yscale("log")
    axes.legend(loc="best", fontsize=5.5, handlelength=1.4)
