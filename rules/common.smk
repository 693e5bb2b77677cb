"""All Python of the workflow: the checked configuration, paths, and functions for inputs."""

import functools
import gc
import json
import os
import shlex
import shutil
import sys
from pathlib import Path

from pydantic import ValidationError
from snakemake.exceptions import WorkflowError

from m2m import bids, slurm
from m2m.figures import figure_records
from m2m.options import Config, problems
from m2m.options.downstream import NOISE_FREE, fold_task, inputs_of
from m2m.phantom import labels
from m2m.stage import VERSIONS, parse_table, read_table

# A plan is millions of objects that live to its end: looking for garbage was a seventh of its time.
gc.set_threshold(100_000, 50, 1000)

try:
    CONFIG = Config.model_validate(config)
except ValidationError as error:
    raise WorkflowError("The configuration is not valid.", *problems(error)) from None

SIMULATED = CONFIG.cohort.source == "phantom"
ROOT = f"{CONFIG.results}/{CONFIG.dataset}"
RAWDATA = f"{ROOT}/rawdata" if SIMULATED else str(CONFIG.cohort.bids_dir)
TRUTH = f"{ROOT}/truth"
UNITS = f"{ROOT}/cohort/units.tsv"
SPLIT = f"{ROOT}/cohort/split.tsv"
SPLIT_RECORD = f"{ROOT}/cohort/split.json"
SLICES = f"{ROOT}/cohort/slices.tsv"
QUALITY = f"{ROOT}/cohort/quality.tsv"
FLOW = f"{ROOT}/cohort/flow.json"
SYNTHETIC = f"{ROOT}/synthetic/{{task}}/{{model}}"
MODEL = f"{ROOT}/models/{{task}}/{{model}}"
EVALUATION = f"{ROOT}/evaluation/{{task}}"
FIGURES = f"{ROOT}/figures"
SLURM_RUN = Path(f"{ROOT}/logs/slurm_run")
# Tasks by the page that shows them.
STUDIES = {}
for task, section in CONFIG.tasks.items():
    STUDIES.setdefault(section.study, []).append(task)
REPORTED = STUDIES.get("report", [])
CROSS_FITTED = STUDIES.pop("downstream", [])
FOLDS, FOLDS_RECORD = (f"{ROOT}/cohort/folds.{suffix}" for suffix in ("tsv", "json"))
FOLD = f"{ROOT}/cohort/fold-{{fold}}"
DOWNSTREAM = f"{ROOT}/downstream"
ENCODER = f"{ROOT}/encoders/{{target}}"
# What the tasks need besides FA: streamlines and their density, tensors on the common grid.
TRACTS = bool(CONFIG.modalities & {"tdi", "dti"})
TENSORS = "dti" in CONFIG.modalities
GRID_MAPS = ["fa", *(["tdi"] if TRACTS else []), *(["tensor"] if TENSORS else [])]
TENSOR_TASKS = [name for name, task in CONFIG.tasks.items() if task.target == "dti"]
# What tasks see beside a T1: a dataset for each kind of low resolution.
LOW = f"{ROOT}/low/{{low}}"
LOW_SLICES = f"{LOW}/slices/{{folder}}/{{unit}}"
# What a model's label correction made of the training part.
LABELS = f"{ROOT}/labels/{{task}}/{{model}}"
M2M_ENV = "../envs/m2m.yaml"

# Jobs call `m2m`: of the environment that the rule deploys, else of the one that runs Snakemake.
shell.prefix(f'export PATH="$PATH:"{shlex.quote(str(Path(sys.executable).parent))}; ')


wildcard_constraints:
    unit=r"sub-[A-Za-z0-9]+(_ses-[A-Za-z0-9]+)?",
    folder=r"sub-[A-Za-z0-9]+(/ses-[A-Za-z0-9]+)?",
    participant=r"[A-Za-z0-9]+",
    task="|".join(CONFIG.tasks),
    model="|".join(CONFIG.models),
    target="fa|tdi|dti",
    fold="[0-9]+",
    low="(dwi|map)-[248]",
    measure="|".join(bids.measure(bids.KIND_OF[name]) for name in ("fa", "tdi", "dti")),


def stop_if_commands_are_missing():
    """Stop a dry run, by name, when a chosen chain needs a program that is not here."""
    if workflow.deployment_settings.deployment_method:
        return  # conda or a container brings them
    needed = [*CONFIG.preprocess.commands, *CONFIG.dti.mask.commands]
    if TRACTS:
        needed += [*CONFIG.tractography.commands, *CONFIG.grid.commands]
    if missing := [command for command in needed if shutil.which(command) is None]:
        raise WorkflowError(
            f"Not on this machine's PATH: {', '.join(missing)}. What is chosen under preprocess, "
            f"dti.mask, tractography and grid.density needs them: install them or choose otherwise."
        )


