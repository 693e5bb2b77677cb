"""Regions of interest: label images on each unit's grid, and agreement of regional means."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m2m.evaluate import metrics as measures
from m2m.io import volume
from m2m.io.bids import unit_path
from m2m.io.files import read_json
from m2m.io.tables import read_table
from m2m.options import Rois

# Returns the label image of a unit on the unit's grid.
RoiSource = Callable[[dict[str, str], volume.Volume], NDArray[np.int32]]


def roi_source(options: Rois, root: Path) -> RoiSource | None:
    """Make the function that loads a unit's label image: one shared by all units, or one per unit."""
    if options.image is None:
        return None
    pattern = options.image
    shared = None if "{" in pattern else volume.load(pattern, np.int32)

    def labels_of(unit: dict[str, str], grid: volume.Volume) -> NDArray[np.int32]:
        folder, name = unit["folder"], unit["unit"]
        labels = shared or volume.load(pattern.format(folder=folder, unit=name), np.int32)
        world = None
        if options.space == "MNI152":
            world = np.array(read_json(unit_path(root, "anat-status", folder, name))["grid_to_mni"])
        return volume.resample(labels, grid.affine, grid.shape, world, order=0).data

    return labels_of


def roi_names(path: Path | None) -> dict[int, str]:
    """Read names by label, from a TSV with the columns index and name."""
    if path is None:
        return {}
    return {int(str(row["index"])): str(row["name"]) for row in read_table(path)}


def agreement(rois: Sequence[measures.Roi]) -> dict[str, float]:
    """Compute Lin's concordance and the mean difference of one participant's ROI means."""
    reference, synthetic = ([getattr(roi, kind) for roi in rois] for kind in ("reference", "synthetic"))
    return {
        "concordance": measures.concordance(reference, synthetic),
        "bias": float(np.subtract(synthetic, reference).mean()) if rois else float("nan"),
        "n_voxels": sum(roi.n_voxels for roi in rois),
    }
