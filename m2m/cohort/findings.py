"""Findings about the cohort, as rows of cohort_status.tsv."""

from dataclasses import dataclass

from m2m.io.errors import DataError, Finding

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
