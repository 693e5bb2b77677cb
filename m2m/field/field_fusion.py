"""Fusion of synthetic slices: a field is fitted to the slices of all orientations."""

from collections.abc import Iterable

import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import NDArray

from m2m.field.fit import fit
from m2m.field.sample import at_points
from m2m.field.slice_samples import box_of, cut
from m2m.io.volume import Volume
from m2m.models.fusion import View, average
from m2m.models.torch_engine import choose_device
from m2m.models.uncertainty import Prediction
from m2m.options import SliceField

# Margin around the brain, in voxels.
MARGIN = 2.0


def by_field(views: Iterable[View], inside: NDArray[np.bool_], device: str = "cpu") -> Prediction:
    """Fit a field to the slices of all views, and sample it inside the source.

    Slices that contradict the others get a lower weight. Outside, the volume is the mean of the
    views. The candidates for the standard deviation are those of the mean.

    Parameters
    ----------
    views : iterable of View
        One per orientation.
    inside : ndarray of bool, shape (X, Y, Z)
        Where the source is not 0.
    device : str
        ``auto``: the best of this machine.

    Returns
    -------
    Prediction

    Raises
    ------
    DataError
        As in `fit`.
    """
    device = choose_device() if device == "auto" else device
    views = list(views)
    mean = average(views, inside)
    grid = np.eye(4)  # the field is defined in voxels
    brain = Volume(inside, grid)
    slices = [
        one._replace(counts=mask.image[..., 0].astype(bool))
        for view in views
        for (_, one), (_, mask) in zip(cut(Volume(view.image, grid), view.plane), cut(brain, view.plane), strict=True)
        if mask.image.any()
    ]
    fitted = fit(slices, box_of(brain, MARGIN), SliceField(), device, quiet=True)
    image = mean.image.copy()
    image[inside] = at_points(fitted.network, apply_affine(grid, np.argwhere(inside)))
    return mean._replace(image=image)
