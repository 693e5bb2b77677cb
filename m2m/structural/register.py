"""Registration of two volumes by mutual information, linear with DIPY, non-linear with ANTs.

A transform maps world millimetres of the static volume to those of the moving one, as
`m2m.io.volume.resample` needs it. All voxels inside the static mask are used, without random
sampling, so results are reproducible.

References
----------
Mattes et al. (2003), IEEE TMI 22:120-128, https://doi.org/10.1109/TMI.2003.809072;
Garyfallidis et al. (2014), Front Neuroinform 8:8, https://doi.org/10.3389/fninf.2014.00008
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from dipy.align.imaffine import AffineRegistration, MutualInformationMetric
from dipy.align.transforms import AffineTransform3D, RigidTransform3D
from nibabel.affines import apply_affine
from numpy.typing import NDArray
from scipy import ndimage

from m2m import how_to_install
from m2m.diffusion.tensors import nearest_rotation
from m2m.io.masks import in_mask
from m2m.io.volume import Volume, coarsen, require_same_grid, resample

Kind = Literal["rigid", "affine"]
_TRANSFORMS = {"rigid": RigidTransform3D, "affine": AffineTransform3D}
# Unit of length of the optimisation: a rotation by one radian then shifts the brain's surface about
# as far as a translation by one unit, which the optimiser needs.
_UNIT_MM = 60.0


@dataclass(frozen=True)
class Registration:
    """A transform and its mutual information.

    Attributes
    ----------
    transform : ndarray, shape (4, 4)
        Static world mm to moving world mm.
    mi_headers, mi_registered : float
        Mutual information (nats) under the starting transform, and under the one found.
    kept : {"headers", "registration"}
        Which of the two `transform` is.
    """

    transform: NDArray[np.float64]
    mi_headers: float
    mi_registered: float
    kept: Literal["headers", "registration"]


def mutual_information(
    static: Volume,
    moving: Volume,
    transform: NDArray,
    mask: NDArray,
    displacement: NDArray | None = None,
    bins: int = 32,
) -> float:
    """Mutual information of two volumes inside a mask, in nats.

    Parameters
    ----------
    static, moving : Volume
    transform : ndarray, shape (4, 4)
        Static world mm to moving world mm.
    mask : ndarray of bool
        On the static volume's grid.
    displacement : ndarray, shape (X, Y, Z, 3), optional
        As in `m2m.io.volume.resample`.
    bins : int
        Of each volume's histogram, between its 1st and 99th percentile inside the mask; the outer
        bins include the tails.

    Returns
    -------
    float

    References
    ----------
    Wells et al. (1996), Med Image Anal 1:35-51, https://doi.org/10.1016/S1361-8415(01)80004-9
    """
    resampled = resample(moving, static.affine, static.shape, transform, 1, displacement)
    joint = np.zeros((bins, bins))
    np.add.at(joint, (_binned(static.data[mask], bins), _binned(resampled.data[mask], bins)), 1)
    joint /= joint.sum()
    product = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    filled = joint > 0
    return float((joint[filled] * np.log(joint[filled] / product[filled])).sum())


def _binned(values: NDArray, bins: int) -> NDArray[np.intp]:
    """Index of each value's bin."""
    low, high = np.percentile(values, [1, 99])
    scaled = (values - low) / (high - low) * bins if high > low else np.zeros_like(values)
    return np.clip(scaled, 0, bins - 1).astype(np.intp)


def find_transform(
    static: Volume,
    moving: Volume,
    kind: Kind,
    start: NDArray,
    mask: NDArray,
    iterations: int = 30,
    bins: int = 24,
) -> tuple[NDArray[np.float64], float]:
    """Find the transform of one kind that maximises mutual information inside a mask.

    Parameters
    ----------
    static, moving : Volume
        At the resolution of the registration.
    kind : {"rigid", "affine"}
    start : ndarray, shape (4, 4)
        Static world mm to moving world mm.
    mask : ndarray of bool
        On the static volume's grid; it includes a rim of background around the object.
    iterations, bins : int

    Returns
    -------
    transform : ndarray, shape (4, 4)
        Static world mm to moving world mm.
    similarity : float
        The optimiser's mutual information, comparable only for the same volumes and mask.
    """
    inside = ndimage.find_objects(mask.astype(np.int8))[0]
    corner = np.eye(4)
    corner[:3, 3] = [s.start for s in inside]
    affine = static.affine @ corner
    mask, values = mask[inside], static.data[inside]
    centre = apply_affine(affine, np.argwhere(mask).mean(0))
    to_static = _scaled_about(centre)
    to_moving = _scaled_about(apply_affine(start, centre))
    optimiser = AffineRegistration(
        metric=MutualInformationMetric(nbins=bins, sampling_proportion=None),
        level_iters=[iterations],
        sigmas=[0],
        factors=[1],
        verbosity=0,
    )
    found, _, value = optimiser.optimize(
        values,
        moving.data,
        _TRANSFORMS[kind](),
        None,
        static_grid2world=to_static @ affine,
        moving_grid2world=to_moving @ moving.affine,
        starting_affine=to_moving @ start @ np.linalg.inv(to_static),
        static_mask=mask.astype(np.int32),
        ret_metric=True,
    )
    return np.linalg.inv(to_moving) @ found.affine @ to_static, -float(value)


