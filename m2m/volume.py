"""Images on disk and on grids: a volume never travels without its affine.

World coordinates are RAS+ millimetres, as in nibabel: x to the right, y to the front,
z up. An affine maps voxel indices (i, j, k) to them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from m2m import __version__
from m2m.stage import DataError, whole, write_json


@dataclass(frozen=True)
class Volume:
    """An image with its grid.

    Attributes
    ----------
    data : ndarray, shape (X, Y, Z) or (X, Y, Z, C)
    affine : ndarray, shape (4, 4)
        Voxel indices to RAS+ mm.
    """

    data: NDArray
    affine: NDArray[np.float64]

    @property
    def spacing_mm(self) -> NDArray[np.float64]:
        """Voxel size along each axis, shape (3,)."""
        return nib.affines.voxel_sizes(self.affine)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along the three spatial axes."""
        return self.data.shape[:3]


def load(path: str | Path, dtype: type = np.float32) -> Volume:
    """Load a NIfTI image, scaled.

    Raises
    ------
    DataError
        The file is missing, unreadable, truncated or holds NaN or infinity.
    """
    try:
        image = nib.load(path)
        data = np.asanyarray(image.dataobj).astype(dtype)
    except (OSError, EOFError, ValueError, nib.filebasedimages.ImageFileError) as error:
        raise DataError(
            f"cannot be read: {error}", file=path, remedy="convert or copy the image again"
        ) from error
    if not np.isfinite(data).all():
        count = int((~np.isfinite(data)).sum())
        raise DataError(
            "has voxels that are NaN or infinite", file=path, value=count, remedy="repair the image"
        )
    return Volume(data, np.asarray(image.affine, dtype=np.float64))


def save(
    path: str | Path,
    volume: Volume,
    sources: Sequence[str | Path] = (),
    dtype: type = np.float32,
    **sidecar: object,
) -> None:
    """Save a NIfTI and, beside it, its JSON sidecar, each whole or not at all.

    The header is new: no text of the input's header is carried over.

    Parameters
    ----------
    path : path
        Ends in ``.nii.gz`` or ``.nii``.
    volume : Volume
    sources : paths
        The files it was made from, for the sidecar's ``Sources``.
    dtype : type
        Of the stored voxels.
    **sidecar
        Further keys of the sidecar, e.g. ``Description``.

    Raises
    ------
    ValueError
        The data hold NaN or infinity: no map is written.
    """
    path = Path(path)
    if not np.isfinite(volume.data).all():
        raise ValueError(f"{path.name}: refusing to write NaN or infinite voxels")
    image = nib.Nifti1Image(np.asarray(volume.data, dtype=dtype), volume.affine)
    image.header.set_xyzt_units("mm")
    with whole(path) as temporary:
        nib.save(image, temporary)
    name = path.name.removesuffix(".gz").removesuffix(".nii")
    write_json(
        path.with_name(f"{name}.json"),
        {
            "Sources": [str(s) for s in sources],
            "GeneratedBy": {"Name": "m2m", "Version": __version__},
        }
        | sidecar,
    )


def same_grid(a: Volume, b: Volume) -> bool:
    """Whether two volumes share shape and affine (to a thousandth of a millimetre)."""
    return a.shape == b.shape and np.allclose(a.affine, b.affine, atol=1e-3)


def require_same_grid(a: Volume, b: Volume, what: str) -> None:
    """Raise ValueError, naming both grids, where two volumes do not share one."""
    if not same_grid(a, b):
        raise ValueError(
            f"{what}: grids differ: {a.shape} {a.affine.round(3).tolist()} and "
            f"{b.shape} {b.affine.round(3).tolist()}"
        )


def resample(
    volume: Volume,
    affine: NDArray,
    shape: tuple[int, int, int],
    world: NDArray | None = None,
    order: int = 1,
) -> Volume:
    """Resample onto another grid.

    Parameters
    ----------
    volume : Volume
    affine : ndarray, shape (4, 4)
        Of the new grid.
    shape : (int, int, int)
        Of the new grid.
    world : ndarray, shape (4, 4), optional
        Maps the new grid's world mm to the volume's world mm (a registration); default identity.
    order : int
        Of the spline: 0 nearest (labels, masks), 1 linear, 3 cubic.

    Returns
    -------
    Volume
        Voxels outside the source are 0.
    """
    to_source = np.linalg.inv(volume.affine) @ (np.eye(4) if world is None else world) @ affine
    if volume.shape == tuple(shape) and np.allclose(to_source, np.eye(4), atol=1e-5):
        return Volume(volume.data.copy(), np.asarray(affine, dtype=np.float64))
    channels = volume.data.reshape(*volume.shape, -1)
    data = np.empty((*shape, channels.shape[-1]), dtype=np.result_type(volume.data, np.float32))
    if order == 0:
        data = data.astype(volume.data.dtype)
    for c in range(channels.shape[-1]):
        ndimage.affine_transform(
            channels[..., c], to_source[:3, :3], to_source[:3, 3], shape,
            output=data[..., c], order=order, mode="constant",
        )  # fmt: skip
    return Volume(
        data.reshape(*shape, *volume.data.shape[3:]), np.asarray(affine, dtype=np.float64)
    )


def to_ras(volume: Volume) -> Volume:
    """Flip and permute axes to the nearest RAS+ order; world coordinates stay."""
    image = nib.as_closest_canonical(nib.Nifti1Image(volume.data, volume.affine))
    return Volume(np.asarray(image.dataobj), np.asarray(image.affine, dtype=np.float64))


def isotropic_grid(
    like: Volume, spacing_mm: float, shape: Sequence[int], centre_mm: NDArray
) -> tuple[NDArray[np.float64], tuple[int, int, int]]:
    """Affine and shape of an isotropic grid along the (nearest RAS+) axes of `like`.

    Parameters
    ----------
    like : Volume
        Its axes' directions are kept, nothing is rotated.
    spacing_mm : float
    shape : (int, int, int)
    centre_mm : ndarray, shape (3,)
        World coordinates of the grid's centre.
    """
    axes = nib.as_closest_canonical(nib.Nifti1Image(like.data, like.affine)).affine[:3, :3]
    affine = np.eye(4)
    affine[:3, :3] = axes / np.linalg.norm(axes, axis=0) * spacing_mm
    affine[:3, 3] = np.asarray(centre_mm) - affine[:3, :3] @ ((np.asarray(shape) - 1) / 2)
    return affine, tuple(int(n) for n in shape)
