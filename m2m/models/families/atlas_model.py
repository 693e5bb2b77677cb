"""A reference map in template space, resampled to each participant by the deformation of T1 and template."""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from m2m.io.modalities import Modality
from m2m.models import baselines
from m2m.models.reference_map import given_map
from m2m.models.subject_images import SubjectImages, TrainingImages
from m2m.models.uncertainty import Prediction
from m2m.options.families.atlas import Atlas


def fit(options: Atlas, subjects: Iterable[TrainingImages], spacing_mm: float, target: Modality) -> dict[str, NDArray]:
    """Fit mean and standard deviation over participants, or the deviation of participants from a given map."""
    given = None if options.map is None else given_map(options.map, spacing_mm, target)
    maps = (baselines.MeasuredMap(one.target(), one.mask(), one.to_mni, one.inverse_displacement()) for one in subjects)
    fitted = baselines.fit_mean_map(maps, spacing_mm)
    if given is None:
        return fitted
    # The mean square of x - map is the variance of x and the square of the difference of both means.
    return fitted | {"mean": given, "sd": np.hypot(fitted["sd"], fitted["mean"] - given).astype(np.float32)}


def require_tensors(tensors: Mapping[str, NDArray], channels: int) -> None:
    """Raise ValueError unless tensors are those of `fit`: see `baselines.require_mean_map`."""
    baselines.require_mean_map(tensors, channels)


def predict(tensors: Mapping[str, NDArray], subject: SubjectImages) -> Prediction:
    """Resample the reference map by the deformation of the template to the T1."""
    grid = (subject.affine, subject.shape, subject.to_mni)
    return baselines.predict_mean_map(tensors, *grid, subject.displacement())
