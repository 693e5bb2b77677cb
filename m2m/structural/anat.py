"""Resampling of the T1 to the common grid: affine to the template, brain mask, white matter.

The common grid has the T1's own (nearest RAS+) axes, is isotropic and centred on the brain's
bounding box. The T1 on it is brain-extracted, as the inputs of the paper.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from nibabel.affines import apply_affine
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_multiotsu

from m2m.io.bids import files_of, unit_of
from m2m.io.errors import DataError
from m2m.io.masks import in_mask, supplied_mask
from m2m.io.unit_status import recorded
from m2m.io.volume import (
    Volume,
    coarsen,
    crop,
    isotropic_grid,
    load,
    resample,
    resample_inside,
    same_grid,
    save,
    to_ras,
)
from m2m.options import Anat
from m2m.options.configured import section_of
from m2m.options.stage_flags import ConfigFile, Root, Session, Subject
from m2m.structural.other_orientations import Rotated, require_upright, rotated_t1
from m2m.structural.template import load_template
from m2m.structural.template_search import SCALPS_MM, find_template

# Spacing (mm) of the mask.
MASK_MM = 2.0
# Largest distance (mm) of the brain's surface from that of the template.
BAND_MM = 6.0
# Least mutual information (nats) of a head in its right orientation with the template: real T1s reach .39, noise .16.
LEAST_MI = 0.25
# Standard deviation (mm) of the weights of the white matter that an intensity is compared with.
BIAS_MM = 20.0


@dataclass(frozen=True)
class Anatomy:
    """A T1 on the common grid.

    Attributes
    ----------
    t1 : Volume
        Brain-extracted (0 outside the brain), in the scanner's units.
    brain, wm : Volume
        Boolean: the brain, and white matter inside it.
    grid_to_mni : ndarray, shape (4, 4)
        World mm to MNI152 mm.
    brain_volume_l : float
        In litres, sulci and ventricles included.
    mi_start, mi_registered : float
        Mutual information (nats) of T1 and template before and after the registration.
    rotated : Rotated or None
        What other orientations of the head reach; None where the registration is beyond doubt.
    excluded : list of str
        Reasons to exclude this participant; empty if there are none.
    """

    t1: Volume
    brain: Volume
    wm: Volume
    grid_to_mni: NDArray[np.float64]
    brain_volume_l: float
    mi_start: float
    mi_registered: float
    excluded: list[str]
    rotated: Rotated | None = None

    @property
    def brain_centre_mm(self) -> NDArray[np.float64]:
        """World coordinates of the brain's centre of mass, shape (3,)."""
        return apply_affine(self.brain.affine, np.argwhere(self.brain.data).mean(0))


def prepare(t1: Volume, mask: Volume | None, options: Anat) -> Anatomy:
    """Resample a native T1 to the common grid.

    Parameters
    ----------
    t1 : Volume
        Shape (X, Y, Z): any orientation and resolution, oblique or not, with or without skull.
    mask : Volume or None
        Brain mask on the T1's grid; None: computed from the T1.
    options : options.Anat

    Returns
    -------
    Anatomy

    Raises
    ------
    DataError
        No brain is found, it is larger than the grid, or the head lies otherwise than the header says.
    """
    t1 = _one_volume(t1)
    if mask is not None:
        mask = _on_grid_of(t1, _one_volume(mask))
        t1 = Volume(np.where(mask.data, t1.data, 0), t1.affine)
    scalps_mm = SCALPS_MM if mask is None else (0.0,)
    to_t1, mi_start, mi_registered = find_template(t1, scalps_mm)
    rotated = None
    if mi_registered < options.doubtful_mi:
        rotated = rotated_t1(t1, to_t1, scalps_mm)
        require_upright(rotated, options.max_rotated_mi, "anat.max_rotated_mi", LEAST_MI)
    native = extract_brain(t1, to_t1) if mask is None else mask
    litres = float(native.data.sum() * np.prod(native.spacing_mm) / 1e6)
    box = apply_affine(native.affine, np.argwhere(_ends(native.data)))
    affine, shape = _common_grid(native, box, options)
    margin_mm = 3 * options.spacing_mm
    on_grid, brain = resample_inside(crop(t1, box, margin_mm), crop(native, box, margin_mm), affine, shape)
    low, high = options.brain_volume_l
    reason = f"brain volume {litres:.2f} l is outside {low:g} to {high:g} l"
    grid_to_mni = np.asarray(np.linalg.inv(to_t1), dtype=np.float64)
    wm = white_matter(on_grid, brain, grid_to_mni)
    excluded = [] if low <= litres <= high else [reason]
    return Anatomy(on_grid, brain, wm, grid_to_mni, litres, mi_start, mi_registered, excluded, rotated)


