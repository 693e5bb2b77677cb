"""The stage `field`: fit a field to the slices of a map, save it, and write it as a volume."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import typer
from nibabel.affines import voxel_sizes

from m2m import GENERATED_BY, __version__
from m2m.field.directions import DIRECTIONS, as_tensors, directions
from m2m.field.field_record import FieldRecord
from m2m.field.fit import Fitted, fit, network_of
from m2m.field.network import FieldNetwork
from m2m.field.sample import extent, on_grid
from m2m.field.slice_samples import Box, Slice, box_of, cut
from m2m.io import bids
from m2m.io.bids import files_of, unit_of
from m2m.io.errors import DataError
from m2m.io.files import file_digest, write_json
from m2m.io.masks import in_mask
from m2m.io.modalities import MODALITIES
from m2m.io.unit_status import recorded, require_ok
from m2m.io.volume import Volume, load, require_same_grid, save
from m2m.models.building import fill
from m2m.models.record import load_weights, require_same_weights, save_weights
from m2m.models.record_schema import read_validated
from m2m.models.torch_engine import Device, choose_device
from m2m.options import SliceField
from m2m.options.configured import section_of
from m2m.options.stage_flags import ConfigFile, MapsOf, Root, Session, Subject
from m2m.structural.slices import PLANES

# Margin around the mask, in nodes of the finest grid, in which the density falls to 0.
MARGIN = 2


def read_slices(
    stacks: Mapping[str, Path], modality: str, tensor: Path | None, options: SliceField
) -> tuple[list[Slice], list[str]]:
    """Cut the slices to fit a field to, from one volume for each orientation.

    Parameters
    ----------
    stacks : mapping of str to path
        Volume by orientation; the same file may be used several times.
    modality : str
        Of the volumes.
    tensor : path or None
        Tensors on the same grid: slices also get the six channels of `directions`.
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
        for index, one in cut(Volume(data, image.affine), plane, options.every, options.thickness_mm):
            slices.append(one)
            names.append(f"{plane}-{index}")
    return slices, names


