"""A trained model to give away: as a MONAI bundle with its card, or its network as ONNX.

References
----------
MONAI bundles: Cardoso et al. (2022), arXiv:2211.02701, and MONAI's bundle specification.
ONNX: https://onnx.ai.
"""

import shutil
import warnings
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from torch import Tensor, nn

import m2m
from m2m.io.errors import DataError
from m2m.io.files import whole, write_json, write_text
from m2m.io.modalities import MODALITIES
from m2m.io.tables import read_table
from m2m.models.building import load_network
from m2m.models.inference import views_of
from m2m.models.record import load_model
from m2m.options import section_of
from m2m.structural.slices import PLANES
from m2m.translate.native import require_model_of_t1

# The first in which GridSample reads volumes, as a network with a prior does.
OPSET = 20
TOLERANCE = 1e-4
INPUTS = ("source", "plane", "position")
NO_LICENCE = "not stated: ask those who trained the model, whose training data decide"


class Format(StrEnum):
    """What to write."""

    MONAI = "monai"
    ONNX = "onnx"


class _Flat(nn.Module):
    """A translator's image, and the logarithm of its error where it predicts one, as a tuple."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, source: Tensor, plane: Tensor, position: Tensor) -> tuple[Tensor, ...]:
        found = self.network(source, plane, position)
        return (found.image,) if found.log_sd is None else (found.image, found.log_sd)


def example(shape: tuple[int, int, int], context: int, n: int, plane: int) -> tuple[Tensor, ...]:
    """Random slices of one orientation, as a network sees them: source, plane, position.

    Parameters
    ----------
    shape : (int, int, int)
        Of the volume that they are cut from.
    context, n : int
        Neighbouring slices seen; slices.
    plane : int
        Index in `PLANES`.
    """
    height, width = ((1, 0), (2, 0), (2, 1))[plane]
    size = (shape[height], shape[width])
    generator = torch.Generator().manual_seed(plane)
    source = torch.rand(n, context, *size, generator=generator)  # (n, context, H, W)
    position = 70 * (2 * torch.rand(n, 3, *size, generator=generator) - 1)  # mm, (n, 3, H, W)
    return source, torch.full((n,), plane), position


def write_onnx(network: nn.Module, record: Mapping[str, Any], context: int, out: Path) -> None:
    """Write a network as ONNX: any number of slices, of any height and width.

    Parameters
    ----------
    network : Module
        On the CPU, in evaluation.
    record : mapping
        The model's; its hash goes into the file.
    context : int
        Neighbouring slices that the network sees.
    out : Path

    Raises
    ------
    DataError
        onnxruntime computes other values than the network, beyond `TOLERANCE`.
    """
    import onnx

    flat, shape = _Flat(network).eval(), tuple(record["shape"])
    slices = example(shape, context, 2, 0)
    with torch.inference_mode():
        outputs = ["image", "log_sd"][: len(flat(*slices))]
    axes = {0: "slices", 2: "height", 3: "width"}
    with whole(out) as temporary:
        with warnings.catch_warnings():
            # The tracer warns of each constant that it keeps; `difference` shows whether it may.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                flat, slices, temporary, dynamo=False, opset_version=OPSET,
                input_names=list(INPUTS), output_names=outputs,
                dynamic_axes={"source": axes, "plane": {0: "slices"}, "position": axes}
                | dict.fromkeys(outputs, axes),
            )  # fmt: skip
        model = onnx.load(temporary)
        facts = {key: str(record[key]) for key in ("task", "model", "weights", "code_version")}
        onnx.helper.set_model_props(model, facts)
        onnx.checker.check_model(model)
        onnx.save(model, temporary)
        worst = max(
            difference(flat, temporary, example(shape, context, 3, plane))
            for plane in range(len(PLANES))
        )
        if not worst <= TOLERANCE:
            raise DataError(
                "onnxruntime computes other values than the network", value=f"{worst:.2g}",
                remedy="report the model's options with this message",
            )  # fmt: skip


def difference(network: nn.Module, path: Path, slices: tuple[Tensor, ...]) -> float:
    """Largest absolute difference between a network and its ONNX file, run by onnxruntime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    values = {name: part.numpy() for name, part in zip(INPUTS, slices, strict=True)}
    # A network that makes no use of an input has none of that name.
    found = session.run(None, {given.name: values[given.name] for given in session.get_inputs()})
    with torch.inference_mode():
        expected = [values.numpy() for values in network(*slices)]
    return max(float(np.abs(f - e).max()) for f, e in zip(found, expected, strict=True))


def usage(record: Mapping[str, Any], context: int) -> dict[str, Any]:
    """Say what goes into a model's network and what comes out, for the file beside the ONNX."""
    about = ("task", "model", "family", "source", "target", "weights", "simulated", "uncertainty")
    return {key: record[key] for key in about} | {
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
            "m2m.io.modalities has it, not clipped; orientations are averaged",
            "log_sd": "where there is one: logarithm of the expected error",
        },
        "limits": "research only, no clinical use",
    }


def card_with_tests(card: str, rows: list[Mapping[str, str | None]], licence: str) -> str:
    """Add to a model card who may use it, and how good it was on people it had not seen.

    Parameters
    ----------
    card : str
        Of `m2m train`.
    rows : list of mapping
        The model's rows of evaluate/<task>/summary.tsv; none: not tested.
    licence : str
    """
    text = [
        card.rstrip(),
        "",
        f"Licence of these weights: {licence or NO_LICENCE}.",
        "",
        "## Test",
        "",
    ]
    if not rows:
        return "\n".join([*text, "Not given: no table of an evaluation was at hand.", ""])
    text += ["Mean over test people, with its 95 % bootstrap interval.", ""]
    text += ["| region | metric | mean | interval | people |", "|---|---|---|---|---|"]
    for row in rows:
        interval = "n/a" if row["low"] is None else f"{row['low']} to {row['high']}"
        cells = (row["region"], row["metric"], row["mean"] or "n/a", interval, row["n_subjects"])
        text.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join([*text, ""])


