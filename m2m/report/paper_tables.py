"""Tables of one task's results as Markdown and LaTeX, for a paper: values with their intervals.

The best models are marked by the verdicts on paired differences, not by the values: a model is marked
if no other model is better on the same participants, unless this is true for all models.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from m2m.evaluate.metric_records import METRICS, REGIONS, in_report
from m2m.io.files import write_text
from m2m.io.quoting import printable
from m2m.io.tables import read_table
from m2m.options import Published
from m2m.options.configured import fitted_model, read_config
from m2m.options.stage_flags import NeededConfig, Root, TaskName
from m2m.report.model_sentences import inputs_in_short
from m2m.report.published_table import about, published_table
from m2m.report.summary_text import (
    COUNTS,
    Row,
    comparison_rows,
    counts_by_model,
    interval,
    printed,
    verdict,
)

LEGEND = (
    "Mean over {n_subjects} test participants [95 % interval by Student's t; exact for rates]; {counts}. Bold: no "
    "other model is better by the corrected p of the paired difference; no value is bold where this is true for all "
    "models."
)
COMPARED = (
    "Difference between two models on the same participants [95 % interval], p by Student's t (by McNemar's test for "
    "rates), and p corrected by Holm's procedure, on which the verdict is based."
)


def unbeaten(comparison: Sequence[Row], models: Sequence[str]) -> dict[tuple[str | None, str | None], set[str]]:
    """Models that no other model is better than, by region and metric.

    Parameters
    ----------
    comparison : rows of comparison.tsv
        Each pair of models once.
    models : sequence of str

    Returns
    -------
    dict
        Sets of models; only for metrics with a better direction, with an interval for every pair,
        and with a difference between at least two models.
    """
    beaten: dict[tuple, set[str]] = {}
    verdicts: dict[tuple, list[str]] = {}
    for row in comparison:
        key = row["region"], row["metric"]
        outcome = verdict(row) if row["metric"] in METRICS else ""
        verdicts.setdefault(key, []).append(outcome)
        if outcome in ("better", "worse"):
            loser = row["baseline"] if outcome == "better" else row["model"]
            beaten.setdefault(key, set()).add(str(loser))
    return {
        key: set(models) - losers for key, losers in beaten.items() if not {"", "too few subjects"} & set(verdicts[key])
    }


def summary_cells(summary: Sequence[Row], comparison: Sequence[Row], models: Sequence[str]) -> list[dict[str, Any]]:
    """One row per region and metric: the texts, and which models are marked.

    Parameters
    ----------
    summary, comparison : rows of summary.tsv and comparison.tsv
    models : sequence of str

    Returns
    -------
    list of dict
        region, metric (with the better direction), cells (texts, by model), marked (set of models).
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
                model: f"{printed(row['mean'], metric.digits)} {interval(row, metric.digits)}" if row else "n/a"
                for model, row in own.items()
            }
            shown = {model for model, row in own.items() if row}
            marked = best.get((region, name), set()) & shown
            rows.append(
                {"region": region_name, "metric": f"{metric.title}, {metric.better}", "cells": cells, "marked": marked}
            )
    return rows


def legend(summary: Sequence[Row], models: Sequence[str]) -> str:
    """Legend of the summary, with the number of participants."""
    counted = counts_by_model(summary, models)
    if not counted:
        return "No test participant was evaluated."
    subjects = sorted({row["subjects"] for row in counted})
    counts = ", ".join(f"{key} {counted[0][key]}" for key in COUNTS)
    n_subjects = " to ".join(map(str, (subjects[0], subjects[-1])[: len(subjects)]))
    return LEGEND.format(n_subjects=n_subjects, counts=counts)


def frame(rows: Sequence[Mapping[str, Any]], models: Sequence[str]) -> pd.DataFrame:
    """Summary as a table of texts."""
    columns = ["region", "metric", *models]
    return pd.DataFrame([[row["region"], row["metric"], *row["cells"].values()] for row in rows], columns=columns)


