"""Time and memory of planning the whole workflow for many people (``snakemake -n``).

Scans are the zero-byte files of a BIDS dataset. The cohort's tables are written here, as if the
checkpoint had run, so that the plan holds every job of every person. Nothing is executed.

    python benchmarks/dry_run.py 100 1000 10000                   # T1 to FA
    python benchmarks/dry_run.py 1000 --tasks t1-fa fa-tdi        # some tasks of config.yaml
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import psutil
import yaml

from m2m.phantom import labels
from m2m.stage import write_json, write_table

ROOT = Path(__file__).resolve().parents[1]
SCANS = {
    "t1w": "anat/{}_T1w.nii.gz",
    "dwi": "dwi/{}_dwi.nii.gz",
    "bval": "dwi/{}_dwi.bval",
    "bvec": "dwi/{}_dwi.bvec",
}


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


def plan(folder: Path, tasks: list[str]) -> tuple[float, float]:
    """Run the dry run; return seconds and peak memory in GB."""
    write_config(folder / "config.yaml", tasks)
    command = [
        *(sys.executable, "-m", "snakemake", "-n", "-q", "--snakefile", str(ROOT / "Snakefile")),
        *("--configfile", str(folder / "config.yaml"), "--directory", str(folder)),
    ]
    start, peak = time.perf_counter(), 0
    log = folder / "plan.log"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with log.open("w") as stream:
        process = psutil.Popen(command, stdout=stream, stderr=stream, env=environment)
        while process.poll() is None:
            tree = [process, *process.children(recursive=True)]
            peak = max(peak, sum(_resident(p) for p in tree))
            time.sleep(0.1)
    if process.returncode:
        sys.exit(log.read_text()[-2000:])
    return time.perf_counter() - start, peak / 1e9


def _resident(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.NoSuchProcess:
        return 0


def main() -> None:
    """Print a row for each size of cohort."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("subjects", type=int, nargs="*", default=[100, 1000, 10000])
    parser.add_argument("--tasks", nargs="+", default=["t1-fa"])
    wanted = parser.parse_args()
    print("subjects\tseconds\tpeak_GB")
    for n_subjects in wanted.subjects:
        with tempfile.TemporaryDirectory() as name:
            lay_out(Path(name), n_subjects)
            seconds, gigabytes = plan(Path(name), wanted.tasks)
            print(f"{n_subjects}\t{seconds:.1f}\t{gigabytes:.2f}", flush=True)


if __name__ == "__main__":
    main()
