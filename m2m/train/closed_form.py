"""Fit the baselines on the slices of the training participants, in closed form and without a network."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from m2m.io.bids import files_of
from m2m.io.errors import DataError
from m2m.io.files import read_json
from m2m.io.modalities import MODALITIES
from m2m.io.volume import Volume
from m2m.models import baselines
from m2m.models.implementation import implementation
from m2m.models.record import Fit
from m2m.models.subject_images import TrainingImages
from m2m.models.uncertainty import Prediction
from m2m.networks.slice_inputs import TemplateMap
from m2m.options import Family, Task
from m2m.structural.displacement import load_displacement
from m2m.structural.template import load_template
from m2m.train.dataset import Subject
from m2m.train.validation import Subjects, evenly, to_mni, validate_model

# Margin of a network's prior around the template's brain.
MARGIN_MM = 8.0


def with_deformation(
    subjects: Subjects, skipped: Mapping[str, int], root: Path
) -> tuple[dict[str, list[Subject]], dict[str, int], dict[str, Any]]:
    """Subjects whose T1 the template was deformed to, for a family that uses it.

    Parameters
    ----------
    subjects : mapping
        Subjects by part; the hash of the deformation is added to their records.
    skipped : mapping
        Number of units left out, by reason.
    root : Path
        Dataset of the results.

    Returns
    -------
    subjects, skipped : dict
        Without subjects whose deformation failed, which count as ``failed``.
    options : dict
        Section of the configuration that all deformations were made with.

    Raises
    ------
    DataError
        There is no deformation of a subject, or two were made with other options.
    """
    kept: dict[str, list[Subject]] = {part: [] for part in subjects}
    options: dict[str, Any] = {}
    for part, of_part in subjects.items():
        for subject in of_part:
            path = files_of(subject.unit, root)("deform-status")
            if not path.exists():
                remedy = f"run `m2m deform` for {subject.unit}: the model uses the deformation of each participant"
                raise DataError("there is no deformation of the template to the T1", file=path, remedy=remedy)
            status = read_json(path)
            if status["status"] == "failed":
                continue
            options = options or status["options"]
            if status["options"] != options:
                raise DataError(
                    f"the deformation of {subject.unit} was made with other options than those before it",
                    file=path,
                    value=f"{status['options']}, not {options}",
                    remedy="run `m2m deform` for all participants with one section deformation",
                )
            subject.record["sha256"] += status["sha256"]
            kept[part].append(subject)
    failed = sum(map(len, subjects.values())) - sum(map(len, kept.values()))
    return kept, {**skipped, "failed": skipped["failed"] + failed}, options


def displacement_of(subject: Subject, kind: str, root: Path) -> Volume:
    """Load a subject's displacements, of the kind ``deformation`` or ``inverse-deformation``, from the results."""
    return load_displacement(files_of(subject.unit, root)(kind), subject.volume("brain"))


def training_images(subject: Subject, task: Task, root: Path) -> TrainingImages:
    """What may be looked at of a subject in a task; `root` is the dataset of the results."""
    return TrainingImages(
        affine=np.array(subject.record["affine"]),
        shape=tuple(subject.record["shape"]),
        to_mni=to_mni(subject),
        source=lambda: subject.volume(task.source).data,
        low_res=subject.low_res_volume,
        displacement=lambda: displacement_of(subject, "deformation", root).data,
        inverse_displacement=lambda: displacement_of(subject, "inverse-deformation", root),
        target=lambda: subject.volume(task.target),
        mask=subject.mask,
    )


def fit_at_once(subjects: Subjects, task: Task, options: Family, root: Path) -> Fit:
    """Fit a family that is not trained in steps, and evaluate it on the validation participants.

    Parameters
    ----------
    subjects : mapping
        Subjects of ``train`` and ``validation``.
    task : Task
    options : Family
        Options of the model.
    root : Path
        Dataset of the results.

    Returns
    -------
    Fit
    """
    family = implementation(options)
    images = (training_images(subject, task, root) for subject in subjects["train"])
    spacing_mm = subjects["train"][0].record["spacing_mm"]
    tensors = family.fit(options, images, spacing_mm, MODALITIES[task.target])

    def predict(subject: Subject) -> Prediction:
        return family.predict(tensors, training_images(subject, task, root))

    deformations = root if options.uses_deformation else None
    validation, uncertainty, ranges = validate_model(subjects, task, predict, deformations)
    return Fit(tensors, validation, uncertainty, validation_range=ranges)


def template_prior(
    subjects: Sequence[Subject],
    task: Task,
    root: Path | None = None,
    spacing_mm: float | None = None,
    most: int = 200,
) -> TemplateMap:
    """Mean target map of the training participants, as an input of a network.

    Parameters
    ----------
    subjects : sequence of Subject
        Training subjects.
    task : Task
    root : Path or None
        Dataset of the results, for a mean by the deformations of the participants; None: by affine transforms.
    spacing_mm : float or None
        Of the map; None: that of the participants' grid.
    most : int
        Largest number of subjects that are averaged.

    Returns
    -------
    TemplateMap
    """

    def measured(subject: Subject) -> baselines.MeasuredMap:
        inverse = None if root is None else displacement_of(subject, "inverse-deformation", root)
        return baselines.MeasuredMap(subject.volume(task.target), subject.mask(), to_mni(subject), inverse)

    maps = map(measured, evenly(subjects, most))
    spacing_mm = spacing_mm or subjects[0].record["spacing_mm"]
    return as_prior(baselines.fit_mean_map(maps, spacing_mm)["mean"], spacing_mm, task.target)


def as_prior(mean: NDArray[np.float32], spacing_mm: float, target: str) -> TemplateMap:
    """A map on the template's grid as an input of a network: the part of it around the brain.

    Parameters
    ----------
    mean : ndarray, shape (X, Y, Z) or (X, Y, Z, C)
        Scaled.
    spacing_mm : float
        Of the grid.
    target : str
        Key of `m2m.io.modalities.MODALITIES`.

    Returns
    -------
    TemplateMap
    """
    box = around_brain(spacing_mm)
    around = mean[box].reshape(*mean[box].shape[:3], -1)  # (X, Y, Z, C)
    values = torch.from_numpy(np.ascontiguousarray(np.moveaxis(around, -1, 0)))
    to_voxel = np.linalg.inv(load_template("brain", spacing_mm).affine)
    to_voxel[:3, 3] -= [one.start for one in box]
    return TemplateMap(values, torch.from_numpy(to_voxel).float(), MODALITIES[target].directed)


def around_brain(spacing_mm: float) -> tuple[slice, slice, slice]:
    """Part of the template's grid that holds its brain and `MARGIN_MM` around it, which a participant's may reach."""
    brain = load_template("brain", spacing_mm).data > 0
    margin, places = round(MARGIN_MM / spacing_mm), np.argwhere(brain)
    first, last = (places.min(0) - margin).clip(0), places.max(0) + margin + 1
    x, y, z = (slice(int(low), int(high)) for low, high in zip(first, last, strict=True))
    return x, y, z
