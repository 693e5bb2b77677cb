"""The jobs of a call: none is submitted twice, how they are chosen, and people who share one."""

import fcntl

from snakemake.logging import DefaultFilter, LogEvent, get_event


def show_the_table_of_a_quiet_plan(shows=DefaultFilter.filter):
    """Let `-n --quiet` print how many jobs of each rule would run, as its help says.

    Snakemake 9.27 takes that table for progress. With thousands of jobs it is what a plan is asked
    for: the rest of a dry run, a text of each job before all, takes a third of its time.
    """
    DefaultFilter.filter = lambda self, record: (
        self.dryrun and get_event(record) == LogEvent.RUN_INFO or shows(self, record)
    )


show_the_table_of_a_quiet_plan()


def warn_of_jobs_left():
    """Name jobs that a killed call left on a cluster, before Snakemake speaks of its lock."""
    if workflow.is_main_process and (left := slurm.jobs_left(SLURM_RUN)):
        logger.warning(left)


def stop_if_jobs_are_left():
    """Submit nothing twice: stop where jobs of an earlier call still run, else note this call's."""
    if left := slurm.jobs_left(SLURM_RUN):
        raise WorkflowError(left)
    if run := getattr(workflow.scheduler._executor, "run_uuid", None):
        slurm.note_run(SLURM_RUN, run)


warn_of_jobs_left()


def look_at_ready_jobs_only_when_one_ends():
    """Take Snakemake's limit of jobs a second away.

    For it Snakemake 9 looks at all ready jobs once more a second after each look, and keeps one such
    round going for every job that has ended: with a hundred people most of a core.
    """
    workflow.scheduler.job_rate_limiter = None


# Open files: a lock lasts as long as its file, and is gone when the process is.
HELD = []


def stop_if_another_call_writes_here():
    """Hold the results for this call: Snakemake locks the folder that it is called from, not them."""
    path = Path(f"{ROOT}/logs/workflow.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        HELD.append(path.open("a"))
        fcntl.flock(HELD[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise WorkflowError(
            f"Another call of the workflow writes to {ROOT}, from another folder: wait until it "
            "ends, or give this one a dataset or results of its own."
        ) from None
    except OSError as error:  # some network file systems have no such locks
        logger.warning(f"{path} cannot be locked ({error}): call once at a time.")


onstart:
    stop_if_another_call_writes_here()
    stop_if_jobs_are_left()
    look_at_ready_jobs_only_when_one_ends()


# -- shards: each job on a cluster costs seconds, so that people share one ------------------------


@functools.cache
def _places(path, modified):
    return {row["unit"]: i for i, row in enumerate(_table(path, modified))}


def place_of_unit(wildcards):
    """Place of a unit in the cohort's table."""
    return _places(UNITS, os.stat(UNITS).st_mtime_ns)[wildcards.unit]


@functools.cache
def _places_of_labels():
    return {
        label: i for i, label in enumerate(labels(CONFIG.cohort.phantom.n_subjects))
    }


def place_of_participant(wildcards):
    """Place of a simulated person among all."""
    return _places_of_labels()[wildcards.participant]


def shard(kind, place):
    """Name a job's group after its person's place; no group where people share no job.

    Snakemake's own shares of unconnected jobs grow each time a checkpoint has it plan anew, until
    jobs never end (its issues 1217 and 1628): a name for each shard leaves nothing to share out.
    """
    if not CONFIG.shard:
        return None

    def group(wildcards):
        name = f"{kind}-{place(wildcards) // CONFIG.shard}"
        # As Snakemake notes for a name with wildcards: `group-components` are given for the kind.
        workflow.parent_groupids[name] = kind
        return name

    return group
