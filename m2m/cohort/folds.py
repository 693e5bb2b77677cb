"""Folds for cross-fitting: everybody is translated once, by a network that never saw them.

A fold's network is trained and chosen on the people of the other folds, whatever part they play in
the study's split.
"""

from pathlib import Path
from typing import Annotated

import typer

from m2m.cohort.participants import Row
from m2m.cohort.split import deal, groups_of, load_split, part_sizes, write_split
from m2m.io.errors import DataError
from m2m.io.files import digest, write_json
from m2m.io.tables import read_table, write_table
from m2m.options import Split
from m2m.options.configured import section_of
from m2m.options.stage_flags import ConfigFile


def fold_people(people: list[Row], n_folds: int, options: Split) -> dict[str, str]:
    """Fold of each participant, ``1`` to `n_folds`: equal shares of people and of each stratum."""
    n = len(people)
    sizes = {str(k + 1): n * (k + 1) // n_folds - n * k // n_folds for k in range(n_folds)}
    return deal(groups_of(people, options.age_bins, options.seed), sizes)


def split_of_fold(people: list[Row], folds: dict[str, str], fold: str, options: Split) -> list[Row]:
    """Divide people for one fold: its own are the test part, the others train and validate.

    Parameters
    ----------
    people : list of dict
        Of split.tsv.
    folds : dict of str to str
        Fold of each participant.
    fold : str
    options : Split
        `test` plays no role.
    """
    others = [row for row in people if folds[row["participant_id"]] != fold]
    sizes = part_sizes(len(others), options.validation, 0)
    parts = deal(groups_of(others, options.age_bins, options.seed), sizes)
    return [row | {"part": parts.get(row["participant_id"], "test")} for row in people]


def load_folds(table: Path, record: Path) -> dict[str, str]:
    """Load the fold of each participant, as made; DataError where the table was changed."""
    return {row["participant_id"]: row["fold"] for row in load_split(table, record)}


def main(
    split: Annotated[Path, typer.Option(help="split.tsv")],
    split_record: Annotated[Path, typer.Option(help="split.json")],
    number: Annotated[int, typer.Option(help="How many folds.")],
    out_dir: Annotated[Path, typer.Option(help="Folder of folds.tsv, .json and fold-<k>/.")],
    options: Annotated[str | None, typer.Option(help="JSON of the section `split`.")] = None,
    config: ConfigFile = None,
) -> None:
    """Divide people into folds, and for each fold the others into training and validation."""
    chosen = section_of("split", config, options, needed=False)
    people = load_split(split, split_record)
    folds = fold_people(people, number, chosen)
    if (found := len(set(folds.values()))) < number:
        raise DataError(
            f"people, or families, for {found} of {number} folds only", file=split,
            value=f"{len(people)} people", remedy="set downstream.folds lower, or add people",
        )  # fmt: skip
    columns = [column for column in people[0] if column not in ("participant_id", "part")]
    for fold in map(str, range(1, number + 1)):
        rows = split_of_fold(people, folds, fold, chosen)
        folder = out_dir / f"fold-{fold}"
        write_split(rows, columns, folder / "split.tsv", folder / "split.json", chosen)
    rows = [{"participant_id": person, "fold": fold} for person, fold in folds.items()]
    rows.sort(key=lambda row: row["participant_id"])
    write_table(out_dir / "folds.tsv", rows, ("participant_id", "fold"))
    hash_ = digest(read_table(out_dir / "folds.tsv"))
    write_json(out_dir / "folds.json", {"hash": hash_, "seed": chosen.seed})
