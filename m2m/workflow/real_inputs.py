"""Inputs of the comparison on real pairs, of `snakemake real`."""

from typing import Any

from snakemake.exceptions import WorkflowError

from m2m.figures.figure_records import of_scope
from m2m.io.modalities import MODALITIES
from m2m.options import Config
from m2m.options.configured import figures_folder
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
    root, figures : str
        Dataset of the pairs, and folder of their figure.
    calibrated, packed : str
        Folders of the model that is packed for installation: calibrated on the pairs, and in half precision.
    installed_model : str
        Its weights as they were trained.
    tracked : bool
        Whether streamlines of the pairs are tracked, for their density.
    files_read : list of str
        Reference map, and weights that are given by path: those of the study's models are trained first.
    """

    def __init__(self, config: Config, files: Layout):
        self.section, self.files = config.real, files
        self.root = f"{files.root}/{self.section.folder}"
        self.tracked = MODALITIES[self.section.target].nature == "density"
        self.figures = figures_folder(files.root, self.section.page)
        reference = [str(self.section.reference_map)] if self.section.reference_map else []
        self.install = install = config.install
        self.calibrated, self.packed = (f"{files.root}/{name}/{install.task}" for name in ("calibrated", "weights"))
        self.installed_model = f"{files.model.format(task=install.task, model=install.model)}/model.safetensors"
        self.files_read = [*reference, *self.section.weight_files]

    def wanted(self, wildcards: Any) -> list[str]:
        """Outputs of `snakemake real`; WorkflowError where no dataset is named."""
        if self.section.bids_dir is None:
            raise WorkflowError(
                "The configuration has no real.bids_dir: name a BIDS folder of participants with T1w and DWI."
            )
        figures = [f"{self.figures}/{name}.png" for name in FIGURES]
        return [f"{self.root}/metrics.tsv", f"{self.root}/metrics.md", *figures]

    def wanted_weights(self, wildcards: Any) -> str:
        """Output of `snakemake pretrained`; WorkflowError where no model or no dataset is named."""
        install = self.install
        if not (install.task and install.model and self.section.bids_dir):
            raise WorkflowError("The configuration has no install.task, install.model or real.bids_dir: name them.")
        return f"{self.packed}/model.safetensors"
