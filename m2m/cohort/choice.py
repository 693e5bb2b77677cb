"""Choice of a unit's T1w and DWI among several, each with what was taken and why."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, cast

import nibabel as nib
import numpy as np
from nibabel.spatialimages import SpatialImage

from m2m.cohort.checks import Checked
from m2m.cohort.findings import CohortFinding, finding
from m2m.cohort.gradients import Table, n_fitted, read_gradient_table, within_limit
from m2m.cohort.spellings import Row
from m2m.io.bids import is_unit, unit_folder
from m2m.io.bvalues import SHELL_GAP_S_PER_MM2, shell_values
from m2m.io.errors import DataError
from m2m.io.files import read_json
from m2m.options import Dti

NAMES = {"T1w": "T1w", "dwi": "DWI"}
FOLDERS = {"T1w": "anat", "dwi": "dwi"}
LOSS = {
    "T1w": "without it, the tensor is fitted to the DWI, but nothing is translated",
    "dwi": "without it, the T1w is translated, but not used for training or testing",
}
# A label of `acq` that states a contrast agent, unless it states the scan before it.
_AGENT, _BEFORE = re.compile("post|gd|gad|contrast|enhanced|^ce$"), re.compile("pre|non?-?(gd|contrast|ce)|without")
# Affines and echo times that differ by less are the same: headers have few decimals.
SAME_MM, SAME_ECHO_S = 1e-2, 5e-4
MOST_NAMED = 3


@dataclass(frozen=True)
class Choice:
    """The T1w or DWI of a unit.

    Attributes
    ----------
    row : dict or None
        Row of the manifest; None where no scan can be used.
    reason : str
        Why no scan is chosen; empty where one is.
    findings : list of CohortFinding
    joined : tuple of dict
        Further DWI that are joined with the chosen one.
    """

    row: Row | None
    reason: str
    findings: list[CohortFinding]
    joined: tuple[Row, ...] = ()


def path_of(row: Row) -> str:
    """Path of a scan, a row of the manifest."""
    return row["path"] or ""


def choose_scan(
    unit: str,
    suffix: str,
    rows: Sequence[Row],
    checked: Mapping[str, Checked],
    fit: Dti,
    others: Mapping[str, str] | None = None,
) -> Choice:
    """Choose a unit's T1w or DWI among the valid ones.

    Of T1w, one without contrast agent is preferred; of DWI, the one with most directions that the tensor
    fit uses, first of those with enough directions up to `fit.max_b_s_per_mm2`; others are joined with it
    that differ by shell only and add directions to the fit. Then the first by path.

    Parameters
    ----------
    unit : str
    suffix : {"T1w", "dwi"}
    rows : sequence of dict
        Scans of this suffix, rows of the manifest.
    checked : mapping of str to Checked
        By path.
    fit : Dti
        Whose shells count.
    others : mapping of str to str, optional
        Scans of this participant that are not taken, by path, and why not.

    Returns
    -------
    Choice
    """
    if not rows:
        error = _none_found(unit, suffix, others or {})
        return Choice(None, error.problem, [finding(unit, error)])
    findings = [finding(unit, problem) for row in rows for problem in checked[path_of(row)].problems]
    valid = [row for row in rows if not checked[path_of(row)].problems]
    if not valid:
        return Choice(None, f"{NAMES[suffix]}: {findings[0].problem}", findings)
    with_agent = {path_of(row): bool(suffix == "T1w" and contrast_agent(row)) for row in valid}
    order = {path_of(row): _rank(row, with_agent, checked, fit) for row in valid}
    chosen = min(valid, key=lambda row: order[path_of(row)])
    findings += [finding(unit, p) for p in checked[path_of(chosen)].mask_problems]
    findings += [finding(unit, p, "note") for p in checked[path_of(chosen)].notes]
    rest = sorted((row for row in valid if row is not chosen), key=lambda row: order[path_of(row)])
    joined, why = _join(chosen, rest, fit) if suffix == "dwi" and rest else ((), {})
    for row in joined:
        findings.append(finding(unit, _joined_note(row, chosen), "note"))
    for row in (row for row in rest if row not in joined):
        text = why.get(path_of(row)) or _preference(row, chosen, with_agent)
        findings.append(finding(unit, _not_used_note(suffix, row, chosen, text), "note"))
    if with_agent[path_of(chosen)]:
        findings.append(finding(unit, _agent_note(chosen), "note"))
    return Choice(chosen, "", findings, joined)


def _rank(row: Row, with_agent: Mapping[str, bool], checked: Mapping[str, Checked], fit: Dti) -> tuple:
    """What valid scans are ordered by, the best first."""
    table = _table(row) if row["suffix"] == "dwi" else None
    above = table is not None and not within_limit(table, fit)
    return with_agent[path_of(row)], above, -checked[path_of(row)].n_directions, path_of(row)


def _none_found(unit: str, suffix: str, others: Mapping[str, str]) -> DataError:
    """No scan of a unit: there is none, or those that there are, and why they are not taken."""
    name = NAMES[suffix]
    if not others:
        place = f"{unit_folder(unit) if is_unit(unit) else unit}/{FOLDERS[suffix]}/{unit}_{suffix}.nii.gz"
        return DataError(f"no {name} in the dataset", file=place, value="0 scans", remedy=f"add it; {LOSS[suffix]}")
    value = "; ".join(f"{path}: {why}" for path, why in [*others.items()][:MOST_NAMED])
    only_sessions = all("session" in why for why in others.values())
    if only_sessions and suffix == "T1w":
        remedy = "set cohort.t1w_of_other_session: true to pair it with this session's DWI, or add this session's"
    else:
        remedy = "rename it if the reason is wrong, or add another"
    problem = f"no {name} in this session" if only_sessions else f"no {name} that is taken"
    return DataError(problem, file=next(iter(others)), value=value, remedy=f"{remedy}; {LOSS[suffix]}")


# -- T1w --------------------------------------------------------------------------------------------


def contrast_agent(row: Row) -> str:
    """What states that a T1w was taken after a contrast agent: its name, or its JSON; empty for neither."""
    entities = dict(part.split("-", 1) for part in PurePath(path_of(row)).name.split("_") if "-" in part)
    acquisition = entities.get("acq", "").casefold()
    if "ce" in entities:
        return f"ce-{entities['ce']}"
    if _AGENT.search(acquisition) and not _BEFORE.search(acquisition):
        return f"acq-{entities['acq']}"
    agent = str(_sidecar(row).get("ContrastBolusIngredient") or _sidecar(row).get("ContrastBolusAgent") or "")
    return f"ContrastBolusIngredient {agent[:40]}" if agent.strip() and agent.casefold() not in ("none", "n/a") else ""


def _sidecar(row: Row) -> dict[str, Any]:
    """JSON beside a scan; empty where there is none that can be read."""
    try:
        about = read_json(row["json"] or "")
    except (OSError, ValueError):
        return {}
    return about if isinstance(about, dict) else {}


def _agent_note(row: Row) -> DataError:
    remedy = "nothing to do if all T1w are such; else exclude it: networks learn other contrasts"
    return DataError(
        "the T1w was taken after a contrast agent", file=path_of(row), value=contrast_agent(row), remedy=remedy
    )


def _preference(row: Row, chosen: Row, with_agent: Mapping[str, bool]) -> str:
    """Why a valid scan is not the one that is used."""
    if with_agent[path_of(row)] and not with_agent[path_of(chosen)]:
        return f"it was taken without contrast agent, this one with ({contrast_agent(row)})"
    return "the first by name"


def _not_used_note(suffix: str, row: Row, chosen: Row, why: str) -> DataError:
    return DataError(
        f"another {NAMES[suffix]} of this unit is used",
        file=path_of(row),
        value=f"used: {chosen['path']}; {why}",
        remedy="nothing to do; to use this one, remove the other from the dataset",
    )


# -- DWI --------------------------------------------------------------------------------------------


def _joined_note(row: Row, chosen: Row) -> DataError:
    return DataError(
        "several DWI of this unit are joined: they differ by shell only",
        file=path_of(row),
        value=f"joined with: {chosen['path']}",
        remedy="nothing to do; to use one alone, remove the other from the dataset",
    )


def _table(row: Row) -> Table | None:
    return read_gradient_table(row["bval"], row["bvec"], path_of(row), None)[0]


def _join(chosen: Row, rest: Sequence[Row], fit: Dti) -> tuple[tuple[Row, ...], dict[str, str]]:
    """Series to join with the chosen one, and why others are not used, by path."""
    used, joined, why = _table(chosen), [], {}
    for row in rest:
        table = _table(row)
        if used is None or table is None:
            continue
        comparable = within_limit(table, fit) or not within_limit(used, fit)
        n, own = n_fitted(used, fit), n_fitted(table, fit) * comparable
        text = f"it has {n} directions that the tensor fit uses, this one {own}"
        if difference := _difference(chosen, row, used, table, fit):
            why[path_of(row)] = f"{text}; not joined, since {difference}"
            continue
        both = Table(np.r_[used.bvals, table.bvals], np.vstack([used.bvecs, table.bvecs]))
        if n_fitted(both, fit) <= n:
            shells = np.unique(np.round(_shells(table, fit)))
            limit = f"dti.max_b_s_per_mm2 is {fit.max_b_s_per_mm2:g}"
            why[path_of(row)] = f"{text}; not joined, since {limit} and its b {', '.join(f'{b:g}' for b in shells)}"
            continue
        used = both
        joined.append(row)
    return tuple(joined), why


def _shells(table: Table, fit: Dti) -> np.ndarray:
    """b-values of a table's shells, s/mm2."""
    values = np.unique(shell_values(table.bvals, fit.b0_threshold_s_per_mm2))
    return values[values > 0]