def write_bundle(
    weights: Path, record_path: Path, record: Mapping[str, Any], card: str, context: int, out: Path
) -> None:
    """Write a MONAI bundle, whose `run` translates one T1 by m2m.

    Parameters
    ----------
    weights, record_path : Path
        They are copied.
    record : mapping
    card : str
    context : int
        Neighbouring slices that the network sees; 0 where the model has no network.
    out : Path
        Folder.
    """
    for path, name in ((weights, "model.safetensors"), (record_path, "model.json")):
        with whole(out / "models" / name) as temporary:
            shutil.copyfile(path, temporary)
    inference: dict[str, Any] = {
        "imports": [
            "$from m2m.models.record import load_model",
            "$from m2m.translate.native import translate_file",
        ],
        "bundle_root": ".", "t1": "T1.nii.gz", "out": "FA.nii.gz", "brain": None,
        "device": "auto", "batch_size": 4,
        "weights": "$@bundle_root + '/models/model.safetensors'",
        "model": "$load_model(@weights, @bundle_root + '/models/model.json')",
        "run": ["$translate_file(@t1, @weights, @out, @brain, @device, @batch_size)"],
    }  # fmt: skip
    if context:
        load = {"_target_": "m2m.models.building.load_network"}
        inference["network_def"] = load | {"tensors": "$@model[0]", "record": "$@model[1]"}
    write_json(out / "configs" / "inference.json", inference)
    write_json(out / "configs" / "metadata.json", metadata(record, context))
    write_text(out / "docs" / "README.md", card)


def metadata(record: Mapping[str, Any], context: int) -> dict[str, Any]:
    """What MONAI asks a bundle to say of itself."""
    target = MODALITIES[record["target"]]
    image = {"type": "image", "format": "magnitude", "dtype": "float32", "is_patch_data": False}
    any_size = {"spatial_shape": ["*", "*"]}
    inputs = image | any_size | {
        "num_channels": context, "value_range": [0, 1],
        "channel_def": {str(i): f"T1, slice {i - context // 2:+d}" for i in range(context)},
    }  # fmt: skip
    outputs = image | any_size | {
        "num_channels": len(target.channels), "value_range": [],
        "channel_def": {str(i): name for i, name in enumerate(target.channels)},
    }  # fmt: skip
    return {
        "version": m2m.__version__,
        "changelog": {m2m.__version__: "written by m2m export"},
        "monai_version": _version("monai"),
        "pytorch_version": _version("torch"),
        "numpy_version": np.__version__,
        "required_packages_version": {"m2m": m2m.__version__},
        "task": f"{record['task']}: {target.title} from a T1-weighted image",
        "description": f"{record['model']} ({record['family']}), weights {record['weights']}",
        "authors": "those who trained it",
        "copyright": "see docs/README.md",
        "intended_use": "research only, no clinical use",
        "network_data_format": {"inputs": {"image": inputs}, "outputs": {"pred": outputs}},
    }


def _version(name: str) -> str:
    from importlib.metadata import version

    return version(name).partition("+")[0]


def sees(tensors: Mapping[str, NDArray], record: Mapping[str, Any]) -> tuple[nn.Module | None, int]:
    """A model's network and how many neighbouring slices it sees; None and 0 for a baseline."""
    options = section_of(record)
    if not options.trained:
        return None, 0
    return load_network(tensors, record), views_of(options, record["target"])["context"]


def main(
    weights: Annotated[Path, typer.Option(help="model.safetensors of `m2m train`.")],
    out: Annotated[Path, typer.Option(help="Folder of the bundle, or the .onnx file, to write.")],
    format: Annotated[Format, typer.Option(help="A bundle, or the network alone.")] = Format.MONAI,
    record: Annotated[Path | None, typer.Option(help="Default: model.json by the weights.")] = None,
    summary: Annotated[
        Path | None, typer.Option(help="evaluate/<task>/summary.tsv, for the model card.")
    ] = None,
    licence: Annotated[str, typer.Option(help="Who may use the weights, for the card.")] = "",
) -> None:
    """Pack a model with its card as a MONAI bundle, or write its network as ONNX.

    The bundle needs m2m where it runs: it finds the brain and the template's place as `m2m
    translate` does. ONNX is the network alone; the .json beside it says what it takes and gives.
    """
    record_path = record or weights.with_name("model.json")
    tensors, about = load_model(weights, record_path)
    require_model_of_t1(about)
    network, context = sees(tensors, about)
    if format == Format.ONNX:
        if network is None:
            raise DataError(
                f"a model of family {about['family']} has no network", file=weights,
                remedy="write it as a bundle: --format monai",
            )  # fmt: skip
        write_onnx(network, about, context, out)
        write_json(out.with_suffix(".json"), usage(about, context))
        print(f"{out}: onnxruntime's values are within {TOLERANCE:g} of the network's")
        return
    rows = [row for row in read_table(summary) if row["model"] == about["model"]] if summary else []
    path = weights.with_name("model_card.md")
    card = path.read_text(encoding="utf-8") if path.is_file() else f"# {about['model']}\n"
    card = card_with_tests(card, rows, licence)
    write_bundle(weights, record_path, about, card, context, out)
    run = f"python -m monai.bundle run --config_file {out}/configs/inference.json"
    print(f"{run} --bundle_root {out} --t1 T1.nii.gz --out FA.nii.gz")
