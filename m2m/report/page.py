"""One HTML page: results by task, cohort, quality control, provenance.

Every number in it is read from a table of the results; nothing is computed here.
"""

import json
import platform
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

import m2m
from m2m.cohort.finding_codes import codes_of, codes_of_unit, explanations
from m2m.evaluate.metric_records import METRICS
from m2m.figures.figure_records import of_page, of_target
from m2m.io.files import read_json
from m2m.io.installed import requirements, version_of
from m2m.io.modalities import MODALITIES
from m2m.io.tables import read_table
from m2m.io.versions import VERSIONS
from m2m.options import Published, Report, Rois, Task, section_of
from m2m.options.configured import compared_by, figures_folder, read_config, titled
from m2m.options.stage_flags import ConfigFile, OptionalRoot, PageName
from m2m.report.jinja import templates
from m2m.report.model_sentences import inputs_in_short, inputs_sentence
from m2m.report.page_figures import shown, subjects
from m2m.report.page_files import save_page
from m2m.report.published_table import about, published_table
from m2m.report.report_json import run_times, write_summary
from m2m.report.studies_page import compare_studies
from m2m.report.summary_text import (
    COUNTS,
    ceiling,
    comparison_rows,
    counts_by_model,
    headlines,
    identification,
    measured,
    overview,
    overview_row,
    printed,
    references,
    sentence,
    summary_rows,
    task_titles,
)
from m2m.report.viewer import viewer

MAX_FINDINGS = 300
MAX_SUBJECTS = 400
# Columns of metrics.tsv in the table of every test subject.
SUBJECT_METRICS = ("ssim", "psnr", "mae", "pearson")
# Extras of pyproject.toml that do not affect results.
OTHER_EXTRAS = ("dev", "export", "cluster", "ants", "lpips")
# Columns of labels.tsv that the page shows.
LABEL_COLUMNS = ("rms_mm", "max_mm", "folded", "applied_rms_mm", "residual_rms_mm", "recovered")


def model_rows(root: Path, name: str, task: Task) -> list[dict[str, Any]]:
    """Fitted models of a task, with the sizes of their samples; a cascade has those of each of its steps.

    Parameters
    ----------
    root : Path
        The derivative dataset.
    name : str
        Name of the task.
    task : Task

    Returns
    -------
    list of dict
    """
    rows = []
    for step in task.cascade or (name,):
        for model in task.models:
            training_task = task.training_task(step, model)
            record = read_json(root / "models" / training_task / model / "model.json")
            section, validation = section_of(record), record.get("validation")
            if validation is not None:
                validation = "{metric} {value:.4f}, {n_subjects} participants".format(**validation)
            keys = ("family", "n_train", "n_validation", "parameters", "best_step", "fingerprint")
            steps_and_minutes = training_course(root / "models" / training_task / model / "metrics.jsonl")
            rows.append(
                {"task": training_task, "model": model, "validation": validation, **steps_and_minutes}
                | {"inputs": inputs_in_short(section), "reference": section.reference}
                | {"atlas": section.uses_deformation and not section.trained}
                | {key: record.get(key) for key in keys}
            )
    return rows


def label_rows(root: Path, name: str, models: Sequence[str]) -> list[dict[str, Any]]:
    """Mean label correction of each model, by part and orientation; no row for uncorrected labels.

    Parameters
    ----------
    root : Path
        The derivative dataset.
    name : str
        Name of the task.
    models : sequence of str

    Returns
    -------
    list of dict
    """
    rows: list[dict[str, Any]] = []
    for model in models:
        path = root / "evaluate" / name / model / "labels.tsv"
        if not path.exists():
            continue
        participants = read_table(path)
        for part, plane in dict.fromkeys((row["part"], row["plane"]) for row in participants):
            own = [row for row in participants if (row["part"], row["plane"]) == (part, plane)]
            means = {key: mean_of(row[key] for row in own) for key in LABEL_COLUMNS}
            rows.append({"model": model, "part": part, "plane": plane, "n": len(own)} | means)
    return rows


