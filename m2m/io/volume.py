"""Images on disk and on grids; a volume always has its affine.

World coordinates are RAS+ millimetres, as in nibabel: x to the right, y to the front,
z up. An affine maps voxel indices (i, j, k) to them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from m2m import GENERATED_BY
from m2m.io.dataset_links import uri
from m2m.io.errors import DataError
from m2m.io.files import read_json, whole, write_json
from m2m.io.images import open_image, require_memory, slabs
from m2m.io.masks import in_mask
from m2m.io.overwriting import require_apart, sidecar_of

# Corners of one grid may lie so far apart, in voxels: programs round an affine differently. A shift by half a
# voxel, the error of conventions, is well above it.
GRID_TOLERANCE_VOXELS = 0.1


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
    """Load an image, with the header's slope and intercept applied.

    (X, Y, Z, 1) is loaded as the volume that it is.

    Parameters
    ----------
    path : path
    dtype : type
        Data type of the voxels.

    Returns
    -------
    Volume

    Raises
    ------
    DataError
        The file is missing, no regular file, of a format without orientation, unreadable, truncated or
        larger than the memory; it holds NaN, infinity or no numbers; or its affine cannot be inverted.
    """
    image = open_image(path)
    if image.header.dtype.kind not in "iuf" or min(image.shape) < 1:
        value = f"data type {image.header.dtype}, shape {image.shape}"
        raise DataError("voxels are not real numbers", file=path, value=value, remedy="convert the image again")
    require_memory(image, dtype)
    data: NDArray = np.empty(image.shape, dtype)
    for part in slabs(image.shape):
        data[part] = image.read(part)
    if not np.isfinite(data).all():
        count = int((~np.isfinite(data)).sum())
        raise DataError("has voxels that are NaN or infinite", file=path, value=count, remedy="repair the image")
    affine = image.affine
    if not np.isfinite(affine).all() or np.linalg.matrix_rank(affine[:3, :3]) < 3:
        raise DataError(
            "has an affine that cannot be inverted", file=path, value=affine.tolist(), remedy="convert the image again"
        )
    return Volume(data, affine)


def save(
    path: str | Path,
    volume: Volume,
    sources: Sequence[str | Path] = (),
    dtype: type = np.float32,
    **sidecar: object,
) -> None:
    """Save a NIfTI and, next to it, its JSON sidecar, each atomically.

    The header is new: no text of the input's header is copied.

    Parameters
    ----------
    path : path
        Ends in ``.nii.gz`` or ``.nii``.
    volume : Volume
    sources : paths
        Input files, for the sidecar's ``Sources``, as BIDS URIs. The first one defines the space:
        ``SpatialReference``.
    dtype : type
        Data type of the stored voxels.
    **sidecar
        Further keys of the sidecar, e.g. ``Description``.

    Raises
    ------
    ValueError
        The data hold NaN or infinity: no map is written.
    DataError
        The image is one of its sources.
    """
    path = Path(path)
    if not np.isfinite(volume.data).all():
        raise ValueError(f"{path.name}: refusing to write NaN or infinite voxels")
    require_apart([path, sidecar_of(path)], map(Path, sources))
    image = nib.Nifti1Image(np.asarray(volume.data, dtype=dtype), volume.affine)
    image.header.set_xyzt_units("mm")
    with whole(path) as temporary:
        nib.save(image, temporary)
    named = [uri(source, path) for source in sources]
    write_json(
        sidecar_of(path),
        {
            "Sources": named,
            **({"SpatialReference": named[0]} if named else {}),
            "GeneratedBy": GENERATED_BY,
        }
        | sidecar,
    )


def fitted_as(path: Path) -> dict[str, Any]:
    """What a map's sidecar states of its model, for the sidecar of a map that is made from it; empty without one."""
    sidecar = sidecar_of(path)
    about = read_json(sidecar) if sidecar.exists() else {}
    return {key: about[key] for key in ("Model", "OrientationEncoding", "NonNegativity") if key in about}


