"""`--sdm apptainer` and `--sdm conda`, with stand-ins of both programs."""

import os

import pytest
from workflow import planned, snakemake

pytestmark = pytest.mark.workflow
# Records how it is called, and runs the job's command, as the image would.
APPTAINER = """#!/bin/sh
case "$1" in
    --version) echo "apptainer version 1.3.4" ;;
    *)
        echo "$@" >> calls
        while [ "$1" != -c ]; do shift; done
        exec bash -c "$2"
        ;;
esac
"""
CONDA = """#!/bin/sh
case "$*" in
    *--version*) echo "conda 24.7.1" ;;
    *info*) echo '{"conda_prefix": "/opt/conda", "platform": "linux-64", "root_prefix": "/opt/conda"}' ;;
    *) echo '{"get": {"channel_priority": "strict"}}' ;;
esac
"""


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Both stand-ins, first on the path."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (("apptainer", APPTAINER), ("conda", CONDA)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def test_a_job_runs_in_the_image_with_sdm_apptainer(programs):
    plan = snakemake(programs, "-n", "--quiet", "rules", "reason", "host", "--sdm", "apptainer")
    assert plan.returncode == 0 and planned(plan.stdout)["simulate"] == 6, plan.stdout
    target = "results/tiny/rawdata/participants.tsv"
    run = snakemake(programs, "--cores", "1", "--sdm", "apptainer", "--", target)
    assert run.returncode == 0, run.stdout
    (line,) = (programs / "calls").read_text().splitlines()
    assert line.startswith(f"exec --home {programs}") and " m2m.sif bash -c " in line
    assert "m2m participants --root results/tiny" in line and (programs / target).exists()


def test_every_rule_has_an_environment_with_sdm_conda(programs):
    plan = snakemake(programs, "-n", "--sdm", "conda")
    assert plan.returncode == 0, plan.stdout
    created = {line.split("envs/")[1].split()[0] for line in plan.stdout.splitlines() if "Conda environment" in line}
    assert created == {"m2m.yaml"}, "those of the tiny study's rules"
