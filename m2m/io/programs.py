"""External programs: each runs to its end, as a list of arguments, without a shell.

A program that is not installed or fails raises `ProgramError` with the last line of its output.
"""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Exit status of a shell that does not find a command.
NOT_FOUND = 127
PROGRESS = re.compile(r"\[ *\d+%\]")


class ProgramError(RuntimeError):
    """An external program ended with an error."""


class ProgramMissing(ProgramError, ImportError):
    """An external program, or one that it calls, is not installed: no scan's fault."""


class ProgramKilled(ProgramError, MemoryError):
    """An external program was killed, for memory or by the user: another attempt may succeed."""


@dataclass(frozen=True)
class Call:
    """One finished command."""

    arguments: tuple[str, ...]
    version: str
    log: str
    exit_status: int

    def described(self) -> dict[str, Any]:
        """Content for a record: file names without the folders of this machine."""
        return {
            "arguments": [Path(a).name if "/" in a else a for a in self.arguments],
            "version": self.version,
            "exit_status": self.exit_status,
        }


def run(
    *arguments: str | Path | float,
    suite: str,
    version: Callable[[], str],
    variables: Mapping[str, str] | None = None,
) -> Call:
    """Run one command to its end.

    Parameters
    ----------
    *arguments : str, path or float
        The command and its arguments, passed unchanged.
    suite : str
        Software that contains the command, for the message where it is missing.
    version : callable
        Returns the suite's version.
    variables : mapping, optional
        Environment variables, added to those of this process.

    Returns
    -------
    Call

    Raises
    ------
    ProgramError
        The command is not on PATH, or its exit status is not 0; the message has the last line
        of its standard error and its log.
    """
    command = tuple(str(argument) for argument in arguments)
    if shutil.which(command[0]) is None:
        raise ProgramMissing(f"{command[0]} is not on PATH; install {suite}, which contains it")
    status, log = finished(command, variables)
    print(" ".join(command), log, sep="\n", flush=True)
    if status != 0:
        raise failure(command[0], status, log, f"command: {list(command)}\n")
    return Call(command, version(), log, status)


def finished(command: tuple[str, ...], variables: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Exit status and log of a command, standard error last, without progress bars."""
    environment = os.environ | dict(variables or {})
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True, errors="replace")
    lines = (done.stdout + done.stderr).splitlines()
    return done.returncode, "\n".join(line for line in lines if not PROGRESS.search(line))


def failure(name: str, status: int, log: str, about: str = "") -> ProgramError:
    """Make the error of a command that failed, with its last line and its log.

    Parameters
    ----------
    name : str
        The command.
    status : int
        Exit status.
    log : str
    about : str
        Text before the log.

    Returns
    -------
    ProgramError
    """
    lines = log.strip().splitlines() or ["(no message)"]
    kind = ProgramError
    if status < 0 or status in (128 + signal.SIGKILL, 128 + signal.SIGTERM):
        kind = ProgramKilled
    elif status == NOT_FOUND or "FSLDIR" in lines[-1]:
        kind = ProgramMissing
    return kind(f"{name} ended with exit status {status}: {lines[-1]}\n{about}log:\n{log}")
