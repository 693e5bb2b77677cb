"""Inputs of the comparison on real pairs, of `snakemake real`."""

from typing import Any

from snakemake.exceptions import WorkflowError

from m2m.figures.figure_records import of_scope
from m2m.options import Config
from m2m.workflow.results_layout import Layout

FIGURES = list(of_scope("pairs"))
TABLES = ("metrics", "rois", "bundles")


class RealPairs:
    """Files of the rules behind `snakemake real`.

    Parameters
    ----------
    config : Config
    files : Layout

    Attributes
    ----------
    root : str
        Dataset of the pairs.
    files_read : list of str
        Reference map, and weights that are given by path: those of the study's models are trained first.
    """

    def __init__(self, config: Config, files: Layout):
        self.section, self.files = config.real, files
        self.root = f"{files.root}/real"
        reference = [str(self.section.reference_map)] if self.section.reference_map else []
        self.files_read = [*reference, *self.section.weight_files]

    def wanted(self, wildcards: Any) -> list[str]:
        """Outputs of `snakemake real`; WorkflowError where no dataset is named."""
        if self.section.bids_dir is None:
            raise WorkflowError(
                "The configuration has no real.bids_dir: name a BIDS folder of participants with T1w and DWI."
            )
        figures = [f"{self.files.figures}/{name}.png" for name in FIGURES]
        return [f"{self.root}/metrics.tsv", f"{self.root}/metrics.md", *figures]
