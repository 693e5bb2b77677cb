"""Displacement fields of a T1's deformation to the template: Jacobians, rotations, the template's side of the field.

A field belongs to the common grid, in mm along the world axes of the T1. A point ``p`` of the T1 corresponds to
``to_mni(p + forward(p))`` of the template, a point ``q`` of the template to ``r + inverse(r)`` of the T1, where ``r``
is ``q`` by the inverse of ``to_mni``.

References
----------
Alexander et al. (2001), IEEE TMI 20:1131, https://doi.org/10.1109/42.963816 (finite strain).
"""

from pathlib import Path

import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import NDArray

from m2m.diffusion.tensors import nearest_rotation, voxel_axes
from m2m.io.errors import DataError
from m2m.io.volume import Volume, load, resample, same_grid

# Factors of the channels of `template_places` in the mirrored template.
MIRRORED = np.array([-1, 1, 1, 1, -1, -1, -1, 1, 1, -1, 1, 1], np.float32)


def load_displacement(path: Path, grid: Volume) -> Volume:
    """Load a field of the stage `m2m deform`.

    Parameters
    ----------
    path : Path
    grid : Volume
        Any image on the common grid.

    Returns
    -------
    Volume, shape (X, Y, Z, 3)

    Raises
    ------
    DataError
        It is no field on this grid.
    """
    field = load(path)
    if field.data.shape[3:] != (3,) or not same_grid(field, grid):
        raise DataError(
            "is no field of displacements on the common grid",
            file=path,
            value=f"{field.data.shape}, expected {(*grid.shape, 3)}",
            remedy="run `m2m deform` again, after `m2m anat`",
        )
    return field


def jacobians(displacement: NDArray, affine: NDArray) -> NDArray[np.float64]:
    """Jacobian matrices of the map ``p + displacement(p)``.

    Parameters
    ----------
    displacement : ndarray, shape (X, Y, Z, 3)
        World mm.
    affine : ndarray, shape (4, 4)
        Of its grid.

    Returns
    -------
    ndarray, shape (X, Y, Z, 3, 3)
        Derivatives of the three world coordinates (rows) by world mm (columns).
    """
    by_voxel = np.stack([*np.gradient(np.asarray(displacement, np.float64), axis=(0, 1, 2))], axis=-1)
    return np.eye(3) + by_voxel @ np.linalg.inv(affine[:3, :3])


def on_template(inverse: Volume, to_mni: NDArray, affine: NDArray, shape: tuple[int, int, int]) -> NDArray:
    """Resample an inverse field to a grid of the template, for `m2m.io.volume.resample` of a participant's map.

    Parameters
    ----------
    inverse : Volume, shape (X, Y, Z, 3)
        On the common grid, mm along the T1's world axes.
    to_mni : ndarray, shape (4, 4)
        From the T1's world mm to MNI152 mm.
    affine, shape
        Of the grid of the template.

    Returns
    -------
    ndarray, shape (*shape, 3)
        MNI152 mm, to be added to the points of the template before the inverse of `to_mni`.
    """
    in_t1 = resample(inverse, affine, shape, np.linalg.inv(to_mni)).data
    return in_t1 @ to_mni[:3, :3].T


def local_rotations(displacement: NDArray, affine: NDArray, world: NDArray) -> NDArray[np.float64]:
    """Rotations of tensors that `m2m.io.volume.resample` samples by a transform and a displacement, by finite strain.

    Parameters
    ----------
    displacement : ndarray, shape (X, Y, Z, 3)
        World mm of the new grid.
    affine : ndarray, shape (4, 4)
        Of the new grid.
    world : ndarray, shape (4, 4)
        From the new grid's world mm to those of the resampled image.

    Returns
    -------
    ndarray, shape (X, Y, Z, 3, 3)
        From the world axes of the image to those of the new grid.
    """
    return nearest_rotation(world[:3, :3] @ jacobians(displacement, affine)).swapaxes(-1, -2)


def template_places(displacement: NDArray, affine: NDArray, to_mni: NDArray, directed: bool) -> NDArray[np.float32]:
    """Places of a participant's voxels in the template, as a network with deformed inputs receives them.

    Parameters
    ----------
    displacement : ndarray, shape (X, Y, Z, 3)
        From the T1 to the template, world mm.
    affine : ndarray, shape (4, 4)
        Of its grid.
    to_mni : ndarray, shape (4, 4)
        From the T1's world mm to MNI152 mm.
    directed : bool
        Whether directions are needed, too: those of a map of tensors.

    Returns
    -------
    ndarray, shape (X, Y, Z, 3) or (X, Y, Z, 12)
        MNI152 mm; where directed followed by the elements, row by row, of the rotation (`local_rotations`) whose
        columns are the axes of the grid along those of the template.
    """
    points = apply_affine(affine, np.moveaxis(np.indices(displacement.shape[:3]), 0, -1)) + displacement
    places = apply_affine(to_mni, points).astype(np.float32)
    if not directed:
        return places
    axes = local_rotations(displacement, affine, to_mni).swapaxes(-1, -2) @ voxel_axes(affine)
    return np.concatenate([places, axes.reshape(*places.shape[:3], 9).astype(np.float32)], axis=-1)
