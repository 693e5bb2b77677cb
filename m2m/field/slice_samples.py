"""Slices of one participant as samples of a field, each with its pose and thickness.

Points are in world mm (RAS+).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import NDArray

from m2m.io.errors import DataError
from m2m.io.volume import Volume, to_ras
from m2m.structural.slices import PLANES

# Axis of a RAS+ volume that is perpendicular to the slices of an orientation.
AXIS = {"axial": 2, "coronal": 1, "sagittal": 0}
assert set(AXIS) == set(PLANES)


class Slice(NamedTuple):
    """A slice with any pose.

    Attributes
    ----------
    image : ndarray, shape (H, W, C)
        Scaled values.
    pose : ndarray, shape (4, 4)
        (row, column, mm along the normal) to world mm.
    thickness_mm : float
        Full width at half maximum of a Gaussian profile along the normal; 0: a plane.
    counts : ndarray of bool, shape (H, W), or None
        Pixels that are used; None: all.
    """

    image: NDArray[np.float32]
    pose: NDArray[np.float64]
    thickness_mm: float = 0.0
    counts: NDArray[np.bool_] | None = None

    @property
    def points_mm(self) -> NDArray[np.float64]:
        """World mm of the pixels, shape (H * W, 3)."""
        rows, columns = self.image.shape[:2]
        indices = np.indices((rows, columns, 1)).reshape(3, -1).T
        return apply_affine(self.pose, indices)


def pixel_mm_of(slices: Sequence[Slice]) -> float:
    """Smallest distance between neighbouring pixels of a slice, mm; NaN without slices."""
    sides = [np.linalg.norm(one.pose[:3, :2], axis=0).min() for one in slices]
    return float(min(sides, default=np.nan))


class Box(NamedTuple):
    """Domain of a field: a box along the world axes, given by two corners.

    Attributes
    ----------
    low_mm, high_mm : ndarray, shape (3,)
    """

    low_mm: NDArray[np.float64]
    high_mm: NDArray[np.float64]

    def holds(self, points_mm: NDArray) -> NDArray[np.bool_]:
        """Whether points, shape (..., 3), lie inside the box, with a tolerance of a micrometre."""
        return np.all((points_mm >= self.low_mm - 1e-3) & (points_mm <= self.high_mm + 1e-3), axis=-1)

    def __str__(self) -> str:
        low, high = (", ".join(f"{x:.1f}" for x in corner) for corner in self)
        return f"({low}) to ({high}) mm"


def box_of(volume: Volume, margin_mm: float = 0.0) -> Box:
    """Bounding box of the voxel centres of a volume that are not 0, with a margin.

    Raises
    ------
    DataError
        There is no such voxel.
    """
    filled = np.argwhere(volume.data != 0)[:, :3]
    if not len(filled):
        raise DataError("is 0 everywhere, so the box of the field is not defined")
    points = apply_affine(volume.affine, filled)
    return Box(points.min(0) - margin_mm, points.max(0) + margin_mm)


def cut(volume: Volume, plane: str, every: int = 1, thickness_mm: float = 0.0) -> list[tuple[int, Slice]]:
    """Cut slices from a volume, starting in the middle of the first `every`.

    Parameters
    ----------
    volume : Volume
        Of any orientation, shape (X, Y, Z) or (X, Y, Z, C).
    plane : {"axial", "coronal", "sagittal"}
        The nearest orientation of the volume is used.
    every : int
        Distance between slices, in voxels; 1: all slices.
    thickness_mm : float
        Of the slices: see `Slice`.

    Returns
    -------
    list of (int, Slice)
        Index along the axis of the volume in RAS+ orientation, and the slice: its rows and columns
        are the other two axes, in this order.
    """
    volume, axis = to_ras(volume), AXIS[plane]
    data = volume.data.reshape(*volume.shape, -1)
    rows, columns = (other for other in range(3) if other != axis)
    normal = np.cross(volume.affine[:3, rows], volume.affine[:3, columns])
    slices = []
    for index in range(every // 2, volume.shape[axis], every):
        pose = np.eye(4)
        pose[:3, 0], pose[:3, 1] = volume.affine[:3, rows], volume.affine[:3, columns]
        pose[:3, 2] = normal / np.linalg.norm(normal)
        pose[:3, 3] = volume.affine[:3, 3] + index * volume.affine[:3, axis]
        slices.append((index, Slice(np.take(data, index, axis), pose, thickness_mm)))
    return slices


class Samples(NamedTuple):
    """Pixels of all slices inside a box.

    Attributes
    ----------
    points_mm : ndarray, shape (P, 3)
        World mm.
    values : ndarray, shape (P, C)
        Scaled values.
    number : ndarray of int, shape (P,)
        Number of the slice.
    """

    points_mm: NDArray[np.float32]
    values: NDArray[np.float32]
    number: NDArray[np.int64]


def gather(slices: Sequence[Slice], box: Box) -> Samples:
    """Collect the pixels inside a box.

    Raises
    ------
    DataError
        Fewer than two slices; one holds NaN or infinity, has no pixel in the box or another
        number of channels; or all are 0.
    """
    if len(slices) < 2:
        raise DataError(
            "a field needs at least two slices",
            value=len(slices),
            remedy="give more slices, or a smaller field.every",
        )
    points, values, numbers = [], [], []
    for number, one in enumerate(slices):
        if not np.isfinite(one.image).all():
            raise DataError(
                f"slice {number} holds NaN or infinity",
                value=int((~np.isfinite(one.image)).sum()),
                remedy="repair the image",
            )
        if one.image.shape[-1] != slices[0].image.shape[-1]:
            raise DataError(
                f"slice {number} has another number of channels than the first slice",
                value=one.image.shape[-1],
                remedy="give slices of one kind",
            )
        positions = one.points_mm
        inside = box.holds(positions)
        if one.counts is not None:
            inside &= one.counts.ravel()
        if not inside.any():
            raise DataError(
                f"slice {number} lies outside the box {box}",
                value=f"centre {positions.mean(0).round(1).tolist()} mm",
                remedy="check its pose",
            )
        points.append(positions[inside])
        values.append(one.image.reshape(-1, one.image.shape[-1])[inside])
        numbers.append(np.full(int(inside.sum()), number))
    if not any(part.any() for part in values):
        raise DataError("every slice is 0 inside the box", remedy="check the images")
    return Samples(
        np.concatenate(points).astype(np.float32),
        np.concatenate(values).astype(np.float32),
        np.concatenate(numbers).astype(np.int64),
    )
