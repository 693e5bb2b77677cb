"""Where everything of a study lies, below the folder of its dataset."""

from collections.abc import Sequence
from typing import Any

from m2m.io import bids
from m2m.options import Config


class Layout:
    """Paths of a study; {words} in them are the workflow's wildcards.

    Parameters
    ----------
    config : Config

    Attributes
    ----------
    simulated : bool
        Whether the people are simulated: their scans and truth then lie below `root` too.
    root, rawdata, truth : str
        The dataset of results, the raw one, that of what is known of simulated people.
    config : str
        The configuration as a file, which jobs take their sections from: a parameter, no input.
    """

    def __init__(self, config: Config):
        self.simulated = config.cohort.source == "phantom"
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
        # What tasks see beside a T1: a dataset for each kind of low resolution.
        self.low = f"{root}/low/{{low}}"
        self.encoder = f"{root}/encoders/{{target}}"
        self.model = f"{root}/models/{{task}}/{{model}}"
        # What a model's label correction made of the training part.
        self.labels = f"{root}/labels/{{task}}/{{model}}"
        self.synthetic = f"{root}/synthetic/{{task}}/{{model}}"
        self.evaluation = f"{root}/evaluate/{{task}}"
        self.downstream = f"{root}/downstream"
        self.figures = f"{root}/figures"
        self.config = f"{root}/logs/config.json"
        self.lock = f"{root}/logs/workflow.lock"
        self.slurm_run = f"{root}/logs/slurm_run"

    def at(self, kind: str, root: str | None = None) -> str:
        """Pattern of one of a unit's files, in the dataset of results or in another."""
        return bids.unit_path(self.root if root is None else root, kind)

    def slices_at(self, name: str, root: str | None = None) -> str:
        """Pattern of one of a unit's files of slices."""
        return bids.slices_path(self.root if root is None else root, name)

    def log(self, rule: str, name: str) -> str:
        """Path of a rule's log."""
        return f"{self.root}/logs/{rule}/{name}.log"

    def benchmark(self, rule: str, name: str) -> str:
        """Path of a rule's benchmark."""
        return f"{self.root}/benchmarks/{rule}/{name}.tsv"

    def of_person(self, kind: str, unit: str, root: str | None = None) -> str:
        """Path of one of a unit's files."""
        root = self.root if root is None else root
        return bids.unit_path(root, kind, bids.unit_folder(unit), unit)

    def of_people(self, kind: str, units: Sequence[str], root: str | None = None) -> list[str]:
        """One kind of file for each of these units."""
        return [self.of_person(kind, unit, root) for unit in units]

    def slice_record(self, unit: str) -> str:
        """Slice record of one unit."""
        return bids.slices_path(self.root, "slices.json", bids.unit_folder(unit), unit)

    # Parameter functions: a path that is given as text reads to `snakemake --lint` like a mistake.

    def dataset_root(self, wildcards: Any) -> str:
        """Folder of the results: stages find each person's files below it by their BIDS names."""
        return self.root

    def slices_folder(self, wildcards: Any) -> str:
        """Folder of everybody's slices."""
        return f"{self.root}/slices"
