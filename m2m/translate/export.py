"""Export a trained model: as a MONAI bundle with its model card, its network as ONNX, or small weights to install.

References
----------
ONNX: https://onnx.ai.
"""

import warnings
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

import m2m
from m2m.io.errors import DataError
from m2m.io.files import read_text, whole, write_json, write_text
from m2m.io.modalities import MODALITIES
from m2m.io.overwriting import require_apart
from m2m.io.tables import read_table
from m2m.models.building import load_network
from m2m.models.inference import views_of
from m2m.models.pretrained import FOLDER
from m2m.models.record import load_model, model_card
from m2m.models.record_schema import Sentence
from m2m.options import Trained, section_of
from m2m.structural.slices import PLANES, positions
from m2m.translate.monai_bundle import card_with_tests, require_no_participant, write_bundle
from m2m.translate.native import require_model_of_t1
from m2m.translate.packing import FILES, licence_text, write_weights
from m2m.translate.predict import require_grid_axes

# The first version in which GridSample supports volumes, for a network with a prior.
OPSET = 20
TOLERANCE = 1e-4
INPUTS = ("source", "plane", "position")
OUTPUTS = ("image", "log_sd", "sample_sd")
# For a target of tensors: what `m2m translate` does with the network's output, and a user of ONNX must do.
ALONG_GRID = (
    "before elements are rotated: they are along the axes of the volume that the slices are cut from. "
    "With the directions of these axes as the columns of G, a tensor D is GDG' in world axes"
)


class Format(StrEnum):
    """File format of the export."""

    MONAI = "monai"
    ONNX = "onnx"
    WEIGHTS = "weights"


class _Flat(nn.Module):
    """A network that returns its image, and what it says of its error, as a tuple in the order of `OUTPUTS`."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, source: Tensor, plane: Tensor, position: Tensor) -> tuple[Tensor, ...]:
        output = self.network(source, plane, position)
        return tuple(part for name in OUTPUTS if (part := getattr(output, name)) is not None)


def example(shape: tuple[int, int, int], context: int, n: int, plane: int) -> tuple[Tensor, ...]:
    """Input of a network, of one orientation: random slices of a volume at known positions.

    Parameters
    ----------
    shape : (int, int, int)
        Of the volume.
    context : int
        Number of neighbouring slices.
    n : int
        Number of slices.
    plane : int
        Index in `PLANES`.

    Returns
    -------
    source : Tensor, shape (n, context, H, W)
    plane : Tensor of int, shape (n,)
    position : Tensor, shape (n, 3, H, W)
        MNI152 mm.
    """
    height, width = ((1, 0), (2, 0), (2, 1))[plane]
    size = (shape[height], shape[width])
    generator = torch.Generator().manual_seed(plane)
    source = torch.rand(n, context, *size, generator=generator)  # (n, context, H, W)
    to_mni = np.diag([2.0, 2.0, 2.0, 1.0])
    to_mni[:3, 3] = 1 - np.array(shape)
    position = positions(to_mni, shape, PLANES[plane], np.arange(n))
    return source, torch.full((n,), plane), torch.from_numpy(position)


def write_onnx(network: nn.Module, record: Mapping[str, Any], context: int, out: Path) -> None:
    """Write a network as ONNX, for any number of slices, height and width.

    Parameters
    ----------
    network : Module
        On the CPU, in evaluation mode.
    record : mapping
        Of the model; its hash is written to the file.
    context : int
        Number of neighbouring slices that are input of the network.
    out : Path
        File to write.

    Raises
    ------
    DataError
        onnxruntime computes other values than the network, beyond `TOLERANCE`.
    """
    import onnx

    flat = _Flat(network).eval()
    x, y, z = record["shape"]
    shape = (x, y, z)
    slices = example(shape, context, 2, 0)
    with torch.inference_mode():
        found = network(*slices)
    outputs = [name for name in OUTPUTS if getattr(found, name) is not None]
    axes = {0: "slices", 2: "height", 3: "width"}
    with whole(out) as temporary:
        with warnings.catch_warnings():
            # The tracer warns about each constant; `difference` checks that the constants are valid.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                flat,
                slices,
                temporary,
                dynamo=False,
                opset_version=OPSET,
                input_names=list(INPUTS),
                output_names=outputs,
                dynamic_axes={"source": axes, "plane": {0: "slices"}, "position": axes} | dict.fromkeys(outputs, axes),
            )
        model = onnx.load(temporary)
        _remove_traces(model.graph)
        facts = {key: str(record[key]) for key in ("task", "model", "weights", "code_version")}
        onnx.helper.set_model_props(model, facts)
        onnx.checker.check_model(model)
        onnx.save(model, temporary)
        worst = max(difference(flat, temporary, example(shape, context, 3, plane)) for plane in range(len(PLANES)))
        if not worst <= TOLERANCE:
            raise DataError(
                "onnxruntime computes other values than the network",
                value=f"{worst:.2g}",
                remedy="report the model's options with this message",
            )


def _remove_traces(graph: Any) -> None:
    """Remove where in the code each operation was traced: these are paths of this machine."""
    graph.doc_string = ""
    for node in graph.node:
        node.doc_string = ""
        node.ClearField("metadata_props")
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node:
                    _remove_traces(inner)


def difference(network: nn.Module, path: Path, slices: tuple[Tensor, ...]) -> float:
    """Largest absolute difference between a network and its ONNX file, run by onnxruntime.

    Parameters
    ----------
    network : Module
    path : Path
        ONNX file.
    slices : tuple of Tensor
        Of `example`.

    Returns
    -------
    float
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    values = {name: part.numpy() for name, part in zip(INPUTS, slices, strict=True)}
    # An input that the network does not use is not in the file.
    outputs = session.run(None, {used.name: values[used.name] for used in session.get_inputs()})
    with torch.inference_mode():
        expected = [tensor.numpy() for tensor in network(*slices)]
    return max(float(np.abs(f - e).max()) for f, e in zip(outputs, expected, strict=True))


