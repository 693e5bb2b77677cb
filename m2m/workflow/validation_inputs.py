"""Inputs of the biological validation: measured and synthetic images, and phenotypes."""

from collections.abc import Sequence
from typing import Any

from snakemake.exceptions import WorkflowError

from m2m.figures.figure_records import of_scope
from m2m.io.modalities import MODALITIES
from m2m.options.configured import described_images, measured_of
from m2m.options.downstream_options import NOISE_FREE, inputs_of
from m2m.workflow.subject_inputs import Subjects
from m2m.workflow.task_inputs import Tasks

TABLES = (
    "predictions",
    "scores",
    "comparison",
    "calibration",
    "effects",
    "recovery",
    "transfer",
    "agreement",
    "embedding",
)
FIGURES = list(of_scope("downstream"))


class Validation:
    """Inputs of the rules behind `snakemake downstream`.

    Parameters
    ----------
    tasks : Tasks
    subjects : Subjects
    """

    def __init__(self, tasks: Tasks, subjects: Subjects):
        self.tasks, self.subjects = tasks, subjects
        self.config, self.files, self.cohort = tasks.config, tasks.files, tasks.cohort

    def measured_of(self) -> dict[str, str]:
        """The measured image of each synthetic one."""
        return measured_of(self.config.downstream, self.config.tasks.__getitem__)

    def images(self) -> dict[str, dict[str, Any]]:
        """Modality, path and network of each image; {fold} where each fold has its own file."""
        section, task_of = self.config.downstream, self.config.tasks.__getitem__
        return described_images(section, task_of, self.files.root, self.files.simulated)

    def cross_fitted_maps(self, wildcards: Any) -> list[str]:
        """Synthetic maps of all participants, each by the networks of the participant's fold."""
        return self.tasks.every_synthetic(self.tasks.cross_fitted)

    def described_maps(self, wildcards: Any) -> list[str]:
        """All maps that features are computed from; synthetic ones are of the participant's own fold."""
        units, of_units = self.cohort.units("paired"), self.files.of_units
        names = ("t1", *dict.fromkeys(self.measured_of().values()))
        kinds = [MODALITIES[name].kind for name in names]
        has_truth = NOISE_FREE in self.images()
        truth = of_units("truth-fa", units, self.files.truth) if has_truth else []
        measured = [path for kind in kinds for path in of_units(kind, units)]
        return measured + truth + self.cross_fitted_maps(wildcards)

    def cross_fitted_records(self, wildcards: Any) -> list[str]:
        """Records of all cross-fitted networks."""
        return self.tasks.every_model("models/{task}/{model}/model.json", self.tasks.cross_fitted)

    def cnn_tables(self, wildcards: Any) -> Sequence[str]:
        """Predictions by networks of whole volumes, where the cohort is large enough."""
        section = self.config.downstream
        if len(self.cohort.units("paired")) < section.cnn.min_subjects:
            return []
        return [
            f"{self.files.downstream}/cnn/{phenotype}/{name}.tsv"
            for phenotype in section.targets
            for name in inputs_of(self.images())
        ]

    def cnn_flag(self, wildcards: Any, input: Any) -> list[str]:
        """`--cnn` where these tables exist."""
        return ["--cnn"] if input.cnn else []

    def page(self, wildcards: Any) -> list[str]:
        """Outputs of `snakemake downstream`; WorkflowError where the configuration is incomplete."""
        if not self.tasks.cross_fitted or not self.config.downstream.targets:
            raise WorkflowError(
                "The configuration has no downstream.tasks or no downstream.targets: list the "
                "tasks whose maps to test, and columns of participants.tsv."
            )
        if not self.subjects.participants_table(wildcards):
            raise WorkflowError(f"{self.files.rawdata} has no participants.tsv: there is nothing to predict.")
        return [f"{self.files.root}/downstream.html", f"{self.files.figures}/downstream/methods.md"]
