"""Inputs of the stages of each participant: raw scans, derived maps, streamlines."""

import json
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from snakemake.exceptions import WorkflowError

from m2m.io import bids
from m2m.io.errors import DataError
from m2m.io.files import digest, file_digest
from m2m.io.quoting import printable
from m2m.options import Config, Template
from m2m.options.external_programs import external_programs, tracts_needed
from m2m.phantom import GROUP_MAPS, anatomy_of, labels, list_anatomies
from m2m.workflow.cohort_tables import Cohort
from m2m.workflow.job_flags import Wanted, file_flags
from m2m.workflow.results_layout import Layout
from m2m.workflow.task_inputs import grid_maps

# Columns of units.tsv with the files of a series, in the order of those in its column `joined`.
SERIES = ("dwi", "bval", "bvec")


def _contents(path: Path) -> str:
    """Digest of a file, or why it has none; the stage that reads it says so in its findings."""
    try:
        return file_digest(path)
    except OSError as error:
        return type(error).__name__


class Subjects:
    """Inputs and outputs of the stages of each participant.

    Parameters
    ----------
    config : Config
    files : Layout
    cohort : Cohort
    """

    def __init__(self, config: Config, files: Layout, cohort: Cohort):
        self.config, self.files, self.cohort = config, files, cohort
        # Positions in a simulated cohort.
        self._positions = {label: i for i, label in enumerate(self.labels())}

    def commands(self) -> list[str]:
        """External programs that the chosen backends need."""
        return [*chain(*external_programs(self.config).values())]

    def labels(self) -> list[str]:
        """Labels of the simulated participants; empty where scans are on disk."""
        simulation = self.config.cohort.simulation
        return labels(simulation.n_subjects) if simulation else []

    def place_of_participant(self, wildcards: Any) -> int:
        """Position of a simulated participant in the cohort."""
        return self._positions[wildcards.participant]

    # -- the cohort's source --------------------------------------------------------------------

    def raw_scans(self, wildcards: Any) -> list[str]:
        """All simulated scans; a dataset on disk is listed by the stage itself."""
        return [
            path.format(participant=label)
            for label in self.labels()
            for path in (*self.simulated_scan("anat", "T1w.nii.gz"), *self.simulated_scan("dwi", "dwi.nii.gz"))
        ]

    def simulated_units(self) -> list[tuple[str, str]]:
        """Folder and name of each unit of a simulated participant, with the wildcard ``participant``."""
        simulation, name = self.config.cohort.simulation, "sub-{participant}"
        sessions = simulation.sessions if simulation else ()
        return [(f"{name}/{session}", f"{name}_{session}") for session in sessions] or [(name, name)]

    def simulated_scan(self, folder: str, suffix: str) -> list[str]:
        """Raw files of a simulated participant, one for each visit."""
        return [f"{self.files.rawdata}/{place}/{folder}/{unit}_{suffix}" for place, unit in self.simulated_units()]

    def simulated_truth(self, kind: str) -> list[str]:
        """Ground truth of a simulated participant, one file for each visit."""
        return [bids.unit_path(self.files.truth, kind, *unit) for unit in self.simulated_units()]

    def participants_table(self, wildcards: Any) -> str | list[str]:
        """The dataset's participants.tsv, where it has one."""
        path = f"{self.files.rawdata}/participants.tsv"
        return path if self.files.simulated or Path(path).exists() else []

    def session_tables(self, wildcards: Any) -> str:
        """Digest of the sessions.tsv of every participant, whose ages count beside a participants.tsv.

        A parameter, not inputs: planning then asks for each of them once, not in each rule and job.
        """
        return self._session_tables

    @cached_property
    def _session_tables(self) -> str:
        """As `session_tables`; empty where there are none."""
        folder = Path(self.files.rawdata)
        if self.files.simulated or not (folder / "participants.tsv").exists():
            return ""
        paths = ((one.name, one / f"{one.name}_sessions.tsv") for one in folder.glob("sub-*"))
        found = {printable(name): _contents(path) for name, path in paths if path.is_file()}
        return digest(found) if found else ""

    def exclusion_table(self, wildcards: Any) -> str | list[str]:
        """The user's table of exclusions, where given."""
        return str(self.config.cohort.exclude) if self.config.cohort.exclude else []

    def listed_subjects(self, wildcards: Any) -> int | list[str]:
        """Names of the dataset's subject folders: when they change, the dataset is listed again."""
        if self.config.cohort.simulation:
            return self.config.cohort.simulation.n_subjects
        folder = Path(self.files.rawdata)
        if not folder.is_dir():
            raise WorkflowError(f"cohort.bids_dir: there is no folder {folder}.")
        return sorted(printable(path.name) for path in folder.glob("sub-*"))

    def further_simulated(self) -> dict[str, list[str]]:
        """Further files of simulated participants: the displacement of distortion, the table of several visits."""
        simulation, found = self.config.cohort.simulation, {}
        if simulation and simulation.distortion_mm:
            found["displacement"] = self.simulated_truth("truth-displacement")
        if simulation and simulation.sessions:
            found["sessions"] = [f"{self.files.rawdata}/sub-{{participant}}/sub-{{participant}}_sessions.tsv"]
        return found

    @cached_property
    def anatomies(self) -> list[Path]:
        """T1s that participants are made of; empty where they are not made of real parts."""
        section = self.config.cohort.simulation
        if not isinstance(section, Template):
            return []
        for name in ("fa_map", "bundles"):
            if not (path := getattr(section, name)).is_file():
                raise WorkflowError(f"cohort.template.{name}: there is no file {path}.")
        try:
            return list_anatomies(section.anatomies)
        except DataError as error:
            raise WorkflowError(f"cohort.template.anatomies: {error}") from None

    def group_parts(self) -> dict[str, str]:
        """Files of the group that participants of real parts share."""
        section = self.config.cohort.template
        return {name: str(getattr(section, name)) for name in ("fa_map", "bundles")} if section else {}

    def tables_of_anatomies(self, wildcards: Any) -> list[str]:
        """What the tables of participants of real parts are made from."""
        section = self.config.cohort.simulation
        if not isinstance(section, Template):
            return []
        table = section.anatomies / "participants.tsv"
        return [str(section.bundles), *([str(table)] if table.is_file() else [])]

    def parts_of_participant(self, wildcards: Any) -> list[str]:
        """The T1 that a participant is made of, and the group's maps and bundles."""
        section = self.config.cohort.simulation
        if not isinstance(section, Template):
            return []
        anatomy = anatomy_of(wildcards.participant, self.anatomies)
        return [str(anatomy), *self.tables_of_anatomies(wildcards), *self.group_maps()]

    def group_maps(self) -> list[str]:
        """Maps of the group in MNI152 space."""
        return [f"{self.files.truth}/{name}" for name in GROUP_MAPS.values()]

    # -- the stages of each participant --------------------------------------------------------------

    def per_unit(self, kinds: str | Sequence[str], *states: str) -> Callable[[Any], list[str]]:
        """Input function: files of one or several kinds, for every unit in these states."""

        def wanted(wildcards: Any) -> list[str]:
            named = [kinds] if isinstance(kinds, str) else kinds
            units = self.cohort.units(*states)
            return [path for kind in named for path in self.files.of_units(kind, units)]

        return wanted

    def having(self, *states: str) -> Callable[[Any], list[str]]:
        """Input function: units in these states."""

        def wanted(wildcards: Any) -> list[str]:
            return self.cohort.units(*states)

        return wanted

    def scan(self, column: str) -> Callable[[Any], str | list[str]]:
        """Input function: a path from the unit's row, or an empty list; of joined series the joined file."""

        def path(wildcards: Any) -> str | list[str]:
            row = self.cohort.row(wildcards.unit)
            if column in SERIES and row.get("joined"):
                return self.files.of_participant(f"joined-{column}", wildcards.unit)
            return row[column] or []

        return path

    def series(self, column: str) -> Callable[[Any], list[str]]:
        """Input function: ``dwi``, ``bval`` or ``bvec`` of each series that is joined, the chosen one first."""

        def paths(wildcards: Any) -> list[str]:
            row = self.cohort.row(wildcards.unit)
            further = [files[SERIES.index(column)] for files in json.loads(row["joined"] or "[]")]
            return [row[column] or "", *further]

        return paths

    def corrected(self, kind: str, column: str) -> Wanted:
        """Input function: the preprocessed file where a backend is chosen, otherwise the raw one."""
        raw = self.config.preprocess.backend == "none"
        return self.scan(column) if raw else self.files.at(kind)

    def fit_flags(self, wildcards: Any) -> list[str]:
        """Flags of `m2m dti` for one unit, each with its file."""
        files = {
            "--dwi": self.corrected("dwi", "dwi"),
            "--bval": self.corrected("bval", "bval"),
            "--bvec": self.corrected("bvec", "bvec"),
            "--supplied-mask": self.scan("dwi_mask"),
        }
        return file_flags(files, wildcards)

    def fitted(self, wildcards: Any) -> list[str]:
        """Input function: what tensors are fitted to, with the status of its corrections."""
        corrected = self.config.preprocess.backend != "none"
        status = [self.files.of_participant("preprocess-status", wildcards.unit)] if corrected else []
        return [*self.fit_flags(wildcards)[1::2], *status]

    def anat_flags(self, wildcards: Any) -> list[str]:
        """Flags of `m2m anat` for one unit, each with its file."""
        return file_flags({"--t1w": self.scan("t1w"), "--t1w-mask": self.scan("t1w_mask")}, wildcards)

    def prepared(self, wildcards: Any) -> list[str]:
        """Input function: the T1 that is prepared, and its mask."""
        return self.anat_flags(wildcards)[1::2]

    def slice_records(self, wildcards: Any) -> list[str]:
        """Slice records of every participant with both scans."""
        return [self.files.slice_record(unit) for unit in self.cohort.units("paired")]

    # -- the common grid ------------------------------------------------------------------------

    def grid_inputs(self, wildcards: Any) -> list[str]:
        """Input function: further inputs of the rule `grid`, where tasks need them."""
        kinds = ("tractogram", "tractography-status") if tracts_needed(self.config) else ()
        return [self.files.of_participant(kind, wildcards.unit) for kind in kinds]

    def grid_outputs(self) -> list[str]:
        """Maps on the common grid: FA, and further maps that tasks need."""
        kinds = [*grid_maps(self.config), *(["count"] if tracts_needed(self.config) else [])]
        return [self.files.at(kind) for kind in kinds]

    # -- tracking -------------------------------------------------------------------------------

    def track_inputs(self) -> dict[str, Any]:
        """Further inputs that the tracking backend needs: scans of a participant, other files."""
        section, tracker = self.config.tractography, self.config.tractography.record
        scans = {name: self.scan(column) for name, column in tracker.scans(section).items()}
        return {**scans, **tracker.files(section)}

    def track_outputs(self) -> dict[str, str]:
        """Further outputs of tracking."""
        section = self.config.tractography
        kinds = section.record.outputs(section)
        return {name: self.files.at(kind) for name, kind in kinds.items()}

    def track_flags(self, wildcards: Any, input: Any) -> list[str]:
        """Flags of `m2m tractography` for these inputs."""
        return [
            part
            for name in self.track_inputs()
            if input.get(name)
            for part in (f"--{name.replace('_', '-')}", input[name])
        ]
