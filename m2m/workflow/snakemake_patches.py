"""What is changed of Snakemake's insides, only in the version that it was written for.

Everything here reaches into names that Snakemake promises nobody. In another version nothing is
changed: the workflow then plans and runs the same jobs, slower, and `SKIPPED` says so once.
"""

import gc
from collections.abc import MutableMapping
from importlib.metadata import version
from typing import Any

from snakemake.logging import DefaultFilter, LogEvent, get_event

# pyproject.toml says the same: snakemake>=9.27,<9.28.
WRITTEN_FOR = "9.27."
SKIPPED = (
    "Snakemake {found} is not the {wanted}x that m2m's changes of it were written for: without "
    "them large cohorts take longer to plan. `pip install 'm2m[workflow]'` brings the right one."
)


def applies(found: str | None = None) -> bool:
    """Whether a version of Snakemake, by default the installed one, is the right one."""
    return (found or version("snakemake")).startswith(WRITTEN_FOR)


def warning(found: str | None = None) -> str:
    """One line where the changes are left out, else nothing."""
    found = found or version("snakemake")
    return "" if applies(found) else SKIPPED.format(found=found, wanted=WRITTEN_FOR)


def show_the_table_of_a_quiet_plan() -> None:
    """Let `-n --quiet` print how many jobs of each rule would run, as its help says.

    Snakemake 9.27 takes that table for progress. With thousands of jobs it is what a plan is asked
    for: the rest of a dry run, a text of each job before all, takes a third of its time.
    """
    shows = DefaultFilter.filter
    if shows.__module__ == __name__:  # a process that reads the workflow twice
        return

    def filter_but_the_table(self: DefaultFilter, record: Any) -> bool:
        return (self.dryrun and get_event(record) == LogEvent.RUN_INFO) or shows(self, record)

    DefaultFilter.filter = filter_but_the_table


def collect_garbage_rarely() -> None:
    """Look for garbage less often: a plan is millions of objects that live to its end.

    Looking for it was a seventh of a plan's time.
    """
    gc.set_threshold(100_000, 50, 1000)


def look_at_ready_jobs_only_when_one_ends(workflow: Any) -> None:
    """Take Snakemake's limit of jobs a second away.

    For it Snakemake 9 looks at all ready jobs once more a second after each look, and keeps one
    such round going for every job that has ended: with a hundred people most of a core.
    """
    workflow.scheduler.job_rate_limiter = None


def parent_groups(workflow: Any) -> MutableMapping[str, str]:
    """Where Snakemake notes which name with wildcards a group's name was made from."""
    return workflow.parent_groupids if applies() else {}


def run_name(workflow: Any) -> str | None:
    """Name that all jobs of this call carry on a cluster, where it has one."""
    executor = getattr(workflow.scheduler, "_executor", None)  # read only: in any version
    return getattr(executor, "run_uuid", None)


def patch_plan() -> str:
    """Change what a plan needs, before it is made; give a warning where that is left out."""
    if applies():
        show_the_table_of_a_quiet_plan()
        collect_garbage_rarely()
    return warning()


def patch_run(workflow: Any) -> None:
    """Change what a run needs, when it starts."""
    if applies():
        look_at_ready_jobs_only_when_one_ends(workflow)
