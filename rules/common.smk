"""What all rules use: the checked configuration and the objects that are made of it (m2m/workflow)."""

import json
import os
import shlex
import sys
from pathlib import Path

from pydantic import ValidationError
from snakemake.exceptions import WorkflowError

from m2m import bids
from m2m.options import Config, problems
from m2m.stage import VERSIONS
from m2m.workflow import calls, field_inputs, snakemake_patches, validation_inputs
from m2m.workflow.cohort_tables import Cohort
from m2m.workflow.field_inputs import Fields
from m2m.workflow.model_inputs import Fitting, Judging
from m2m.workflow.person_inputs import People, flag, output_folder
from m2m.workflow.shards import Shards, growing
from m2m.workflow.study_pages import Pages
from m2m.workflow.study_paths import Layout
from m2m.workflow.task_inputs import Tasks, grid_maps, tensors_needed, tracts_needed
from m2m.workflow.validation_inputs import Validation

try:
    CONFIG = Config.model_validate(config)
except ValidationError as error:
    raise WorkflowError("The configuration is not valid.", *problems(error)) from None

if skipped := snakemake_patches.patch_plan():
    logger.warning(skipped)

M2M_ENV = "../envs/m2m.yaml"
# What the tasks need besides FA: streamlines and their density, tensors on the common grid.
TRACTS, TENSORS = tracts_needed(CONFIG), tensors_needed(CONFIG)
GRID_MAPS = grid_maps(CONFIG)
TRACKING_MINUTES = 60 if CONFIG.tractography.backend == "dipy" else 720

files = Layout(CONFIG)
cohort = Cohort(files, checkpoints)
people = People(CONFIG, files, cohort)
tasks = Tasks(CONFIG, files, cohort)
fitting, judging = Fitting(tasks), Judging(tasks)
fields = Fields(tasks)
validation = Validation(tasks, people)
pages = Pages(tasks)
shards = Shards(CONFIG.shard, snakemake_patches.parent_groups(workflow))
at, log, bench = files.at, files.log, files.benchmark
memory = minutes = growing  # MB, and minutes

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


calls.stop_if_commands_are_missing(people.commands(), workflow)
calls.warn_of_jobs_left(files, workflow, logger)


onstart:
    calls.start(CONFIG, files, workflow, logger)


def options(section, **without):
    """The JSON of a section of the configuration, for a stage's --options."""
    return section.model_dump_json(**without)


def configuration(wildcards):
    """The JSON of all of it; from a function, so that {folder} in a path is no wildcard."""
    return options(CONFIG)


def simulated_flag(wildcards):
    """Whether pages and cards must say that the people are simulated."""
    return "--simulated" if files.simulated else "--no-simulated"


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


def grid_inputs():
    """Further inputs of the grid's job, where tasks need them."""
    if not TRACTS:
        return {}
    return {"tractogram": at("tractogram"), "tracked": at("tractography-status")}


def grid_outputs():
    """Further maps on the common grid, where tasks need them."""
    tracts = {"tdi": at("tdi"), "streamlines": at("count")} if TRACTS else {}
    return tracts | ({"tensor": at("tensor")} if TENSORS else {})


def one(kind, wildcards, root=files.root):
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


def low_ratio(wildcards):
    """Ratio of a kind of low resolution."""
    return CONFIG.lows[wildcards.low].ratio


def low_dti_options(wildcards):
    """The section dti, for a series whose k-space is cropped first."""
    ratio = low_ratio(wildcards)
    return options(CONFIG.dti.model_copy(update={"low_ratio": ratio}))


def displacement_flag(wildcards):
    """`--truth` with the folder of what is known of simulated distortions, where there are any."""
    known = files.simulated and CONFIG.cohort.phantom.distortion_mm
    return ["--truth", files.truth] if known else []


def phantom_options(wildcards):
    """The JSON of the section phantom and, where it distorts, the flag of that truth."""
    section = CONFIG.cohort.phantom
    text = options(section, exclude={"n_subjects"})
    if not section.distortion_mm:
        return text
    name = f"sub-{wildcards.participant}"
    path = bids.unit_path(files.truth, "truth-displacement", name, name)
    return [text, "--truth-displacement", path]