stop_if_commands_are_missing()


def options(section, **without):
    """The JSON of a section of the configuration, for a stage's --options."""
    return section.model_dump_json(**without)


def configuration(wildcards):
    """The JSON of all of it; from a function, so that {folder} in a path is no wildcard."""
    return options(CONFIG)


def simulated_flag(wildcards):
    """Whether pages and cards must say that the people are simulated."""
    return "--simulated" if SIMULATED else "--no-simulated"


def model_options(wildcards):
    """The JSON of one model's section, with the task's own number of steps and losses."""
    model, task = CONFIG.models[wildcards.model], CONFIG.tasks[wildcards.task]
    steps = task.steps_of(wildcards.model)
    if steps is not None and hasattr(model, "training"):
        training = model.training.model_copy(update={"steps": steps})
        model = model.model_copy(update={"training": training})
    if task.losses and hasattr(model, "losses"):
        losses = model.losses.model_copy(update=task.losses)
        model = model.model_copy(update={"losses": losses})
    return options(model)


def task_options(wildcards):
    """The JSON of what a task translates, without who tries it, for how long, and why."""
    return options(
        CONFIG.tasks[wildcards.task], exclude={"models", "steps", "losses", "study"}
    )


def folder(unit):
    """Folder of a unit."""
    return bids.unit_folder(unit)


def log(rule, name):
    """Path of a rule's log."""
    return f"{ROOT}/logs/{rule}/{name}.log"


def bench(rule, name):
    """Path of a rule's benchmark."""
    return f"{ROOT}/benchmarks/{rule}/{name}.tsv"


def growing(amount):
    """An amount as a function of the attempt: a job that ran out of it gets more."""

    def need(wildcards, attempt):
        return amount * attempt

    return need


memory = minutes = growing  # MB, and minutes


def dataset_root(wildcards):
    """Folder of the results: stages find each person's files below it by their BIDS names."""
    return ROOT


def slices_folder(wildcards):
    """Folder of everybody's slices."""
    return f"{ROOT}/slices"


def at(kind, root=ROOT):
    """The workflow's pattern for one of a unit's files."""
    return bids.unit_path(root, kind)


# -- the cohort, known once the checkpoint has run ---------------------------------------------


@functools.cache
def _table(path, modified):
    return read_table(path)


def table(path):
    """Rows of a table, read again only when it has changed."""
    return _table(path, os.stat(path).st_mtime_ns)


@functools.cache
def _lines(path, modified):
    """Heading of a table, and its lines by their first field."""
    heading, *lines = Path(path).read_text(encoding="utf-8").split("\n")
    return heading, {line.partition("\t")[0]: line for line in lines}


@functools.cache
def _row(path, modified, first):
    heading, lines = _lines(path, modified)
    return parse_table([heading, lines[first]])[0]


def unit_row(unit):
    """The row of one unit in units.tsv; a job on a cluster parses its own and nobody else's."""
    checkpoints.split.get()
    return _row(UNITS, os.stat(UNITS).st_mtime_ns, unit)


def units(*states):
    """Names of the units in any of these states, in the table's order."""
    checkpoints.split.get()
    return [row["unit"] for row in table(UNITS) if row["state"] in states]


def units_of_part(*parts):
    """Paired units whose participant is in any of these parts of the split."""
    checkpoints.split.get()
    chosen = {row["participant_id"] for row in table(SPLIT) if row["part"] in parts}
    return [
        row["unit"]
        for row in table(UNITS)
        if row["state"] == "paired" and row["participant_id"] in chosen
    ]


def units_of_fold(fold, inside=True):
    """Paired units whose participant is in a fold, or in another one."""
    checkpoints.folds.get()
    fold_of = {row["participant_id"]: row["fold"] for row in table(FOLDS)}
    return [
        row["unit"]
        for row in table(UNITS)
        if row["state"] == "paired"
        and (fold_of[row["participant_id"]] == str(fold)) == inside
    ]


def paths(kind, names, root=ROOT):
    """One kind of file for each of these units."""
    return [bids.unit_path(root, kind, folder(unit), unit) for unit in names]


def per_unit(kinds, *states):
    """Input function: files of one kind, or of several, for every unit in any of these states."""

    def wanted(wildcards):
        kinds_wanted = [kinds] if isinstance(kinds, str) else kinds
        return [path for kind in kinds_wanted for path in paths(kind, units(*states))]

    return wanted


