"""The configuration: one validated model per section, unknown keys forbidden.

A misspelt key or an impossible value stops ``snakemake -n`` by name. A stage is given the whole as
a file, or its own section as JSON, and sees its own sections only (`m2m.options.configured`).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import (
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from m2m.io.modalities import natures, sources, targets
from m2m.options.chains import Preprocess
from m2m.options.cohort_options import Cohort, Effects, Phantom, Split
from m2m.options.downstream_options import Cnn, Downstream, cross_fitted
from m2m.options.families import FAMILIES, Model, section_of
from m2m.options.family import Family, Trained
from m2m.options.imaging_options import Anat, Dti, Grid, Mask, Slices
from m2m.options.model_parts import (
    Discriminators,
    Encoder,
    Losses,
    PatchJudge,
    Perceptual,
    UNetwork,
)
from m2m.options.rendering_options import HeldOut, Render, Report, SliceField
from m2m.options.section import DataPath, Name, Section, one_of, problems
from m2m.options.trackers import DipyTracking, MrtrixTracking, Tractography
from m2m.options.training_options import Correction, Training, Weight

__all__ = [
    "FAMILIES", "Anat", "Cnn", "Cohort", "Config", "Correction", "DipyTracking", "Discriminators",
    "Downstream", "Dti", "Effects", "Encoder", "Evaluation", "Family", "Grid", "HeldOut", "Losses",
    "Mask", "Model", "MrtrixTracking", "PatchJudge", "Perceptual", "Phantom", "Preprocess",
    "Render", "Report", "Rois", "SliceField", "Slices", "Split", "Task", "Tractography", "Trained",
    "Training", "UNetwork", "load_config", "problems", "section_of",
]  # fmt: skip


Source, Target = one_of(sources), one_of(targets)


class Low(Section):
    """A low-resolution map of the target, seen beside the source."""

    ratio: Literal[2, 4, 8] = Field(2, description="Between voxels; k-space is cropped by it")
    of: Literal["dwi", "map"] = Field(
        "dwi", description="Whose k-space: the series', before the tensor fit, or the map's own"
    )
    after: Name = Field(description="Task without it, whose models start from the source alone")
    beside: tuple[str, ...] = Field(
        (), description="Models of that task to stand beside this one's"
    )

    @property
    def kind(self) -> str:
        """Its name, and that of its folder: ``dwi-2``."""
        return f"{self.of}-{self.ratio}"


class Task(Section):
    """One translation: which image from which, and the models that try it."""

    source: Source = "t1"
    target: Target = "fa"
    chain: tuple[Name, Name] | None = Field(
        None, description="Two tasks one after the other, with their models: nothing is trained"
    )
    low: Low | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="Super-resolution: what models see beside the source",
    )
    steps: PositiveInt | dict[str, PositiveInt] | None = Field(
        None,
        description="Optimiser steps of this task's networks, or of each by name; null: the "
        "model's own",
    )
    losses: dict[str, Weight] = Field(
        {}, description="Weights of losses that are others in this task than in its models"
    )
    models: tuple[str, ...] = ("macro2micro", "mean", "t1")
    study: Literal["report", "compare", "ablation", "fgdl", "downstream"] = Field(
        "report", description="Page that shows it and target that makes it: `snakemake compare`"
    )
    fold: PositiveInt | None = Field(
        None, description="Cross-fitted: trained without this fold's people (from `downstream`)"
    )

    @field_validator("losses")
    @classmethod
    def _losses_have_these_names(cls, losses: dict[str, float]) -> dict[str, float]:
        Losses.model_validate(losses)
        return losses

    def home(self, name: str, model: str) -> str:
        """Task, this one of this name or another, that a model of this task is fitted in."""
        return self.low.after if self.low and model in self.low.beside else name

    def low_of(self, model: str) -> Low | None:
        """The low resolution that a model of this task sees beside the source, or None."""
        return None if self.low is None or model in self.low.beside else self.low

    def steps_of(self, model: str) -> int | None:
        """Optimiser steps of a model in this task; None for the model's own."""
        return self.steps.get(model) if isinstance(self.steps, dict) else self.steps


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
    truth: Path | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="Dataset of the true FA before a simulated distortion; the workflow sets it",
    )
    lpips_weights: Path | None = Field(
        None, description="Safetensors for LPIPS (extra `lpips`); null: it is not computed"
    )
    bootstrap: PositiveInt = 2000
    seed: int = 1


