"""Check machine, configuration, cluster and dataset before the first run, in seconds; nothing is run or kept."""

import os
import platform
import shutil
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from pydantic import BaseModel, ValidationError

import m2m
from m2m.cohort.cloud_checks import Cloud, cloud
from m2m.cohort.cluster_checks import Check, cluster
from m2m.cohort.finding_codes import PAGE, code_of, explanations
from m2m.cohort.findings import CohortFinding
from m2m.cohort.spellings import Row
from m2m.cohort.split import PARTS
from m2m.cohort.survey import STATES, listed_scans
from m2m.cohort.validate import validate
from m2m.io.errors import DataError, StorageError
from m2m.io.files import write_text
from m2m.io.images import memory_bytes
from m2m.io.installed import requirements, version_of
from m2m.io.programs import finished
from m2m.options import Config, Trained, load_config, problems
from m2m.options.external_programs import external_programs, suites

# Extras of pyproject.toml that a run of the workflow needs; the empty one is what m2m always needs.
EXTRAS = ("", "workflow", "train", "evaluate", "report")
# Memory of the rule that asks for most, training, and of a participant's stage.
MOST_JOB_MB, STAGE_MB = 8000, 4000
# Less is never enough.
LEAST_FREE_BYTES = 100e6
# Rough estimates: a participant's results on the common grid as volumes of 4 bytes, and maps in a DWI's own space.
GRID_VOLUMES, DWI_MAPS_BYTES = 12, 40e6


def environment(extras: tuple[str, ...]) -> Iterator[Check]:
    """Python, m2m, and the libraries of these extras."""
    yield Check("OK", "Python", f"{platform.python_version()} ({sys.executable}), m2m {m2m.__version__}")
    missing = defaultdict(list)
    for name, extra in requirements():
        if extra in extras and not version_of(name):
            missing[extra].append(name)
    for extra, names in missing.items():
        remedy = m2m.how_to_install(extra) if extra else "install m2m again: pip install ."
        yield Check("failure", "libraries", f"not installed: {', '.join(names)}", remedy)
    if not missing:
        yield Check("OK", "libraries", "all are installed")


def programs(config: Config) -> Iterator[Check]:
    """External programs, for each option that needs some."""
    suite_of = suites()
    for option, commands in external_programs(config).items():
        if not commands:
            continue
        missing = [command for command in commands if shutil.which(command) is None]
        if missing:
            names = ", ".join(dict.fromkeys(suite_of.get(command, "ANTs") for command in missing))
            remedy = f"install {names} and put it on PATH (envs/ has conda environments), or choose another {option}"
            yield Check("failure", option, f"not on PATH: {', '.join(missing)}", remedy)
        elif "FSL" in map(suite_of.get, commands) and not os.environ.get("FSLDIR"):
            yield Check("failure", option, "FSLDIR is not set", "set it to the folder of FSL")
        else:
            yield Check("OK", option, ", ".join(str(shutil.which(command)) for command in commands))


def needed_bytes(config: Config, units: list[Row]) -> float:
    """Estimate of the size of the results of these units; streamlines and checkpoints come on top."""
    x, y, z = config.anat.shape
    slices = 2 * 3 * len(config.modalities)  # half precision, three orientations
    paired = sum(row["state"] == "paired" for row in units)
    return len(units) * x * y * z * (4 * GRID_VOLUMES + slices) + paired * DWI_MAPS_BYTES


def disk(folder: Path, needed: float) -> Check:
    """Whether results can be written to a folder, which need not exist, and fit on its disk.

    Parameters
    ----------
    folder : Path
    needed : float
        Estimated size of the results, bytes.
    """
    there = next(path for path in (folder, *folder.resolve().parents) if path.is_dir())
    probe = there / f".m2m-doctor-{os.getpid()}"
    try:
        write_text(probe, "x" * 4096)
        free = shutil.disk_usage(there).free
    except StorageError as error:
        problem, _, remedy = str(error).partition(": ")
        return Check("failure", "disk", problem, remedy)
    finally:
        probe.unlink(missing_ok=True)
    found = f"{free / 1e9:.1f} GB free at {there}, about {needed / 1e9:.1f} GB needed"
    if free < LEAST_FREE_BYTES:
        return Check("failure", "disk", found, "make room, or set `results` to a folder on another disk")
    if free < needed:
        return Check("warning", "disk", found, "make room, or set `results` to a folder on another disk")
    return Check("OK", "disk", found)


def memory(total_bytes: float, cores: int) -> Check:
    """Whether a machine has the memory that the largest job asks for, and that stages on all its cores take."""
    total_mb = total_bytes / 1e6
    found = f"{total_mb / 1000:.1f} GB for {cores} cores"
    if total_mb < MOST_JOB_MB:
        remedy = f"training may ask for {MOST_JOB_MB / 1000:g} GB: smaller anat.shape or batches, or another machine"
        return Check("warning", "memory", found, remedy)
    if total_mb / cores < STAGE_MB:
        return Check("warning", "memory", found, f"snakemake --cores all --resources mem_mb={int(0.9 * total_mb)}")
    return Check("OK", "memory", found)


