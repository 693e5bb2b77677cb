"""Fusion of synthetic slices: a field fitted to all that orientations give, or a mean of them."""

from collections.abc import Iterable

import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import NDArray

from m2m.field.fit import fit
from m2m.field.sample import at_points
from m2m.field.slice_samples import box_of, cut
from m2m.io.volume import Volume
from m2m.models.fusion import View, average
from m2m.models.uncertainty import Prediction
from m2m.options import SliceField

# About the brain, in voxels.
MARGIN = 2.0


def by_field(views: Iterable[View], inside: NDArray[np.bool_], device: str = "cpu") -> Prediction:
    """Fit a field to the slices of all views, and take its values where the source is.

    Slices that contradict the others count less. Elsewhere the volume is the views' mean, whose
    candidates for the deviation are taken too.

    Raises
    ------
    DataError
        As `fit`.
    """
    views = list(views)
    mean = average(views, inside)
    grid = np.eye(4)  # what the field does goes by voxels
    brain = Volume(inside, grid)
    slices = [
        one._replace(counts=where.image[..., 0])
        for view in views
        for (_, one), (_, where) in zip(
            cut(Volume(view.image, grid), view.plane), cut(brain, view.plane), strict=True
        )
        if where.image.any()
    ]
    fitted = fit(slices, box_of(brain, MARGIN), SliceField(), device, quiet=True)
    image = mean.image.copy()
    image[inside] = at_points(fitted.network, apply_affine(grid, np.argwhere(inside)))
    return mean._replace(image=image)
