"""Digests of the sections that each stage uses: a rule's parameter, so that it re-runs on changes.

A job receives the path of the whole configuration. A job must run again when the digest of its own
sections changes, exactly as the stage uses them (`m2m.options.configured`).
"""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel

from m2m.io.files import digest
from m2m.options import Config, configured
from m2m.workflow.results_layout import Layout


def ordered_digest(value: Any) -> str:
    """Digest of a value whose order matters, as in the order of models in a figure.

    `m2m.io.files.digest` is the same for two mappings of the same items, whatever their order.
    """
    text = value.model_dump_json() if isinstance(value, BaseModel) else json.dumps(value)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Digests:
    """Digests of sections; functions of wildcards where the section depends on them.

    Parameters
    ----------
    config : Config
    files : Layout
    """

    def __init__(self, config: Config, files: Layout):
        self.config, self.files = config, files
        simulation = config.cohort.simulation
        # These do not depend on wildcards: computed once.
        self.whole = ordered_digest(config)
        self.published = ordered_digest(config.published)
        self.cohort = digest(configured.indexed_cohort(config.cohort))
        self.folds = digest(configured.dividing(config.split, config.downstream))
        self.selection = digest(configured.selecting(config.dti))
        self.subject = digest(configured.simulated_participant(simulation)) if simulation else ""
        self.evaluation = digest(configured.compared_by(config.evaluation, simulation, files.root))

    def model(self, wildcards: Any) -> str:
        """Digest of a model's section in the wildcards' task."""
        model, task = self.config.models[wildcards.model], self.config.tasks[wildcards.task]
        return digest(configured.fitted_model(model, task, wildcards.model))

    def models(self, wildcards: Any) -> list[str]:
        """Digests of the sections of all models of the wildcards' task."""
        task = self.config.tasks[wildcards.task]
        return [digest(configured.fitted_model(self.config.models[name], task, name)) for name in task.models]

    def task(self, wildcards: Any) -> str:
        """Digest of the section of the wildcards' task, without models and steps."""
        return digest(configured.fitted_task(self.config.tasks[wildcards.task]))

    def low_res_dti(self, wildcards: Any) -> str:
        """Digest of the section of the tensor fit of a series whose k-space is cropped first."""
        factor = self.config.low_resolutions[wildcards.low_res].factor
        return digest(configured.of_low_res_factor(self.config.dti, factor))

    def tasks(self, names: Iterable[str]) -> str:
        """Digest of the sections of these tasks."""
        tasks = {name: self.config.tasks[name].model_dump(mode="json") for name in names}
        return digest(list(tasks.items()))

    def report(self, page: str) -> str:
        """Digest of the section `report` for one page."""
        return digest(configured.titled(self.config.report, page))
