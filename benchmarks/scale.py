"""Cost of a large cohort: planning it, starting one of its jobs, running it with empty stages.

Scans are zero-byte files of a BIDS dataset. The cohort's tables are written here, as if the
checkpoint had run, so that the plan contains every job of every participant (``snakemake -n``). One
job is started as by the executor of a cluster. Runs use `benchmarks/touching.py` in place of `m2m`, so
that a job costs only what Snakemake adds. The task is T1 to FA unless tasks of config.yaml are named.

    python benchmarks/scale.py --out benchmarks/scale.md --plot docs/images/scale.png
    python benchmarks/scale.py 1000 --run --tasks t1-fa fa-tdi       # plan only, other tasks
"""

import argparse
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import yaml
from touching import install

from m2m.io.files import write_json
from m2m.io.tables import write_table
from m2m.phantom import labels

ROOT = Path(__file__).resolve().parents[1]
SCANS = {
    "t1w": "anat/{}_T1w.nii.gz",
    "dwi": "dwi/{}_dwi.nii.gz",
    "bval": "dwi/{}_dwi.bval",
    "bvec": "dwi/{}_dwi.bvec",
}
PLAN = ("-n", "--quiet")
# Arguments of `snakemake` inside a cluster's job.
ONE_JOB = (
    *("--cores", "all", "--attempt", "1", "--force", "--force-use-threads", "--retries", "0"),
    *("--target-files-omit-workdir-adjustment", "--max-inventory-time", "0", "--no-hooks"),
    *("--nolock", "--ignore-incomplete", "--mode", "remote", "--executor", "local"),
)
PLAN_COLUMNS = (
    *("subjects", "jobs", "dry run, s", "CPU s", "with --profile slurm, s", "peak GB"),
    *("one job's start, s", "CPU s"),
)
SMALLEST = 3  # participants: the fixed cost of any call
GOAL_SECONDS, GOAL_GB, FAR = 60, 1.5, 100_000


@dataclass(frozen=True)
class Cost:
    """Cost of one call of Snakemake with its child processes; memory is that of the largest process."""

    seconds: float
    cpu_seconds: float
    peak_gb: float
    output: str = field(repr=False)


def lay_out(folder: Path, n_subjects: int) -> None:
    """Write zero-byte scans and the tables of the cohort."""
    raw = folder / "rawdata"
    units, parts = [], []
    for i, label in enumerate(labels(n_subjects)):
        unit = f"sub-{label}"
        row = {"unit": unit, "folder": unit, "participant_id": unit, "state": "paired"}
        for column, name in SCANS.items():
            path = raw / unit / name.format(unit)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            row[column] = str(path.relative_to(folder))
        units.append(row)
        parts.append({"participant_id": unit, "part": ("train", "train", "test")[i % 3]})
    (raw / "participants.tsv").touch()
    (raw / "dataset_description.json").touch()
    cohort = folder / "results/scale/cohort"
    columns = ["unit", "folder", "participant_id", "session_id", "t1w", "t1w_mask", "dwi", "bval"]
    for name in ("manifest.tsv", "cohort_status.tsv"):
        write_table(cohort / name, [], ["unit"])
    write_table(cohort / "units.tsv", units, [*columns, "bvec", "dwi_mask", "state", "reason"])
    write_table(cohort / "split.tsv", parts, ["participant_id", "part"])
    write_json(cohort / "split.json", {})


def write_config(path: Path, tasks: list[str]) -> None:
    """Write config.yaml with these tasks only, for the dataset on disk."""
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    config |= {"dataset": "scale", "cohort": {"source": "bids", "bids_dir": "rawdata"}}
    config["tasks"] = {name: config["tasks"][name] for name in tasks}
    path.write_text(yaml.safe_dump(config))


def call(folder: Path, *arguments: str) -> Cost:
    """Run Snakemake on a laid-out cohort and measure it."""
    command = [
        *(sys.executable, "-m", "snakemake", *arguments, "--snakefile", str(ROOT / "Snakefile")),
        *("--configfile", str(folder / "config.yaml"), "--directory", str(folder)),
    ]
    path = f"{install(folder / 'bin')}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PATH": path}
    log, start = folder / "call.log", time.perf_counter()
    with log.open("w") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, env=environment, cwd=folder)
        _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(log.read_text()[-2000:])
    peak_gb = used.ru_maxrss * 1024 / 1e9
    return Cost(seconds, used.ru_utime + used.ru_stime, peak_gb, log.read_text())


