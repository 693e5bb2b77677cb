"""The stage `field`: slices of a map to a field on disk, and the field as a volume."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from nibabel.affines import voxel_sizes

from m2m import __version__
from m2m.field.directions import DIRECTIONS, as_tensors, directions
from m2m.field.fit import Fitted, fit, network_of
from m2m.field.network import FieldNetwork
from m2m.field.sample import extent, on_grid
from m2m.field.slice_samples import Box, Slice, box_of, cut
from m2m.io import bids
from m2m.io.bids import files_of, unit_of
from m2m.io.errors import DataError
from m2m.io.files import file_digest, write_json
from m2m.io.modalities import MODALITIES
from m2m.io.unit_status import recorded, require_ok
from m2m.io.volume import Volume, load, require_same_grid, save
from m2m.models.inference import choose_device
from m2m.models.record import load_model, save_weights
from m2m.options import SliceField
from m2m.options.configured import section_of
from m2m.options.stage_flags import ConfigFile, MapsOf, Root, Session, Subject
from m2m.structural.slices import PLANES

# About the mask, in nodes of the finest grid: where the density falls to 0.
MARGIN = 2


def read_slices(
    stacks: Mapping[str, Path], modality: str, tensor: Path | None, options: SliceField
) -> tuple[list[Slice], list[str]]:
    """Cut the slices that a field is fitted to out of a volume for each orientation.

    Parameters
    ----------
    stacks : mapping of str to path
        By orientation; one file may stand for several.
    modality : str
        What the volumes hold.
    tensor : path or None
        Tensors on their grid: slices get the six channels of `directions` too.
    options : SliceField

    Returns
    -------
    slices : list of Slice
        Scaled.
    names : list of str
        Orientation and index of each.
    """
    slices, names = [], []
    for plane, path in stacks.items():
        image = load(path)
        data = MODALITIES[modality].scale(image.data)
        if tensor:
            six = load(tensor)
            require_same_grid(six, image, str(path))
            data = np.concatenate([data[..., None], directions(six.data)], axis=-1)
        for index, one in cut(
            Volume(data, image.affine), plane, options.every, options.thickness_mm
        ):
            slices.append(one)
            names.append(f"{plane}-{index}")
    return slices, names


def inside_box(slices: list[Slice], names: list[str], box: Box) -> tuple[list[Slice], list[str]]:
    """Leave out slices of a volume that pass a box by."""
    kept = [i for i, one in enumerate(slices) if box.holds(one.points_mm).any()]
    return [slices[i] for i in kept], [names[i] for i in kept]


def fit_files(
    stacks: Mapping[str, Path],
    modality: str,
    tensor: Path | None,
    mask: Volume,
    options: SliceField,
    device: str,
) -> tuple[Fitted, list[str]]:
    """Fit a field to the slices of files; also gives the slices' names.

    Raises
    ------
    DataError
        A file is bad, the mask is empty, or what is left of the slices is no field.
    """
    voxel_mm = float(voxel_sizes(mask.affine).min())
    box = box_of(mask, MARGIN * min(options.spacings) * voxel_mm)
    slices, names = inside_box(*read_slices(stacks, modality, tensor, options), box)
    try:
        return fit(slices, box, options, device), names
    except DataError as error:
        error.file = error.file or ", ".join(str(path) for path in dict.fromkeys(stacks.values()))
        raise


def unscaled(volume: Volume, modality: str) -> Volume:
    """Turn a field's first channel into the unit of its modality, clipped to its limits."""
    about = MODALITIES[modality]
    return Volume(about.unscale(volume.data[..., 0].clip(*about.limits)), volume.affine)


def save_tensors(path: Path, found: Volume, sources: list[Path]) -> None:
    """Save tensors with the directions of a field's channels."""
    data = as_tensors(found.data[..., -len(DIRECTIONS) :])
    description = "Tensors with the first eigenvector and the FA of a field; mm2/s, of one MD"
    save(path, Volume(data.astype(np.float32), found.affine), sources, Description=description)


