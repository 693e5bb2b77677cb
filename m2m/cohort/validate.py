"""Check every scan and decide which units take part; each finding has a remedy.

A finding of severity ``error`` excludes a file; a ``note`` excludes nothing.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from m2m.cohort.checks import Checked
from m2m.cohort.choice import NAMES, choose_scan, path_of
from m2m.cohort.findings import COHORT, CohortFinding, finding, write_findings
from m2m.cohort.gradients import DEFAULT_FIT
from m2m.cohort.participants import Row, check_participants, participant_id, read_participants, read_with_findings
from m2m.cohort.scans import check_scans, copies
from m2m.io.bids import is_unit, unit_folder
from m2m.io.errors import DataError
from m2m.io.tables import read_table, write_table
from m2m.options import Cohort, Dti
from m2m.options.configured import section_of
from m2m.options.stage_flags import ConfigFile

UNIT_COLUMNS = (
    "unit",
    "folder",
    "participant_id",
    "session_id",
    "t1w",
    "t1w_mask",
    "dwi",
    "bval",
    "bvec",
    "joined",
    "dwi_mask",
    "state",
    "reason",
)
USABLE = ("paired", "t1w-only", "dwi-only")


def sessions_of(rows: list[Row]) -> Iterator[tuple[str | None, list[Row]]]:
    """Divide one participant's scans into sessions.

    A T1 without a session (fMRIPrep's and QSIPrep's average over sessions) is used for every
    session without a T1; likewise a DWI.

    Yields
    ------
    session : str or None
    rows : list of dict
        Its scans.
    """
    named = sorted({row["session_id"] for row in rows if row["session_id"]})
    sessions: list[str | None] = [*named] if named else [None]
    for session in sessions:
        own = [row for row in rows if row["session_id"] == session]
        shared = [row for row in rows if row["session_id"] is None] if session else []
        suffixes = {row["suffix"] for row in own}
        yield session, own + [row for row in shared if row["suffix"] not in suffixes]


def build_unit(
    subject: str,
    session: str | None,
    rows: list[Row],
    checked: dict[str, Checked],
    fit: Dti = DEFAULT_FIT,
    others: Sequence[tuple[Row, str]] = (),
) -> tuple[Row, list[CohortFinding]]:
    """Build a unit's row of units.tsv from its scans.

    Parameters
    ----------
    subject : str
        ``sub-01``.
    session : str or None
        ``ses-1``.
    rows : list of dict
        The unit's scans, rows of the manifest.
    checked : dict of str to Checked
        By path.
    fit : Dti
        Whose shells count.
    others : sequence of (dict, str)
        Scans of this participant that are not taken, and why not.

    Returns
    -------
    row : dict
        Values of `UNIT_COLUMNS`.
    findings : list of CohortFinding
    """
    unit = _unit_name(subject, session)
    t1w, dwi = (
        choose_scan(
            unit,
            suffix,
            [row for row in rows if row["suffix"] == suffix],
            checked,
            fit,
            {path_of(row): why for row, why in others if row["suffix"] == suffix},
        )
        for suffix in NAMES
    )
    states = {(1, 1): "paired", (1, 0): "t1w-only", (0, 1): "dwi-only", (0, 0): "failed"}

    def mask(row: Row | None) -> str | None:
        return row["mask"] if row and not checked[path_of(row)].mask_problems else None

    joined = [[series[name] for name in ("path", "bval", "bvec")] for series in dwi.joined]
    row = _empty_unit(subject, session) | {
        "t1w": t1w.row["path"] if t1w.row else None,
        "t1w_mask": mask(t1w.row),
        "dwi": dwi.row["path"] if dwi.row else None,
        "bval": dwi.row["bval"] if dwi.row else None,
        "bvec": dwi.row["bvec"] if dwi.row else None,
        "joined": json.dumps(joined) if joined else None,
        "dwi_mask": mask(dwi.row),
        "state": states[bool(t1w.row), bool(dwi.row)],
        "reason": "; ".join(filter(None, (t1w.reason, dwi.reason))) or None,
    }
    return row, t1w.findings + dwi.findings


def t1w_of_other_session(
    session: str | None, rows: list[Row], scans: list[Row], checked: dict[str, Checked]
) -> list[Row]:
    """Valid T1w of the nearest session, in the order of their labels, for a session that has a DWI only.

    Parameters
    ----------
    session : str or None
    rows : list of dict
        The session's scans.
    scans : list of dict
        The participant's scans.
    checked : dict of str to Checked
        By path.

    Returns
    -------
    list of dict
        Empty where the session has a T1w or no DWI.
    """
    if {row["suffix"] for row in rows} != {"dwi"} or session is None:
        return []
    valid = [row for row in scans if row["suffix"] == "T1w" and not checked[path_of(row)].problems]
    order = sorted({row["session_id"] for row in scans if row["session_id"]})
    distance = {name: (abs(order.index(name) - order.index(session)), order.index(name)) for name in order}
    nearest = min((row["session_id"] for row in valid if row["session_id"]), key=distance.__getitem__, default=None)
    return [row for row in valid if row["session_id"] == nearest]


def _other_session_note(row: Row, session: str | None) -> DataError:
    return DataError(
        "the T1w of another session is paired with this DWI",
        file=path_of(row),
        value=f"{row['session_id']} for {session}",
        remedy="nothing to do if the brain has not changed between them; else cohort.t1w_of_other_session: false",
    )


def _scans_not_taken(session: str | None, rows: list[Row], scans: list[Row]) -> list[tuple[Row, str]]:
    """Scans of a participant that a session does not use, and why not."""
    elsewhere = [row for row in scans if not row.get("left_out") and row not in rows]
    left_out = [row for row in scans if row.get("left_out") and row["session_id"] in (session, None)]
    return [(row, row["left_out"] or "") for row in left_out] + [
        (row, f"is of another session ({row['session_id']})") for row in elsewhere
    ]


def _unit_name(subject: str, session: str | None) -> str:
    """Name a unit; unlike `bids.unit_name`, labels that BIDS forbids are allowed, to report them."""
    return "_".join(filter(None, (subject, session)))


def _folder(unit: str) -> str | None:
    """Folder of a unit's results; None for a name that BIDS forbids, which has none."""
    return unit_folder(unit) if is_unit(unit) else None


