"""Fit the baselines on the training people's slices: no iteration, no network."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from m2m import baselines
from m2m.dataset import Subject
from m2m.model import Fit
from m2m.networks.inputs import TemplateMap
from m2m.options import Task
from m2m.train.judge import Subjects, evenly, judge, to_mni
from m2m.uncertainty import Prediction
from m2m.volume import Volume


def mean_map(subjects: Sequence[Subject], task: Task) -> dict[str, NDArray]:
    """Mean and spread of the scaled target in template space, of `baselines.fit_mean_map`."""

    def people() -> Iterator[tuple[Volume, NDArray, NDArray]]:
        for subject in subjects:
            yield subject.volume(task.target), subject.mask(), to_mni(subject)

    return baselines.fit_mean_map(people(), subjects[0].record["spacing_mm"])


def template_prior(subjects: Sequence[Subject], task: Task, most: int = 200) -> TemplateMap:
    """The mean map of training people, at most so many, as a network reads it."""
    tensors = mean_map(evenly(subjects, most), task)
    mean = tensors["mean"].reshape(*tensors["mean"].shape[:3], -1)  # (X, Y, Z, C)
    values = torch.from_numpy(np.ascontiguousarray(np.moveaxis(mean, -1, 0)))
    return TemplateMap(values, torch.from_numpy(np.linalg.inv(tensors["affine"])).float())


def fit_mean_map(subjects: Subjects, task: Task) -> Fit:
    """Mean of the scaled target in template space, judged on the validation people."""

    def predict(subject: Subject) -> Prediction:
        target = subject.volume(task.target)
        return baselines.predict_mean_map(tensors, target.affine, target.shape, to_mni(subject))

    tensors = mean_map(subjects["train"], task)
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


def fit_upsampled(subjects: Subjects, task: Task) -> Fit:
    """Nothing to fit: the low resolution itself, judged on the validation people."""

    def predict(subject: Subject) -> Prediction:
        return Prediction(subject.low_volume(), {})

    validation, uncertainty = judge(subjects, task, predict)
    return Fit({}, validation, uncertainty)


FITS = {"mean": fit_mean_map, "t1": fit_rescaled_t1, "upsampled": fit_upsampled}
