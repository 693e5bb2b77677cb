"""A reference map in template space, resampled to each participant by the deformation of T1 and template."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m2m.io.errors import DataError
from m2m.io.modalities import Modality
from m2m.io.volume import blur_to, load, resample
from m2m.models import baselines
from m2m.models.subject_images import SubjectImages, TrainingImages
from m2m.models.uncertainty import Prediction
from m2m.options.families.atlas import Atlas
from m2m.structural.template import load_template

# Least fraction of the template's brain in which a given map must differ from 0.
FILLED = 0.5


def fit(options: Atlas, subjects: Iterable[TrainingImages], spacing_mm: float, target: Modality) -> dict[str, NDArray]:
    """Fit mean and standard deviation over participants, or the deviation of participants from a given map."""
    given = None if options.map is None else given_map(options.map, spacing_mm, target)
    maps = (baselines.MeasuredMap(one.target(), one.mask(), one.to_mni, one.inverse_displacement()) for one in subjects)
    fitted = baselines.fit_mean_map(maps, spacing_mm)
    if given is None:
        return fitted
    # The mean square of x - map is the variance of x and the square of the difference of both means.
    return fitted | {"mean": given, "sd": np.hypot(fitted["sd"], fitted["mean"] - given).astype(np.float32)}


def given_map(path: Path, spacing_mm: float, target: Modality) -> NDArray[np.float32]:
    """Load a map in template space and resample it to the grid of the template.

    Parameters
    ----------
    path : Path
        NIfTI, MNI152 mm, in the unit of the target.
    spacing_mm : float
        Of the grid.
    target : Modality

    Returns
    -------
    ndarray, shape (X, Y, Z)
        Scaled; 0 outside the map.

    Raises
    ------
    DataError
        The target is no scalar map, or the file is no such map of the template's brain.
    """
    if target.nature != "scalar":
        raise DataError(
            f"a map of the family atlas stands for scalar maps only, not for {target.title}",
            file=path,
            value=f"a {target.nature}",
            remedy="omit the option map: the mean of the training participants is then used",
        )
    template, found = load_template("brain", spacing_mm), load(path)
    if found.data.size != np.prod(found.shape):
        raise DataError(
            "the map of the family atlas is not a three-dimensional volume",
            file=path,
            value=found.data.shape,
            remedy="give one scalar map",
        )
    low, high = target.limits
    scaled = target.scale(found.data)
    if not low <= scaled.min() <= scaled.max() <= high:
        raise DataError(
            f"the map of the family atlas is not {target.title}: scaled, it exceeds {low:g} to {high:g}",
            file=path,
            value=f"{found.data.min():g} to {found.data.max():g}",
            remedy=f"give {target.title} in its unit",
        )
    on_grid = resample(blur_to(found, spacing_mm), template.affine, template.shape).data
    filled = float((on_grid[template.data > 0] != 0).mean())
    if filled < FILLED:
        raise DataError(
            "the map of the family atlas does not cover the brain of MNI152",
            file=path,
            value=f"{filled:.2f} of the brain is not 0, below {FILLED:g}",
            remedy="give a map that was registered to MNI152",
        )
    return target.scale(on_grid).astype(np.float32)


def require_tensors(tensors: Mapping[str, NDArray], channels: int) -> None:
    """Raise ValueError unless tensors are those of `fit`: see `baselines.require_mean_map`."""
    baselines.require_mean_map(tensors, channels)


def predict(tensors: Mapping[str, NDArray], subject: SubjectImages) -> Prediction:
    """Resample the reference map by the deformation of the template to the T1."""
    grid = (subject.affine, subject.shape, subject.to_mni)
    return baselines.predict_mean_map(tensors, *grid, subject.displacement())
