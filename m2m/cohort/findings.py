"""Findings about the cohort, as rows of cohort_status.tsv."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from m2m.cohort.finding_codes import code_of
from m2m.io.errors import DataError, Finding
from m2m.io.tables import write_table

COLUMNS = ("unit", "stage", "severity", "code", "problem", "file", "value", "remedy")
# Of findings that are about no participant alone, in place of a unit.
COHORT = "cohort"


@dataclass(frozen=True)
class CohortFinding(Finding):
    """A finding, and whether it excludes a file (error) or nothing (note)."""

    severity: str = "error"


def finding(unit: str, error: DataError, severity: str = "error") -> CohortFinding:
    """Make the finding of a problem in a unit.

    Parameters
    ----------
    unit : str
    error : DataError
        The problem.
    severity : {"error", "note"}

    Returns
    -------
    CohortFinding
    """
    return CohortFinding(unit, "validate", error.problem, error.file, error.value, error.remedy, severity)


def write_findings(path: Path, findings: Iterable[CohortFinding]) -> None:
    """Write cohort_status.tsv: one row for each finding, with its code."""
    rows = ({**asdict(found), "code": code_of(found.problem)} for found in findings)
    write_table(path, ({key: value or None for key, value in row.items()} for row in rows), COLUMNS)
