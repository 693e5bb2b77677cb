"""Device, precision, and the processes of a training run: started by srun, torchrun or m2m."""

import os
import re

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)

from m2m.io.errors import DataError
from m2m.models.torch_engine import choose_device
from m2m.options import Training


def make_fabric(options: Training) -> Fabric:
    """Choose device, precision and processes; each process uses one device.

    Raises
    ------
    DataError
        The batch cannot be divided among the processes, or their layout is not supported.
    """
    device = choose_device()
    precision = options.precision
    if precision == "auto":
        native = device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        precision = "bf16-mixed" if native else "32-true"
    environment, devices, nodes = find_processes(options.devices)
    if options.batch_size % (devices * nodes):
        raise DataError(
            f"a batch cannot be divided among {devices * nodes} processes",
            value=f"batch_size {options.batch_size}",
            remedy="change training.batch_size, or start another number of processes",
        )
    return Fabric(
        accelerator=device,
        devices=devices,
        num_nodes=nodes,
        precision=precision,
        strategy="ddp" if devices * nodes > 1 else "auto",
        plugins=[environment],
    )


def find_processes(devices: int) -> tuple[ClusterEnvironment, int, int]:
    """Determine how the processes are started, and their number.

    torchrun, and srun if its step has several tasks, have already started the processes. Otherwise
    the first process starts the others: also in a batch job, in a step of one task and in an
    interactive shell, for any number of tasks of the job.

    Parameters
    ----------
    devices : int
        Processes to start if none have been started.

    Returns
    -------
    environment : ClusterEnvironment
    devices, nodes : int
        Processes on each node, and nodes.

    Raises
    ------
    DataError
        srun has started more processes on one node than on another.
    """
    if TorchElasticEnvironment.detect():
        local, total = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
        return TorchElasticEnvironment(), local, total // local
    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", 1))
    if tasks == 1 or "SLURM_PTY_PORT" in os.environ:  # the latter: a shell, in the first task
        return LightningEnvironment(), devices, 1
    layout = os.environ["SLURM_STEP_TASKS_PER_NODE"]  # "4", "4(x2)" on two nodes, or "4,3"
    if not (even := re.fullmatch(r"(\d+)(\(x\d+\))?", layout)):
        raise DataError(
            "srun has started more processes on one node than on another",
            value=f"SLURM_STEP_TASKS_PER_NODE {layout}",
            remedy="use srun --ntasks-per-node",
        )
    # Lightning needs it, and the value of a step may differ from that of its job.
    os.environ["SLURM_NTASKS_PER_NODE"] = even[1]
    return SLURMEnvironment(), int(even[1]), tasks // int(even[1])
