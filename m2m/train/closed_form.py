"""Fit the baselines on the training people's slices: no iteration, no network."""

from collections.abc import Sequence

import numpy as np
import torch

from m2m.models import baselines
from m2m.models.implementation import implementation
from m2m.models.record import Fit
from m2m.models.seen import Known
from m2m.models.uncertainty import Prediction
from m2m.networks.slice_inputs import TemplateMap
from m2m.options import Family, Task
from m2m.train.dataset import Subject
from m2m.train.judge import Subjects, evenly, judge, to_mni


def known(subject: Subject, task: Task) -> Known:
    """What may be looked at of a subject in a task."""
    return Known(
        affine=np.array(subject.record["affine"]),
        shape=tuple(subject.record["shape"]),
        to_mni=to_mni(subject),
        source=lambda: subject.volume(task.source).data,
        low=subject.low_volume,
        target=lambda: subject.volume(task.target),
        mask=subject.mask,
    )


def fit_at_once(subjects: Subjects, task: Task, options: Family) -> Fit:
    """Fit a family that is not trained in steps, and judge it on the validation people."""
    family = implementation(options)
    people = (known(subject, task) for subject in subjects["train"])
    tensors = family.fit(people, subjects["train"][0].record["spacing_mm"])

    def predict(subject: Subject) -> Prediction:
        return family.predict(tensors, known(subject, task))

    validation, uncertainty = judge(subjects, task, predict)
    return Fit(tensors, validation, uncertainty)


def template_prior(subjects: Sequence[Subject], task: Task, most: int = 200) -> TemplateMap:
    """The mean map of training people, at most so many, as a network reads it."""
    people = ((s.volume(task.target), s.mask(), to_mni(s)) for s in evenly(subjects, most))
    tensors = baselines.fit_mean_map(people, subjects[0].record["spacing_mm"])
    mean = tensors["mean"].reshape(*tensors["mean"].shape[:3], -1)  # (X, Y, Z, C)
    values = torch.from_numpy(np.ascontiguousarray(np.moveaxis(mean, -1, 0)))
    return TemplateMap(values, torch.from_numpy(np.linalg.inv(tensors["affine"])).float())
