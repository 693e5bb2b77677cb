"""Section about the biological validation: whether synthetic maps carry the person.

A measured image is named by its modality (t1, fa, tdi), a synthetic one by its task and model
(t1-fa.macro2micro). Besides each image alone, each stands beside the T1 (t1+fa), since what a
synthetic map tells that the T1 did not is the question.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from m2m.io.modalities import MODALITIES, targets
from m2m.options.section import Name, Section

T1, FA = "t1", "fa"
# Maps of one value a voxel, which a few numbers describe.
DESCRIBED = [name for name in targets() if MODALITIES[name].nature != "tensor"]
# FA of simulated people without noise, for their effects: nobody can predict from it.
NOISE_FREE = "noise-free"
# Columns that are predicted name folders.
Column = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]


class Cnn(Section):
    """Three-dimensional network that predicts a phenotype from whole volumes."""

    min_people: PositiveInt = Field(200, description="In smaller cohorts it is not trained")
    coarsen: PositiveInt = Field(1, description="Voxels along each axis that are averaged first")
    widths: tuple[PositiveInt, ...] = Field(
        (16, 32, 64, 64), description="Channels; the volume is halved after each"
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    steps: PositiveInt = 400
    batch_size: PositiveInt = 8
    learning_rate: PositiveFloat = 2e-3
    weight_decay: float = Field(1e-2, ge=0)


class Downstream(Section):
    """Phenotypes predicted from measured and from cross-fitted synthetic maps."""

    targets: dict[Column, Literal["regression", "classification"]] = Field(
        {}, description="Columns of participants.tsv, and whether each is a number or a class"
    )
    tasks: tuple[Name, ...] = Field((), description="Tasks whose models are cross-fitted")
    models: tuple[Name, ...] = Field((), description="Which of their models; none: the first")
    steps: PositiveInt | None = Field(
        None, description="Optimiser steps of each cross-fitted network; null: as in its task"
    )
    folds: int = Field(5, ge=2, description="Networks of each model, and folds of predictors")
    covariates: tuple[str, ...] = Field(
        ("site",), description="Columns that, with brain volume, are tried alone, where they exist"
    )
    min_people: PositiveInt = Field(20, description="Least number, for classes in each class")
    cnn: Cnn = Cnn()
    permutations: NonNegativeInt = 1000
    bootstrap: PositiveInt = 2000
    seed: int = 1


def inputs_of(images: Iterable[str]) -> list[str]:
    """Inputs that are made of images: each alone, and each but the T1 beside the T1."""
    alone = [name for name in images if name != NOISE_FREE]
    return alone + [f"{T1}+{name}" for name in alone if name != T1]


def images_of(seen: str) -> list[str]:
    """Images of an input."""
    return seen.split("+")


def fold_task(task: str, fold: int | str) -> str:
    """Name of a task's cross-fitting in one fold."""
    return f"{task}-fold{fold}"


def cross_fitted(tasks: Mapping[str, Any], section: Downstream) -> dict[str, Any]:
    """Tasks that cross-fit: each task with the wanted models, once for each fold.

    Parameters
    ----------
    tasks : mapping
        Sections by name, as in config.yaml.
    section : Downstream

    Raises
    ------
    ValueError
        A task is unknown, or does not make one of `DESCRIBED` of a T1 with a network of its own.
    """
    added = {}
    for name in section.tasks:
        task = tasks.get(name)
        if not isinstance(task, Mapping) or task.get("chain"):
            raise ValueError(f"downstream.tasks: {name} is not a task that trains a model")
        if task.get("source", T1) != T1 or task.get("target", FA) not in DESCRIBED:
            *titles, last = (MODALITIES[target].title for target in DESCRIBED)
            wanted = f"{', '.join(titles)} or {last}"
            raise ValueError(f"downstream.tasks: {name} is not from T1 to {wanted}")
        once = {key: task[key] for key in ("source", "target", "steps", "losses") if key in task}
        once["models"] = list(section.models or task.get("models", ["macro2micro"])[:1])
        if isinstance(task.get("steps"), Mapping):
            once["steps"] = {m: n for m, n in task["steps"].items() if m in once["models"]}
        if section.steps:
            once["steps"] = section.steps
        for fold in range(1, section.folds + 1):
            added[fold_task(name, fold)] = {**once, "study": "downstream", "fold": fold}
    return added
