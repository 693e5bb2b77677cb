"""What a BIDS derivative dataset says about itself."""

from typing import Annotated

import typer

from m2m import __version__
from m2m.io.files import write_json, write_text
from m2m.options.configured import read_config
from m2m.options.stage_flags import ConfigFile, Root

# What is the workflow's own and not BIDS, and what BIDS has proposed but not yet taken up: names of
# proposal 16. The validator hides a folder only where no slash ends its name.
NOT_BIDS = (
    *("benchmarks", "cohort", "encoders", "downstream", "evaluate", "figures", "logs", "models"),
    *("rawdata", "slices", "synthetic", "truth", "*.html", "*_status.json"),
    *("*_dwimap.*", "*_dwiref.*", "*_tractogram.*", "*_field.*"),
)


def main(
    root: Root,
    source: Annotated[str, typer.Option(help="The raw dataset it is made from.")],
    config: ConfigFile = None,
) -> None:
    """Write dataset_description.json for the results and, with --config, each synthetic dataset."""
    models = read_config(config).every_model() if config else []
    for folder in (root, *(root / "synthetic" / task / model for task, model in models)):
        write_json(
            folder / "dataset_description.json",
            {
                "Name": f"m2m results: {folder.relative_to(root.parent)}",
                "BIDSVersion": "1.10.0",
                "DatasetType": "derivative",
                "GeneratedBy": [{"Name": "m2m", "Version": __version__}],
                "SourceDatasets": [{"URL": source}],
            },
        )
        write_text(folder / ".bidsignore", "\n".join(NOT_BIDS) + "\n")
