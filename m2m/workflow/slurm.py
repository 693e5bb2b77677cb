"""Jobs that an earlier call left on a Slurm cluster: found before their work is submitted again."""

import shutil
import subprocess
from pathlib import Path

# Number, state, why it waits, and what the plugin notes of it: the rule and its wildcards.
_COLUMNS = "%i %T %r %k"
_LISTED = 10


def note_run(record: Path, run: str) -> None:
    """Write down the name that all jobs of a run carry."""
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(f"{run}\n")


def jobs_left(record: Path) -> str:
    """Say which jobs of the run on record wait or run, and what to do; nothing if there are none.

    Parameters
    ----------
    record : Path
        What `note_run` wrote. Where it, or squeue, is missing, there is nobody to ask.
    """
    if not record.exists() or shutil.which("squeue") is None:
        return ""
    run = record.read_text().strip()
    command = ["squeue", "--noheader", f"--name={run}", f"--format={_COLUMNS}"]
    answer = subprocess.run(command, capture_output=True, text=True)
    if answer.returncode:
        return (
            f"squeue cannot say whether jobs of an earlier call are left: {answer.stderr.strip()}. "
            f"Call again when Slurm answers; if that call's jobs are long gone, delete {record}."
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
            f"Wait until they end, and what they made counts, or end them: scancel --name={run}",
        ]
    )
