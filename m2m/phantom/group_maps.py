"""Maps of a group in MNI152 space, which all participants of real parts share: FA, orientation of fibres, bundles."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import NDArray

from m2m.diffusion.tensors import COLUMNS, ROWS
from m2m.io.errors import DataError
from m2m.io.volume import Volume, load, save
from m2m.options import Template
from m2m.options.configured import read_config
from m2m.options.stage_flags import NeededConfig, Root
from m2m.phantom import GROUP_MAPS
from m2m.phantom.anatomy import load_template, sample
from m2m.phantom.brain import radial_axes
from m2m.phantom.group_streamlines import Segments, load_segments, strongest_bundle
from m2m.structural import template
from m2m.structural.group_map import to_template

# Grid and smoothing (standard deviation of the Gaussian) of streamlines' directions and bundles.
SPACING_MM, SMOOTHING_MM = 2.0, 2.0
# Weight of the radial direction, in mm of streamlines per voxel after smoothing: it matters where few or none pass.
RADIAL_MM = 0.5
# A voxel belongs to the strongest bundle where that has this part of its usual density.
REGION = 0.5


@dataclass(frozen=True)
class GroupMaps:
    """Maps of a group in MNI152 space.

    Attributes
    ----------
    fa : Volume
        0 outside the brain.
    orientation : Volume, shape (X, Y, Z, 6)
        Mean of the dyadic products of unit vectors along streamlines, MNI axes; trace 1 in the brain, 0 outside.
    bundles : Volume of int
        Number of the strongest bundle, from 1.
    """

    fa: Volume
    orientation: Volume
    bundles: Volume


def orientation_of(segments: Segments) -> Volume:
    """Mean dyadic products of streamlines' directions on a grid of the template.

    Where no streamline passes, the direction is the radial one, from white matter to the nearest cortex, which
    streamlines outweigh where they are.

    Parameters
    ----------
    segments : Segments

    Returns
    -------
    Volume, shape (X, Y, Z, 6)
        Trace 1 in the brain, 0 outside.
    """
    brain = template.load_template("brain", SPACING_MM)
    length = segments.length_mm
    unit = segments.along / np.maximum(length, 1e-6)[:, None]
    dyads = np.stack(
        [
            segments.density(length * unit[:, i] * unit[:, j], brain.affine, brain.shape, SMOOTHING_MM)
            for i, j in zip(ROWS, COLUMNS, strict=True)
        ],
        axis=-1,
    )
    voxels = np.argwhere(brain.data > 0)
    radial = radial_axes(apply_affine(brain.affine, voxels), load_template())
    at = tuple(voxels.T)
    total = dyads[at] + RADIAL_MM * radial[:, ROWS] * radial[:, COLUMNS]
    data = np.zeros((*brain.shape, 6), dtype=np.float32)
    data[at] = total / total[:, [0, 3, 5]].sum(axis=1, keepdims=True)
    return Volume(data, brain.affine)


def make_group_maps(section: Template) -> GroupMaps:
    """Register the group's FA to the template, and sum up the streamlines.

    Parameters
    ----------
    section : Template

    Returns
    -------
    GroupMaps

    Raises
    ------
    DataError
        A file is missing or unreadable.
    """
    segments = load_segments(section.bundles)
    orientation = orientation_of(segments)
    number = strongest_bundle(segments, orientation, SMOOTHING_MM, REGION)
    inside = orientation.data.any(axis=-1)
    bundles = Volume(np.where(inside, number, 0).astype(np.int16), orientation.affine)
    return GroupMaps(to_template(load(section.fa_map)), orientation, bundles)


def load_group_maps(truth: Path) -> GroupMaps:
    """Load the maps that `m2m group-maps` wrote into the folder of the ground truth."""
    fa, orientation, bundles = (truth / GROUP_MAPS[name] for name in ("fa", "orientation", "bundles"))
    return GroupMaps(load(fa), load(orientation), load(bundles, dtype=np.int16))


def sample_nearest(labels: Volume, points: NDArray) -> NDArray:
    """Values of the voxels nearest to points, shape (N, 3), in mm; 0 outside the grid."""
    voxels = np.rint(apply_affine(np.linalg.inv(labels.affine), points)).astype(np.intp)
    inside = ((voxels >= 0) & (voxels < labels.shape)).all(axis=1)
    values = np.zeros(len(points), dtype=labels.data.dtype)
    values[inside] = labels.data[tuple(voxels[inside].T)]
    return values


def sample_six(tensors: Volume, points: NDArray) -> NDArray[np.float32]:
    """Interpolate six elements, shape (N, 6), at points, shape (N, 3), in mm; beyond the grid its edge."""
    return sample(np.moveaxis(tensors.data, -1, 0), tensors.affine, points, mode="nearest")


def main(root: Root, config: NeededConfig) -> None:
    """Register a group's FA to MNI152, and make maps of its bundles and of their directions."""
    section = read_config(config).simulation
    if not isinstance(section, Template):
        raise DataError("cohort.source is not template: there is no group to make maps of", file=config)
    maps = make_group_maps(section)
    truth = root / "truth"
    about = {
        "fa": (np.float32, "FA of a group, registered to the MNI152 template"),
        "orientation": (np.float32, "Mean dyadic products of streamlines' directions: xx, xy, xz, yy, yz, zz; trace 1"),
        "bundles": (np.int16, "The strongest bundle; numbers are those of desc-bundles_dseg.tsv"),
    }
    for name, (dtype, description) in about.items():
        save(truth / GROUP_MAPS[name], getattr(maps, name), dtype=dtype, Space="MNI152", Description=description)
