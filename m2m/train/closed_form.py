"""Fit the baselines on the training people's slices: no iteration, no network."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from m2m import baselines
from m2m.dataset import Subject
from m2m.modalities import MODALITIES
from m2m.model import METRIC, Fit
from m2m.options import Task
from m2m.volume import Volume

Subjects = Mapping[str, Sequence[Subject]]


def fit_mean_map(subjects: Subjects, task: Task) -> Fit:
    """Mean of the scaled target in template space, judged on the validation people."""

    def people() -> Iterator[tuple[Volume, NDArray, NDArray]]:
        for subject in subjects["train"]:
            yield subject.volume(task.target), subject.mask(), to_mni(subject)

    def predict(subject: Subject) -> NDArray:
        target = subject.volume(task.target)
        return baselines.predict_mean_map(tensors, target.affine, target.shape, to_mni(subject))

    spacing_mm = subjects["train"][0].record["spacing_mm"]
    tensors = baselines.fit_mean_map(people(), spacing_mm)
    return Fit(tensors, _validate(subjects["validation"], task, predict))


def fit_rescaled_t1(subjects: Subjects, task: Task) -> Fit:
    """Line from source to target, judged on the validation people."""

    def people() -> Iterator[tuple[NDArray, NDArray]]:
        for subject in subjects["train"]:
            inside = subject.mask()
            yield tuple(subject.volume(name).data[inside] for name in (task.source, task.target))

    def predict(subject: Subject) -> NDArray:
        return baselines.predict_line(tensors, subject.volume(task.source).data)

    tensors = baselines.fit_line(people())
    return Fit(tensors, _validate(subjects["validation"], task, predict))


FITS = {"mean": fit_mean_map, "t1": fit_rescaled_t1}


def to_mni(subject: Subject) -> NDArray[np.float64]:
    """Affine from the subject's world mm to MNI152 mm."""
    return np.array(subject.record["grid_to_mni"])


def _validate(
    subjects: Sequence[Subject], task: Task, predict: Callable[[Subject], NDArray]
) -> dict | None:
    """Mean absolute error inside the target mask, mean over subjects; None without any."""
    if not subjects:
        return None
    errors, limits = [], MODALITIES[task.target].limits
    for subject in subjects:
        inside = subject.mask()
        true = subject.volume(task.target).data[inside]
        errors.append(np.abs(predict(subject)[inside].clip(*limits) - true).mean())
    return {"metric": METRIC, "value": float(np.mean(errors)), "n_subjects": len(subjects)}
