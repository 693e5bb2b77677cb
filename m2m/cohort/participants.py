"""Tables about participants: participants.tsv, sessions.tsv and the user's list of exclusions."""

import csv
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import date
from io import StringIO
from pathlib import Path
from typing import Any, cast

from m2m.cohort.spellings import Row, cell, map_cells, map_headings, number
from m2m.io.errors import DataError, unreadable
from m2m.io.files import read_text
from m2m.io.quoting import shown
from m2m.io.tables import parse_table

# Sessions of each participant whose age counts, by identifier.
Sessions = Mapping[str, Collection[str]]
# Largest plausible age, in years.
LIFETIME = 120
NO_AGE = f"age is not a number of years from 0 to {LIFETIME}"


def participant_id(label: str) -> str:
    """Identifier as BIDS writes it, ``sub-01``; the prefix may be missing."""
    return "sub-" + label.strip().removeprefix("sub-")


def read_participants(path: str | Path, sessions: Sessions | None = None) -> dict[str, list[Row]]:
    """Read a table about participants: every row of each participant, by identifier.

    Parameters
    ----------
    path : path
        TSV with a column ``participant_id``, with or without the prefix ``sub-``.
    sessions : mapping, optional
        As in `read_with_findings`.

    Returns
    -------
    dict of str to list of dict
        More than one row is a duplicate, which the caller checks.

    Raises
    ------
    DataError
        As in `read_with_findings`.
    """
    return read_with_findings(path, sessions)[0]


def read_with_findings(
    path: str | Path, sessions: Sessions | None = None
) -> tuple[dict[str, list[Row]], list[DataError]]:
    """Read a table about participants, and name every reading that is not literal.

    Headings, missing values and sexes are read by `m2m.cohort.spellings`. An age in a participant's
    ``sessions.tsv`` replaces that of the table: it is the age at the scan.

    Parameters
    ----------
    path : path
        TSV with a column ``participant_id``, with or without the prefix ``sub-``.
    sessions : mapping of str to collection of str, optional
        Sessions whose ages count, ``ses-1``, by participant; their mean is taken. Default: all.

    Returns
    -------
    subjects : dict of str to list of dict
        More than one row is a duplicate, which the caller checks.
    findings : list of DataError
        One for each column and kind of change.

    Raises
    ------
    DataError
        The file is missing, is not UTF-8 text, has no column ``participant_id`` or two of one name,
        or its rows do not fit its columns.
    """
    rows, columns, findings = _read_rows(path)
    if "participant_id" not in columns:
        raise DataError(
            "table has no column participant_id",
            file=path,
            value=shown(str(columns), path),
            remedy="name the column participant_id and separate columns by tabs (UTF-8)",
        )
    findings += map_cells(rows, columns, path)
    subjects: dict[str, list[Row]] = {}
    for row in rows:
        if (label := (row["participant_id"] or "").strip()) and label != "n/a":
            row["participant_id"] = subject = participant_id(label)
            subjects.setdefault(subject, []).append(row)
    findings += _take_ages_of_sessions(subjects, Path(path), sessions)
    return subjects, findings


def _read_rows(path: str | Path) -> tuple[list[Row], list[str], list[DataError]]:
    """Rows and headings of a sound table, its headings as m2m reads them, and findings about these."""
    try:
        text = read_text(path).removeprefix("\ufeff")  # spreadsheets add a byte order mark
        rows = parse_table(StringIO(text, newline=""))
        columns = next(csv.reader(StringIO(text, newline=""), delimiter="\t"), [])
    except (OSError, ValueError, csv.Error) as error:
        raise unreadable(error, "table cannot be read", path, "save it as UTF-8 text with tabs") from error
    if "participant_id" in (names := map_headings(columns, path))[0]:
        _require_sound_rows(rows, columns, path)
    read = dict(zip(columns, names[0], strict=True))
    return [{read.get(column, column): text for column, text in row.items()} for row in rows], *names


def _take_ages_of_sessions(
    subjects: dict[str, list[Row]], table: Path, sessions: Sessions | None
) -> Iterator[DataError]:
    """Replace ages by those of each participant's sessions.tsv, beside the table; name how many."""
    replaced = defaultdict(list)
    for subject, rows in subjects.items():
        path = table.parent / subject / f"{subject}_sessions.tsv"
        if not path.is_file():
            continue
        try:
            of_sessions, columns, _ = _read_rows(path)
            map_cells(of_sessions, columns, path)
        except DataError as error:
            yield error
            continue
        wanted = None if sessions is None else set(sessions.get(subject, ()))
        ages = [
            age
            for row in of_sessions
            if (age := age_of(row)) is not None and (wanted is None or _session(row) in wanted)
        ]
        if ages:
            mean = f"{sum(ages) / len(ages):g}"
            replaced["same" if {row.get("age") for row in rows} == {mean} else "other"].append(subject)
            for row in rows:
                row["age"] = mean
    if changed := replaced["other"]:
        yield DataError(
            "age is that of sessions.tsv, at the scan; the mean where several sessions take part",
            file=table,
            value=f"{len(changed)} participants, such as {changed[0]}",
            remedy="nothing to do; remove the column age of sessions.tsv if it is wrong",
        )


