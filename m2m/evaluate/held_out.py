"""Held-out slices of a measured map, reconstructed from the kept ones by a field or by interpolation.

Every n-th slice of one orientation, or of three, is kept. Voxels of the region that lie on no kept
slice are compared with the measured map, in scaled units.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline, make_interp_spline

from m2m.evaluate.metrics import pearson, psnr, ssim_map
from m2m.field.fit import Fitted, fit
from m2m.field.sample import on_grid
from m2m.field.slice_samples import AXIS, Slice, box_of, cut
from m2m.io.volume import Volume
from m2m.options import SliceField

MARGIN_MM = 6.0
DEGREES = {"linear": 1, "cubic": 3}
MEAN, WEIGHTED, FIELD = "cubic, mean of planes", "cubic, inverse variance", "field"
# Smallest error variance from which a weight is computed, in squared scaled units.
SMALLEST_VARIANCE = 1e-6


class Case(NamedTuple):
    """A scaled map of which every n-th slice is kept.

    Attributes
    ----------
    image : Volume
        Scaled values, shape (X, Y, Z).
    inside : ndarray of bool, shape (X, Y, Z)
        The region that is compared.
    planes : sequence of str
        Orientations of the kept slices.
    every : int
        One slice in `every` is kept; at least 2.
    """

    image: Volume
    inside: NDArray[np.bool_]
    planes: Sequence[str]
    every: int

    @property
    def kept(self) -> dict[str, NDArray[np.intp]]:
        """Indices of kept slices of each orientation."""
        return {plane: np.arange(self.every // 2, self.image.shape[AXIS[plane]], self.every) for plane in self.planes}

    @property
    def unseen(self) -> NDArray[np.bool_]:
        """Held-out voxels: those of the region on no kept slice, shape (X, Y, Z)."""
        unseen = self.inside.copy()
        for plane, kept in self.kept.items():
            np.moveaxis(unseen, AXIS[plane], 0)[kept] = False
        return unseen

    @property
    def slices(self) -> list[Slice]:
        """Kept slices that pass through the bounding box of the region."""
        box = box_of(Volume(self.inside, self.image.affine), MARGIN_MM)
        found = [one for plane in self.planes for _, one in cut(self.image, plane, self.every)]
        return [one for one in found if box.holds(one.points_mm).any()]


class Score(NamedTuple):
    """PSNR (dB, data range 1), SSIM and Pearson's r of a map over the held-out voxels."""

    psnr: float
    ssim: float
    pearson: float


def interpolated(case: Case, plane: str, degree: int) -> NDArray:
    """Join slices of one orientation by a spline along their normal.

    Parameters
    ----------
    case : Case
    plane : str
        Orientation.
    degree : {1, 3}
        Degree of the spline.

    Returns
    -------
    ndarray, shape (X, Y, Z)
    """
    axis, kept = AXIS[plane], case.kept[plane]
    known = np.take(case.image.data, kept, axis)
    spline = CubicSpline(kept, known, axis) if degree == 3 else make_interp_spline(kept, known, 1, axis=axis)
    return spline(np.arange(case.image.shape[axis]))


def mean_of_planes(case: Case) -> NDArray:
    """Average the cubic splines of all orientations."""
    return np.mean([interpolated(case, plane, 3) for plane in case.planes], axis=0)


def weighted(case: Case) -> NDArray:
    """Average the cubic splines of all orientations, each weighted by its inverse error variance.

    The error variance of an orientation, at each distance from its kept slices, is measured on the
    voxels that lie on kept slices of the other orientations.
    """
    total: NDArray = np.zeros(())
    weights: NDArray = np.zeros(())
    for plane in case.planes:
        axis, kept = AXIS[plane], case.kept[plane]
        others = [p for p in case.planes if p != plane]
        covered = case.inside & ~case._replace(planes=others).unseen
        image = interpolated(case, plane, 3)
        index = np.arange(case.image.shape[axis])
        distance = np.abs(index[:, None] - kept).min(1)
        squares = np.where(covered, (image - case.image.data) ** 2, np.nan)
        by_slice = np.moveaxis(squares, axis, 0).reshape(len(index), -1)
        known = [by_slice[distance == d] for d in range(distance.max() + 1)]
        known = [part[~np.isnan(part)] for part in known]
        variance = np.array([part.mean() if part.size else np.nan for part in known])
        variance = np.nan_to_num(variance, nan=np.nanmax(variance))  # outside the region
        weight = 1 / np.maximum(variance[distance], SMALLEST_VARIANCE)
        weight = np.expand_dims(weight, [other for other in range(3) if other != axis])
        total, weights = total + weight * image, weights + weight
    return total / weights


def fitted_field(case: Case, slices: list[Slice], options: SliceField, device: str = "cpu") -> tuple[NDArray, Fitted]:
    """Fit a field to slices and sample it on the grid.

    Parameters
    ----------
    case : Case
        Gives the region and the grid.
    slices : list of Slice
        Slices that the field is fitted to.
    options : SliceField
    device : str

    Returns
    -------
    ndarray, shape (X, Y, Z)
        Sampled values, 0 and above.
    Fitted
    """
    box = box_of(Volume(case.inside, case.image.affine), MARGIN_MM)
    fitted = fit(slices, box, options, device, quiet=True)
    return on_grid(fitted.network, case.image.affine, case.image.shape).data[..., 0].clip(0), fitted


def methods(case: Case, options: SliceField, device: str = "cpu") -> dict[tuple[str, str], Callable[[], NDArray]]:
    """List the ways to join slices that are compared.

    Parameters
    ----------
    case : Case
    options : SliceField
        Options of the field.
    device : str
        Device on which the field is fitted.

    Returns
    -------
    dict
        By name and orientation (empty: all kept orientations), a function without parameters that
        returns the joined map, shape (X, Y, Z).
    """
    found: dict[tuple[str, str], Callable[[], NDArray]] = {
        (name, plane): partial(interpolated, case, plane, degree)
        for name, degree in DEGREES.items()
        for plane in case.planes
    }
    if len(case.planes) > 1:
        found[MEAN, ""] = partial(mean_of_planes, case)
        found[WEIGHTED, ""] = partial(weighted, case)
    found[FIELD, ""] = lambda: fitted_field(case, case.slices, options, device)[0]
    return found


def score(case: Case, image: NDArray) -> Score:
    """Compare a map, shape (X, Y, Z), with the measured one over the held-out voxels."""
    reference, unseen = np.where(case.inside, case.image.data, 0), case.unseen
    image = np.where(case.inside, image, 0)
    similarity = float(ssim_map(reference, image)[unseen].mean())
    return Score(psnr(reference, image, unseen), similarity, pearson(reference[unseen], image[unseen]))
