"""Mean map of the training participants: fitted in template space, resampled to each participant."""

from collections.abc import Iterable, Mapping

from numpy.typing import NDArray

from m2m.io.modalities import Modality
from m2m.models import baselines
from m2m.models.subject_images import SubjectImages, TrainingImages
from m2m.models.uncertainty import Prediction
from m2m.options.families.mean import MeanMap


def fit(
    options: MeanMap, subjects: Iterable[TrainingImages], spacing_mm: float, target: Modality
) -> dict[str, NDArray]:
    """Fit mean and standard deviation over participants, by `baselines.fit_mean_map`."""
    maps = (baselines.MeasuredMap(subject.target(), subject.mask(), subject.to_mni) for subject in subjects)
    return baselines.fit_mean_map(maps, spacing_mm)


def require_tensors(tensors: Mapping[str, NDArray], channels: int) -> None:
    """Raise ValueError unless tensors are those of `fit`: see `baselines.require_mean_map`."""
    baselines.require_mean_map(tensors, channels)


def predict(tensors: Mapping[str, NDArray], subject: SubjectImages) -> Prediction:
    """Resample the mean map by the affine registration of the T1 to the template."""
    return baselines.predict_mean_map(tensors, subject.affine, subject.shape, subject.to_mni)