def subject_rows(root: Path, name: str, models: Sequence[str]) -> list[dict[str, Any]]:
    """Metrics of every test subject for every model.

    Parameters
    ----------
    root : Path
        The derivative dataset.
    name : str
        Name of the task.
    models : sequence of str

    Returns
    -------
    list of dict
        unit, model, cells (`SUBJECT_METRICS` in the brain).
    """
    rows = []
    for model in models:
        for row in read_table(root / "evaluate" / name / model / "metrics.tsv"):
            if row["region"] == "brain":
                cells = [printed(row[metric], METRICS[metric].digits) for metric in SUBJECT_METRICS]
                rows.append({"unit": row["unit"], "model": model, "cells": cells})
    return sorted(rows, key=lambda row: row["unit"])


def mean_of(texts: Iterable[str | None]) -> str:
    """Mean of a column as text; n/a where it has no number."""
    numbers = [float(text) for text in texts if text is not None]
    return f"{sum(numbers) / len(numbers):.3f}" if numbers else "n/a"


def training_course(path: Path) -> dict[str, str | int | None]:
    """Steps and minutes of a training, from metrics.jsonl; None where a model is not trained in steps.

    Seconds start again at zero where an interrupted training was resumed.
    """
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    seconds = [line["seconds"] for line in lines if line["step"] and line["split"] == "train"]
    if not seconds:
        return {"steps": None, "minutes": None}
    ends = [a for a, b in pairwise([*seconds, 0.0]) if b < a]
    return {"steps": max(line["step"] for line in lines), "minutes": f"{sum(ends) / 60:.1f}"}


def versions() -> list[tuple[str, str]]:
    """Version of m2m, of Python, of the system and of every package that affects results.

    Packages of extras are listed only where they are installed.
    """
    found = {name: version_of(name) for name, extra in requirements() if extra not in OTHER_EXTRAS}
    return [
        ("m2m", m2m.__version__),
        ("Python", platform.python_version()),
        ("system", f"{platform.system()} {platform.machine()}"),
        *sorted((name, version) for name, version in found.items() if version),
    ]


def making(config_json: str, split_hash: str, target: str) -> dict[str, Any]:
    """Values of a page's section on reproducibility: command, configuration, versions.

    Parameters
    ----------
    config_json : str
        Configuration that was run.
    split_hash : str
    target : str
        Target of Snakemake; empty for the default.

    Returns
    -------
    dict
    """
    return {
        "command": " ".join(f"snakemake {target} --cores all --configfile study.yaml".split()),
        "split_hash": split_hash,
        "stage_versions": VERSIONS,
        "versions": versions(),
        "config": yaml.safe_dump(json.loads(config_json), sort_keys=False, allow_unicode=True),
    }


def render(template: str, context: Mapping[str, Any]) -> str:
    """Fill a page's template."""
    return templates().get_template(template).render(context)


def task_context(
    root: Path, figures: Path, name: str, tasks: Mapping[str, Task], published: Published | None = None
) -> dict[str, Any]:
    """Values of the page's section on one task.

    Parameters
    ----------
    root : Path
        The derivative dataset.
    figures : Path
        Folder of all figures of the page.
    name : str
        Name of the task.
    tasks : mapping of str to Task
        All tasks of the page.
    published : Published, optional
        A published table, whose values are shown beside those of the task.

    Returns
    -------
    dict
    """
    task = tasks[name]
    models: Sequence[str] = task.models
    evaluation = root / "evaluate" / name
    summary = read_table(evaluation / "summary.tsv")
    comparison = read_table(evaluation / "comparison.tsv")
    tiles = headlines(summary, comparison, models[0])
    title = task_titles(tasks)[name]
    row = overview_row(title, name, models[0], tiles)
    participants = subject_rows(root, name, models)
    regions, metrics = ({one[key] for one in summary} for key in ("region", "metric"))
    fitted = model_rows(root, name, task)
    mean_map, atlas = (next((str(one["model"]) for one in fitted if one[key]), "") for key in ("reference", "atlas"))
    return {
        "name": name,
        "title": title,
        "models": models,
        "cascade": task.cascade,
        "measured": measured(task.target),
        "tiles": tiles,
        "overview": row,
        "references": references(summary, {"mean map": mean_map, "atlas": atlas}),
        "headline": sentence(tiles, models[0], row["n"]),
        "inputs": {one["model"]: one["inputs"] for one in fitted},
        "inputs_sentence": inputs_sentence({one["model"]: one["inputs"] for one in fitted}),
        "identification": identification(summary, comparison, models[0], mean_map),
        "summary": summary_rows(summary, models),
        "comparison": comparison_rows(comparison),
        "counts": counts_by_model(summary, models),
        "subjects": participants[:MAX_SUBJECTS],
        "n_subjects": len(participants),
        "has_rois": "rois" in regions,
        "has_lpips": "lpips" in metrics,
        "has_uncertainty": "calibration_error" in metrics,
        "lacks_bundles": MODALITIES[task.target].nature == "tensor" and "bundles" not in regions,
        "figures": shown(of_target(task.target), figures / name, f"{name}/"),
        "fitted": fitted,
        "labels": label_rows(root, name, models),
        "published": None if published is None else published_table(published, name, summary, models).to_dict("split"),
    }


