"""What tasks, models and studies ask for: what is translated by what, and what follows from it."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from m2m.io import bids
from m2m.io.modalities import MODALITIES, natures, on_grid
from m2m.options import Config, Low, Task
from m2m.workflow.cohort_tables import Cohort
from m2m.workflow.study_paths import Layout


class Tasks:
    """Tasks by the page that shows them, their models, and the files of both.

    Parameters
    ----------
    config : Config
    files : Layout
    cohort : Cohort

    Attributes
    ----------
    studies : dict
        Tasks of each study that has a page of this kind; those that are cross-fitted are apart.
    reported, cross_fitted, tensor : list of str
        Tasks of the report; of the folds; of those, and all others, that predict tensors.
    """

    def __init__(self, config: Config, files: Layout, cohort: Cohort):
        self.config, self.files, self.cohort = config, files, cohort
        self.studies: dict[str, list[str]] = {}
        for task, section in config.tasks.items():
            self.studies.setdefault(section.study, []).append(task)
        self.cross_fitted = self.studies.pop("downstream", [])
        self.reported = self.studies.get("report", [])
        self.tensor = self.predicting("tensor")

    def predicting(self, nature: str) -> list[str]:
        """Tasks that predict maps of this nature."""
        return [
            name
            for name, task in self.config.tasks.items()
            if MODALITIES[task.target].nature == nature
        ]

    def of(self, wildcards: Any) -> Task:
        """Section of the wildcards' task."""
        return self.config.tasks[wildcards.task]

    def target_of(self, wildcards: Any) -> str:
        """What a task predicts."""
        return self.of(wildcards).target

    def model_names(self, wildcards: Any) -> list[str]:
        """Names of a task's models, the one under test first."""
        return list(self.of(wildcards).models)

    def links(self, task: str) -> tuple[str, ...]:
        """Tasks whose models a task runs one after the other: itself, or its chain's links."""
        return self.config.tasks[task].chain or (task,)

    def home(self, task: str, model: str) -> str:
        """Task that a task's model is fitted in."""
        return self.config.tasks[task].home(task, model)

    # -- files of tasks and models --------------------------------------------------------------

    def every_task(self, pattern: str, tasks: Iterable[str] | None = None) -> list[str]:
        """One file for every task, by default of the report, below the dataset's folder."""
        wanted = self.reported if tasks is None else tasks
        return [f"{self.files.root}/{pattern.format(task=task)}" for task in wanted]

    def every_model(self, pattern: str, tasks: Iterable[str] | None = None) -> list[str]:
        """One file for every task, by default all there are, and model."""
        return [
            f"{self.files.root}/{pattern.format(task=task, model=model)}"
            for task in (self.config.tasks if tasks is None else tasks)
            for model in self.config.tasks[task].models
        ]

    def every_fit(self, pattern: str, tasks: Iterable[str] | None = None) -> list[str]:
        """One file for every model that is fitted: some tasks run models of other ones."""
        fitted = {
            (self.home(task, model), model): None
            for task in (self.reported if tasks is None else tasks)
            if not self.config.tasks[task].chain
            for model in self.config.tasks[task].models
        }
        root = self.files.root
        return [f"{root}/{pattern.format(task=task, model=model)}" for task, model in fitted]

    def models_of(self, pattern: str) -> Callable[[Any], list[str]]:
        """Input function: one file for every model of the wildcards' task."""

        def wanted(wildcards: Any) -> list[str]:
            return self.every_model(pattern, [wildcards.task])

        return wanted

    # -- slices ---------------------------------------------------------------------------------

    def slices_of(self, units: Sequence[str]) -> list[str]:
        """Slice records of units, and the further maps that were cut with them."""
        # With the further maps named, a task that is added to the study has its slices cut again:
        # Snakemake does not notice an output that a rule did not have before.
        kinds = grid_maps(self.config)[1:]
        further = [path for kind in kinds for path in self.files.of_people(kind, units)]
        return [self.files.slice_record(unit) for unit in units] + further

    def slices_to_fit(self, wildcards: Any) -> list[str]:
        """Slice records that a study's models are fitted and chosen on."""
        return self.slices_of(self.cohort.of_part("train", "validation"))

    def slices_of_other_folds(self, wildcards: Any) -> list[str]:
        """Slice records that a fold's networks are fitted and chosen on."""
        return self.slices_of(self.cohort.of_fold(wildcards.fold, inside=False))

    def of_fold(self, name: str) -> Callable[[Any], str]:
        """Input function: a table about the people that a task is trained with, of its fold."""

        def wanted(wildcards: Any) -> str:
            fold = self.of(wildcards).fold
            folder = self.files.fold.format(fold=fold) if fold else self.files.cohort
            return f"{folder}/{name}"

        return wanted

    # -- translation ----------------------------------------------------------------------------

    def units_to_translate(self, task: str) -> list[str]:
        """Units that no network was fitted on: the test part, and people with the source only."""
        section = self.config.tasks[task]
        if section.fold:
            return self.cohort.of_fold(section.fold)
        alone = MODALITIES[section.source].nature == "weighted" and not section.low
        return self.cohort.of_part("test") + (self.cohort.units("t1w-only") if alone else [])

    def synthetic_kind(self, task: str) -> str:
        """Kind of what a task predicts."""
        return MODALITIES[self.config.tasks[task].target].synthetic

    def synthetic(self, task: str, model: str, units: Sequence[str]) -> list[str]:
        """Synthetic volumes of one model."""
        root = self.files.synthetic.format(task=task, model=model)
        return self.files.of_people(self.synthetic_kind(task), units, root)

    def maps_flag(self, wildcards: Any) -> list[str]:
        """`--maps` with the dataset of the wildcards' model."""
        where = {"task": wildcards.task, "model": wildcards.model}
        return ["--maps", self.files.synthetic.format(**where)]

    def every_synthetic(self, tasks: Iterable[str]) -> list[str]:
        """Synthetic volumes of every model of tasks, of all whom they are to translate."""
        return [
            path
            for task in tasks
            for model in self.config.tasks[task].models
            for path in self.synthetic(task, model, self.units_to_translate(task))
        ]

    def every_translation(self, wildcards: Any) -> list[str]:
        """Synthetic volumes of every task and model of the report."""
        return self.every_synthetic(self.reported)

    def source_image(self, wildcards: Any) -> str | list[str]:
        """What a task translates: T1, FA, or what the first link of its chain made of it."""
        if self.of(wildcards).chain:
            first = self.links(wildcards.task)[0]
            return self.synthetic(first, wildcards.model, [wildcards.unit])
        return self.files.of_person(MODALITIES[self.of(wildcards).source].kind, wildcards.unit)

    def model_weights(self, wildcards: Any) -> str:
        """Weights of the model that gives a task's target."""
        last = self.home(self.links(wildcards.task)[-1], wildcards.model)
        return f"{self.files.model.format(task=last, model=wildcards.model)}/model.safetensors"

    def model_records(self, wildcards: Any) -> list[str]:
        """Records of every model that a task runs: none of them may have seen a test person."""
        model = wildcards.model
        homes = (self.home(link, model) for link in self.links(wildcards.task))
        return [f"{self.files.model.format(task=home, model=model)}/model.json" for home in homes]

    # -- low resolutions ------------------------------------------------------------------------

    def sees_low(self, wildcards: Any) -> Low | None:
        """The low resolution that a task's model sees beside the source, or None."""
        return self.of(wildcards).low_of(wildcards.model)

    def low_table(self, wildcards: Any) -> str | list[str]:
        """The list of low-resolution slices, where the model learns from them."""
        low = self.sees_low(wildcards)
        return f"{self.files.low.format(low=low.kind)}/slices.tsv" if low else []

    def low_image(self, wildcards: Any) -> str | list[str]:
        """A unit's low-resolution map, where the model sees it."""
        if not (low := self.sees_low(wildcards)):
            return []
        root = self.files.low.format(low=low.kind)
        return self.files.of_person("low-fa", wildcards.unit, root)

    def lowered(self, of_series: str, of_map: str) -> Callable[[Any], str]:
        """Input function: a file of the cropped series, or that of the map on the common grid."""

        def wanted(wildcards: Any) -> str:
            if self.config.lows[wildcards.low].of == "map":
                return self.files.of_person(of_map, wildcards.unit)
            root = self.files.low.format(low=wildcards.low)
            return self.files.of_person(of_series, wildcards.unit, root)

        return wanted

    def low_records(self, wildcards: Any) -> list[str]:
        """Records of the low-resolution slices that models are fitted and chosen on."""
        root = self.files.low.format(low=wildcards.low)
        return [
            bids.slices_path(root, "slices.json", bids.unit_folder(unit), unit)
            for unit in self.cohort.of_part("train", "validation")
        ]


def grid_maps(config: Config) -> list[str]:
    """Kinds of the maps on the common grid: FA, and what tasks need besides."""
    return [MODALITIES[name].kind for name in on_grid(config.modalities)]


def tracts_needed(config: Config) -> bool:
    """Whether tasks need streamlines and their density."""
    return "density" in natures(on_grid(config.modalities))


def tensors_needed(config: Config) -> bool:
    """Whether tasks need tensors on the common grid."""
    return "tensor" in natures(on_grid(config.modalities))
