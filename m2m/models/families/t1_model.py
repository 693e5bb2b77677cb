"""A linear map from source intensity to the scale of the target."""

from collections.abc import Iterable, Iterator, Mapping

from numpy.typing import NDArray

from m2m.io.modalities import Modality
from m2m.models import baselines
from m2m.models.subject_images import SubjectImages, TrainingImages
from m2m.models.uncertainty import Prediction
from m2m.options.families.t1 import RescaledT1


def fit(
    options: RescaledT1, subjects: Iterable[TrainingImages], spacing_mm: float, target: Modality
) -> dict[str, NDArray]:
    """Fit a least-squares line inside the target masks of all participants, by `baselines.fit_line`."""

    def voxels() -> Iterator[tuple[NDArray, NDArray]]:
        for subject in subjects:
            inside = subject.mask()
            yield subject.source()[inside], subject.target().data[inside]

    return baselines.fit_line(voxels())


def require_tensors(tensors: Mapping[str, NDArray], channels: int) -> None:
    """Raise ValueError unless tensors are those of `fit`: see `baselines.require_line`."""
    baselines.require_line(tensors, channels)


def predict(tensors: Mapping[str, NDArray], subject: SubjectImages) -> Prediction:
    """Rescale the source by the line."""
    return baselines.predict_line(tensors, subject.source())