def scan(column):
    """Input function: a path from the unit's row, or nothing where there is none."""

    def path(wildcards):
        return unit_row(wildcards.unit)[column] or []

    return path


def corrected(kind, column):
    """Input function: the preprocessed file where a chain is chosen, the raw one otherwise."""
    return scan(column) if CONFIG.preprocess.chain == "none" else at(kind)


def flag(name, key):
    """Parameter function: a command-line flag with an optional input, or nothing."""

    def argument(wildcards, input):
        return [name, input[key]] if input.get(key) else []

    return argument


# -- the cohort's source -----------------------------------------------------------------------


def raw_scans(wildcards):
    """Every simulated scan; a dataset on disk is listed by the stage itself."""
    if not SIMULATED:
        return []
    return [
        f"{RAWDATA}/sub-{label}/{scan}"
        for label in labels(CONFIG.cohort.phantom.n_subjects)
        for scan in (f"anat/sub-{label}_T1w.nii.gz", f"dwi/sub-{label}_dwi.nii.gz")
    ]


def participants_table(wildcards):
    """The dataset's participants.tsv, where it has one."""
    path = f"{RAWDATA}/participants.tsv"
    return path if SIMULATED or os.path.exists(path) else []


def exclusion_table(wildcards):
    """The user's table of exclusions, where given."""
    return str(CONFIG.cohort.exclude) if CONFIG.cohort.exclude else []


def listed_subjects(wildcards):
    """Names of the dataset's subject folders: one more or less lists the dataset again."""
    if SIMULATED:
        return CONFIG.cohort.phantom.n_subjects
    if not os.path.isdir(RAWDATA):
        raise WorkflowError(f"cohort.bids_dir: there is no folder {RAWDATA}.")
    return sorted(name for name in os.listdir(RAWDATA) if name.startswith("sub-"))


# -- diffusion and grid ------------------------------------------------------------------------


def grid_inputs():
    """Further inputs of the grid's job, where tasks need them."""
    if not TRACTS:
        return {}
    return {"tractogram": at("tractogram"), "tracked": at("tractography-status")}


def grid_outputs():
    """Further maps on the common grid, where tasks need them."""
    tracts = {"tdi": at("tdi"), "streamlines": at("count")} if TRACTS else {}
    return tracts | ({"tensor": at("tensor")} if TENSORS else {})


def one(kind, wildcards, root=ROOT):
    """Path of one of the wildcards' unit's files."""
    return bids.unit_path(root, kind, wildcards.folder, wildcards.unit)


def grid_flags(wildcards, input, output):
    """Flags of `m2m grid` for the further maps."""
    flags = []
    if TRACTS:
        flags += ["--tractogram", input.tractogram]
        flags += ["--tractography-status", input.tracked]
        flags += ["--out-tdi", output.tdi, "--out-count", output.streamlines]
    if TENSORS:
        flags += [
            "--tensor",
            one("dwi-tensor", wildcards),
            "--out-tensor",
            output.tensor,
        ]
    return flags


def slices_flags(wildcards, output):
    """Flags of `m2m slices` for the further maps that tasks translate."""
    flags = ["--tdi", output.tdi] if "tdi" in CONFIG.modalities else []
    return flags + (["--tensor", output.tensor] if TENSORS else [])


TRACKING_MINUTES = 60 if CONFIG.tractography.backend == "dipy" else 720
ACT = CONFIG.tractography.mrtrix3.five_tissue
FROM_T1 = "5ttgen-fsl"


def track_inputs():
    """Further inputs of tracking: a person's 5TT image, or the T1 that it is made from."""
    if CONFIG.tractography.backend != "mrtrix3" or not ACT:
        return {}
    return {"t1w": scan("t1w")} if ACT == FROM_T1 else {"five_tissue": ACT}


def track_outputs():
    """Further outputs of tracking: SIFT2's weights, where they are wanted."""
    section = CONFIG.tractography
    weights = section.backend == "mrtrix3" and section.mrtrix3.sift2
    return {"weights": at("sift2-weights")} if weights else {}


def track_flags(wildcards, input, output):
    """Flags of `m2m tractography` for them."""
    given = {"--t1w": input, "--five-tissue": input, "--weights": output}
    names = {flag: flag[2:].replace("-", "_") for flag in given}
    return [
        part
        for flag, files in given.items()
        if files.get(names[flag])
        for part in (flag, files[names[flag]])
    ]
