"""Sections about translation tasks, and their evaluation."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from m2m.io.modalities import sources, targets
from m2m.options.model_parts import Losses
from m2m.options.section import NO_BOOTSTRAP, Name, Section, one_of
from m2m.options.training_options import SliceWindow, Weight

if TYPE_CHECKING:
    Source = str
    Target = str
else:
    Source, Target = one_of(sources), one_of(targets)


class LowRes(Section):
    """A low-resolution map of the target, as a further input with the source."""

    renamed: ClassVar[Mapping[str, str]] = {
        "ratio": "factor",
        "of": "source",
        "after": "synthesis_task",
        "beside": "baselines",
    }

    factor: Literal[2, 4, 8] = Field(2, description="Downsampling factor along each axis; k-space is cropped by it")
    source: Literal["dwi", "map"] = Field(
        "dwi",
        description="Image whose k-space is cropped. dwi: the diffusion series, before the tensor fit; "
        "map: the map itself",
    )
    synthesis_task: Name = Field(description="Task without low resolution, whose models predict from the source alone")
    baselines: tuple[Name, ...] = Field(
        (), description="Models of synthesis_task that are compared with the models of this task"
    )

    @property
    def kind(self) -> str:
        """Name of the low resolution and of its folder: ``dwi-2``."""
        return f"{self.source}-{self.factor}"


class Task(Section):
    """One translation task: source, target, and the models that are compared."""

    renamed: ClassVar[Mapping[str, str]] = {"chain": "cascade", "low": "low_res", "study": "page"}

    source: Source = Field("t1", description="Input image of the models")
    target: Target = Field("fa", description="Image that the models predict")
    cascade: tuple[Name, Name] | None = Field(
        None,
        description="Two tasks whose models are applied one after the other; this task itself trains no model",
    )
    low_res: LowRes | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="Super-resolution: a low-resolution map of the target is a further input",
    )
    steps: PositiveInt | dict[Name, PositiveInt] | None = Field(
        None,
        description="Optimiser steps of all networks of this task, or of each by name; "
        "null: training.steps of each model",
    )
    losses: dict[str, Weight] = Field(
        {}, description="Weights of losses in this task; they replace those of the models"
    )
    inputs: SliceWindow | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="Inputs of all networks of this task, in place of those of the models; for comparisons with equal "
        "inputs",
    )
    models: tuple[Name, ...] = Field(
        ("macro2micro", "mean", "t1"), description="Models of this task; the first one is compared with the others"
    )
    page: Literal["report", "compare", "ablation", "fgdl", "downstream"] = Field(
        "report", description="Report page that shows this task, and name of its target: `snakemake compare`"
    )
    fold: PositiveInt | None = Field(
        None,
        description="Cross-fitting: networks are trained without the participants of this fold; set by `downstream`",
    )

    @model_validator(mode="after")
    def _check_inputs(self) -> Self:
        if self.inputs is not None and (self.cascade or self.low_res):
            raise ValueError("inputs: not with cascade, whose networks are of other tasks, and not with low_res")
        return self

    @field_validator("losses")
    @classmethod
    def _check_loss_names(cls, losses: dict[str, float]) -> dict[str, float]:
        Losses.model_validate(losses)
        return losses

    def training_task(self, name: str, model: str) -> str:
        """Name of the task that trains a model of this task.

        Parameters
        ----------
        name : str
            Name of this task.
        model : str

        Returns
        -------
        str
            `name`, or ``low_res.synthesis_task`` for its baselines.
        """
        return self.low_res.synthesis_task if self.low_res and model in self.low_res.baselines else name

    def low_res_of(self, model: str) -> LowRes | None:
        """Low resolution that is an input of a model of this task, or None."""
        return None if self.low_res is None or model in self.low_res.baselines else self.low_res

    def steps_of(self, model: str) -> int | None:
        """Optimiser steps of a model in this task; None where the model's section sets them."""
        return self.steps.get(model) if isinstance(self.steps, dict) else self.steps


class Rois(Section):
    """Label image of regions, for regional means."""

    image: str | None = Field(
        None,
        description="Path of the label image; {folder} and {unit} in it stand for the participant. "
        "Set automatically for the phantom",
    )
    space: Literal["T1w", "MNI152"] = Field("T1w", description="Space of the label image")
    labels: Path | None = Field(None, description="Table (TSV) of region names, with columns index and name")


class Evaluation(Section):
    """Metrics and their uncertainty."""

    removed: ClassVar[Mapping[str, str]] = dict.fromkeys(("bootstrap", "seed"), NO_BOOTSTRAP)

    rois: Rois = Rois()
    min_roi_voxels: PositiveInt = Field(8, description="Regions with fewer voxels are not compared")
    density_threshold: PositiveFloat = Field(
        5.0, description="Tract density above which a voxel is part of a tract, for Dice"
    )
    min_bundle_streamlines: PositiveInt = Field(
        5, description="Measured bundles with fewer streamlines are not compared"
    )
    truth: Path | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="Dataset of the ground-truth FA of the phantom, before simulated distortion; set by the workflow",
    )
    ms_ssim: bool = Field(
        False,
        exclude_if=lambda value: not value,
        description="Whether MS-SSIM of whole volumes is computed, which takes as long as all other metrics together",
    )
    visits: bool = Field(
        False,
        exclude_if=lambda value: not value,
        description="Whether the visits of each participant are compared: change within participants, test-retest. For "
        "cohorts with several sessions a participant",
    )
    central_share: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0,
        exclude_if=lambda value: value == 1,
        description="Fraction of the brain's axial slices, from its centre, that are a region of the metrics; 1: none",
    )
    lpips_weights: Path | None = Field(
        None, description="Safetensors file of the weights of LPIPS (extra `lpips`); null: LPIPS is not computed"
    )
