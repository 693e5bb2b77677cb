"""Folds for cross-fitting: each participant is translated once, by a network trained without them.

A fold's network is trained and validated on the participants of the other folds, whatever their
part of the main split. Where no network is trained and a T1 is all that is needed of a participant, only
the folds are made: for the predictors.
"""

from pathlib import Path
from typing import Annotated

import typer

from m2m.cohort.participants import Row
from m2m.cohort.split import deal, groups_of, load_split, part_sizes, subjects_of_units, write_split
from m2m.io.errors import DataError
from m2m.io.files import digest, write_json
from m2m.io.tables import read_table, write_table
from m2m.options import Split
from m2m.options.configured import read_config, section_of
from m2m.options.stage_flags import ConfigFile


def groups_of_sites(subjects: list[Row]) -> list[list[str]]:
    """Participants of each site, the largest first; sites that share a family are together.

    Parameters
    ----------
    subjects : list of dict
        ``participant_id``, ``site`` and, where known, ``family_id``.

    Returns
    -------
    list of list of str

    Raises
    ------
    DataError
        A participant's site is not known.
    """
    if without := [row["participant_id"] or "" for row in subjects if not row.get("site")]:
        raise DataError(
            f"downstream.folds_by is site, and {len(without)} of {len(subjects)} participants have none",
            file="participants.tsv",
            value=", ".join(without),
            remedy="complete the column site, have them left out (cohort.require: [site]), or have no folds_by",
        )
    groups: list[tuple[set, list[str]]] = []
    for row in sorted(subjects, key=lambda row: row["participant_id"] or ""):
        keys = {(key, row[key]) for key in ("site", "family_id") if row.get(key)}
        joined = [group for group in groups if group[0] & keys]
        groups = [group for group in groups if group not in joined]
        members = [subject for _, others in joined for subject in others]
        groups.append((keys.union(*(names for names, _ in joined)), [*members, row["participant_id"] or ""]))
    return sorted((members for _, members in groups), key=lambda members: (-len(members), min(members)))


def fold_participants(subjects: list[Row], n_folds: int, options: Split, by_site: bool = False) -> dict[str, str]:
    """Assign participants to folds, equally in number and in each stratum; or whole sites.

    Parameters
    ----------
    subjects : list of dict
        Rows of split.tsv.
    n_folds : int
    options : Split
        `validation` and `test` are not used.
    by_site : bool
        Whether all participants of a site are in one fold.

    Returns
    -------
    dict of str to str
        Fold of each participant, ``1`` to `n_folds`.
    """
    n = len(subjects)
    sizes = {str(k + 1): n * (k + 1) // n_folds - n * k // n_folds for k in range(n_folds)}
    return deal(groups_of_sites(subjects) if by_site else groups_of(subjects, options.age_bins, options.seed), sizes)


def split_of_fold(subjects: list[Row], folds: dict[str, str], fold: str, options: Split) -> list[Row]:
    """Split participants for one fold: the fold is the test part, the others train and validate.

    Parameters
    ----------
    subjects : list of dict
        Rows of split.tsv.
    folds : dict of str to str
        Fold of each participant.
    fold : str
    options : Split
        `test` is not used.

    Returns
    -------
    list of dict
        The rows with their part in this fold.
    """
    others = [row for row in subjects if folds[row["participant_id"] or ""] != fold]
    sizes = part_sizes(len(others), options.validation, 0)
    parts = deal(groups_of(others, options.age_bins, options.seed), sizes)
    return [row | {"part": parts.get(row["participant_id"] or "", "test")} for row in subjects]


def load_folds(table: Path, record: Path) -> dict[str, str]:
    """Load the fold of each participant; DataError where the table was changed after it was written."""
    return {row["participant_id"] or "": row["fold"] or "" for row in load_split(table, record)}


def main(
    number: Annotated[int, typer.Option(help="Number of folds.")],
    out_dir: Annotated[Path, typer.Option(help="Folder of folds.tsv, .json and fold-<k>/.")],
    split: Annotated[Path | None, typer.Option(help="split.tsv, for folds of participants with both scans.")] = None,
    split_record: Annotated[Path | None, typer.Option(help="split.json")] = None,
    units: Annotated[
        Path | None, typer.Option(help="units.tsv in place of the split, for folds of participants with a T1.")
    ] = None,
    participants: Annotated[Path | None, typer.Option(help="participants.tsv, with --units.")] = None,
    options: Annotated[str | None, typer.Option(help="JSON of the section `split`.")] = None,
    config: ConfigFile = None,
) -> None:
    """Divide participants into folds; with a split, divide for each fold the others into training and validation."""
    chosen = section_of("split", config, options, needed=False)
    if bool(units) == bool(split) or bool(split) != bool(split_record):
        raise typer.BadParameter("give --split and --split-record, or --units")
    if split and split_record:
        subjects = load_split(split, split_record)
    elif units:
        subjects, _ = subjects_of_units(units, ("paired", "t1w-only"), participants)
    by_site = config is not None and read_config(config).section("downstream").folds_by == "site"
    folds = fold_participants(subjects, number, chosen, by_site)
    if (found := len(set(folds.values()))) < number:
        raise DataError(
            f"too few {'sites' if by_site else 'participants or families'}: they fill {found} of {number} folds only",
            file=split or units or "",
            value=f"{len(subjects)} participants",
            remedy=f"reduce downstream.folds, or add {'sites' if by_site else 'participants'}",
        )
    columns = [column for column in subjects[0] if column not in ("participant_id", "part")]
    for fold in map(str, range(1, number + 1)) if split else ():
        rows = split_of_fold(subjects, folds, fold, chosen)
        folder = out_dir / f"fold-{fold}"
        write_split(rows, columns, folder / "split.tsv", folder / "split.json", chosen)
    listed = [{"participant_id": subject, "fold": folds[subject]} for subject in sorted(folds)]
    write_table(out_dir / "folds.tsv", listed, ("participant_id", "fold"))
    hash_ = digest(read_table(out_dir / "folds.tsv"))
    write_json(out_dir / "folds.json", {"hash": hash_, "seed": chosen.seed})
