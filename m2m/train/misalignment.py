"""Misalignment of a participant's labels: predicted per slice, joined over orientations, measured.

The slices of each orientation give an estimate of a participant's misalignment. The joint estimate
of all orientations is better, and also covers slices perpendicular to the distortion. For
participants simulated with a known distortion, the corrected part of it is measured.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nibabel.affines import apply_affine
from numpy.typing import NDArray
from scipy import ndimage

from m2m.io.bids import unit_path
from m2m.io.files import read_json
from m2m.io.volume import Volume, load, resample
from m2m.networks.correction import INVERSE_STEPS, LabelCorrection, area_change, inverse, warp
from m2m.structural.slices import PLANES, assemble, extract, in_plane
from m2m.train.dataset import Subject, whole_subject

BATCH = 16
LEAST_PX = 0.2
MISSED_PX = 0.5
FAR = 1e-3  # fraction of a Gaussian's weight inside the mask, below which a joint field fades to 0


@torch.inference_mode()
def predict_misalignments(
    subject: Subject, plane: str, source: str, target: str, correction: LabelCorrection
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Predict the misalignment of the slices of a subject, in batches.

    Parameters
    ----------
    subject : Subject
    plane : str
        Orientation.
    source, target : str
        Modalities.
    correction : LabelCorrection

    Yields
    ------
    misalignment : Tensor, shape (N, 2, H, W)
        Pixels.
    mask : Tensor of bool, shape (N, H, W)
        Target mask.
    """
    for batch in whole_subject(subject, plane, source, target, 1, BATCH, correction.context):
        yield correction(batch["correction_input"], batch["plane"]), batch["mask"][:, 0] > 0.5


def misalignment(
    field: Volume, dwi_to_t1: NDArray, t1_to_dwi: NDArray, affine: NDArray, shape: tuple[int, int, int]
) -> NDArray[np.float64]:
    """Misalignment of a map on the common grid: true position of its content minus voxel position.

    Parameters
    ----------
    field : Volume, shape (X, Y, Z, 3)
        Displacement of the simulation, T1 world mm: see `m2m.phantom.simulate`.
    dwi_to_t1 : ndarray, shape (4, 4)
        Transform of the simulation.
    t1_to_dwi : ndarray, shape (4, 4)
        Transform of the registration; its error is part of the misalignment.
    affine : ndarray, shape (4, 4)
        Of the common grid, voxels to world mm.
    shape : (int, int, int)
        Of the common grid.

    Returns
    -------
    ndarray, shape (X, Y, Z, 3)
        mm along the grid's axes.
    """
    residual = dwi_to_t1 @ t1_to_dwi
    points = apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1))
    error = apply_affine(residual, points) - points + resample(field, affine, shape, residual).data
    return error @ (affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0))


def measure(
    subject: Subject,
    plane: str,
    predictions: Iterator[tuple[torch.Tensor, torch.Tensor]],
    applied_mm: NDArray | None = None,
) -> dict[str, Any]:
    """Size of a subject's displacements in one orientation, and the misalignment that remains.

    Parameters
    ----------
    subject : Subject
    plane : str
        Orientation.
    predictions : iterator
        Of `predict_misalignments`.
    applied_mm : ndarray, shape (X, Y, Z, 3), or None
        Of `misalignment`, for a simulated participant. Only its in-plane components count, since
        slices are warped in their plane.

    Returns
    -------
    dict
        rms_mm and max_mm; folded, the fraction of pixels where the field folds or the displacement
        is not the inverse of the misalignment within `MISSED_PX` pixels. With ground truth also
        applied_rms_mm, residual_rms_mm (remaining) and recovered, 1 - (residual / applied)^2, which is None if
        the applied misalignment is below `LEAST_PX` pixels.
    """
    misalignment, mask = (torch.cat(parts) for parts in zip(*predictions, strict=True))
    displacement = inverse(misalignment)

    def in_mask(field: torch.Tensor) -> NDArray:
        return field.movedim(1, -1)[mask].numpy()  # (pixels, 2)

    missed = (displacement + warp(misalignment, displacement)).norm(dim=1) > MISSED_PX
    folded = ((area_change(misalignment) <= 0) | missed[:, :-1, :-1]) & mask[:, :-1, :-1]
    share, spacing_mm = float(folded.sum() / mask.sum()), subject.record["spacing_mm"]
    if applied_mm is None:
        return summarise(in_mask(displacement), share, spacing_mm)
    usable = subject.covered(plane)
    vectors_mm = np.stack([extract(part, plane)[usable] for part in in_plane(applied_mm, plane)], axis=1)
    applied = torch.from_numpy(vectors_mm / spacing_mm).float()  # (n, 2, H, W) pixels
    residual = displacement + warp(applied, displacement)
    return summarise(in_mask(displacement), share, spacing_mm, in_mask(applied), in_mask(residual))


