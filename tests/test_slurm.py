"""The workflow on a real Slurm, brought up on this machine: needs, retries, and failures."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from conftest import not_here
from slurm_cluster import Cluster, missing
from small_cohort import small_model, train_arguments, write_cohort
from workflow import CHECKOUT

from m2m.io.files import file_digest
from m2m.train.history import read_rows

pytestmark = pytest.mark.end_to_end
SNAKEMAKE, M2M = (str(Path(sys.executable).with_name(name)) for name in ("snakemake", "m2m"))
STEPS = 800  # more than half a minute: Slurm looks at time limits twice a minute
CALLS = {}  # and what each prints; ended with the cluster, should a test leave one
SITE = {
    "latency-wait": 5,
    "slurm-init-seconds-before-status-checks": 2,
    "seconds-between-status-checks": 2,
}


@pytest.fixture(scope="module", params=["squeue", "sacct"])
def cluster(request, tmp_path_factory):
    """Slurm without accounting, watched by squeue; then with accounting, watched by sacct."""
    accounting = request.param == "sacct"
    if lacks := missing(accounting):
        not_here(f"Slurm cannot be started here: {', '.join(lacks)}")
    with Cluster(tmp_path_factory.mktemp("slurm"), accounting) as running:
        yield running
        end_calls()


@pytest.fixture
def faults(cluster, tmp_path):
    """Function that starts the profile on jobs that go wrong."""

    def call(*targets):
        return start(cluster, tmp_path, "--snakefile", str(CHECKOUT / "tests/faults.smk"), *targets)

    yield call
    end_calls()  # a test that failed leaves some
    subprocess.run(["scancel", "--me"], check=True)


def end_calls():
    """Kill every call that still runs."""
    for call in CALLS:
        call.kill()


def start(cluster, folder, *arguments):
    """`snakemake --profile slurm` at the root of the checkout, with a site's profile over it."""
    site = folder / "mysite"
    site.mkdir(exist_ok=True)
    (site / "profile.yaml").write_text(yaml.safe_dump(SITE))
    options = {"PARTITION": "short", "GPU_PARTITION": "accel", "SHARD": "2", "CORES": "2"}
    if cluster.accounting:
        options |= {"ACCOUNT": "lab", "STATUS": "sacct"}
    command = [SNAKEMAKE, "--profile", "slurm", "--profile", str(site), "--directory", str(folder)]
    log = folder / f"call{len(CALLS)}.log"  # a pipe that nothing reads would stop Snakemake
    # A test run in the background of a shell ignores Ctrl-C, and its children would, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    call = subprocess.Popen(
        [*command, *arguments],
        stdout=log.open("w"),
        stderr=subprocess.STDOUT,
        cwd=CHECKOUT,
        start_new_session=True,
        env=os.environ
        | {"PYTHONPATH": str(CHECKOUT)}
        | {f"M2M_SLURM_{name}": value for name, value in options.items()},
    )
    CALLS[call] = log
    return call


def printed(process):
    """Output of a call, once it has ended."""
    process.wait()
    return CALLS[process].read_text()


def finished(process):
    """Output of a call, once it has succeeded."""
    output = printed(process)
    assert process.returncode == 0, output[-5000:]
    return output


def jobs(rule="", state=""):
    """Slurm's record of every job of a rule, the oldest first; optionally only those in a state."""
    answer = subprocess.run(["scontrol", "--oneliner", "show", "job"], capture_output=True, text=True).stdout
    known = [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in answer.splitlines()]
    return [
        job
        for job in sorted(known, key=lambda job: int(job.get("JobId", 0)))
        if job.get("Comment", "").startswith(f"rule_{rule}") and state in job["JobState"]
    ]


def wait_for(condition, process=None):
    """Wait until a condition is met; fail where the call ends first."""
    while not (found := condition()):
        if process is not None and process.poll() is not None:
            pytest.fail(printed(process)[-5000:])
        time.sleep(0.2)
    return found


def running(rule, process=None):
    """The job of a rule that runs, as soon as one does."""
    return wait_for(lambda: jobs(rule, "RUNNING"), process)[-1]


def at_its_limit(job):
    """Bring a job's time limit forward to now; Slurm acts on it within half a minute."""
    update(f"JobId={job['JobId']}", "EndTime=now+1seconds")


def update(*what, check=True):
    """Change a job or a node, as an administrator does."""
    subprocess.run(["scontrol", "update", *what], check=check)