def source_status(wildcards):
    """`--require` with the status of what made the source; the T1's is that of anat."""
    if CONFIG.tasks[wildcards.task].chain:
        first = tasks.links(wildcards.task)[0]
        return ["--require", translation_status(wildcards, first)]
    if low := tasks.low_image(wildcards):
        # Behind the status, so that the command of other tasks stays what it was.
        return ["--low", low]
    fa = CONFIG.tasks[wildcards.task].source == "fa"
    return ["--require", one("grid-status", wildcards)] if fa else []


def translation_status(wildcards, task=None):
    """Status of a unit's translation by the wildcards' model, of the task or of another."""
    task = task or wildcards.task
    root = files.synthetic.format(task=task, model=wildcards.model)
    measure = bids.measure(tasks.synthetic_kind(task))
    return one("synth-status", wildcards, root).format(measure=measure)


def fitting_flags(wildcards, input):
    """Flags of `m2m train` for what only some models need."""
    flags = ["--encoder", input.encoder] if input.encoder else []
    if low := tasks.sees_low(wildcards):
        flags += ["--low-dir", f"{files.low.format(low=low.kind)}/slices"]
    if input.first:
        flags += ["--first", input.first]
    if input.labels:
        flags += ["--labels-dir", input.labels]
    return flags


def streamlines_flag(wildcards):
    """Whether streamlines are compared."""
    tensors = wildcards.task in tasks.tensor
    return "--streamlines" if tensors else "--no-streamlines"


def synthetic_flags():
    """`--synthetic` for each dataset of synthetic maps."""
    folders = tasks.every_model("synthetic/{task}/{model}")
    return [part for folder in folders for part in ("--synthetic", folder)]


def task_model_flags(wildcards):
    """`--models` for each model of the wildcard's task, the first one being under test."""
    models = CONFIG.tasks[wildcards.task].models
    return [part for model in models for part in ("--models", model)]


def table_flags(wildcards, output):
    """`--out` for each table of a paper."""
    return [part for path in output.tables for part in ("--out", path)]


def task_flags(names):
    """`--tasks` with the JSON of each task."""
    chosen = {name: CONFIG.tasks[name].model_dump(mode="json") for name in names}
    return ["--tasks", json.dumps(chosen)]


def figures_folder(study):
    """Parameter function: folder of a study's figures."""

    def folder_of_figures(wildcards):
        return pages.figures(study)

    return folder_of_figures


def report_options(study):
    """The JSON of the section report; pages beside the main one say what they are of."""
    kind = {
        "compare": ": comparison of models",
        "ablation": ": ablations",
        "fgdl": ": synthesis and super-resolution",
    }.get(study, "")
    section = CONFIG.report
    return options(section.model_copy(update={"title": f"{section.title}{kind}"}))


def record_flags(wildcards, input):
    """`--model-record` for every model that a task runs."""
    return [part for path in input.record for part in ("--model-record", path)]


def roi_options(wildcards):
    """The evaluation's section; a simulated cohort's regions and truth are its own."""
    section = CONFIG.evaluation
    if files.simulated and CONFIG.cohort.phantom.distortion_mm:
        section = section.model_copy(update={"truth": Path(files.truth)})
    if files.simulated and section.rois.image is None:
        rois = section.rois.model_copy(
            update={
                "image": bids.unit_path(files.truth, "truth-bundles"),
                "labels": Path(f"{files.truth}/desc-bundles_dseg.tsv"),
            }
        )
        section = section.model_copy(update={"rois": rois})
    return options(section)


def mean_flag(wildcards):
    """`--mean-model` with the name of the mean map, where a task has one."""
    return [
        part
        for model in judging.mean_model(wildcards)
        for part in ("--mean-model", model)
    ]


def compared_flags(wildcards, input):
    """`--table` for each table of the comparison."""
    return [part for path in input.tables for part in ("--table", path)]


def field_flags(wildcards, input, output):
    """Flags of `m2m field` for them."""
    return ["--tensor", input.tensor, "--out-tensor", output.tensor] if TENSORS else []


def described_flag(wildcards):
    """The JSON of `validation.images`; from a function, so that {folder} is no wildcard."""
    return json.dumps(validation.images())


def cnn_flags(wildcards, input):
    """`--cnn` for every table of a network that sees volumes."""
    return [part for path in input.cnn for part in ("--cnn", path)]


def record_folder(wildcards, input):
    """Folder of the tables beside a record."""
    return os.path.dirname(input.record)


def figures_input_folder(wildcards, input):
    """Folder of the figures of a page."""
    return os.path.dirname(input.figures[0])
