"""The methods text of a study, with references: made from the configuration that was run.

Every sentence depends on the options: a step that was not run is not mentioned.
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
from m2m.options import Config, Family, Task, Template
from m2m.options.configured import figures_folder
from m2m.options.downstream_options import FA, T1, fold_task
from m2m.options.external_programs import suites
from m2m.options.stage_flags import NeededConfig, PageName, Root
from m2m.report.jinja import templates
from m2m.report.model_sentences import (
    fits,
    keys_of,
    model_sentences,
    task_sentences,
    training_sentences,
)
from m2m.report.summary_text import Row, join_names, task_titles

FITS = {
    "WLS": "weighted least squares [@chung2006]",
    "OLS": "ordinary least squares",
    "NLLS": "non-linear least squares",
    "RESTORE": "RESTORE [@chang2005], with the noise of each voxel from its residuals [@chang2012]",
}
# Packages by their common name; packages of single families are added only where these were run.
PACKAGES = {
    "NumPy": "numpy",
    "SciPy": "scipy",
    "nibabel": "nibabel",
    "DIPY": "dipy",
    "scikit-image": "scikit-image",
    "PyTorch": "torch",
    "pandas": "pandas",
    "Snakemake": "snakemake",
}


def low_resolutions(tasks: Mapping[str, Task]) -> list[str]:
    """Describe the k-space cropping of each kind of low resolution."""
    cropped = {"dwi": "of the diffusion series before the fit", "map": "of the FA map"}
    kinds = {task.low_res.kind: task.low_res for task in tasks.values() if task.low_res}
    return [
        f"{cropped[low_res.source]} (one in {low_res.factor} frequencies along each axis)" for low_res in kinds.values()
    ]


def program_versions(root: Path, units: Iterable[str]) -> dict[str, str]:
    """Versions of the external programs that were called for these units, by suite.

    Parameters
    ----------
    root : Path
        The derivative dataset.
    units : iterable of str

    Returns
    -------
    dict of str to str
    """
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
    """Versions of m2m, of Python and of the packages used, where installed.

    Parameters
    ----------
    config : Config
    models : iterable of Family
        Models that were fitted or applied.
    biology : bool
        Whether the biological validation was run.

    Returns
    -------
    dict of str to str
        By the name of the package.
    """
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
    """Region and metric of every row of the tasks' summaries."""
    rows: list[Row] = [row for task in tasks for row in read_table(root / "evaluate" / task / "summary.tsv")]
    return {(row["region"], row["metric"]) for row in rows}


def biology(root: Path) -> dict[str, Any]:
    """Record of the biological validation: phenotypes, inputs and predictors."""
    folder = root / "downstream"
    record = read_json(folder / "downstream.json")
    scores = read_table(folder / "scores.tsv")
    kinds = {row["target"]: row["kind"] for row in scores}
    return record | {
        "predicted": list(kinds),
        "numbers": "regression" in kinds.values(),
        "classes": "classification" in kinds.values(),
        "inputs": list(dict.fromkeys(f"`{row['input']}`" for row in scores)),
        "covariates": any(row["input"] == "covariates" for row in scores),
        "cnn": any(row["predictor"] == "cnn" for row in scores),
    }


def of_folds(root: Path, alone: bool) -> dict[str, Any]:
    """Record of the folds, with the counts of the parts of the first fold; without where no network was trained."""
    first = {} if alone else read_json(root / "cohort" / "fold-1" / "split.json")
    return first | read_json(root / "cohort" / "folds.json")


def used_rows(root: Path) -> list[Row]:
    """Rows of quality.tsv of the units that were used."""
    return [row for row in read_table(root / "cohort" / "quality.tsv") if row["state"] == "used"]


def described(root: Path) -> list[Row]:
    """Units that features were computed of, with the origin of their brain mask, as rows of quality.tsv."""
    units = [str(row["unit"]) for row in read_table(root / "downstream" / "features.tsv")]
    at = ((unit, Path(unit_path(root, "anat-status", unit_folder(unit), unit))) for unit in units)
    return [{"unit": unit, "anat_brain_mask": read_json(path).get("brain_mask")} for unit, path in at]


