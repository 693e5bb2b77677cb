"""The tables about people: participants.tsv and the user's list of exclusions."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from m2m.stage import DataError, read_table

Row = dict[str, str | None]


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
        The file is missing, is not UTF-8 text, or has no column ``participant_id``.
    """
    try:
        rows = read_table(path)
        columns = Path(path).read_text(encoding="utf-8").split("\n", 1)[0].strip().split("\t")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"table cannot be read: {error}", file=path, remedy="save it as UTF-8 text with tabs"
        ) from error
    if "participant_id" not in columns:
        raise DataError(
            "table has no column participant_id",
            file=path,
            value=columns,
            remedy="name the column participant_id and separate columns by tabs (UTF-8, no BOM)",
        )
    people: dict[str, list[Row]] = {}
    for row in rows:
        if label := row["participant_id"]:
            row["participant_id"] = participant_id(label)
            people.setdefault(row["participant_id"], []).append(row)
    return people


def number(text: str | None) -> float | None:
    """Read a number from a table's cell; None where there is none (``n/a``, ``89+``, ``nan``)."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if abs(value) < float("inf") else None


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
        Columns that must be set, e.g. for a downstream target; ``age`` must be a number.
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
    for column in require:
        value = rows[0].get(column)
        if value is None or (column == "age" and number(value) is None):
            yield (
                "error",
                DataError(
                    f"{column} is missing" if value is None else f"{column} is not a number",
                    file=table,
                    value=value or "n/a",
                    remedy=f"fill in {column}, or take it out of cohort.require",
                ),
            )