def nothing_left():
    """Whether no job waits, runs or ends."""
    return not subprocess.run(["squeue", "-h"], capture_output=True, text=True).stdout


def test_a_job_killed_at_its_time_limit_is_retried_with_more_time(faults, tmp_path):
    call = faults("timed")
    wait_for((tmp_path / "begun").exists, call)
    at_its_limit(running("timed"))
    finished(call)
    first, second = jobs("timed")[-2:]
    assert (first["JobState"], second["JobState"]) == ("TIMEOUT", "COMPLETED")
    assert second["TimeLimit"] == "00:02:00"


def test_a_job_killed_for_its_memory_is_retried_with_more(cluster, faults):
    if not cluster.accounting:
        pytest.skip("without accounting this Slurm watches no job's memory")
    finished(faults("hungry"))
    first, second = jobs("hungry")
    assert first["JobState"] != "COMPLETED" == second["JobState"]
    assert (first["MinMemoryNode"], second["MinMemoryNode"]) == ("500M", "1000M")
    assert first["Account"] == "lab"


def test_a_cancelled_job_is_submitted_again(cluster, faults, tmp_path):
    call = faults("waits")
    subprocess.run(["scancel", running("waits", call)["JobId"]], check=True)
    (tmp_path / "go").touch()
    if cluster.accounting:
        # sacct prints "CANCELLED by 0", which the plugin mistakes for a running job (version 2.8).
        wait_for(nothing_left)
        call.send_signal(signal.SIGINT)
        call.wait()
        call = faults("waits")
    finished(call)
    first, second = jobs("waits")[-2:]
    assert (first["JobState"], second["JobState"]) == ("CANCELLED", "COMPLETED")
    memory = ("500M", "500M") if cluster.accounting else ("500M", "1000M")
    assert (first["MinMemoryNode"], second["MinMemoryNode"]) == memory


def test_after_ctrl_c_no_job_remains_and_the_next_call_goes_on(faults, tmp_path):
    call = faults("waits")
    wait_for((tmp_path / "begun").exists, call)
    call.send_signal(signal.SIGINT)
    call.wait()
    wait_for(nothing_left)
    assert not (tmp_path / "waited").exists()
    (tmp_path / "go").touch()
    finished(faults("waits"))
    assert (tmp_path / "waited").exists()


def test_jobs_outlive_a_stopped_slurmd(cluster, faults, tmp_path):
    call = faults("waits")
    wait_for((tmp_path / "begun").exists, call)
    job = running("waits")
    cluster.stop("slurmd")
    (tmp_path / "go").touch()
    cluster.start_slurmd()
    finished(call)
    assert jobs("waits")[-1]["JobId"] == job["JobId"]


def test_the_job_of_a_node_that_fails_is_queued_again(cluster, faults, tmp_path):
    call = faults("waits")
    wait_for((tmp_path / "begun").exists, call)
    job, node = running("waits"), f"NodeName={cluster.values['host']}"
    update(node, "State=DOWN", "Reason=test")
    wait_for(lambda: jobs("waits", "PENDING"), call)
    update(node, "State=RESUME", check=False)  # it may be back by itself
    (tmp_path / "go").touch()
    finished(call)
    last = jobs("waits")[-1]
    assert (last["JobId"], last["Restarts"]) == (job["JobId"], "1")


def train(folder, *launcher):
    """Train a small model on the participants of a folder's parent; course without times, and output."""
    folder.mkdir()
    command = [*launcher, M2M, *train_arguments(folder.parent, folder, small_model())]
    one_thread = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "SLURM_ACCOUNT": "lab"}
    call = subprocess.run(command, capture_output=True, text=True, env=os.environ | one_thread)
    assert call.returncode == 0, call.stdout + call.stderr
    rows = [{**row, "seconds": 0} for row in read_rows(folder / "metrics.jsonl")]
    return rows, call.stdout + call.stderr


def test_two_tasks_of_srun_train_what_one_process_does(cluster, tmp_path):
    write_cohort(tmp_path)
    one, _ = train(tmp_path / "one")
    two, output = train(tmp_path / "two", "srun", "--ntasks=2", "--mem=4G")
    assert "Starting with 2 processes" in output
    for a, b in zip(one, two, strict=True):
        assert a.pop("subjects", None) == b.pop("subjects", None)
        assert a.pop("split") == b.pop("split") and b == pytest.approx(a, rel=1e-4)


