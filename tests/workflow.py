"""Run the workflow from a test: the checkout's Snakefile, results in a folder of the test's own."""

import os
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
PLAN = ("-n", "--quiet", "rules", "reason", "host")


def snakemake(
    folder: Path,
    *arguments: str,
    configfile: str = "tests/config.yaml",
    timeout: float | None = None,
) -> subprocess.CompletedProcess:
    """Run snakemake with its results below `folder`; output and errors come back as one text."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(CHECKOUT / "Snakefile")]
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
