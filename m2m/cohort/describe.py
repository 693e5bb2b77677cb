"""Description of the results as a BIDS derivative dataset."""

from pathlib import Path
from typing import Annotated

import typer

from m2m import GENERATED_BY
from m2m.io.bids import low_res_root
from m2m.io.dataset_links import RAW, links
from m2m.io.files import write_json, write_text
from m2m.io.overwriting import require_outside
from m2m.options.configured import Written, read_config
from m2m.options.downstream_options import GIVEN
from m2m.options.stage_flags import ConfigFile, Root

# Files of the workflow that are not BIDS, and names of BIDS extension proposal 16, which is not yet
# part of BIDS. The validator ignores a folder only where its name here has no final slash.
NOT_BIDS = (
    *("benchmarks", "cohort", "encoders", "downstream", "evaluate", "figures", "labels", "logs"),
    *("low_res", "models", "rawdata", "real", "slices", "synthetic", "truth", "*.html", "*_files", "*_status.json"),
    *("report.json", "compare.json", "ablation.json", "fgdl.json"),
    *("*_dwimap.*", "*_dwiref.*", "*_tractogram.*", "*_field.*", "*_xfm.*"),
)


def datasets_inside(root: Path, written: Written) -> list[Path]:
    """Datasets of synthetic maps and of maps at low resolution, below the results."""
    given = [(GIVEN, name) for name in written.section("downstream").weights]
    synthetic = [root / "synthetic" / task / model for task, model in [*written.every_model(), *given]]
    return synthetic + [low_res_root(root, kind) for kind in written.low_resolutions]


def main(
    root: Root,
    source: Annotated[str, typer.Option(help="The raw dataset.")],
    config: ConfigFile = None,
) -> None:
    """Write dataset_description.json for the results and, with --config, each dataset of maps inside them."""
    if root.is_dir() and Path(source).is_dir() and root.samefile(source):
        require_outside(root, Path(source))
    for folder in (root, *(datasets_inside(root, read_config(config)) if config else ())):
        describe(folder, source, str(folder.relative_to(root.parent)))


def describe(folder: Path, source: str, name: str, *ignored: str) -> None:
    """Write dataset_description.json and .bidsignore of a derivative dataset.

    Parameters
    ----------
    folder : Path
    source : str
        The raw dataset.
    name : str
        Of the dataset, below the results.
    *ignored : str
        Patterns of further files that are not BIDS.
    """
    linked = links(folder, source)
    write_json(
        folder / "dataset_description.json",
        {
            "Name": f"m2m results: {name}",
            "BIDSVersion": "1.10.0",
            "DatasetType": "derivative",
            "GeneratedBy": GENERATED_BY,
            "SourceDatasets": [{"URL": linked[RAW]}],
            "DatasetLinks": linked,
        },
    )
    write_text(folder / ".bidsignore", "\n".join((*NOT_BIDS, *ignored)) + "\n")
