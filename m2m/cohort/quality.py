"""Collect the results of every stage: one row per unit, and the flow of the cohort."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from m2m.cohort.participants import Row
from m2m.cohort.split import load_split, part_by_participant
from m2m.io.bids import unit_path
from m2m.io.files import read_json, write_json
from m2m.io.tables import read_table, write_table

# Stages by a unit's state, in their order. A failed preprocessing is recorded in the status of dti.
STAGES = {
    "paired": ("dti", "anat", "grid"),
    "t1w-only": ("anat",),
    "dwi-only": ("dti",),
    "failed": (),
    "excluded": (),
}
# Further stages of units with a T1, where a model uses them: a failure counts, their absence does not.
OPTIONAL = ("deform",)
COLUMNS = ("unit", "participant_id", "session_id", "part", "state", "stage", "reason")
NOT_RUN = "not run"
# Keys of a status file that are not quality measures.
_RECORD = ("unit", "stage", "status")


def read_statuses(root: str | Path, unit: Row) -> dict[str, dict[str, Any]]:
    """Read a unit's status files; a stage that has not run has none.

    Parameters
    ----------
    root : path
        The derivative dataset.
    unit : dict
        Row of units.tsv.

    Returns
    -------
    dict of str to dict
        By stage, in the order of `STAGES` and `OPTIONAL`; a file left over from a scan that is no longer used is
        not read.
    """
    where = unit["folder"] or "", unit["unit"] or ""
    stages = STAGES[unit["state"] or ""]
    if "anat" in stages:
        stages = (*stages, *OPTIONAL)
    paths = {stage: Path(unit_path(root, f"{stage}-status", *where)) for stage in stages}
    return {stage: read_json(path) for stage, path in paths.items() if path.exists()}


def outcome(unit: Row, statuses: Mapping[str, Mapping[str, Any]]) -> tuple[str, str, str]:
    """State of a unit, from its row and its statuses.

    Parameters
    ----------
    unit : dict
        Row of units.tsv.
    statuses : mapping of str to mapping
        From `read_statuses`.

    Returns
    -------
    state : str
        ``failed`` (bad data), ``excluded`` (thresholds, or the user's table), ``incomplete``
        (one scan missing or bad, or a stage has not run) or ``used``.
    stage, reason : str
        Stage and reason of the exclusion; empty for ``used``.
    """
    if unit["state"] in ("failed", "excluded"):
        return unit["state"], "validate", unit["reason"] or ""
    for stage, status in statuses.items():  # what a later stage finds follows from the first problem
        if status["status"] == "failed":
            return "failed", stage, status["finding"]["problem"]
        if status.get("excluded"):
            return "excluded", stage, "; ".join(status["excluded"])
    if unit["state"] != "paired":
        return "incomplete", "validate", unit["reason"] or ""
    for stage in STAGES["paired"]:
        if stage not in statuses:
            return "incomplete", stage, NOT_RUN
    return "used", "", ""


def outcome_of_t1(unit: Row, root: str | Path) -> tuple[str, str, str]:
    """State of a unit in a study that needs nothing but a T1, as `outcome`: its DWI counts neither way."""
    alone = {**unit, "state": "t1w-only"} if unit["state"] == "paired" else unit
    state, stage, reason = outcome(alone, read_statuses(root, alone))
    return ("used", "", "") if (alone["state"], state) == ("t1w-only", "incomplete") else (state, stage, reason)


def numbers(statuses: Mapping[str, Mapping[str, Any]]) -> dict[str, float | str]:
    """Numbers and texts of all statuses (no lists), named by stage: ``grid_coverage``."""
    return {
        f"{stage}_{key}": value
        for stage, status in statuses.items()
        for key, value in status.items()
        if key not in _RECORD and isinstance(value, (int, float, str))
    }


def gather(units: Iterable[Row], parts: Mapping[str, str], root: str | Path) -> list[dict]:
    """Describe every unit in a row: `COLUMNS`, then its quality numbers.

    Parameters
    ----------
    units : iterable of dict
        Rows of units.tsv.
    parts : mapping of str to str
        Part by participant; only units with both scans have one.
    root : path
        The derivative dataset with the status files.

    Returns
    -------
    list of dict
    """
    rows = []
    for unit in units:
        statuses = read_statuses(root, unit)
        state, stage, reason = outcome(unit, statuses)
        row: dict[str, Any] = {key: unit[key] for key in ("unit", "participant_id", "session_id")}
        row["part"] = parts.get(unit["participant_id"] or "") if unit["state"] == "paired" else None
        row |= {"state": state, "stage": stage or None, "reason": reason or None}
        rows.append(row | numbers(statuses))
    return rows


def count_flow(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Count the units of each state.

    Parameters
    ----------
    rows : iterable of mapping
        Rows of `gather` or `load_quality`, all or those of one part.

    Returns
    -------
    dict
        ``n_input`` = ``n_failed`` + ``n_excluded`` + ``n_incomplete`` + ``n_used``, and
        ``reasons``: number of units by state and reason.
    """
    rows = list(rows)
    states = Counter(row["state"] for row in rows)
    reasons: dict[str, Counter] = {
        "failed": Counter(),
        "excluded": Counter(),
        "incomplete": Counter(),
    }
    for row in rows:
        if row["state"] != "used":
            reasons[row["state"]][f"{row['stage']}: {row['reason']}"] += 1
    return {
        "n_input": len(rows),
        **{f"n_{state}": states[state] for state in (*reasons, "used")},
        "reasons": {state: dict(count.most_common()) for state, count in reasons.items()},
    }


def load_quality(table: str | Path) -> list[dict[str, Any]]:
    """Load quality.tsv, with numbers as float."""

    def value(column: str, text: str | None) -> Any:
        if text is None or column in COLUMNS:
            return text
        try:
            return float(text)
        except ValueError:
            return text

    return [{k: value(k, v) for k, v in row.items()} for row in read_table(table)]


def used_units(rows: Iterable[Mapping[str, Any]], part: str | None = None) -> list[str]:
    """Names of the used units, all or those of one part of the split."""
    return [row["unit"] for row in rows if row["state"] == "used" and part in (None, row["part"])]


def main(
    units: Annotated[Path, typer.Option(help="Units, from `m2m validate`.")],
    split: Annotated[Path, typer.Option(help="split.tsv")],
    split_record: Annotated[Path, typer.Option(help="split.json")],
    root: Annotated[Path, typer.Option(help="Derivative dataset, e.g. results/demo.")],
    table: Annotated[Path, typer.Option(help="quality.tsv to write.")],
    flow: Annotated[Path, typer.Option(help="flow.json to write.")],
) -> None:
    """Collect the status and quality measures of every unit."""
    rows = gather(read_table(units), part_by_participant(load_split(split, split_record)), root)
    measured = sorted({key for row in rows for key in row} - set(COLUMNS))
    write_table(table, rows, [*COLUMNS, *measured])
    counts = count_flow(rows)
    write_json(flow, counts)
    print(", ".join(f"{key} {value}" for key, value in counts.items() if key != "reasons"))