def summarise(
    displacement: NDArray,
    folded: float,
    spacing_mm: float,
    applied: NDArray | None = None,
    residual: NDArray | None = None,
) -> dict[str, Any]:
    """Compute the values of `measure` from vectors inside the mask.

    Parameters
    ----------
    displacement : ndarray, shape (pixels, components)
        Pixels.
    folded : float
        Fraction of folded pixels.
    spacing_mm : float
    applied, residual : ndarray, shape (pixels, components), or None
        Applied and remaining misalignment, pixels; both or neither.

    Returns
    -------
    dict
        As of `measure`.
    """

    def rms_mm(vectors: NDArray) -> float:
        return float(spacing_mm * np.sqrt(np.square(vectors).sum(-1).mean()))

    largest_mm = float(spacing_mm * np.linalg.norm(displacement, axis=-1).max())
    values = {"rms_mm": rms_mm(displacement), "max_mm": largest_mm, "folded": folded}
    if applied is None or residual is None:
        return values
    applied_mm, residual_mm = rms_mm(applied), rms_mm(residual)
    recovered = 1 - (residual_mm / applied_mm) ** 2 if applied_mm > LEAST_PX * spacing_mm else None
    return values | {"applied_rms_mm": applied_mm, "residual_rms_mm": residual_mm, "recovered": recovered}


def joint_misalignment(
    subject: Subject,
    source: str,
    target: str,
    planes: Sequence[str],
    correction: LabelCorrection,
    smooth_mm: float,
) -> NDArray[np.float64]:
    """Misalignment of a subject as one field: mean over orientations, smoothed.

    A slice gives only the in-plane components, with noise. The misalignment of a subject is one
    smooth field.

    Parameters
    ----------
    subject : Subject
    source, target : str
        Modalities.
    planes : sequence of str
        Orientations that the correction was trained on.
    correction : LabelCorrection
    smooth_mm : float
        Standard deviation of the Gaussian smoothing inside the target mask.

    Returns
    -------
    ndarray, shape (X, Y, Z, 3)
        Voxels along the grid's axes; 0 along axes without misalignment by the model's options.
    """
    inside = subject.mask()
    total, views = np.zeros((*inside.shape, 3)), np.zeros(3)
    for plane in planes:
        free = correction.free[PLANES.index(plane)].numpy()  # (2,): rows, columns
        if not free.any():
            continue
        predicted = [part.numpy() for part, _ in predict_misalignments(subject, plane, source, target, correction)]
        usable = extract(inside, plane).any(axis=(1, 2))
        slices = np.zeros((2, *extract(inside, plane).shape))
        slices[:, usable] = np.concatenate(predicted).swapaxes(0, 1)
        for axis, unit in enumerate(np.eye(3)):
            signs = np.array(in_plane(unit, plane)) * free
            total[..., axis] += assemble(np.tensordot(signs, slices, 1), plane)
            views[axis] += abs(signs).sum()
    sigma = smooth_mm / subject.record["spacing_mm"]
    weight = ndimage.gaussian_filter(inside.astype(float), sigma)
    field = total / np.maximum(views, 1) * inside[..., None]
    field = ndimage.gaussian_filter(field, (sigma, sigma, sigma, 0))
    return field / np.maximum(weight, FAR)[..., None]


