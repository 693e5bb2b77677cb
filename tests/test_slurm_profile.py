"""`snakemake --profile slurm` as it is typed: what each job of a dry run would ask Slurm for."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from workflow import CHECKOUT

pytestmark = pytest.mark.workflow
PARTS = ("Snakefile", "rules", "envs", "m2m", "config.yaml", "slurm", "profiles")
SITE = {
    "ACCOUNT": "lab", "PARTITION": "short", "GPU_PARTITION": "accel", "GPU_MODEL": "a100",
    "TRAIN_RUNTIME": "7", "CORES": "2", "MEM_MB": "16000", "JOBS": "3", "SHARD": "2",
}  # fmt: skip


def dry_run(folder, **site):
    """What `snakemake --profile slurm -n` prints at the root of a repository that links to this."""
    for part in PARTS:
        (folder / part).symlink_to(CHECKOUT / part)
    clean = {name: v for name, v in os.environ.items() if not name.startswith("M2M_SLURM_")}
    told = {f"M2M_SLURM_{name}": value for name, value in site.items()}
    paths = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(CHECKOUT),
    }
    run = subprocess.run(
        ["snakemake", "--profile", "slurm", "-n"], capture_output=True, text=True, cwd=folder,
        env=clean | told | paths,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout + run.stderr


def asked(output, rule, wildcards=""):
    """Resources of the first job of a rule, with these wildcards, by name."""
    for job in re.findall(rf"^ *(?:local)?(?:rule|checkpoint) {rule}:\n((?: .*\n)+)", output, re.M):
        if wildcards in job:
            (line,) = re.findall(r"^ +resources: (.*)$", job, re.M)
            return dict(resource.split("=", 1) for resource in line.split(", "))
    raise AssertionError(f"no job of {rule} with {wildcards}")


def test_the_profile_gives_each_job_what_the_site_says(tmp_path):
    output = dry_run(tmp_path, **SITE)
    network = asked(output, "train_model", "task=t1-fa, model=macro2micro")
    mean = asked(output, "train_model", "task=t1-fa, model=mean")
    split = asked(output, "split")
    assert (network["slurm_partition"], network["runtime"]) == ("accel", "7")
    assert (network["gpu"], network["gpu_model"]) == ("1", "a100")
    assert (mean["slurm_partition"], mean["runtime"]) == ("short", "7")
    assert (mean["gpu"], mean["gpu_model"]) == ("0", "")
    assert split["slurm_partition"] == "short" and not split.keys() & {"gpu", "gpu_model"}
    assert {job["slurm_account"] for job in (network, mean, split)} == {"lab"}
    assert output.count("rule simulate:") == 2 * output.count("Group job simulation-") > 0


def test_a_site_that_says_nothing_gets_the_cluster_s_own_partition_and_any_gpu(tmp_path):
    network = asked(dry_run(tmp_path), "train_model", "task=t1-fa, model=macro2micro")
    assert (network["slurm_partition"], network["runtime"]) == ("", "1440")
    assert (network["gpu"], network["gpu_model"]) == ("1", "")
    assert "slurm_account" not in network
