"""One HTML page that opens without a network: results by task, cohort, quality, provenance.

Every number in it is read from a table of the results; nothing is computed here.
"""

import importlib.metadata
import json
import platform
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

import m2m
from m2m.evaluate.metric_records import METRICS
from m2m.figures.figure_records import of_study, of_target
from m2m.io.files import read_json, write_text
from m2m.io.modalities import MODALITIES
from m2m.io.tables import read_table
from m2m.io.versions import VERSIONS
from m2m.options import Report, Task
from m2m.options.configured import figures_folder, read_config, titled
from m2m.options.stage_flags import NeededConfig, Root, StudyName
from m2m.report.jinja import templates
from m2m.report.pictures import shown, subjects
from m2m.report.viewer import viewer
from m2m.report.words import (
    COUNTS,
    comparison_rows,
    counts_by_model,
    headlines,
    measured,
    overview,
    overview_row,
    printed,
    sentence,
    summary_rows,
    task_titles,
)

MAX_FINDINGS = 300
MAX_PEOPLE = 400
# Of metrics.tsv, what the table of every test subject shows.
PEOPLE_METRICS = ("ssim", "psnr", "mae", "pearson")
# Extras of pyproject.toml that make no results.
OTHER_EXTRAS = ("dev", "export", "cluster", "ants", "lpips")
# Of labels.tsv, as the page shows them.
LABEL_COLUMNS = ("rms_mm", "max_mm", "folded", "true_rms_mm", "left_rms_mm", "recovered")


def model_rows(root: Path, name: str, task: Task) -> list[dict[str, Any]]:
    """What was fitted, on whom, from which data and code: a chain runs models of two tasks."""
    rows = []
    for link in task.chain or (name,):
        for model in task.models:
            home = task.home(link, model)
            record = read_json(root / "models" / home / model / "model.json")
            validation = record.get("validation")
            if validation is not None:
                validation = "{metric} {value:.4f}, {n_subjects} people".format(**validation)
            keys = ("family", "n_train", "n_validation", "parameters", "best_step", "fingerprint")
            course = training_course(root / "models" / home / model / "metrics.jsonl")
            rows.append(
                {"task": home, "model": model, "validation": validation, **course}
                | {key: record.get(key) for key in keys}
            )
    return rows


def label_rows(root: Path, name: str, models: Sequence[str]) -> list[dict[str, str]]:
    """How far each model's labels were moved, people averaged; none for labels left as they are."""
    rows = []
    for model in models:
        path = root / "evaluate" / name / model / "labels.tsv"
        if not path.exists():
            continue
        people = read_table(path)
        for part, plane in dict.fromkeys((row["part"], row["plane"]) for row in people):
            own = [row for row in people if (row["part"], row["plane"]) == (part, plane)]
            means = {key: mean_of(row[key] for row in own) for key in LABEL_COLUMNS}
            rows.append({"model": model, "part": part, "plane": plane, "n": len(own)} | means)
    return rows


def people_rows(root: Path, name: str, models: Sequence[str]) -> list[dict[str, Any]]:
    """Every test subject under every model: unit, model, cells (`PEOPLE_METRICS` in the brain)."""
    rows = []
    for model in models:
        for row in read_table(root / "evaluate" / name / model / "metrics.tsv"):
            if row["region"] == "brain":
                cells = [printed(row[metric], METRICS[metric].digits) for metric in PEOPLE_METRICS]
                rows.append({"unit": row["unit"], "model": model, "cells": cells})
    return sorted(rows, key=lambda row: row["unit"])


def mean_of(texts: Iterable[str | None]) -> str:
    """Print the mean of a column's numbers; n/a where it has none."""
    numbers = [float(text) for text in texts if text is not None]
    return f"{sum(numbers) / len(numbers):.3f}" if numbers else "n/a"


def training_course(path: Path) -> dict[str, str | int | None]:
    """Steps of a training and its minutes, from metrics.jsonl; None where nothing is iterated.

    Seconds begin anew where a stopped training went on.
    """
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    seconds = [line["seconds"] for line in lines if line["step"] and line["split"] == "train"]
    if not seconds:
        return {"steps": None, "minutes": None}
    ends = [a for a, b in pairwise([*seconds, 0.0]) if b < a]
    return {"steps": max(line["step"] for line in lines), "minutes": f"{sum(ends) / 60:.1f}"}


