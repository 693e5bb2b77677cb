"""`snakemake --profile slurm`: the resources that each job requests."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from workflow import CHECKOUT

sys.path.insert(0, str(CHECKOUT / "benchmarks"))
from scale import lay_out, write_config

pytestmark = pytest.mark.workflow
PARTS = ("Snakefile", "rules", "envs", "m2m", "config.yaml", "slurm", "profiles")
SITE = {
    "ACCOUNT": "lab",
    "PARTITION": "short",
    "GPU_PARTITION": "accel",
    "GPU_MODEL": "a100",
    "TRAIN_RUNTIME": "7",
    "CORES": "2",
    "MEM_MB": "16000",
    "JOBS": "3",
    "SHARD": "2",
}


# Records its arguments and refuses.
SBATCH = """#!/bin/sh
case "$0" in */sbatch) echo "$@" >> arguments;; esac
echo "no such cluster" >&2
exit 1
"""


def profile(folder, *arguments, **site):
    """`snakemake --profile slurm` at the root of a repository that links to this one."""
    for part in PARTS:
        if not (folder / part).exists():
            (folder / part).symlink_to(CHECKOUT / part)
    clean = {name: v for name, v in os.environ.items() if not name.startswith("M2M_SLURM_")}
    settings = {f"M2M_SLURM_{name}": value for name, value in site.items()}
    folders = (str(folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"])
    paths = {"PATH": os.pathsep.join(folders), "PYTHONPATH": str(CHECKOUT)}
    return subprocess.run(
        ["snakemake", "--profile", "slurm", *arguments],
        text=True,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=clean | settings | paths,
    )


def dry_run(folder, **site):
    """Output for all jobs of the demo."""
    run = profile(folder, "-n", **site)
    assert run.returncode == 0, run.stdout
    return run.stdout


def resources(output, rule, wildcards=""):
    """Resources of the first job of a rule, with these wildcards, by name."""
    for job in re.findall(rf"^ *(?:local)?(?:rule|checkpoint) {rule}:\n((?: .*\n)+)", output, re.M):
        if wildcards in job:
            (line,) = re.findall(r"^ +resources: (.*)$", job, re.M)
            return dict(resource.split("=", 1) for resource in line.split(", "))
    raise AssertionError(f"no job of {rule} with {wildcards}")


def test_the_profile_gives_each_job_the_site_s_settings(tmp_path):
    output = dry_run(tmp_path, **SITE)
    network = resources(output, "train_model", "task=t1-fa, model=m2m")
    mean = resources(output, "train_model", "task=t1-fa, model=mean")
    split = resources(output, "split")
    assert (network["slurm_partition"], network["runtime"]) == ("accel", "7")
    assert (network["gpu"], network["gpu_model"]) == ("1", "a100")
    assert (mean["slurm_partition"], mean["runtime"]) == ("short", "7")
    assert (mean["gpu"], mean["gpu_model"]) == ("0", "")
    assert split["slurm_partition"] == "short" and not split.keys() & {"gpu", "gpu_model"}
    assert {job["slurm_account"] for job in (network, mean, split)} == {"lab"}
    assert output.count("rule simulate:") == 2 * output.count("Group job simulation-") > 0


def test_without_settings_a_site_gets_the_cluster_s_own_partition_and_any_gpu(tmp_path):
    network = resources(dry_run(tmp_path), "train_model", "task=t1-fa, model=m2m")
    assert (network["slurm_partition"], network["runtime"]) == ("", "1440")
    assert (network["gpu"], network["gpu_model"]) == ("1", "")
    assert "slurm_account" not in network


def test_sbatch_receives_them_and_at_each_attempt_more_time_and_memory_up_to_the_site_s(tmp_path):
    lay_out(tmp_path, 3)
    write_config(tmp_path / "config.yaml", ["t1-fa"])
    for table in ("slices", "deformed"):
        (tmp_path / f"results/scale/cohort/{table}.tsv").touch()
    (tmp_path / "bin").mkdir()
    for name in ("sbatch", "sacct", "sacctmgr", "scontrol", "sinfo", "squeue"):
        (tmp_path / "bin" / name).write_text(SBATCH)
        (tmp_path / "bin" / name).chmod(0o755)
    site = {name: v for name, v in SITE.items() if name != "ACCOUNT"} | {"POLL": "1"}
    call = profile(tmp_path, "train", "--allowed-rules", "train", "train_model", **site)
    assert "sbatch failed. The error message was 'no such cluster'" in call.stdout, call.stdout
    calls = [line.partition(" --wrap")[0] for line in (tmp_path / "arguments").open()]
    for model, partition, gpus in (("m2m", "accel", ["a100:1"]), ("mean", "short", [])):
        attempts = [line for line in calls if line.split(" -p ")[0].endswith(f"t1-fa_{model}")]
        assert len(attempts) == 4
        for n, line in enumerate(attempts, 1):
            assert f" -p {partition} -t {7 * n} --mem {min(8000 * n, 16000)} " in line
            assert re.findall(r"--gpus=(\S+)", line) == gpus
