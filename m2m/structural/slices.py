"""Slices of three orientations: normalised and stacked; all steps are invertible.

The top of an axial slice is anterior, that of coronal and sagittal slices is superior. Columns run
from the participant's left to right, in sagittal slices from posterior to anterior. These are the
axes of the common grid, which is oblique where the T1 is; elements of tensors are along them, too.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from numpy.typing import NDArray

from m2m.io.bids import slice_files, unit_files, unit_of
from m2m.io.errors import DataError
from m2m.io.files import read_json, whole, write_text
from m2m.io.masks import in_mask
from m2m.io.modalities import MODALITIES, REGISTERED, resampled_modality
from m2m.io.unit_status import recorded, require_ok
from m2m.io.volume import load, require_same_grid
from m2m.options.configured import section_of
from m2m.options.stage_flags import ConfigFile, Root, Session, Subject

PLANES = ("axial", "coronal", "sagittal")
# Entry `axes` of the record: what the elements of tensors in the slices are along. Earlier versions
# stored them along world axes, without this entry.
GRID_AXES = "grid"
# The volume's axes as (slice, row, column) of each plane; rows run from top to bottom.
_AXES = {"axial": (2, 1, 0), "coronal": (1, 2, 0), "sagittal": (0, 2, 1)}


def extract(volume: NDArray, plane: str) -> NDArray:
    """Cut a volume into all its slices of one orientation.

    Parameters
    ----------
    volume : ndarray, shape (X, Y, Z)
        RAS+.
    plane : {"axial", "coronal", "sagittal"}

    Returns
    -------
    ndarray, shape (n_slices, H, W)
        A view; slices in the order of the axis perpendicular to them.
    """
    return np.flip(np.transpose(volume, _AXES[plane]), 1)


def central(places: NDArray, share: float) -> NDArray:
    """Keep the central ones of some slices.

    Parameters
    ----------
    places : ndarray of int, shape (n,)
        Indices of slices, in order.
    share : float
        Fraction to keep.

    Returns
    -------
    ndarray of int
        As many are left out at either end.
    """
    edge = int((1 - share) / 2 * len(places))
    return places[edge : len(places) - edge]


def assemble(slices: NDArray, plane: str) -> NDArray:
    """Stack all slices of one orientation to a volume: the inverse of `extract`.

    Parameters
    ----------
    slices : ndarray, shape (n_slices, H, W)
    plane : {"axial", "coronal", "sagittal"}

    Returns
    -------
    ndarray, shape (X, Y, Z)
        A view.
    """
    return np.transpose(np.flip(slices, 1), np.argsort(_AXES[plane]))


def in_plane(vectors: NDArray, plane: str) -> tuple[NDArray, NDArray]:
    """Components of vectors within the slices of one orientation.

    Parameters
    ----------
    vectors : ndarray, shape (X, Y, Z, 3)
        Along the volume's axes.
    plane : {"axial", "coronal", "sagittal"}

    Returns
    -------
    tuple of two ndarray, shape (X, Y, Z)
        Along increasing row numbers, and along increasing column numbers.
    """
    _, row, column = _AXES[plane]
    return -vectors[..., row], vectors[..., column]


def positions(
    to_mni: NDArray, shape: tuple[int, int, int], plane: str, indices: NDArray[np.intp]
) -> NDArray[np.float32]:
    """MNI152 coordinates of the pixels of slices.

    Parameters
    ----------
    to_mni : ndarray, shape (4, 4)
        From voxels of the volume to MNI152 mm.
    shape : (int, int, int)
        Of the volume.
    plane : {"axial", "coronal", "sagittal"}
    indices : ndarray of int, shape (n,)
        Of the slices; they may be outside the volume.

    Returns
    -------
    ndarray, shape (n, 3, H, W)
        mm.
    """
    along, row, column = _AXES[plane]
    rows, columns = np.arange(shape[row])[::-1], np.arange(shape[column])
    parts = np.ix_(indices, np.array([0]), rows, columns)  # (n, 1, 1, 1), ..., (1, 1, 1, W)
    axes = [to_mni[:3, axis].reshape(3, 1, 1) for axis in (along, row, column, 3)]
    coordinates = axes[0] * parts[0] + axes[1] * parts[2] + axes[2] * parts[3] + axes[3]
    return coordinates.astype(np.float32)


def slices_at(volume: NDArray, plane: str, indices: NDArray[np.intp]) -> NDArray:
    """Some slices of a volume of several channels, (X, Y, Z, C), beyond it the last; gives (n, C, H, W)."""
    channels = (extract(channel, plane) for channel in np.moveaxis(volume, -1, 0))
    return np.stack([np.take(channel, indices, axis=0, mode="clip") for channel in channels], axis=1)


def normalise(
    volume: NDArray, mask: NDArray, percent: tuple[float, float]
) -> tuple[NDArray[np.float32], tuple[float, float]]:
    """Map a robust range inside a mask to 0..1; nothing is clipped, outside the mask is 0.

    Parameters
    ----------
    volume, mask : ndarray, shape (X, Y, Z)
        On one grid.
    percent : (float, float)
        Percentiles inside the mask that become 0 and 1.

    Returns
    -------
    volume : ndarray, shape (X, Y, Z)
    range : (float, float)
        Values that became 0 and 1, in the volume's own units; an input of `denormalise`.

    Raises
    ------
    DataError
        The mask is empty, or the volume does not vary inside it.
    """
    inside = in_mask(mask)
    low, high = np.percentile(volume[inside], percent) if inside.any() else (0.0, 0.0)
    if not high > low:
        raise DataError(
            "the image does not vary inside the brain",
            value=f"{low:g} to {high:g}",
            remedy="look at the image and the mask",
        )
    data = np.where(inside, (volume - low) / (high - low), 0)
    return data.astype(np.float32), (float(low), float(high))


def denormalise(volume: NDArray, mask: NDArray, limits: tuple[float, float]) -> NDArray:
    """Inverse of `normalise` inside the mask; 0 outside.

    Parameters
    ----------
    volume, mask : ndarray, shape (X, Y, Z)
    limits : (float, float)
        The range from `normalise`.

    Returns
    -------
    ndarray, shape (X, Y, Z)
    """
    low, high = limits
    return np.where(in_mask(mask), volume * (high - low) + low, 0)


def stack(volumes: Mapping[str, NDArray], plane: str) -> NDArray[np.float16]:
    """Slices of several volumes as channels, shape (n_slices, channels, H, W)."""
    return np.stack([extract(v, plane) for v in volumes.values()], axis=1).astype(np.float16)


class SliceArray(NamedTuple):
    """All slices of one orientation on disk: those of a box, 0 outside of it.

    Attributes
    ----------
    inside : ndarray of float16, shape (n, channels, h, w)
        Memory-mapped.
    box : tuple of slice
        Slices, rows and columns that it holds.
    shape : (int, int, int)
        Number of slices, rows and columns of the grid.
    """

    inside: NDArray[np.float16]
    box: tuple[slice, slice, slice]
    shape: tuple[int, int, int]

    def read(self, first: int, last: int, channels: Sequence[int]) -> NDArray[np.float32]:
        """Read channels of the slices `first` to `last` - 1, shape (n, channels, H, W); outside the grid they are 0."""
        found = np.zeros((last - first, len(channels), *self.shape[1:]), dtype=np.float32)
        there, rows, columns = self.box
        start, stop = max(first, there.start), min(last, there.stop)
        if start < stop:
            part = self.inside[start - there.start : stop - there.start, list(channels)]
            found[start - first : stop - first, :, rows, columns] = part
        return found

    def filled(self, channel: int) -> NDArray[np.int32]:
        """Find the slices where a channel is not 0 everywhere, in order."""
        return (np.flatnonzero(self.inside[:, channel].any(axis=(1, 2))) + self.box[0].start).astype(np.int32)


def open_slices(path: Path, plane: str, box: Sequence[Sequence[int]], shape: Sequence[int]) -> SliceArray:
    """Memory-map what `write_slices` wrote.

    Parameters
    ----------
    path : Path
        Array of an orientation.
    plane : {"axial", "coronal", "sagittal"}
    box : sequence of (int, int)
        Entry of the record.
    shape : (int, int, int)
        Of the grid.

    Returns
    -------
    SliceArray
    """
    n, height, width = (int(shape[axis]) for axis in _AXES[plane])
    slices, (low, high), columns = (box[axis] for axis in _AXES[plane])
    place = slice(*slices), slice(height - high, height - low), slice(*columns)
    return SliceArray(np.load(path, mmap_mode="r"), place, (n, height, width))


def write_slices(volumes: Mapping[str, NDArray], outputs: Mapping[str, Path]) -> dict[str, Any]:
    """Write the slices of all orientations, without what is 0 around the brain in all volumes.

    Parameters
    ----------
    volumes : mapping of str to ndarray, shape (X, Y, Z)
        Channels.
    outputs : mapping of str to Path
        Array of each orientation, written.

    Returns
    -------
    dict
        Entries of the record: ``box``, first voxel and the one behind the last along each axis of the grid,
        and ``sha256``.
    """
    filled = np.logical_or.reduce([volume != 0 for volume in volumes.values()])
    box = []
    for axis in range(3):
        places = np.flatnonzero(filled.any(axis=tuple({0, 1, 2} - {axis})))
        box.append((int(places[0]), int(places[-1]) + 1) if places.size else (0, 1))
    part = tuple(slice(*ends) for ends in box)
    sha256 = hashlib.sha256(repr(box).encode())
    for plane, path in outputs.items():
        array = stack({name: volume[part] for name, volume in volumes.items()}, plane)
        sha256.update(array.tobytes())
        with whole(path) as temporary, temporary.open("wb") as stream:
            np.save(stream, array)
    return {"box": [list(ends) for ends in box], "sha256": sha256.hexdigest()}


def gather(
    t1w: Path,
    brain: Path,
    measured: Mapping[str, Path],
    target_mask: Path,
    percent: tuple[float, float],
) -> tuple[dict[str, NDArray], dict[str, Any]]:
    """Load a unit's volumes on the common grid as channels, and their entries of the record.

    Parameters
    ----------
    t1w, brain, target_mask : path
    measured : mapping of str to path
        Measured maps by modality; they are scaled as recorded in `m2m.io.modalities`, tensors along
        the axes of the grid.
    percent : (float, float)
        Of `normalise`, for T1.

    Returns
    -------
    channels : dict of str to ndarray, shape (X, Y, Z)
    about : dict
        For the record.
    """
    t1, mask, target = load(t1w), load(brain), load(target_mask)
    volumes = {name: load(path) for name, path in measured.items()}
    for name, volume in {"brain": mask, "target mask": target, **volumes}.items():
        require_same_grid(t1, volume, f"T1 and {name}")
    data, limits = normalise(t1.data, mask.data, percent)
    channels: dict[str, NDArray] = {"t1": data}
    for name, volume in volumes.items():
        modality = MODALITIES[name]
        scaled = modality.to_grid_axes(modality.scale(volume.data), volume.affine).reshape(*volume.shape, -1)
        channels |= dict(zip(modality.channels, np.moveaxis(scaled, -1, 0), strict=True))
    channels |= {"brain": in_mask(mask.data), "target_mask": in_mask(target.data)}
    return channels, {
        "channels": list(channels),
        "t1_range": list(limits),
        "affine": t1.affine.tolist(),
        "shape": list(t1.shape),
        "spacing_mm": round(float(t1.spacing_mm.mean()), 4),
        "t1_range_percent": list(percent),
        "axes": GRID_AXES,
    }


def cut(
    unit: str,
    files: Mapping[str, Path],
    maps: Sequence[str],
    outputs: Mapping[str, Path],
    record: Path,
    percent: tuple[float, float],
) -> None:
    """Cut a unit's slices; a failed or excluded unit gets empty files.

    Parameters
    ----------
    unit : str
    files : mapping of str to path
        Files of the unit, by kind.
    maps : sequence of str
        Modalities of the measured maps, in the order of their channels.
    outputs : mapping of str to path
        Array of each orientation, written.
    record : path
        Status, scaling and hash, JSON, written.
    percent : (float, float)
        Of `normalise`, for T1.
    """
    statuses = files["anat-status"], files["grid-status"]
    measured = {name: files[resampled_modality(name).kind] for name in maps}
    images = [files[kind] for kind in ("t1w", "brain", "target-mask")]
    with recorded("slices", unit, record, outputs.values(), [*images, *measured.values(), *statuses]) as content:
        require_ok(*statuses)
        content["excluded"] = [r for path in statuses for r in read_json(path)["excluded"]]
        content["grid_to_mni"] = read_json(statuses[0])["grid_to_mni"]
        channels, about = gather(files["t1w"], files["brain"], measured, files["target-mask"], percent)
        content |= about
        if content["excluded"]:
            for path in outputs.values():
                write_text(path, "")
        else:
            content |= write_slices(channels, outputs)


def main(
    root: Root,
    subject: Subject,
    session: Session = None,
    config: ConfigFile = None,
    options: Annotated[str | None, typer.Option(help="JSON of the section slices")] = None,
    maps: Annotated[list[str] | None, typer.Option(help="Measured map to cut, by modality; repeat.")] = None,
) -> None:
    """Cut normalised slices in three orientations; a failed or excluded unit gets empty files."""
    unit = unit_of(subject, session)
    percent = section_of("slices", config, options).t1_range_percent
    record, outputs = slice_files(root, unit, PLANES)
    cut(unit, unit_files(root, unit), maps or [REGISTERED], outputs, record, percent)
