"""How far a label correction moved the targets that its model learned from, and moved targets.

Slices of different orientation each say how far a person's labels are off; joined, they say it
better, and for slices across the distortion, too. Where people are simulated with a known
distortion, how much of it the correction undid is measured.
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nibabel.affines import apply_affine
from numpy.typing import NDArray
from scipy import ndimage

from m2m.cohort.split import load_split, part_by_participant
from m2m.io.bids import unit_path
from m2m.io.files import read_json, whole, write_json
from m2m.io.tables import write_table
from m2m.io.volume import Volume, load, resample
from m2m.models.building import load_correction
from m2m.models.record import load_model
from m2m.networks.correction import INVERSE_STEPS, LabelCorrection, area_change, inverse, warp
from m2m.options import section_of
from m2m.options.configured import read_config, split_of
from m2m.options.stage_flags import ModelName, NeededConfig, Root, TaskName
from m2m.structural.slices import PLANES, assemble, extract, in_plane
from m2m.train.dataset import Subject, find_subjects, whole_subject

BATCH = 16
LEAST_PX = 0.2
MISSED_PX = 0.5
FOLDED = 1e-3  # share of pixels that is said aloud
FAR = 1e-3  # share of a Gaussian's weight inside the mask, below which a joint field fades
JOINT = "volume"  # the row of a person's joint field, among those of orientations
COLUMNS = (
    "unit", "participant_id", "part", "plane", "rms_mm", "max_mm", "folded",
    "true_rms_mm", "left_rms_mm", "recovered",
)  # fmt: skip


@torch.inference_mode()
def found_in(
    subject: Subject, plane: str, source: str, target: str, correction: LabelCorrection
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Misalignments (N, 2, H, W) in pixels and target masks (N, H, W) of a person's slices."""
    for batch in whole_subject(subject, plane, source, target, 1, BATCH, correction.context):
        yield correction(batch["beside"], batch["plane"]), batch["mask"][:, 0] > 0.5


def misalignment(
    field: Volume, dwi_to_t1: NDArray, t1_to_dwi: NDArray, affine: NDArray, shape: tuple[int, ...]
) -> NDArray[np.float64]:
    """How far off lies what a map on the common grid shows: its place minus the voxel's.

    Parameters
    ----------
    field : Volume, shape (X, Y, Z, 3)
        Of the simulation, T1 world mm: see `m2m.phantom.simulate`.
    dwi_to_t1 : ndarray, shape (4, 4)
        Where the simulation placed the DWI.
    t1_to_dwi : ndarray, shape (4, 4)
        Where the registration found it: what the two leave open is misalignment as well.
    affine, shape
        The common grid.

    Returns
    -------
    ndarray, shape (*shape, 3)
        mm along the grid's axes.
    """
    there = dwi_to_t1 @ t1_to_dwi
    points = apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1))
    off = apply_affine(there, points) - points + resample(field, affine, shape, there).data
    return off @ (affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0))


def measure(
    subject: Subject,
    plane: str,
    found: Iterator[tuple[torch.Tensor, torch.Tensor]],
    off_mm: NDArray | None = None,
) -> dict[str, Any]:
    """Size of a person's displacements in one orientation, and what they leave of the true ones.

    Parameters
    ----------
    subject : Subject
    plane : str
    found : iterator
        Of `found_in`.
    off_mm : ndarray, shape (X, Y, Z, 3), or None
        Of `misalignment`; only what lies in the plane counts, since a slice is moved in itself.

    Returns
    -------
    dict
        rms_mm, max_mm; folded, the share of pixels whose area turns over, or whose misalignment
        the displacement misses by `MISSED_PX` pixels; and with a truth
        true_rms_mm, left_rms_mm and recovered, 1 - (left / true)^2, None where there was next to
        nothing to recover: less than `LEAST_PX` pixels.
    """
    misalignment, mask = (torch.cat(parts) for parts in zip(*found, strict=True))
    displacement = inverse(misalignment)

    def seen(field: torch.Tensor) -> NDArray:
        return field.movedim(1, -1)[mask].numpy()  # (pixels, 2)

    missed = (displacement + warp(misalignment, displacement)).norm(dim=1) > MISSED_PX
    folded = ((area_change(misalignment) <= 0) | missed[:, :-1, :-1]) & mask[:, :-1, :-1]
    share, spacing_mm = float(folded.sum() / mask.sum()), subject.record["spacing_mm"]
    if off_mm is None:
        return outcome(seen(displacement), share, spacing_mm)
    usable = subject.open(plane)[:, subject.places("target_mask")[0]].any(axis=(1, 2))
    true = np.stack([extract(part, plane)[usable] for part in in_plane(off_mm, plane)], axis=1)
    true = torch.from_numpy(true / spacing_mm).float()  # (n, 2, H, W) pixels
    left = displacement + warp(true, displacement)
    return outcome(seen(displacement), share, spacing_mm, seen(true), seen(left))