def corner_distance_voxels(a: NDArray, b: NDArray, shape: Sequence[int]) -> float:
    """Measure how far two grids of one shape lie apart.

    Parameters
    ----------
    a, b : ndarray, shape (4, 4)
        Affines.
    shape : (int, int, int)
        Of both grids.

    Returns
    -------
    float
        Largest distance between corresponding corners, in voxels (of `a`, its smallest size).
    """
    corners = np.stack(np.meshgrid(*([-0.5, n - 0.5] for n in shape), indexing="ij"), axis=-1).reshape(-1, 3)
    apart_mm = nib.affines.apply_affine(a, corners) - nib.affines.apply_affine(b, corners)
    return float(np.linalg.norm(apart_mm, axis=1).max() / nib.affines.voxel_sizes(a).min())


def same_space(a: NDArray, b: NDArray, shape: Sequence[int]) -> bool:
    """Whether two affines place a grid of one shape at one place, within `GRID_TOLERANCE_VOXELS`.

    The one comparison of grids in m2m, as of an image with its mask.
    """
    return corner_distance_voxels(a, b, shape) <= GRID_TOLERANCE_VOXELS


def same_grid(a: Volume, b: Volume) -> bool:
    """Whether two volumes share their shape and, within `GRID_TOLERANCE_VOXELS`, their affine."""
    return a.shape == b.shape and same_space(a.affine, b.affine, a.shape)