def _difference(chosen: Row, row: Row, used: Table, table: Table, fit: Dti) -> str:
    """What else than shells two series differ by; empty for nothing."""
    first, second = (cast(SpatialImage, nib.load(path_of(r))) for r in (chosen, row))
    if first.shape[:3] != second.shape[:3] or not np.allclose(first.affine, second.affine, atol=SAME_MM):
        return "they are on different grids"
    about, other = _sidecar(chosen), _sidecar(row)
    phase = about.get("PhaseEncodingDirection"), other.get("PhaseEncodingDirection")
    if chosen["direction"] != row["direction"] or (all(phase) and phase[0] != phase[1]):
        return "their phase encodings differ"
    echo = [time for time in (about.get("EchoTime"), other.get("EchoTime")) if isinstance(time, int | float)]
    if len(echo) == 2 and abs(echo[0] - echo[1]) > SAME_ECHO_S:
        return f"their echo times differ, {echo[0]:g} and {echo[1]:g} s"
    if Path(chosen["bvec"] or "").suffix != Path(row["bvec"] or "").suffix:
        return "their gradient tables are in different formats"
    if (table.bvals > fit.b0_threshold_s_per_mm2).all() or (used.bvals > fit.b0_threshold_s_per_mm2).all():
        return "one has no b0"
    apart = np.abs(np.subtract.outer(_shells(used, fit), _shells(table, fit)))
    if apart.size and apart.min() <= SHELL_GAP_S_PER_MM2:
        return "they share a shell"
    return ""
