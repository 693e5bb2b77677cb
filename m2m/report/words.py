"""Numbers of the tables as words and cells: nothing is computed here but a verdict.

Every function takes rows of summary.tsv and comparison.tsv and gives what the page prints.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from m2m.evaluate.metric_records import METRICS, REGIONS, in_report
from m2m.evaluate.metric_records import headlines as main_results
from m2m.io.modalities import MODALITIES
from m2m.options import Task

Row = Mapping[str, str | None]
COUNTS = ("n_input", "n_failed", "n_excluded", "n_incomplete", "n_used")


def measured(target: str) -> str:
    """Say what the metrics of a target are of."""
    return MODALITIES[target].measured


def overview() -> list[str]:
    """Main results that every task has: columns of the table at the top."""
    return [title for (_, metric), title in main_results().items() if not METRICS[metric].natures]


def task_title(task: Task, tasks: Mapping[str, Task]) -> str:
    """Say what is translated to what: T1 to FA to tract density."""
    steps = [tasks[link].target for link in task.chain if link in tasks] if task.chain else []
    images = [task.source, *steps[:-1], task.target]
    first, *others = (MODALITIES[image].title for image in images)
    if task.low:
        first += f" and {others[-1]} at 1/{task.low.ratio} of the resolution"
    return " to ".join([first, *others])


def task_titles(tasks: Mapping[str, Task]) -> dict[str, str]:
    """Title of each task, by name; those that translate the same are told apart by their names."""
    titles = {name: task_title(task, tasks) for name, task in tasks.items()}
    shared = Counter(titles.values())
    return {n: f"{title} ({n})" if shared[title] > 1 else title for n, title in titles.items()}


def printed(text: str | None, digits: int) -> str:
    """Print a table's number to a number of digits; n/a stays n/a."""
    if text is None:
        return "n/a"
    try:
        return f"{float(text):.{digits}f}".replace("-", "−")
    except ValueError:
        return text


def interval(row: Row, digits: int) -> str:
    """Print ``[low, high]`` of a row, or that there is none."""
    if row["low"] is None:
        return "[interval n/a]"
    return f"[{printed(row['low'], digits)}, {printed(row['high'], digits)}]"


def summary_rows(summary: Sequence[Row], models: Sequence[str]) -> list[dict[str, Any]]:
    """Arrange the summary as one row per region and metric, one cell per model.

    Returns
    -------
    list of dict
        region, metric, better, main (part of the headline), cells: list of (mean, interval) texts.
    """
    found = {(row["region"], row["metric"], row["model"]): row for row in summary}
    rows = []
    for region, region_name in REGIONS.items():
        for name, metric in in_report().items():
            own = [found.get((region, name, model)) for model in models]
            if not any(own):
                continue
            rows.append(
                {
                    "region": region_name, "metric": metric.title, "better": metric.better,
                    "main": region in metric.headlines,
                    "cells": [
                        (printed(row["mean"], metric.digits), interval(row, metric.digits))
                        if row else ("n/a", "") for row in own
                    ],
                }
            )  # fmt: skip
    return rows


def comparison_rows(comparison: Sequence[Row]) -> list[dict[str, str]]:
    """Arrange paired differences: texts, and what the interval says."""
    rows = []
    for region, region_name in REGIONS.items():
        for row in comparison:
            if row["region"] != region or row["metric"] not in METRICS:
                continue
            metric = METRICS[row["metric"]]
            rows.append(
                {
                    "pair": f"{row['model']} − {row['baseline']}", "region": region_name,
                    "metric": metric.title,
                    "difference": printed(row["difference"], metric.digits),
                    "interval": interval(row, metric.digits),
                    "p": printed(row["p"], 4), "p_holm": printed(row["p_holm"], 4),
                    "n": row["n_subjects"] or "0",
                    "verdict": verdict(row),
                }
            )  # fmt: skip
    return rows


def verdict(row: Row) -> str:
    """Say what the interval of a paired difference says: better, worse, or neither."""
    better = METRICS[row["metric"] or ""].better
    if row["low"] is None or row["high"] is None:
        return "too few subjects"
    if better not in ("higher", "lower"):
        return ""
    low, high = float(row["low"]), float(row["high"])
    if low <= 0 <= high:
        return "not told apart"
    return "better" if (low > 0) == (better == "higher") else "worse"


