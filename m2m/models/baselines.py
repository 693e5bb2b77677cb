"""Two predictions without a network: the mean map of the cohort, and T1 rescaled to the target.

A model that is not better than both has learned nothing about the individual participant.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from m2m.diffusion.tensors import nearest_rotation, rotate, rotate_deviations, voxel_axes
from m2m.io.volume import Volume, resample, resample_inside
from m2m.models.uncertainty import Prediction
from m2m.structural.displacement import local_rotations, on_template
from m2m.structural.template import load_template

# Share of the participants that must cover a voxel of the mean map.
COVERAGE = 0.5


class MeasuredMap(NamedTuple):
    """A participant's map, for the mean of the cohort.

    Attributes
    ----------
    image : Volume
        Scaled, (X, Y, Z) or (X, Y, Z, 6); tensors along the axes of the grid.
    mask : ndarray of bool, shape (X, Y, Z)
        Where it was measured.
    to_mni : ndarray, shape (4, 4)
        From world mm to MNI152 mm.
    inverse : Volume or None
        Displacements (X, Y, Z, 3) from the template to the T1 (`m2m.structural.displacement`); None: affine only.
    """

    image: Volume
    mask: NDArray[np.bool_]
    to_mni: NDArray[np.float64]
    inverse: Volume | None = None


def fit_mean_map(subjects: Iterable[MeasuredMap], spacing_mm: float) -> dict[str, NDArray]:
    """Average a map over participants in template space.

    Each participant has the same weight where the target was measured. Tensors (six channels) are
    rotated from the axes of the participant's grid to those of the template. A voxel that fewer than half
    of the participants cover takes the value of the nearest voxel that at least half of them cover.
    The prediction for a participant with a large brain then has no rim of zeros.

    Parameters
    ----------
    subjects : iterable of MeasuredMap
    spacing_mm : float
        Of the grid of the mean map, which covers the template.

    Returns
    -------
    dict
        ``mean`` and ``sd`` over participants, (X, Y, Z) or (X, Y, Z, 6), ``affine`` (4, 4) to MNI152 mm.

    Raises
    ------
    ValueError
        No participant was given, or no voxel is covered by half of the participants.
    """
    template = load_template("brain", spacing_mm)
    # Values are summed in their own precision, squares in double precision.
    total: NDArray[np.floating] = np.zeros((), np.float32)
    squares: NDArray[np.floating] = np.zeros(())
    weight, n_subjects = np.zeros(template.shape), 0
    for one in subjects:
        grid = (template.affine, template.shape)
        displacement = None if one.inverse is None else on_template(one.inverse, one.to_mni, *grid)
        mask, to_t1 = Volume(one.mask, one.image.affine), np.linalg.inv(one.to_mni)
        values, inside = resample_inside(one.image, mask, *grid, to_t1, displacement)
        to_axes = to_template_axes(one.image.affine, one.to_mni)
        if displacement is not None and one.image.data.ndim > 3:
            to_axes = local_rotations(displacement, template.affine, to_t1) @ voxel_axes(one.image.affine)
        rotated = _by_tensor(rotate, values.data, to_axes)
        total, squares = total + rotated, squares + rotated.astype(np.float64) ** 2
        weight += inside.data
        n_subjects += 1
    common = weight >= max(COVERAGE * n_subjects, 1)
    if not common.any():
        raise ValueError(f"no voxel of the template is covered by half of the {n_subjects} participants")
    mean, square = ((part.T / np.where(common, weight, 1).T).T for part in (total, squares))
    sd = np.sqrt(np.maximum(square - mean.astype(np.float64) ** 2, 0))
    nearest = ndimage.distance_transform_edt(~common, return_distances=False, return_indices=True)
    maps = {"mean": mean, "sd": sd}
    maps = {name: part[tuple(nearest)].astype(np.float32) for name, part in maps.items()}
    return maps | {"affine": template.affine}


def predict_mean_map(
    tensors: Mapping[str, NDArray],
    affine: NDArray,
    shape: tuple[int, int, int],
    to_mni: NDArray,
    displacement: NDArray | None = None,
) -> Prediction:
    """Resample the mean map to the grid of a participant.

    Parameters
    ----------
    tensors : mapping
        From `fit_mean_map`.
    affine : ndarray, shape (4, 4)
        Of the participant's grid.
    shape : (int, int, int)
        Of the participant's grid.
    to_mni : ndarray, shape (4, 4)
        From the participant's world mm to MNI152 mm.
    displacement : ndarray, shape (X, Y, Z, 3), optional
        From the T1 to the template, on the same grid, in world mm, before `to_mni`.

    Returns
    -------
    Prediction
        (X, Y, Z), or (X, Y, Z, 6) along the axes of the participant's grid. The candidate for the
        standard deviation of its error is the one over ``subjects``, for each element.
    """
    mean, sd = (
        resample(Volume(tensors[name], tensors["affine"]), affine, shape, to_mni, 1, displacement).data
        for name in ("mean", "sd")
    )
    to_grid = to_template_axes(affine, to_mni).T
    if displacement is not None and mean.ndim > 3:
        to_grid = voxel_axes(affine).T @ local_rotations(displacement, affine, to_mni)
    return Prediction(_by_tensor(rotate, mean, to_grid), {"subjects": _by_tensor(rotate_deviations, sd, to_grid)})


def to_template_axes(affine: NDArray, to_mni: NDArray) -> NDArray[np.float64]:
    """Rotation, shape (3, 3), from the axes of a participant's grid to those of the template.

    Parameters
    ----------
    affine : ndarray, shape (4, 4)
        Of the grid.
    to_mni : ndarray, shape (4, 4)
        From the participant's world mm to MNI152 mm.
    """
    return nearest_rotation(to_mni[:3, :3]) @ voxel_axes(affine)


def _by_tensor(change: Callable[[NDArray, NDArray], NDArray], values: NDArray, rotation: NDArray) -> NDArray:
    """Rotate tensors (X, Y, Z, 6), or their standard deviations, all alike or each by its own; scalars stay."""
    if values.ndim == 3:
        return values
    if rotation.ndim == 2:
        return change(values, rotation).astype(values.dtype)
    # By slices: the matrices of all voxels take six times the memory of the tensors.
    return np.stack([change(*pair) for pair in zip(values, rotation, strict=True)]).astype(values.dtype)


def require_mean_map(tensors: Mapping[str, NDArray], channels: int) -> None:
    """Raise ValueError unless tensors are those of `fit_mean_map`, for this number of channels."""
    if set(tensors) != {"mean", "sd", "affine"}:
        raise ValueError("they are not mean, sd and affine")
    mean, affine = tensors["mean"], tensors["affine"]
    expected = () if channels == 1 else (channels,)
    if mean.ndim != 3 + len(expected) or mean.shape[3:] != expected or tensors["sd"].shape != mean.shape:
        raise ValueError(f"mean has the shape {mean.shape}, sd {tensors['sd'].shape}, for {channels} channels")
    if affine.shape != (4, 4) or np.linalg.matrix_rank(affine[:3, :3]) < 3 or min(mean.shape) < 1:
        raise ValueError("the affine cannot be inverted")


def require_line(tensors: Mapping[str, NDArray], channels: int) -> None:
    """Raise ValueError unless tensors are those of `fit_line`, for this number of channels."""
    if set(tensors) != {"intercept", "slope"}:
        raise ValueError("they are not intercept and slope")
    for name, values in tensors.items():
        if values.shape != (channels,):
            raise ValueError(f"{name} has the shape {values.shape}, for {channels} channels")


def fit_line(subjects: Iterable[tuple[NDArray, NDArray]]) -> dict[str, NDArray]:
    """Least-squares line from source to target, ``target = intercept + slope * source``.

    Parameters
    ----------
    subjects : iterable of (ndarray (n,), ndarray (n,) or (n, channels))
        Source and target values of the voxels of each participant, read one participant at a time.

    Returns
    -------
    dict
        ``intercept`` and ``slope``, shape (channels,).

    Raises
    ------
    ValueError
        The source does not vary.
    """
    n, x, xx = 0, 0.0, 0.0
    y, xy = np.zeros(()), np.zeros(())
    for source, target in subjects:
        u, v = source.astype(np.float64), target.reshape(len(target), -1).astype(np.float64)
        n, x, xx = n + u.size, x + u.sum(), xx + float(u @ u)
        y, xy = y + v.sum(axis=0), xy + u @ v
    spread = n * xx - x * x
    if spread <= 0:
        raise ValueError(f"the source does not vary over {n:.0f} voxels: no line can be fitted")
    slope = (n * xy - x * y) / spread
    return {"intercept": (y - slope * x) / n, "slope": slope}


def predict_line(tensors: Mapping[str, NDArray], source: NDArray) -> Prediction:
    """Predict the target from the source (X, Y, Z) by the line of `fit_line`; (X, Y, Z, 6) for tensors."""
    values = tensors["intercept"] + tensors["slope"] * source[..., None]
    image = values if len(tensors["slope"]) > 1 else values[..., 0]
    return Prediction(image.astype(np.float32), {})
