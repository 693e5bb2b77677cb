"""The low resolution itself: nothing is fitted."""

from collections.abc import Iterable, Mapping

from numpy.typing import NDArray

from m2m.models.seen import Known, Seen
from m2m.models.uncertainty import Prediction


def fit(people: Iterable[Known], spacing_mm: float) -> dict[str, NDArray]:
    """Nothing."""
    return {}


def predict(tensors: Mapping[str, NDArray], person: Seen) -> Prediction:
    """The low resolution, enlarged."""
    return Prediction(person.low(), {})
