"""Tables of one task's results as Markdown and LaTeX, for a paper: values with their intervals.

What is best is marked by the intervals of paired differences, not by the values: a model is marked
where no other one is better on the same people, unless that holds for all of them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from m2m.evaluate.metric_records import METRICS, REGIONS, in_report
from m2m.io.files import write_text
from m2m.io.tables import read_table
from m2m.options.configured import read_config
from m2m.options.stage_flags import NeededConfig, Root, TaskName
from m2m.report.words import (
    COUNTS,
    Row,
    comparison_rows,
    counts_by_model,
    interval,
    printed,
    verdict,
)

LEGEND = (
    "Mean over {people} test people [95 % bootstrap interval]; {counts}. Bold: by the interval of "
    "the paired difference no other model is better, where this does not hold for all of them."
)
COMPARED = (
    "Difference of two models on the same people [95 % bootstrap interval], p of the signed-rank "
    "test, and p corrected by Holm's procedure; the verdict follows the interval."
)


def unbeaten(
    comparison: Sequence[Row], models: Sequence[str]
) -> dict[tuple[str | None, str | None], set[str]]:
    """Models that no other one is better than, by region and metric; none where all are.

    Parameters
    ----------
    comparison : rows of comparison.tsv
        Each pair of models once.
    models : sequence of str

    Returns
    -------
    dict
        Only of metrics that have a better way, and of which every pair has an interval.
    """
    beaten: dict[tuple, set[str]] = {}
    verdicts: dict[tuple, list[str]] = {}
    for row in comparison:
        key = row["region"], row["metric"]
        found = verdict(row) if row["metric"] in METRICS else ""
        verdicts.setdefault(key, []).append(found)
        if found in ("better", "worse"):
            loser = row["baseline"] if found == "better" else row["model"]
            beaten.setdefault(key, set()).add(str(loser))
    return {
        key: set(models) - losers
        for key, losers in beaten.items()
        if not {"", "too few subjects"} & set(verdicts[key])
    }


def summary_cells(
    summary: Sequence[Row], comparison: Sequence[Row], models: Sequence[str]
) -> list[dict[str, Any]]:
    """One row per region and metric: the texts, and which models are marked.

    Returns
    -------
    list of dict
        region, metric (with the better way), cells (texts, by model), marked (set of models).
    """
    found = {(row["region"], row["metric"], row["model"]): row for row in summary}
    best = unbeaten(comparison, models)
    rows = []
    for region, region_name in REGIONS.items():
        for name, metric in in_report().items():
            own = {model: found.get((region, name, model)) for model in models}
            if not any(own.values()):
                continue
            cells = {
                model: f"{printed(row['mean'], metric.digits)} {interval(row, metric.digits)}"
                if row else "n/a" for model, row in own.items()
            }  # fmt: skip
            shown = {model for model, row in own.items() if row}
            marked = best.get((region, name), set()) & shown
            rows.append(
                {"region": region_name, "metric": f"{metric.title}, {metric.better}",
                 "cells": cells, "marked": marked}
            )  # fmt: skip
    return rows


def legend(summary: Sequence[Row], models: Sequence[str]) -> str:
    """What the numbers of a summary are, and of how many."""
    counted = counts_by_model(summary, models)
    if not counted:
        return "No test person was evaluated."
    people = sorted({row["subjects"] for row in counted})
    words = ", ".join(f"{key} {counted[0][key]}" for key in COUNTS)
    return LEGEND.format(people=" to ".join(map(str, (people[0], people[-1])[: len(people)])),
                         counts=words)  # fmt: skip


def frame(rows: Sequence[Mapping[str, Any]], models: Sequence[str]) -> pd.DataFrame:
    """Table of the summary's texts."""
    columns = ["region", "metric", *models]
    return pd.DataFrame(
        [[row["region"], row["metric"], *row["cells"].values()] for row in rows], columns=columns
    )


def markdown(table: pd.DataFrame, marked: Sequence[set[str]] = ()) -> str:
    """Write a table in Markdown; cells of the marked columns of a row are bold."""
    marked = marked or [set()] * len(table)

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"

    lines = [line(list(table.columns)), line(["---"] * len(table.columns))]
    for cells, bold in zip(table.to_dict("records"), marked, strict=True):
        lines.append(line([f"**{c}**" if name in bold else c for name, c in cells.items()]))
    return "\n".join(lines) + "\n"


def latex(table: pd.DataFrame, marked: Sequence[set[str]] = ()) -> str:
    """Write a table in LaTeX, for the package booktabs; cells of the marked columns are bold."""
    marked = marked or [set()] * len(table)
    style = table.style.hide(axis="index").format(escape="latex").format_index(
        escape="latex", axis=1
    )  # fmt: skip

    def bold(row: pd.Series) -> list[str]:
        return ["textbf:--rwrap;" if name in marked[row.name] else "" for name in row.index]

    style.apply(bold, axis=1)
    text = style.to_latex(hrules=True, column_format="l" * len(table.columns))
    return text.replace("−", "$-$").replace("²", r"\textsuperscript{2}").replace(
        "µ", r"\textmu{}"
    ).replace("°", r"\textdegree{}").replace("—", "---")  # fmt: skip


def main(root: Root, task: TaskName, config: NeededConfig) -> None:
    """Write the summary and the comparison of a task as Markdown and LaTeX."""
    sources = [root / "evaluate" / task / f"{name}.tsv" for name in ("summary", "comparison")]
    outs = [path.with_suffix(suffix) for path in sources for suffix in (".md", ".tex")]
    write_tables(*sources, read_config(config).models(task), outs)


def write_tables(
    summary: Path, comparison: Path, models: Sequence[str], out: Sequence[Path]
) -> None:
    """Write tables, each named as its source: .md or .tex."""
    means, pairs = read_table(summary), read_table(comparison)
    rows = summary_cells(means, pairs, models)
    marked = [row["marked"] for row in rows]
    columns = ("pair", "region", "metric", "difference", "interval", "p", "p_holm", "n", "verdict")
    tables = {
        summary.stem: (frame(rows, models), marked, legend(means, models)),
        comparison.stem: (pd.DataFrame(comparison_rows(pairs), columns=columns), [], COMPARED),
    }
    for path in out:
        table, bold, words = tables[path.stem]
        if path.suffix == ".tex":
            write_text(path, f"% {words}\n{latex(table, bold)}")
        else:
            write_text(path, f"{markdown(table, bold)}\n{words}\n")
    print(f"wrote {', '.join(map(str, out))}")
