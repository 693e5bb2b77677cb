"""Run a network by ONNX Runtime: its graph beside the weights of the model, which it takes from their file.

References
----------
ONNX: https://onnx.ai. ONNX Runtime: https://onnxruntime.ai.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from m2m.io.errors import DataError
from m2m.models.inference import Engine, Slices

# The graph, and the file beside it that its weights are read from.
GRAPH, WEIGHTS = "model.onnx", "model.safetensors"
INPUTS = ("source", "plane", "position")
# Entry of the graph that has the hash of the weights it belongs to.
HASH = "weights"
PROVIDERS = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}
REMEDY = "delete it, and the network is run by PyTorch; or make it again with `m2m export --format weights`"


def graph_beside(weights: Path) -> Path | None:
    """Find the graph of a model's network; None where there is none."""
    graph = weights.with_name(GRAPH)
    return graph if graph.is_file() else None


def devices() -> list[str]:
    """Devices that ONNX Runtime has here, the best first: ``cuda`` by the package onnxruntime-gpu, ``cpu``."""
    available = onnxruntime.get_available_providers()
    return [device for device, provider in PROVIDERS.items() if provider in available]


def onnx_engine(graph: Path, weights: Path, record: Mapping[str, Any], device: str = "auto") -> Engine:
    """Run a network by ONNX Runtime.

    Parameters
    ----------
    graph, weights : Path
        ``model.onnx`` and ``model.safetensors`` of the model.
    record : mapping
        Of the model.
    device : {"auto", "cuda", "cpu"}
        One of `devices`, or the best of them.

    Returns
    -------
    callable

    Raises
    ------
    DataError
        It is no graph that ONNX Runtime can run with these weights, or it belongs to others; or ONNX Runtime does not
        have the device.
    """
    found = devices()
    if device not in ("auto", *found):
        raise DataError(
            "ONNX Runtime does not have the device here",
            value=device,
            remedy=f"choose auto or one of: {', '.join(found)}; or --engine torch",
        )
    content = weights.read_bytes()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    options.intra_op_num_threads = _threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # others need the processor, too
    options.add_external_initializers_from_files_in_memory([WEIGHTS], [content], [len(content)])
    providers = [PROVIDERS[name] for name in (found if device == "auto" else (device, "cpu"))]
    try:
        session = onnxruntime.InferenceSession(graph.read_bytes(), options, providers=list(dict.fromkeys(providers)))
    except Exception as error:  # its exceptions have no class in common
        problem = f"is no network that ONNX Runtime can run: {str(error).splitlines()[0]}"
        raise DataError(problem, file=graph, remedy=REMEDY) from error
    if (hash_found := session.get_modelmeta().custom_metadata_map.get(HASH)) != record["weights"]:
        problem = f"belongs to other weights than {weights} (hash {record['weights']})"
        raise DataError(problem, file=graph, value=hash_found, remedy=REMEDY)
    # An input that the network does not use is not in the graph.
    used = [INPUTS.index(one.name) for one in session.get_inputs()]
    outputs = [one.name for one in session.get_outputs()]  # fields of Slices

    def run(source: NDArray[np.float32], plane: NDArray[np.int64], position: NDArray[np.float32]) -> Slices:
        given = (source, plane, position)
        return Slices(**dict(zip(outputs, session.run(outputs, {INPUTS[i]: given[i] for i in used}), strict=True)))

    return run


def _threads() -> int:
    """Number of threads: OMP_NUM_THREADS, which Snakemake sets for each job, or the processors of this process."""
    stated = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    if stated.isdigit() and int(stated):
        return int(stated)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