def inside_box(slices: list[Slice], names: list[str], box: Box) -> tuple[list[Slice], list[str]]:
    """Keep the slices that intersect a box.

    Parameters
    ----------
    slices : list of Slice
    names : list of str
        Of the slices.
    box : Box

    Returns
    -------
    slices : list of Slice
    names : list of str
    """
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
    """Fit a field to the slices of files.

    Parameters
    ----------
    stacks, modality, tensor, options
        As in `read_slices`.
    mask : Volume
        The field is defined in a box around it.
    device : str

    Returns
    -------
    Fitted
    names : list of str
        Of the slices.

    Raises
    ------
    DataError
        A file cannot be used, the mask is empty, or the slices do not suffice for a field.
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
    """Convert the first channel of a field to the unit of its modality, clipped to its limits."""
    about = MODALITIES[modality]
    return Volume(about.unscale(volume.data[..., 0].clip(*about.limits)), volume.affine)


def save_tensors(path: Path, sampled: Volume, sources: list[Path]) -> None:
    """Save tensors with the directions of a sampled field.

    Parameters
    ----------
    path : Path
        To write.
    sampled : Volume
        All channels of the field; the last six are directions.
    sources : list of Path
        For the sidecar.
    """
    data = as_tensors(sampled.data[..., -len(DIRECTIONS) :])
    about = MODALITIES["dti"].sidecar()
    about["Description"] = "Tensors with the first eigenvector and the FA of a field; mm2/s, all of one MD"
    save(path, Volume(data.astype(np.float32), sampled.affine), sources, **about)


def described(modality: str) -> dict[str, Any]:
    """Sidecar of a map that was sampled from a field."""
    about = MODALITIES[modality].sidecar()
    about["Description"] += "; from a field fitted to slices"
    return about


def write_field(fitted: Fitted, names: list[str], about: Mapping[str, Any], weights: Path, record: Path) -> None:
    """Write a field: weights as safetensors; box, options and noise of the slices as JSON.

    Parameters
    ----------
    fitted : Fitted
    names : list of str
        Of the slices.
    about : mapping
        Further keys of the record.
    weights, record : Path
        To write.
    """
    save_weights({k: v.cpu().numpy() for k, v in fitted.network.state_dict().items()}, weights)
    box = extent(fitted.network)
    content = {
        "box_mm": [corner.tolist() for corner in box],
        "pixel_mm": fitted.pixel_mm,
        "slice_sds": {n: round(float(sd), 5) for n, sd in zip(names, fitted.sds, strict=True)},
        "code_version": __version__,
        "GeneratedBy": GENERATED_BY,
        "weights": file_digest(weights),
    }
    write_json(record, {**about, **content})


def read_field(weights: Path, record: Path) -> tuple[FieldNetwork, dict[str, Any]]:
    """Read a field and its record.

    Raises
    ------
    DataError
        As in `m2m.models.record.load_model`.
    """
    remedy = "give the .json that `m2m field` wrote beside the weights"
    about = read_validated(FieldRecord, record, "the record of a field", remedy)
    tensors = load_weights(weights)
    require_same_weights(weights, about.weights, record)
    box = Box(*map(np.array, about.box_mm))
    make = partial(network_of, box, about.options, about.pixel_mm, len(about.channels))
    return fill(make, tensors).eval(), about.model_dump(mode="json")


def main(
    root: Root,
    subject: Subject,
    session: Session = None,
    maps: MapsOf = None,
    directions: Annotated[
        bool, typer.Option("--directions", help="With directions, from the tensors of the same participant.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    config: ConfigFile = None,
    options: Annotated[str | None, typer.Option(help="JSON of the section `field`.")] = None,
) -> None:
    """Fit a continuous field to the slices of one participant's tract density."""
    unit = unit_of(subject, session)
    own, at = files_of(unit, root), files_of(unit, maps or root)
    if maps is None:
        earlier = own("grid-status")
    elif directions:
        earlier = at("synth-tractography-status")
    else:
        earlier = Path(str(at("synth-status")).format(measure=bids.measure("tdi")))
    fit_unit(
        at("field"),
        at("field-record"),
        own("brain" if maps else "target-mask"),
        dict.fromkeys(PLANES, at("synth-tdi" if maps else "tdi")),
        section=section_of("field", config, options, needed=False),
        tensor=at("synth-tensor" if maps else "tensor") if directions else None,
        out=at("field-tdi"),
        out_tensor=at("field-tensor") if directions else None,
        require=[earlier],
        unit=unit,
        status=at("field-status"),
        device=device,
    )


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
    """Fit a field to the slices of one unit, from a file for each orientation.

    Parameters
    ----------
    weights, record : Path
        Field to write.
    mask : Path
        The field is defined in a box around it.
    stacks : mapping of str to Path
        Volume by orientation.
    section : SliceField
    modality : str
        Of the volumes.
    tensor : Path or None
        Tensors on the same grid, for a field with directions.
    out, out_tensor : Path or None
        Volume and tensors of the field to write.
    require : sequence of Path
        Statuses of the stages that wrote the volumes.
    unit : str
        Name in the status.
    status : Path or None
        To write; errors in the data are then recorded in it.
    device : {"auto", "cpu", "cuda", "mps"}
    """
    outputs = [path for path in (weights, record, out, out_tensor) if path]
    context: AbstractContextManager[dict[str, Any]] = (
        recorded("field", unit, status, outputs) if status else nullcontext({})
    )
    with context as numbers:
        require_ok(*require)
        inside = load(mask)
        chosen = choose_device(cast(Device, device))  # refuses any other
        fitted, names = fit_files(stacks, modality, tensor, inside, section, chosen)
        about: dict[str, Any] = {"modality": modality, "options": section.model_dump(mode="json")}
        channels = [*MODALITIES[modality].channels, *(DIRECTIONS if tensor else ())]
        about |= {"channels": channels, "unit": unit}
        about |= {"affine": inside.affine.tolist(), "shape": inside.shape}
        write_field(fitted, names, about, weights, record)
        sampled = on_grid(fitted.network, inside.affine, inside.shape)
        sampled = Volume(np.where(in_mask(inside.data)[..., None], sampled.data, 0), inside.affine)
        sources = [*dict.fromkeys(stacks.values()), *([tensor] if tensor else []), mask]
        if out:
            save(out, unscaled(sampled, modality), sources, **described(modality))
        if out_tensor:
            save_tensors(out_tensor, sampled, sources)
        numbers |= {"n_slices": len(names), "median_slice_sd": float(np.median(fitted.sds))}
