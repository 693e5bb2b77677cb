"""Export a trained model: as a MONAI bundle with its model card, its network as ONNX, or small weights to install.

References
----------
ONNX: https://onnx.ai.
"""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import TypeAdapter, ValidationError

import m2m
from m2m.io.errors import DataError
from m2m.io.files import read_text, write_json, write_text
from m2m.io.modalities import MODALITIES
from m2m.io.overwriting import require_apart
from m2m.io.tables import read_table
from m2m.models.inference import views_of
from m2m.models.onnx_graph import TOLERANCE, write_onnx
from m2m.models.pretrained import FOLDER
from m2m.models.record import load_model, model_card
from m2m.models.record_schema import Sentence
from m2m.options import Trained, section_of
from m2m.structural.slices import PLANES
from m2m.translate.monai_bundle import card_with_tests, require_no_participant, write_bundle
from m2m.translate.native import require_model_of_t1
from m2m.translate.packing import FILES, licence_text, write_weights
from m2m.translate.predict import require_grid_axes

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
            "position": "(slices, 3, H, W) float32: MNI152 mm of each pixel; where deformed is true, the channels of "
            "m2m.structural.displacement.template_places, 12 for tensors",
        },
        "outputs": {
            "image": f"(slices, {len(MODALITIES[record['target']].channels)}, H, W), scaled as "
            f"m2m.io.modalities defines it, not clipped; orientations are averaged{axes}. `m2m translate` averages the "
            "result with the mean map deformed to the T1, which has the weight atlas_share",
            "log_sd": "if the network predicts it: logarithm of the expected error",
            "sample_sd": "if the network draws samples, whose mean image is: their standard deviation",
        },
        "atlas_share": record.get("options", {}).get("atlas_share", 0.0),
        "deformed": record.get("options", {}).get("network", {}).get("deformed", False),
        "limits": "research only, no clinical use",
    }


def context_of(record: Mapping[str, Any]) -> int:
    """Number of neighbouring slices that are input of a model's network; 0 for a baseline, which has none."""
    options = section_of(record)
    return views_of(options, record["target"])["context"] if isinstance(options, Trained) else 0


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
    context = context_of(about)
    if format == Format.ONNX:
        if not context:
            raise DataError(
                f"a model of family {about['family']} has no network",
                file=weights,
                remedy="write it as a bundle: --format monai",
            )
        require_slices(about, weights)
        write_onnx(weights, record_path, out)
        write_json(out.with_suffix(".json"), usage(about, context))
        print(f"{out}: ONNX Runtime's values are within {TOLERANCE:g} of PyTorch's")
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
