"""Divide people into training, validation and test parts: by subject, once, under a hash.

Whoever belongs together stays together: all sessions of a person, all members of a family.
Groups are put in an order in which neighbours are alike (site, then sex, then age bin), and
dealt out along it in proportion to the parts, so that every part gets its share of each
stratum: systematic sampling, as in survey statistics.

References
----------
Madow & Madow (1944), Ann Math Stat 15:1, https://doi.org/10.1214/aoms/1177731312.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from m2m.cohort.participants import Row, age_of, read_people
from m2m.io.errors import DataError
from m2m.io.files import digest, read_json, write_json
from m2m.io.tables import read_table, write_table
from m2m.options import Split
from m2m.options.configured import section_of
from m2m.options.stage_flags import ConfigFile

PARTS = ("train", "validation", "test")
SHAPED_BY = ("family_id", "site", "age", "sex")


def part_sizes(n: int, validation: float, test: float) -> dict[str, int]:
    """Number of people in each part.

    Parameters
    ----------
    n : int
        People with both scans.
    validation, test : float
        Fractions, 0 to 1; a part whose fraction is 0 stays empty.

    Returns
    -------
    dict of str to int
        Rounded fractions, but at least one person in each wanted part, as far as people go:
        training first, then test, then validation (3 people 1, 1, 1; 2 people no validation;
        1 person training only); in this order.
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


def groups_of(people: list[Row], age_bins: int, seed: int) -> list[list[str]]:
    """Families (or single persons) in an order in which neighbours are alike."""
    bins = dict(
        zip(
            (row["participant_id"] for row in people),
            age_bin(map(age_of, people), age_bins),
            strict=True,
        )
    )
    families: dict[tuple, list[Row]] = {}
    for row in sorted(people, key=lambda row: row["participant_id"]):
        family = row.get("family_id")
        key = ("family", family) if family else ("person", row["participant_id"])
        families.setdefault(key, []).append(row)

    def place(group: list[Row]) -> tuple:
        first = group[0]
        strata = [first.get("site"), first.get("sex"), bins[first["participant_id"]]]
        # Hashes with the seed in place of the values: a seeded order that does not depend on the
        # order of the table or on who else is in it.
        return (
            *(digest([seed, s]) for s in strata),
            -len(group),
            digest([seed, first["participant_id"]]),
        )

    ordered = [[row["participant_id"] for row in g] for g in sorted(families.values(), key=place)]
    # A random start, without which some places in the order would never be tested on.
    start = int(digest([seed, "start"]), 16) % max(1, len(ordered))
    return ordered[start:] + ordered[:start]


def deal(groups: list[list[str]], sizes: dict[str, int]) -> dict[str, str]:
    """Deal groups out along their order, each to the part that is furthest behind its share.

    Parameters
    ----------
    groups : list of list of str
        People that stay together, in an order in which neighbours are alike.
    sizes : dict of str to int
        People wanted in each part; met exactly where every group is one person. Where there are
        too few groups for all, the parts named first are served first.

    Returns
    -------
    dict of str to str
        Part by participant.
    """
    wanted = [part for part, size in sizes.items() if size]
    n, dealt = sum(sizes.values()), 0
    given: dict[str, list[list[str]]] = {part: [] for part in wanted}
    count = dict.fromkeys(wanted, 0)
    for group in groups:
        dealt += len(group)
        room = [part for part in wanted if count[part] + len(group) <= sizes[part]]
        if room:
            behind = {part: sizes[part] * dealt / n - count[part] for part in room}
        else:
            behind = {part: sizes[part] - count[part] for part in wanted}
        part = max(behind, key=behind.__getitem__)
        given[part].append(group)
        count[part] += len(group)
    _fill_empty_parts(given)
    return {person: part for part in wanted for group in given[part] for person in group}


def _fill_empty_parts(given: dict[str, list[list[str]]]) -> None:
    """Give a part that large families left empty the smallest group of the part with most."""
    for part in given:
        richest = max(given, key=lambda p: len(given[p]))
        if not given[part] and len(given[richest]) > 1:
            smallest = min(given[richest], key=len)
            given[richest].remove(smallest)
            given[part].append(smallest)


def split_people(people: list[Row], options: Split) -> list[Row]:
    """Divide people into parts.

    Parameters
    ----------
    people : list of dict
        ``participant_id`` and, where known, ``family_id``, ``site``, ``age``, ``sex``.
    options : Split

    Returns
    -------
    list of dict
        The same rows with ``part``, by participant.
    """
    sizes = part_sizes(len(people), options.validation, options.test)
    parts = deal(groups_of(people, options.age_bins, options.seed), sizes)
    rows = [row | {"part": parts[row["participant_id"]]} for row in people]
    return sorted(rows, key=lambda row: row["participant_id"])


def load_split(table: str | Path, record: str | Path) -> list[Row]:
    """Load the split, as made.

    Parameters
    ----------
    table, record : path
        ``split.tsv`` and the ``split.json`` written with it.

    Returns
    -------
    list of dict
        ``participant_id``, ``part``, and the columns that shaped it.

    Raises
    ------
    DataError
        The table is not the one that was written: someone may be both trained and tested on.
    """
    rows = read_table(table)
    made = read_json(record)["hash"]
    if (found := digest(rows)) != made:
        raise DataError(
            "the split has been changed since it was made",
            file=table,
            value=f"hash {found}, made as {made}",
            remedy="run `m2m split` again and all that follows; to keep people out, "
            "use cohort.exclude",
        )
    return rows


def part_by_participant(rows: list[Row]) -> dict[str, str]:
    """Part of each participant, from the rows of `load_split`."""
    return {row["participant_id"]: row["part"] for row in rows}


def write_split(
    rows: list[Row], columns: list[str], table: Path, record: Path, options: Split
) -> None:
    """Write a split, its hash and counts, and say them.

    Parameters
    ----------
    rows : list of dict
        participant_id, part and `columns`, which shaped it.
    columns : list of str
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
        },
    )
    print(", ".join(f"{n} {part}" for part, n in counts.items()))
    for part in (part for part in PARTS if not counts[part]):
        print(f"note: nobody in {part}: {len(rows)} people have both T1w and DWI")


def main(
    units: Annotated[Path, typer.Option(help="Units, from `m2m validate`.")],
    table: Annotated[Path, typer.Option(help="Table to write: the part of each person.")],
    record: Annotated[Path, typer.Option(help="JSON to write: the table's hash and counts.")],
    participants: Annotated[Path | None, typer.Option(help="participants.tsv")] = None,
    options: Annotated[str | None, typer.Option(help="JSON of the section `split`.")] = None,
    config: ConfigFile = None,
) -> None:
    """Divide people with both scans into training, validation and test parts."""
    chosen = section_of("split", config, options, needed=False)
    known = read_people(participants) if participants else {}
    paired = {row["participant_id"] for row in read_table(units) if row["state"] == "paired"}
    columns = [c for c in SHAPED_BY if any(c in row for rows in known.values() for row in rows)]
    people = []
    for person in sorted(paired):
        about = known[person][0] if person in known else {}
        people.append({"participant_id": person} | {c: about.get(c) for c in columns})
    write_split(split_people(people, chosen), columns, table, record, chosen)
