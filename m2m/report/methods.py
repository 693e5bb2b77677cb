"""The methods of a study in words, with their references: made from the configuration that ran.

Every sentence depends on the options: what was not run is not named.
"""

import importlib.metadata
import platform
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import m2m
from m2m.io.bids import unit_folder, unit_path
from m2m.io.errors import DataError
from m2m.io.files import read_json, write_text
from m2m.io.modalities import MODALITIES, REGISTERED, natures
from m2m.io.tables import read_table
from m2m.options import Config, Family, Task
from m2m.options.chains import CHAINS
from m2m.options.configured import figures_folder
from m2m.options.downstream_options import fold_task
from m2m.options.imaging_options import MAPPERS
from m2m.options.stage_flags import NeededConfig, Root, StudyName
from m2m.options.trackers import TRACKERS
from m2m.report.jinja import templates
from m2m.report.model_sentences import (
    fits,
    keys_of,
    model_sentences,
    task_sentences,
    training_sentences,
)
from m2m.report.words import Row, enumerate_words, task_titles

FITS = {
    "WLS": "weighted least squares [@chung2006]", "OLS": "ordinary least squares",
    "NLLS": "non-linear least squares",
    "RESTORE": "RESTORE [@chang2005], with the noise of each voxel from its residuals "
    "[@chang2012]",
}  # fmt: skip
# Packages by the name that a reader knows; those of single families only where they ran.
PACKAGES = {
    "NumPy": "numpy", "SciPy": "scipy", "nibabel": "nibabel", "DIPY": "dipy",
    "scikit-image": "scikit-image", "PyTorch": "torch", "pandas": "pandas",
    "Snakemake": "snakemake",
}  # fmt: skip


def low_resolutions(tasks: Mapping[str, Task]) -> list[str]:
    """What was cropped, and how far, of each kind of low resolution."""
    whose = {"dwi": "of the diffusion series before the fit", "map": "of the FA map"}
    kinds = {task.low.kind: task.low for task in tasks.values() if task.low}
    return [
        f"{whose[low.of]} (one in {low.ratio} frequencies along each axis)"
        for low in kinds.values()
    ]


def suites() -> dict[str, str]:
    """Suite of each external program that a chain or backend may call."""
    records = (*CHAINS.values(), *TRACKERS.values(), *MAPPERS.values())
    return {program: one.suite for one in records for program in one.programs}


def program_versions(root: Path, units: Iterable[str]) -> dict[str, str]:
    """Versions of the external programs that were called for these people, by suite."""
    found: dict[str, set[str]] = {}
    suite_of = suites()
    for unit in units:
        for kind in ("preprocess-status", "tractography-status"):
            path = Path(unit_path(root, kind, unit_folder(unit), unit))
            for call in read_json(path).get("programs", []) if path.exists() else []:
                program = call["arguments"][0]
                found.setdefault(suite_of[program], set()).add(call["version"])
    return {suite: " and ".join(sorted(versions)) for suite, versions in sorted(found.items())}


def package_versions(config: Config, models: Iterable[Family], biology: bool) -> dict[str, str]:
    """Versions of m2m, of Python and of the packages that did the work, where installed."""
    names = dict(PACKAGES)
    for model in models:
        names |= model.packages
    if config.cohort.source == "bids":
        names["PyBIDS"] = "pybids"
    if biology:
        names["scikit-learn"] = "scikit-learn"
    if config.grid.registration == "syn":
        names["ANTsPy"] = "antspyx"
    versions = {"m2m": m2m.__version__, "Python": platform.python_version()}
    for name, package in names.items():
        try:
            versions[name] = importlib.metadata.version(package).partition("+")[0]
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "(not installed where this was written)"
    return versions


def evaluated(root: Path, tasks: Mapping[str, Task]) -> set[tuple[str | None, str | None]]:
    """Region and metric of everything that a summary holds."""
    rows: list[Row] = [
        row for task in tasks for row in read_table(root / "evaluate" / task / "summary.tsv")
    ]
    return {(row["region"], row["metric"]) for row in rows}


def biology(root: Path) -> dict[str, Any]:
    """What was predicted of people, from which inputs, and how."""
    folder = root / "downstream"
    record = read_json(folder / "downstream.json")
    scores = read_table(folder / "scores.tsv")
    kinds = {row["target"]: row["kind"] for row in scores}
    return record | {
        "predicted": list(kinds),
        "numbers": "regression" in kinds.values(), "classes": "classification" in kinds.values(),
        "inputs": list(dict.fromkeys(f"`{row['input']}`" for row in scores)),
        "covariates": any(row["input"] == "covariates" for row in scores),
        "cnn": any(row["predictor"] == "cnn" for row in scores),
    }  # fmt: skip


def of_folds(root: Path) -> dict[str, Any]:
    """Record of the division into folds, with the counts of the first fold's parts."""
    first = read_json(root / "cohort" / "fold-1" / "split.json")
    return first | read_json(root / "cohort" / "folds.json")


