"""Check the settings of the profiles `kubernetes` and `aws-batch` (docs/cluster.md) before jobs are submitted."""

import shutil
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path

from m2m.cohort.cluster_checks import Check
from m2m.io.programs import finished

NUMBERS = ("M2M_CLOUD_JOBS", "M2M_CLOUD_CORES", "M2M_CLOUD_SHARD", "M2M_CLOUD_POLL")


class Cloud(StrEnum):
    """Profile whose settings are checked."""

    KUBERNETES = "kubernetes"
    AWS_BATCH = "aws-batch"


# Variables that `m2m.workflow.cloud_jobs` cannot do without.
NEEDED = {
    Cloud.KUBERNETES: ("M2M_K8S_IMAGE", "M2M_K8S_CLAIM", "M2M_K8S_MOUNT"),
    Cloud.AWS_BATCH: ("M2M_BATCH_QUEUE", "M2M_BATCH_DEFINITION"),
}
PROGRAM = {Cloud.KUBERNETES: "kubectl", Cloud.AWS_BATCH: "aws"}


def cloud(kind: Cloud, variables: Mapping[str, str], folder: Path) -> Iterator[Check]:
    """Variables of the profile, its program, and what the service answers.

    Parameters
    ----------
    kind : Cloud
    variables : mapping
        Of the environment.
    folder : Path
        Working directory, which must be on the shared volume.
    """
    wrong = [f"{name} is not set" for name in NEEDED[kind] if not variables.get(name)]
    wrong += [f"{name}={variables[name]}" for name in NUMBERS if not variables.get(name, "1").isdigit()]
    if wrong:
        yield Check("failure", f"{kind} settings", ", ".join(wrong), "set them (docs/cluster.md)")
        return
    if shutil.which(PROGRAM[kind]) is None:
        remedy = f"install {PROGRAM[kind]} where Snakemake runs, and log in"
        yield Check("failure", kind, f"not on PATH: {PROGRAM[kind]}", remedy)
        return
    yield from (_kubernetes if kind == Cloud.KUBERNETES else _aws_batch)(variables, folder)


def _kubernetes(variables: Mapping[str, str], folder: Path) -> Iterator[Check]:
    """Whether jobs may be made, the claim exists, and the working directory is on its volume."""
    mount = Path(variables["M2M_K8S_MOUNT"])
    if not folder.is_relative_to(mount):
        remedy = "call Snakemake in a folder on the shared volume, which has the same path in the pods"
        yield Check("failure", "M2M_K8S_MOUNT", f"{folder} is not below {mount}", remedy)
    claim = variables["M2M_K8S_CLAIM"]
    questions = {
        "jobs": ("auth", "can-i", "create", "jobs.batch"),
        "M2M_K8S_CLAIM": ("get", "persistentvolumeclaim", claim, "--output", "name"),
    }
    for what, question in questions.items():
        yield _answered(what, ("kubectl", *question), "ask the cluster's administrators, or correct the setting")


def _aws_batch(variables: Mapping[str, str], folder: Path) -> Iterator[Check]:
    """Whether the queue is ready and the job definition active; the volume is the definition's."""
    queue, definition = (variables[name] for name in NEEDED[Cloud.AWS_BATCH])
    queues = ("describe-job-queues", "--job-queues", queue, "--query", "jobQueues[].state")
    definitions = ("describe-job-definitions", "--job-definition-name", definition.partition(":")[0])
    query = ("--status", "ACTIVE", "--query", "jobDefinitions[].revision")
    for what, question in (("M2M_BATCH_QUEUE", queues), ("M2M_BATCH_DEFINITION", (*definitions, *query))):
        asked = ("aws", "batch", *question, "--output", "text")
        yield _answered(what, asked, "correct the setting, or the region and account that `aws` uses")


def _answered(what: str, command: tuple[str, ...], remedy: str) -> Check:
    """Whether a service answers with something, other than no."""
    status, answer = finished(command)
    last = (answer.strip().splitlines() or ["there is none"])[-1]
    wrong = status or not answer.strip() or last in ("no", "None", "DISABLED")
    return Check("failure", what, last, remedy) if wrong else Check("OK", what, last)
