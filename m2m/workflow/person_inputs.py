"""What the stages of each person ask for: raw scans, what is made of them, streamlines."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from snakemake.exceptions import WorkflowError

from m2m.io import bids
from m2m.options import Config
from m2m.phantom import labels
from m2m.workflow.cohort_tables import Cohort
from m2m.workflow.study_paths import Layout
from m2m.workflow.task_inputs import grid_maps, tracts_needed

Wanted = str | list[str]


class People:
    """Inputs and outputs of the stages of each person.

    Parameters
    ----------
    config : Config
    files : Layout
    cohort : Cohort
    """

    def __init__(self, config: Config, files: Layout, cohort: Cohort):
        self.config, self.files, self.cohort = config, files, cohort
        # In a simulated cohort, its order.
        self._places = {label: i for i, label in enumerate(self.labels())}

    def commands(self) -> list[str]:
        """Programs that the chosen chains need."""
        needed = [*self.config.preprocess.commands, *self.config.dti.mask.commands]
        if tracts_needed(self.config):
            needed += [*self.config.tractography.commands, *self.config.grid.commands]
        return needed

    def labels(self) -> list[str]:
        """Labels of the simulated people; nobody where scans are on disk."""
        phantom = self.config.cohort.phantom
        return labels(phantom.n_subjects) if self.files.simulated else []

    def place_of_participant(self, wildcards: Any) -> int:
        """Place of a simulated person among all."""
        return self._places[wildcards.participant]

    # -- the cohort's source --------------------------------------------------------------------

    def raw_scans(self, wildcards: Any) -> list[str]:
        """Every simulated scan; a dataset on disk is listed by the stage itself."""
        return [
            f"{self.files.rawdata}/sub-{label}/{scan}"
            for label in self.labels()
            for scan in (f"anat/sub-{label}_T1w.nii.gz", f"dwi/sub-{label}_dwi.nii.gz")
        ]

    def participants_table(self, wildcards: Any) -> Wanted:
        """The dataset's participants.tsv, where it has one."""
        path = f"{self.files.rawdata}/participants.tsv"
        return path if self.files.simulated or Path(path).exists() else []

    def exclusion_table(self, wildcards: Any) -> Wanted:
        """The user's table of exclusions, where given."""
        return str(self.config.cohort.exclude) if self.config.cohort.exclude else []

    def listed_subjects(self, wildcards: Any) -> int | list[str]:
        """Names of the dataset's subject folders: one more or less lists the dataset again."""
        if self.files.simulated:
            return self.config.cohort.phantom.n_subjects
        folder = Path(self.files.rawdata)
        if not folder.is_dir():
            raise WorkflowError(f"cohort.bids_dir: there is no folder {folder}.")
        return sorted(path.name for path in folder.glob("sub-*"))

    def phantom_truth(self) -> dict[str, str]:
        """What a distorted phantom keeps of its truth, beyond what every phantom does."""
        if not self.config.cohort.phantom.distortion_mm:
            return {}
        name = "sub-{participant}"
        return {"displacement": bids.unit_path(self.files.truth, "truth-displacement", name, name)}

    # -- the stages of each person --------------------------------------------------------------

    def per_unit(self, kinds: str | Sequence[str], *states: str) -> Callable[[Any], list[str]]:
        """Input function: files of one kind, or of several, for every unit in these states."""

        def wanted(wildcards: Any) -> list[str]:
            named = [kinds] if isinstance(kinds, str) else kinds
            units = self.cohort.units(*states)
            return [path for kind in named for path in self.files.of_people(kind, units)]

        return wanted

    def scan(self, column: str) -> Callable[[Any], Wanted]:
        """Input function: a path from the unit's row, or nothing where there is none."""

        def path(wildcards: Any) -> Wanted:
            return self.cohort.row(wildcards.unit)[column] or []

        return path

    def corrected(self, kind: str, column: str) -> Callable[[Any], Wanted] | str:
        """Input function: the preprocessed file where a chain is chosen, the raw one otherwise."""
        none = self.config.preprocess.chain == "none"
        return self.scan(column) if none else self.files.at(kind)

    def slice_records(self, wildcards: Any) -> list[str]:
        """Slice records of everybody with both scans."""
        return [self.files.slice_record(unit) for unit in self.cohort.units("paired")]

    # -- the common grid ------------------------------------------------------------------------

    def grid_inputs(self) -> dict[str, str]:
        """Further inputs of the grid's job, where tasks need them."""
        kinds = ("tractogram", "tractography-status") if tracts_needed(self.config) else ()
        return {kind: self.files.at(kind) for kind in kinds}

    def grid_outputs(self) -> dict[str, str]:
        """Maps on the common grid: FA, and what tasks need besides."""
        streamlines = {"streamlines": "count"} if tracts_needed(self.config) else {}
        kinds = {kind: kind for kind in grid_maps(self.config)} | streamlines
        return {name: self.files.at(kind) for name, kind in kinds.items()}

    # -- tracking -------------------------------------------------------------------------------

    def track_inputs(self) -> dict[str, Any]:
        """Further inputs of tracking that the backend asks for: scans of a person, other files."""
        section, tracker = self.config.tractography, self.config.tractography.record
        scans = {name: self.scan(column) for name, column in tracker.scans(section).items()}
        return scans | tracker.files(section)

    def track_outputs(self) -> dict[str, str]:
        """Further outputs of tracking."""
        section = self.config.tractography
        kinds = section.record.outputs(section)
        return {name: self.files.at(kind) for name, kind in kinds.items()}

    def track_flags(self, wildcards: Any, input: Any) -> list[str]:
        """Flags of `m2m tractography` for these inputs, by their names."""
        return [
            part
            for name in self.track_inputs()
            if input.get(name)
            for part in (f"--{name.replace('_', '-')}", input[name])
        ]
