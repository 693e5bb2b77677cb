"""Several processes (gloo, on the CPU) train like a single one: the same batch, the same steps."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import in_processes
import pytest
import torch
from lightning_fabric.plugins.environments import (
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from small_cohort import small_model, train_arguments, write_cohort
from typer.testing import CliRunner

from m2m.cli import app
from m2m.io.errors import DataError
from m2m.io.files import read_json
from m2m.models.record import load_model
from m2m.train.checkpoint import Checkpoints
from m2m.train.history import read_rows
from m2m.train.launch import find_processes, make_fabric

HELPER = Path(in_processes.__file__)
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
M2M = str(Path(sys.executable).with_name("m2m"))
# A batch job of two tasks: Slurm sets many variables, but has started one process.
BATCH_JOB = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
SRUN = {
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_TASKS_PER_NODE": "1(x2)",
    "SLURM_NNODES": "2",
    "SLURM_NODELIST": "localhost",
    "SLURM_LOCALID": "0",
}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Folder of participants whose masks differ from slice to slice."""
    root = tmp_path_factory.mktemp("cohort")
    write_cohort(root, n_train=3, n_validation=2)
    return root


def start(command, **variables):
    """Start a process on the CPU with one thread, without the Slurm variables of the test run."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "TORCHELASTIC_"))}
    return subprocess.Popen(
        [str(part) for part in command],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=clean | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"} | variables,
    )


def finish(processes):
    """Wait for processes; return their exit statuses and their output."""
    try:
        outputs = [process.communicate(timeout=600)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], "\n".join(outputs)


def run(command, **variables):
    """Run to the end; return exit status and output."""
    (status,), output = finish([start(command, **variables)])
    return status, output


def run_as_srun_does(command):
    """Run one process on each of two nodes, both on this machine; return their exit statuses."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    numbers = [{"SLURM_PROCID": str(i), "SLURM_NODEID": str(i)} for i in range(2)]
    return finish([start(command, **(BATCH_JOB | SRUN | address | n)) for n in numbers])


def last_state(folder):
    """State in the newest checkpoint of a training folder."""
    (configuration,) = folder.glob("training/*/configuration.json")
    return Checkpoints(folder / "training", read_json(configuration)).load()


def rows(folder):
    """Training log, without the times."""
    return [
        {key: value for key, value in row.items() if key != "seconds"} for row in read_rows(folder / "metrics.jsonl")
    ]


@pytest.fixture(scope="module")
def together(cohort, tmp_path_factory):
    """A run from start to end in two processes, the second started by the first."""
    folder = tmp_path_factory.mktemp("together")
    arguments = train_arguments(cohort, folder, small_model(devices=2))
    status, output = run([M2M, *arguments], **BATCH_JOB)
    assert status == 0 and "Starting with 2 processes" in output, output
    return folder


@pytest.mark.parametrize(
    ("variables", "kind", "devices", "nodes"),
    [
        ({}, LightningEnvironment, 3, 1),
        (BATCH_JOB, LightningEnvironment, 3, 1),
        (BATCH_JOB | {"SLURM_STEP_NUM_TASKS": "1"}, LightningEnvironment, 3, 1),
        (BATCH_JOB | SRUN | {"SLURM_PTY_PORT": "4"}, LightningEnvironment, 3, 1),
        (BATCH_JOB | SRUN, SLURMEnvironment, 1, 2),
        (
            BATCH_JOB
            | SRUN
            | {
                "SLURM_STEP_NUM_TASKS": "8",
                "SLURM_STEP_TASKS_PER_NODE": "4(x2)",
                "SLURM_JOB_NAME": "interactive",
                "SLURM_NTASKS_PER_NODE": "1",
            },
            SLURMEnvironment,
            4,
            2,
        ),
        (
            BATCH_JOB | SRUN | {"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "6"},
            TorchElasticEnvironment,
            2,
            3,
        ),
    ],
)
def test_processes_are_those_already_started_or_our_own(monkeypatch, variables, kind, devices, nodes):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SLURM_NTASKS_PER_NODE", variables.get("SLURM_NTASKS_PER_NODE", "1"))
    environment, *counts = find_processes(3)
    assert type(environment) is kind and counts == [devices, nodes]
    environment.validate_settings(devices, nodes)


def test_uneven_nodes_and_batches_are_refused(monkeypatch):
    uneven = {"SLURM_STEP_TASKS_PER_NODE": "2,1", "SLURM_NTASKS_PER_NODE": "2"}
    for name, value in (BATCH_JOB | SRUN | uneven).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(DataError, match=r"found SLURM_STEP_TASKS_PER_NODE 2,1\); .*per-node"):
        make_fabric(small_model().training)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "3")
    monkeypatch.setenv("SLURM_STEP_TASKS_PER_NODE", "3")
    with pytest.raises(DataError, match=r"among 3 processes \(found batch_size 4\)"):
        make_fabric(small_model().training)


