"""Profiles for Kubernetes and AWS Batch: what they plan, and what they submit to stand-ins of `kubectl` and `aws`."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import not_here
from workflow import CHECKOUT, planned

from m2m.workflow import cloud_jobs

PARTS = ("Snakefile", "rules", "envs", "m2m", "config.yaml", "profiles", "tests")
PROFILES = ("kubernetes", "aws-batch")
SITE = {
    "M2M_K8S_IMAGE": "registry.example.org/m2m:1",
    "M2M_K8S_CLAIM": "study",
    "M2M_K8S_MOUNT": "/study",
    "M2M_BATCH_QUEUE": "cpus",
    "M2M_BATCH_GPU_QUEUE": "gpus",
    "M2M_BATCH_DEFINITION": "m2m:3",
    "M2M_CLOUD_POLL": "1",
}
# Both record their calls and run a submitted script at once, as the pod or the container would.
STAND_IN = """#!{python}
import json, subprocess, sys
from pathlib import Path
arguments = sys.argv[1:]
kubernetes = Path(sys.argv[0]).name == "kubectl"
if {{"create", "submit-job"}} & set(arguments):
    if kubernetes:
        job = json.load(sys.stdin)
        container = job["spec"]["template"]["spec"]["containers"][0]
    else:
        job = container = json.loads(arguments[arguments.index("--container-overrides") + 1])
    print(json.dumps([arguments, job]), file=open("submitted", "a"))
    folder = container.get("workingDir", "/")
    ended = subprocess.run(container["command"], cwd=folder, stdout=sys.stderr).returncode
    Path("ended").write_text(str(ended))
    print("m2m-1")
else:
    succeeded = Path("ended").read_text() == "0"
    states = ("m2m-1 Complete", "m2m-1 Failed") if kubernetes else ("SUCCEEDED", "FAILED")
    print(states[not succeeded])
