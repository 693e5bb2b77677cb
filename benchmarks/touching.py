"""A stand-in for `m2m`: it does no work, and writes an empty file for each output it is given.

A folder whose `m2m` runs this goes first on PATH. An output is an argument that reads like a file
and is not there: Snakemake deletes a job's outputs before it, and its inputs exist. The stages of
the cohort that the workflow reads the tables of are the real ones.
"""

import sys
from pathlib import Path

REAL = ("describe", "index", "validate", "split")


def install(folder: Path) -> Path:
    """Write `m2m` into a folder, for the head of PATH."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "m2m"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{Path(__file__).resolve()}" "$@"\n')
    program.chmod(0o755)
    return folder


def touch(arguments: list[str]) -> None:
    """Write empty files where arguments name files that are not there."""
    for argument in arguments:
        path = Path(argument)
        if "/" in argument and argument[0] not in "{[" and path.suffix and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()


def main() -> None:
    """Do what a stage would, or nearly nothing."""
    if sys.argv[1] in REAL:
        from m2m.cli import app

        app()
    touch(sys.argv[2:])


if __name__ == "__main__":
    main()
