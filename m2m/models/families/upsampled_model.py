"""The low-resolution target, interpolated to the grid: nothing is fitted."""

from collections.abc import Iterable, Mapping

from numpy.typing import NDArray

from m2m.io.modalities import Modality
from m2m.models.subject_images import SubjectImages, TrainingImages
from m2m.models.uncertainty import Prediction
from m2m.options.families.upsampled import Upsampled


def fit(
    options: Upsampled, subjects: Iterable[TrainingImages], spacing_mm: float, target: Modality
) -> dict[str, NDArray]:
    """Fit nothing."""
    return {}


def require_tensors(tensors: Mapping[str, NDArray], channels: int) -> None:
    """Raise ValueError unless there are none."""
    if tensors:
        raise ValueError("this family has none")


def predict(tensors: Mapping[str, NDArray], subject: SubjectImages) -> Prediction:
    """Return the interpolated low-resolution target."""
    return Prediction(subject.low_res(), {})
