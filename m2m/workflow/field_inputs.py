"""Inputs of continuous fields: the maps that they are fitted to, and the views of them."""

from collections.abc import Callable, Sequence
from typing import Any

from snakemake.exceptions import WorkflowError

from m2m.figures.figure_records import of_scope
from m2m.io import bids
from m2m.options.external_programs import tracts_needed
from m2m.workflow.job_flags import repeated
from m2m.workflow.task_inputs import Tasks, tensors_needed

FIGURES = list(of_scope("fields"))


class Fields:
    """Inputs and outputs of fields.

    A field is stored in the dataset of its map: the wildcard ``of`` is empty for measured maps.

    Parameters
    ----------
    tasks : Tasks

    Attributes
    ----------
    synthetic : list of str
        Datasets of synthetic maps that fields are fitted to: of one task only, by its first model; a
        task that predicts tensors where there is one, since directions colour a field.
    pattern, of : str
        Folder of a field's dataset, and the constraint of the wildcard {of}.
    directions : list of str
        Flag for a field with directions, or nothing.
    views : list of str
        Kinds of the rendered files.
    """

    def __init__(self, tasks: Tasks):
        self.tasks, self.files = tasks, tasks.files
        self.tracts, self.tensors = tracts_needed(tasks.config), tensors_needed(tasks.config)
        self.subjects = tasks.config.held_out.subjects
        predicting = tasks.predicting("tensor" if self.tensors else "density")
        shown = [task for task in tasks.reported if task in predicting]
        self.synthetic = [
            self.files.synthetic.format(task=task, model=tasks.config.tasks[task].models[0]) for task in shown[:1]
        ]
        self.roots = [self.files.root, *self.synthetic]
        self.pattern = f"{self.files.root}{{of}}"
        self.of = "|".join(root.removeprefix(self.files.root) for root in self.roots)
        self.directions = ["--directions"] if self.tensors else []
        self.views = ["field-turntable", *(["field-tractogram"] if self.tensors else [])]

    def every(self, *kinds: str) -> Callable[[Any], list[str]]:
        """Input function: these files of each test unit's fields."""

        def wanted(wildcards: Any) -> list[str]:
            if not self.tracts:
                raise WorkflowError("A field is fitted to tract density, which no task needs.")
            return self._of_units(kinds, self.tasks.cohort.of_part("test"))

        return wanted

    def shown_subjects(self) -> list[str]:
        """Test participants whose fields are shown and compared."""
        return self.tasks.cohort.of_part("test")[: self.subjects]

    def shown(self, *kinds: str) -> Callable[[Any], list[str]]:
        """Input function: these files of the fields of the participants that are shown."""

        def wanted(wildcards: Any) -> list[str]:
            return self._of_units(kinds, self.shown_subjects())

        return wanted

    def _of_units(self, kinds: Sequence[str], units: Sequence[str]) -> list[str]:
        return [path for root in self.roots for kind in kinds for path in self.files.of_units(kind, units, root)]

    def compared(self, wildcards: Any) -> list[str]:
        """Predictions of held-out slices by the measured fields of these participants."""
        return self.files.of_units("held-out", self.shown_subjects())

    def shown_flags(self, wildcards: Any) -> list[str]:
        """`--of` for each root of maps, `--unit` for each participant in the figure."""
        return repeated("--of", self.roots) + repeated("--unit", self.shown_subjects())

    def maps(self, wildcards: Any) -> list[str]:
        """`--maps` with the dataset of a field's synthetic maps; nothing for measured maps."""
        return ["--maps", self.files.root + wildcards.of] if wildcards.of else []

    def of_map(self, measured: str, synthetic: str) -> Callable[[Any], str]:
        """Input function: one kind of file for measured maps, another for synthetic ones."""

        def path(wildcards: Any) -> str:
            kind = synthetic if wildcards.of else measured
            return self.files.of_participant(kind, wildcards.unit, self.files.root + wildcards.of)

        return path

    def mask(self, wildcards: Any) -> str:
        """Mask of a map: for synthetic maps the T1's brain."""
        return self.files.of_participant("brain" if wildcards.of else "target-mask", wildcards.unit)

    def status(self, wildcards: Any) -> str:
        """Status of the stage that made the density."""
        kind = "synth-tractography-status" if self.tensors else "synth-status"
        path = self.of_map("grid-status", kind)(wildcards)
        return path.format(measure=bids.measure("tdi"))

    def inputs(self) -> dict[str, Any]:
        """Further inputs of a field: tensors, for its directions."""
        return {"tensor": self.of_map("tensor", "synth-tensor")} if self.tensors else {}

    def outputs(self) -> dict[str, str]:
        """Further outputs of a field: tensors with its directions."""
        return {"tensor": self.files.at("field-tensor", self.pattern)} if self.tensors else {}