def test_every_family_has_the_terms_and_gradients_of_one_process(cohort, tmp_path):
    status, output = run([*TORCHRUN, HELPER, "steps", cohort / "slices", tmp_path / "two.pt"])
    assert status == 0, output
    two = torch.load(tmp_path / "two.pt", weights_only=True)
    one = in_processes.steps(make_fabric(in_processes.TRAINING), cohort / "slices")
    assert one.keys() == two.keys() and len(one) > 100
    for key, value in one.items():
        value, found = torch.as_tensor(value), torch.as_tensor(two[key])
        # Gradients of real and synthetic slices nearly cancel in a new relativistic discriminator.
        rounding = 3e-6 if key.startswith("fgdl-cms/") and "/grad" in key else 0
        assert (found - value).norm() <= 1e-4 * value.norm() + rounding, key


def test_two_processes_give_the_log_and_weights_of_one(cohort, together, tmp_path):
    arguments = train_arguments(cohort, tmp_path, small_model())
    assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 0
    one, two = rows(tmp_path), rows(together)
    assert [row["step"] for row in one] == [1, 3, 6, 6]
    for a, b in zip(one, two, strict=True):
        assert a.keys() == b.keys() and a.pop("subjects", None) == b.pop("subjects", None)
        assert a.pop("split") == b.pop("split") and b == pytest.approx(a, rel=1e-4)
    one, two = last_state(tmp_path), last_state(together)
    assert torch.equal(one["objective"]["_extra_state"], two["objective"]["_extra_state"])
    for part in ("generator", "average", "objective"):
        for name, weight in one[part].items():
            torch.testing.assert_close(two[part][name], weight, rtol=1e-3, atol=1e-5, msg=name)
    assert one["best"]["step"] == two["best"]["step"]


@pytest.fixture(scope="module")
def resumed(cohort, tmp_path_factory):
    """A run that was stopped in the second process of torchrun, then in the first of srun, then ended by torchrun."""
    folder = tmp_path_factory.mktemp("resumed")
    arguments = train_arguments(cohort, folder, small_model())
    status, output = run([*TORCHRUN, HELPER, "stop", 1, 1, *arguments])
    assert status != 0 and "exitcode  : 143" in output, output
    assert last_state(folder)["step"] == 2
    statuses, output = run_as_srun_does([sys.executable, HELPER, "stop", "0", "3", *arguments])
    assert statuses == [143, 0] and "Starting with 2 processes" in output, output
    assert last_state(folder)["step"] == 4
    status, output = run([*TORCHRUN, HELPER, "note", folder, *arguments])
    assert status == 0, output
    return folder


def test_sigterm_to_any_process_stops_all_and_the_resumed_run_is_bit_identical(resumed, together):
    assert rows(resumed) == rows(together)
    one, two = (load_model(f / "model.safetensors", f / "model.json")[0] for f in (resumed, together))
    assert all((one[name] == two[name]).all() for name in one)


def test_the_first_process_writes_and_no_other_does(resumed):
    first, second = (resumed / f"process-{i}.txt" for i in range(2))
    written = set(first.read_text().splitlines())
    assert {"model.safetensors", "model.json", "metrics.jsonl", "step-00000006.ckpt"} <= written
    assert second.read_text() == ""
