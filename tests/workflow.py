"""Run the workflow from a test: the checkout's Snakefile, results in a folder of the test's own."""

import atexit
import contextlib
import functools
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import warm

CHECKOUT = Path(__file__).resolve().parents[1]
IMPORTED_WHEN_PARSED = (
    "m2m.io.versions",
    "m2m.options",
    "m2m.workflow",
    "smart_open",
    "snakemake.profiles",
    "snakemake.report.html_reporter",
)
PLAN = ("-n", "--quiet", "rules", "reason", "host")


@functools.cache
def program() -> Path:
    """A Snakemake that starts at once, for as long as this process lives."""
    until_the_end = contextlib.ExitStack()
    atexit.register(until_the_end.close)
    folder = Path(until_the_end.enter_context(tempfile.TemporaryDirectory()))
    return until_the_end.enter_context(
        warm.program(folder / "bin", warm.SNAKEMAKE, "snakemake.cli:main", *IMPORTED_WHEN_PARSED)
    )


@contextlib.contextmanager
def first_on_path(program: Path) -> Iterator[None]:
    """Put a program before all others of its name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
        yield


@contextlib.contextmanager
def warm_stages(folder: Path) -> Iterator[None]:
    """Start the stages of the workflow at once; `folder` does not exist yet."""
    with warm.program(folder, warm.M2M, "m2m.cli:app", "m2m") as m2m, first_on_path(m2m):
        yield


def snakemake(
    folder: Path,
    *arguments: str,
    configfile: str = "tests/config.yaml",
    timeout: float | None = None,
) -> subprocess.CompletedProcess:
    """Run snakemake with its results below `folder`; output and errors come back as one text."""
    command = [str(program()), "--snakefile", str(CHECKOUT / "Snakefile")]
    command += ["--configfile", str(CHECKOUT / configfile), "--directory", str(folder)]
    return subprocess.run(
        [*command, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
        cwd=CHECKOUT,
        timeout=timeout,
    )


def planned(output: str) -> dict[str, int]:
    """Job counts by rule from the table that a dry run prints."""
    lines = output.splitlines()
    start = next((i for i, line in enumerate(lines) if line.split() == ["job", "count"]), None)
    if start is None:
        return {}
    counts = {}
    for line in lines[start + 2 :]:
        fields = line.split()
        if len(fields) != 2 or fields[0] == "total":
            break
        counts[fields[0]] = int(fields[1])
    return counts
