"""Phenotypes from participants.tsv: which can be predicted, for whom, and why others cannot."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m2m.cohort.spellings import Row, cell, heading, number
from m2m.downstream.prediction import Kind


@dataclass(frozen=True)
class Target:
    """A phenotype of some participants.

    Attributes
    ----------
    name : str
        Column of participants.tsv.
    kind : {'regression', 'classification'}
    subjects : list of str
        Participants whose value is known.
    y : ndarray, shape (participants,)
        Numbers, or the index of each participant's class.
    classes : tuple of str
        Sorted; empty for a number.
    n_missing : int
        Participants left out because their value is missing, or not a number in a regression.
    """

    name: str
    kind: Kind
    subjects: list[str]
    y: NDArray[np.float64] | NDArray[np.intp]
    classes: tuple[str, ...]
    n_missing: int


class RefusedTarget(Exception):
    """A phenotype that cannot be predicted; its text is the reason."""


def read_target(name: str, kind: Kind, subjects: Sequence[str], table: Mapping[str, Row], min_subjects: int) -> Target:
    """Read a phenotype, and refuse it where no predictor could be fitted or tested.

    Parameters
    ----------
    name : str
        Column of participants.tsv.
    kind : {'regression', 'classification'}
    subjects : sequence of str
        Participants with features.
    table : mapping of str to dict
        Row of each participant.
    min_subjects : int
        Least number of participants (regression), or of participants in each class.

    Returns
    -------
    Target

    Raises
    ------
    RefusedTarget
        There is no such column, its values do not vary, they are too few, or each site has one
        value only.
    """
    if not any(name in row or heading(name) in row for row in table.values()):
        known = sorted({column for row in table.values() for column in row} - {"participant_id"})
        raise RefusedTarget(f"participants.tsv has no column {name}; it has {', '.join(known)}")
    read = number if kind == "regression" else str
    cells = {subject: cell(table.get(subject, {}), name) for subject in subjects}
    found = {subject: read(text) for subject, text in cells.items() if text is not None}
    found = {subject: value for subject, value in found.items() if value is not None}
    values = list(found.values())
    _refuse(kind, values, min_subjects)
    _refuse_site(kind, found, table)
    classes = tuple(sorted({str(value) for value in values})) if kind == "classification" else ()
    y = np.array([classes.index(str(v)) for v in values]) if classes else np.array(values)
    return Target(name, kind, list(found), y, classes, len(subjects) - len(found))


def _refuse(kind: Kind, values: Sequence, least: int) -> None:
    """Refuse values that do not vary or are too few."""
    if len(set(values)) < 2:
        only = f"all {len(values)} are {values[0]}" if values else "no participant has a value"
        raise RefusedTarget(f"it does not vary: {only}")
    if kind == "regression" and len(values) < least:
        raise RefusedTarget(f"{len(values)} participants have a value, downstream.min_subjects is {least}")
    counts = Counter(values) if kind == "classification" else {}
    if few := [f"{c} ({n})" for c, n in sorted(counts.items()) if n < least]:
        raise RefusedTarget(f"classes with fewer than downstream.min_subjects, {least}: {', '.join(few)}")


def _refuse_site(kind: Kind, values: Mapping[str, object], table: Mapping[str, Row]) -> None:
    """Refuse a phenotype with one value per site: a predictor that recognises sites would predict it."""
    by_site: dict[str | None, set] = {}
    for subject, value in values.items():
        by_site.setdefault(table[subject].get("site"), set()).add(value)
    if len(by_site) > 1 and all(len(found) == 1 for found in by_site.values()):
        raise RefusedTarget("it is perfectly confounded with site: every participant of a site has the same value")
