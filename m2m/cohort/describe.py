"""What a BIDS derivative dataset says about itself."""

from pathlib import Path
from typing import Annotated

import typer

from m2m import __version__
from m2m.stage import write_json, write_text

# Folders of a dataset's root that are the workflow's own and not BIDS.
NOT_BIDS = (
    *("benchmarks/", "cohort/", "evaluation/", "figures/", "logs/", "models/", "rawdata/"),
    *("report.html", "slices/", "synthetic/", "truth/", "**/figures/", "**/*_status.json"),
    *("**/*_field.safetensors", "**/*_field.json"),
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
    write_text(root / ".bidsignore", "\n".join(NOT_BIDS) + "\n")