def main(
    root: OptionalRoot = None,
    page: PageName = "report",
    config: ConfigFile = None,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(help="Two finished studies, results/<dataset> each: write a page of both instead."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Page of --compare to write.")] = Path("studies.html"),
) -> None:
    """Write the report, one self-contained page with its main results as JSON; or a page of two finished studies."""
    if compare:
        compare_studies(*compare, out)
        return
    if root is None or config is None:
        raise typer.BadParameter("give --root and --config, or --compare and two folders of results")
    settings = read_config(config)
    evaluation = compared_by(settings.section("evaluation"), settings.simulation, root)
    write_page(
        root,
        settings.tasks(page),
        Path(figures_folder(root, page)),
        settings.simulated,
        config.read_text(encoding="utf-8"),
        root / f"{page}.html",
        titled(settings.section("report"), page),
        evaluation.rois,
        settings.published,
        evaluation.visits,
    )


def write_page(
    root: Path,
    chosen: Mapping[str, Task],
    figures_dir: Path,
    simulated: bool,
    config_json: str,
    out: Path,
    section: Report,
    rois: Rois | None = None,
    published: Published | None = None,
    visits: bool = False,
) -> None:
    """Write the page of these tasks, and beside it the same name in .json for programs.

    Parameters
    ----------
    root : Path
        The derivative dataset.
    chosen : mapping of str to Task
        Tasks of the page, by name.
    figures_dir : Path
        Folder of all figures of the page.
    simulated : bool
        Whether participants are simulated.
    config_json : str
        Configuration that was run.
    out : Path
        HTML file.
    section : Report
    rois : Rois, optional
        Of the evaluation, for the viewer.
    published : Published, optional
        A published table, whose values are shown beside those of its tasks.
    visits : bool
        Whether visits were compared.
    """
    cohort, pairs = root / "cohort", root / "real" / "metrics.tsv"
    quality, findings = read_table(cohort / "quality.tsv"), read_table(cohort / "cohort_status.tsv")
    reported = [row | {"codes": codes_of(row["problem"] or "")} for row in findings[:MAX_FINDINGS]]
    pages = subjects(root, quality, section.max_subject_pages)
    left_out = [row | {"codes": codes_of_unit(row)} for row in quality if row["state"] != "used"]
    codes = {code for row in [*reported, *left_out[:MAX_FINDINGS]] for code in row["codes"] or ()}
    folders = {row["unit"] or "": row["folder"] or "" for row in read_table(cohort / "units.tsv")}
    context = {
        "title": section.title,
        "simulated": simulated,
        "tasks": [task_context(root, figures_dir, name, chosen, published) for name in chosen],
        "about_published": about(published) if published else {},
        "subject_names": [METRICS[metric].title for metric in SUBJECT_METRICS],
        "parts": Counter(row["part"] for row in quality if row["state"] == "used" and row["part"]),
        "left_out": left_out[:MAX_FINDINGS],
        "n_left_out": len(left_out),
        "overview": overview(),
        "count_names": COUNTS,
        "flow": read_json(cohort / "flow.json"),
        "figures": shown(of_page(any(t.low_res for t in chosen.values()), visits), figures_dir),
        "viewer": viewer(root, chosen, folders, section, rois),
        "findings": reported,
        "explained": {code: one for code, one in explanations().items() if code in codes},
        "n_findings": len(findings),
        "subjects": pages,
        "with_page": {page["unit"] for page in pages},
        "n_units": len(quality),
        "run_times": run_times(root, section.watts_per_core),
        "ceiling": ceiling(read_table(pairs) if pairs.exists() else []),
        **making(config_json, read_json(cohort / "split.json")["hash"], ""),
    }
    page = render("report.html.j2", context)
    save_page(out, page, section.max_page_mb)
    write_summary(root, context, out.with_suffix(".json"))