def visit_times(path: Path) -> dict[str, tuple[date | None, float | None]]:
    """Day (``acq_time``) and age (years) of each session of a sessions.tsv; None where it is not known."""
    rows, columns, _ = _read_rows(path)
    map_cells(rows, columns, path)
    return {_session(row): (_day(row.get("acq_time")), age_of(row)) for row in rows}


def _day(text: str | None) -> date | None:
    try:
        return date.fromisoformat((text or "")[:10])
    except ValueError:
        return None


def _session(row: Row) -> str:
    return "ses-" + (row.get("session_id") or "").strip().removeprefix("ses-")


def sessions_of_units(units: Iterable[Mapping[str, Any]]) -> dict[str, set[str]]:
    """Sessions of each participant, from rows with ``participant_id`` and ``session_id`` or ``unit``."""
    found: dict[str, set[str]] = defaultdict(set)
    for row in units:
        session = row.get("session_id") or str(row.get("unit") or "").partition("_")[2]
        if session:
            found[str(row["participant_id"])].add(str(session))
    return found


def _require_sound_rows(rows: list[Row], columns: list[str], path: str | Path) -> None:
    """Raise DataError where a column occurs twice, or a row has surplus or multi-line values."""
    if twice := sorted({name for name in columns if name and columns.count(name) > 1}):
        raise DataError(
            "table has columns of the same name",
            file=path,
            value=shown(", ".join(twice), path),
            remedy="keep one of them",
        )
    for row in rows:
        unnamed: Any = row.get(cast(str, None))  # csv stores values without a column under None
        surplus = any(unnamed or ())
        cells = [text for name, text in row.items() if name is not None and text]
        if not surplus and not any("\n" in text for text in cells):
            continue
        raise DataError(
            "row has more values than there are columns" if surplus else "a quote is not closed",
            file=path,
            value=shown((row["participant_id"] or "a row without participant_id").splitlines()[0], path),
            remedy="separate values by single tabs, and remove quotes and line breaks",
        )


def age_of(row: Row) -> float | None:
    """Age in years; None where it is missing or not plausible (``999``, a year of birth)."""
    age = number(row.get("age"))
    return age if age is not None and 0 <= age <= LIFETIME else None


def known_participants(path: str | Path, units: Iterable[Mapping[str, Any]] | None = None) -> dict[str, Row]:
    """Row of each participant, from a checked table; implausible ages become None.

    Parameters
    ----------
    path : path
        participants.tsv.
    units : iterable of mapping, optional
        Rows of the units that take part: of sessions.tsv only the ages of their sessions count.
    """
    sessions = None if units is None else sessions_of_units(units)
    subjects = {subject: rows[0] for subject, rows in read_participants(path, sessions).items()}
    for row in subjects.values():
        if "age" in row and age_of(row) is None:
            row["age"] = None
    return subjects


def check_participants(
    subjects: dict[str, list[Row]],
    with_scans: Iterable[str],
    require: tuple[str, ...],
    table: str | Path,
) -> dict[str, list[tuple[str, DataError]]]:
    """Check participants.tsv against the scans and the required columns.

    Parameters
    ----------
    subjects : dict of str to list of dict
        Rows of each participant, see `read_participants`.
    with_scans : iterable of str
        Participants that have scans.
    require : tuple of str
        Columns that must have a value, e.g. for a downstream target; ``age`` must be in years.
    table : path
        Named in the problems.

    Returns
    -------
    dict of str to list of (severity, DataError)
        By participant; an error means that none of their scans can be used.
    """
    with_scans = set(with_scans)
    found = {}
    for subject in sorted(with_scans | set(subjects)):
        rows = subjects.get(subject, [])
        problems = list(_duplicate_rows(rows, table))
        if subject in with_scans:
            problems += _missing_values(subject, rows, require, table)
        else:
            remedy = "add the scans, or remove the row"
            error = DataError("no scan of this participant", file=table, value=subject, remedy=remedy)
            problems.append(("note", error))
        if problems:
            found[subject] = problems
    return found


def _duplicate_rows(rows: list[Row], table: str | Path) -> Iterator[tuple[str, DataError]]:
    """Several rows of one participant: a note where they are equal, else an error."""
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
    subject: str, rows: list[Row], require: tuple[str, ...], table: str | Path
) -> Iterator[tuple[str, DataError]]:
    """Missing row or missing required values of a participant with scans."""
    if not rows:
        remedy = "add a row for this participant"
        error = DataError("not in participants.tsv", file=table, value=subject, remedy=remedy)
        yield "error" if require else "note", error
        return
    age = rows[0].get("age")
    if "age" not in require and age is not None and age_of(rows[0]) is None:
        remedy = "write years as a number, or n/a; the age is taken as unknown"
        yield "note", DataError(NO_AGE, file=table, value=shown(age, table), remedy=remedy)
    for column in require:
        value = cell(rows[0], column)
        if value is None or (column == "age" and age_of(rows[0]) is None):
            yield (
                "error",
                DataError(
                    f"{column} has no value" if value is None else NO_AGE,
                    file=table,
                    value=shown(value, table) if value else "n/a",
                    remedy=f"fill in {column}, or remove it from cohort.require",
                ),
            )
