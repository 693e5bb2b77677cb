"""Tables as TSV, as BIDS writes them; standard library only, so that the workflow parses fast."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from m2m.io.files import whole


def write_table(
    path: str | Path, rows: Iterable[Mapping[str, Any]], columns: Sequence[str]
) -> None:
    """Write rows as TSV; a missing or None value becomes ``n/a``, as BIDS asks."""
    with whole(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
        writer.writerow(columns)
        for row in rows:
            values = (row.get(column) for column in columns)
            writer.writerow(["n/a" if value is None else value for value in values])


def read_table(path: str | Path) -> list[dict[str, str | None]]:
    """Read a TSV; ``n/a`` becomes None. Standard library only, so the workflow parses fast."""
    with Path(path).open(encoding="utf-8-sig", newline="") as stream:  # spreadsheets add a mark
        return parse_table(stream)


def parse_table(lines: Iterable[str]) -> list[dict[str, str | None]]:
    """Rows of a TSV from its lines, the first being the heading; ``n/a`` becomes None."""
    rows = csv.DictReader(lines, delimiter="\t")
    return [{k: None if v in ("n/a", "") else v for k, v in row.items()} for row in rows]