def _empty_unit(subject: str, session: str | None, **values: str) -> Row:
    """Row of a unit without scans."""
    unit = _unit_name(subject, session)
    row: Row = dict.fromkeys(UNIT_COLUMNS) | {"unit": unit, "folder": _folder(unit)}
    return row | {"participant_id": subject, "session_id": session} | values


def build_units(
    manifest: list[Row],
    checked: dict[str, Checked],
    excluded: dict[str, str],
    subjects: dict[str, list[tuple[str, DataError]]],
    fit: Dti = DEFAULT_FIT,
    pair_sessions: bool = False,
) -> tuple[list[Row], list[CohortFinding]]:
    """Decide every unit's state.

    Parameters
    ----------
    manifest : list of dict
        Scans of the selected participants.
    checked : dict of str to Checked
        By path; not needed for participants that are excluded or have an error in `subjects`.
    excluded : dict of str to str
        Reason by participant, from the user's table.
    subjects : dict of str to list of (severity, DataError)
        From `check_participants`.
    fit : Dti
        Whose shells count.
    pair_sessions : bool
        Whether a session with a DWI only gets the T1w of another session.

    Returns
    -------
    units : list of dict
        Rows of `UNIT_COLUMNS`, by name.
    findings : list of CohortFinding
        Those of participants without a unit are last.
    """
    scans: dict[str, list[Row]] = defaultdict(list)
    every: dict[str, list[Row]] = defaultdict(list)
    for row in manifest:
        if row["suffix"] in NAMES:
            every[row["participant_id"] or ""].append(row)
            if not row.get("left_out"):
                scans[row["participant_id"] or ""].append(row)
    units, findings = [], []
    for subject in sorted(scans):
        about = subjects.get(subject, [])
        errors = [error for severity, error in about if severity == "error"]
        for session, rows in sessions_of(scans[subject]):
            unit = _unit_name(subject, session)
            if subject in excluded:
                state, reason = "excluded", excluded[subject]
                units.append(_empty_unit(subject, session, state=state, reason=reason))
                continue
            findings += [finding(unit, error, severity) for severity, error in about]
            if errors:
                reason = "; ".join(error.problem for error in errors)
                units.append(_empty_unit(subject, session, state="failed", reason=reason))
                continue
            others = _scans_not_taken(session, rows, every[subject])
            if pair_sessions and (found_t1 := t1w_of_other_session(session, rows, scans[subject], checked)):
                rows = rows + found_t1
                findings.append(finding(unit, _other_session_note(found_t1[0], session), "note"))
            row, found = build_unit(subject, session, rows, checked, fit, others)
            units.append(row)
            findings += found
    for subject in sorted(set(subjects) - set(scans)):
        findings += [finding(subject, error, severity) for severity, error in subjects[subject]]
    return units, findings


def read_exclusions(path: Path | None) -> dict[str, str]:
    """Read the user's table of exclusions: the reason by participant."""
    if path is None:
        return {}
    return {
        subject: rows[0].get("reason") or "excluded by the user's table"
        for subject, rows in read_participants(path).items()
    }


