"""What the figures of one task are drawn from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
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
from m2m.io.modalities import MODALITIES, Modality
from m2m.options import Report, Task


@dataclass(frozen=True)
class Study:
    """One task's results.

    Attributes
    ----------
    root : Path
        The derivative dataset.
    name : str
        Of the task.
    task : Task
        Its main model first.
    metrics : DataFrame
        metrics.tsv of all models; units that could not be evaluated carry a ``problem``.
    folders : dict of str to str
        Test unit to its folder.
    options : Report
    timed : dict of str to str
        Test unit to its folder, of those whose translations are timed.
    """

    root: Path
    name: str
    task: Task
    metrics: pd.DataFrame
    folders: dict[str, str]
    options: Report
    timed: Mapping[str, str] = field(default_factory=dict)

    @property
    def evaluated(self) -> pd.DataFrame:
        """Rows of `metrics` that hold values."""
        return self.metrics[self.metrics["problem"].isna()]

    @property
    def models(self) -> tuple[str, ...]:
        """The main model first."""
        return self.task.models

    @property
    def target(self) -> Modality:
        """What is predicted."""
        return MODALITIES[self.task.target]

    @property
    def look(self) -> Look:
        """How what is predicted is shown."""
        return LOOKS[self.task.target]

    @cached_property
    def people(self) -> "list[Person]":
        """Images of the best, the median and the worst test unit."""
        return load_people(self)

    def synthetic_root(self, model: str) -> Path:
        """Dataset of one model's maps."""
        return self.root / "synthetic" / self.name / model


@dataclass(frozen=True)
class Person:
    """One test subject's images on one grid.

    Attributes
    ----------
    rank : str
        best, median or worst.
    unit, folder : str
    ssim : float
        In the brain, of the model that the ranking is by.
    source : ndarray, shape (X, Y, Z)
        T1 in its own units, or FA.
    true : Compared
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
    true: Compared
    mask: NDArray
    synthetic: dict[str, Compared]
    affine: NDArray


def ranked(ssim: Mapping[str, float]) -> dict[str, str]:
    """Name the best, the median and the worst unit; one unit appears once."""
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


def load_people(study: Study) -> list[Person]:
    """Load the images of the best, median and worst test unit by the main model's brain SSIM."""
    rows, target = study.evaluated, study.task.target
    chosen = rows[(rows["model"] == study.models[0]) & (rows["region"] == "brain")]
    ssim = dict(zip(chosen["unit"], chosen["ssim"].astype(float), strict=True))
    people = []
    for rank, unit in ranked(ssim).items():
        where = study.folders[unit], unit
        mask = volume.load(unit_path(study.root, "target-mask", *where))
        inside = mask.data > 0

        def masked(path: str, inside: NDArray = inside) -> Compared:
            data = volume.load(path).data
            outside = ~inside if data.ndim == 3 else ~inside[..., None]
            return compared(target, np.where(outside, 0, data))

        synthetic = {}
        for model in study.models:
            path = unit_path(study.synthetic_root(model), study.target.synthetic, *where)
            try:
                synthetic[model] = masked(path)
            except DataError as error:
                print(f"figures: no map of {model} for {unit}: {error}")
        source = unit_path(study.root, MODALITIES[study.task.source].kind, *where)
        people.append(
            Person(
                rank, unit, where[0], ssim[unit], volume.load(source).data,
                masked(unit_path(study.root, study.target.kind, *where)), inside, synthetic,
                mask.affine,
            )
        )  # fmt: skip
    return people