def warp_volume(volume: NDArray, displacement: NDArray, mode: str = "constant") -> NDArray[np.float64]:
    """Sample a volume at each voxel plus its displacement, linearly.

    Parameters
    ----------
    volume : ndarray, shape (X, Y, Z)
    displacement : ndarray, shape (X, Y, Z, 3)
        Voxels.
    mode : str
        Values outside the volume: see `scipy.ndimage.map_coordinates`.

    Returns
    -------
    ndarray, shape (X, Y, Z)
    """
    places = np.indices(volume.shape) + np.moveaxis(displacement, -1, 0)
    return ndimage.map_coordinates(volume, places, order=1, mode=mode)


def inverse_displacement(misalignment: NDArray) -> NDArray[np.float64]:
    """Displacement (X, Y, Z, 3) in voxels that inverts a misalignment, by fixed-point iteration."""
    displacement = -misalignment
    for _ in range(INVERSE_STEPS):
        parts = [warp_volume(part, displacement, "nearest") for part in np.moveaxis(misalignment, -1, 0)]
        displacement = -np.stack(parts, axis=-1)
    return displacement


def measure_joint(subject: Subject, misalignment: NDArray, applied_mm: NDArray | None = None) -> dict[str, Any]:
    """`measure` for a subject's joint field, with all three components of the applied misalignment.

    Parameters
    ----------
    subject : Subject
    misalignment : ndarray, shape (X, Y, Z, 3)
        Of `joint_misalignment`, voxels.
    applied_mm : ndarray, shape (X, Y, Z, 3), or None
        Of `misalignment`.

    Returns
    -------
    dict
        As of `measure`.
    """
    inside, spacing_mm = subject.mask(), subject.record["spacing_mm"]
    displacement = inverse_displacement(misalignment)

    def residual_of(field: NDArray) -> NDArray:
        parts = [warp_volume(part, displacement, "nearest") for part in np.moveaxis(field, -1, 0)]
        return (displacement + np.stack(parts, axis=-1))[inside]  # (voxels, 3)

    slopes = np.stack(np.gradient(misalignment, axis=(0, 1, 2)), axis=-1)  # (X, Y, Z, 3, 3)
    inverted = np.linalg.det(np.eye(3) + slopes[inside]) <= 0
    missed = np.linalg.norm(residual_of(misalignment), axis=-1) > MISSED_PX
    predicted = displacement[inside], float((inverted | missed).mean()), spacing_mm
    if applied_mm is None:
        return summarise(*predicted)
    applied = applied_mm / spacing_mm
    return summarise(*predicted, applied[inside], residual_of(applied))


def applied_misalignment(subject: Subject, root: Path, truth: Path) -> NDArray[np.float64]:
    """`misalignment` of one simulated participant, from the results and the ground truth.

    Parameters
    ----------
    subject : Subject
    root : Path
        Folder of the results.
    truth : Path
        Folder of the ground truth.

    Returns
    -------
    ndarray, shape (X, Y, Z, 3)
        mm along the grid's axes.
    """
    where = subject.unit.replace("_", "/"), subject.unit
    path = Path(unit_path(truth, "truth-displacement", *where))
    sidecar = read_json(path.with_name(path.name.replace(".nii.gz", ".json")))
    status = read_json(unit_path(root, "grid-status", *where))
    dwi_to_t1, t1_to_dwi = (np.array(x) for x in (sidecar["DwiWorldToT1World"], status["t1_to_dwi"]))
    record = subject.record
    return misalignment(load(path), dwi_to_t1, t1_to_dwi, np.array(record["affine"]), record["shape"])
