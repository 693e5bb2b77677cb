"""Inputs of the biological validation: measured and synthetic images, and phenotypes."""

from collections.abc import Sequence
from typing import Any

from snakemake.exceptions import WorkflowError

from m2m.figures.figure_records import of_validation
from m2m.io.errors import DataError
from m2m.io.modalities import MODALITIES
from m2m.models.given_weights import given_weights, targets_of
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
    "sites",
)


class Validation:
    """Inputs of the rules behind `snakemake downstream`.

    Parameters
    ----------
    tasks : Tasks
    subjects : Subjects

    Attributes
    ----------
    wanted : bool
        Whether the configuration names images that phenotypes are predicted from.
    given : dict of str to Given
        Given weights, by the name of their maps.
    states : tuple of str
        States of the units that are described: with both scans, or with a T1 where that is all that is needed.

    Raises
    ------
    WorkflowError
        Given weights do not exist, or do not fit the grid.
    """

    def __init__(self, tasks: Tasks, subjects: Subjects):
        self.tasks, self.subjects = tasks, subjects
        self.config, self.files, self.cohort = tasks.config, tasks.files, tasks.cohort
        section = self.config.downstream
        self.states = ("paired", "t1w-only") if section.without_dwi else ("paired",)
        self.wanted = bool(tasks.cross_fitted) or section.without_dwi
        try:
            self.given = given_weights(section.weights, self.config.anat.spacing_mm)
        except DataError as error:
            raise WorkflowError(f"downstream.weights: {error}") from None

    def measured_of(self) -> dict[str, str | None]:
        """The measured image of each image that is made from the T1; None where there is none."""
        return measured_of(self.config.downstream, self.config.tasks.__getitem__, targets_of(self.given))

    @property
    def tables(self) -> list[str]:
        """Paths of the tables."""
        harmonised = self.config.downstream.harmonise != "none"
        return [f"{self.files.downstream}/{name}.tsv" for name in (*TABLES, *["harmonised"] * harmonised)]

    def figures(self) -> list[str]:
        """Names of the figures."""
        return list(of_validation(self.measured_of(), self.config.downstream.harmonise != "none"))

    def images(self) -> dict[str, dict[str, Any]]:
        """Modality, path and network of each image; {fold} where each fold has its own file."""
        section, task_of = self.config.downstream, self.config.tasks.__getitem__
        return described_images(section, task_of, self.files.root, self.files.simulated, targets_of(self.given))

    def cross_fitted_maps(self, wildcards: Any) -> list[str]:
        """Synthetic maps of all participants, each by the networks of the participant's fold."""
        return self.tasks.every_synthetic(self.tasks.cross_fitted)

    def given_maps(self, units: Sequence[str]) -> list[str]:
        """Synthetic maps of these units by given weights."""
        return [
            path
            for name, target in targets_of(self.given).items()
            for path in self.files.of_units(MODALITIES[target].synthetic, units, self.files.given.format(weights=name))
        ]

    def weights(self, wildcards: Any) -> str:
        """The wildcards' given weights."""
        return str(self.given[wildcards.weights].path)

    def deformation_of_given(self, wildcards: Any) -> str | list[str]:
        """Status of a unit's deformation, where the wildcards' given weights take it."""
        if not self.given[wildcards.weights].takes(self.config.deformation):
            return []
        return self.files.of_participant("deform-status", wildcards.unit)

    def described_units(self, wildcards: Any) -> list[str]:
        """Units that features are computed of."""
        return self.cohort.units(*self.states)

    def described_maps(self, wildcards: Any) -> list[str]:
        """All maps that features are computed from; cross-fitted ones are of the participant's own fold."""
        units, of_units = self.described_units(wildcards), self.files.of_units
        names = ("t1", *dict.fromkeys(filter(None, self.measured_of().values())))
        kinds = [MODALITIES[name].kind for name in names]
        has_truth = NOISE_FREE in self.images()
        truth = of_units("truth-fa", units, self.files.truth) if has_truth else []
        measured = [path for kind in kinds for path in of_units(kind, units)]
        deformed = of_units("deform-status", units) if self.config.downstream.atlas else []
        return measured + truth + self.given_maps(units) + deformed + self.cross_fitted_maps(wildcards)

    def atlas(self, wildcards: Any) -> str | list[str]:
        """The map that is deformed to each T1, where there is one."""
        return str(self.config.downstream.atlas or "") or []

    def selection(self, wildcards: Any) -> str | list[str]:
        """Table of the units that are used; none where a T1 is all that is needed of a participant."""
        return [] if self.config.downstream.without_dwi else self.files.quality

    def counts(self, wildcards: Any) -> list[str]:
        """What the methods text says of the cohort, beside the tables of the validation."""
        if self.config.downstream.without_dwi:
            return [self.files.units]
        return [self.files.quality, self.files.flow, f"{self.files.fold.format(fold=1)}/split.json"]

    def cross_fitted_records(self, wildcards: Any) -> list[str]:
        """Records of all cross-fitted networks."""
        return self.tasks.every_model("models/{task}/{model}/model.json", self.tasks.cross_fitted)

    def cnn_tables(self, wildcards: Any) -> Sequence[str]:
        """Predictions by networks of whole volumes, where the cohort is large enough."""
        section = self.config.downstream
        if len(self.described_units(wildcards)) < section.cnn.min_subjects:
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
        if not self.wanted or not self.config.downstream.targets:
            raise WorkflowError(
                "The configuration has no downstream.tasks or no downstream.targets: list the "
                "tasks whose maps to test, and columns of participants.tsv. Without DWI, give "
                "downstream.weights or downstream.atlas in place of tasks."
            )
        if not self.subjects.participants_table(wildcards):
            raise WorkflowError(f"{self.files.rawdata} has no participants.tsv: there is nothing to predict.")
        return [f"{self.files.root}/downstream.html", f"{self.files.figures}/downstream/methods.md"]
