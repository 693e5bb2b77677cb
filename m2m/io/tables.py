"""Tables as TSV, as BIDS writes them; standard library only, so that the workflow parses fast."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from m2m.io.files import read_text, require_regular, whole
from m2m.io.quoting import printable


def write_table(path: str | Path, rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Write rows as TSV; a missing or None value becomes ``n/a``, as BIDS requires.

    Control characters in texts, such as line breaks, become escapes (`m2m.io.quoting.printable`).

    Parameters
    ----------
    path : path
    rows : iterable of mapping
        Values by column.
    columns : sequence of str
        Heading, in this order.
    """
    with whole(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
        writer.writerow(columns)
        for row in rows:
            values = (row.get(column) for column in columns)
            writer.writerow(["n/a" if value is None else _cell(value) for value in values])


def _cell(value: Any) -> Any:
    """A value in one line: a cell with a line break would be two rows to who splits a table into lines."""
    return printable(value) if isinstance(value, str) else value


def read_table(path: str | Path) -> list[dict[str, str | None]]:
    """Read a TSV; ``n/a`` becomes None. DataError where a pipe or a device lies in its place."""
    if Path(path).exists():
        require_regular(path, "table")
    with Path(path).open(encoding="utf-8-sig", newline="") as stream:  # spreadsheets add a byte order mark
        return parse_table(stream)


def parse_table(lines: Iterable[str]) -> list[dict[str, str | None]]:
    """Rows of a TSV from its lines, the first being the heading; ``n/a`` becomes None."""
    rows = csv.DictReader(lines, delimiter="\t")
    return [{k: None if v in ("n/a", "") else v for k, v in row.items()} for row in rows]


def read_numbers(path: str | Path) -> list[list[float]]:
    """Read rows of numbers from a text file; empty lines and comments (``#``) are left out.

    Raises
    ------
    OSError
        It is missing or cannot be opened.
    ValueError
        It is no such table. The message names the place; it does not quote the file, which may be a link to any other.
    """
    rows = []
    for number, line in enumerate(filter(str.strip, read_text(path).splitlines()), start=1):
        if line.lstrip().startswith("#"):
            continue
        try:
            rows.append([float(text) for text in line.split()])
        except ValueError:
            raise ValueError(f"row {number} holds something other than numbers") from None
    if len({len(row) for row in rows}) > 1:
        raise ValueError(f"its rows have {[len(row) for row in rows[:8]]} values")
    return rows
