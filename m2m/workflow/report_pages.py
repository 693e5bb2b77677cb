"""Files of each report page, and for a paper: figures, tables and methods."""

from collections.abc import Callable
from typing import Any

from snakemake.exceptions import WorkflowError

from m2m.figures.figure_records import of_page, paths_of_page
from m2m.options.configured import figures_folder
from m2m.workflow.task_inputs import Tasks


class Pages:
    """Files of each report page.

    Parameters
    ----------
    tasks : Tasks
    """

    def __init__(self, tasks: Tasks):
        self.tasks, self.files = tasks, tasks.files

    def page(self, page: str) -> str:
        """Path of a report page."""
        return f"{self.files.root}/{page}.html"

    def summary(self, page: str) -> str:
        """Path of a report page's main results as JSON."""
        return f"{self.files.root}/{page}.json"

    def figures(self, page: str) -> str:
        """Folder of a page's figures."""
        return figures_folder(self.files.root, page)

    def paper(self, page: str) -> list[str]:
        """Files for a paper: figures (the last one stands for all), tables and methods."""
        tables = self.tasks.every_task("evaluate/{task}/summary.tex", self.tasks.pages.get(page, []))
        return [self.last_figure(page), f"{self.figures(page)}/methods.md", *tables]

    def wanted(self, page: str) -> Callable[[Any], list[str]]:
        """Input function: report page and files for a paper; WorkflowError where no task has this page."""

        def files(wildcards: Any) -> list[str]:
            if page not in self.tasks.pages:
                further = "" if self.tasks.pages else " `snakemake downstream` needs none."
                raise WorkflowError(f"No task has page: {page}; config.yaml has examples.{further}")
            return [self.page(page), *self.paper(page)]

        return files

    def targets(self, page: str) -> dict[str, str]:
        """Target of each task of a page."""
        tasks = self.tasks.pages.get(page, [])
        return {name: self.tasks.config.tasks[name].target for name in tasks}

    def uses_low_res(self, page: str) -> bool:
        """Whether a task of a page has a low resolution."""
        return any(self.tasks.config.tasks[name].low_res for name in self.targets(page))

    @property
    def compares_visits(self) -> bool:
        """Whether the visits of each participant are compared."""
        return self.tasks.config.evaluation.visits

    def visits(self, page: str) -> list[str]:
        """Tables of the visits of a page's tasks; none where visits are not compared."""
        return self.tasks.every_task("evaluate/{task}/visits.tsv", self.targets(page)) if self.compares_visits else []

    def figures_of(self, page: str) -> list[str]:
        """Names of a page's figures below its folder, except the last one."""
        found = paths_of_page(self.targets(page), self.uses_low_res(page), self.compares_visits)
        return [name for name in found if name != self.last_of(page)]

    def last_of(self, page: str) -> str:
        """Name of the figure that is drawn last: when it exists, all figures exist."""
        return list(of_page(self.uses_low_res(page), self.compares_visits))[-1]

    def last_figure(self, page: str) -> str:
        """Path of the figure that is drawn last."""
        return f"{self.figures(page)}/{self.last_of(page)}.png"
