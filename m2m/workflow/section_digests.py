"""Digests of what each stage takes from the configuration: a rule's parameter, so that it re-runs.

A job is handed the whole configuration as a file, by its path. What changes when a job must run
again is the digest of its own sections, exactly as the stage takes them (`m2m.options.configured`).
"""

from collections.abc import Iterable
from typing import Any

from m2m.io.files import digest
from m2m.options import Config, configured
from m2m.workflow.study_paths import Layout


class Digests:
    """Digests of sections, as functions of wildcards where these choose among them."""

    def __init__(self, config: Config, files: Layout):
        self.config, self.files = config, files
        phantom = config.cohort.phantom if files.simulated else None
        # Of no use to a wildcard: made once.
        self.whole = digest(config)
        self.cohort = digest(configured.indexed_cohort(config.cohort))
        self.person = digest(configured.simulated_person(config.cohort.phantom))
        self.evaluation = digest(configured.compared_by(config.evaluation, phantom, files.root))

    def model(self, wildcards: Any) -> str:
        """Of a model's section in the wildcards' task."""
        model, task = self.config.models[wildcards.model], self.config.tasks[wildcards.task]
        return digest(configured.fitted_model(model, task, wildcards.model))

    def task(self, wildcards: Any) -> str:
        """Of what the wildcards' task translates."""
        return digest(configured.fitted_task(self.config.tasks[wildcards.task]))

    def low_dti(self, wildcards: Any) -> str:
        """Of the tensor fit of a series whose k-space is cropped first."""
        ratio = self.config.lows[wildcards.low].ratio
        return digest(configured.of_low_ratio(self.config.dti, ratio))

    def tasks(self, names: Iterable[str]) -> str:
        """Of the sections of these tasks."""
        tasks = {name: self.config.tasks[name].model_dump(mode="json") for name in names}
        return digest(list(tasks.items()))

    def report(self, study: str) -> str:
        """Of the section report of a study's page."""
        return digest(configured.titled(self.config.report, study))
