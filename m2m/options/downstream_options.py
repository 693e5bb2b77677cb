"""Section about the biological validation: whether synthetic maps are specific to the participant.

A measured image is named by its modality (t1, fa, tdi), a synthetic one by its task and model
(t1-fa.macro2micro) or, where weights are given, by the name of these; a map that is deformed to
each T1 is `ATLAS`. Each image is an input alone, and together with the T1 (t1+fa), to test whether
a synthetic map adds information to the T1.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, field_validator

from m2m.io.modalities import MODALITIES, targets
from m2m.options.section import DataPath, Name, Section

T1, FA = "t1", "fa"
# Maps of one value per voxel, which a few numbers describe.
DESCRIBED = [name for name in targets() if MODALITIES[name].nature != "tensor"]
# FA of simulated participants without noise, for effects only; it is not an input of predictions.
NOISE_FREE = "noise-free"
# FA of a map in template space, deformed to each participant's T1.
ATLAS = "atlas"
# Folder of the maps by given weights, in the place of a task's.
GIVEN = "downstream"
# Weights that are installed with m2m, in place of a path.
PRETRAINED = "pretrained"
# Names of predicted columns are also names of folders.
Column = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]


class Cnn(Section):
    """3D convolutional network that predicts a phenotype from whole volumes."""

    renamed: ClassVar[Mapping[str, str]] = {"min_people": "min_subjects"}

    min_subjects: PositiveInt = Field(
        200, description="Minimum number of participants; in smaller cohorts the network is not trained"
    )
    coarsen: PositiveInt = Field(
        1, description="Downsampling factor of the input volumes along each axis, by averaging voxels"
    )
    widths: tuple[PositiveInt, ...] = Field(
        (16, 32, 64, 64), description="Channels of each level; the volume is halved after each level"
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(0.5, description="Dropout rate")
    steps: PositiveInt = Field(400, description="Optimiser steps")
    batch_size: PositiveInt = Field(8, description="Volumes per step")
    learning_rate: PositiveFloat = Field(2e-3, description="Learning rate")
    weight_decay: float = Field(1e-2, ge=0, description="Weight decay")


class Downstream(Section):
    """Phenotypes predicted from measured and from cross-fitted synthetic maps."""

    renamed: ClassVar[Mapping[str, str]] = {"min_people": "min_subjects"}

    targets: dict[Column, Literal["regression", "classification"]] = Field(
        {},
        description="Columns of participants.tsv to predict: regression for a number, classification for a class",
    )
    tasks: tuple[Name, ...] = Field((), description="Tasks whose models are cross-fitted")
    models: tuple[Name, ...] = Field(
        (), description="Models of these tasks that are cross-fitted; empty: the first model of each task"
    )
    weights: dict[Name, Literal["pretrained"] | DataPath] = Field(
        {},
        exclude_if=lambda value: not value,
        description="Weights of models from T1 that are applied as they are, by a name for their maps: a "
        "model.safetensors trained on other participants, or pretrained for the installed one of FA. Without tasks, "
        "participants need a T1 only",
    )
    atlas: DataPath | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="FA map in MNI152NLin2009aSym space, NIfTI, that is deformed to each T1 and is an input beside the "
        "synthetic maps; as real/atlas.nii.gz of `snakemake real`, which registers a group's FA to this space",
    )
    note: str = Field(
        "",
        exclude_if=lambda value: not value,
        description="What readers must know of the training of `weights`, such as that these T1s were among its "
        "anatomies; printed on the page",
    )
    steps: PositiveInt | None = Field(
        None, description="Optimiser steps of each cross-fitted network; null: as in its task"
    )
    folds: int = Field(5, ge=2, description="Number of folds, for the cross-fitting of networks and for the predictors")
    folds_by: Literal["participant", "site"] = Field(
        "participant",
        exclude_if=lambda value: value == "participant",
        description="What is divided into folds: participants, or whole sites (column site of participants.tsv), so "
        "that networks and predictors know no participant of a site that they predict; with as many folds as sites, "
        "leave-one-site-out",
    )
    harmonise: Literal["none", "combat"] = Field(
        "none",
        exclude_if=lambda value: value == "none",
        description="combat: features of images are harmonised over sites, fitted to the training folds of each "
        "prediction alone; a site that these lack stays as it is. The volumes of `cnn` are not harmonised",
    )
    preserve: tuple[str, ...] = Field(
        (),
        exclude_if=lambda value: not value,
        description="Columns of participants.tsv whose effects harmonisation keeps, such as age and sex where sites "
        "differ in them; never the predicted one. Leave out what a predicted one can be read from",
    )
    covariates: tuple[str, ...] = Field(
        ("site",),
        description="Columns of participants.tsv that, with brain volume, form a baseline without images",
    )
    min_subjects: PositiveInt = Field(
        20, description="Minimum number of participants for a prediction; for classes, in each class"
    )
    cnn: Cnn = Cnn()
    permutations: NonNegativeInt = Field(1000, description="Permutations of each test")
    bootstrap: PositiveInt = Field(2000, description="Bootstrap samples for confidence intervals")
    seed: int = Field(1, description="Random seed")

    @field_validator("weights")
    @classmethod
    def _check_names(cls, weights: dict[str, Any]) -> dict[str, Any]:
        if taken := sorted({*MODALITIES, ATLAS, NOISE_FREE, "covariates"} & weights.keys()):
            raise ValueError(f"{taken[0]} is the name of another input: choose another one")
        return weights

    @property
    def without_dwi(self) -> bool:
        """Whether a T1 is all that is needed of a participant: nothing is compared with measured maps."""
        return not self.tasks and bool(self.weights or self.atlas)


def inputs_of(images: Iterable[str]) -> list[str]:
    """Inputs of predictors: each image alone, and each except the T1 together with the T1."""
    alone = [name for name in images if name != NOISE_FREE]
    return alone + [f"{T1}+{name}" for name in alone if name != T1]


def with_measured(measured_of: Mapping[str, str | None]) -> dict[str, str]:
    """Images made from the T1 that have a measured one, and this one."""
    return {name: measured for name, measured in measured_of.items() if measured}


def compared_effects(measured_of: Mapping[str, str | None]) -> list[tuple[str, str]]:
    """Pairs of images whose regional effects are drawn against each other: reference first.

    The reference is the measured image, and the atlas where there is no measured one.
    """
    if pairs := [(measured, name) for name, measured in with_measured(measured_of).items()]:
        return pairs
    return [(ATLAS, name) for name in measured_of if name != ATLAS] if ATLAS in measured_of else []


def images_of(name: str) -> list[str]:
    """Images that an input consists of."""
    return name.split("+")


def fold_task(task: str, fold: int | str) -> str:
    """Name of the task that cross-fits a task in one fold."""
    return f"{task}-fold{fold}"


def cross_fitted(tasks: Mapping[str, Any], section: Downstream) -> dict[str, Any]:
    """Tasks of the cross-fitting: each task with the chosen models, once per fold.

    Parameters
    ----------
    tasks : mapping
        Sections by name, as in config.yaml.
    section : Downstream

    Returns
    -------
    dict of str to dict
        Sections of the added tasks, by name.

    Raises
    ------
    ValueError
        A task is unknown, is a cascade, or does not predict one of `DESCRIBED` from a T1.
    """
    added = {}
    for name in section.tasks:
        task = tasks.get(name)
        if not isinstance(task, Mapping) or task.get("cascade"):
            raise ValueError(f"downstream.tasks: {name} is not a task that trains a model")
        if task.get("source", T1) != T1 or task.get("target", FA) not in DESCRIBED:
            *titles, last = (MODALITIES[target].title for target in DESCRIBED)
            wanted = f"{', '.join(titles)} or {last}"
            raise ValueError(f"downstream.tasks: {name} is not from T1 to {wanted}")
        common = {key: task[key] for key in ("source", "target", "steps", "losses") if key in task}
        common["models"] = list(section.models or task.get("models", ["macro2micro"])[:1])
        if isinstance(task.get("steps"), Mapping):
            common["steps"] = {m: n for m, n in task["steps"].items() if m in common["models"]}
        if section.steps:
            common["steps"] = section.steps
        for fold in range(1, section.folds + 1):
            added[fold_task(name, fold)] = {**common, "page": "downstream", "fold": fold}
    return added