def usage(record: Mapping[str, Any], context: int) -> dict[str, Any]:
    """Describe inputs and outputs of a network, for the JSON file next to the ONNX."""
    about = ["task", "model", "family", "source", "target", "weights", "simulated", "uncertainty"]
    about += [key for key in ("trained_on", "licence", "calibration") if record.get(key)]
    axes = f" {ALONG_GRID}" if MODALITIES[record["target"]].directed else ""
    return {key: record[key] for key in about} | {
        "GeneratedBy": m2m.GENERATED_BY,
        "spacing_mm": record["spacing_mm"],
        "planes": list(PLANES),
        "inputs": {
            "source": f"(slices, {context}, H, W) float32: a slice of the brain-extracted T1 and "
            "its neighbours, as m2m.structural.slices cuts them; 0 and 1 are the percentiles "
            f"{record['t1_range_percent']} inside the brain, 0 outside",
            "plane": "(slices,) int64: index of the orientation in planes",
            "position": "(slices, 3, H, W) float32: MNI152 mm of each pixel",
        },
        "outputs": {
            "image": f"(slices, {len(MODALITIES[record['target']].channels)}, H, W), scaled as "
            f"m2m.io.modalities defines it, not clipped; orientations are averaged{axes}. `m2m translate` averages the "
            "result with the mean map deformed to the T1, which has the weight atlas_share",
            "log_sd": "if the network predicts it: logarithm of the expected error",
            "sample_sd": "if the network draws samples, whose mean image is: their standard deviation",
        },
        "atlas_share": record.get("options", {}).get("atlas_share", 0.0),
        "limits": "research only, no clinical use",
    }


def network_and_context(tensors: Mapping[str, NDArray], record: Mapping[str, Any]) -> tuple[nn.Module | None, int]:
    """Network of a model and its number of neighbouring slices; None and 0 for a baseline."""
    options = section_of(record)
    if not isinstance(options, Trained):
        return None, 0
    return load_network(tensors, record), views_of(options, record["target"])["context"]


def require_slices(record: Mapping[str, Any], weights: Path) -> None:
    """Raise DataError if a network takes whole volumes, whose overlapping windows are no part of a network."""
    options = section_of(record)
    if isinstance(options, Trained) and options.stack:
        raise DataError(
            f"a network of family {record['family']} translates volumes by windows, which ONNX does not have",
            file=weights,
            value=f"windows of {options.stack} slices",
            remedy="write it as a bundle: --format monai",
        )