def require_same_grid(a: Volume, b: Volume, what: str) -> None:
    """Check that two volumes share one grid.

    Parameters
    ----------
    a, b : Volume
    what : str
        Names of the two, for the message.

    Raises
    ------
    ValueError
        The grids differ; the message states both.
    """
    if not same_grid(a, b):
        raise ValueError(
            f"{what}: grids differ: {a.shape} {a.affine.round(3).tolist()} and {b.shape} {b.affine.round(3).tolist()}"
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
        Affine of the new grid.
    shape : (int, int, int)
        Shape of the new grid.
    world : ndarray, shape (4, 4), optional
        Maps the new grid's world mm to the volume's world mm (a registration); default identity.
    order : int
        Order of the spline: 0 nearest (labels, masks), 1 linear, 3 cubic.
    displacement : ndarray, shape (X, Y, Z, 3), optional
        World mm added to the new grid's points before `world` (a non-linear registration).

    Returns
    -------
    Volume
        Voxels outside the source are 0.
    """
    shape = int(shape[0]), int(shape[1]), int(shape[2])
    to_source = np.linalg.inv(volume.affine) @ (np.eye(4) if world is None else world) @ affine
    if displacement is None and volume.shape == shape and np.allclose(to_source, np.eye(4), atol=1e-5):
        return Volume(volume.data.copy(), np.asarray(affine, dtype=np.float64))
    channels = volume.data.reshape(*volume.shape, -1)
    kind = volume.data.dtype if order == 0 else np.result_type(volume.data, np.float32)
    data = np.empty((*shape, channels.shape[-1]), dtype=kind)
    each = range(channels.shape[-1])
    if displacement is None:
        for c in each:
            target = {"output": data[..., c], "order": order, "mode": "grid-constant"}
            ndimage.affine_transform(channels[..., c], to_source[:3, :3], to_source[:3, 3], shape, **target)
    else:
        by_voxel = np.linalg.inv(affine)[:3, :3].T
        for i, slab in enumerate(displacement):  # the points of a whole volume take several times its memory
            points = np.stack([np.full(shape[1:], float(i)), *np.indices(shape[1:])], axis=-1) + slab @ by_voxel
            source = np.moveaxis(nib.affines.apply_affine(to_source, points), -1, 0)
            for c in each:
                ndimage.map_coordinates(channels[..., c], source, data[i, ..., c], order, "grid-constant")
    return Volume(data.reshape(*shape, *volume.data.shape[3:]), np.asarray(affine, dtype=np.float64))


def to_ras(volume: Volume) -> Volume:
    """Flip and permute axes to the nearest RAS+ order; world coordinates do not change."""
    # Not by way of a NIfTI image, which has no boolean voxels.
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
        Gives the directions of the axes.
    spacing_mm : float
    shape : (int, int, int)
    centre_mm : ndarray, shape (3,)
        World coordinates of the grid's centre.

    Returns
    -------
    affine : ndarray, shape (4, 4)
    shape : (int, int, int)
    """
    axes = to_ras(like).affine[:3, :3]
    # The nearest rotation: an affine with shear would not give an isotropic grid.
    u, _, v = np.linalg.svd(axes / np.linalg.norm(axes, axis=0))
    affine = np.eye(4)
    affine[:3, :3] = u @ v * spacing_mm
    affine[:3, 3] = np.asarray(centre_mm) - affine[:3, :3] @ ((np.asarray(shape) - 1) / 2)
    return affine, (int(shape[0]), int(shape[1]), int(shape[2]))


def blur_to(volume: Volume, spacing_mm: float) -> Volume:
    """Blur a volume to the resolution of a coarser grid, so that resampling does not alias.

    The Gaussian's full width at half maximum is sqrt(spacing_mm^2 - source^2) along each axis.
    An axis with voxels of this size or larger is not blurred.
    """
    fwhm_mm = np.sqrt(np.maximum(spacing_mm**2 - volume.spacing_mm**2, 0))
    sigma = fwhm_mm / np.sqrt(8 * np.log(2)) / volume.spacing_mm
    sigma = (*sigma, *[0] * (volume.data.ndim - 3))
    dtype = np.result_type(volume.data, np.float32)
    data = ndimage.gaussian_filter(volume.data.astype(dtype, copy=False), sigma, mode="nearest", truncate=3)
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

    Values at the mask's edge are weighted means of voxels inside the mask only (normalised
    convolution, Knutsson and Westin 1993).

    Parameters
    ----------
    volume : Volume
        Shape (X, Y, Z) or (X, Y, Z, channels).
    mask : Volume
        On the same grid; voxels of one half or more are used.
    affine, shape, world, displacement
        As in `resample`.

    Returns
    -------
    volume : Volume
        0 outside the mask.
    mask : Volume, bool
        Voxels that are covered by the mask to at least one half.
    """
    require_same_grid(volume, mask, "mask")
    spacing_mm = float(nib.affines.voxel_sizes(affine).mean())
    weight = in_mask(mask.data).astype(np.float32)[..., None]
    channels = volume.data.reshape(*volume.shape, -1)
    weighted = Volume(np.concatenate([channels * weight, weight], axis=-1), volume.affine)
    resampled = resample(blur_to(weighted, spacing_mm), affine, shape, world, 1, displacement).data
    total, share = resampled[..., :-1], resampled[..., -1:]
    inside = share >= 0.5 - 1e-4
    data = np.divide(total, share, where=inside, out=np.zeros(total.shape, total.dtype))
    data = data.reshape(*data.shape[:3], *volume.data.shape[3:])
    return Volume(data, affine), Volume(inside[..., 0], affine)


def coarsen(volume: Volume, spacing_mm: float) -> Volume:
    """Resample to isotropic voxels along the nearest RAS+ axes, over the whole field of view."""
    extent_mm = np.array(volume.shape) * volume.spacing_mm
    order = nib.io_orientation(volume.affine)[:, 0].astype(int)
    counts = np.ones(3, dtype=int)
    counts[order] = np.ceil(extent_mm / spacing_mm)
    centre = nib.affines.apply_affine(volume.affine, (np.array(volume.shape) - 1) / 2)
    affine, shape = isotropic_grid(volume, spacing_mm, counts.tolist(), centre)
    return resample(blur_to(volume, spacing_mm), affine, shape)


def crop(volume: Volume, points_mm: NDArray, margin_mm: float) -> Volume:
    """Cut out the box of voxels around points, with a margin.

    Parameters
    ----------
    volume : Volume
    points_mm : ndarray, shape (N, 3)
        World coordinates.
    margin_mm : float

    Returns
    -------
    Volume
        A view.
    """
    index = nib.affines.apply_affine(np.linalg.inv(volume.affine), points_mm)
    margin = margin_mm / volume.spacing_mm
    low = np.clip(np.floor(index.min(0) - margin), 0, volume.shape).astype(int)
    high = np.clip(np.ceil(index.max(0) + margin) + 1, 0, volume.shape).astype(int)
    affine = volume.affine.copy()
    affine[:3, 3] = nib.affines.apply_affine(affine, low)
    return Volume(volume.data[tuple(map(slice, low, high))], affine)
