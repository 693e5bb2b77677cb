"""Paths of all results, below the folder of the dataset."""

from collections.abc import Sequence
from typing import Any

from m2m.io import bids
from m2m.options import Config
from m2m.options.downstream_options import GIVEN


class Layout:
    """Paths of all results; {names} in braces are the workflow's wildcards.

    Parameters
    ----------
    config : Config

    Attributes
    ----------
    streamlines : str
        Extension of files of streamlines, by `tractography.format`.
    simulated : bool
        Whether the participants are simulated: their scans and ground truth are then below `root`.
    root, rawdata, truth : str
        Dataset of results, raw dataset, dataset of the ground truth of simulated participants.
    config : str
        File of the configuration, from which jobs read their sections: a parameter, not an input.
    """

    def __init__(self, config: Config):
        self.streamlines = f".{config.tractography.format}"
        self.simulated = config.cohort.simulation is not None
        self.root = root = f"{config.results}/{config.dataset}"
        self.rawdata = f"{root}/rawdata" if self.simulated else str(config.cohort.bids_dir)
        self.truth = f"{root}/truth"
        self.cohort = f"{root}/cohort"
        self.units = f"{root}/cohort/units.tsv"
        self.split = f"{root}/cohort/split.tsv"
        self.split_record = f"{root}/cohort/split.json"
        self.slice_table = f"{root}/cohort/slices.tsv"
        self.quality = f"{root}/cohort/quality.tsv"
        self.flow = f"{root}/cohort/flow.json"
        self.folds = f"{root}/cohort/folds.tsv"
        self.folds_record = f"{root}/cohort/folds.json"
        self.fold = f"{root}/cohort/fold-{{fold}}"
        # Low-resolution maps, further inputs of models: one dataset for each low resolution.
        self.low_res = f"{root}/low_res/{{low_res}}"
        self.encoder = f"{root}/encoders/{{target}}"
        self.model = f"{root}/models/{{task}}/{{model}}"
        # Training slices with targets corrected by a model's label correction.
        self.labels = f"{root}/labels/{{task}}/{{model}}"
        self.synthetic = f"{root}/synthetic/{{task}}/{{model}}"
        # Maps by weights that were given, for the biological validation.
        self.given = f"{root}/synthetic/{GIVEN}/{{weights}}"
        self.evaluation = f"{root}/evaluate/{{task}}"
        self.downstream = f"{root}/downstream"
        self.figures = f"{root}/figures"
        self.config = f"{root}/logs/config.json"
        self.lock = f"{root}/logs/workflow.lock"
        self.slurm_run = f"{root}/logs/slurm_run"

    def at(self, kind: str, root: str | None = None) -> str:
        """Pattern of one kind of file, in the dataset of results or in another."""
        return self._path(kind, root)

    def _path(self, kind: str, root: str | None, *of_unit: str) -> str:
        path = bids.unit_path(self.root if root is None else root, kind, *of_unit)
        return path.removesuffix(".trx") + self.streamlines if path.endswith(".trx") else path

    def slices_at(self, name: str, root: str | None = None) -> str:
        """Pattern of one file of slices."""
        return bids.slices_path(self.root if root is None else root, name)

    def log(self, rule: str, name: str) -> str:
        """Path of a rule's log."""
        return f"{self.root}/logs/{rule}/{name}.log"

    def benchmark(self, rule: str, name: str) -> str:
        """Path of a rule's benchmark."""
        return f"{self.root}/benchmarks/{rule}/{name}.tsv"

    def of_participant(self, kind: str, unit: str, root: str | None = None) -> str:
        """Path of one file of a unit.

        Parameters
        ----------
        kind : str
            A key of `m2m.io.bids.KINDS`.
        unit : str
            ``sub-01_ses-1``.
        root : str, optional
            Dataset; default: the dataset of results.

        Returns
        -------
        str
        """
        return self._path(kind, root, bids.unit_folder(unit), unit)

    def of_units(self, kind: str, units: Sequence[str], root: str | None = None) -> list[str]:
        """Paths of one kind of file, for each of these units.

        Parameters
        ----------
        kind : str
            A key of `m2m.io.bids.KINDS`.
        units : sequence of str
        root : str, optional
            Dataset; default: the dataset of results.

        Returns
        -------
        list of str
        """
        return [self.of_participant(kind, unit, root) for unit in units]

    def slice_record(self, unit: str) -> str:
        """Slice record of one unit."""
        return bids.slices_path(self.root, "slices.json", bids.unit_folder(unit), unit)

    # Parameter functions: `snakemake --lint` warns of paths that are given as text.

    def dataset_root(self, wildcards: Any) -> str:
        """Folder of the results; stages find each participant's files below it by BIDS names."""
        return self.root

    def slices_folder(self, wildcards: Any) -> str:
        """Folder of every participant's slices."""
        return f"{self.root}/slices"
