"""What fitting and judging one model asks for, beyond the slices and volumes of its task."""

from collections.abc import Callable, Iterable
from typing import Any

from m2m.io import bids
from m2m.io.modalities import MODALITIES
from m2m.workflow.task_inputs import Tasks


class Fitting:
    """Inputs of training that only some models have."""

    def __init__(self, tasks: Tasks):
        self.tasks, self.config, self.files = tasks, tasks.config, tasks.files

    def training_need(self, key: str, otherwise: int) -> Callable[[Any], int]:
        """What a training asks for, by a key of its section; the baselines ask for little."""

        def need(wildcards: Any) -> int:
            model = self.config.models[wildcards.model]
            return getattr(model.training, key) if model.trained else otherwise

        return need

    def encoder(self, wildcards: Any) -> str | list[str]:
        """The workflow's own encoder, where a model compares images in its features."""
        if self.config.models[wildcards.model].features.network != "self":
            return []
        folder = self.files.encoder.format(target=self.tasks.target_of(wildcards))
        return f"{folder}/encoder.safetensors"

    def encoder_record(self, wildcards: Any) -> str | list[str]:
        """The record beside it, which is written last."""
        weights = self.encoder(wildcards)
        return weights and weights.replace(".safetensors", ".json")

    def first_weights(self, wildcards: Any) -> str | list[str]:
        """Weights of the model that another one starts from, as a super-resolution does."""
        first = self.config.models[wildcards.model].starts_from
        if first is None:
            return []
        after = self.tasks.of(wildcards).low.after
        return f"{self.files.model.format(task=after, model=first)}/model.safetensors"

    def moved_labels(self, wildcards: Any) -> str | list[str]:
        """Folder of the slices that a model learns from, where another's correction moved them."""
        first = self.config.models[wildcards.model].labels_of
        return self.files.labels.format(task=wildcards.task, model=first) if first else []

    def corrects_labels(self, model: str) -> bool:
        """Whether a model learns to move its targets."""
        return self.config.models[model].correction is not None

    def label_tables(self, tasks: Iterable[str]) -> list[str]:
        """How far labels were moved: a table for every model of these tasks that moves them."""
        return [
            f"{self.files.evaluation.format(task=task)}/{model}/labels.tsv"
            for task in tasks
            if not self.config.tasks[task].chain
            for model in self.config.tasks[task].models
            if self.corrects_labels(model) and self.tasks.home(task, model) == task
        ]


class Judging:
    """Inputs of the evaluation of one model on the test people."""

    def __init__(self, tasks: Tasks):
        self.tasks, self.config, self.files = tasks, tasks.config, tasks.files

    def test_truth(self, wildcards: Any) -> list[str]:
        """True maps of the test units."""
        kind = MODALITIES[self.tasks.target_of(wildcards)].kind
        return self.files.of_people(kind, self.tasks.cohort.of_part("test"))

    def test_synthesis(self, wildcards: Any) -> list[str]:
        """Statuses of what a model made for the test units: its stages write them last."""
        task, units = wildcards.task, self.tasks.cohort.of_part("test")
        root = self.files.synthetic.format(task=task, model=wildcards.model)
        measure = bids.measure(self.tasks.synthetic_kind(task))
        statuses = self.files.of_people("synth-status", units, root)
        made = [path.format(measure=measure) for path in statuses]
        if task not in self.tasks.tensor:
            return made
        return made + self.files.of_people("synth-tractography-status", units, root)

    def mean_model(self, wildcards: Any) -> list[str]:
        """The training people's mean map among a task's models, where it is another one."""
        models = self.tasks.of(wildcards).models
        found = [name for name in models if self.config.models[name].reference][:1]
        return found if found != [wildcards.model] else []

    def mean_maps(self, wildcards: Any) -> list[str]:
        """Volumes of the mean map for the test units."""
        return [
            path
            for model in self.mean_model(wildcards)
            for path in self.tasks.synthetic(
                wildcards.task, model, self.tasks.cohort.of_part("test")
            )
        ]