def stated(record: Mapping[str, Any], **given: str) -> dict[str, Any]:
    """Add what is stated about a model to its record.

    Parameters
    ----------
    record : mapping
    **given : str
        Sentences by their key in the record; empty ones leave it as it is.

    Returns
    -------
    dict

    Raises
    ------
    DataError
        One is not a plain sentence.
    """
    for key, text in given.items():
        try:
            TypeAdapter(Sentence | None).validate_python(text or None)
        except ValidationError:
            raise DataError(
                f"--{key.replace('_', '-')} is not a plain sentence in a line",
                value=text,
                remedy="use letters, digits, spaces and .,:;()'+- only, and name no participant",
            ) from None
    return dict(record) | {key: text for key, text in given.items() if text}


def main(
    weights: Annotated[Path, typer.Option(help="model.safetensors of `m2m train`.")],
    out: Annotated[Path, typer.Option(help="Folder, or .onnx file, to write.")],
    format: Annotated[
        Format, typer.Option(help="A MONAI bundle, the network alone, or weights to install in m2m/weights.")
    ] = Format.MONAI,
    record: Annotated[
        Path | None, typer.Option(help="Model's record. Default: model.json next to the weights.")
    ] = None,
    summary: Annotated[Path | None, typer.Option(help="evaluate/<task>/summary.tsv, for the model card.")] = None,
    licence: Annotated[str, typer.Option(help="Licence of the weights, for the model card.")] = "",
    licence_file: Annotated[
        Path | None,
        typer.Option(help="Text of the licence. Default: LICENSE next to the weights, or else it is named."),
    ] = None,
    trained_on: Annotated[
        str, typer.Option(help="What the model was trained on, in a sentence that stays with its maps.")
    ] = "",
    notes: Annotated[Path | None, typer.Option(help="Further tests for the model card, Markdown.")] = None,
) -> None:
    """Export a model with its card as a MONAI bundle, its network as ONNX, or small weights to install.

    The bundle needs m2m to run: brain extraction and registration to the template are those of
    `m2m translate`. ONNX is the network alone; the .json next to it describes inputs and outputs.
    Weights to install are in half precision, with record, card and licence; `m2m translate` finds them
    by the name of their folder.
    """
    record_path = record or weights.with_name("model.json")
    tensors, about = load_model(weights, record_path)
    about = stated(about, trained_on=trained_on)
    require_model_of_t1(about)
    require_grid_axes(about)
    network, context = network_and_context(tensors, about)
    if format == Format.ONNX:
        if network is None:
            raise DataError(
                f"a model of family {about['family']} has no network",
                file=weights,
                remedy="write it as a bundle: --format monai",
            )
        require_slices(about, weights)
        write_onnx(network, about, context, out)
        write_json(out.with_suffix(".json"), usage(about, context))
        print(f"{out}: onnxruntime's values are within {TOLERANCE:g} of the network's")
        return
    rows = [row for row in read_table(summary) if row["model"] == about["model"]] if summary else []
    path = weights.with_name("model_card.md")
    card = path.read_text(encoding="utf-8") if path.is_file() and not trained_on else model_card(about)
    card = card_with_tests(card, rows, licence, read_text(notes) if notes else "")
    require_no_participant(card, about, path)
    beside = weights.with_name("LICENSE")
    licence_file = licence_file or (beside if beside.is_file() else None)
    terms = read_text(licence_file) if licence_file else ""
    if format == Format.WEIGHTS:
        inputs = (weights, record_path, path, summary, licence_file, notes)
        require_apart((out / name for name in FILES), filter(None, inputs))
        about = stated(about, licence=licence)
        write_weights(tensors, about, card, licence_text(about, terms), rows, out)
        print(f"{out}: `m2m translate` finds these weights where the folder is in {FOLDER}")
        return
    write_bundle(tensors, about, card, context, out)
    if terms:
        write_text(out / "LICENSE", terms)
    run = f"python -m monai.bundle run --config_file {out}/configs/inference.json"
    print(f"{run} --bundle_root {out} --t1 T1.nii.gz --out FA.nii.gz")
