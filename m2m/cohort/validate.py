"""Decide who is in, before any work: every scan checked, every finding with its remedy.

A finding of severity ``error`` costs its unit a file; a ``note`` costs nothing.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from m2m.cohort.checks import Checked
from m2m.cohort.participants import Row, check_people, participant_id, read_people
from m2m.cohort.scans import check_scans, copies
from m2m.io.bids import unit_folder
from m2m.io.errors import DataError, Finding
from m2m.io.tables import read_table, write_table
from m2m.options import Cohort
from m2m.options.configured import section_of
from m2m.options.stage_flags import ConfigFile

UNIT_COLUMNS = (
    "unit", "folder", "participant_id", "session_id",
    "t1w", "t1w_mask", "dwi", "bval", "bvec", "dwi_mask", "state", "reason",
)  # fmt: skip
STATUS_COLUMNS = ("unit", "stage", "severity", "problem", "file", "value", "remedy")
USABLE = ("paired", "t1w-only", "dwi-only")
NAMES = {"T1w": "T1w", "dwi": "DWI"}
FOLDERS = {"T1w": "anat", "dwi": "dwi"}
LOSS = {
    "T1w": "without it the DWI is fitted and nothing is translated",
    "dwi": "without it the T1w is translated, neither trained nor tested on",
}


@dataclass(frozen=True)
class CohortFinding(Finding):
    """A finding, and whether it costs its unit a file (error) or nothing (note)."""

    severity: str = "error"


def finding(unit: str, error: DataError, severity: str = "error") -> CohortFinding:
    """Name the unit in which a problem was found."""
    return CohortFinding(
        unit, "validate", error.problem, error.file, error.value, error.remedy, severity
    )


def sessions_of(rows: list[Row]) -> Iterator[tuple[str | None, list[Row]]]:
    """Divide one person's scans into sessions.

    A T1 without a session (fMRIPrep's and QSIPrep's average over sessions) belongs to every
    session that has none of its own; so does a DWI.
    """
    sessions = sorted({row["session_id"] for row in rows if row["session_id"]}) or [None]
    for session in sessions:
        own = [row for row in rows if row["session_id"] == session]
        shared = [row for row in rows if row["session_id"] is None] if session else []
        suffixes = {row["suffix"] for row in own}
        yield session, own + [row for row in shared if row["suffix"] not in suffixes]


def choose_scan(
    unit: str, suffix: str, rows: list[Row], checked: dict[str, Checked]
) -> tuple[Row | None, str, list[CohortFinding]]:
    """Choose a unit's T1 or DWI: among sound ones, most directions, then first by path.

    Returns
    -------
    row : dict or None
    reason : str
        Why there is none; empty where there is one.
    findings : list of CohortFinding
    """
    if not rows:
        problem = f"no {NAMES[suffix]} in the dataset"
        place = f"{unit_folder(unit)}/{FOLDERS[suffix]}/{unit}_{suffix}.nii.gz"
        error = DataError(problem, file=place, value="0 scans", remedy=f"add it; {LOSS[suffix]}")
        return None, problem, [finding(unit, error)]
    findings = [finding(unit, problem) for row in rows for problem in checked[row["path"]].problems]
    sound = [row for row in rows if not checked[row["path"]].problems]
    if not sound:
        return None, f"{NAMES[suffix]}: {findings[0].problem}", findings
    chosen = min(sound, key=lambda row: (-checked[row["path"]].n_directions, row["path"]))
    findings += [finding(unit, p) for p in checked[chosen["path"]].mask_problems]
    for row in sound:
        if row is not chosen:
            note = DataError(
                f"another {NAMES[suffix]} of this unit is used",
                file=row["path"],
                value=f"used: {chosen['path']}",
                remedy="nothing to do; to choose otherwise, take the other out of the dataset",
            )
            findings.append(finding(unit, note, "note"))
    return chosen, "", findings


def build_unit(
    person: str, session: str | None, rows: list[Row], checked: dict[str, Checked]
) -> tuple[Row, list[CohortFinding]]:
    """Build a unit's row of units.tsv from its scans, with the findings on the way."""
    unit = _unit_name(person, session)
    t1w, no_t1w, findings = choose_scan(
        unit, "T1w", [row for row in rows if row["suffix"] == "T1w"], checked
    )
    dwi, no_dwi, more = choose_scan(
        unit, "dwi", [row for row in rows if row["suffix"] == "dwi"], checked
    )
    states = {(1, 1): "paired", (1, 0): "t1w-only", (0, 1): "dwi-only", (0, 0): "failed"}

    def mask(row: Row | None) -> str | None:
        return row["mask"] if row and not checked[row["path"]].mask_problems else None

    row = _empty_unit(person, session) | {
        "t1w": t1w and t1w["path"],
        "t1w_mask": mask(t1w),
        "dwi": dwi and dwi["path"],
        "bval": dwi and dwi["bval"],
        "bvec": dwi and dwi["bvec"],
        "dwi_mask": mask(dwi),
        "state": states[bool(t1w), bool(dwi)],
        "reason": "; ".join(filter(None, (no_t1w, no_dwi))) or None,
    }
    return row, findings + more


def _unit_name(person: str, session: str | None) -> str:
    """Name a unit; unlike `bids.unit_name` also one whose labels BIDS forbids, to report it."""
    return "_".join(filter(None, (person, session)))


def _empty_unit(person: str, session: str | None, **values: str) -> Row:
    """Give a unit's row without scans."""
    unit = _unit_name(person, session)
    row = dict.fromkeys(UNIT_COLUMNS) | {"unit": unit, "folder": unit_folder(unit)}
    return row | {"participant_id": person, "session_id": session} | values