def start_one_job(folder: Path, rounds: int = 3) -> Cost:
    """Start the tensor fit of one participant as in a cluster's job; the median of several rounds."""
    unit = min(path.name for path in (folder / "rawdata").glob("sub-*"))
    target = ("--target-jobs", f"dti:folder={unit},unit={unit}", "--allowed-rules", "dti")
    costs = [call(folder, *target, *ONE_JOB) for _ in range(rounds)]
    return sorted(costs, key=lambda cost: cost.cpu_seconds)[rounds // 2]


def growth(subjects: Sequence[int], values: Sequence[float], at_rest: float) -> tuple[float, float]:
    """Exponent and factor of ``at_rest + factor * participants ** exponent``, by least squares of logs.

    Parameters
    ----------
    subjects : sequence of int
    values : sequence of float
        Seconds or gigabytes, each above `at_rest`.
    at_rest : float
        Cost of the smallest cohort: without subtracting it the exponent would be too small.

    Returns
    -------
    exponent, factor : float
    """
    exponent, log_factor = np.polyfit(np.log(subjects), np.log(np.subtract(values, at_rest)), 1)
    return float(exponent), float(np.exp(log_factor))


def jobs_in(output: str) -> int:
    """Read the total from the table of jobs that Snakemake prints."""
    found = re.search(r"^total +(\d+)$", output, re.M)
    return int(found[1]) if found else 0


def in_folder(subjects: int, tasks: list[str], measure: Callable[[Path], list]) -> list:
    """Measure on a cohort in a temporary folder.

    Parameters
    ----------
    subjects : int
        Number of participants.
    tasks : list of str
    measure : callable
        Takes the folder; returns the measurements.

    Returns
    -------
    list
    """
    with tempfile.TemporaryDirectory() as name:
        lay_out(Path(name), subjects)
        write_config(Path(name) / "config.yaml", tasks)
        found = measure(Path(name))
    print(f"{subjects} participants:", *found, flush=True)
    return found


def planned(folder: Path) -> list[Cost]:
    """Measure a dry run of all jobs, one in shards for Slurm, and the start of one job."""
    shards = call(folder, *PLAN, "--profile", str(ROOT / "slurm"))
    return [call(folder, *PLAN), shards, start_one_job(folder)]


def executed(folder: Path) -> list:
    """Measure a run of all stages up to the evaluation, and a second call that finds nothing to do."""
    quiet = ("--scheduler", "greedy", "--quiet", "rules", "reason", "host")
    run = call(folder, "evaluate", "--cores", "2", *quiet)
    again = call(folder, "evaluate", "-n")
    if "Nothing to be done" not in again.output:
        sys.exit(f"A second run has something to do:\n{again.output[-2000:]}")
    metadata = [p for p in (folder / ".snakemake/metadata").rglob("*") if p.is_file()]
    return [run, again, len(metadata), start_one_job(folder)]


@dataclass(frozen=True)
class Fit:
    """Power law of the number of participants fitted to a column, plus the fixed cost of any call."""

    name: str
    unit: str
    subjects: Sequence[int]
    values: Sequence[float]
    at_rest: float

    @property
    def law(self) -> tuple[float, float]:
        """Exponent and factor."""
        return growth(self.subjects, self.values, self.at_rest)

    def at(self, subjects: float) -> float:
        """Value for another number of participants."""
        exponent, factor = self.law
        return self.at_rest + factor * subjects**exponent

    def __str__(self) -> str:
        return (
            f"{self.name}: exponent {self.law[0]:.2f}; {FAR:,} participants would take "
            f"{self.at(FAR):,.{0 if self.at(FAR) > 100 else 1}f} {self.unit}."
        )


def table(heading: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Lines of a table in Markdown."""
    lines = [heading, ["---"] * len(heading), *rows]
    return ["| " + " | ".join(map(str, line)) + " |" for line in lines]


def row_of_plan(subjects: int, plan: Cost, shards: Cost, one: Cost) -> list[object]:
    """Format a row of the table of plans.

    Parameters
    ----------
    subjects : int
    plan, shards, one : Cost
        Dry run, dry run in shards, start of one job.

    Returns
    -------
    list
    """
    costs = (f"{value:.1f}" for value in (plan.seconds, plan.cpu_seconds, shards.seconds))
    starts = (f"{value:.2f}" for value in (one.seconds, one.cpu_seconds))
    return [f"{subjects:,}", f"{jobs_in(plan.output):,}", *costs, f"{plan.peak_gb:.2f}", *starts]


def row_of_run(subjects: int, run: Cost, again: Cost, metadata: int, one: Cost) -> list[object]:
    """Format a row of the table of runs.

    Parameters
    ----------
    subjects : int
    run, again : Cost
        First run, second call.
    metadata : int
        Number of Snakemake's metadata files.
    one : Cost
        Start of one job.

    Returns
    -------
    list
    """
    jobs = jobs_in(run.output)
    per_job = 1000 * run.seconds / jobs
    costs = [f"{run.seconds:.0f}", f"{per_job:.0f}", f"{again.seconds:.1f}"]
    return [f"{subjects:,}", f"{jobs:,}", *costs, f"{metadata:,}", f"{one.cpu_seconds:.2f}"]


def draw(path: Path, plans: Sequence[Fit], starts: Sequence[float], at_rest: float) -> None:
    """Plot seconds and memory with their extrapolation.

    Parameters
    ----------
    path : Path
        Image to write.
    plans : sequence of Fit
        Seconds and memory of dry runs.
    starts : sequence of float
        Seconds of the start of one job.
    at_rest : float
        The same in the smallest cohort.
    """
    figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    for axis, fit, goal in zip(axes, plans, (GOAL_SECONDS, GOAL_GB), strict=True):
        beyond = np.geomspace(fit.subjects[0], FAR, 50)
        axis.loglog(fit.subjects, fit.values, "o", label="dry run, all stages")
        law = f"{fit.at_rest:.2g} + {fit.law[1]:.2g} n^{fit.law[0]:.2f}"
        axis.loglog(beyond, [fit.at(n) for n in beyond], ":", color="C0", label=law)
        axis.axhline(goal, color="0.7", linewidth=0.8)
        text = {"fontsize": 8, "color": "0.4", "va": "bottom", "ha": "right"}
        axis.annotate("goal at 10,000", (FAR, goal), **text)
        axis.set(xlabel="subjects", ylabel=fit.unit)
    axes[0].loglog(plans[0].subjects, starts, "s", color="C1", label="start of one job")
    axes[0].axhline(at_rest, color="C1", linestyle=":", linewidth=0.8)
    axes[0].set_ylim(top=1e5)
    axes[1].set_ylim(top=1e3)
    for axis in axes:
        axis.legend(fontsize=8, loc="upper left")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure, fit, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("subjects", type=int, nargs="*", default=[100, 300, 1000, 3000, 10000])
    parser.add_argument("--run", type=int, nargs="*", default=[50, 100, 200])
    parser.add_argument("--tasks", nargs="+", default=["t1-fa"])
    parser.add_argument("--note", default="", help="remark to print with the results")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--plot", type=Path)
    wanted = parser.parse_args()
    sizes = [SMALLEST, *wanted.subjects]
    plans = [in_folder(n, wanted.tasks, planned) for n in sizes]
    runs = [in_folder(n, wanted.tasks, executed) for n in wanted.run]
    seconds, memory = zip(*((p.cpu_seconds, p.peak_gb) for p, *_ in plans), strict=True)
    fits = [
        Fit("Dry run", "CPU s", wanted.subjects, seconds[1:], seconds[0]),
        Fit("Its memory", "GB", wanted.subjects, memory[1:], memory[0]),
    ]
    at_rest, *starts = (one.cpu_seconds for *_, one in plans)
    lines = [
        f"`python benchmarks/scale.py`: tasks {', '.join(wanted.tasks)}; Snakemake alone, every "
        f"stage is an empty one. {os.cpu_count()} cores, Python {platform.python_version()}."
        + f" {wanted.note}".rstrip(),
        "",
        *table(
            PLAN_COLUMNS,
            [row_of_plan(n, *costs) for n, costs in zip(sizes, plans, strict=True)],
        ),
        "",
        f"Beyond what {SMALLEST} participants take:",
        "",
        *(f"- {fit}" for fit in fits),
        f"- Start of one job, CPU: {at_rest:.2f} s with {SMALLEST} participants, "
        f"{starts[-1]:.2f} s with {wanted.subjects[-1]:,}.",
    ]
    if runs:
        measured = zip(wanted.run, runs, strict=True)
        heading = ["subjects", "jobs run", "s", "ms a job", "nothing to do, s", "metadata files"]
        rows = [row_of_run(n, *values) for n, values in measured]
        lines += ["", *table([*heading, "one job's start, CPU s"], rows)]
    text = "\n".join(lines) + "\n"
    print(text)
    if wanted.out:
        wanted.out.write_text(text, encoding="utf-8")
    if wanted.plot:
        draw(wanted.plot, fits, starts, at_rest)


if __name__ == "__main__":
    main()