def write_field(
    fitted: Fitted, names: list[str], about: Mapping[str, Any], weights: Path, record: Path
) -> None:
    """Write a field: weights as safetensors; box, options and what was learned as JSON."""
    save_weights({k: v.cpu().numpy() for k, v in fitted.network.state_dict().items()}, weights)
    box = extent(fitted.network)
    content = {
        "box_mm": [corner.tolist() for corner in box],
        "pixel_mm": fitted.pixel_mm,
        "slice_sds": {n: round(float(sd), 5) for n, sd in zip(names, fitted.sds, strict=True)},
        "code_version": __version__,
        "weights": file_digest(weights),
    }
    write_json(record, {**about, **content})


def read_field(weights: Path, record: Path) -> tuple[FieldNetwork, dict[str, Any]]:
    """Read a field; DataError as of `load_model`."""
    tensors, about = load_model(weights, record)
    options = SliceField.model_validate(about["options"])
    box = Box(*(np.array(corner) for corner in about["box_mm"]))
    network = network_of(box, options, about["pixel_mm"], len(about["channels"]))
    network.load_state_dict({name: torch.from_numpy(t) for name, t in tensors.items()})
    return network.eval(), about


def main(
    root: Root,
    subject: Subject,
    session: Session = None,
    maps: MapsOf = None,
    directions: Annotated[
        bool, typer.Option("--directions", help="With directions, from tensors beside the density.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    config: ConfigFile = None,
    options: Annotated[str | None, typer.Option(help="JSON of the section `field`.")] = None,
) -> None:
    """Fit a continuous field to the slices of one person's tract density."""
    unit = unit_of(subject, session)
    own, at = files_of(unit, root), files_of(unit, maps or root)
    if maps is None:
        made = own("grid-status")
    elif directions:
        made = at("synth-tractography-status")
    else:
        made = Path(str(at("synth-status")).format(measure=bids.measure("tdi")))
    fit_unit(
        at("field"), at("field-record"), own("brain" if maps else "target-mask"),
        dict.fromkeys(PLANES, at("synth-tdi" if maps else "tdi")),
        section=section_of("field", config, options, needed=False),
        tensor=at("synth-tensor" if maps else "tensor") if directions else None,
        out=at("field-tdi"), out_tensor=at("field-tensor") if directions else None,
        require=[made], unit=unit, status=at("field-status"), device=device,
    )  # fmt: skip


def fit_unit(
    weights: Path,
    record: Path,
    mask: Path,
    stacks: Mapping[str, Path],
    section: SliceField,
    modality: str = "tdi",
    tensor: Path | None = None,
    out: Path | None = None,
    out_tensor: Path | None = None,
    require: Sequence[Path] = (),
    unit: str = "",
    status: Path | None = None,
    device: str = "auto",
) -> None:
    """Fit a field to the slices of one unit, from a file for each orientation."""
    outputs = [path for path in (weights, record, out, out_tensor) if path]
    with recorded("field", unit, status, outputs) if status else nullcontext({}) as numbers:
        require_ok(*require)
        inside = load(mask)
        fitted, names = fit_files(stacks, modality, tensor, inside, section, choose_device(device))
        about = {"modality": modality, "options": section.model_dump(mode="json")}
        channels = [*MODALITIES[modality].channels, *(DIRECTIONS if tensor else ())]
        about |= {"channels": channels, "unit": unit}
        about |= {"affine": inside.affine.tolist(), "shape": inside.shape}
        write_field(fitted, names, about, weights, record)
        sampled = on_grid(fitted.network, inside.affine, inside.shape)
        sampled = Volume(np.where(inside.data[..., None] > 0, sampled.data, 0), inside.affine)
        sources = [*dict.fromkeys(stacks.values()), *([tensor] if tensor else []), mask]
        if out:
            description = f"{MODALITIES[modality].description}; from a field fitted to slices"
            save(out, unscaled(sampled, modality), sources, Description=description)
        if out_tensor:
            save_tensors(out_tensor, sampled, sources)
        numbers |= {"n_slices": len(names), "median_slice_sd": float(np.median(fitted.sds))}