def build_units(
    manifest: list[Row],
    checked: dict[str, Checked],
    excluded: dict[str, str],
    people: dict[str, list[tuple[str, DataError]]],
) -> tuple[list[Row], list[CohortFinding]]:
    """Decide every unit's state.

    Parameters
    ----------
    manifest : list of dict
        Scans of those who are looked at.
    checked : dict of str to Checked
        By path; not needed for the excluded and for those with an error in `people`.
    excluded : dict of str to str
        Reason by participant, from the user's table.
    people : dict of str to list of (severity, DataError)
        From `check_people`.

    Returns
    -------
    units : list of dict
        Rows of `UNIT_COLUMNS`, by name.
    findings : list of CohortFinding
        Those of participants without any unit come last.
    """
    scans: dict[str, list[Row]] = defaultdict(list)
    for row in manifest:
        if row["suffix"] in NAMES:
            scans[row["participant_id"]].append(row)
    units, findings = [], []
    for person in sorted(scans):
        about = people.get(person, [])
        errors = [error for severity, error in about if severity == "error"]
        for session, rows in sessions_of(scans[person]):
            unit = _unit_name(person, session)
            if person in excluded:
                state, reason = "excluded", excluded[person]
                units.append(_empty_unit(person, session, state=state, reason=reason))
                continue
            findings += [finding(unit, error, severity) for severity, error in about]
            if errors:
                reason = "; ".join(error.problem for error in errors)
                units.append(_empty_unit(person, session, state="failed", reason=reason))
                continue
            row, found = build_unit(person, session, rows, checked)
            units.append(row)
            findings += found
    for person in sorted(set(people) - set(scans)):
        findings += [finding(person, error, severity) for severity, error in people[person]]
    return units, findings


def read_exclusions(path: Path | None) -> dict[str, str]:
    """Read the user's table of exclusions: the reason by participant."""
    if path is None:
        return {}
    return {
        person: rows[0].get("reason") or "excluded by the user's table"
        for person, rows in read_people(path).items()
    }


def unknown_people(cohort: Cohort, known: set[str]) -> list[CohortFinding]:
    """Note those whom the configuration names and the dataset does not have."""
    named = {
        participant_id(label): "cohort.participant_label" for label in cohort.participant_label
    }
    named |= dict.fromkeys(read_exclusions(cohort.exclude), str(cohort.exclude))
    remedy = "correct the label, or take it out"
    return [
        finding(
            person,
            DataError("named here, without a scan", file=where, value=person, remedy=remedy),
            "note",
        )
        for person, where in sorted(named.items())
        if person not in known
    ]


def validate(
    manifest: list[Row], cohort: Cohort, participants: Path | None = None, threads: int = 1
) -> tuple[list[Row], list[CohortFinding]]:
    """Check everybody and every scan; see `build_units` for what comes out."""
    unknown = unknown_people(cohort, {row["participant_id"] for row in manifest})
    people = read_people(participants) if participants else {}
    if cohort.participant_label:
        chosen = set(map(participant_id, cohort.participant_label))
        manifest = [row for row in manifest if row["participant_id"] in chosen]
        people = {person: rows for person, rows in people.items() if person in chosen}
    excluded = read_exclusions(cohort.exclude)
    about = {}
    if participants or cohort.require:
        with_scans = {row["participant_id"] for row in manifest}
        about = check_people(people, with_scans, cohort.require, participants or "participants.tsv")
    out = set(excluded) | {p for p in about if any(severity == "error" for severity, _ in about[p])}
    scans = [row for row in manifest if row["suffix"] in NAMES and row["participant_id"] not in out]
    checked = check_scans(scans, cohort.check_voxels, threads)
    units, findings = build_units(manifest, checked, excluded, about)
    if cohort.check_voxels:
        owner = {row[scan]: row["unit"] for row in reversed(units) for scan in ("t1w", "dwi")}
        same = copies([row for row in scans if row["path"] in owner])
        findings += [finding(owner[path], error, "note") for path, error in same.items()]
    return units, findings + unknown


def main(
    manifest: Annotated[Path, typer.Option(help="One row per scan, from `m2m index`.")],
    units: Annotated[Path, typer.Option(help="Table to write: who is in, with which files.")],
    status: Annotated[Path, typer.Option(help="Table to write: every finding.")],
    participants: Annotated[Path | None, typer.Option(help="participants.tsv")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Processes that read scans.")] = 1,
    options: Annotated[str | None, typer.Option(help="JSON of the section `cohort`.")] = None,
    config: ConfigFile = None,
) -> None:
    """Check scans by header, gradients and voxels; decide who is in."""
    cohort = section_of("cohort", config, options, needed=False)
    rows, findings = validate(read_table(manifest), cohort, participants, threads)
    write_table(units, rows, UNIT_COLUMNS)
    write_table(
        status,
        ({k: v if v != "" else None for k, v in asdict(f).items()} for f in findings),
        STATUS_COLUMNS,
    )
    for found in findings:
        print(f"{found.severity}: {found}")
    count = Counter(row["state"] for row in rows)
    summary = ", ".join(f"{n} {state}" for state, n in sorted(count.items())) or "none"
    print(f"{len(rows)} units: {summary}")
    if not any(count[state] for state in USABLE):
        raise DataError(
            "the cohort is empty: no unit has a usable scan",
            file=manifest,
            value=f"units: {summary}",
            remedy="the findings above say why, and what to do",
        )
