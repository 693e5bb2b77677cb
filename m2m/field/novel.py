"""Write a field on any grid: volumes, and slices between and oblique to those it was fitted to."""

from pathlib import Path
from typing import Annotated

import typer

from m2m.field.directions import DIRECTIONS
from m2m.field.fit_field import read_field, save_tensors, unscaled
from m2m.field.sample import on_grid
from m2m.io.errors import DataError
from m2m.io.modalities import MODALITIES
from m2m.io.volume import load, save
from m2m.models.inference import choose_device


def main(
    weights: Annotated[Path, typer.Option(help="Field of `m2m field`, .safetensors.")],
    like: Annotated[Path, typer.Option(help="NIfTI whose voxels are filled: volume or slice.")],
    out: Annotated[Path, typer.Option(help="Volume to write, .nii.gz.")],
    record: Annotated[Path | None, typer.Option(help="Default: .json by the weights.")] = None,
    tensor: Annotated[
        Path | None, typer.Option(help="Tensors with the field's directions to write, .nii.gz.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
) -> None:
    """Write a field on the voxels of an image, wherever they lie; 0 outside the field's box."""
    network, about = read_field(weights, record or weights.with_suffix(".json"))
    if tensor and DIRECTIONS[0] not in about["channels"]:
        raise DataError(
            "knows no directions", file=weights, value=", ".join(about["channels"]),
            remedy="fit it with --tensor, or leave --tensor out here",
        )  # fmt: skip
    grid = load(like)
    if len(grid.shape) < 3:
        raise DataError(
            "has two axes only, so nothing says where it lies", file=like, value=grid.shape,
            remedy="give a slice as an image of (X, Y, 1) voxels",
        )  # fmt: skip
    try:
        found = on_grid(network.to(choose_device(device)), grid.affine, grid.shape)
    except DataError as error:
        raise DataError(error.problem, file=like, value=error.value, remedy=error.remedy) from None
    sources, modality = [weights, like], about["modality"]
    description = f"{MODALITIES[modality].description}; from a field fitted to slices"
    save(out, unscaled(found, modality), sources, Description=description)
    if tensor:
        save_tensors(tensor, found, sources)
