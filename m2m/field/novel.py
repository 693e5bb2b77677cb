"""Write a field on any grid: volumes, and slices between or oblique to those of the fit."""

from pathlib import Path
from typing import Annotated, cast

import typer

from m2m.field.directions import DIRECTIONS
from m2m.field.fit_field import described, read_field, save_tensors, unscaled
from m2m.field.sample import on_grid
from m2m.io.errors import DataError
from m2m.io.volume import load, save
from m2m.models.torch_engine import Device, choose_device


def main(
    weights: Annotated[Path, typer.Option(help="Field of `m2m field`, .safetensors.")],
    like: Annotated[Path, typer.Option(help="NIfTI that defines the grid: volume or slice.")],
    out: Annotated[Path, typer.Option(help="Volume to write, .nii.gz.")],
    record: Annotated[Path | None, typer.Option(help="Field's record. Default: .json next to the weights.")] = None,
    tensor: Annotated[Path | None, typer.Option(help="Tensors of the field's directions to write, .nii.gz.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
) -> None:
    """Sample a field at the voxels of an image with any affine; 0 outside the box of the field."""
    network, about = read_field(weights, record or weights.with_suffix(".json"))
    if tensor and DIRECTIONS[0] not in about["channels"]:
        raise DataError(
            "has no directions",
            file=weights,
            value=", ".join(about["channels"]),
            remedy="fit the field with --directions, or omit --tensor",
        )
    grid = load(like)
    if len(grid.shape) < 3:
        raise DataError(
            "has two axes only, so its position in space is not defined",
            file=like,
            value=grid.shape,
            remedy="give a slice as an image of (X, Y, 1) voxels",
        )
    try:
        chosen = choose_device(cast(Device, device))  # refuses any other
        sampled = on_grid(network.to(chosen), grid.affine, grid.shape)
    except DataError as error:
        raise DataError(error.problem, file=like, value=error.value, remedy=error.remedy) from None
    sources, modality = [weights, like], about["modality"]
    save(out, unscaled(sampled, modality), sources, **described(modality))
    if tensor:
        save_tensors(tensor, sampled, sources)
