"""Changes of Snakemake's internals, made only in the version that they were written for.

Everything here uses internal names that Snakemake may change. In another version nothing is
changed: the workflow then plans and runs the same jobs, more slowly, and warns once (`SKIPPED`).
"""

import functools
import gc
import importlib
from collections.abc import MutableMapping
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

from snakemake.io import get_flag_value
from snakemake.logging import DefaultFilter, LogEvent, get_event

from m2m import how_to_install

# As in pyproject.toml: snakemake>=9.27,<9.28.
WRITTEN_FOR = "9.27."
# Flag of a rule's outputs; its value is a `shards.Together`.
SHARD = "shard"
SKIPPED = (
    "Snakemake {found} is not version {wanted}x, which m2m's changes of Snakemake were written for. "
    f"Without them, large cohorts take longer to plan. For the right one, {how_to_install('workflow')}."
)


@functools.cache
def applies(found: str | None = None) -> bool:
    """Whether a version of Snakemake, by default the installed one, is the right one."""
    return (found or version("snakemake")).startswith(WRITTEN_FOR)


def warning(found: str | None = None) -> str:
    """Warning where the changes are not made, else empty."""
    found = found or version("snakemake")
    return "" if applies(found) else SKIPPED.format(found=found, wanted=WRITTEN_FOR)


def show_the_table_of_a_quiet_plan() -> None:
    """Let `-n --quiet` print how many jobs of each rule would run, as its help describes.

    Snakemake 9.27 treats that table as progress and hides it. With thousands of jobs it is the
    useful part of a dry run; printing each job takes a third of the time.
    """
    original = DefaultFilter.filter
    if original.__module__ == __name__:  # a process that parses the workflow twice
        return

    def filter_except_table(self: DefaultFilter, record: Any) -> bool:
        return (self.dryrun and get_event(record) == LogEvent.RUN_INFO) or original(self, record)

    DefaultFilter.filter = filter_except_table


def collect_garbage_rarely() -> None:
    """Collect garbage less often: a plan has millions of objects that live to its end.

    Garbage collection took a seventh of the planning time.
    """
    gc.set_threshold(100_000, 50, 1000)


def find_environments_without_parameters() -> None:
    """Ask a rule for its environment without the parameters of a job, which only an environment by a function needs.

    Otherwise the parameters of all jobs are made for it, which took a tenth of the planning time.
    """
    importlib.import_module("snakemake.api")  # first, as its program does: the modules import each other
    from snakemake.jobs import Job

    original = Job.conda_env_spec
    if original.fget.__module__ == __name__:  # a process that parses the workflow twice
        return

    def conda_env_spec(self: Any) -> Any:
        by_function = callable(self.rule.conda_env)
        return original.fget(self) if by_function else self.rule.expand_conda_env(self.wildcards_dict)

    Job.conda_env_spec = property(conda_env_spec)


def look_at_ready_jobs_only_when_one_ends(workflow: Any) -> None:
    """Switch off Snakemake's limit of jobs per second.

    For this limit, Snakemake 9 checks all ready jobs again one second after each check, and repeats
    this for every job that has ended: with a hundred participants this takes most of a core.
    """
    workflow.scheduler.job_rate_limiter = None


def _modified(path: str) -> int:
    """Time of the last change of a file, in ns; 0 where there is none."""
    return Path(path).stat().st_mtime_ns if Path(path).exists() else 0


def _shard(rule: Any) -> Any:
    """What says which units a job of a rule serves; None where it is one unit, or none."""
    return get_flag_value(rule.output[0], SHARD) if rule.output else None


def let_jobs_serve_shards() -> None:
    """Let a job of a rule with outputs of `shards.Together` make these outputs for all units of its shard.

    Its wildcards are those of the shard's first unit. Kept outputs also keep their time, unless an input of another
    unit is newer, since a job compares all its inputs with all its outputs.
    """
    importlib.import_module("snakemake.api")  # first, as its program does: the modules import each other
    from snakemake.dag import DAG
    from snakemake.iocontainers import OutputFiles
    from snakemake.rules import Rule

    match, expand, check = Rule.get_wildcards, Rule.expand_output, DAG.check_and_touch_output
    if expand.__module__ == __name__:  # a process that parses the workflow twice
        return

    def get_wildcards(self: Any, *arguments: Any, **further: Any) -> dict[str, str]:
        found = match(self, *arguments, **further)
        shard = _shard(self)
        return shard.leader(found) if shard and found else found

    def expand_output(self: Any, wildcards: dict[str, str]) -> tuple:
        shard = _shard(self)
        units = shard.expanded(wildcards) if shard and wildcards else []
        if len(units) < 2:
            return expand(self, wildcards)
        files = [(file.apply_wildcards(one), file) for file in self.output for one in units]
        output = OutputFiles(file for file, _ in files)
        # Names of ranges of patterns become names of ranges of files.
        n = len(units)
        ranges = ((name, i, i + 1 if j is None else j) for name, (i, j) in self.output._get_names())
        output._take_names((name, (n * i, n * j)) for name, i, j in ranges)
        return output, dict(files)

    async def check_and_touch_output(self: Any, job: Any, *arguments: Any, **further: Any) -> None:
        if _shard(job.rule) and not self.workflow.touch:
            newest = max(map(_modified, job.input), default=0)
            for file in job.output:
                if 0 < _modified(file) < newest:
                    file.touch()
            further["no_touch"] = True
        await check(self, job, *arguments, **further)

    Rule.get_wildcards, Rule.expand_output = get_wildcards, expand_output
    DAG.check_and_touch_output = check_and_touch_output


def let_stages_make_forced_results_again(workflow: Any) -> None:
    """Remove the records of a shard's results before a job that makes them again whatever their inputs.

    A stage keeps results whose inputs are the same (`m2m.io.unit_status`). Where the user forces a job, or its rule or
    its environment has changed, the results are wanted anew.
    """
    run, dag = workflow.scheduler.run, workflow.dag

    def run_anew(jobs: Any, *arguments: Any, **further: Any) -> None:
        for job in chain.from_iterable(one.jobs if one.is_group() else [one] for one in jobs):
            reason = dag.reason(job)
            if _shard(job.rule) and (reason.forced or reason.code_changed or reason.software_stack_changed):
                for file in job.output:
                    if file.endswith(".json"):
                        Path(file).unlink(missing_ok=True)
        run(jobs, *arguments, **further)

    workflow.scheduler.run = run_anew


def parent_groups(workflow: Any) -> MutableMapping[str, str]:
    """Snakemake's record of the name with wildcards that each group's name was made from."""
    return workflow.parent_groupids if applies() else {}


def run_name(workflow: Any) -> str | None:
    """Name that all jobs of this call have on a cluster; None without a cluster."""
    executor = getattr(workflow.scheduler, "_executor", None)  # read only: in any version
    return getattr(executor, "run_uuid", None)


def patch_plan() -> str:
    """Apply the changes for planning; return a warning where they are not made."""
    if applies():
        show_the_table_of_a_quiet_plan()
        let_jobs_serve_shards()
        find_environments_without_parameters()
        collect_garbage_rarely()
    return warning()


def patch_run(workflow: Any) -> None:
    """Apply the changes for running, when a run starts."""
    if applies():
        look_at_ready_jobs_only_when_one_ends(workflow)
        let_stages_make_forced_results_again(workflow)
