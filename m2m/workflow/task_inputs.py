"""Inputs of tasks and models: slices, weights, translations, low resolutions."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from m2m.io import bids
from m2m.io.modalities import MODALITIES, natures, on_grid
from m2m.options import Config, LowRes, Task
from m2m.workflow.cohort_tables import Cohort
from m2m.workflow.results_layout import Layout


class Tasks:
    """Tasks by the page that shows them, their models, and the files of both.

    Parameters
    ----------
    config : Config
    files : Layout
    cohort : Cohort

    Attributes
    ----------
    pages : dict
        Tasks by report page; without those of the cross-fitting.
    reported, cross_fitted, tensor, but_tensor : list of str
        Tasks of the main report page; tasks of the cross-fitting; all tasks that predict tensors, and all others.
    """

    def __init__(self, config: Config, files: Layout, cohort: Cohort):
        self.config, self.files, self.cohort = config, files, cohort
        self.pages: dict[str, list[str]] = {}
        for task, section in config.tasks.items():
            self.pages.setdefault(section.page, []).append(task)
        self.cross_fitted = self.pages.pop("downstream", [])
        self.reported = self.pages.get("report", [])
        self.tensor = self.predicting("tensor")
        self.but_tensor = [name for name in config.tasks if name not in self.tensor]

    def predicting(self, nature: str) -> list[str]:
        """Tasks that predict maps of this nature."""
        return [name for name, task in self.config.tasks.items() if MODALITIES[task.target].nature == nature]

    def of(self, wildcards: Any) -> Task:
        """Section of the wildcards' task."""
        return self.config.tasks[wildcards.task]

    def target_of(self, wildcards: Any) -> str:
        """Target of the wildcards' task."""
        return self.of(wildcards).target

    def model_names(self, wildcards: Any) -> list[str]:
        """Names of a task's models; the first one is compared with the others."""
        return list(self.of(wildcards).models)

    def cascade_steps(self, task: str) -> tuple[str, ...]:
        """Tasks whose models are applied one after the other: the task itself, or the steps of its cascade."""
        return self.config.tasks[task].cascade or (task,)

    def training_task(self, task: str, model: str) -> str:
        """Name of the task that trains a task's model."""
        return self.config.tasks[task].training_task(task, model)

    # -- files of tasks and models --------------------------------------------------------------

    def every_task(self, pattern: str, tasks: Iterable[str] | None = None) -> list[str]:
        """Paths of one file per task, below the dataset's folder.

        Parameters
        ----------
        pattern : str
            With {task}.
        tasks : iterable of str, optional
            Default: the tasks of the main report page.

        Returns
        -------
        list of str
        """
        wanted = self.reported if tasks is None else tasks
        return [f"{self.files.root}/{pattern.format(task=task)}" for task in wanted]

    def every_model(self, pattern: str, tasks: Iterable[str] | None = None) -> list[str]:
        """Paths of one file per task and model, below the dataset's folder.

        Parameters
        ----------
        pattern : str
            With {task} and {model}.
        tasks : iterable of str, optional
            Default: all tasks.

        Returns
        -------
        list of str
        """
        return [
            f"{self.files.root}/{pattern.format(task=task, model=model)}"
            for task in (self.config.tasks if tasks is None else tasks)
            for model in self.config.tasks[task].models
        ]

    def every_fit(self, pattern: str, tasks: Iterable[str] | None = None) -> list[str]:
        """Paths of one file per trained model; tasks may use models of other tasks.

        Parameters
        ----------
        pattern : str
            With {task} and {model}.
        tasks : iterable of str, optional
            Default: the tasks of the main report page.

        Returns
        -------
        list of str
        """
        fitted = {
            (self.training_task(task, model), model): None
            for task in (self.reported if tasks is None else tasks)
            if not self.config.tasks[task].cascade
            for model in self.config.tasks[task].models
        }
        root = self.files.root
        return [f"{root}/{pattern.format(task=task, model=model)}" for task, model in fitted]

    def models_of(self, pattern: str) -> Callable[[Any], list[str]]:
        """Input function: one file per model of the wildcards' task."""

        def wanted(wildcards: Any) -> list[str]:
            return self.every_model(pattern, [wildcards.task])

        return wanted

    # -- slices ---------------------------------------------------------------------------------

    def slices_of(self, units: Sequence[str]) -> list[str]:
        """Slice records of units, and the further maps that are sliced with them."""
        # The further maps are inputs too, so that slices are cut again when a new task needs a further
        # map: Snakemake does not notice an output that a rule did not have before.
        kinds = grid_maps(self.config)[1:]
        further = [path for kind in kinds for path in self.files.of_units(kind, units)]
        return [self.files.slice_record(unit) for unit in units] + further

    def slices_to_fit(self, wildcards: Any) -> list[str]:
        """Slice records of the training and validation units."""
        return self.slices_of(self.cohort.of_part("train", "validation"))

    def slices_of_other_folds(self, wildcards: Any) -> list[str]:
        """Slice records of the training and validation units of a fold's networks."""
        return self.slices_of(self.cohort.of_fold(wildcards.fold, inside=False))

    def of_fold(self, name: str) -> Callable[[Any], str]:
        """Input function: a table about the training participants of a task, in its fold."""

        def wanted(wildcards: Any) -> str:
            fold = self.of(wildcards).fold
            folder = self.files.fold.format(fold=fold) if fold else self.files.cohort
            return f"{folder}/{name}"

        return wanted

    # -- deformation of the template -------------------------------------------------------------

    def uses_deformation(self, model: str) -> bool:
        """Whether a model uses the deformation of the template to each participant."""
        return self.config.models[model].uses_deformation

    def deformation_needed(self, tasks: Iterable[str] | None = None) -> bool:
        """Whether a model of these tasks uses the deformation; by default of all, or the atlas of `downstream`."""
        if tasks is None and self.config.downstream.atlas:
            return True
        wanted = self.config.tasks if tasks is None else tasks
        return any(self.uses_deformation(model) for task in wanted for model in self.config.tasks[task].models)

    def table_to_fit(self, wildcards: Any) -> str:
        """Table that stands for what a model is fitted to: slices, with the deformations where it uses them."""
        deformed = self.uses_deformation(wildcards.model)
        return self.of_fold("deformed.tsv" if deformed else "slices.tsv")(wildcards)

    def deformations_to_fit(self, wildcards: Any) -> list[str]:
        """Statuses of the deformations of the training and validation units."""
        return self.files.of_units("deform-status", self.cohort.of_part("train", "validation"))

    def deformations_of_other_folds(self, wildcards: Any) -> list[str]:
        """Statuses of the deformations of the training and validation units of a fold's networks."""
        return self.files.of_units("deform-status", self.cohort.of_fold(wildcards.fold, inside=False))

    def deformation(self, wildcards: Any) -> str | list[str]:
        """Status of a unit's deformation, where the model uses it."""
        if not self.uses_deformation(wildcards.model):
            return []
        return self.files.of_participant("deform-status", wildcards.unit)

    def reported_deformations(self, wildcards: Any) -> list[str]:
        """Statuses of the deformations of all units, where a model of the main report page uses them."""
        if not self.deformation_needed(self.reported):
            return []
        return self.files.of_units("deform-status", self.cohort.units("paired", "t1w-only"))

    # -- translation ----------------------------------------------------------------------------

    def units_to_translate(self, task: str) -> list[str]:
        """Units without influence on the training: the test part, and units with a T1 only."""
        section = self.config.tasks[task]
        if section.fold:
            return self.cohort.of_fold(section.fold)
        needs_t1_only = MODALITIES[section.source].nature == "weighted" and not section.low_res
        return self.cohort.of_part("test") + (self.cohort.units("t1w-only") if needs_t1_only else [])

    def translated_units(self, wildcards: Any) -> list[str]:
        """As `units_to_translate`, of the wildcards' task."""
        return self.units_to_translate(wildcards.task)

    def synthetic_kind(self, task: str) -> str:
        """Kind of the predicted files of a task."""
        return MODALITIES[self.config.tasks[task].target].synthetic

    def synthetic(self, task: str, model: str, units: Sequence[str]) -> list[str]:
        """Synthetic volumes of one model.

        Parameters
        ----------
        task, model : str
        units : sequence of str

        Returns
        -------
        list of str
        """
        root = self.files.synthetic.format(task=task, model=model)
        return self.files.of_units(self.synthetic_kind(task), units, root)

    def maps_flag(self, wildcards: Any) -> list[str]:
        """`--maps` with the dataset of the wildcards' model."""
        where = {"task": wildcards.task, "model": wildcards.model}
        return ["--maps", self.files.synthetic.format(**where)]

    def every_synthetic(self, tasks: Iterable[str]) -> list[str]:
        """Synthetic volumes of every model of these tasks, for all units to translate."""
        return [
            path
            for task in tasks
            for model in self.config.tasks[task].models
            for path in self.synthetic(task, model, self.units_to_translate(task))
        ]

    def every_translation(self, wildcards: Any) -> list[str]:
        """Synthetic volumes of every task and model of the main report page."""
        return self.every_synthetic(self.reported)

    def source_image(self, wildcards: Any) -> str | list[str]:
        """Source image of a task: T1, FA, or the prediction of the first step of its cascade."""
        if self.of(wildcards).cascade:
            first = self.cascade_steps(wildcards.task)[0]
            return self.synthetic(first, wildcards.model, [wildcards.unit])
        return self.files.of_participant(MODALITIES[self.of(wildcards).source].kind, wildcards.unit)

    def model_weights(self, wildcards: Any) -> str:
        """Weights of the model that predicts a task's target."""
        last = self.training_task(self.cascade_steps(wildcards.task)[-1], wildcards.model)
        return f"{self.files.model.format(task=last, model=wildcards.model)}/model.safetensors"

    def model_records(self, wildcards: Any) -> list[str]:
        """Records of all models that a task applies: no test participant may be in their training data."""
        model = wildcards.model
        trained_in = (self.training_task(step, model) for step in self.cascade_steps(wildcards.task))
        return [f"{self.files.model.format(task=task, model=model)}/model.json" for task in trained_in]

    # -- low resolutions ------------------------------------------------------------------------

    def low_res_of(self, wildcards: Any) -> LowRes | None:
        """Low resolution that is a further input of a task's model, or None."""
        return self.of(wildcards).low_res_of(wildcards.model)

    def low_res_table(self, wildcards: Any) -> str | list[str]:
        """Table of the low-resolution slices, where the model is trained on them."""
        low_res = self.low_res_of(wildcards)
        return f"{self.files.low_res.format(low_res=low_res.kind)}/slices.tsv" if low_res else []

    def low_res_image(self, wildcards: Any) -> str | list[str]:
        """A unit's low-resolution map, where it is an input of the model."""
        if not (low_res := self.low_res_of(wildcards)):
            return []
        root = self.files.low_res.format(low_res=low_res.kind)
        return self.files.of_participant("low-res-fa", wildcards.unit, root)

    def low_res_source(self, of_series: str, of_map: str) -> Callable[[Any], str]:
        """Input function: a file of the cropped series, or of the map on the common grid."""

        def wanted(wildcards: Any) -> str:
            if self.config.low_resolutions[wildcards.low_res].source == "map":
                return self.files.of_participant(of_map, wildcards.unit)
            root = self.files.low_res.format(low_res=wildcards.low_res)
            return self.files.of_participant(of_series, wildcards.unit, root)

        return wanted

    def low_res_records(self, wildcards: Any) -> list[str]:
        """Records of the low-resolution slices of the training and validation units."""
        root = self.files.low_res.format(low_res=wildcards.low_res)
        return [
            bids.slices_path(root, "slices.json", bids.unit_folder(unit), unit)
            for unit in self.cohort.of_part("train", "validation")
        ]


def grid_maps(config: Config) -> list[str]:
    """Kinds of the maps on the common grid: FA, and further maps that tasks need."""
    return [MODALITIES[name].kind for name in on_grid(config.modalities)]


def tensors_needed(config: Config) -> bool:
    """Whether tasks need tensors on the common grid."""
    return "tensor" in natures(on_grid(config.modalities))
