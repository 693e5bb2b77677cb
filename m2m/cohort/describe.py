"""What a BIDS derivative dataset says about itself."""

from pathlib import Path
from typing import Annotated

import typer

from m2m import __version__
from m2m.stage import write_json, write_text

# What is the workflow's own and not BIDS, and what BIDS has proposed but not yet taken up: names of
# proposal 16. The validator hides a folder only where no slash ends its name.
NOT_BIDS = (
    *("benchmarks", "cohort", "encoders", "downstream", "evaluation", "figures", "logs", "models"),
    *("rawdata", "slices", "synthetic", "truth", "*.html", "*_status.json"),
    *("*_dwimap.*", "*_dwiref.*", "*_tractogram.*", "*_field.*"),
)


def main(
    root: Annotated[Path, typer.Option(help="The derivative dataset that this run fills.")],
    source: Annotated[str, typer.Option(help="The raw dataset it is made from.")],
    synthetic: Annotated[
        list[Path] | None, typer.Option(help="A dataset of synthetic maps below it; repeated.")
    ] = None,
) -> None:
    """Write dataset_description.json for the results and each synthetic dataset in them."""
    for folder in (root, *(synthetic or [])):
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