def _on_grid_of(t1: Volume, mask: Volume) -> Volume:
    """The voxels inside a supplied mask; DataError unless it is a mask on the T1's grid."""
    if not same_grid(t1, mask):
        raise DataError(
            "the brain mask is not on its T1's grid",
            value=f"mask {mask.shape}, T1 {t1.shape}",
            remedy="supply the mask on the T1's grid, or none",
        )
    return Volume(supplied_mask(mask.data), t1.affine)


def _one_volume(volume: Volume) -> Volume:
    """Reorient a volume to RAS+ and drop a fourth axis of length one."""
    if volume.data.ndim < 3 or volume.data.size != np.prod(volume.shape):
        raise DataError(
            "is not a three-dimensional volume", value=volume.data.shape, remedy="supply one volume, not a series"
        )
    return to_ras(Volume(volume.data.reshape(volume.shape), volume.affine))


def extract_brain(t1: Volume, mni_to_t1: NDArray) -> Volume:
    """Brain mask: that of the template, its surface shifted to the T1's by at most `BAND_MM`.

    Tissue has an intensity, relative to the white matter near it, above the middle between skull or
    fluid and grey matter. Connections to scalp and eyes are removed, and sulci are closed.

    Parameters
    ----------
    t1 : Volume
    mni_to_t1 : ndarray, shape (4, 4)

    Returns
    -------
    Volume
        Boolean, on the T1's grid.
    """
    template = load_template("brain", MASK_MM)
    points = apply_affine(mni_to_t1 @ template.affine, np.argwhere(template.data))
    near = coarsen(crop(t1, points, 4 * BAND_MM), MASK_MM)
    prior = in_mask(resample(template, near.affine, near.shape, np.linalg.inv(mni_to_t1)).data)
    depth_mm = _distance_mm(prior) - _distance_mm(~prior)
    relative = _relative_to_white_matter(near, np.linalg.inv(mni_to_t1))
    inside = (depth_mm > 3) & (relative < 1.5)
    low, high = _classes(relative[inside])
    grey = np.median(relative[inside & (relative > low) & (relative < high)])
    rim = np.abs(depth_mm) < BAND_MM
    dark = (np.percentile(relative[rim], 5) + np.percentile(relative[inside], 1)) / 2
    band = depth_mm > -BAND_MM
    tissue = (relative > (dark + grey) / 2) & (relative < 1.45) & band
    mask = _opened(tissue, 3.0, 4.0) | (depth_mm > BAND_MM + 2)
    mask = _closed(mask, 8.0) & band
    mask = _opened(ndimage.binary_fill_holes(mask), 4.0, 4.0)
    native = resample(Volume(mask.astype(np.float32), near.affine), t1.affine, t1.shape)
    return Volume(in_mask(native.data), t1.affine)