def outcome(
    displacement: NDArray,
    folded: float,
    spacing_mm: float,
    true: NDArray | None = None,
    left: NDArray | None = None,
) -> dict[str, Any]:
    """What `measure` gives, from vectors (pixels, components) inside the mask, in pixels."""

    def rms_mm(vectors: NDArray) -> float:
        return float(spacing_mm * np.sqrt(np.square(vectors).sum(-1).mean()))

    largest_mm = float(spacing_mm * np.linalg.norm(displacement, axis=-1).max())
    values = {"rms_mm": rms_mm(displacement), "max_mm": largest_mm, "folded": folded}
    if true is None:
        return values
    true_mm, left_mm = rms_mm(true), rms_mm(left)
    recovered = 1 - (left_mm / true_mm) ** 2 if true_mm > LEAST_PX * spacing_mm else None
    return values | {"true_rms_mm": true_mm, "left_rms_mm": left_mm, "recovered": recovered}


def joint_misalignment(
    subject: Subject,
    source: str,
    target: str,
    planes: Sequence[str],
    correction: LabelCorrection,
    smooth_mm: float,
) -> NDArray[np.float64]:
    """A person's misalignment as one field: what all orientations found, averaged and smoothed.

    A slice tells what lies in it, and only roughly; a person lies wrong by one smooth field.

    Parameters
    ----------
    subject : Subject
    source, target : str
    planes : sequence of str
        Orientations that the correction has learned.
    correction : LabelCorrection
    smooth_mm : float
        Standard deviation of a Gaussian, inside the target mask.

    Returns
    -------
    ndarray, shape (X, Y, Z, 3)
        Voxels along the grid's axes; 0 along those that no orientation may be off along.
    """
    inside = subject.mask()
    total, views = np.zeros((*inside.shape, 3)), np.zeros(3)
    for plane in planes:
        free = correction.free[PLANES.index(plane)].numpy()  # (2,): rows, columns
        if not free.any():
            continue
        found = [part.numpy() for part, _ in found_in(subject, plane, source, target, correction)]
        usable = extract(inside, plane).any(axis=(1, 2))
        slices = np.zeros((2, *extract(inside, plane).shape))
        slices[:, usable] = np.concatenate(found).swapaxes(0, 1)
        for axis, unit in enumerate(np.eye(3)):
            signs = np.array(in_plane(unit, plane)) * free
            total[..., axis] += assemble(np.tensordot(signs, slices, 1), plane)
            views[axis] += abs(signs).sum()
    sigma = smooth_mm / subject.record["spacing_mm"]
    weight = ndimage.gaussian_filter(inside.astype(float), sigma)
    field = total / np.maximum(views, 1) * inside[..., None]
    field = ndimage.gaussian_filter(field, (sigma, sigma, sigma, 0))
    return field / np.maximum(weight, FAR)[..., None]


def moved(volume: NDArray, displacement: NDArray, mode: str = "constant") -> NDArray[np.float64]:
    """Read a volume (X, Y, Z) at each voxel plus a displacement (X, Y, Z, 3) in voxels."""
    places = np.indices(volume.shape) + np.moveaxis(displacement, -1, 0)
    return ndimage.map_coordinates(volume, places, order=1, mode=mode)


def undoing(misalignment: NDArray) -> NDArray[np.float64]:
    """Displacement (X, Y, Z, 3) in voxels that undoes a misalignment, by fixed-point steps."""
    displacement = -misalignment
    for _ in range(INVERSE_STEPS):
        parts = [moved(part, displacement, "nearest") for part in np.moveaxis(misalignment, -1, 0)]
        displacement = -np.stack(parts, axis=-1)
    return displacement


def measure_joint(
    subject: Subject, misalignment: NDArray, off_mm: NDArray | None = None
) -> dict[str, Any]:
    """`measure` of a person's joint field; of the truth all three directions count."""
    inside, spacing_mm = subject.mask(), subject.record["spacing_mm"]
    displacement = undoing(misalignment)

    def left_of(field: NDArray) -> NDArray:
        parts = [moved(part, displacement, "nearest") for part in np.moveaxis(field, -1, 0)]
        return (displacement + np.stack(parts, axis=-1))[inside]  # (voxels, 3)

    slopes = np.stack(np.gradient(misalignment, axis=(0, 1, 2)), axis=-1)  # (X, Y, Z, 3, 3)
    turned = np.linalg.det(np.eye(3) + slopes[inside]) <= 0
    missed = np.linalg.norm(left_of(misalignment), axis=-1) > MISSED_PX
    found = displacement[inside], float((turned | missed).mean()), spacing_mm
    if off_mm is None:
        return outcome(*found)
    true = off_mm / spacing_mm
    return outcome(*found, true[inside], left_of(true))


