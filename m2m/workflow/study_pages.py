"""What a study's page and paper are made of: its figures, tables and methods."""

from collections.abc import Callable
from typing import Any

from snakemake.exceptions import WorkflowError

from m2m.configured import figures_folder
from m2m.workflow.task_inputs import Tasks

# Figures of a task, by what it predicts.
_FIGURES = (
    "overview", "panel", "metrics", "forest", "profile", "rois", "training", "agreement",
    "spectrum", "uncertainty",
)  # fmt: skip
FIGURES_OF = {
    "fa": (*_FIGURES, "speed"),
    "tdi": (*_FIGURES, "projections"),
    "dti": (*_FIGURES, "projections", "bundles"),
}


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
        """What a paper takes: figures, whose last is the flow, tables and methods."""
        tables = self.tasks.every_task(
            "evaluation/{task}/summary.tex", self.tasks.studies.get(study, [])
        )
        return [f"{self.figures(study)}/flow.png", f"{self.figures(study)}/methods.md", *tables]

    def wanted(self, study: str) -> Callable[[Any], list[str]]:
        """Input function: page and paper of a study, or what the configuration lacks."""

        def files(wildcards: Any) -> list[str]:
            if study not in self.tasks.studies:
                raise WorkflowError(f"No task has study: {study}; config.yaml has some.")
            return [self.page(study), *self.paper(study)]

        return files

    def figures_of(self, study: str) -> list[str]:
        """Names of a study's figures below its folder."""
        tasks = {name: self.tasks.config.tasks[name] for name in self.tasks.studies[study]}
        of_all = ["ratio"] if any(task.low for task in tasks.values()) else []
        return of_all + [
            f"{name}/{figure}" for name, task in tasks.items() for figure in FIGURES_OF[task.target]
        ]
