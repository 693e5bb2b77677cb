"""The configuration: one validated model per section, unknown keys forbidden.

A misspelt key or an impossible value stops ``snakemake -n`` by name. A stage receives its
own section only, as JSON.
"""

from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from m2m.options.base import Name, Section
from m2m.options.cohort import Cohort, Effects, Phantom, Split
from m2m.options.models import (
    Discriminators,
    Losses,
    Macro2Micro,
    MeanMap,
    Model,
    Network,
    RescaledT1,
    Training,
)
from m2m.options.scans import (
    Anat,
    DipyTracking,
    Dti,
    Grid,
    Mask,
    MrtrixTracking,
    Preprocess,
    Slices,
    Tractography,
)

__all__ = [
    "Anat", "Cohort", "Config", "DipyTracking", "Discriminators", "Dti", "Effects", "Evaluation",
    "Grid", "Losses", "Macro2Micro", "Mask", "MeanMap", "Model", "MrtrixTracking", "Network",
    "Phantom", "Preprocess", "Report", "RescaledT1", "Rois", "Slices", "Split", "Task",
    "Tractography", "Training", "load_config",
]  # fmt: skip


class Task(Section):
    """One translation: which image from which, and the models that try it."""

    source: Literal["t1", "fa"] = "t1"
    target: Literal["fa", "tdi", "dti"] = "fa"
    chain: tuple[Name, Name] | None = Field(
        None, description="Two tasks one after the other, with their models: nothing is trained"
    )
    steps: PositiveInt | None = Field(
        None, description="Optimiser steps of this task's networks; null: the model's own"
    )
    models: tuple[str, ...] = ("macro2micro", "mean", "t1")


class Rois(Section):
    """Label image for region-wise agreement."""

    image: str | None = Field(
        None,
        description="Path, with {folder} and {unit} where each person has one; phantom: automatic",
    )
    space: Literal["T1w", "MNI152"] = Field("T1w", description="Space of the label image")
    labels: Path | None = Field(None, description="TSV: index, name")


class Evaluation(Section):
    """Metrics and their uncertainty."""

    rois: Rois = Rois()
    min_roi_voxels: PositiveInt = 8
    density_threshold: PositiveFloat = Field(
        5.0, description="Tract density above which a voxel counts as tract, for Dice"
    )
    min_bundle_streamlines: PositiveInt = Field(
        5, description="True bundles with fewer streamlines are not compared"
    )
    bootstrap: PositiveInt = 2000
    seed: int = 1


class Report(Section):
    """Figures and the page."""

    title: str = "m2m"
    max_subject_pages: PositiveInt = 60
    band_resamples: PositiveInt = Field(1000, description="Bootstrap of the bands in figures")
    seed: int = 1


class Config(Section):
    """The whole of config.yaml."""

    dataset: Name
    results: Path = Path("results")
    cohort: Cohort = Cohort()
    split: Split = Split()
    preprocess: Preprocess = Preprocess()
    dti: Dti = Dti()
    tractography: Tractography = Tractography()
    anat: Anat = Anat()
    grid: Grid = Grid()
    slices: Slices = Slices()
    models: dict[Name, Model]
    tasks: dict[Name, Task]
    evaluation: Evaluation = Evaluation()
    report: Report = Report()

    @property
    def modalities(self) -> set[str]:
        """All that is translated from or to."""
        return {image for task in self.tasks.values() for image in (task.source, task.target)}

    @model_validator(mode="after")
    def _tasks_name_known_models(self) -> Self:
        for name, task in self.tasks.items():
            if unknown := set(task.models) - set(self.models):
                raise ValueError(
                    f"tasks.{name}.models names {sorted(unknown)}, not in models: "
                    f"{sorted(self.models)}"
                )
        return self

    @model_validator(mode="after")
    def _chains_fit_together(self) -> Self:
        for name, task in self.tasks.items():
            if task.chain is None:
                continue
            links = [self.tasks.get(link) for link in task.chain]
            if any(link is None or link.chain for link in links):
                raise ValueError(f"tasks.{name}.chain must name two tasks that are no chains")
            first, last = links
            if (task.source, first.target, last.target) != (first.source, last.source, task.target):
                raise ValueError(
                    f"tasks.{name}: {task.source} to {task.target} is not {first.source} to "
                    f"{first.target}, then {last.source} to {last.target}"
                )
            if unknown := set(task.models) - (set(first.models) & set(last.models)):
                raise ValueError(f"tasks.{name}.models names {sorted(unknown)}, not in both links")
        return self

    @model_validator(mode="after")
    def _directions_are_carried_by_an_affine(self) -> Self:
        if self.grid.registration == "syn" and self.modalities & {"tdi", "dti"}:
            raise ValueError(
                "grid.registration: syn carries FA only; tract density and tensors need rigid, "
                "affine or none"
            )
        return self


def load_config(path: str | Path) -> Config:
    """Read and check a configuration file."""
    return Config.model_validate(yaml.safe_load(Path(path).read_text(encoding="utf-8")))