def _scaled_about(centre: NDArray) -> NDArray[np.float64]:
    """Transform, shape (4, 4), of world mm to units of `_UNIT_MM` around a centre."""
    matrix = np.eye(4) / _UNIT_MM
    matrix[:3, 3] = -np.asarray(centre) / _UNIT_MM
    matrix[3, 3] = 1
    return matrix


def align(
    static: Volume,
    moving: Volume,
    mask: NDArray,
    kind: Kind = "rigid",
    start: NDArray | None = None,
    spacings_mm: tuple[float, ...] = (6.0, 3.0),
) -> Registration:
    """Align two volumes from coarse to fine; keep the start if the result is not better.

    Parameters
    ----------
    static : Volume
        Isotropic, RAS+.
    moving : Volume
    mask : ndarray of bool
        The object in the static volume; a rim of 3 mm is added.
    kind : {"rigid", "affine"}
    start : ndarray, shape (4, 4), optional
        Static world mm to moving world mm; default identity, the scanner's headers.
    spacings_mm : tuple of float
        Resolutions, coarse to fine.

    Returns
    -------
    Registration
        Both values of mutual information are computed on the static volume's own grid.
    """
    start = np.eye(4) if start is None else np.asarray(start, dtype=np.float64)
    found = start
    for spacing_mm in spacings_mm:
        coarse = coarsen(static, spacing_mm)
        coarse_mask = resample(Volume(mask.astype(np.float32), static.affine), coarse.affine, coarse.shape)
        rim = dilated(in_mask(coarse_mask.data), spacing_mm)
        found, _ = find_transform(coarse, coarsen(moving, spacing_mm), kind, found, rim)
    rim = dilated(mask, float(static.spacing_mm.mean()))
    before = mutual_information(static, moving, start, rim)
    after = mutual_information(static, moving, found, rim)
    better = after > before
    return Registration(found if better else start, before, after, "registration" if better else "headers")


def rotation_deg(transform: NDArray) -> float:
    """Angle of a transform's rotation, degrees."""
    cosine = (np.trace(nearest_rotation(transform[:3, :3])) - 1) / 2
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def dilated(mask: NDArray, spacing_mm: float) -> NDArray[np.bool_]:
    """Widen a mask by a rim of 3 mm, at least one voxel."""
    return ndimage.binary_dilation(mask, iterations=max(1, round(3 / spacing_mm)))


def warp(static: Volume, moving: Volume, mask: NDArray) -> NDArray[np.float64]:
    """Non-linear displacement between two volumes on one grid, by SyN of ANTs.

    Parameters
    ----------
    static, moving : Volume
        On one isotropic grid, after linear registration.
    mask : ndarray of bool
        Voxels that both scans cover, so that the end of a volume is not taken for an edge.

    Returns
    -------
    ndarray, shape (X, Y, Z, 3)
        World mm from a point of the static volume to the corresponding point.

    Raises
    ------
    ModuleNotFoundError
        antspyx, an optional extra, is not installed.

    References
    ----------
    Avants et al. (2008), Med Image Anal 12:26-41, https://doi.org/10.1016/j.media.2007.06.004
    """
    try:
        import ants
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"grid.registration is syn, which needs ANTs: {how_to_install('ants')}; or choose rigid or affine"
        ) from error
    require_same_grid(static, moving, "syn")
    spacing = [float(s) for s in static.spacing_mm]
    # Both are on one grid, so ANTs can use the grid's axes instead of LPS+ world axes.
    images = [
        ants.from_numpy(np.where(mask, data, 0).astype(np.float32), spacing=spacing)
        for data in (static.data, moving.data)
    ]
    found = ants.registration(
        *images, type_of_transform="SyNOnly", initial_transform="identity", syn_metric="mattes", random_seed=1
    )
    field = next(name for name in found["fwdtransforms"] if name.endswith(".nii.gz"))
    along_axes = ants.image_read(field).numpy() / spacing
    return along_axes @ static.affine[:3, :3].T