def context(root: Path, config: Config, tasks: Mapping[str, Task]) -> dict[str, Any]:
    """Values of the template: options, counts, and the metrics that were computed.

    The folds of a cross-fitted task count as one task.

    Parameters
    ----------
    root : Path
        The derivative dataset.
    config : Config
    tasks : mapping of str to Task
        Tasks that the text describes.

    Returns
    -------
    dict
    """
    alone = config.downstream.without_dwi and not tasks
    used = described(root) if alone else used_rows(root)
    masks = Counter(row.get("anat_brain_mask") for row in used)
    names = dict.fromkeys(model for task in tasks.values() for model in task.models)
    models = {name: config.models[name] for name in names}
    images = {image for task in tasks.values() for image in (task.source, task.target)}
    code_versions = {
        read_json(root / "models" / task / model / "model.json")["code_version"] for task, model in fits(tasks)
    }
    folds = any(task.fold for task in tasks.values())
    validated = biology(root) if folds or alone else None
    if validated:
        images |= {T1, *(one["target"] for one in validated.get("given", {}).values())}
        images |= {FA} if config.downstream.atlas else set()
    measured = set() if validated else evaluated(root, tasks)
    tasks = {name.removesuffix(fold_task("", 1)): task for name, task in tasks.items() if task.fold in (None, 1)}
    shown = natures(images)
    registered = set() if alone else {REGISTERED, *images}
    resampled = [m for n, m in MODALITIES.items() if m.nature == "weighted" or n in registered]
    return {
        "config": config,
        "tasks": tasks,
        "natures": shown,
        "modality_sentences": [m.methods for m in resampled if m.methods],
        "targets": natures(task.target for task in tasks.values()),
        "simulation": config.cohort.simulation,
        "real_parts": isinstance(config.cohort.simulation, Template),
        "flow": validated["flow"] if validated and alone else read_json(root / "cohort" / "flow.json"),
        "split": of_folds(root, alone) if validated else read_json(root / "cohort" / "split.json"),
        "biology": validated,
        "without_dwi": alone,
        "corrected": config.preprocess.record.sentence(config.preprocess),
        "mapper": config.grid.record.sentence(config.grid),
        "fit": FITS[config.dti.fit],
        "tracking": config.tractography.record.sentence(config.tractography) if shown & {"density", "tensor"} else "",
        "masks": {"template": masks["template and intensity"], "supplied": masks["supplied"]},
        "maps": [m.described_as for m in resampled],
        "registered": sum(row.get("grid_kept") == "registration" for row in used),
        "low_resolutions": low_resolutions(tasks),
        "task_sentences": list(task_sentences(tasks, task_titles(tasks))),
        "model_sentences": list(model_sentences(models)),
        "trained": list(training_sentences(tasks, models)),
        "label_correction": any(model.correction for model in models.values()),
        "rois": ("rois", "concordance") in measured,
        "lpips": ("brain", "lpips") in measured,
        "identified": ("rois", "identification") in measured,
        "bundles": any(region == "bundles" for region, _ in measured),
        "calibrated": ("brain", "calibration_error") in measured,
        "compared": any(len(task.models) > 1 for task in tasks.values()),
        "versions": package_versions(config, models.values(), validated is not None)
        | program_versions(root, [str(row["unit"]) for row in used]),
        "fitting_versions": sorted(code_versions - {m2m.__version__}),
    }


def render_text(values: Mapping[str, Any]) -> str:
    """Fill the template: one line per paragraph, one blank line between paragraphs."""
    environment = templates(autoescape=False)
    environment.filters["listed"] = join_names
    environment.filters["g"] = lambda number: f"{number:g}"
    text = environment.get_template("methods.md.j2").render(values)
    paragraphs = (" ".join(part.split()) for part in re.split(r"\n\s*\n", text))
    # Where the template omits a word, a space before a comma or full stop is left: it is removed.
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
    entries = {block.partition("{")[2].partition(",")[0]: block for block in blocks}
    wanted = keys_of(text)
    if missing := wanted - entries.keys():
        raise DataError(f"references.bib has no entry for {sorted(missing)}", file=path)
    return "\n\n".join(entries[key] for key in sorted(wanted)) + "\n"


def main(root: Root, page: PageName, config: NeededConfig) -> None:
    """Write the methods text of a study, with the references."""
    settings = Config.model_validate_json(config.read_text(encoding="utf-8"))
    folder = Path(figures_folder(root, page))
    chosen = {name: task for name, task in settings.tasks.items() if task.page == page}
    write_methods(root, chosen, settings, folder / "methods.md", folder / "references.bib")


def write_methods(root: Path, chosen: Mapping[str, Task], config: Config, out: Path, references: Path) -> None:
    """Write the methods text of these tasks, and the BibTeX entries of the references it cites.

    Parameters
    ----------
    root : Path
        The derivative dataset.
    chosen : mapping of str to Task
        Tasks that the text describes.
    config : Config
    out, references : Path
        Markdown and BibTeX file.
    """
    text = render_text(context(root, config, chosen))
    write_text(references, bibliography(text))
    write_text(out, text)
    print(f"wrote {out} ({len(text.split())} words, {len(keys_of(text))} references)")