def versions() -> list[tuple[str, str]]:
    """Version of m2m, of Python, of the system and of every package that makes results.

    Packages of extras only where they are installed.
    """
    found = {}
    for requirement in importlib.metadata.requires("m2m") or []:
        name, extra = re.match(r"([\w.-]+)(?:.*extra == \W?(\w+))?", requirement).groups()
        if extra not in OTHER_EXTRAS:
            with suppress(importlib.metadata.PackageNotFoundError):
                found[name] = importlib.metadata.version(name)
    return [
        ("m2m", m2m.__version__), ("Python", platform.python_version()),
        ("system", f"{platform.system()} {platform.machine()}"), *sorted(found.items()),
    ]  # fmt: skip


def making(config_json: str, split_hash: str, target: str) -> dict[str, Any]:
    """What a page says of how it was made: the command of a target, configuration, versions."""
    return {
        "command": " ".join(f"snakemake {target} --cores all --configfile study.yaml".split()),
        "split_hash": split_hash, "stage_versions": VERSIONS, "versions": versions(),
        "config": yaml.safe_dump(json.loads(config_json), sort_keys=False, allow_unicode=True),
    }  # fmt: skip


def render(template: str, context: Mapping[str, Any]) -> str:
    """Fill a page's template."""
    return templates().get_template(template).render(context)


def task_context(root: Path, figures: Path, name: str, tasks: Mapping[str, Task]) -> dict[str, Any]:
    """What the page says of one task."""
    task = tasks[name]
    models: Sequence[str] = task.models
    evaluation = root / "evaluate" / name
    summary = read_table(evaluation / "summary.tsv")
    comparison = read_table(evaluation / "comparison.tsv")
    tiles = headlines(summary, comparison, models[0])
    title = task_titles(tasks)[name]
    row = overview_row(title, name, models[0], tiles)
    people = people_rows(root, name, models)
    regions, metrics = ({one[key] for one in summary} for key in ("region", "metric"))
    return {
        "name": name, "title": title, "models": models, "chain": task.chain,
        "measured": measured(task.target), "tiles": tiles, "overview": row,
        "headline": sentence(tiles, models[0], row["n"]),
        "summary": summary_rows(summary, models), "comparison": comparison_rows(comparison),
        "counts": counts_by_model(summary, models),
        "people": people[:MAX_PEOPLE], "n_people": len(people),
        "has_rois": "rois" in regions,
        "has_lpips": "lpips" in metrics, "has_uncertainty": "calibration_error" in metrics,
        "lacks_bundles": MODALITIES[task.target].nature == "tensor" and "bundles" not in regions,
        "figures": shown(of_target(task.target), figures / name, f"{name}/"),
        "fitted": model_rows(root, name, task), "labels": label_rows(root, name, models),
    }  # fmt: skip


def main(root: Root, study: StudyName, config: NeededConfig) -> None:
    """Write the report: one page, self-contained."""
    written = read_config(config)
    write_page(
        root, written.tasks(study), Path(figures_folder(root, study)), written.simulated,
        config.read_text(encoding="utf-8"), root / f"{study}.html",
        titled(written.section("report"), study),
    )  # fmt: skip


def write_page(
    root: Path,
    chosen: Mapping[str, Task],
    figures_dir: Path,
    simulated: bool,
    config_json: str,
    out: Path,
    section: Report,
) -> None:
    """Write the page of these tasks."""
    cohort = root / "cohort"
    quality, findings = read_table(cohort / "quality.tsv"), read_table(cohort / "cohort_status.tsv")
    pages = subjects(root, quality, section.max_subject_pages)
    left_out = [row for row in quality if row["state"] != "used"]
    folders = {row["unit"] or "": row["folder"] or "" for row in read_table(cohort / "units.tsv")}
    context = {
        "title": section.title, "simulated": simulated,
        "tasks": [task_context(root, figures_dir, name, chosen) for name in chosen],
        "people_names": [METRICS[metric].title for metric in PEOPLE_METRICS],
        "parts": Counter(row["part"] for row in quality if row["state"] == "used" and row["part"]),
        "left_out": left_out[:MAX_FINDINGS], "n_left_out": len(left_out),
        "overview": overview(), "count_names": COUNTS,
        "flow": read_json(cohort / "flow.json"),
        "figures": shown(of_study(any(t.low for t in chosen.values())), figures_dir),
        "viewer": viewer(root, chosen, folders, section),
        "findings": findings[:MAX_FINDINGS], "n_findings": len(findings),
        "subjects": pages, "with_page": {page["unit"] for page in pages}, "n_units": len(quality),
        **making(config_json, read_json(cohort / "split.json")["hash"], ""),
    }  # fmt: skip
    page = render("report.html.j2", context)
    write_text(out, page)
    print(f"wrote {out} ({len(page.encode()) / 1e6:.1f} MB)")
