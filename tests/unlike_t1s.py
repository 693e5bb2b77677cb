"""T1s unlike those of healthy adults, made from a T1 and its registered template: what `m2m translate` must notice."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from m2m.io.masks import in_mask
from m2m.io.volume import Volume, resample, to_ras
from m2m.structural.anat import Anatomy
from m2m.structural.template import load_template

TEMPLATE_MM = 2.0
# Centre (MNI152 mm) of a lesion in the right hemisphere's white matter, where frontal and parietal lobe meet.
LESION_MM = (32.0, -18.0, 28.0)


class Head(NamedTuple):
    """A sound T1 and where its parts are.

    Attributes
    ----------
    t1 : Volume
        RAS+.
    brain : ndarray of bool, shape (X, Y, Z)
    mni_mm : ndarray, shape (X, Y, Z, 3)
        MNI152 coordinates of every voxel.
    fluid, grey, white : float
        Intensities.
    """

    t1: Volume
    brain: NDArray[np.bool_]
    mni_mm: NDArray[np.float64]
    fluid: float
    grey: float
    white: float

    def changed(self, data: NDArray) -> Volume:
        """The same grid with other intensities, none of them negative."""
        return Volume(np.maximum(data, 0).astype(np.float32), self.t1.affine)


def head_of(t1: Volume, anatomy: Anatomy) -> Head:
    """Find the parts of a sound T1 by its anatomy."""
    t1 = to_ras(t1)

    def on_t1(volume: Volume, to: NDArray) -> NDArray:
        return resample(volume, t1.affine, t1.shape, to).data

    tissue = {name: on_t1(load_template(name, TEMPLATE_MM), anatomy.grid_to_mni) for name in ("gm", "wm")}
    brain = in_mask(on_t1(Volume(anatomy.brain.data.astype(np.float32), anatomy.brain.affine), np.eye(4)))
    deep = brain & (ndimage.distance_transform_edt(brain, t1.spacing_mm) > 20)
    grey, white = (float(np.median(t1.data[brain & (tissue[name] > 0.8)])) for name in ("gm", "wm"))
    fluid = float(np.percentile(t1.data[deep & (tissue["gm"] + tissue["wm"] < 0.3)], 20))
    voxels = np.moveaxis(np.indices(t1.shape), 0, -1)
    return Head(t1, brain, apply_affine(anatomy.grid_to_mni @ t1.affine, voxels), fluid, grey, white)


def t2(head: Head) -> Volume:
    """Contrast of a T2: fluid brightest, white matter dark; the background stays dark."""
    data, top = head.t1.data, head.white
    inside = ndimage.binary_closing(data > 0.15 * top, iterations=3) | head.brain
    return head.changed(np.where(inside, 1.3 * top - np.minimum(data, 1.2 * top), data))


def lesion(litres: float) -> Callable[[Head], Volume]:
    """Fluid in place of a lobe, with a soft edge."""

    def change(head: Head) -> Volume:
        rng = np.random.default_rng(1)
        wobble = ndimage.gaussian_filter(rng.standard_normal(head.t1.shape), 6 / head.t1.spacing_mm)
        distance = np.linalg.norm(head.mni_mm - LESION_MM, axis=-1) + 3 * wobble / wobble.std()
        ordered = np.sort(distance[head.brain])
        radius = ordered[round(litres * 1e6 / np.prod(head.t1.spacing_mm))]
        share = ndimage.gaussian_filter(((distance < radius) & head.brain).astype(float), 2 / head.t1.spacing_mm)
        return head.changed((1 - share) * head.t1.data + share * head.fluid)

    return change


def contrast_agent(head: Head) -> Volume:
    """Sagittal sinus, rim of the brain and vessels 1.8 times as bright as white matter."""
    rng = np.random.default_rng(2)
    noise = ndimage.gaussian_filter(rng.standard_normal(head.t1.shape), 3 / head.t1.spacing_mm)
    spacing = head.t1.spacing_mm
    depth = ndimage.distance_transform_edt(head.brain, spacing) - ndimage.distance_transform_edt(~head.brain, spacing)
    rim = (np.abs(depth) < 3) & (noise > 0)
    sinus = (np.abs(head.mni_mm[..., 0]) < 5) & (np.abs(depth) < 7) & (head.mni_mm[..., 2] > 0)
    vessels = head.brain & (np.abs(noise) < 0.03 * noise.std()) & (depth < 20)
    bright = ndimage.gaussian_filter((rim | sinus | vessels).astype(float), 0.7 / spacing)
    return head.changed(np.maximum(head.t1.data, bright * 1.8 * head.white))


def half(axis: int, keep: slice) -> Callable[[Head], Volume]:
    """A field of view that ends inside the brain, along an axis; `keep` is in percent of the brain's extent."""

    def change(head: Head) -> Volume:
        inside = np.flatnonzero(head.brain.any(tuple({0, 1, 2} - {axis})))
        low, extent = inside[0], inside[-1] - inside[0]
        start = 0 if keep.start is None else low + round(extent * keep.start / 100)
        stop = head.t1.shape[axis] if keep.stop is None else low + round(extent * keep.stop / 100)
        corner = np.eye(4)
        corner[axis, 3] = start
        data = np.take(head.t1.data, range(start, stop), axis)
        return Volume(np.ascontiguousarray(data), head.t1.affine @ corner)

    return change


