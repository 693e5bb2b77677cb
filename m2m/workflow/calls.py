"""Checks before the first job: only one call at a time, and no job is submitted twice."""

import fcntl
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from snakemake.exceptions import WorkflowError

from m2m.io.errors import DataError
from m2m.io.files import write_text
from m2m.io.overwriting import require_outside
from m2m.options import Config
from m2m.workflow import slurm, snakemake_patches
from m2m.workflow.results_layout import Layout

# Open files: a lock is released when its file is closed, at the latest when the process ends.
LOCKS: list[TextIO] = []


def stop_if_another_call_writes_here(files: Layout, logger: Any) -> None:
    """Lock the results for this call: Snakemake locks only the folder that it is called from.

    Parameters
    ----------
    files : Layout
    logger : object
        Snakemake's.

    Raises
    ------
    WorkflowError
        Another call has the lock.
    """
    path = Path(files.lock)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        LOCKS.append(path.open("a"))
        fcntl.flock(LOCKS[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise WorkflowError(
            f"Another call of the workflow writes to {files.root}, from another folder: wait until "
            "it ends, or set another `dataset` or `results` for this one."
        ) from None
    except OSError as error:  # some network file systems have no such locks
        logger.warning(f"{path} cannot be locked ({error}): make sure that only one call runs at a time.")


def warn_of_jobs_left(files: Layout, workflow: Any, logger: Any) -> None:
    """Warn of jobs that a killed call left on a cluster, before Snakemake reports its own lock.

    Parameters
    ----------
    files : Layout
    workflow, logger : object
        Snakemake's.
    """
    if workflow.is_main_process and (left := slurm.jobs_left(Path(files.slurm_run))):
        logger.warning(left)


def stop_if_jobs_are_left(files: Layout, run: str | None) -> None:
    """Stop where jobs of an earlier call still run; otherwise record the name of this run.

    Raises
    ------
    WorkflowError
        The message lists the jobs.
    """
    if left := slurm.jobs_left(Path(files.slurm_run)):
        raise WorkflowError(left)
    if run:
        slurm.note_run(Path(files.slurm_run), run)


def write_config(config: Config, path: str | Path) -> None:
    """Write the whole configuration for the jobs, with bases resolved and tasks of folds added.

    A file with the same content is not rewritten.
    """
    path, text = Path(path), config.model_dump_json(indent=2) + "\n"
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)


def stop_if_results_are_in_the_dataset(files: Layout) -> None:
    """Stop, also in a dry run, where the results would be written into the raw dataset, or around it.

    Raises
    ------
    WorkflowError
        The message has both folders.
    """
    if files.simulated:
        return
    try:
        require_outside(Path(files.root), Path(files.rawdata))
    except DataError as error:
        raise WorkflowError(f"results, dataset and cohort.bids_dir: {error}") from None


def stop_if_commands_are_missing(commands: Sequence[str], workflow: Any) -> None:
    """Stop, also in a dry run, where a chosen backend needs a program that is not installed.

    Raises
    ------
    WorkflowError
        The message lists the programs.
    """
    if workflow.deployment_settings.deployment_method:
        return  # conda or a container provides them
    if missing := [command for command in commands if shutil.which(command) is None]:
        raise WorkflowError(
            f"Not on this machine's PATH: {', '.join(missing)}. The choices under preprocess, "
            f"dti.mask, tractography and grid.density need them: install them or choose other options."
        )


def stop_without_hooks(workflow: Any) -> None:
    """Stop a call with --no-hooks, since `start` is called by a hook.

    Raises
    ------
    WorkflowError
        Such a call could run at the same time as another, with the configuration of an earlier one.
    """
    # Snakemake gives its settings to the workflow only after it was parsed.
    if workflow.is_main_process and "--no-hooks" in sys.argv:
        raise WorkflowError(
            "--no-hooks skips the hook that writes the configuration for the jobs and locks the "
            "results: call without it."
        )


def start(config: Config, files: Layout, workflow: Any, logger: Any) -> None:
    """Lock the results and write the configuration, before the first job.

    Parameters
    ----------
    config : Config
    files : Layout
    workflow, logger : object
        Snakemake's.
    """
    stop_if_another_call_writes_here(files, logger)
    stop_if_jobs_are_left(files, snakemake_patches.run_name(workflow))
    write_config(config, files.config)
    snakemake_patches.patch_run(workflow)
