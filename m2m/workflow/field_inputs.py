"""What continuous fields ask for: whose maps they are fitted to, and what is shown of them."""

from collections.abc import Callable, Sequence
from typing import Any

from snakemake.exceptions import WorkflowError

from m2m.figures.figure_records import of_scope
from m2m.io import bids
from m2m.workflow.job_flags import repeated
from m2m.workflow.task_inputs import Tasks, tensors_needed, tracts_needed

FIGURES = list(of_scope("fields"))


class Fields:
    """Inputs and outputs of fields.

    A field lies with the map that it is of: the wildcard ``of`` is empty for a measured one.

    Attributes
    ----------
    synthetic : list of str
        Of synthetic maps those of one task get a field, by its first model: of tensors where there
        are some, since directions colour a field.
    pattern, of : str
        Folder of a field's dataset, and what {of} may be.
    directions : list of str
        The flag that a field has directions by, or nothing.
    views : list of str
        Kinds of what is rendered.
    """

    def __init__(self, tasks: Tasks):
        self.tasks, self.files = tasks, tasks.files
        self.tracts, self.tensors = tracts_needed(tasks.config), tensors_needed(tasks.config)
        self.people = tasks.config.held_out.people
        predicting = tasks.predicting("tensor" if self.tensors else "density")
        shown = [task for task in tasks.reported if task in predicting]
        self.synthetic = [
            self.files.synthetic.format(task=task, model=tasks.config.tasks[task].models[0])
            for task in shown[:1]
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
                raise WorkflowError("A field is of tract density, which no task needs.")
            return self._of_units(kinds, self.tasks.cohort.of_part("test"))

        return wanted

    def shown_people(self) -> list[str]:
        """Test people whose fields are shown and compared."""
        return self.tasks.cohort.of_part("test")[: self.people]

    def shown(self, *kinds: str) -> Callable[[Any], list[str]]:
        """Input function: these files of the fields of the people that are shown."""

        def wanted(wildcards: Any) -> list[str]:
            return self._of_units(kinds, self.shown_people())

        return wanted

    def _of_units(self, kinds: Sequence[str], units: Sequence[str]) -> list[str]:
        return [
            path
            for root in self.roots
            for kind in kinds
            for path in self.files.of_people(kind, units, root)
        ]

    def compared(self, wildcards: Any) -> list[str]:
        """What the measured fields of these people guess of slices that they were not given."""
        return self.files.of_people("held-out", self.shown_people())

    def shown_flags(self, wildcards: Any) -> list[str]:
        """`--of` for each root of maps, `--unit` for each person in the figure."""
        return repeated("--of", self.roots) + repeated("--unit", self.shown_people())

    def maps(self, wildcards: Any) -> list[str]:
        """`--maps` with the dataset of synthetic maps that a field is of; measured: nothing."""
        return ["--maps", self.files.root + wildcards.of] if wildcards.of else []

    def of_map(self, measured: str, synthetic: str) -> Callable[[Any], str]:
        """Input function: one kind of file where the map is measured, another where it is not."""

        def path(wildcards: Any) -> str:
            kind = synthetic if wildcards.of else measured
            return self.files.of_person(kind, wildcards.unit, self.files.root + wildcards.of)

        return path

    def mask(self, wildcards: Any) -> str:
        """Where a map holds something: a synthetic one fills the T1's brain."""
        return self.files.of_person("brain" if wildcards.of else "target-mask", wildcards.unit)

    def status(self, wildcards: Any) -> str:
        """Status of what made the density."""
        kind = "synth-tractography-status" if self.tensors else "synth-status"
        path = self.of_map("grid-status", kind)(wildcards)
        return path.format(measure=bids.measure("tdi"))

    def inputs(self) -> dict[str, Any]:
        """Further inputs of a field: tensors, for its directions."""
        return {"tensor": self.of_map("tensor", "synth-tensor")} if self.tensors else {}

    def outputs(self) -> dict[str, str]:
        """Further outputs of a field: tensors with its directions."""
        return {"tensor": self.files.at("field-tensor", self.pattern)} if self.tensors else {}
