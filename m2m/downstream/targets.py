"""Phenotypes from participants.tsv: which can be predicted, for whom, and why others cannot."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m2m.cohort.participants import Row, number
from m2m.downstream.prediction import Kind


@dataclass(frozen=True)
class Target:
    """A phenotype of some people.

    Attributes
    ----------
    name : str
        Column of participants.tsv.
    kind : {'regression', 'classification'}
    people : list of str
        Those whose value is known.
    y : ndarray, shape (people,)
        Numbers, or the index of each person's class.
    classes : tuple of str
        Sorted; none of a number.
    n_missing : int
        People left out because their value is missing, or is no number where one is needed.
    """

    name: str
    kind: Kind
    people: list[str]
    y: NDArray[np.float64] | NDArray[np.intp]
    classes: tuple[str, ...]
    n_missing: int


class RefusedTarget(Exception):
    """A phenotype that cannot be predicted; its text is the reason."""


def read_target(
    name: str, kind: Kind, people: Sequence[str], table: Mapping[str, Row], min_people: int
) -> Target:
    """Read a phenotype, and refuse it where nothing could be learnt or shown.

    Parameters
    ----------
    name : str
        Column of participants.tsv.
    kind : {'regression', 'classification'}
    people : sequence of str
        Participants with features.
    table : mapping of str to dict
        Row of each participant.
    min_people : int
        Least number of people (regression), or of people in each class.

    Raises
    ------
    RefusedTarget
        There is no such column, its values do not vary, they are too few, or sites and values
        are the same thing.
    """
    if not any(name in row for row in table.values()):
        known = sorted({column for row in table.values() for column in row} - {"participant_id"})
        raise RefusedTarget(f"participants.tsv has no column {name}; it has {', '.join(known)}")
    read = number if kind == "regression" else str
    cells = {person: table.get(person, {}).get(name) for person in people}
    found = {person: read(cell) for person, cell in cells.items() if cell is not None}
    found = {person: value for person, value in found.items() if value is not None}
    values = list(found.values())
    _refuse(kind, values, min_people)
    _refuse_site(kind, found, table)
    classes = tuple(sorted(set(values))) if kind == "classification" else ()
    y = np.array([classes.index(v) for v in values]) if classes else np.array(values)
    return Target(name, kind, list(found), y, classes, len(people) - len(found))


def _refuse(kind: Kind, values: Sequence, least: int) -> None:
    """Refuse values that do not vary or are too few."""
    if len(set(values)) < 2:
        only = f"all {len(values)} are {values[0]}" if values else "nobody has a value"
        raise RefusedTarget(f"it does not vary: {only}")
    if kind == "regression" and len(values) < least:
        raise RefusedTarget(f"{len(values)} people have a value, downstream.min_people is {least}")
    counts = Counter(values) if kind == "classification" else {}
    if few := [f"{c} ({n})" for c, n in sorted(counts.items()) if n < least]:
        raise RefusedTarget(
            f"classes with fewer than downstream.min_people, {least}: {', '.join(few)}"
        )


def _refuse_site(kind: Kind, values: Mapping[str, object], table: Mapping[str, Row]) -> None:
    """Refuse a phenotype that is the same for everybody of a site: who tells sites apart wins."""
    by_site: dict[str | None, set] = {}
    for person, value in values.items():
        by_site.setdefault(table[person].get("site"), set()).add(value)
    if len(by_site) > 1 and all(len(found) == 1 for found in by_site.values()):
        raise RefusedTarget(
            "it is perfectly confounded with site: everybody of a site has the same value"
        )
