"""A line from the source to the target's scale."""

from collections.abc import Iterable, Iterator, Mapping

from numpy.typing import NDArray

from m2m.models import baselines
from m2m.models.seen import Known, Seen
from m2m.models.uncertainty import Prediction


def fit(people: Iterable[Known], spacing_mm: float) -> dict[str, NDArray]:
    """Least-squares line inside everybody's target masks, of `baselines.fit_line`."""

    def voxels() -> Iterator[tuple[NDArray, NDArray]]:
        for person in people:
            inside = person.mask()
            yield person.source()[inside], person.target().data[inside]

    return baselines.fit_line(voxels())


def predict(tensors: Mapping[str, NDArray], person: Seen) -> Prediction:
    """Source on the target's scale."""
    return baselines.predict_line(tensors, person.source())
