"""Error and calibrated uncertainty of a fitted model on whole volumes of validation participants."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.io.bids import files_of
from m2m.io.masks import in_mask
from m2m.io.modalities import MODALITIES
from m2m.models.record import METRIC
from m2m.models.uncertainty import Prediction, calibrate, mean_deviations
from m2m.models.validation_range import MOST, ranges_of
from m2m.options import Task
from m2m.structural.displacement import load_displacement
from m2m.structural.t1_numbers import t1_numbers
from m2m.train.dataset import Subject

Subjects = Mapping[str, Sequence[Subject]]


def to_mni(subject: Subject) -> NDArray[np.float64]:
    """Affine from the subject's world coordinates to MNI152, mm."""
    return np.array(subject.record["grid_to_mni"])


def evenly(subjects: Sequence[Subject], most: int) -> Sequence[Subject]:
    """Choose at most `most` subjects, evenly spaced in the list."""
    return subjects[:: max(1, math.ceil(len(subjects) / most))]


def validate_model(
    subjects: Subjects,
    task: Task,
    predict: Callable[[Subject], Prediction],
    deformations: Path | None = None,
) -> tuple[dict[str, Any] | None, dict[str, Any], dict[str, dict[str, float]]]:
    """Evaluate a model on the validation participants, and calibrate its uncertainty there.

    Parameters
    ----------
    subjects : mapping
        Subjects of ``train`` and ``validation``.
    task : Task
    predict : callable
        From a subject to its prediction in scaled units.
    deformations : Path or None
        Dataset of the results, for a model that uses deformations.

    Returns
    -------
    validation : dict or None
        ``metric``, ``value`` (mean absolute error inside the target mask, mean over subjects) and
        ``n_subjects``; None without validation participants.
    uncertainty : dict
        Of `m2m.models.uncertainty.calibrate`, ``part`` and ``n_subjects``. Without validation
        participants it is calibrated on training participants, whose errors are smaller than those
        of new participants.
    validation_range : dict
        Of `m2m.models.validation_range.ranges_of`: the numbers of T1s over training participants, too, since
        nothing of them is fitted; the mean deviations over those whom the uncertainty is calibrated on.
        Empty where the source is no T1.
    """
    part = "validation" if subjects["validation"] else "train"
    modality = MODALITIES[task.target]
    maes: list[float] = []
    spreads: list[dict[str, float]] = []

    def errors_and_sds() -> Iterator[tuple[NDArray, Mapping[str, NDArray]]]:
        for subject in subjects[part]:
            inside, prediction = subject.mask(), predict(subject)
            image = prediction.image[inside].clip(*modality.limits)
            error = (image - subject.volume(task.target).data[inside]).ravel()
            maes.append(float(np.abs(error).mean()))
            spreads.append(mean_deviations(prediction, in_mask(subject.volume("brain").data)))
            yield error, {name: sd[inside].ravel() for name, sd in prediction.sds.items()}

    uncertainty = calibrate(errors_and_sds()) | {"part": part, "n_subjects": len(subjects[part])}
    ranges: dict[str, dict[str, float]] = {}
    if MODALITIES[task.source].nature == "weighted":
        looked_at = [subject for one in subjects.values() if one for subject in evenly(one, MOST)]
        ranges = ranges_of(numbers_of(subject, task, deformations) for subject in looked_at)
        ranges |= ranges_of(spreads)
    if part == "train":
        return None, uncertainty, ranges
    value = float(np.mean(maes))
    return {"metric": METRIC, "value": value, "n_subjects": len(maes)}, uncertainty, ranges


def numbers_of(subject: Subject, task: Task, deformations: Path | None) -> dict[str, float]:
    """Numbers of a subject's T1, as `m2m translate` measures them."""
    brain, displacement = subject.volume("brain"), None
    if deformations is not None:
        displacement = load_displacement(files_of(subject.unit, deformations)("deformation"), brain).data
    return t1_numbers(subject.volume(task.source), in_mask(brain.data), to_mni(subject), displacement)
