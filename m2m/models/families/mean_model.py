"""The training people's mean map: fitted in template space, carried to each person."""

from collections.abc import Iterable, Mapping

from numpy.typing import NDArray

from m2m.models import baselines
from m2m.models.seen import Known, Seen
from m2m.models.uncertainty import Prediction


def fit(people: Iterable[Known], spacing_mm: float) -> dict[str, NDArray]:
    """Mean and spread over people, of `baselines.fit_mean_map`."""
    known = ((person.target(), person.mask(), person.to_mni) for person in people)
    return baselines.fit_mean_map(known, spacing_mm)


def predict(tensors: Mapping[str, NDArray], person: Seen) -> Prediction:
    """The mean, by the T1's affine registration to the template."""
    return baselines.predict_mean_map(tensors, person.affine, person.shape, person.to_mni)
