"""Further inputs for training and evaluating one model, beyond the slices and volumes of its task."""

from collections.abc import Callable, Iterable
from typing import Any

from m2m.io import bids
from m2m.models.pretrained import starting_weights
from m2m.workflow.task_inputs import Tasks


class Fitting:
    """Inputs of training that only some models have.

    Parameters
    ----------
    tasks : Tasks
    """

    def __init__(self, tasks: Tasks):
        self.tasks, self.config, self.files = tasks, tasks.config, tasks.files

    def training_need(self, key: str, otherwise: int) -> Callable[[Any], int]:
        """Resource function: an option of the model's training; `otherwise` for models without training."""

        def need(wildcards: Any) -> int:
            model = self.config.models[wildcards.model]
            return getattr(model.training, key) if model.trained else otherwise

        return need

    def given_files(self, wildcards: Any) -> list[str]:
        """Files that a model's options name, such as a map in template space or weights to start from."""
        model = self.config.models[wildcards.model]
        files = [str(path) for path in model.given_files]
        if model.trained and model.training.start_from == "pretrained":
            task = self.tasks.of(wildcards)
            files.append(str(starting_weights("pretrained", task.source, task.target, model.family)))
        return files

    def encoder(self, wildcards: Any) -> str | list[str]:
        """The workflow's own encoder, where it is used by a model's perceptual loss."""
        if self.config.models[wildcards.model].features.network != "self":
            return []
        folder = self.files.encoder.format(target=self.tasks.target_of(wildcards))
        return f"{folder}/encoder.safetensors"

    def encoder_record(self, wildcards: Any) -> str | list[str]:
        """Record of the encoder, which is written last."""
        weights = self.encoder(wildcards)
        return weights.replace(".safetensors", ".json") if isinstance(weights, str) else weights

    def first_weights(self, wildcards: Any) -> str | list[str]:
        """Weights of the model that initialises another one, such as a super-resolution."""
        first, low_res = self.config.models[wildcards.model].starts_from, self.tasks.of(wildcards).low_res
        if first is None or low_res is None:
            return []
        return f"{self.files.model.format(task=low_res.synthesis_task, model=first)}/model.safetensors"

    def corrected_labels(self, wildcards: Any) -> str | list[str]:
        """Folder of a model's training slices, where they are corrected by another model."""
        first = self.config.models[wildcards.model].labels_of
        return self.files.labels.format(task=wildcards.task, model=first) if first else []

    def corrects_labels(self, model: str) -> bool:
        """Whether a model has a label correction."""
        return self.config.models[model].correction is not None

    def label_tables(self, tasks: Iterable[str]) -> list[str]:
        """Tables of label shifts, of each model of these tasks with a label correction."""
        return [
            f"{self.files.evaluation.format(task=task)}/{model}/labels.tsv"
            for task in tasks
            if not self.config.tasks[task].cascade
            for model in self.config.tasks[task].models
            if self.corrects_labels(model) and self.tasks.training_task(task, model) == task
        ]


class Evaluating:
    """Inputs of the evaluation of one model on the test participants.

    Parameters
    ----------
    tasks : Tasks
    """

    def __init__(self, tasks: Tasks):
        self.tasks, self.config, self.files = tasks, tasks.config, tasks.files

    def test_synthesis(self, wildcards: Any) -> list[str]:
        """Statuses of a model's predictions for the test units: stages write them last."""
        task, units = wildcards.task, self.tasks.cohort.of_part("test")
        root = self.files.synthetic.format(task=task, model=wildcards.model)
        measure = bids.measure(self.tasks.synthetic_kind(task))
        statuses = self.files.of_units("synth-status", units, root)
        predicted = [path.format(measure=measure) for path in statuses]
        if task not in self.tasks.tensor:
            return predicted
        return predicted + self.files.of_units("synth-tractography-status", units, root)

    def mean_model(self, wildcards: Any) -> list[str]:
        """Name of the mean map among a task's models, unless it is the evaluated model itself."""
        models = self.tasks.of(wildcards).models
        found = [name for name in models if self.config.models[name].reference][:1]
        return found if found != [wildcards.model] else []

    def evaluated_mean(self, wildcards: Any) -> list[str]:
        """Metrics of the mean map, which stand for its volumes of the test units."""
        folder = self.files.evaluation.format(task=wildcards.task)
        return [f"{folder}/{model}/metrics.tsv" for model in self.mean_model(wildcards)]
