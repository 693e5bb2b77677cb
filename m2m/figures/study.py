"""Inputs of the figures of one task."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from m2m.evaluate.measured_maps import Compared, compared
from m2m.figures.views import LOOKS, Look
from m2m.io import volume
from m2m.io.bids import unit_path
from m2m.io.errors import DataError
from m2m.io.masks import in_mask
from m2m.io.modalities import MODALITIES, Modality
from m2m.options import Task


@dataclass(frozen=True)
class Study:
    """One task's results.

    Attributes
    ----------
    root : Path
        The derivative dataset.
    name : str
        Name of the task.
    task : Task
        Its first model is the main one.
    metrics : DataFrame
        metrics.tsv of all models; units that could not be evaluated have a ``problem``.
    folders : dict of str to str
        Folder of each test unit.
    atlas : str or None
        Model that is a map in template space, deformed to each T1.
    """

    root: Path
    name: str
    task: Task
    metrics: pd.DataFrame
    folders: dict[str, str]
    atlas: str | None = None

    @property
    def evaluated(self) -> pd.DataFrame:
        """Rows of `metrics` that have values."""
        return self.metrics[self.metrics["problem"].isna()]

    @property
    def models(self) -> tuple[str, ...]:
        """Models, the main one first."""
        return self.task.models

    @property
    def target(self) -> Modality:
        """Modality of the target."""
        return MODALITIES[self.task.target]

    @property
    def look(self) -> Look:
        """Display of the target."""
        return LOOKS[self.task.target]

    @cached_property
    def subjects(self) -> "list[Subject]":
        """Images of the best, the median and the worst test unit."""
        return load_participants(self)

    def typical(self, *models: str) -> "Subject | None":
        """The median test unit; without maps of these models, the worst, only then the best; None without any."""
        order = sorted(self.subjects, key=lambda subject: ("median", "worst", "best").index(subject.rank))
        return next((subject for subject in order if subject.synthetic.keys() >= {*models}), None)

    def deviations(self, subject: "Subject", model: str) -> NDArray | None:
        """Predicted standard deviations of a model's map, of scaled values; None where there is no such map."""
        kind = f"synthsd-{self.target.kind}"
        try:
            return volume.load(unit_path(self.synthetic_root(model), kind, subject.folder, subject.unit)).data
        except DataError:
            return None

    def synthetic_root(self, model: str) -> Path:
        """Dataset of one model's maps."""
        return self.root / "synthetic" / self.name / model


@dataclass(frozen=True)
class Subject:
    """One test subject's images on one grid.

    Attributes
    ----------
    rank : str
        best, median or worst.
    unit, folder : str
    ssim : float
        In the brain, of the model used for the ranking.
    source : ndarray, shape (X, Y, Z)
        T1 in its own units, or FA.
    measured : Compared
        0 outside the mask.
    mask : ndarray of bool, shape (X, Y, Z)
        Target mask.
    synthetic : dict of str to Compared
        By model; a model without a map for this subject is absent.
    affine : ndarray, shape (4, 4)
    """

    rank: str
    unit: str
    folder: str
    ssim: float
    source: NDArray
    measured: Compared
    mask: NDArray
    synthetic: dict[str, Compared]
    affine: NDArray


def ranked(ssim: Mapping[str, float]) -> dict[str, str]:
    """Find the best, the median and the worst unit; each unit appears at most once."""
    order = sorted(ssim, key=lambda unit: (-ssim[unit], unit))
    if not order:
        return {}
    chosen = {"best": order[0], "worst": order[-1], "median": order[len(order) // 2]}
    taken, picked = set(), {}
    for rank in ("best", "worst", "median"):
        if chosen[rank] not in taken:
            picked[rank] = chosen[rank]
            taken.add(chosen[rank])
    return {rank: picked[rank] for rank in ("best", "median", "worst") if rank in picked}


def load_participants(study: Study) -> list[Subject]:
    """Load the images of the best, median and worst test unit by the main model's brain SSIM."""
    rows, target = study.evaluated, study.task.target
    chosen = rows[(rows["model"] == study.models[0]) & (rows["region"] == "brain")]
    ssim = dict(zip(chosen["unit"], chosen["ssim"].astype(float), strict=True))
    subjects = []
    for rank, unit in ranked(ssim).items():
        place = study.folders[unit], unit
        mask = volume.load(unit_path(study.root, "target-mask", *place))
        inside = in_mask(mask.data)

        def masked(path: str, inside: NDArray = inside) -> Compared:
            data = volume.load(path).data
            outside = ~inside if data.ndim == 3 else ~inside[..., None]
            return compared(target, np.where(outside, 0, data))

        synthetic = {}
        for model in study.models:
            path = unit_path(study.synthetic_root(model), study.target.synthetic, *place)
            try:
                synthetic[model] = masked(path)
            except DataError as error:
                print(f"figures: no map of {model} for {unit}: {error}")
        source = unit_path(study.root, MODALITIES[study.task.source].kind, *place)
        subjects.append(
            Subject(
                rank,
                unit,
                place[0],
                ssim[unit],
                volume.load(source).data,
                masked(unit_path(study.root, study.target.kind, *place)),
                inside,
                synthetic,
                mask.affine,
            )
        )
    return subjects