def context(root: Path, config: Config, tasks: Mapping[str, Task]) -> dict[str, Any]:
    """All that the text is made from: options, counts, and what was measured.

    Of tasks that cross-fit, the folds are one.
    """
    quality = read_table(root / "cohort" / "quality.tsv")
    used = [row for row in quality if row["state"] == "used"]
    masks = Counter(row.get("anat_brain_mask") for row in used)
    names = dict.fromkeys(model for task in tasks.values() for model in task.models)
    models = {name: config.models[name] for name in names}
    images = {image for task in tasks.values() for image in (task.source, task.target)}
    makers = {
        read_json(root / "models" / task / model / "model.json")["code_version"]
        for task, model in fits(tasks)
    }
    folds = any(task.fold for task in tasks.values())
    measured = set() if folds else evaluated(root, tasks)
    tasks = {
        name.removesuffix(fold_task("", 1)): task
        for name, task in tasks.items()
        if task.fold in (None, 1)
    }
    shown = natures(images)
    carried = [
        m for n, m in MODALITIES.items() if m.nature == "weighted" or n in {REGISTERED, *images}
    ]
    return {
        "config": config, "tasks": tasks, "natures": shown,
        "entered": [m.methods for m in carried if m.methods],
        "targets": natures(task.target for task in tasks.values()),
        "phantom": config.cohort.phantom if config.cohort.source == "phantom" else None,
        "flow": read_json(root / "cohort" / "flow.json"),
        "split": of_folds(root) if folds else read_json(root / "cohort" / "split.json"),
        "biology": biology(root) if folds else None,
        "corrected": config.preprocess.record.sentence(config.preprocess),
        "mapper": config.grid.record.sentence(config.grid), "fit": FITS[config.dti.fit],
        "tracking": config.tractography.record.sentence(config.tractography)
        if shown & {"density", "tensor"} else "",
        "masks": {"template": masks["template and intensity"], "supplied": masks["supplied"]},
        "maps": [m.in_words for m in carried],
        "registered": sum(row.get("grid_kept") == "registration" for row in used),
        "lows": low_resolutions(tasks),
        "task_sentences": list(task_sentences(tasks, task_titles(tasks))),
        "model_sentences": list(model_sentences(models)),
        "trained": list(training_sentences(tasks, models)),
        "moved": any(model.correction for model in models.values()),
        "rois": ("rois", "concordance") in measured, "lpips": ("brain", "lpips") in measured,
        "identified": ("rois", "identification") in measured,
        "bundles": any(region == "bundles" for region, _ in measured),
        "calibrated": ("brain", "calibration_error") in measured,
        "compared": any(len(task.models) > 1 for task in tasks.values()),
        "versions": package_versions(config, models.values(), folds)
        | program_versions(root, [str(row["unit"]) for row in used]),
        "makers": sorted(makers - {m2m.__version__}),
    }  # fmt: skip


def written(facts: Mapping[str, Any]) -> str:
    """Fill the text: one line a paragraph, with no more than one blank line between two."""
    environment = templates(autoescape=False)
    environment.filters["listed"] = lambda words: enumerate_words(list(words))
    environment.filters["g"] = lambda number: f"{number:g}"
    text = environment.get_template("methods.md.j2").render(facts)
    paragraphs = (" ".join(part.split()) for part in re.split(r"\n\s*\n", text))
    # The template has its own spaces before commas and points, where a word was left out.
    return "\n\n".join(re.sub(r" ([,.;])", r"\1", part) for part in paragraphs if part) + "\n"


def bibliography(text: str) -> str:
    """Entries of the references that a text cites, in the order of their keys.

    Raises
    ------
    DataError
        A key has no entry.
    """
    path = Path(__file__).parent / "templates" / "references.bib"
    blocks = path.read_text(encoding="utf-8").strip().split("\n\n")
    entries = {re.match(r"@\w+\{([^,]+),", block)[1]: block for block in blocks}
    wanted = keys_of(text)
    if missing := wanted - entries.keys():
        raise DataError(f"references.bib has no entry for {sorted(missing)}", file=path)
    return "\n\n".join(entries[key] for key in sorted(wanted)) + "\n"


def main(root: Root, study: StudyName, config: NeededConfig) -> None:
    """Write the methods of a study in words, with the references."""
    whole = Config.model_validate_json(config.read_text(encoding="utf-8"))
    folder = Path(figures_folder(root, study))
    chosen = {name: task for name, task in whole.tasks.items() if task.study == study}
    write_methods(root, chosen, whole, folder / "methods.md", folder / "references.bib")


def write_methods(
    root: Path, chosen: Mapping[str, Task], config: Config, out: Path, references: Path
) -> None:
    """Write the methods of these tasks, and BibTeX of what the text cites."""
    text = written(context(root, config, chosen))
    write_text(references, bibliography(text))
    write_text(out, text)
    print(f"wrote {out} ({len(text.split())} words, {len(keys_of(text))} references)")
