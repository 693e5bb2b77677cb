"""The configuration: one validated model per section, unknown keys forbidden.

A misspelt key or an invalid value stops ``snakemake -n`` with the key's name. A stage receives the
whole configuration as a file, or its own section as JSON, and reads its own sections only
(`m2m.options.configured`).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import Field, NonNegativeInt, model_validator

from m2m.io.modalities import natures
from m2m.options.cohort_options import Cohort, Split
from m2m.options.downstream_options import GIVEN, Cnn, Downstream, cross_fitted
from m2m.options.families import FAMILIES, Model, section_of
from m2m.options.family import Family, Trained
from m2m.options.imaging_options import Anat, Deformation, Dti, Grid, Mask, Slices
from m2m.options.install_options import Install
from m2m.options.model_parts import (
    Discriminators,
    Encoder,
    Losses,
    PatchGanOptions,
    Perceptual,
    UNetwork,
)
from m2m.options.preprocess_backends import Preprocess
from m2m.options.published_options import Published
from m2m.options.real_options import Real
from m2m.options.rendering_options import HeldOut, Render, Report, SliceField
from m2m.options.section import DataPath, Name, Section, problems
from m2m.options.simulation_options import Effects, FibreEffects, Phantom, Simulation, T1Variation, Template
from m2m.options.task_options import Evaluation, LowRes, Rois, Task
from m2m.options.trackers import DipyTracking, MrtrixTracking, Tractography
from m2m.options.training_options import Correction, Training

__all__ = [
    "FAMILIES",
    "Anat",
    "Cnn",
    "Cohort",
    "Config",
    "Correction",
    "Deformation",
    "DipyTracking",
    "Discriminators",
    "Downstream",
    "Dti",
    "Effects",
    "Encoder",
    "Evaluation",
    "Family",
    "FibreEffects",
    "Grid",
    "HeldOut",
    "Install",
    "Losses",
    "LowRes",
    "Mask",
    "Model",
    "MrtrixTracking",
    "PatchGanOptions",
    "Perceptual",
    "Phantom",
    "Preprocess",
    "Published",
    "Real",
    "Render",
    "Report",
    "Rois",
    "Simulation",
    "SliceField",
    "Slices",
    "Split",
    "T1Variation",
    "Task",
    "Template",
    "Tractography",
    "Trained",
    "Training",
    "UNetwork",
    "load_config",
    "problems",
    "section_of",
]


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
    deformation: Deformation = Deformation()
    grid: Grid = Grid()
    slices: Slices = Slices()
    encoder: Encoder = Encoder()
    models: dict[Name, Model] = Field({})
    tasks: dict[Name, Task] = Field({})
    field: SliceField = SliceField()
    held_out: HeldOut = HeldOut()
    render: Render = Render()
    evaluation: Evaluation = Evaluation()
    downstream: Downstream = Downstream()
    real: Real = Real()
    install: Install = Install()
    published: Published | None = Field(None, exclude_if=lambda value: value is None)
    report: Report = Report()

    # It changes how jobs run, not their results.
    shard: NonNegativeInt = Field(
        0,
        exclude=True,
        description="Number of participants whose short stages share one job; set by the Slurm profile",
    )

    @model_validator(mode="before")
    @classmethod
    def _inherit_from_bases(cls, config: Any) -> Any:
        """Merge each model's section that has `base` into the section of that base, key by key."""
        models = config.get("models") if isinstance(config, Mapping) else None
        if not isinstance(models, Mapping):
            return config
        return {**config, "models": {name: inherited(models, name) for name in models}}

    @model_validator(mode="before")
    @classmethod
    def _add_tasks_of_folds(cls, config: Any) -> Any:
        """Add one task per fold for the tasks that `downstream` cross-fits."""
        tasks = config.get("tasks") if isinstance(config, Mapping) else None
        if not isinstance(tasks, Mapping) or not config.get("downstream"):
            return config
        section = Downstream.model_validate(config["downstream"])
        return {**config, "tasks": {**tasks, **cross_fitted(tasks, section)}}

    @property
    def modalities(self) -> set[str]:
        """Names of the sources and targets of all tasks."""
        return {image for task in self.tasks.values() for image in (task.source, task.target)}

    @model_validator(mode="after")
    def _check_models_of_tasks(self) -> Self:
        for name, task in self.tasks.items():
            if unknown := set(task.models) - set(self.models):
                raise ValueError(f"tasks.{name}.models names {sorted(unknown)}, not in models: {sorted(self.models)}")
        return self

    @model_validator(mode="after")
    def _check_channels(self) -> Self:
        for name, task in self.tasks.items():
            single = [m for m in task.models if self.models[m].one_channel]
            if single and natures([task.target]) == {"tensor"}:
                raise ValueError(f"tasks.{name}.models: {single[0]} predicts one channel, not tensors")
            for model in task.models:
                self.models[model].check_target(name, *natures([task.target]))
        return self

    @model_validator(mode="after")
    def _check_low_resolutions(self) -> Self:
        for name, task in self.tasks.items():
            for model in task.models:
                needs_low_res = self.models[model].uses_low_res
                if needs_low_res != (task.low_res is not None and model not in task.low_res.baselines):
                    raise ValueError(
                        f"tasks.{name}: {model} needs a task with low_res, outside of its baselines"
                        if needs_low_res
                        else f"tasks.{name}: {model} has no low-resolution input: name it in low_res.baselines"
                    )
            if task.low_res is None:
                continue
            synthesis = self.tasks.get(task.low_res.synthesis_task)
            if synthesis is None or synthesis.low_res or synthesis.cascade:
                raise ValueError(f"tasks.{name}.low_res.synthesis_task must name a task without low_res or cascade")
            same = (synthesis.source, synthesis.target, synthesis.page) == (task.source, "fa", task.page)
            if not same or task.target != "fa" or task.source != "t1" or task.cascade:
                raise ValueError(
                    f"tasks.{name}: low_res is for t1 to fa, on the report page of {task.low_res.synthesis_task}"
                )
            if unknown := set(task.low_res.baselines) - set(synthesis.models) | (
                set(task.low_res.baselines) - set(task.models)
            ):
                raise ValueError(f"tasks.{name}.low_res.baselines: {sorted(unknown)} is not in both tasks")
        return self

    @model_validator(mode="after")
    def _check_models_of_low_resolutions(self) -> Self:
        for name, task in self.tasks.items():
            if task.low_res is None:
                continue
            synthesis = {model: self.models[model] for model in self.tasks[task.low_res.synthesis_task].models}
            for model in task.models:
                self.models[model].check_low_res(name, task.low_res.factor, task.low_res.synthesis_task, synthesis)
        return self

    @model_validator(mode="after")
    def _check_labels_from(self) -> Self:
        for name, task in self.tasks.items():
            for model in task.models:
                first = self.models[model].labels_of
                if first and not (first in task.models and self.models[first].correction):
                    raise ValueError(
                        f"tasks.{name}: {model} is trained on labels corrected by {first}, which must be "
                        "a model of the task with correct_labels"
                    )
        return self

    @property
    def low_resolutions(self) -> dict[str, LowRes]:
        """Low resolutions that tasks use, by kind."""
        return {task.low_res.kind: task.low_res for task in self.tasks.values() if task.low_res}

    @model_validator(mode="after")
    def _check_losses_of_tasks(self) -> Self:
        for name, task in self.tasks.items():
            for model in task.models:
                terms = self.models[model].weights
                if terms and (unknown := set(task.losses) - set(type(terms).model_fields)):
                    raise ValueError(f"tasks.{name}.losses: {model} has no {sorted(unknown)}")
        return self

    @model_validator(mode="after")
    def _check_inputs_of_tasks(self) -> Self:
        for name, task in self.tasks.items():
            other = [m for m in task.models if task.inputs is not None and not self.models[m].takes(task.inputs)]
            if other:
                raise ValueError(f"tasks.{name}.inputs: {other[0]} cannot have {task.inputs}: leave it out of the task")
        return self

    @model_validator(mode="after")
    def _check_mirroring_of_comparisons(self) -> Self:
        """Mirroring helps any network and doubles its time: networks are compared all with it, or all without."""
        for name, task in self.tasks.items():
            trained = {m: one.mirror for m in task.models if isinstance(one := self.models[m], Trained)}
            if task.page in ("compare", "fgdl") and len(set(trained.values())) > 1:
                without = sorted(m for m, mirrored in trained.items() if not mirrored)
                raise ValueError(f"tasks.{name}: set mirror of all networks or of none; {without} have mirror: false")
        return self

    @model_validator(mode="after")
    def _check_tasks_of_published(self) -> Self:
        if self.published and (unknown := self.published.values.keys() - self.tasks.keys()):
            raise ValueError(f"published.values names tasks {sorted(unknown)}, not in tasks: {sorted(self.tasks)}")
        return self

    @model_validator(mode="after")
    def _check_steps_of_tasks(self) -> Self:
        for name, task in self.tasks.items():
            if isinstance(task.steps, dict) and (unknown := set(task.steps) - set(task.models)):
                raise ValueError(f"tasks.{name}.steps names {sorted(unknown)}, not in its models")
        return self

    @model_validator(mode="after")
    def _check_cascades(self) -> Self:
        for name, task in self.tasks.items():
            if task.cascade is None:
                continue
            first, last = (self.tasks.get(step) for step in task.cascade)
            if first is None or last is None or first.cascade or last.cascade:
                raise ValueError(f"tasks.{name}.cascade must name two tasks that are not cascades")
            if {first.page, last.page} != {task.page}:
                raise ValueError(f"tasks.{name}.cascade must name tasks of its own report page")
            if (task.source, first.target, last.target) != (first.source, last.source, task.target):
                raise ValueError(
                    f"tasks.{name}: {task.source} to {task.target} is not {first.source} to "
                    f"{first.target}, then {last.source} to {last.target}"
                )
            if unknown := set(task.models) - (set(first.models) & set(last.models)):
                raise ValueError(f"tasks.{name}.models names {sorted(unknown)}, not in both steps")
        return self

    @model_validator(mode="after")
    def _check_encoders_of_folds(self) -> Self:
        for name in (name for name, task in self.tasks.items() if task.fold):
            for model in self.tasks[name].models:
                if self.models[model].features.network == "self":
                    raise ValueError(
                        f"downstream.tasks: the perceptual loss of {model} uses an encoder that is trained on "
                        "participants of every fold; set its perceptual.network to none or vgg19"
                    )
        return self

    @model_validator(mode="after")
    def _check_tasks(self) -> Self:
        missing = sorted({"models", "tasks"} - self.model_fields_set)
        if missing and not (self.downstream.without_dwi or self.real.bids_dir):
            raise ValueError(
                f"{missing[0]}: this key is needed, but for a study of T1s by downstream.weights, or of pairs by "
                "real.bids_dir"
            )
        return self

    @model_validator(mode="after")
    def _check_weights_of_downstream(self) -> Self:
        if self.downstream.weights and GIVEN in self.tasks:
            raise ValueError(f"tasks.{GIVEN}: maps by downstream.weights have this folder, choose another name")
        return self

    @model_validator(mode="after")
    def _check_registration(self) -> Self:
        directed = natures(self.modalities) & {"density", "tensor"}
        if self.grid.registration == "syn" and directed:
            raise ValueError(
                "grid.registration: syn can resample scalar maps only; "
                "tract density and tensors need rigid, affine or none"
            )
        return self


def inherited(models: Mapping[str, Any], name: str, heirs: tuple[str, ...] = ()) -> Any:
    """Merge a model's section into the section of its key ``base``.

    Parameters
    ----------
    models : mapping of str to mapping
        Sections by name.
    name : str
        The model.
    heirs : tuple of str
        Models whose bases led here, to detect circles.

    Returns
    -------
    dict
        The section without ``base``.

    Raises
    ------
    ValueError
        The base is not a model, or bases form a circle.
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
    """Merge nested mappings; values of `over` replace those of `base`."""
    both = {
        key: merged(base[key], value)
        for key, value in over.items()
        if isinstance(value, Mapping) and isinstance(base.get(key), Mapping)
    }
    return {**base, **over, **both}


def load_config(path: str | Path) -> Config:
    """Read and check a configuration file."""
    return Config.model_validate(yaml.safe_load(Path(path).read_text(encoding="utf-8")))