@pytest.fixture(scope="module")
def study(cluster, tmp_path_factory):
    """The tiny study, T1 to FA; its first call is killed, its first training meets its limit."""
    if cluster.accounting:
        pytest.skip("the study runs once, without accounting")
    folder = tmp_path_factory.mktemp("study")
    config = yaml.safe_load((CHECKOUT / "tests/config.yaml").read_text())
    model = config["models"]["macro2micro"]
    model["training"] |= {
        "steps": STEPS,
        "validate_every": STEPS // 30,  # rows of its course
        "checkpoint_every": STEPS,  # none is written but at the limit
    }
    config["dataset"] = "slurm"
    config["cohort"]["phantom"]["n_subjects"] = 4
    config["models"] = {
        "macro2micro": model,
        "twin": {"base": "macro2micro"},
        "mean": {"family": "mean"},
    }
    config["tasks"] = {"t1-fa": {"models": list(config["models"])}}
    del config["downstream"]
    (folder / "config.yaml").write_text(yaml.safe_dump(config))

    def call(*arguments):
        return start(cluster, folder, "--configfile", str(folder / "config.yaml"), *arguments)

    root = folder / "results/slurm"
    outputs = {}
    first = call()
    running("", first)
    first.kill()
    first.wait()
    outputs["remaining"] = [job["JobId"] for job in jobs() if job["JobState"] in ("RUNNING", "PENDING")]
    before = len(jobs())
    outputs["next"] = printed(call())
    call("--unlock").wait()
    outputs["unlocked"] = printed(call())
    outputs["submitted"] = len(jobs()) - before
    run = (root / "logs/slurm_run").read_text().strip()
    subprocess.run(["scancel", f"--name={run}"], check=True)
    wait_for(nothing_left)

    second = call()
    training = running("train_model_wildcards_t1-fa_macro2micro", second)
    course = root / "models/t1-fa/macro2micro/training"
    wait_for(lambda: [path for path in course.glob("*/metrics.jsonl") if path.stat().st_size], second)
    at_its_limit(training)
    outputs["last"] = finished(second)
    return root, outputs


def test_after_kill_9_the_next_call_names_the_jobs_and_submits_none(study):
    _, outputs = study
    assert outputs["remaining"]
    for output in (outputs["next"], outputs["unlocked"]):
        assert "scancel --name=" in output
        assert all(f"\n  {number} " in output for number in outputs["remaining"])
    assert "--unlock" in outputs["next"]
    assert outputs["submitted"] == 0


def test_every_job_requests_the_resources_of_its_rule_in_the_right_partition(study):
    (training, *_), (fitted, *_) = jobs("train_model_wildcards_t1-fa_twin"), jobs("train_model_wildcards_t1-fa_mean")
    assert training["Partition"] == "accel" and training["TresPerJob"] == "gres:gpu:1"
    assert training["MinMemoryNode"] == "8000M" and training["TimeLimit"] == "1-00:00:00"
    assert fitted["Partition"] == "short" and "TresPerJob" not in fitted
    split = jobs("split")[0]
    assert split["Partition"] == "short" and split["MinMemoryNode"] == "1000M"
    assert split["TimeLimit"] == "00:10:00" and "TresPerJob" not in split


def test_participants_share_jobs_by_the_shard(study):
    shards = [job for job in jobs("participant-") if job["JobState"] == "COMPLETED"]
    assert len(shards) == 2  # four participants, two a job


def clocks_started(model):
    """How many processes wrote a model's course: each counts its seconds from zero."""
    rows = [json.loads(row) for row in (model / "metrics.jsonl").read_text().splitlines()]
    return 1 + sum(later["seconds"] < row["seconds"] for row, later in pairwise(rows))


def test_training_that_met_its_limit_goes_on_to_the_weights_of_one_that_did_not(study):
    root, _ = study
    attempts = jobs("train_model_wildcards_t1-fa_macro2micro")
    assert [job["JobState"] for job in attempts] == ["TIMEOUT", "COMPLETED"]
    assert attempts[1]["TimeLimit"] == "2-00:00:00"
    limited, whole = (root / f"models/t1-fa/{name}" for name in ("macro2micro", "twin"))
    assert clocks_started(limited) == 2 and clocks_started(whole) == 1  # it did not begin again
    assert file_digest(limited / "model.safetensors") == file_digest(whole / "model.safetensors")


def test_the_study_ends_with_its_report_and_no_job(study):
    root, _ = study
    assert (root / "report.html").exists() and nothing_left()
