"""Images on disk and on grids: a volume never travels without its affine.

World coordinates are RAS+ millimetres, as in nibabel: x to the right, y to the front,
z up. An affine maps voxel indices (i, j, k) to them.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from m2m import __version__
from m2m.io.bids import uri
from m2m.io.errors import DataError, unreadable
from m2m.io.files import whole, write_json


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
        The file is missing, unreadable, truncated or holds NaN or infinity, or its affine
        cannot be inverted.
    """
    try:
        image = nib.load(path)
        data = np.asanyarray(image.dataobj).astype(dtype)
    except (
        OSError, EOFError, ValueError, OverflowError, zlib.error,
        nib.filebasedimages.ImageFileError, nib.spatialimages.HeaderDataError,
    ) as error:  # fmt: skip
        raise unreadable(
            error, "cannot be read", path, "convert or copy the image again"
        ) from error
    if not np.isfinite(data).all():
        count = int((~np.isfinite(data)).sum())
        raise DataError(
            "has voxels that are NaN or infinite", file=path, value=count, remedy="repair the image"
        )
    affine = np.asarray(image.affine, dtype=np.float64)
    if not np.isfinite(affine).all() or np.linalg.matrix_rank(affine[:3, :3]) < 3:
        raise DataError(
            "has an affine that cannot be inverted", file=path, value=affine.tolist(),
            remedy="convert the image again",
        )  # fmt: skip
    return Volume(data, affine)


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
        The files it was made from, for the sidecar's ``Sources``; the first is the image in whose
        space it is, ``SpatialReference``.
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
    named = [uri(source, path) for source in sources]
    write_json(
        path.with_name(f"{name}.json"),
        {
            "Sources": named,
            **({"SpatialReference": named[0]} if named else {}),
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
    displacement: NDArray | None = None,
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
    displacement : ndarray, shape (*shape, 3), optional
        World mm added to the new grid's points before `world` (a non-linear registration).

    Returns
    -------
    Volume
        Voxels outside the source are 0.
    """
    shape = tuple(int(n) for n in shape)
    to_source = np.linalg.inv(volume.affine) @ (np.eye(4) if world is None else world) @ affine
    if displacement is not None:
        points = np.moveaxis(np.indices(shape, dtype=np.float64), 0, -1)
        points += displacement @ np.linalg.inv(affine)[:3, :3].T
    elif volume.shape == shape and np.allclose(to_source, np.eye(4), atol=1e-5):
        return Volume(volume.data.copy(), np.asarray(affine, dtype=np.float64))
    channels = volume.data.reshape(*volume.shape, -1)
    kind = volume.data.dtype if order == 0 else np.result_type(volume.data, np.float32)
    data = np.empty((*shape, channels.shape[-1]), dtype=kind)
    for c in range(channels.shape[-1]):
        target = {"output": data[..., c], "order": order, "mode": "grid-constant"}
        if displacement is None:
            matrix, offset = to_source[:3, :3], to_source[:3, 3]
            ndimage.affine_transform(channels[..., c], matrix, offset, shape, **target)
        else:
            source = np.moveaxis(nib.affines.apply_affine(to_source, points), -1, 0)
            ndimage.map_coordinates(channels[..., c], source, **target)
    return Volume(
        data.reshape(*shape, *volume.data.shape[3:]), np.asarray(affine, dtype=np.float64)
    )


def to_ras(volume: Volume) -> Volume:
    """Flip and permute axes to the nearest RAS+ order; world coordinates stay."""
    # Not through a NIfTI image, which has no boolean voxels.
    order = nib.io_orientation(volume.affine)
    affine = volume.affine @ nib.orientations.inv_ornt_aff(order, volume.shape)
    return Volume(nib.apply_orientation(volume.data, order), affine)


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
    axes = to_ras(like).affine[:3, :3]
    # The nearest rotation: an affine with shear would not give an isotropic grid.
    u, _, v = np.linalg.svd(axes / np.linalg.norm(axes, axis=0))
    affine = np.eye(4)
    affine[:3, :3] = u @ v * spacing_mm
    affine[:3, 3] = np.asarray(centre_mm) - affine[:3, :3] @ ((np.asarray(shape) - 1) / 2)
    return affine, tuple(int(n) for n in shape)


def blur_to(volume: Volume, spacing_mm: float) -> Volume:
    """Blur a volume to the resolution of a coarser grid, so that resampling does not alias.

    A Gaussian whose full width at half maximum is what the source lacks to `spacing_mm`:
    sqrt(spacing_mm^2 - source^2) along each axis. An axis already as coarse is left alone.
    """
    lacking = np.sqrt(np.maximum(spacing_mm**2 - volume.spacing_mm**2, 0))
    sigma = lacking / np.sqrt(8 * np.log(2)) / volume.spacing_mm
    sigma = (*sigma, *[0] * (volume.data.ndim - 3))
    dtype = np.result_type(volume.data, np.float32)
    data = ndimage.gaussian_filter(volume.data.astype(dtype), sigma, mode="nearest", truncate=3)
    return Volume(data, volume.affine)


def resample_inside(
    volume: Volume,
    mask: Volume,
    affine: NDArray,
    shape: tuple[int, int, int],
    world: NDArray | None = None,
    displacement: NDArray | None = None,
) -> tuple[Volume, Volume]:
    """Blur to another grid's resolution and resample linearly, using voxels of the mask only.

    Values at the mask's edge are weighted means of voxels inside, never mixed with what lies
    outside (normalised convolution, Knutsson and Westin 1993).

    Parameters
    ----------
    volume : Volume
        Shape (X, Y, Z) or (X, Y, Z, channels).
    mask : Volume
        On the same grid; where it is not 0, the volume counts.
    affine, shape, world, displacement
        As in `resample`.

    Returns
    -------
    volume : Volume
        0 outside the mask.
    mask : Volume, bool
        Voxels of which the mask covers at least half.
    """
    require_same_grid(volume, mask, "mask")
    spacing_mm = float(nib.affines.voxel_sizes(affine).mean())
    weight = (mask.data > 0).astype(np.float32)[..., None]
    channels = volume.data.reshape(*volume.shape, -1)
    weighted = Volume(np.concatenate([channels * weight, weight], axis=-1), volume.affine)
    carried = resample(blur_to(weighted, spacing_mm), affine, shape, world, 1, displacement).data
    total, share = carried[..., :-1], carried[..., -1:]
    inside = share >= 0.5 - 1e-4
    data = np.divide(total, share, where=inside, out=np.zeros(total.shape, total.dtype))
    data = data.reshape(*data.shape[:3], *volume.data.shape[3:])
    return Volume(data, affine), Volume(inside[..., 0], affine)


def coarsen(volume: Volume, spacing_mm: float) -> Volume:
    """Isotropic copy along the volume's nearest RAS+ axes, over its whole field of view."""
    extent_mm = np.array(volume.shape) * volume.spacing_mm
    order = nib.io_orientation(volume.affine)[:, 0].astype(int)
    shape = np.ones(3)
    shape[order] = np.ceil(extent_mm / spacing_mm)
    centre = nib.affines.apply_affine(volume.affine, (np.array(volume.shape) - 1) / 2)
    affine, shape = isotropic_grid(volume, spacing_mm, shape, centre)
    return resample(blur_to(volume, spacing_mm), affine, shape)


def crop(volume: Volume, points_mm: NDArray, margin_mm: float) -> Volume:
    """Cut out the box of voxels around points in world mm, shape (N, 3), and a margin."""
    index = nib.affines.apply_affine(np.linalg.inv(volume.affine), points_mm)
    margin = margin_mm / volume.spacing_mm
    low = np.clip(np.floor(index.min(0) - margin), 0, volume.shape).astype(int)
    high = np.clip(np.ceil(index.max(0) + margin) + 1, 0, volume.shape).astype(int)
    affine = volume.affine.copy()
    affine[:3, 3] = nib.affines.apply_affine(affine, low)
    return Volume(volume.data[tuple(map(slice, low, high))], affine)