def markdown(table: pd.DataFrame, marked: Sequence[set[str]] = ()) -> str:
    """Write a table in Markdown; cells of the marked columns of a row are bold."""
    marked = marked or [set()] * len(table)

    def line(cells: Sequence[str]) -> str:
        # A cell is text: neither a further column nor HTML.
        texts = (printable(cell).replace("|", r"\|").replace("<", "&lt;") for cell in cells)
        return "| " + " | ".join(texts) + " |"

    lines = [line(list(table.columns)), line(["---"] * len(table.columns))]
    for cells, bold in zip(table.to_dict("records"), marked, strict=True):
        lines.append(line([f"**{c}**" if name in bold else c for name, c in cells.items()]))
    return "\n".join(lines) + "\n"


def latex(table: pd.DataFrame, marked: Sequence[set[str]] = ()) -> str:
    """Write a table in LaTeX, for the package booktabs; cells of the marked columns are bold."""
    marked = marked or [set()] * len(table)
    style = table.style.hide(axis="index").format(escape="latex").format_index(escape="latex", axis=1)

    def bold(row: pd.Series) -> list[str]:
        return ["textbf:--rwrap;" if name in marked[row.name] else "" for name in row.index]

    style.apply(bold, axis=1)
    text = style.to_latex(hrules=True, column_format="l" * len(table.columns))
    return (
        text.replace("−", "$-$")
        .replace("²", r"\textsuperscript{2}")
        .replace("µ", r"\textmu{}")
        .replace("°", r"\textdegree{}")
        .replace("—", "---")
    )


def beside_published(
    published: Published, task: str, summary: Sequence[Row], models: Sequence[str], as_latex: bool
) -> str:
    """Write published values beside those of a task, with what must be known of them; empty where there are none.

    Parameters
    ----------
    published : Published
    task : str
    summary : rows of summary.tsv
    models : sequence of str
    as_latex : bool
        LaTeX, otherwise Markdown.

    Returns
    -------
    str
    """
    table = published_table(published, task, summary, models)
    if table.empty:
        return ""
    notes = [f"{heading}: {text}" for heading, text in about(published).items()]
    if as_latex:
        return "\n" + "".join(f"% {note}\n" for note in notes) + latex(table)
    return f"\n## Beside published values\n\n{markdown(table)}\n" + "".join(f"- {note}\n" for note in notes)


def main(root: Root, task: TaskName, config: NeededConfig) -> None:
    """Write the summary and the comparison of a task as Markdown and LaTeX."""
    summary, comparison = (root / "evaluate" / task / f"{name}.tsv" for name in ("summary", "comparison"))
    outs = [path.with_suffix(suffix) for path in (summary, comparison) for suffix in (".md", ".tex")]
    written = read_config(config)
    section = written.task(task)
    inputs = {model: inputs_in_short(fitted_model(written.model(model), section, model)) for model in section.models}
    write_tables(summary, comparison, inputs, outs, written.published, task)


def write_tables(
    summary: Path,
    comparison: Path,
    inputs: Mapping[str, str],
    out: Sequence[Path],
    published: Published | None = None,
    task: str = "",
) -> None:
    """Write the summary and the comparison of a task as Markdown and LaTeX.

    Parameters
    ----------
    summary, comparison : Path
        summary.tsv and comparison.tsv.
    inputs : mapping of str to str
        By model, in the order of the columns: the inputs of its network, the last row of the summary.
    out : sequence of Path
        Files named as their source, with .md or .tex.
    published : Published, optional
        A published table, of which values of this task follow the summary.
    task : str
    """
    means, pairs = read_table(summary), read_table(comparison)
    models = list(inputs)
    rows = summary_cells(means, pairs, models)
    if rows:
        rows.append({"region": "inputs", "metric": "", "cells": dict(inputs), "marked": set()})
    marked = [row["marked"] for row in rows]
    columns = ("pair", "region", "metric", "difference", "interval", "p", "p_holm", "n", "verdict")
    tables = {
        summary.stem: (frame(rows, models), marked, legend(means, models)),
        comparison.stem: (pd.DataFrame(comparison_rows(pairs), columns=columns), [], COMPARED),
    }
    for path in out:
        table, bold, text = tables[path.stem]
        content = f"% {text}\n{latex(table, bold)}" if path.suffix == ".tex" else f"{markdown(table, bold)}\n{text}\n"
        if published is not None and path.stem == summary.stem:
            content += beside_published(published, task, means, models, path.suffix == ".tex")
        write_text(path, content)
    print(f"wrote {', '.join(map(str, out))}")
