"""One HTML page that opens without a network: result, cohort, quality, figures, provenance.

Every number in it is read from a table of the results; nothing is computed here.
"""

import base64
import importlib.metadata
import io
import json
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

import m2m
from m2m.bids import unit_folder, unit_path
from m2m.options import Report
from m2m.stage import VERSIONS, parse_options, read_json, read_table, write_text

Row = Mapping[str, str | None]
REGIONS = {
    "brain": "brain", "wm": "white matter", "rois": "ROIs", "slice": "whole slices",
}  # fmt: skip
# Metric: name, digits after the point, which way is better.
METRICS = {
    "ssim": ("SSIM", 3, "higher"),
    "psnr": ("PSNR (dB)", 2, "higher"),
    "mae": ("mean absolute error", 4, "lower"),
    "pearson": ("Pearson's r", 3, "higher"),
    "concordance": ("Lin's concordance", 3, "higher"),
    "bias": ("bias (synthetic minus true)", 4, "nearer 0"),
    "identification": ("identification rate", 2, "higher"),
    "correlation_across_people": ("Pearson's r across people, mean of ROIs", 3, "higher"),
}
HEADLINES = {
    ("brain", "ssim"): "brain SSIM",
    ("brain", "psnr"): "brain PSNR (dB)",
    ("rois", "concordance"): "ROI concordance",
}
COUNTS = ("n_input", "n_failed", "n_excluded", "n_incomplete", "n_used")
QUALITY = {
    "grid_fa_mean": ("mean FA", 3), "grid_fa_wm": ("white-matter FA", 3),
    "dti_md_median_mm2_per_s": ("median MD (mm²/s)", 5), "grid_coverage": ("DWI coverage", 3),
    "grid_r_t1_fa": ("r(T1, FA)", 3), "grid_shift_mm": ("shift (mm)", 1),
    "grid_mi_headers": ("MI, headers", 4), "grid_mi_registered": ("MI, registered", 4),
    "grid_kept": ("alignment kept", 0), "anat_brain_volume_l": ("brain (l)", 2),
}  # fmt: skip
FIGURES = {
    "flow": (
        "Who took part",
        "Flow of the cohort from the dataset to the test subjects, who left it and why; where "
        "they are known, age and sex of each part of the split.",
    ),
    "panel": (
        "The maps",
        "T1, true FA, and each model's FA with its error, for the test subjects with the best, "
        "the median and the worst SSIM of the first model, in three planes.",
    ),
    "metrics": (
        "Every test subject under every model",
        "Each dot is one test subject, grey lines join the same subject; black: mean and 95 % "
        "bootstrap interval over subjects.",
    ),
    "profile": (
        "From the centre of the brain to its edge",
        "Quality of each axial slice inside the brain by its height above the brain's centre; "
        "bands are 95 % bootstrap intervals.",
    ),
    "rois": (
        "Regions of interest",
        "Mean FA of each region, synthetic against true, for every test subject; and, per region, "
        "the correlation of true and synthetic means across subjects.",
    ),
    "training": (
        "Training",
        "Terms of the loss, the validation metric and the gradients of every network, by step.",
    ),
}
MAX_FINDINGS = 300


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
        for metric, (name, digits, better) in METRICS.items():
            own = [found.get((region, metric, model)) for model in models]
            if not any(own):
                continue
            rows.append(
                {
                    "region": region_name, "metric": name, "better": better,
                    "main": (region, metric) in HEADLINES,
                    "cells": [
                        (printed(row["mean"], digits), interval(row, digits))
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
            name, digits, _ = METRICS[row["metric"]]
            rows.append(
                {
                    "pair": f"{row['model']} − {row['baseline']}", "region": region_name,
                    "metric": name, "difference": printed(row["difference"], digits),
                    "interval": interval(row, digits),
                    "p": printed(row["p"], 4), "n": row["n_subjects"] or "0",
                    "verdict": verdict(row),
                }
            )  # fmt: skip
    return rows


def verdict(row: Row) -> str:
    """Say what the interval of a paired difference says: better, worse, or neither."""
    better = METRICS[row["metric"] or ""][2]
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
    for (region, metric), name in HEADLINES.items():
        digits = METRICS[metric][1]
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


def data_uri(path: Path, width: int, form: str) -> str | None:
    """Encode a picture for the page, at most `width` pixels wide; None where there is none."""
    if not path.exists() or path.stat().st_size == 0:
        return None
    with Image.open(path) as image:
        picture = image.convert("RGB")
    if picture.width > width:
        height = round(picture.height * width / picture.width)
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, form, quality=82)
    text = base64.b64encode(buffer.getvalue()).decode()
    return f"data:image/{form.lower()};base64,{text}"


def subjects(root: Path, quality: Sequence[Row], limit: int) -> list[dict[str, Any]]:
    """Quality pages: failed and excluded units first, then test, validation, training.

    Parameters
    ----------
    root : Path
    quality : rows of quality.tsv
    limit : int
        Pages at most.
    """
    order = {"failed": 0, "excluded": 1, "incomplete": 5}
    parts = {"test": 2, "validation": 3, "train": 4}

    def rank(row: Row) -> int:
        return order.get(row["state"] or "", parts.get(row["part"] or "", 6))

    pages = []
    for row in sorted(quality, key=rank)[:limit]:
        unit = row["unit"] or ""
        picture = Path(unit_path(root, "picture", unit_folder(unit), unit))
        numbers = [
            (name, printed(row[key], digits))
            for key, (name, digits) in QUALITY.items()
            if row.get(key) is not None
        ]
        pages.append(
            {
                "unit": unit, "state": row["state"], "part": row["part"] or "no part",
                "reason": row["reason"] or "", "numbers": numbers,
                "picture": data_uri(picture, 1000, "JPEG"),
            }
        )  # fmt: skip
    return pages


def model_rows(root: Path, task: str, models: Sequence[str]) -> list[dict[str, Any]]:
    """What was fitted, on whom, from which data and code."""
    rows = []
    for model in models:
        record = read_json(root / "models" / task / model / "model.json")
        validation = record.get("validation")
        if validation is not None:
            validation = "{metric} {value:.4f}, {n_subjects} people".format(**validation)
        keys = ("family", "n_train", "n_validation", "parameters", "best_step", "fingerprint")
        rows.append(
            {"model": model, "validation": validation} | {key: record.get(key) for key in keys}
        )
    return rows


def versions() -> list[tuple[str, str]]:
    """Version of m2m, of Python and of every package that m2m needs, where it is installed."""
    names = sorted(
        re.split(r"[^\w.-]", requirement)[0]
        for requirement in importlib.metadata.requires("m2m") or []
        if "extra ==" not in requirement
    )
    return [
        ("m2m", m2m.__version__),
        ("Python", platform.python_version()),
        *((name, importlib.metadata.version(name)) for name in names),
    ]


def render(context: Mapping[str, Any]) -> str:
    """Fill the page's template; a value that is missing is an error."""
    environment = Environment(
        loader=PackageLoader("m2m", "templates"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("report.html.j2").render(context)


def figures(folder: Path) -> list[dict[str, str | None]]:
    """The figures of the page with their titles and captions, in order."""
    return [
        {"name": name, "title": title, "caption": caption,
         "picture": data_uri(folder / f"{name}.png", 1800, "PNG")}
        for name, (title, caption) in FIGURES.items()
    ]  # fmt: skip


def main(
    root: Annotated[Path, typer.Option(help="The derivative dataset, results/<dataset>.")],
    task: Annotated[str, typer.Option(help="Name of the task.")],
    models: Annotated[list[str], typer.Option(help="A model; repeat, the main model first.")],
    figures_dir: Annotated[Path, typer.Option(help="Folder of the figures.")],
    simulated: Annotated[bool, typer.Option(help="Whether the people are simulated.")],
    config_json: Annotated[str, typer.Option(help="The whole configuration, JSON.")],
    out: Annotated[Path, typer.Option(help="The page to write.")],
    options: Annotated[str, typer.Option(help="Section report of the configuration, JSON.")],
) -> None:
    """Write the report: one page, self-contained."""
    section = parse_options(Report, options)
    cohort, evaluation = root / "cohort", root / "evaluation" / task
    summary = read_table(evaluation / "summary.tsv")
    comparison = read_table(evaluation / "comparison.tsv")
    quality, findings = read_table(cohort / "quality.tsv"), read_table(cohort / "cohort_status.tsv")
    tiles = headlines(summary, comparison, models[0])
    n_subjects = (tiles[0]["n"] or "0") if tiles else "0"
    context = {
        "title": section.title, "task": task, "models": models, "simulated": simulated,
        "tiles": tiles, "headline": sentence(tiles, models[0], n_subjects),
        "summary": summary_rows(summary, models), "comparison": comparison_rows(comparison),
        "counts": counts_by_model(summary, models), "count_names": COUNTS,
        "has_rois": any(row["region"] == "rois" for row in summary),
        "flow": read_json(cohort / "flow.json"),
        "findings": findings[:MAX_FINDINGS], "n_findings": len(findings),
        "figures": {figure["name"]: figure for figure in figures(figures_dir)},
        "subjects": subjects(root, quality, section.max_subject_pages), "n_units": len(quality),
        "fitted": model_rows(root, task, models),
        "split_hash": read_json(cohort / "split.json")["hash"],
        "config": yaml.safe_dump(json.loads(config_json), sort_keys=False, allow_unicode=True),
        "versions": versions(), "stage_versions": VERSIONS,
    }  # fmt: skip
    page = render(context)
    write_text(out, page)
    print(f"wrote {out} ({len(page.encode()) / 1e6:.1f} MB)")
