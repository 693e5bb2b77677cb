"""Submit a job script of Snakemake to Kubernetes or AWS Batch, for the profiles of these names.

    python -m m2m.workflow.cloud_jobs kubernetes JOBSCRIPT

Snakemake's executor `cluster-generic` calls it and reads the job's name from its output. The job runs in an image with
m2m, in the folder that Snakemake was called from, since both have one volume at the same path (docs/cluster.md).
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# Of a job's name, on Kubernetes, which adds five letters; AWS Batch allows 128.
MOST_LETTERS = 50
# AWS Batch accepts no shorter limit, in seconds.
SHORTEST_S = 60


def properties_of(script: Path) -> dict[str, Any]:
    """Properties of a job that Snakemake wrote into its script: rule or group, threads, resources.

    Parameters
    ----------
    script : Path

    Returns
    -------
    dict
        name (of letters, digits and hyphens), threads, mem_mb, seconds, gpus.
    """
    (text,) = re.findall(r"^# properties = (.*)$", script.read_text(encoding="utf-8"), re.M)
    job = json.loads(text)
    resources = job["resources"]
    name = re.sub("[^a-z0-9]+", "-", f"m2m-{job.get('rule') or job['groupid']}".lower())
    return {
        "name": name[:MOST_LETTERS].strip("-"),
        "threads": int(job["threads"]),
        "mem_mb": int(resources["mem_mb"]),
        "seconds": max(SHORTEST_S, 60 * int(resources["runtime"])),
        "gpus": int(resources.get("gpu", 0)),
    }


def setting(name: str, meaning: str) -> str:
    """Value of an environment variable; ends the process with a message where it is not set."""
    if value := os.environ.get(name):
        return value
    raise SystemExit(f"{name} is not set: {meaning}; see docs/cluster.md")


def kubernetes_job(script: Path, job: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Manifest of a Kubernetes job that runs a script as the user who submits it.

    Parameters
    ----------
    script : Path
        On the volume.
    job : mapping
        Of `properties_of`.
    folder : Path
        Working directory, on the volume.

    Returns
    -------
    dict
    """
    memory = f"{job['mem_mb']}M"
    gpus = {"nvidia.com/gpu": job["gpus"]} if job["gpus"] else {}
    container = {
        "name": "job",
        "image": setting("M2M_K8S_IMAGE", "the image with m2m, as envs/Dockerfile makes it"),
        "command": ["sh", str(script)],
        "workingDir": str(folder),
        "env": [{"name": "HOME", "value": "/tmp"}],
        "resources": {
            "requests": {"cpu": str(job["threads"]), "memory": memory},
            "limits": {"memory": memory, **gpus},
        },
        "volumeMounts": [{"name": "shared", "mountPath": setting("M2M_K8S_MOUNT", "the path of the shared volume")}],
    }
    claim = setting("M2M_K8S_CLAIM", "the claim of the shared volume")
    pod = {
        "restartPolicy": "Never",
        "securityContext": {"runAsUser": os.getuid(), "runAsGroup": os.getgid()},
        "containers": [container],
        "volumes": [{"name": "shared", "persistentVolumeClaim": {"claimName": claim}}],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"generateName": f"{job['name']}-", "labels": {"app": "m2m"}},
        # Snakemake repeats a failed job, with more memory and time; finished ones are removed after a day.
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": job["seconds"],
            "ttlSecondsAfterFinished": 86400,
            "template": {"spec": pod},
        },
    }


def batch_command(script: Path, job: Mapping[str, Any]) -> list[str]:
    """Command that submits a script to AWS Batch; image and volume are those of the job definition.

    Parameters
    ----------
    script : Path
        On the volume.
    job : mapping
        Of `properties_of`.

    Returns
    -------
    list of str
    """
    queue = setting("M2M_BATCH_QUEUE", "the job queue")
    needs = {"VCPU": job["threads"], "MEMORY": job["mem_mb"]}
    if job["gpus"]:
        queue, needs["GPU"] = os.environ.get("M2M_BATCH_GPU_QUEUE") or queue, job["gpus"]
    requirements = [{"type": kind, "value": str(value)} for kind, value in needs.items()]
    definition = setting("M2M_BATCH_DEFINITION", "the job definition, with the image and the shared volume")
    overrides = {"command": ["sh", str(script)], "resourceRequirements": requirements}
    return [
        *("aws", "batch", "submit-job", "--job-name", job["name"], "--job-queue", queue),
        *("--job-definition", definition, "--timeout", f"attemptDurationSeconds={job['seconds']}"),
        *("--container-overrides", json.dumps(overrides), "--query", "jobId", "--output", "text"),
    ]


def main(arguments: Sequence[str]) -> int:
    """Submit a job script; the program that submits it prints the job's name."""
    provider, name = arguments
    script = Path(name).resolve()
    job = properties_of(script)
    if provider == "kubernetes":
        manifest = json.dumps(kubernetes_job(script, job, Path.cwd()))
        command = ["kubectl", "create", "--filename", "-", "--output", "jsonpath={.metadata.name}"]
        return subprocess.run(command, input=manifest, text=True).returncode
    return subprocess.run(batch_command(script, job)).returncode


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
