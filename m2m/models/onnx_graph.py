"""Write a trained network as ONNX: with its weights, or as the graph beside them, for `m2m.models.onnx_engine`.

The graph has no weights of its own: it says where they lie in ``model.safetensors``, so that a model has them once.
"""

import io
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from m2m.io.errors import DataError
from m2m.io.files import whole
from m2m.io.modalities import MODALITIES
from m2m.models.building import load_network
from m2m.models.inference import Engine, Slices
from m2m.models.onnx_engine import GRAPH, HASH, INPUTS, WEIGHTS, onnx_engine
from m2m.models.record import load_model
from m2m.models.torch_engine import torch_engine
from m2m.options import Trained, section_of
from m2m.structural.slices import PLANES, positions

# The first version in which GridSample supports volumes, for a network with a prior.
OPSET = 20
# Largest difference from PyTorch's values, as a share of the largest of them where that exceeds 1.
TOLERANCE = 1e-4
REMEDY = "translate by PyTorch (--engine torch), and report the model's options with this message"
# Of the names of weights in a `_Flat`.
PREFIX = "network."
# Precisions of safetensors that the graph can read; a network computes in the second.
PRECISIONS = {"F16": onnx.TensorProto.FLOAT16, "F32": onnx.TensorProto.FLOAT}