def unknown_participants(cohort: Cohort, known: set[str]) -> list[CohortFinding]:
    """Notes about participants that the configuration names but the dataset does not have."""
    named = {participant_id(label): "cohort.participant_label" for label in cohort.participant_label}
    named |= dict.fromkeys(read_exclusions(cohort.exclude), str(cohort.exclude))
    remedy = "correct the label, or remove it"
    return [
        finding(
            subject,
            DataError("named here, but has no scan", file=where, value=subject, remedy=remedy),
            "note",
        )
        for subject, where in sorted(named.items())
        if subject not in known
    ]


def scans_left_out(manifest: list[Row]) -> Iterator[CohortFinding]:
    """Notes about the scans that are not taken, one for each reason."""
    by_reason: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in manifest:
        if reason := row.get("left_out"):
            by_reason[NAMES[row["suffix"] or ""], reason].append(path_of(row))
    for (name, reason), paths in sorted(by_reason.items()):
        error = DataError(
            f"{name} that are not taken: each {reason}",
            file=paths[0],
            value=f"{len(paths)} scans",
            remedy="nothing to do if that is right; else rename them, or correct .bidsignore",
        )
        yield finding(COHORT, error, "note")


def validate(
    manifest: list[Row],
    cohort: Cohort,
    participants: Path | None = None,
    threads: int = 1,
    fit: Dti = DEFAULT_FIT,
) -> tuple[list[Row], list[CohortFinding]]:
    """Check every participant and every scan, and decide every unit's state.

    Parameters
    ----------
    manifest : list of dict
        From `m2m index`.
    cohort : Cohort
    participants : Path, optional
        participants.tsv.
    threads : int
        Number of parallel processes.
    fit : Dti
        Whose b-value of an unweighted volume, and whose shells count.

    Returns
    -------
    units : list of dict
        Rows of `UNIT_COLUMNS`, by name.
    findings : list of CohortFinding
    """
    taken = [row for row in manifest if not row.get("left_out")]
    unknown = unknown_participants(cohort, {row["participant_id"] or "" for row in taken})
    subjects, readings = read_with_findings(participants) if participants else ({}, [])
    if cohort.participant_label:
        chosen = set(map(participant_id, cohort.participant_label))
        manifest = [row for row in manifest if row["participant_id"] in chosen]
        subjects = {subject: rows for subject, rows in subjects.items() if subject in chosen}
    excluded = read_exclusions(cohort.exclude)
    about = {}
    if participants or cohort.require:
        with_scans = {row["participant_id"] or "" for row in manifest if not row.get("left_out")}
        about = check_participants(subjects, with_scans, cohort.require, participants or "participants.tsv")
    out = set(excluded) | {p for p in about if any(severity == "error" for severity, _ in about[p])}
    named = [row for row in manifest if row["suffix"] in NAMES and not row.get("left_out")]
    scans = [row for row in named if row["participant_id"] not in out]
    checked = check_scans(scans, cohort, threads, fit)
    units, findings = build_units(manifest, checked, excluded, about, fit, cohort.t1w_of_other_session)
    if cohort.check_voxels:
        owner = {row[scan] or "": row["unit"] or "" for row in reversed(units) for scan in ("t1w", "dwi")}
        same = copies([row for row in scans if row["path"] in owner])
        findings += [finding(owner[path], error, "note") for path, error in same.items()]
    notes = [finding(COHORT, error, "note") for error in readings]
    return units, findings + unknown + notes + [*scans_left_out(manifest)]


def main(
    manifest: Annotated[Path, typer.Option(help="One row per scan, from `m2m index`.")],
    units: Annotated[Path, typer.Option(help="Table to write: state and files of every unit.")],
    status: Annotated[Path, typer.Option(help="Table to write: every finding.")],
    participants: Annotated[Path | None, typer.Option(help="participants.tsv")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Number of parallel processes.")] = 1,
    options: Annotated[str | None, typer.Option(help="JSON of the section `cohort`.")] = None,
    dti_options: Annotated[str | None, typer.Option(help="JSON of the section `dti`.")] = None,
    config: ConfigFile = None,
) -> None:
    """Check scans by header, gradients and voxels; decide which units take part."""
    cohort = section_of("cohort", config, options, needed=False)
    fit = section_of("dti", config, dti_options, needed=False)
    rows, findings = validate(read_table(manifest), cohort, participants, threads, fit)
    write_table(units, rows, UNIT_COLUMNS)
    write_findings(status, findings)
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
            remedy="the findings above state the reasons and remedies",
        )