def true_misalignment(subject: Subject, root: Path, truth: Path) -> NDArray[np.float64]:
    """`misalignment` of one simulated person, from the files of the results and of the truth."""
    where = subject.unit.replace("_", "/"), subject.unit
    path = Path(unit_path(truth, "truth-displacement", *where))
    sidecar = read_json(path.with_name(path.name.replace(".nii.gz", ".json")))
    status = read_json(unit_path(root, "grid-status", *where))
    matrices = (np.array(x) for x in (sidecar["DwiWorldToT1World"], status["t1_to_dwi"]))
    record = subject.record
    return misalignment(load(path), *matrices, np.array(record["affine"]), record["shape"])


def correction_of(weights: Path) -> tuple[LabelCorrection, dict[str, Any], float]:
    """Label correction of a model, the model's record, and how smooth joint fields are."""
    tensors, record = load_model(weights, weights.with_name("model.json"))
    correction = load_correction(tensors, record)
    options = section_of(record)
    return correction, record, options.correct_labels.smooth_mm


def main(root: Root, task: TaskName, model: ModelName, config: NeededConfig) -> None:
    """Measure how far a model's label correction moved the targets it learned from."""
    written = read_config(config)
    known = written.phantom is not None and written.phantom.distortion_mm
    measure_model(
        root / "models" / task / model / "model.safetensors", root / "slices",
        *split_of(root, written.task(task).fold), root,
        root / "evaluate" / task / model / "labels.tsv", root / "truth" if known else None,
    )  # fmt: skip


def measure_model(
    weights: Path,
    slices_dir: Path,
    split: Path,
    split_record: Path,
    root: Path,
    table: Path,
    truth: Path | None = None,
) -> None:
    """Measure one model's correction: a row per person and orientation."""
    correction, record, smooth_mm = correction_of(weights)
    parts = part_by_participant(load_split(split, split_record))
    images, planes = (record["source"], record["target"]), record["options"]["planes"]
    subjects, _ = find_subjects(slices_dir, parts, *images)
    rows = []
    for part, people in subjects.items():
        for subject in people:
            off_mm = true_misalignment(subject, root, truth) if truth else None
            who = {"unit": subject.unit, "participant_id": subject.participant, "part": part}
            joint = joint_misalignment(subject, *images, planes, correction, smooth_mm)
            found = {
                plane: measure(
                    subject, plane, found_in(subject, plane, *images, correction), off_mm
                )
                for plane in planes
            } | {JOINT: measure_joint(subject, joint, off_mm)}
            for plane, values in found.items():
                rows.append(
                    {**who, "plane": plane}
                    | {k: None if v is None else f"{v:.5g}" for k, v in values.items()}
                )
    write_table(table, rows, COLUMNS)
    print(f"{record['model']}: labels of {len({row['unit'] for row in rows})} units measured")
    if folded := sorted({row["unit"] for row in rows if float(row["folded"]) > FOLDED}):
        print(f"Labels fold, raise correct_labels.smoothness: {', '.join(folded)}")


def correct(root: Root, task: TaskName, model: ModelName, config: NeededConfig) -> None:
    """Write the training part's slices with labels moved by each person's joint field.

    Targets are read where they belong, and known where they were measured before and after. All
    orientations are cut from the moved volume.
    """
    correct_slices(
        root / "models" / task / model / "model.safetensors", root / "slices",
        *split_of(root, read_config(config).task(task).fold), root / "labels" / task / model,
    )  # fmt: skip


def correct_slices(
    weights: Path, slices_dir: Path, split: Path, split_record: Path, out: Path
) -> None:
    """Write slices with labels that a model's correction moved, in the same folders."""
    correction, record, smooth_mm = correction_of(weights)
    parts = part_by_participant(load_split(split, split_record))
    images, planes = (record["source"], record["target"]), record["options"]["planes"]
    people = find_subjects(slices_dir, parts, *images)[0]["train"]
    for subject in people:
        joint = joint_misalignment(subject, *images, planes, correction, smooth_mm)
        displacement, inside = undoing(joint), subject.mask()
        known = inside & (moved(inside.astype(float), displacement) > 0.5)
        target = subject.volume(record["target"]).data.reshape(*inside.shape, -1)
        target = target * inside[..., None]  # (X, Y, Z, channels)
        channels = zip(subject.places(record["target"]), np.moveaxis(target, -1, 0), strict=True)
        volumes = {place: moved(channel, displacement) for place, channel in channels}
        volumes |= dict.fromkeys(subject.places("target_mask"), known)
        folder = out / subject.folder.relative_to(slices_dir)
        sha256 = hashlib.sha256()
        for plane in PLANES:
            array = subject.open(plane).copy()
            for place, volume in volumes.items():
                array[:, place] = extract(volume, plane)
            sha256.update(array.tobytes())
            path = folder / f"{subject.unit}_{plane}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole(path) as temporary, temporary.open("wb") as stream:
                np.save(stream, array)
        about = subject.record | {"sha256": sha256.hexdigest(), "labels_from": record["model"]}
        write_json(folder / f"{subject.unit}_slices.json", about)
    print(f"{record['model']}: labels of {len(people)} units moved")
