"""Numbers of the tables as sentences and cells: nothing is computed here except verdicts.

Every function takes rows of a table of results and returns texts of the page.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from m2m.evaluate.metric_records import METRICS, REGIONS, in_report
from m2m.evaluate.metric_records import headlines as main_results
from m2m.evaluate.statistics import ALPHA
from m2m.io.modalities import MODALITIES
from m2m.options import Task
from m2m.options.real_options import SECOND

Row = Mapping[str, str | None]
COUNTS = ("n_input", "n_failed", "n_excluded", "n_incomplete", "n_used")


def measured(target: str) -> str:
    """Describe the images on which the metrics of a target are computed."""
    return MODALITIES[target].metric_definition


def overview() -> list[str]:
    """Main metrics that every task has: columns of the overview table."""
    return [title for (_, metric), title in main_results().items() if not METRICS[metric].natures]


def task_title(task: Task, tasks: Mapping[str, Task]) -> str:
    """Title of a task, e.g. T1 to FA to tract density."""
    steps = [tasks[step].target for step in task.cascade if step in tasks] if task.cascade else []
    images = [task.source, *steps[:-1], task.target]
    first, *others = (MODALITIES[image].title for image in images)
    if task.low_res:
        first += f" and {others[-1]} at 1/{task.low_res.factor} of the resolution"
    return " to ".join([first, *others])


def task_titles(tasks: Mapping[str, Task]) -> dict[str, str]:
    """Title of each task, by name; tasks with the same title have their name added."""
    titles = {name: task_title(task, tasks) for name, task in tasks.items()}
    shared = Counter(titles.values())
    return {n: f"{title} ({n})" if shared[title] > 1 else title for n, title in titles.items()}


def printed(text: str | None, digits: int) -> str:
    """Round a number of a table to a number of digits; n/a stays n/a."""
    if text is None:
        return "n/a"
    try:
        return f"{float(text):.{digits}f}".replace("-", "−")
    except ValueError:
        return text


def interval(row: Row, digits: int) -> str:
    """Interval of a row as ``[low, high]``, or a note that there is none."""
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
                    "region": region_name,
                    "metric": metric.title,
                    "better": metric.better,
                    "main": region in metric.headlines,
                    "cells": [
                        (printed(row["mean"], metric.digits), interval(row, metric.digits)) if row else ("n/a", "")
                        for row in own
                    ],
                }
            )
    return rows


def comparison_rows(comparison: Sequence[Row]) -> list[dict[str, str]]:
    """Arrange paired differences as texts, each with its verdict."""
    rows = []
    for region, region_name in REGIONS.items():
        for row in comparison:
            if row["region"] != region or row["metric"] not in METRICS:
                continue
            metric = METRICS[row["metric"]]
            rows.append(
                {
                    "pair": f"{row['model']} − {row['baseline']}",
                    "region": region_name,
                    "metric": metric.title,
                    "difference": printed(row["difference"], metric.digits),
                    "interval": interval(row, metric.digits),
                    "p": printed(row["p"], 4),
                    "p_holm": printed(row["p_holm"], 4),
                    "n": row["n_subjects"] or "0",
                    "verdict": verdict(row),
                }
            )
    return rows


def verdict(row: Row) -> str:
    """Verdict on a paired difference: better, worse, or not significantly different.

    A difference needs a p of at most `m2m.evaluate.statistics.ALPHA` after the correction for the
    number of baselines, and an interval without 0.
    """
    better = METRICS[row["metric"] or ""].better
    if row["low"] is None or row["high"] is None:
        return "too few subjects"
    if better not in ("higher", "lower"):
        return ""
    low, high = float(row["low"]), float(row["high"])
    if low <= 0 <= high or row["p_holm"] is None or float(row["p_holm"]) > ALPHA:
        return "not significantly different"
    return "better" if (low > 0) == (better == "higher") else "worse"


def headlines(summary: Sequence[Row], comparison: Sequence[Row], main_model: str) -> list[dict[str, Any]]:
    """The main results: value and interval of the first model, and its difference from each baseline.

    Parameters
    ----------
    summary, comparison : rows of summary.tsv and comparison.tsv
    main_model : str

    Returns
    -------
    list of dict
        name, value, interval, n, leads (dicts: baseline, verdict, difference, interval).
    """
    tiles = []
    for (region, metric), name in main_results().items():
        digits = METRICS[metric].digits
        for row in summary:
            if (row["model"], row["region"], row["metric"]) != (main_model, region, metric):
                continue
            leads = [
                {
                    "baseline": pair["baseline"],
                    "verdict": verdict(pair),
                    "difference": printed(pair["difference"], digits),
                    "interval": interval(pair, digits),
                }
                for pair in comparison
                if (pair["model"], pair["region"], pair["metric"]) == (main_model, region, metric)
            ]
            tiles.append(
                {
                    "name": name,
                    "value": printed(row["mean"], digits),
                    "interval": interval(row, digits),
                    "n": row["n_subjects"],
                    "leads": leads,
                }
            )
    return tiles


def sentence(tiles: Sequence[Mapping[str, Any]], model: str, n_subjects: str) -> str:
    """Describe the result: in which main metrics the model is better or worse than each baseline.

    Parameters
    ----------
    tiles : list of `headlines`
    model : str
        The first model.
    n_subjects : str
        Number of test subjects.

    Returns
    -------
    str
    """
    outcomes: dict[str, dict[str, list[str]]] = {}
    for tile in tiles:
        for lead in tile["leads"]:
            outcomes.setdefault(lead["baseline"], {}).setdefault(lead["verdict"], []).append(tile["name"])
    phrases = {
        "better": "is better than {} in {}",
        "worse": "is worse than {} in {}",
        "not significantly different": "is not significantly different from {} in {}",
        "too few subjects": "cannot be compared with {} in {} (too few participants)",
    }
    parts = [
        phrase.format(baseline, join_names(found[kind]))
        for baseline, found in outcomes.items()
        for kind, phrase in phrases.items()
        if kind in found
    ]
    subjects = f"On {n_subjects} test participant{'' if n_subjects == '1' else 's'}, {model} "
    return subjects + ("; it ".join(parts) if parts else "has no baseline to be compared with") + "."


def references(summary: Sequence[Row], models: Mapping[str, str]) -> list[dict[str, str]]:
    """Brain SSIM of the models that a network must exceed, the mean map and the atlas.

    Parameters
    ----------
    summary : rows of summary.tsv
    models : mapping of str to str
        Model that is each of these references; empty where the task has none.

    Returns
    -------
    list of dict
        role, model, value (empty where the task has none, or nothing was evaluated).
    """
    digits = METRICS["ssim"].digits
    values = {
        r["model"]: printed(r["mean"], digits) for r in summary if (r["region"], r["metric"]) == ("brain", "ssim")
    }
    return [{"role": role, "model": model, "value": values.get(model, "")} for role, model in models.items()]


def ceiling(pairs: Sequence[Row]) -> dict[str, Any] | None:
    """Brain SSIM that a second measurement of FA reaches, of the real pairs that have one.

    Parameters
    ----------
    pairs : rows of real/metrics.tsv

    Returns
    -------
    dict or None
        n (participants' sessions), low and high (texts, of the smallest and largest value); None where none has two.
    """
    wanted = (SECOND, "brain", "ssim")
    found = [row["value"] for row in pairs if (row["map"], row["region"], row["metric"]) == wanted]
    values = sorted(float(value) for value in found if value is not None)
    low, high = (printed(str(end), METRICS["ssim"].digits) for end in (values[0], values[-1])) if values else ("", "")
    return {"n": len(values), "low": low, "high": high} if values else None


def identification(summary: Sequence[Row], comparison: Sequence[Row], model: str, reference: str) -> str:
    """Describe a model's identification rate, beside that of the mean map and of chance.

    The mean map differs between participants by the shape of their brains alone, so its rate, not
    chance, is what a map of the individual must exceed.

    Parameters
    ----------
    summary, comparison : rows of summary.tsv and comparison.tsv
    model : str
        The first model.
    reference : str
        The task's model that is the mean map; empty without one.

    Returns
    -------
    str
        Empty where nothing was identified.
    """
    rates = {row["model"]: row for row in summary if row["metric"] == "identification"}
    if model not in rates:
        return ""
    digits, n = METRICS["identification"].digits, int(rates[model]["n_subjects"] or 0)
    text = f"Participants identified by their regional means: {model} {_rate(rates[model], digits)}"
    if reference in rates and reference != model:
        text += f"; the reference is {reference}, the mean map, {_rate(rates[reference], digits)}"
        for row in comparison:
            if (row["metric"], row["model"], row["baseline"]) == ("identification", model, reference):
                text += f" (difference {printed(row['difference'], digits)} {interval(row, digits)}, {verdict(row)})"
    elif reference != model:
        text += "; without the mean map among the models there is no reference, since shape alone identifies"
    return f"{text}; chance is {printed(str(1 / n), digits)}."


def _rate(row: Row, digits: int) -> str:
    return f"{printed(row['mean'], digits)} {interval(row, digits)}"


def join_names(names: Iterable[str]) -> str:
    """Join names as in a sentence: a, b and c."""
    names = list(names)
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def counts_by_model(summary: Sequence[Row], models: Sequence[str]) -> list[dict[str, Any]]:
    """Counts of the cohort (`COUNTS`) and of test subjects, for each model."""
    rows = []
    for model in models:
        own = [row for row in summary if row["model"] == model]
        if own:
            subjects = max(int(row["n_subjects"] or 0) for row in own)
            rows.append({"model": model, "subjects": subjects} | {k: own[0][k] for k in COUNTS})
    return rows


def standings(tiles: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """In how many main metrics the model is better, and in how many worse, than each baseline.

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
        text = ", ".join(f"{kind} in {n}" for kind, n in counts.items()) or "not significantly different in any"
        text = "too few subjects" if set(found) == {"too few subjects"} else f"{text} of {len(found)}"
        kind = next(iter(counts)) if len(counts) == 1 else ""
        rows.append({"baseline": baseline, "text": text, "kind": kind})
    return rows


def overview_row(title: str, name: str, model: str, tiles: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Row of one task in the overview table: main metrics, and the comparison with each baseline.

    Parameters
    ----------
    title, name : str
        Of the task.
    model : str
        The first model.
    tiles : list of `headlines`

    Returns
    -------
    dict
        name, title, model, n (subjects); cells: (value, interval) of each of `overview`, n/a
        where not defined; further: name, value and interval of the other main metrics; standings:
        list of `standings`.
    """
    found = {tile["name"]: (tile["value"], tile["interval"]) for tile in tiles}
    shown = overview()
    main = next((tile for tile in tiles if tile["name"] == shown[0]), None)
    return {
        "name": name,
        "title": title,
        "model": model,
        "n": main["n"] if main else "0",
        "standings": standings(tiles),
        "cells": [found.get(headline, ("n/a", "")) for headline in shown],
        "further": [(key, *found[key]) for key in found if key not in shown],
    }
