"""The tables about people: participants.tsv and the user's list of exclusions."""

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path

from m2m.io.errors import DataError
from m2m.io.tables import read_table

Row = dict[str, str | None]
# Years: nobody's age is above.
LIFETIME = 120
NO_AGE = f"age is not a number of years from 0 to {LIFETIME}"


def participant_id(label: str) -> str:
    """Identifier as BIDS writes it, ``sub-01``; the prefix may be missing."""
    return "sub-" + label.strip().removeprefix("sub-")


def read_people(path: str | Path) -> dict[str, list[Row]]:
    """Read a table about people: every row of each participant, by identifier.

    Parameters
    ----------
    path : path
        TSV with a column ``participant_id``; the prefix ``sub-`` may be missing in it.

    Returns
    -------
    dict of str to list of dict
        More than one row is a duplicate, which the caller judges.

    Raises
    ------
    DataError
        The file is missing, is not UTF-8 text, has no column ``participant_id`` or two of one name,
        or its rows do not fit its columns.
    """
    try:
        rows = read_table(path)
        with Path(path).open(encoding="utf-8-sig", newline="") as stream:
            columns = next(csv.reader(stream, delimiter="\t"), [])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"table cannot be read: {error}", file=path, remedy="save it as UTF-8 text with tabs"
        ) from error
    if "participant_id" not in columns:
        raise DataError(
            "table has no column participant_id",
            file=path,
            value=columns,
            remedy="name the column participant_id and separate columns by tabs (UTF-8)",
        )
    _require_sound_rows(rows, columns, path)
    people: dict[str, list[Row]] = {}
    for row in rows:
        if label := row["participant_id"]:
            row["participant_id"] = participant_id(label)
            people.setdefault(row["participant_id"], []).append(row)
    return people


def _require_sound_rows(rows: list[Row], columns: list[str], path: str | Path) -> None:
    """Raise where a column is there twice, or a row has more or longer values than one line."""
    if twice := sorted({name for name in columns if name and columns.count(name) > 1}):
        raise DataError(
            "table has columns of the same name", file=path, value=", ".join(twice),
            remedy="keep one of them",
        )  # fmt: skip
    for row in rows:
        surplus = any(row.get(None) or ())  # where csv puts what has no column
        cells = [text for name, text in row.items() if name is not None and text]
        if not surplus and not any("\n" in text for text in cells):
            continue
        raise DataError(
            "row has more values than there are columns" if surplus else "a quote is not closed",
            file=path,
            value=(row["participant_id"] or "a row without participant_id").splitlines()[0],
            remedy="separate values by single tabs, and take out quotes and line breaks",
        )


def number(text: str | None) -> float | None:
    """Read a number from a table's cell; None where there is none (``n/a``, ``89+``, ``nan``)."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if abs(value) < float("inf") else None


def age_of(row: Row) -> float | None:
    """Age in years; None where there is none, or no person has it (``999``, a year of birth)."""
    age = number(row.get("age"))
    return age if age is not None and 0 <= age <= LIFETIME else None


def known_people(path: str | Path) -> dict[str, Row]:
    """Row of each participant in a table that was checked; an age that nobody has is taken out."""
    people = {person: rows[0] for person, rows in read_people(path).items()}
    for row in people.values():
        if "age" in row and age_of(row) is None:
            row["age"] = None
    return people


def check_people(
    people: dict[str, list[Row]],
    with_scans: Iterable[str],
    require: tuple[str, ...],
    table: str | Path,
) -> dict[str, list[tuple[str, DataError]]]:
    """Check participants.tsv against the scans and against what the study needs.

    Parameters
    ----------
    people : dict of str to list of dict
        Rows of each participant, see `read_people`.
    with_scans : iterable of str
        Participants that have scans.
    require : tuple of str
        Columns that must be set, e.g. for a downstream target; ``age`` must be in years.
    table : path
        Where people came from.

    Returns
    -------
    dict of str to list of (severity, DataError)
        By participant; an error means that none of their scans can be used.
    """
    with_scans = set(with_scans)
    found = {}
    for person in sorted(with_scans | set(people)):
        rows = people.get(person, [])
        problems = list(_duplicate_rows(rows, table))
        if person in with_scans:
            problems += _missing_values(person, rows, require, table)
        else:
            remedy = "add the scans, or remove the row"
            error = DataError(
                "no scan of this participant", file=table, value=person, remedy=remedy
            )
            problems.append(("note", error))
        if problems:
            found[person] = problems
    return found


def _duplicate_rows(rows: list[Row], table: str | Path) -> Iterator[tuple[str, DataError]]:
    """Several rows of one person: a note where they say the same, else an error."""
    if len(rows) < 2:
        return
    differ = sorted({k for row in rows for k in row if row[k] != rows[0][k]})
    yield (
        "error" if differ else "note",
        DataError(
            "duplicate subject in participants.tsv",
            file=table,
            value=f"{len(rows)} rows" + (f", which differ in {', '.join(differ)}" * bool(differ)),
            remedy="keep one row for each participant",
        ),
    )


def _missing_values(
    person: str, rows: list[Row], require: tuple[str, ...], table: str | Path
) -> Iterator[tuple[str, DataError]]:
    """What the study needs to know about a person with scans, and the table does not say."""
    if not rows:
        remedy = "add a row for this participant"
        error = DataError("not in participants.tsv", file=table, value=person, remedy=remedy)
        yield "error" if require else "note", error
        return
    age = rows[0].get("age")
    if "age" not in require and age is not None and age_of(rows[0]) is None:
        remedy = "write years as a number, or n/a; the age is taken as unknown"
        yield "note", DataError(NO_AGE, file=table, value=age, remedy=remedy)
    for column in require:
        value = rows[0].get(column)
        if value is None or (column == "age" and age_of(rows[0]) is None):
            yield (
                "error",
                DataError(
                    f"{column} is missing" if value is None else NO_AGE,
                    file=table,
                    value=value or "n/a",
                    remedy=f"fill in {column}, or take it out of cohort.require",
                ),
            )
