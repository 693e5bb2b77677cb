"""Fit the baselines on the training people's slices: no iteration, no network."""

from collections.abc import Iterator

from numpy.typing import NDArray

from m2m import baselines
from m2m.dataset import Subject
from m2m.model import Fit
from m2m.options import Task
from m2m.train.judge import Subjects, judge, to_mni
from m2m.uncertainty import Prediction
from m2m.volume import Volume


def fit_mean_map(subjects: Subjects, task: Task) -> Fit:
    """Mean of the scaled target in template space, judged on the validation people."""

    def people() -> Iterator[tuple[Volume, NDArray, NDArray]]:
        for subject in subjects["train"]:
            yield subject.volume(task.target), subject.mask(), to_mni(subject)

    def predict(subject: Subject) -> Prediction:
        target = subject.volume(task.target)
        return baselines.predict_mean_map(tensors, target.affine, target.shape, to_mni(subject))

    spacing_mm = subjects["train"][0].record["spacing_mm"]
    tensors = baselines.fit_mean_map(people(), spacing_mm)
    validation, uncertainty = judge(subjects, task, predict)
    return Fit(tensors, validation, uncertainty)


def fit_rescaled_t1(subjects: Subjects, task: Task) -> Fit:
    """Line from source to target, judged on the validation people."""

    def people() -> Iterator[tuple[NDArray, NDArray]]:
        for subject in subjects["train"]:
            inside = subject.mask()
            yield tuple(subject.volume(name).data[inside] for name in (task.source, task.target))

    def predict(subject: Subject) -> Prediction:
        return baselines.predict_line(tensors, subject.volume(task.source).data)

    tensors = baselines.fit_line(people())
    validation, uncertainty = judge(subjects, task, predict)
    return Fit(tensors, validation, uncertainty)


FITS = {"mean": fit_mean_map, "t1": fit_rescaled_t1}
