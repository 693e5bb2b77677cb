"""Every T1 of a BIDS folder, one after the other; a failure is recorded, and the others go on."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from m2m.cohort import describe
from m2m.cohort.index import COLUMNS, build_manifest, list_files
from m2m.cohort.participants import Row
from m2m.cohort.scans import check_scans
from m2m.cohort.validate import STATUS_COLUMNS, CohortFinding, choose_scan, sessions_of
from m2m.io.bids import measure, unit_folder, unit_path
from m2m.io.errors import DataError, StorageError
from m2m.io.files import read_json
from m2m.io.modalities import MODALITIES
from m2m.io.tables import write_table
from m2m.io.unit_status import recorded
from m2m.translate.native import Outputs, require_model_of_t1, translate_t1
from m2m.translate.predict import Network, Record, Tensors


def list_t1s(root: Path) -> Iterator[tuple[str, list[Row]]]:
    """Name every unit of a BIDS folder that has T1s, with their rows of the manifest.

    Raises
    ------
    DataError
        There is none.
    """
    people = defaultdict(list)
    for row in build_manifest(root, list_files(root)):
        if row["suffix"] == "T1w":
            people[row["participant_id"]].append(dict.fromkeys(COLUMNS) | row)
    if not people:
        raise DataError(
            "the folder has no T1w image", file=root,
            remedy="give a BIDS dataset with sub-*/anat/*_T1w.nii.gz, or one T1 by its name",
        )  # fmt: skip
    for person in sorted(people):
        for session, rows in sessions_of(people[person]):
            yield "_".join(filter(None, (person, session))), rows


def translate_folder(
    root: Path, out: Path, weights: Path, tensors: Tensors, record: Record, network: Network
) -> tuple[int, int]:
    """Translate every unit's T1 of a BIDS folder into a derivative dataset.

    Brain masks in the dataset (``desc-brain_mask`` on the T1's grid) are used. What was found on
    the way is in ``cohort/cohort_status.tsv``.

    Returns
    -------
    done, failed : int
        Numbers of units.
    """
    require_model_of_t1(record)
    units = list(list_t1s(root))
    describe.main(out, str(root))
    findings: list[CohortFinding] = []
    failed = 0
    bar = tqdm(units, unit="T1", disable=None)
    for unit, rows in bar:
        bar.set_description(unit)
        found, ok = _translate_unit(unit, rows, out, weights, tensors, record, network)
        findings += found
        failed += not ok
    bar.close()
    table = out / "cohort" / "cohort_status.tsv"
    write_table(table, map(asdict, findings), STATUS_COLUMNS)
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
) -> tuple[list[CohortFinding], bool]:
    """Translate one unit: its findings, and whether there is a map."""
    kind = MODALITIES[record["target"]].kind
    paths = [
        unit_path(out, name, unit_folder(unit), unit).format(measure=measure(f"synth-{kind}"))
        for name in (f"synth-{kind}", f"synthsd-{kind}", "picture", "synth-status")
    ]
    outputs, status = Outputs(*map(Path, paths[:3])), Path(paths[3])
    for path in outputs:  # of an earlier run
        path.unlink(missing_ok=True)
    row, reason, findings = choose_scan(unit, "T1w", rows, check_scans(rows))
    with recorded("translate", unit, status, []) as numbers:
        if row is None:
            raise DataError(reason, file=rows[0]["path"], remedy="see the other findings")
        t1, mask = Path(row["path"]), row["mask"] and Path(row["mask"])
        sources = [path for path in (t1, mask, weights) if path]
        try:
            numbers |= translate_t1(t1, mask, tensors, record, network, outputs, sources)
        except (DataError, StorageError):
            raise
        except Exception as error:  # nobody else waits for what one person's file brings up
            raise DataError(
                f"unexpected {type(error).__name__}: {error}",
                file=t1,
                remedy="translate this T1 by itself for the whole message, and report it",
            ) from error
    content = read_json(status)
    if row and content["status"] == "failed":
        findings.append(CohortFinding(**content["finding"]))
    return findings, content["status"] == "ok"
