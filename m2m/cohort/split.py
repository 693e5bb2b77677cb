"""Divide participants into training, validation and test parts, by subject; a hash detects changes.

All sessions of a participant, and all members of a family, are in the same part. Groups are sorted
by site, then sex, then age bin, and assigned along this order in proportion to the sizes of the
parts, so that every part gets its share of each stratum (systematic sampling, as in survey
statistics).

References
----------
Madow & Madow (1944), Ann Math Stat 15:1, https://doi.org/10.1214/aoms/1177731312.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from m2m.cohort.participants import Row, age_of, read_participants, sessions_of_units
from m2m.io.errors import DataError
from m2m.io.files import digest, read_json, write_json
from m2m.io.tables import read_table, write_table
from m2m.options import Split
from m2m.options.configured import section_of
from m2m.options.stage_flags import ConfigFile

PARTS = ("train", "validation", "test")
SHAPED_BY = ("family_id", "site", "age", "sex")


def part_sizes(n: int, validation: float, test: float) -> dict[str, int]:
    """Number of participants in each part.

    Parameters
    ----------
    n : int
        Participants with both scans.
    validation, test : float
        Fractions, 0 to 1; a part whose fraction is 0 stays empty.

    Returns
    -------
    dict of str to int
        Rounded fractions, but at least one participant in each part whose fraction is not 0, while
        there are participants: training first, then test, then validation (3 participants: 1, 1, 1;
        2 participants: no validation; 1 participant: training only); in this order.
    """
    n_test = max(1, round(n * test)) if test else 0
    n_validation = max(1, round(n * validation)) if validation else 0
    while n - n_test - n_validation < min(n, 1):
        if n_test > n_validation:
            n_test -= 1
        else:
            n_validation -= 1
    return {"train": n - n_test - n_validation, "test": n_test, "validation": n_validation}


def age_bin(ages: Iterable[float | None], n_bins: int) -> list[int]:
    """Quantile bin of each age, 0 to n_bins - 1; -1 where the age is unknown."""
    ages = list(ages)
    known = [age for age in ages if age is not None]
    if not known:
        return [-1] * len(ages)
    edges = np.quantile(known, np.linspace(0, 1, n_bins + 1)[1:-1])
    return [-1 if age is None else int(np.searchsorted(edges, age, "right")) for age in ages]


def _participant(row: Row) -> str:
    return row["participant_id"] or ""


def groups_of(subjects: list[Row], age_bins: int, seed: int) -> list[list[str]]:
    """Sort families (or single participants) by strata.

    Parameters
    ----------
    subjects : list of dict
        Rows with ``participant_id`` and, where known, ``family_id``, ``site``, ``sex``, ``age``.
    age_bins : int
        Number of quantile bins of age.
    seed : int
        Of the random order of strata, and of participants in a stratum.

    Returns
    -------
    list of list of str
        Participants of each family.
    """
    bins = dict(
        zip(
            (row["participant_id"] or "" for row in subjects),
            age_bin(map(age_of, subjects), age_bins),
            strict=True,
        )
    )
    families: dict[tuple, list[Row]] = {}
    for row in sorted(subjects, key=_participant):
        family = row.get("family_id")
        key = ("family", family) if family else ("subject", row["participant_id"])
        families.setdefault(key, []).append(row)

    def sort_key(group: list[Row]) -> tuple:
        first = group[0]
        strata = [first.get("site"), first.get("sex"), bins[_participant(first)]]
        # Hashes of seed and values: a seeded order that does not depend on the order of the table or
        # on the other participants.
        return (
            *(digest([seed, s]) for s in strata),
            -len(group),
            digest([seed, first["participant_id"]]),
        )

    ordered = [[_participant(row) for row in g] for g in sorted(families.values(), key=sort_key)]
    # A random start; without it, some positions in the order could never be in the test part.
    start = int(digest([seed, "start"]), 16) % max(1, len(ordered))
    return ordered[start:] + ordered[:start]


def deal(groups: list[list[str]], sizes: dict[str, int]) -> dict[str, str]:
    """Assign groups, in their order, each to the part that is furthest below its share.

    Parameters
    ----------
    groups : list of list of str
        Participants that stay together, sorted by strata.
    sizes : dict of str to int
        Number of participants in each part; exact where every group is one participant. Where there
        are too few groups, the parts named first get theirs first.

    Returns
    -------
    dict of str to str
        Part by participant.
    """
    names = [part for part, size in sizes.items() if size]
    n, n_assigned = sum(sizes.values()), 0
    parts: dict[str, list[list[str]]] = {part: [] for part in names}
    count = dict.fromkeys(names, 0)
    for group in groups:
        n_assigned += len(group)
        room = [part for part in names if count[part] + len(group) <= sizes[part]]
        missing: dict[str, float]
        if room:
            missing = {part: sizes[part] * n_assigned / n - count[part] for part in room}
        else:
            missing = {part: sizes[part] - count[part] for part in names}
        part = max(missing, key=missing.__getitem__)
        parts[part].append(group)
        count[part] += len(group)
    _fill_empty_parts(parts)
    return {subject: part for part in names for group in parts[part] for subject in group}


def _fill_empty_parts(parts: dict[str, list[list[str]]]) -> None:
    """Where large families left a part empty, move the smallest group of the largest part to it."""
    for part in parts:
        largest = max(parts, key=lambda p: len(parts[p]))
        if not parts[part] and len(parts[largest]) > 1:
            smallest = min(parts[largest], key=len)
            parts[largest].remove(smallest)
            parts[part].append(smallest)


def of_sites(subjects: list[Row], sites: Sequence[str]) -> set[str]:
    """Participants of some sites, and their families.

    Parameters
    ----------
    subjects : list of dict
        ``participant_id`` and, where known, ``site`` and ``family_id``.
    sites : sequence of str

    Returns
    -------
    set of str

    Raises
    ------
    DataError
        There is none, or no participant of another site.
    """
    families = {row["family_id"] for row in subjects if row.get("site") in sites and row.get("family_id")}
    chosen = {_participant(row) for row in subjects if row.get("site") in sites or row.get("family_id") in families}
    if not chosen or len(chosen) == len(subjects):
        raise DataError(
            f"split.test_sites leaves no participant to {'train on' if chosen else 'test on'}",
            value=f"{list(sites)}; the column site has {sorted({row.get('site') or 'n/a' for row in subjects})}",
            remedy="name some of the sites in participants.tsv, as they are written there",
        )
    return chosen


def split_participants(subjects: list[Row], options: Split) -> list[Row]:
    """Divide participants into parts.

    Parameters
    ----------
    subjects : list of dict
        ``participant_id`` and, where known, ``family_id``, ``site``, ``age``, ``sex``.
    options : Split

    Returns
    -------
    list of dict
        The same rows with ``part``, by participant.

    Raises
    ------
    DataError
        No participant, or every one, is of the sites that are to be tested on.
    """
    external = of_sites(subjects, options.test_sites) if options.test_sites else set()
    others = [row for row in subjects if _participant(row) not in external]
    sizes = part_sizes(len(others), options.validation, 0 if external else options.test)
    parts = deal(groups_of(others, options.age_bins, options.seed), sizes) | dict.fromkeys(external, "test")
    rows = [row | {"part": parts[_participant(row)]} for row in subjects]
    return sorted(rows, key=_participant)


def load_split(table: str | Path, record: str | Path) -> list[Row]:
    """Load the split, and check that it has not been changed.

    Parameters
    ----------
    table, record : path
        ``split.tsv`` and the ``split.json`` written with it.

    Returns
    -------
    list of dict
        ``participant_id``, ``part``, and the columns that the split depends on.

    Raises
    ------
    DataError
        The table is not the one that was written: a participant could be in training and test.
    """
    rows = read_table(table)
    made = read_json(record)["hash"]
    if (found := digest(rows)) != made:
        raise DataError(
            "the split has been changed since it was made",
            file=table,
            value=f"hash {found}, on record {made}",
            remedy="run `m2m split` and all later stages again; to exclude participants, use cohort.exclude",
        )
    return rows


def part_by_participant(rows: list[Row]) -> dict[str, str]:
    """Part of each participant, from the rows of `load_split`."""
    return {_participant(row): row["part"] or "" for row in rows}


def subjects_of_units(units: Path, states: Sequence[str], participants: Path | None) -> tuple[list[Row], list[str]]:
    """Participants with a unit in one of these states, and what divides them into parts or folds.

    Parameters
    ----------
    units : Path
        units.tsv.
    states : sequence of str
    participants : Path or None
        participants.tsv.

    Returns
    -------
    subjects : list of dict
        ``participant_id`` and `columns`, by participant.
    columns : list of str
        Those of `SHAPED_BY` that the table of participants has.
    """
    wanted = [row for row in read_table(units) if row["state"] in states]
    known = read_participants(participants, sessions_of_units(wanted)) if participants else {}
    columns = [c for c in SHAPED_BY if any(c in row for rows in known.values() for row in rows)]
    subjects: list[Row] = []
    for subject in sorted({_participant(row) for row in wanted}):
        about = known[subject][0] if subject in known else {}
        subjects.append({"participant_id": subject, **{c: about.get(c) for c in columns}})
    return subjects, columns


def write_split(rows: list[Row], columns: list[str], table: Path, record: Path, options: Split) -> None:
    """Write a split with its hash and counts, and print the counts.

    Parameters
    ----------
    rows : list of dict
        participant_id, part and `columns`.
    columns : list of str
        Columns that the split depends on.
    table, record : Path
        TSV and JSON to write.
    options : Split
    """
    write_table(table, rows, ["participant_id", "part", *columns])
    count = Counter(row["part"] for row in rows)
    counts = {part: count[part] for part in PARTS}
    write_json(
        record,
        {
            "hash": digest(read_table(table)),
            "seed": options.seed,
            "fractions": {"validation": options.validation, "test": options.test},
            "counts": counts,
            "shaped_by": columns,
            **({"test_sites": options.test_sites} if options.test_sites else {}),
        },
    )
    print(", ".join(f"{n} {part}" for part, n in counts.items()))
    for part in (part for part in PARTS if not counts[part]):
        print(f"note: no participant in {part}: {len(rows)} participants have both T1w and DWI")


def main(
    units: Annotated[Path, typer.Option(help="Units, from `m2m validate`.")],
    table: Annotated[Path, typer.Option(help="Table to write: the part of each participant.")],
    record: Annotated[Path, typer.Option(help="JSON to write: the table's hash and counts.")],
    participants: Annotated[Path | None, typer.Option(help="participants.tsv")] = None,
    options: Annotated[str | None, typer.Option(help="JSON of the section `split`.")] = None,
    config: ConfigFile = None,
) -> None:
    """Divide participants with both scans into training, validation and test parts."""
    chosen = section_of("split", config, options, needed=False)
    subjects, columns = subjects_of_units(units, ("paired",), participants)
    write_split(split_participants(subjects, chosen), columns, table, record, chosen)
