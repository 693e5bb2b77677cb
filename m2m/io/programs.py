"""External programs: each runs to its end, as a list of arguments and never as a shell's string.

A program that is not installed or fails raises `ProgramError`, with its own last line.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROGRESS = re.compile(r"\[ *\d+%\]")


class ProgramError(RuntimeError):
    """An external program is not installed, or ended with an error."""


@dataclass(frozen=True)
class Call:
    """One finished command."""

    arguments: tuple[str, ...]
    version: str
    log: str
    exit_status: int

    def described(self) -> dict[str, Any]:
        """For a record: file names without the folders of this machine."""
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
        The command and its arguments, each passed on as it is.
    suite : str
        What to install where it is missing.
    version : callable
        Tells the suite's version.
    variables : mapping, optional
        Of the environment, beside this process's own.

    Raises
    ------
    ProgramError
        The command is not on PATH, or its exit status is not 0; the message has the last line
        of its standard error and its log.
    """
    command = tuple(str(argument) for argument in arguments)
    if shutil.which(command[0]) is None:
        raise ProgramError(f"{command[0]} is not on PATH; install {suite}, which it belongs to")
    status, log = finished(command, variables)
    print(" ".join(command), log, sep="\n", flush=True)
    if status != 0:
        raise failure(command[0], status, log, f"command: {list(command)}\n")
    return Call(command, version(), log, status)


def finished(
    command: tuple[str, ...], variables: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Exit status and log of a command, standard error last, without progress bars."""
    environment = os.environ | dict(variables or {})
    text = {"capture_output": True, "text": True, "errors": "replace"}
    done = subprocess.run(command, env=environment, check=False, **text)
    lines = (done.stdout + done.stderr).splitlines()
    return done.returncode, "\n".join(line for line in lines if not PROGRESS.search(line))


def failure(name: str, status: int, log: str, about: str = "") -> ProgramError:
    """Say how a command ended, with its last line and its log."""
    lines = log.strip().splitlines() or ["(no message)"]
    return ProgramError(f"{name} ended with exit status {status}: {lines[-1]}\n{about}log:\n{log}")
