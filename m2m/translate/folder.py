"""Translate every T1 of a BIDS folder; a failure is recorded and does not stop the others."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from m2m.cohort import describe
from m2m.cohort.choice import choose_scan
from m2m.cohort.findings import CohortFinding, finding, write_findings
from m2m.cohort.gradients import DEFAULT_FIT
from m2m.cohort.index import COLUMNS, build_manifest, list_files
from m2m.cohort.scans import check_scans
from m2m.cohort.spellings import Row
from m2m.cohort.validate import scans_left_out, sessions_of
from m2m.io.bids import is_unit, measure, unit_folder, unit_path
from m2m.io.dataset_links import require_inside
from m2m.io.errors import DataError, unexpected
from m2m.io.files import read_json
from m2m.io.modalities import MODALITIES
from m2m.io.overwriting import require_outside
from m2m.io.unit_status import recorded
from m2m.models.validation_range import warning_of
from m2m.options import Cohort
from m2m.translate.bundle_profiles import compared_maps
from m2m.translate.native import require_model_of_t1, translate_t1
from m2m.translate.outputs import Outputs, ProfileInputs, profile_outputs
from m2m.translate.predict import Network, Record, Tensors

# Files that BIDS has no names for.
NOT_BIDS = ("*_bundles.*", "*_bundlemeans.*")


def listed_t1s(root: Path) -> list[Row]:
    """Rows of the manifest of every T1 of a BIDS folder, also of those that are not taken."""
    rows = [dict.fromkeys(COLUMNS) | row for row in build_manifest(root, list_files(root))]
    return [row for row in rows if row["suffix"] == "T1w"]


def units_of(root: Path, t1s: list[Row]) -> Iterator[tuple[str, list[Row]]]:
    """Divide the T1s of a BIDS folder into units.

    Parameters
    ----------
    root : Path
        Named where there is none.
    t1s : list of dict
        From `listed_t1s`.

    Yields
    ------
    unit : str
    rows : list of dict
        Rows of its T1s in the manifest.

    Raises
    ------
    DataError
        There is no T1.
    """
    subjects: dict[str, list[Row]] = defaultdict(list)
    for row in t1s:
        if not row["left_out"]:
            subjects[str(row["participant_id"])].append(row)
    if not subjects:
        raise DataError(
            "the folder has no T1w image" + " that is taken" * bool(t1s),
            file=root,
            value="; ".join(sorted({row["left_out"] or "" for row in t1s})),
            remedy="give a BIDS dataset with sub-*/anat/*_T1w.nii.gz, or the file of one T1",
        )
    for subject in sorted(subjects):
        for session, rows in sessions_of(subjects[subject]):
            yield "_".join(filter(None, (subject, session))), rows


def translate_folder(
    root: Path,
    out: Path,
    weights: Path,
    tensors: Tensors,
    record: Record,
    network: Network,
    profiles: ProfileInputs | None = None,
) -> tuple[int, int]:
    """Translate every unit's T1 of a BIDS folder into a derivative dataset.

    Brain masks in the dataset (``desc-brain_mask`` on the grid of the T1) are used. Problems are
    listed in ``cohort/cohort_status.tsv``.

    Parameters
    ----------
    root : Path
        BIDS dataset.
    out : Path
        Folder of the derivative dataset.
    weights : Path
        Named in the sidecars.
    tensors, record : mapping
        Of `m2m.models.record.load_model`.
    network : Network
        How the network is run.
    profiles : ProfileInputs or None
        Profiles along named bundles are written, too, and compared with this atlas.

    Returns
    -------
    done, failed : int
        Numbers of units.

    Raises
    ------
    DataError
        The folder has no T1, or the results would lie in it; with profiles, as of
        `m2m.translate.bundle_profiles.compared_maps`.
    """
    require_model_of_t1(record)
    require_outside(out, root)
    t1s = listed_t1s(root)
    units = list(units_of(root, t1s))
    if profiles:
        compared_maps(tensors, record, profiles)
    describe.describe(out, str(root), out.name, *NOT_BIDS)
    findings = [*scans_left_out(t1s)]
    failed = 0
    bar = tqdm(units, unit="T1", disable=None)
    for unit, rows in bar:
        bar.set_description(unit)
        problems, ok = _translate_unit(unit, rows, out, weights, tensors, record, network, profiles)
        findings += problems
        failed += not ok
    bar.close()
    table = out / "cohort" / "cohort_status.tsv"
    write_findings(table, findings)
    print(f"{len(units) - failed} of {len(units)} T1s translated, {failed} not: see {table}")
    return len(units) - failed, failed


def _translate_unit(
    unit: str,
    rows: list[Row],
    out: Path,
    weights: Path,
    tensors: Tensors,
    record: Record,
    network: Network,
    profiles: ProfileInputs | None,
) -> tuple[list[CohortFinding], bool]:
    """Translate one unit; return its findings, and whether a map was written."""
    choice = choose_scan(unit, "T1w", rows, check_scans(rows, Cohort()), DEFAULT_FIT)
    row, findings = choice.row, choice.findings
    if not is_unit(unit):  # no path is made from such a name; the findings name it
        return findings, False
    kind = MODALITIES[record["target"]].kind
    paths = [
        unit_path(out, name, unit_folder(unit), unit).replace("{measure}", measure(f"synth-{kind}"))
        for name in (f"synth-{kind}", f"synthsd-{kind}", "qc", "synth-status")
    ]
    outputs, status = Outputs(*map(Path, paths[:3])), Path(paths[3])
    further = profile_outputs(outputs.image).files
    try:
        require_inside(out, *outputs, *further, status)
    except DataError as error:
        return [*findings, finding(unit, error)], False
    for path in (*outputs, *further):  # files of an earlier run
        path.unlink(missing_ok=True)
    with recorded("translate", unit, status, []) as numbers:
        if row is None:
            raise DataError(choice.reason, file=rows[0]["path"] or "", remedy="see the other findings")
        t1, mask = Path(str(row["path"])), Path(row["mask"]) if row["mask"] else None
        sources = [path for path in (t1, mask, weights) if path]
        try:
            numbers |= translate_t1(t1, mask, tensors, record, network, outputs, sources, profiles=profiles)
            warnings = [warning_of(entry, t1) for entry in numbers.get("OutsideValidationRange", ())]
            findings += [replace(finding(unit, warning, "note"), stage="translate") for warning in warnings]
        except (DataError, ModuleNotFoundError):  # a missing library is missing for all
            raise
        except Exception as error:  # one participant's file must not stop the other participants
            raise unexpected(error, t1) from error
    content = read_json(status)
    if row and content["status"] == "failed":
        findings.append(CohortFinding(**content["finding"]))
    return findings, content["status"] == "ok"
