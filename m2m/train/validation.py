"""Error and calibrated uncertainty of a fitted model on whole volumes of validation participants."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.io.modalities import MODALITIES
from m2m.models.record import METRIC
from m2m.models.uncertainty import Prediction, calibrate
from m2m.options import Task
from m2m.train.dataset import Subject

Subjects = Mapping[str, Sequence[Subject]]


def to_mni(subject: Subject) -> NDArray[np.float64]:
    """Affine from the subject's world coordinates to MNI152, mm."""
    return np.array(subject.record["grid_to_mni"])


def evenly(subjects: Sequence[Subject], most: int) -> Sequence[Subject]:
    """Choose at most `most` subjects, evenly spaced in the list."""
    return subjects[:: max(1, math.ceil(len(subjects) / most))]


def validate_model(
    subjects: Subjects, task: Task, predict: Callable[[Subject], Prediction]
) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """Evaluate a model on the validation participants, and calibrate its uncertainty there.

    Parameters
    ----------
    subjects : mapping
        Subjects of ``train`` and ``validation``.
    task : Task
    predict : callable
        From a subject to its prediction in scaled units.

    Returns
    -------
    validation : dict or None
        ``metric``, ``value`` (mean absolute error inside the target mask, mean over subjects) and
        ``n_subjects``; None without validation participants.
    uncertainty : dict
        Of `m2m.models.uncertainty.calibrate`, ``part`` and ``n_subjects``. Without validation
        participants it is calibrated on training participants, whose errors are smaller than those
        of new participants.
    """
    part = "validation" if subjects["validation"] else "train"
    modality = MODALITIES[task.target]
    maes: list[float] = []

    def errors_and_sds() -> Iterator[tuple[NDArray, Mapping[str, NDArray]]]:
        for subject in subjects[part]:
            inside, prediction = subject.mask(), predict(subject)
            image = prediction.image[inside].clip(*modality.limits)
            error = (image - subject.volume(task.target).data[inside]).ravel()
            maes.append(float(np.abs(error).mean()))
            yield error, {name: sd[inside].ravel() for name, sd in prediction.sds.items()}

    uncertainty = calibrate(errors_and_sds()) | {"part": part, "n_subjects": len(subjects[part])}
    if part == "train":
        return None, uncertainty
    value = float(np.mean(maes))
    return {"metric": METRIC, "value": value, "n_subjects": len(maes)}, uncertainty
