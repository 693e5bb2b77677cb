"""Common objects of all rules: the validated configuration, and the classes of m2m/workflow."""

import shlex
import sys
from pathlib import Path

from pydantic import ValidationError
from snakemake.exceptions import WorkflowError

from m2m.io import bids, modalities
from m2m.io.files import digest
from m2m.io.modalities import MODALITIES
from m2m.io.versions import VERSIONS
from m2m.options import Config, problems
from m2m.options.downstream_options import GIVEN
from m2m.workflow import (
    calls,
    field_inputs,
    real_inputs,
    snakemake_patches,
)
from m2m.workflow.cohort_tables import Cohort
from m2m.workflow.field_inputs import Fields
from m2m.workflow.job_flags import (
    flag,
    low_res_flag,
    output_folder,
    repeated,
    subject_flags,
)
from m2m.workflow.model_inputs import Evaluating, Fitting
from m2m.workflow.real_inputs import RealPairs
from m2m.workflow.report_pages import Pages
from m2m.workflow.results_layout import Layout
from m2m.workflow.section_digests import Digests, ordered_digest
from m2m.workflow.shards import TRANSLATED_TOGETHER, Shards, Together, growing
from m2m.workflow.subject_inputs import Subjects
from m2m.workflow.task_inputs import Tasks, grid_maps, tensors_needed
from m2m.workflow.validation_inputs import Validation

try:
    CONFIG = Config.model_validate(config)
except ValidationError as error:
    raise WorkflowError("The configuration is not valid.", *problems(error)) from None

if (skipped := snakemake_patches.patch_plan()) and workflow.is_main_process:
    logger.warning(skipped)

M2M_ENV = "../envs/m2m.yaml"
# Whether tasks need tensors on the common grid.
TENSORS = tensors_needed(CONFIG)
GRID_MAPS = grid_maps(CONFIG)
TRACKER = CONFIG.tractography.record
TRACKER_ENV = f"../envs/{TRACKER.environment}.yaml"

files = Layout(CONFIG)
cohort = Cohort(files, checkpoints)
subjects = Subjects(CONFIG, files, cohort)
tasks = Tasks(CONFIG, files, cohort)
fitting, evaluating = Fitting(tasks), Evaluating(tasks)
fields = Fields(tasks)
validation = Validation(tasks, subjects)
real = RealPairs(CONFIG, files)
pages = Pages(tasks)
digests = Digests(CONFIG, files)
shards = Shards(CONFIG.shard, snakemake_patches.parent_groups(workflow))
# Units that share a job of a short stage, as the Slurm profile says: those with a T1, with DWI, with both.
with_t1 = Together(cohort, CONFIG.shard, subjects.having("paired", "t1w-only"))
with_dwi = Together(cohort, CONFIG.shard, subjects.having("paired", "dwi-only"))
with_both = Together(cohort, CONFIG.shard, subjects.having("paired"))
translated = Together(cohort, TRANSLATED_TOGETHER, tasks.translated_units)
given = Together(cohort, TRANSLATED_TOGETHER, validation.described_units)
at, log, bench = files.at, files.log, files.benchmark
memory = minutes = growing  # MB, and minutes

# Jobs call `m2m` from the rule's environment, or otherwise from the one that runs Snakemake.
shell.prefix(f'export PATH="$PATH:"{shlex.quote(str(Path(sys.executable).parent))}; ')


# Matches nothing, since Snakemake takes an empty constraint for none.
NOTHING = "(?!)"


wildcard_constraints:
    unit=r"sub-[A-Za-z0-9]+(_ses-[A-Za-z0-9]+)?",
    folder=r"sub-[A-Za-z0-9]+(/ses-[A-Za-z0-9]+)?",
    participant=r"[A-Za-z0-9]+",
    task="|".join(CONFIG.tasks) or NOTHING,
    model="|".join(CONFIG.models) or NOTHING,
    target="|".join(modalities.targets()),
    fold="[0-9]+",
    low_res="(dwi|map)-[248]",
    measure="|".join(
        bids.measure(MODALITIES[name].kind) for name in modalities.targets()
    ),


calls.stop_without_hooks(workflow)
calls.stop_if_results_are_in_the_dataset(files)
calls.stop_if_commands_are_missing(subjects.commands(), workflow)
calls.warn_of_jobs_left(files, workflow, logger)


onstart:
    calls.start(CONFIG, files, workflow, logger)