def headlines(
    summary: Sequence[Row], comparison: Sequence[Row], main_model: str
) -> list[dict[str, Any]]:
    """The main results: value and interval of the first model, and its lead over each baseline."""
    tiles = []
    for (region, metric), name in main_results().items():
        digits = METRICS[metric].digits
        for row in summary:
            if (row["model"], row["region"], row["metric"]) != (main_model, region, metric):
                continue
            leads = [
                {
                    "baseline": pair["baseline"], "verdict": verdict(pair),
                    "difference": printed(pair["difference"], digits),
                    "interval": interval(pair, digits),
                }
                for pair in comparison
                if (pair["model"], pair["region"], pair["metric"]) == (main_model, region, metric)
            ]  # fmt: skip
            tiles.append(
                {
                    "name": name, "value": printed(row["mean"], digits),
                    "interval": interval(row, digits), "n": row["n_subjects"],
                    "leads": leads,
                }
            )  # fmt: skip
    return tiles


def sentence(tiles: Sequence[Mapping[str, Any]], model: str, n_subjects: str) -> str:
    """Say the result in words: against each baseline, in which main metrics the model leads."""
    outcomes: dict[str, dict[str, list[str]]] = {}
    for tile in tiles:
        for lead in tile["leads"]:
            outcomes.setdefault(lead["baseline"], {}).setdefault(lead["verdict"], []).append(
                tile["name"]
            )
    words = {
        "better": "is better than {} in {}", "worse": "is worse than {} in {}",
        "not told apart": "cannot be told apart from {} in {}",
        "too few subjects": "cannot be compared with {} in {} (too few subjects)",
    }  # fmt: skip
    parts = [
        phrase.format(baseline, enumerate_words(found[kind]))
        for baseline, found in outcomes.items()
        for kind, phrase in words.items()
        if kind in found
    ]
    subjects = f"On {n_subjects} test subject{'' if n_subjects == '1' else 's'}, {model} "
    return subjects + ("; it ".join(parts) if parts else "stands alone, without a baseline") + "."


def enumerate_words(words: Sequence[str]) -> str:
    """Join words as in a sentence: a, b and c."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def counts_by_model(summary: Sequence[Row], models: Sequence[str]) -> list[dict[str, Any]]:
    """How many came in, failed, were excluded and used, and were tested, for each model."""
    rows = []
    for model in models:
        own = [row for row in summary if row["model"] == model]
        if own:
            subjects = max(int(row["n_subjects"] or 0) for row in own)
            rows.append({"model": model, "subjects": subjects} | {k: own[0][k] for k in COUNTS})
    return rows


def standings(tiles: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Against each baseline, in how many headlines the model is better, and in how many worse.

    Returns
    -------
    list of dict
        baseline, text, kind (better or worse where all that differ agree, else empty).
    """
    verdicts: dict[str, list[str]] = {}
    for tile in tiles:
        for lead in tile["leads"]:
            verdicts.setdefault(lead["baseline"], []).append(lead["verdict"])
    rows = []
    for baseline, found in verdicts.items():
        counts = {kind: found.count(kind) for kind in ("better", "worse") if kind in found}
        text = ", ".join(f"{kind} in {n}" for kind, n in counts.items()) or "not told apart in any"
        text = (
            "too few subjects" if set(found) == {"too few subjects"} else f"{text} of {len(found)}"
        )
        kind = next(iter(counts)) if len(counts) == 1 else ""
        rows.append({"baseline": baseline, "text": text, "kind": kind})
    return rows


def overview_row(
    title: str, name: str, model: str, tiles: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """One task in the table at the top: its headline numbers, and how it stands to each baseline.

    Returns
    -------
    dict
        name, title, model, n (subjects); cells: (value, interval) of each of `overview`, n/a
        where not defined; further: name, value and interval of the other headlines; standings: of
        `standing`, by baseline.
    """
    found = {tile["name"]: (tile["value"], tile["interval"]) for tile in tiles}
    shown = overview()
    main = next((tile for tile in tiles if tile["name"] == shown[0]), None)
    return {
        "name": name, "title": title, "model": model,
        "n": main["n"] if main else "0", "standings": standings(tiles),
        "cells": [found.get(headline, ("n/a", "")) for headline in shown],
        "further": [(key, *found[key]) for key in found if key not in shown],
    }  # fmt: skip
