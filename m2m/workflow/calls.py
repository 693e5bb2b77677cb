"""What a call does before its first job: one call at a time, and no job is submitted twice."""

import fcntl
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from snakemake.exceptions import WorkflowError

from m2m.io.files import write_text
from m2m.options import Config
from m2m.workflow import slurm, snakemake_patches
from m2m.workflow.study_paths import Layout

# Open files: a lock lasts as long as its file, and is gone when the process is.
HELD: list[TextIO] = []


def stop_if_another_call_writes_here(files: Layout, logger: Any) -> None:
    """Hold the results for this call: Snakemake locks the folder that it is called from, not them.

    Raises
    ------
    WorkflowError
        Another call holds them.
    """
    path = Path(files.lock)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        HELD.append(path.open("a"))
        fcntl.flock(HELD[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise WorkflowError(
            f"Another call of the workflow writes to {files.root}, from another folder: wait until "
            "it ends, or give this one a dataset or results of its own."
        ) from None
    except OSError as error:  # some network file systems have no such locks
        logger.warning(f"{path} cannot be locked ({error}): call once at a time.")


def warn_of_jobs_left(files: Layout, workflow: Any, logger: Any) -> None:
    """Name jobs that a killed call left on a cluster, before Snakemake speaks of its lock."""
    if workflow.is_main_process and (left := slurm.jobs_left(Path(files.slurm_run))):
        logger.warning(left)


def stop_if_jobs_are_left(files: Layout, run: str | None) -> None:
    """Submit nothing twice: stop where jobs of an earlier call still run, else note this call's.

    Raises
    ------
    WorkflowError
        It names the jobs that are left.
    """
    if left := slurm.jobs_left(Path(files.slurm_run)):
        raise WorkflowError(left)
    if run:
        slurm.note_run(Path(files.slurm_run), run)


def write_config(config: Config, path: str | Path) -> None:
    """Write the whole configuration for the jobs: bases resolved, tasks of folds among the others.

    A file that says the same is left as it is.
    """
    path, text = Path(path), config.model_dump_json(indent=2) + "\n"
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)


def stop_if_commands_are_missing(commands: Sequence[str], workflow: Any) -> None:
    """Stop a dry run, by name, when a chosen chain needs a program that is not here.

    Raises
    ------
    WorkflowError
        It names the programs.
    """
    if workflow.deployment_settings.deployment_method:
        return  # conda or a container brings them
    if missing := [command for command in commands if shutil.which(command) is None]:
        raise WorkflowError(
            f"Not on this machine's PATH: {', '.join(missing)}. What is chosen under preprocess, "
            f"dti.mask, tractography and grid.density needs them: install them or choose otherwise."
        )


def start(config: Config, files: Layout, workflow: Any, logger: Any) -> None:
    """Do what comes before the first job of a call that runs jobs."""
    stop_if_another_call_writes_here(files, logger)
    stop_if_jobs_are_left(files, snakemake_patches.run_name(workflow))
    write_config(config, files.config)
    snakemake_patches.patch_run(workflow)