def gpu(config: Config) -> Iterator[Check]:
    """NVIDIA's GPUs, where networks are trained."""
    used = {model for task in config.tasks.values() for model in task.models}
    if not any(isinstance(config.models[name], Trained) for name in used):
        return
    status, answer = finished(("nvidia-smi", "--list-gpus")) if shutil.which("nvidia-smi") else (1, "")
    if status or not answer.strip():
        yield Check("warning", "GPU", "none found by nvidia-smi", "networks are trained on the CPU, which is slow")
    else:
        yield Check("OK", "GPU", "; ".join(answer.splitlines()))


def files_named(section: Any, name: str = "") -> Iterator[Check]:
    """Files and folders that the configuration names and that are not there; those of the cohort's dataset aside."""
    if isinstance(section, Path):
        if not section.exists() and name not in ("results", "cohort.bids_dir"):
            yield Check("failure", name, f"there is no {section}", "correct the path: it starts from this folder")
    elif isinstance(section, (BaseModel, dict)):
        for key, value in section.items() if isinstance(section, dict) else section:
            yield from files_named(value, f"{name}.{key}".lstrip("."))


def dataset(config: Config, threads: int) -> tuple[list[Check], list[Row]]:
    """Who could take part, by names, headers and gradient tables; voxels are not read.

    Returns
    -------
    checks : list of Check
    units : list of dict
        Rows of `m2m.cohort.validate.UNIT_COLUMNS`; of simulated participants their state only.
    """
    cohort = config.cohort
    if cohort.simulation:
        n = cohort.simulation.n_subjects
        return [Check("OK", "dataset", f"{n} simulated participants")], [{"state": "paired"}] * n
    root = Path(str(cohort.bids_dir))
    try:
        manifest = listed_scans(root)
        table = root / "participants.tsv"
        quick = cohort.model_copy(update={"check_voxels": False})
        units, findings = validate(manifest, quick, table if table.exists() else None, threads, config.dti)
    except DataError as error:
        value = f" ({error.value})" if error.value else ""
        return [Check("failure", "dataset", f"{error.problem}{value}: {error.file}", error.remedy)], []
    return [_usable(config, units), *_found(findings)], units


def _usable(config: Config, units: list[Row]) -> Check:
    """Whether enough participants take part: one for each part of the split, or any for a study of T1s."""
    count = Counter(row["state"] for row in units)
    states = STATES | {"excluded": "excluded by the table"}
    found = ", ".join(f"{count[state]} {text}" for state, text in states.items() if count[state]) or "no unit"
    paired = {row["participant_id"] for row in units if row["state"] == "paired"}
    enough = len(paired) >= len(PARTS) if config.tasks else count["paired"] + count["t1w-only"] > 0
    needed = f"training and testing need {len(PARTS)} participants with T1w and DWI" if config.tasks else "add a T1w"
    return Check("OK", "dataset", found) if enough else Check("failure", "dataset", found, needed)


def _found(findings: list[CohortFinding]) -> Iterator[Check]:
    """A warning for each kind of error that costs a unit a file."""
    errors: dict[str, list[CohortFinding]] = defaultdict(list)
    for one in findings:
        if one.severity == "error":
            errors[code_of(one.problem)].append(one)
    for code, found in errors.items():
        text = f"{len(found)} x {code}, such as {found[0].unit}: {found[0].problem}"
        remedy = f"{explanations()[code].mend} {PAGE}#{code}" if code else found[0].remedy
        yield Check("warning", "dataset", text, remedy)


def examine(path: Path, slurm: bool, on: Cloud | None, threads: int) -> Iterator[Check]:
    """Every check of a configuration, of this machine or the service that runs the jobs, and of its dataset."""
    yield from environment((*EXTRAS, "cluster") if slurm or on else EXTRAS)
    try:
        config = load_config(path)
    except (OSError, ValueError, yaml.YAMLError) as error:
        found = problems(error) if isinstance(error, ValidationError) else [" ".join(str(error).split())]
        for one in found:
            yield Check("failure", "configuration", f"{path}: {one}", "correct it; `m2m init` writes one for a dataset")
        return
    yield Check("OK", "configuration", str(path))
    yield from files_named(config)
    yield from programs(config)
    checks, units = dataset(config, threads)
    yield disk(config.results, needed_bytes(config, units))
    if slurm:
        yield from cluster(os.environ, MOST_JOB_MB)
    elif on:
        yield from cloud(on, os.environ, Path.cwd())
    else:
        yield memory(memory_bytes(), len(os.sched_getaffinity(0)))
        yield from gpu(config)
    yield from checks


def main(
    config: Annotated[Path, typer.Argument(help="Configuration of the study.")] = Path("config.yaml"),
    slurm: Annotated[
        bool,
        typer.Option("--slurm", help="Check a cluster and M2M_SLURM_..., in place of this machine's memory."),
    ] = False,
    on: Annotated[
        Cloud | None,
        typer.Option("--cloud", help="Check the settings of this profile, in place of this machine's memory."),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Processes that read headers.")] = 1,
) -> None:
    """Check environment, external programs, disk, memory, cluster and dataset before the first run.

    Each line has a state (OK, warning, failure), what was checked, what was found and what to do. The exit code is 1
    where one has failed. Voxels are not read; the stage `validate` does that.
    """
    if slurm and on:
        raise typer.BadParameter("--slurm and --cloud are alternatives")
    checks = []
    for check in examine(config, slurm, on, threads):
        print(check, flush=True)
        checks.append(check)
    count = Counter(check.state for check in checks)
    print(", ".join(f"{count[state]} {state}" for state in ("OK", "warning", "failure")))
    if count["failure"]:
        raise typer.Exit(1)