"""


@pytest.fixture
def executor():
    """The executor of both profiles."""
    if importlib.util.find_spec("snakemake_executor_plugin_cluster_generic") is None:
        not_here("snakemake-executor-plugin-cluster-generic is not installed")


@pytest.fixture
def folder(executor, tmp_path):
    """The repository, by links, with stand-ins of the programs that submit."""
    for part in PARTS:
        (tmp_path / part).symlink_to(CHECKOUT / part)
    (tmp_path / "bin").mkdir()
    for name in ("kubectl", "aws"):
        program = tmp_path / "bin" / name
        program.write_text(STAND_IN.format(python=sys.executable))
        program.chmod(0o755)
    return tmp_path


def call(folder, provider, *arguments, **settings):
    """`snakemake --profile profiles/<provider>` in the folder; output and errors as one text."""
    folders = (str(folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"])
    paths = {"PATH": os.pathsep.join(folders), "PYTHONPATH": os.pathsep.join([str(CHECKOUT), *sys.path[1:]])}
    command = ["snakemake", "--profile", f"profiles/{provider}", *arguments, "--configfile", "tests/config.yaml"]
    merged = subprocess.STDOUT
    return subprocess.run(
        command, text=True, cwd=folder, stdout=subprocess.PIPE, stderr=merged, env=os.environ | paths | settings
    )


@pytest.mark.workflow
@pytest.mark.parametrize("provider", PROFILES)
def test_the_tiny_study_is_planned_with_shards_without_a_cluster(folder, provider):
    run = call(folder, provider, "-n")
    assert run.returncode == 0, run.stdout
    assert planned(run.stdout)["simulate"] == 6 and "Group job simulation" in run.stdout
    assert re.search(r"rule train_model:(?:\n .*)*runtime=1440", run.stdout)


@pytest.mark.workflow
@pytest.mark.parametrize("provider", PROFILES)
def test_a_job_is_submitted_with_its_needs_and_its_end_is_noticed(folder, provider):
    run = call(folder, provider, "results/tiny/rawdata/participants.tsv", **SITE)
    assert run.returncode == 0, run.stdout
    assert (folder / "results/tiny/rawdata/participants.tsv").read_text().startswith("participant_id")
    ((arguments, job),) = map(json.loads, (folder / "submitted").open())
    if provider == "kubernetes":
        (container,) = job["spec"]["template"]["spec"]["containers"]
        assert arguments[:3] == ["create", "--filename", "-"]
        assert (container["image"], container["workingDir"]) == (SITE["M2M_K8S_IMAGE"], str(folder))
        assert job["metadata"]["generateName"] == "m2m-participants-"
    else:
        assert arguments[arguments.index("--job-queue") + 1] == "cpus"
        assert arguments[arguments.index("--job-name") + 1] == "m2m-participants"
    assert "external jobid 'm2m-1'" in run.stdout


@pytest.fixture
def script(tmp_path):
    """Script of a job that trains on a GPU."""
    resources = {"mem_mb": 16000, "runtime": 90, "gpu": 1, "tmpdir": "/tmp"}
    properties = {"type": "single", "rule": "train_model", "threads": 4, "resources": resources}
    path = tmp_path / "job.sh"
    path.write_text(f"#!/bin/sh\n# properties = {json.dumps(properties)}\ncd /study && true\n")
    return path


def test_a_job_asks_for_cores_memory_time_and_gpus(script, monkeypatch):
    for name, value in SITE.items():
        monkeypatch.setenv(name, value)
    job = cloud_jobs.properties_of(script)
    assert job == {"name": "m2m-train-model", "threads": 4, "mem_mb": 16000, "seconds": 5400, "gpus": 1}
    manifest = cloud_jobs.kubernetes_job(script, job, Path("/study"))
    pod = manifest["spec"]["template"]["spec"]
    assert manifest["spec"]["activeDeadlineSeconds"] == 5400 and manifest["spec"]["backoffLimit"] == 0
    assert pod["containers"][0]["resources"] == {
        "requests": {"cpu": "4", "memory": "16000M"},
        "limits": {"memory": "16000M", "nvidia.com/gpu": 1},
    }
    assert pod["volumes"] == [{"name": "shared", "persistentVolumeClaim": {"claimName": "study"}}]
    assert pod["containers"][0]["volumeMounts"] == [{"name": "shared", "mountPath": "/study"}]
    assert pod["securityContext"]["runAsUser"] == os.getuid()
    command = cloud_jobs.batch_command(script, job)
    assert command[command.index("--job-queue") + 1] == "gpus"
    assert command[command.index("--timeout") + 1] == "attemptDurationSeconds=5400"
    overrides = json.loads(command[command.index("--container-overrides") + 1])
    needs = {one["type"]: one["value"] for one in overrides["resourceRequirements"]}
    assert needs == {"VCPU": "4", "MEMORY": "16000", "GPU": "1"}
    assert overrides["command"] == ["sh", str(script)]


def test_a_setting_that_is_missing_is_named(script, monkeypatch):
    for name in SITE:
        monkeypatch.delenv(name, raising=False)
    job = cloud_jobs.properties_of(script)
    with pytest.raises(SystemExit, match=r"M2M_K8S_IMAGE is not set: .*docs/cluster\.md"):
        cloud_jobs.kubernetes_job(script, job, Path("/study"))
    with pytest.raises(SystemExit, match="M2M_BATCH_QUEUE is not set"):
        cloud_jobs.batch_command(script, job)


@pytest.mark.parametrize(
    ("provider", "answer", "state"),
    [
        ("kubernetes", "echo 'm2m-1 SuccessCriteriaMet Complete'", "success"),
        ("kubernetes", "echo 'm2m-1 FailureTarget Failed'", "failed"),
        ("kubernetes", "echo 'm2m-1 '", "running"),
        ("kubernetes", "exit 0", "failed"),  # it is gone
        ("kubernetes", "exit 1", "running"),  # no answer
        ("aws-batch", "echo SUCCEEDED", "success"),
        ("aws-batch", "echo FAILED", "failed"),
        ("aws-batch", "echo RUNNABLE", "running"),
        ("aws-batch", "echo None", "failed"),
        ("aws-batch", "exit 1", "running"),
    ],
)
def test_the_state_of_a_job_is_that_of_the_cluster(tmp_path, provider, answer, state):
    program = tmp_path / {"kubernetes": "kubectl", "aws-batch": "aws"}[provider]
    program.write_text(f"#!/bin/sh\n{answer}\n")
    program.chmod(0o755)
    path = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    asked = [CHECKOUT / "profiles" / provider / "status", "m2m-1"]
    assert subprocess.run(asked, env=os.environ | path, capture_output=True, text=True).stdout.strip() == state


@pytest.mark.parametrize("provider", PROFILES)
def test_both_profiles_are_those_of_slurm_where_the_provider_does_not_matter(provider):
    own = yaml.safe_load((CHECKOUT / "profiles" / provider / "config.yaml").read_text())
    slurm = yaml.safe_load((CHECKOUT / "slurm/profile.v9+.yaml").read_text())
    shared = ("group-components", "keep-going", "retries", "rerun-incomplete", "scheduler", "latency-wait")
    assert {key: own[key] for key in shared} == {key: slurm[key] for key in shared}
    assert provider in own["cluster-generic-submit-cmd"]
