"""List the slices of the training and validation parts.

The table is an intermediate file between every participant's slices and training. In planning,
Snakemake compares each input of a job with all inputs of the job that makes it, so a job with
thousands of inputs must not make a file that is an input of thousands of jobs.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from m2m.cohort.split import load_split, part_by_participant
from m2m.io.bids import unit_folder
from m2m.io.files import read_json
from m2m.io.tables import read_table, write_table

COLUMNS = ("unit", "participant_id", "part", "status", "reasons", "sha256")


def list_slices(units: Path, parts: dict[str, str], slices_dir: Path) -> Iterator[dict[str, Any]]:
    """Yield a row for each paired unit of the training and validation parts.

    Parameters
    ----------
    units : Path
        units.tsv.
    parts : dict
        From participant to part.
    slices_dir : Path
        Folder with ``<folder>/<unit>_slices.json``.

    Yields
    ------
    dict
        Values of `COLUMNS`.
    """
    for row in read_table(units):
        part = parts.get(row["participant_id"] or "")
        if row["state"] != "paired" or part not in ("train", "validation"):
            continue
        unit = row["unit"] or ""
        record = read_json(slices_dir / unit_folder(unit) / f"{unit}_slices.json")
        failed = record["status"] == "failed"
        reasons = [record["finding"]["problem"]] if failed else record["excluded"]
        yield {
            "unit": row["unit"],
            "participant_id": row["participant_id"],
            "part": part,
            "status": "failed" if failed else "excluded" if reasons else "used",
            "reasons": "; ".join(reasons) or None,
            "sha256": record.get("sha256"),
        }


def main(
    units: Annotated[Path, typer.Option(help="units.tsv, from `m2m validate`.")],
    split: Annotated[Path, typer.Option(help="split.tsv.")],
    split_record: Annotated[Path, typer.Option(help="split.json.")],
    slices_dir: Annotated[Path, typer.Option(help="Folder of the slices.")],
    table: Annotated[Path, typer.Option(help="TSV to write.")],
) -> None:
    """List the slices of the training and validation parts, with the hash of each."""
    parts = part_by_participant(load_split(split, split_record))
    write_table(table, list_slices(units, parts, slices_dir), COLUMNS)
