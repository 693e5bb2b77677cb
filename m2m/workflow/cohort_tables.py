"""Selection of participants: the cohort's tables, read after the checkpoints have run."""

import functools
from pathlib import Path
from typing import Any

from m2m.io.tables import parse_table, read_table
from m2m.workflow.results_layout import Layout

Row = dict[str, str | None]


def modified(path: str) -> int:
    """Time of the last change of a file, in ns; cached content is valid until it changes."""
    return Path(path).stat().st_mtime_ns


@functools.cache
def _table(path: str, modified: int) -> list[Row]:
    return read_table(path)


def table(path: str) -> list[Row]:
    """Rows of a table, read again only when it has changed."""
    return _table(path, modified(path))


@functools.cache
def _lines(path: str, modified: int) -> tuple[str, dict[str, str]]:
    """Heading of a table, and its lines by their first field."""
    heading, *lines = Path(path).read_text(encoding="utf-8").split("\n")
    return heading, {line.partition("\t")[0]: line for line in lines}


@functools.cache
def _row(path: str, modified: int, first: str) -> Row:
    heading, lines = _lines(path, modified)
    return parse_table([heading, lines[first]])[0]


@functools.cache
def _positions(path: str, modified: int) -> dict[str | None, int]:
    return {row["unit"]: i for i, row in enumerate(_table(path, modified))}


class Cohort:
    """Units by their state, part of the split and fold.

    Parameters
    ----------
    files : Layout
    checkpoints : object
        Snakemake's: `split` and, for cross-fitting, `folds`. Their `get` is called before a table is
        read; where the table does not exist yet, Snakemake makes it and plans again.
    """

    def __init__(self, files: Layout, checkpoints: Any):
        self.files, self.checkpoints = files, checkpoints
        self._made: set[str] = set()

    def _need(self, checkpoint: str) -> None:
        """Stop Snakemake's planning where a checkpoint has not run; asked once, since this is slow."""
        if checkpoint not in self._made:
            getattr(self.checkpoints, checkpoint).get()
            self._made.add(checkpoint)

    def row(self, unit: str) -> Row:
        """Row of one unit; a job on a cluster parses only the row of its own participant."""
        self._need("split")
        return _row(self.files.units, modified(self.files.units), unit)

    def place(self, wildcards: Any) -> int:
        """Position of the wildcards' unit in the cohort's table."""
        return self.position(wildcards.unit)

    def position(self, unit: str) -> int:
        """Position of a unit in the cohort's table."""
        return _positions(self.files.units, modified(self.files.units))[unit]

    def stamp(self) -> tuple[int, ...]:
        """Times of the last changes of the tables: what is derived from them is valid until these change."""
        self._need("split")
        tables = (self.files.units, self.files.split, self.files.folds)
        return tuple(modified(path) for path in tables if Path(path).exists())

    def units(self, *states: str) -> list[str]:
        """Names of the units in any of these states, in the table's order."""
        self._need("split")
        return [row["unit"] or "" for row in table(self.files.units) if row["state"] in states]

    def paired(self, subjects: set[str]) -> list[str]:
        """Units of these participants that have both scans."""
        return [
            row["unit"] or ""
            for row in table(self.files.units)
            if row["state"] == "paired" and row["participant_id"] in subjects
        ]

    def of_part(self, *parts: str) -> list[str]:
        """Paired units whose participant is in any of these parts of the split."""
        self._need("split")
        rows = table(self.files.split)
        return self.paired({row["participant_id"] or "" for row in rows if row["part"] in parts})

    def of_fold(self, fold: int | str, inside: bool = True) -> list[str]:
        """Paired units whose participant is in a fold, or, where not `inside`, in the other folds."""
        self._need("folds")
        rows = table(self.files.folds)
        return self.paired({row["participant_id"] or "" for row in rows if (row["fold"] == str(fold)) == inside})
