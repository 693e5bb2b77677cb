"""Jobs that an earlier call left on a Slurm cluster: found before their work is submitted again."""

import shutil
import subprocess
from pathlib import Path

# Number, state, reason for waiting, and the plugin's comment: the rule and its wildcards.
_COLUMNS = "%i %T %r %k"
_LISTED = 10


def note_run(record: Path, run: str) -> None:
    """Record the name that all jobs of a run have in Slurm."""
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(f"{run}\n")


def jobs_left(record: Path) -> str:
    """Message about the recorded run's jobs that wait or run, and what to do; empty if there are none.

    Parameters
    ----------
    record : Path
        File that `note_run` wrote. Without it, or without squeue, the message is empty.

    Returns
    -------
    str
    """
    if not record.exists() or shutil.which("squeue") is None:
        return ""
    run = record.read_text().strip()
    command = ["squeue", "--noheader", f"--name={run}", f"--format={_COLUMNS}"]
    answer = subprocess.run(command, capture_output=True, text=True)
    if answer.returncode:
        return (
            f"squeue cannot list the jobs that an earlier call may have left: {answer.stderr.strip()}. "
            f"Call again when Slurm responds; if the jobs of that call have ended, delete {record}."
        )
    jobs = answer.stdout.splitlines()
    if not jobs:
        return ""
    listed = [f"  {job}" for job in jobs[:_LISTED]]
    if len(jobs) > _LISTED:
        listed.append(f"  and {len(jobs) - _LISTED} more")
    return "\n".join(
        [
            f"Slurm jobs of an earlier call still work on these results ({record}):",
            *listed,
            f"Wait until they end (their results will be used), or cancel them: scancel --name={run}",
        ]
    )
