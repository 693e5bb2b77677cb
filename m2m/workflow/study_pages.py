"""What a study's page and paper are made of: its figures, tables and methods."""

from collections.abc import Callable
from typing import Any

from snakemake.exceptions import WorkflowError

from m2m.figures.figure_records import TIMED, is_timed, of_study, paths_of_study
from m2m.io import bids
from m2m.options.configured import figures_folder
from m2m.workflow.task_inputs import Tasks


class Pages:
    """Page and paper of each study."""

    def __init__(self, tasks: Tasks):
        self.tasks, self.files = tasks, tasks.files

    def page(self, study: str) -> str:
        """The page of a study."""
        return f"{self.files.root}/{study}.html"

    def figures(self, study: str) -> str:
        """Folder of a study's figures."""
        return figures_folder(self.files.root, study)

    def paper(self, study: str) -> list[str]:
        """What a paper takes: figures, of which the last is named, tables and methods."""
        tables = self.tasks.every_task(
            "evaluate/{task}/summary.tex", self.tasks.studies.get(study, [])
        )
        return [self.last_figure(study), f"{self.figures(study)}/methods.md", *tables]

    def wanted(self, study: str) -> Callable[[Any], list[str]]:
        """Input function: page and paper of a study, or what the configuration lacks."""

        def files(wildcards: Any) -> list[str]:
            if study not in self.tasks.studies:
                raise WorkflowError(f"No task has study: {study}; config.yaml has some.")
            return [self.page(study), *self.paper(study)]

        return files

    def targets(self, study: str) -> dict[str, str]:
        """What each task of a study predicts."""
        tasks = self.tasks.studies.get(study, [])
        return {name: self.tasks.config.tasks[name].target for name in tasks}

    def sees_low(self, study: str) -> bool:
        """Whether a task of a study sees a low resolution."""
        return any(self.tasks.config.tasks[name].low for name in self.targets(study))

    def figures_of(self, study: str) -> list[str]:
        """Names of a study's figures below its folder, but for the last one."""
        found = paths_of_study(self.targets(study), self.sees_low(study))
        return [name for name in found if name != self.last_of(study)]

    def last_of(self, study: str) -> str:
        """Name of the figure that is drawn last: then all figures are there."""
        return list(of_study(self.sees_low(study)))[-1]

    def last_figure(self, study: str) -> str:
        """The figure of a study that is drawn last."""
        return f"{self.figures(study)}/{self.last_of(study)}.png"

    def translation_seconds(self, study: str) -> Callable[[Any], list[str]]:
        """Input function: seconds of some test people's translations, where a figure shows them.

        A benchmark is a product of its rule like any output, so it may be asked for.
        """

        def wanted(wildcards: Any) -> list[str]:
            timed = [task for task, target in self.targets(study).items() if is_timed(target)]
            return [
                self.files.benchmark(
                    "translate_volume", f"{self.tasks.home(task, model)}_{model}/{name}"
                )
                for task in timed
                for model in self.tasks.config.tasks[task].models
                for name in self._translations(task)
            ]

        return wanted

    def _translations(self, task: str) -> list[str]:
        """Folder and name of the timed translations of a task."""
        measure = bids.measure(self.tasks.synthetic_kind(task))
        units = self.tasks.cohort.of_part("test")[:TIMED]
        return [f"{bids.unit_folder(unit)}/{unit}_{measure}" for unit in units]