def zeroed(axis: int) -> Callable[[Head], Volume]:
    """Half of the head is 0, in a field of view that holds all of it."""

    def change(head: Head) -> Volume:
        return head.changed(np.where(head.mni_mm[..., axis] > (0, -18, 10)[axis], 0, head.t1.data))

    return change


def scaled(factor: float, t1: Volume) -> Volume:
    """The same voxels, smaller or larger."""
    return Volume(t1.data, np.diag([factor, factor, factor, 1]) @ t1.affine)


def infant(head: Head) -> Volume:
    """White matter darker than grey, in a brain of half the volume."""
    middle = (head.fluid + head.grey) / 2
    tissue = head.brain & (head.t1.data > middle)
    swapped = np.where(tissue, np.maximum(head.grey + head.white - head.t1.data, middle), head.t1.data)
    return scaled(0.8, head.changed(swapped))


def toddler(head: Head) -> Volume:
    """White matter hardly brighter than grey, in a brain of .6 of the volume."""
    tissue = head.brain & (head.t1.data > head.grey)
    flat = np.where(tissue, head.grey + 0.3 * (head.t1.data - head.grey), head.t1.data)
    return scaled(0.6 ** (1 / 3), head.changed(flat))


def noise(share: float) -> Callable[[Head], Volume]:
    """Rician noise, its standard deviation a share of white matter's intensity."""

    def change(head: Head) -> Volume:
        real, imaginary = share * head.white * np.random.default_rng(3).standard_normal((2, *head.t1.shape))
        return head.changed(np.hypot(head.t1.data + real, imaginary))

    return change


def bias(factor: float) -> Callable[[Head], Volume]:
    """Intensities that change by a factor from the back to the front of the head."""

    def change(head: Head) -> Volume:
        share = np.clip((head.mni_mm[..., 1] + 105) / 175, 0, 1)
        return head.changed(head.t1.data * factor**share)

    return change


def rotated(axis: str, degrees: float) -> Callable[[Head], Volume]:
    """A head that lies otherwise than its header says."""

    def change(head: Head) -> Volume:
        matrix = np.eye(4)
        matrix[:3, :3] = Rotation.from_euler(axis, degrees, degrees=True).as_matrix()
        return Volume(head.t1.data, matrix @ head.t1.affine)

    return change


UNLIKE: dict[str, Callable[[Head], Volume]] = {
    "contrast of a T2": t2,
    "lesion of 60 ml": lesion(0.06),
    "lesion of 100 ml": lesion(0.1),
    "contrast agent": contrast_agent,
    "left half only": half(0, slice(None, 50)),
    "front half only": half(1, slice(50, None)),
    "upper half only": half(2, slice(50, None)),
    "upper .8 only": half(2, slice(20, None)),
    "left .8 only": half(0, slice(None, 80)),
    "right half zero": zeroed(0),
    "front half zero": zeroed(1),
    "upper half zero": zeroed(2),
    "infant": infant,
    "toddler": toddler,
    "upside down": rotated("x", 180),
    "rotated by 90 degrees": rotated("z", 90),
    "noise of .2": noise(0.2),
    "noise of .4": noise(0.4),
    "bias of 4": bias(4),
    "bias of 10": bias(10),
    "voxels of twice the size": lambda head: scaled(2, head.t1),
    "voxels of half the size": lambda head: scaled(0.5, head.t1),
}