def _ends(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Voxels of a mask without those between two others along the last axis: few, and of the same extent."""
    ends = mask.copy()
    ends[..., 1:-1] &= ~(mask[..., :-2] & mask[..., 2:])
    return ends


def _distance_mm(mask: NDArray) -> NDArray:
    """Distance (mm) of each voxel inside a mask to the outside, on a grid of `MASK_MM`."""
    return ndimage.distance_transform_edt(mask) * MASK_MM


def _opened(mask: NDArray, erode_mm: float, dilate_mm: float) -> NDArray[np.bool_]:
    """Erode, keep the largest component, and dilate it inside the mask."""
    labels, _ = ndimage.label(_distance_mm(mask) > erode_mm)
    if not labels.any():
        raise DataError("no brain is found in the T1", remedy="look at the image, or supply a mask")
    largest = labels == np.bincount(labels[labels > 0]).argmax()
    return (_distance_mm(~largest) <= dilate_mm) & mask


def _closed(mask: NDArray, radius_mm: float) -> NDArray[np.bool_]:
    """Close gaps of a width up to twice the radius."""
    pad = int(np.ceil(radius_mm / MASK_MM)) + 1
    dilated = _distance_mm(~np.pad(mask, pad)) <= radius_mm
    return (_distance_mm(dilated) > radius_mm)[(slice(pad, -pad),) * 3]


def _classes(values: NDArray) -> tuple[float, float]:
    """Otsu's two thresholds between fluid, grey and white matter."""
    try:
        low, high = threshold_multiotsu(values, classes=3)
    except ValueError as error:
        raise DataError("T1 has no contrast inside the brain", remedy="look at the image") from error
    return float(low), float(high)


def _relative_to_white_matter(t1: Volume, to_mni: NDArray) -> NDArray[np.float32]:
    """T1 relative to the white matter near each voxel: 1 in white matter, independent of coil bias."""
    likely = resample(load_template("wm", MASK_MM), t1.affine, t1.shape, to_mni).data
    sure = t1.data[likely > 0.8]
    level = float(np.median(sure)) if sure.size else 0.0
    if not level > 0:
        raise DataError("no white matter is found in the T1", remedy="look at the image")
    plausible = (likely > 0.5) & (t1.data > 0.5 * level) & (t1.data < 1.6 * level)
    weight = np.where(plausible, likely, 0).astype(np.float32)
    pair = Volume(np.stack([weight * t1.data, weight], axis=-1), t1.affine)
    coarse = coarsen(pair, BIAS_MM / 3)
    blurred = ndimage.gaussian_filter(coarse.data, (3, 3, 3, 0), truncate=3)
    mean, near = np.moveaxis(resample(Volume(blurred, coarse.affine), t1.affine, t1.shape).data, -1, 0)
    local = np.divide(mean, near, where=near > 1e-3, out=np.full_like(mean, level))
    return t1.data / local


def white_matter(t1: Volume, brain: Volume, to_mni: NDArray) -> Volume:
    """White matter of a brain-extracted T1: its brightest class, within the template's white matter.

    Diffusion data are not used, since the mask is used to check them.

    Parameters
    ----------
    t1, brain : Volume
        On one grid.
    to_mni : ndarray, shape (4, 4)
        World mm to MNI152 mm.

    Returns
    -------
    Volume
        Boolean.
    """
    relative = _relative_to_white_matter(t1, to_mni)
    _, high = _classes(relative[brain.data & (relative < 1.5)])
    likely = resample(load_template("wm", MASK_MM), t1.affine, t1.shape, to_mni).data
    return Volume(brain.data & (relative > high) & (likely > 0.2), t1.affine)


def _common_grid(brain: Volume, points: NDArray, options: Anat) -> tuple[NDArray[np.float64], tuple[int, int, int]]:
    """The common grid around a brain whose voxels are at points in world mm."""
    axes, _ = isotropic_grid(brain, 1.0, (1, 1, 1), np.zeros(3))
    along = points @ axes[:3, :3]
    low, high = along.min(0), along.max(0)
    extent_mm, grid_mm = high - low, (np.array(options.shape) - 1) * options.spacing_mm
    if (extent_mm > grid_mm).any():
        raise DataError(
            f"the brain spans {extent_mm.round()} mm, the common grid {grid_mm.round()} mm",
            remedy="raise anat.shape or anat.spacing_mm",
        )
    centre = axes[:3, :3] @ ((low + high) / 2)
    return isotropic_grid(brain, options.spacing_mm, options.shape, centre)


def main(
    root: Root,
    subject: Subject,
    t1w: Annotated[Path, typer.Option(help="T1 as it was acquired")],
    session: Session = None,
    t1w_mask: Annotated[Path | None, typer.Option(help="Brain mask of the T1, if there is one")] = None,
    config: ConfigFile = None,
    options: Annotated[str | None, typer.Option(help="JSON of the section anat")] = None,
) -> None:
    """Resample a T1 to the common grid: brain mask, white matter, affine to MNI152."""
    unit = unit_of(subject, session)
    at = files_of(unit, root)
    outputs = at("t1w"), at("brain"), at("wm"), at("anat-status")
    prepare_unit(unit, t1w, *outputs, section_of("anat", config, options), t1w_mask)


def prepare_unit(
    unit: str,
    t1w: Path,
    out_t1w: Path,
    out_brain: Path,
    out_wm: Path,
    status: Path,
    settings: Anat,
    t1w_mask: Path | None = None,
) -> None:
    """Prepare one unit's T1; bad data end in its status, with empty files.

    Parameters
    ----------
    unit : str
    t1w : path
    out_t1w, out_brain, out_wm : path
        T1, brain and white matter on the common grid, written.
    status : path
        JSON, written.
    settings : options.Anat
    t1w_mask : path, optional
        Brain mask of the T1.
    """
    sources = [t1w, *filter(None, [t1w_mask])]
    with recorded("anat", unit, status, [out_t1w, out_brain, out_wm], sources) as record:
        mask = load(t1w_mask) if t1w_mask else None
        try:
            found = prepare(load(t1w), mask, settings)
        except DataError as error:
            error.file = error.file or str(t1w)
            raise
        save(out_t1w, found.t1, sources, SkullStripped=True)
        save(out_brain, found.brain, sources, dtype=np.uint8, Type="Brain")
        save(out_wm, found.wm, sources, dtype=np.uint8, Type="ROI")
        record |= {
            "grid_to_mni": found.grid_to_mni.tolist(),
            "brain_volume_l": round(found.brain_volume_l, 4),
            "brain_centre_mm": found.brain_centre_mm.round(3).tolist(),
            "wm_volume_l": round(float(found.wm.data.sum()) * settings.spacing_mm**3 / 1e6, 4),
            "mi_start": round(found.mi_start, 4),
            "mi_registered": round(found.mi_registered, 4),
            **({"rotated_mi_ratio": round(found.rotated.ratio, 4)} if found.rotated else {}),
            "brain_mask": "supplied" if mask else "template and intensity",
            "excluded": found.excluded,
        }