class Config(Section):
    """The whole of config.yaml."""

    dataset: Name
    results: DataPath = Path("results")
    cohort: Cohort = Cohort()
    split: Split = Split()
    preprocess: Preprocess = Preprocess()
    dti: Dti = Dti()
    tractography: Tractography = Tractography()
    anat: Anat = Anat()
    grid: Grid = Grid()
    slices: Slices = Slices()
    encoder: Encoder = Encoder()
    models: dict[Name, Model]
    tasks: dict[Name, Task]
    field: SliceField = SliceField()
    held_out: HeldOut = HeldOut()
    render: Render = Render()
    evaluation: Evaluation = Evaluation()
    downstream: Downstream = Downstream()
    report: Report = Report()

    # Of where it runs, not of what comes out.
    shard: NonNegativeInt = Field(
        0,
        exclude=True,
        description="People whose short stages share a job of a cluster; set by the Slurm profile",
    )

    @model_validator(mode="before")
    @classmethod
    def _models_take_after_their_base(cls, config: Any) -> Any:
        """Fill a model's section with `base` by that model's, key by key."""
        models = config.get("models") if isinstance(config, Mapping) else None
        if not isinstance(models, Mapping):
            return config
        return {**config, "models": {name: inherited(models, name) for name in models}}

    @model_validator(mode="before")
    @classmethod
    def _cross_fitting_multiplies_tasks(cls, config: Any) -> Any:
        """Add a task for each fold of what `downstream` cross-fits."""
        tasks = config.get("tasks") if isinstance(config, Mapping) else None
        if not isinstance(tasks, Mapping) or not config.get("downstream"):
            return config
        section = Downstream.model_validate(config["downstream"])
        return {**config, "tasks": {**tasks, **cross_fitted(tasks, section)}}

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
    def _models_of_one_channel_give_no_tensors(self) -> Self:
        for name, task in self.tasks.items():
            single = [m for m in task.models if self.models[m].one_channel]
            if single and natures([task.target]) == {"tensor"}:
                raise ValueError(f"tasks.{name}.models: {single[0]} gives one channel, not tensors")
        return self

    @model_validator(mode="after")
    def _low_resolutions_have_a_task_to_stand_beside(self) -> Self:
        for name, task in self.tasks.items():
            for model in task.models:
                sees = self.models[model].sees_low
                if sees != (task.low is not None and model not in task.low.beside):
                    raise ValueError(
                        f"tasks.{name}: {model} needs a task with low, outside of its beside"
                        if sees
                        else f"tasks.{name}: {model} does not see a low resolution: name it in "
                        "low.beside"
                    )
            if task.low is None:
                continue
            after = self.tasks.get(task.low.after)
            if after is None or after.low or after.chain:
                raise ValueError(f"tasks.{name}.low.after must name a task without low or chain")
            same = (after.source, after.target, after.study) == (task.source, "fa", task.study)
            if not same or task.target != "fa" or task.source != "t1" or task.chain:
                raise ValueError(f"tasks.{name}: low is of t1 to fa, like {task.low.after}'s study")
            if unknown := set(task.low.beside) - set(after.models) | (
                set(task.low.beside) - set(task.models)
            ):
                raise ValueError(f"tasks.{name}.low.beside: {sorted(unknown)} is not in both tasks")
        return self

    @model_validator(mode="after")
    def _models_suit_a_low_resolution(self) -> Self:
        for name, task in self.tasks.items():
            if task.low is None:
                continue
            after = {model: self.models[model] for model in self.tasks[task.low.after].models}
            for model in task.models:
                self.models[model].check_low(name, task.low.ratio, task.low.after, after)
        return self

    @model_validator(mode="after")
    def _moved_labels_have_a_correction(self) -> Self:
        for name, task in self.tasks.items():
            for model in task.models:
                first = self.models[model].labels_of
                if first and not (first in task.models and self.models[first].correction):
                    raise ValueError(
                        f"tasks.{name}: {model} learns from labels of {first}, which must be a "
                        "model of the task with correct_labels"
                    )
        return self

    @property
    def lows(self) -> dict[str, Low]:
        """Low resolutions that tasks see, by kind."""
        return {task.low.kind: task.low for task in self.tasks.values() if task.low}

    @model_validator(mode="after")
    def _losses_are_of_the_tasks_models(self) -> Self:
        for name, task in self.tasks.items():
            for model in task.models:
                terms = self.models[model].weights
                if terms and (unknown := set(task.losses) - set(type(terms).model_fields)):
                    raise ValueError(f"tasks.{name}.losses: {model} has no {sorted(unknown)}")
        return self

    @model_validator(mode="after")
    def _steps_are_of_the_tasks_models(self) -> Self:
        for name, task in self.tasks.items():
            if isinstance(task.steps, dict) and (unknown := set(task.steps) - set(task.models)):
                raise ValueError(f"tasks.{name}.steps names {sorted(unknown)}, not in its models")
        return self

    @model_validator(mode="after")
    def _chains_fit_together(self) -> Self:
        for name, task in self.tasks.items():
            if task.chain is None:
                continue
            links = [self.tasks.get(link) for link in task.chain]
            if any(link is None or link.chain for link in links):
                raise ValueError(f"tasks.{name}.chain must name two tasks that are no chains")
            if {link.study for link in links} != {task.study}:
                raise ValueError(f"tasks.{name}.chain must name tasks of its own study")
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
    def _cross_fitted_networks_learn_from_their_own_people(self) -> Self:
        for name in (name for name, task in self.tasks.items() if task.fold):
            for model in self.tasks[name].models:
                if self.models[model].features.network == "self":
                    raise ValueError(
                        f"downstream.tasks: {model} compares images in an encoder that saw people "
                        "of every fold; set its perceptual.network to none or vgg19"
                    )
        return self

    @model_validator(mode="after")
    def _directions_are_carried_by_an_affine(self) -> Self:
        directed = natures(self.modalities) & {"density", "tensor"}
        if self.grid.registration == "syn" and directed:
            raise ValueError(
                "grid.registration: syn carries scalar maps only; tract density and tensors need "
                "rigid, affine or none"
            )
        return self


def inherited(models: Mapping[str, Any], name: str, heirs: tuple[str, ...] = ()) -> Any:
    """A model's section, over that of the model that its key ``base`` names.

    Raises
    ------
    ValueError
        The base is no model, or models are each other's base.
    """
    section = models[name]
    if not isinstance(section, Mapping) or "base" not in section:
        return section
    base = section["base"]
    if base not in models or base in (*heirs, name):
        raise ValueError(f"models.{name}.base must name another model, got {base!r}")
    own = {key: value for key, value in section.items() if key != "base"}
    return merged(inherited(models, base, (*heirs, name)), own)


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Put one nested mapping over another; what both have is taken from `over`."""
    both = {
        key: merged(base[key], value)
        for key, value in over.items()
        if isinstance(value, Mapping) and isinstance(base.get(key), Mapping)
    }
    return {**base, **over, **both}


def load_config(path: str | Path) -> Config:
    """Read and check a configuration file."""
    return Config.model_validate(yaml.safe_load(Path(path).read_text(encoding="utf-8")))
