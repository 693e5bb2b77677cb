"""Choose what runs a model's network: ONNX Runtime, or PyTorch, which is imported only then."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, cast

from numpy.typing import NDArray

from m2m.io.errors import DataError
from m2m.models.inference import Engine


class EngineName(StrEnum):
    """What runs a network; `auto`: ONNX Runtime where the model has its graph, and the device, or else PyTorch."""

    AUTO = "auto"
    ONNX = "onnx"
    TORCH = "torch"


def engine_of(
    tensors: Mapping[str, NDArray],
    record: Mapping[str, Any],
    weights: Path | None = None,
    name: EngineName = EngineName.AUTO,
    device: str = "auto",
) -> Engine:
    """Make what runs the network of a model.

    Parameters
    ----------
    tensors, record : mapping
        Of `m2m.models.record.load_model`.
    weights : Path or None
        ``model.safetensors``, beside which the graph lies; None: the network is run by PyTorch.
    name : EngineName
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``mps``.

    Returns
    -------
    callable

    Raises
    ------
    DataError
        The model has no graph and ONNX Runtime is asked for; as of `onnx_engine`; the device is not here; or, by
        PyTorch, the weights do not fit their record.
    """
    if name != EngineName.TORCH and weights is not None:
        from m2m.models.onnx_engine import devices, graph_beside, onnx_engine

        graph = graph_beside(weights)
        if graph and (name == EngineName.ONNX or device in ("auto", *devices())):
            return onnx_engine(graph, weights, record, device)
    if name == EngineName.ONNX:
        raise DataError(
            "the model has no network for ONNX Runtime beside its weights",
            file=weights or "",
            remedy="choose --engine torch, or train or pack the model again, which writes model.onnx",
        )
    from m2m.models.building import load_network
    from m2m.models.torch_engine import Device, choose_device, torch_engine

    chosen = choose_device(cast(Device, device))  # refuses any other
    return torch_engine(load_network(tensors, record), chosen)
