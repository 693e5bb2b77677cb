"""report.json: the report's main results for programs, the time that the run took, and a reporting checklist.

References
----------
CLAIM, the checklist for artificial intelligence in medical imaging: Mongan, Moy & Kahn (2020), Radiol Artif Intell
2:e200029, https://doi.org/10.1148/ryai.2020200029.
Energy of computations: Lannelongue, Grealey & Inouye (2021), Adv Sci 8:2100707, https://doi.org/10.1002/advs.202100707.
"""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from m2m.evaluate.metric_records import headlines
from m2m.io.files import write_json
from m2m.io.tables import read_table
from m2m.report.summary_text import COUNTS, join_names

UNCERTAINTY = "95 % intervals over participants (Student's t, rates exact), paired tests with Holm's correction"
# What each item of CLAIM asks for, in short, by its number.
CLAIM = (
    "Title: AI method",
    "Structured summary",
    "Background and intended use",
    "Objectives and hypotheses",
    "Prospective or retrospective",
    "Study goal",
    "Data sources",
    "Eligibility criteria",
    "Preprocessing",
    "Selection of subsets of the data",
    "Definitions of data elements",
    "De-identification",
    "Missing data",
    "Reference standard",
    "Rationale of the reference standard",
    "Source of annotations",
    "Annotation tools",
    "Variability between and within raters",
    "Sample size",
    "Assignment to partitions",
    "Level at which partitions are disjoint",
    "Model",
    "Software",
    "Initialisation of parameters",
    "Training",
    "Selection of the final model",
    "Ensembling",
    "Metrics of performance",
    "Significance and uncertainty",
    "Robustness or sensitivity",
    "Explainability",
    "External validation",
    "Flow of participants",
    "Characteristics of participants in each partition",
    "Performance on all partitions",
    "Performance with its precision",
    "Analysis of failures",
    "Limitations",
    "Implications for practice",
    "Registration",
    "Study protocol",
    "Funding",
)


def run_times(root: Path, watts_per_core: float) -> dict[str, float] | None:
    """Time of all jobs whose benchmarks Snakemake left, each as it ran last, and an estimate of their energy.

    Nothing is metered: the counters of a processor (RAPL) are of the whole machine, and root alone may read them.

    Parameters
    ----------
    root : Path
        The derivative dataset.
    watts_per_core : float
        Power of a busy core, in W.

    Returns
    -------
    dict or None
        ``jobs``, ``cpu_seconds``, ``wall_seconds`` (summed over jobs, which may run at the same time),
        ``watts_per_core``, ``cpu_kwh`` (of the CPU seconds at this power, two digits); None where there is no
        benchmark. Jobs too short to be sampled have no CPU time.
    """
    rows = [row for path in (root / "benchmarks").rglob("*.tsv") for row in read_table(path)]
    seconds = {"cpu_seconds": "cpu_time", "wall_seconds": "s"}
    total: dict[str, float] = {"jobs": len(rows), **dict.fromkeys(seconds, 0.0)}
    for row in rows:
        for name, column in seconds.items():
            with suppress(TypeError, ValueError):  # NA
                total[name] += float(row.get(column) or "")
    if not rows:
        return None
    kwh = float(f"{total['cpu_seconds'] * watts_per_core / 3.6e6:.2g}")
    times = {name: round(value, 1) for name, value in total.items()}
    return times | {"watts_per_core": watts_per_core, "cpu_kwh": kwh}


def main_results(root: Path, name: str, task: Mapping[str, Any]) -> dict[str, Any]:
    """Main metrics of every model of a task, unrounded, with the counts of participants.

    Parameters
    ----------
    root : Path
        The derivative dataset.
    name : str
    task : mapping
        Of `m2m.report.page.task_context`.
    """
    rows = [
        {key: row[key] for key in ("model", "region", "metric")}
        | {key: None if row[key] is None else float(row[key] or "") for key in ("mean", "low", "high")}
        | {"n_subjects": int(row["n_subjects"] or 0)}
        for row in read_table(root / "evaluate" / name / "summary.tsv")
        if (row["region"], row["metric"]) in headlines()
    ]
    return {"title": task["title"], "models": list(task["models"]), "headline": task["headline"], "metrics": rows}


def checklist(page: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Items of CLAIM: those that the run answers, with the file to look in; the others are the authors' and open.

    Parameters
    ----------
    page : mapping
        Values of the page's template.
    """
    flow, parts = page["flow"], page["parts"]
    shares = join_names(f"{n} {part}" for part, n in parts.items())
    names = join_names(task["title"] for task in page["tasks"])
    models = join_names(dict.fromkeys(model for task in page["tasks"] for model in task["models"]))
    chosen = {f"{one['model']}: {one['validation']}" for t in page["tasks"] for one in t["fitted"] if one["validation"]}
    answers = {
        9: ("corrections, tensor fit, registration and normalisation in words", "figures/methods.md"),
        13: (f"{flow.get('n_incomplete', 0)} units without both scans are not used", "cohort/quality.tsv"),
        14: ("; ".join(dict.fromkeys(task["measured"] for task in page["tasks"])), "figures/methods.md"),
        20: (f"{shares}; hash of the split {page['split_hash']}", "cohort/split.json"),
        21: ("participant, and family where participants.tsv names one", "cohort/split.tsv"),
        22: (f"{names} by {models}; layers, inputs and outputs in each record", "models/<task>/<model>/model.json"),
        23: (", ".join(f"{name} {version}" for name, version in page["versions"]), "report.html"),
        25: ("loss, steps, augmentation and hyperparameters", "logs/config.json"),
        26: ("; ".join(sorted(chosen)), "models/<task>/<model>/model.json"),
        28: (", ".join(dict.fromkeys(row["metric"] for t in page["tasks"] for row in t["summary"])), "docs/methods.md"),
        29: (UNCERTAINTY, "evaluate/<task>/comparison.tsv"),
        33: (", ".join(f"{key} {flow[key]}" for key in COUNTS if key in flow), "figures/flow.pdf"),
        36: (" ".join(task["headline"] for task in page["tasks"]), "evaluate/<task>/summary.tsv"),
        37: ("maps of the best, the median and the worst test participant", "figures/<task>/panel.pdf"),
        41: (f"{page['command']}, with the configuration in the file", "logs/config.json"),
    }
    return [
        {"item": number, "topic": topic, "state": "filled", "answer": answers[number][0], "file": answers[number][1]}
        if number in answers and answers[number][0]
        else {"item": number, "topic": topic, "state": "open"}
        for number, topic in enumerate(CLAIM, 1)
    ]


def write_summary(root: Path, page: Mapping[str, Any], out: Path) -> None:
    """Write what the report's first screen shows, the time of the run and the checklist as JSON.

    Parameters
    ----------
    root : Path
        The derivative dataset.
    page : mapping
        Values of the page's template.
    out : Path
    """
    content = {
        "title": page["title"],
        "simulated": page["simulated"],
        "versions": dict(page["versions"]),
        "split_hash": page["split_hash"],
        "participants": {key: page["flow"][key] for key in COUNTS if key in page["flow"]} | {"parts": page["parts"]},
        "tasks": {task["name"]: main_results(root, task["name"], task) for task in page["tasks"]},
        "ceiling": page["ceiling"],
        "run": page["run_times"],
        "claim": checklist(page),
    }
    write_json(out, content)