class _Flat(nn.Module):
    """A network that returns its image, and what it says of its error, as a tuple in the order of `Slices`."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, source: Tensor, plane: Tensor, position: Tensor) -> tuple[Tensor, ...]:
        output = self.network(source, plane, position)
        return tuple(part for name in Slices._fields if (part := getattr(output, name)) is not None)


def example(record: Mapping[str, Any], n: int, plane: int) -> tuple[NDArray, NDArray, NDArray]:
    """Input of a network, of one orientation: random slices of a volume at known positions.

    Parameters
    ----------
    record : mapping
        Of the model.
    n : int
        Number of slices.
    plane : int
        Index in `PLANES`.

    Returns
    -------
    source : ndarray, shape (n, channels, H, W)
        Neighbouring slices, and that of low resolution where the model has it.
    plane : ndarray of int, shape (n,)
    position : ndarray, shape (n, 3, H, W) or (n, 12, H, W)
        MNI152 mm, and the axes of the grid where the network takes them.
    """
    x, y, z = shape = tuple(record["shape"])
    options = section_of(record)
    assert isinstance(options, Trained)  # other families have no network
    channels = options.window.context + bool(record.get("low_res"))
    size = ((y, x), (z, x), (z, y))[plane]
    source = np.random.default_rng(plane).random((n, channels, *size), np.float32)  # (n, channels, H, W)
    to_mni = np.diag([2.0, 2.0, 2.0, 1.0])
    to_mni[:3, 3] = 1 - np.array(shape)
    position = positions(to_mni, (x, y, z), PLANES[plane], np.arange(n))
    if options.window.deformed and MODALITIES[record["target"]].directed:
        axes = np.roll(np.eye(3, dtype=np.float32), 1, axis=0).reshape(1, 9, 1, 1)
        position = np.concatenate([position, np.broadcast_to(axes, (n, 9, *size))], axis=1)
    return source, np.full(n, plane), position


def difference(run: Engine, expected: Engine, slices: tuple[NDArray, NDArray, NDArray]) -> float:
    """Largest difference between two engines, as a share of the largest value where that exceeds 1.

    Parameters
    ----------
    run, expected : callable
    slices : tuple of ndarray
        Of `example`.

    Returns
    -------
    float
    """
    both = zip(run(*slices), expected(*slices), strict=True)
    pairs = [(f, e) for f, e in both if f is not None and e is not None]
    return max(float(np.abs(f - e).max()) / max(1.0, float(np.abs(e).max())) for f, e in pairs)


def write_onnx(weights: Path, record_path: Path, out: Path) -> None:
    """Write a model's network with its weights as ONNX, for any number of slices, height and width.

    Parameters
    ----------
    weights, record_path : Path
        Of a model with a network; its hash is written to the file.
    out : Path
        File to write.

    Raises
    ------
    DataError
        ONNX cannot express the network, or ONNX Runtime computes other values, beyond `TOLERANCE`.
    """
    tensors, record = load_model(weights, record_path)
    network = load_network(tensors, record)
    _write_checked(_traced(network, record), network, record, weights, out)


def write_graph(weights: Path, record_path: Path) -> Path | None:
    """Write the graph of a model's network beside its weights, from these and the record.

    Parameters
    ----------
    weights, record_path : Path
        ``model.safetensors`` and ``model.json``.

    Returns
    -------
    Path or None
        ``model.onnx``; None, and no such file, for a model without a network, and for one of whole volumes, whose
        overlapping windows are no part of a network.

    Raises
    ------
    DataError
        As of `write_onnx`; an earlier graph is gone then, too.
    """
    out = weights.with_name(GRAPH)
    out.unlink(missing_ok=True)
    tensors, record = load_model(weights, record_path)
    options = section_of(record)
    if not isinstance(options, Trained) or options.stack:
        return None
    network = load_network(tensors, record)
    model = _traced(network, record)
    _refer_to(model.graph, weights)
    _write_checked(model, network, record, weights, out)
    return out


def _traced(network: nn.Module, record: Mapping[str, Any]) -> onnx.ModelProto:
    """Trace a network; its weights have their names, with `PREFIX`."""
    flat, slices = _Flat(network).eval(), tuple(map(torch.from_numpy, example(record, 2, 0)))
    with torch.inference_mode():
        found = network(*slices)
    outputs = [name for name in Slices._fields if getattr(found, name) is not None]
    axes, buffer = {0: "slices", 2: "height", 3: "width"}, io.BytesIO()
    try:
        with warnings.catch_warnings():
            # The tracer warns about each constant; `difference` checks that the constants are valid.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                flat,
                slices,
                buffer,  # type: ignore[arg-type]  # the tracer takes one, too
                dynamo=False,
                opset_version=OPSET,
                do_constant_folding=False,  # it renames weights; ONNX Runtime does it when it reads them
                input_names=list(INPUTS),
                output_names=outputs,
                dynamic_axes={"source": axes, "plane": {0: "slices"}, "position": axes} | dict.fromkeys(outputs, axes),
            )
    except RuntimeError as error:  # as are the errors of the exporter
        problem = f"ONNX cannot express the network: {str(error).splitlines()[0]}"
        raise DataError(problem, value=record["family"], remedy=REMEDY) from error
    model = onnx.load_from_string(buffer.getvalue())
    _remove_traces(model.graph)
    facts = {key: str(record[key]) for key in ("task", "model", "code_version")} | {HASH: record["weights"]}
    onnx.helper.set_model_props(model, facts)
    onnx.checker.check_model(model)
    return model


def _remove_traces(graph: onnx.GraphProto) -> None:
    """Remove where in the code each operation was traced: these are paths of this machine."""
    graph.doc_string = ""
    for node in graph.node:
        node.doc_string = ""
        node.ClearField("metadata_props")
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node:
                    _remove_traces(inner)


def _refer_to(graph: onnx.GraphProto, weights: Path) -> None:
    """Replace the weights in a graph by their places in a safetensors file; those of half precision are converted.

    The file begins with the length of its header, in 8 bytes, and the header, in JSON.
    """
    with weights.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(length))
    conversions = []
    for initializer in graph.initializer:
        name = initializer.name
        entry = header.get(name.removeprefix(PREFIX), {})
        if entry.get("dtype") not in PRECISIONS or entry["shape"] != list(initializer.dims):
            continue
        begin, end = entry["data_offsets"]
        initializer.ClearField("raw_data")
        initializer.data_location = onnx.TensorProto.EXTERNAL
        initializer.data_type = PRECISIONS[entry["dtype"]]
        place = {"location": WEIGHTS, "offset": 8 + length + begin, "length": end - begin}
        for key, value in place.items():
            initializer.external_data.add(key=key, value=str(value))
        if initializer.data_type != onnx.TensorProto.FLOAT:
            initializer.name = f"{name}.stored"
            conversions.append(onnx.helper.make_node("Cast", [initializer.name], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*conversions, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _write_checked(
    model: onnx.ModelProto, network: nn.Module, record: Mapping[str, Any], weights: Path, out: Path
) -> None:
    """Write a model whose values are those of the network, at other sizes than it was traced with, too."""
    with whole(out) as temporary:
        onnx.save(model, temporary)
        try:
            engines = onnx_engine(temporary, weights, record, "cpu"), torch_engine(network)
        except DataError as error:
            raise DataError(error.problem, value=record["family"], remedy=REMEDY) from error
        worst = max(difference(*engines, example(record, 3, plane)) for plane in range(len(PLANES)))
        if not worst <= TOLERANCE:
            raise DataError(
                "ONNX Runtime computes other values than the network",
                value=f"{worst:.2g}",
                remedy=REMEDY,
            )
