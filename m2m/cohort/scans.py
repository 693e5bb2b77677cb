"""Checks of all listed scans: names, duplicates, then each scan alone."""

from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path, PurePath
from typing import Any

from m2m.cohort.checks import Checked, check_scan
from m2m.cohort.gradients import DEFAULT_FIT
from m2m.cohort.spellings import Row
from m2m.io.bids import unusual_characters
from m2m.io.errors import DataError, unexpected
from m2m.io.files import file_digest
from m2m.options import Cohort, Dti


def name_problem(row: Row) -> DataError | None:
    """Problem of a file whose name contradicts its folders, or has labels that BIDS does not allow."""
    path = PurePath(row["path"] or "")
    subject, session = row["participant_id"] or "", row["session_id"]
    start = f"{subject}_" + (f"{session}_" if session else "")
    folders = [part for part in path.parts[:-1] if part.startswith(("sub-", "ses-"))]
    expected = [subject, *([session] if session else [])]
    labels = [label.partition("-")[2] for label in expected]
    if not all(label.isascii() and label.isalnum() for label in labels):
        problem, remedy = "label has characters other than letters and digits", "rename the files"
    elif found := _unusual(row, path):
        problem, remedy = f"name of the file or of its folder has {found}", "rename it: letters, digits, - and _"
    elif not path.name.startswith(start) or folders[-len(expected) :] != expected:
        problem = "file and folder names disagree about the participant or session"
        remedy = "find out which participant the scan is of, and rename it"
    else:
        return None
    return DataError(problem, file=str(path), value="/".join([*folders, path.name]), remedy=remedy)


def _unusual(row: Row, path: PurePath) -> str:
    """Unusual characters in the name of a scan's files and of its folders below the dataset's root."""
    start = next((i for i, part in enumerate(path.parts) if part.startswith("sub-")), 0)
    others = [PurePath(row.get(key) or "").name for key in ("bval", "bvec", "mask")]
    return unusual_characters("/".join([*path.parts[start:], *others]))


def duplicated(rows: Iterable[Row]) -> dict[str, DataError]:
    """Problem, by path, of each scan that has the same entities as another one."""
    by_name: dict[tuple, list[str]] = defaultdict(list)
    for row in rows:
        path = row["path"] or ""
        name = PurePath(path).name.removesuffix(".gz").removesuffix(".nii")
        by_name[row["participant_id"], row["session_id"], name].append(path)
    return {
        path: DataError(
            "duplicate subject: scans with the same entities",
            file=path,
            value=", ".join(paths),
            remedy="remove one of them, or distinguish them by run-",
        )
        for paths in by_name.values()
        if len(paths) > 1
        for path in paths
    }


def copies(rows: Iterable[Row]) -> dict[str, DataError]:
    """Problem, by path, of each image file that equals one of another participant, byte by byte."""
    by_size: dict[int, list[tuple[str, str | None]]] = defaultdict(list)
    for row in rows:
        path = Path(row["path"] or "")
        if path.is_file():
            by_size[path.stat().st_size].append((row["path"] or "", row["participant_id"]))
    by_content: dict[str, list[tuple[str, str | None]]] = defaultdict(list)
    for size, same in by_size.items():
        if size and len({subject for _, subject in same}) > 1:
            for file, subject in same:
                by_content[file_digest(file)].append((file, subject))
    found = {}
    for same in by_content.values():
        for file, subject in same:
            others = [other for other, its_subject in same if its_subject != subject]
            if others:
                found[file] = DataError(
                    "duplicate subject: another participant has the same image",
                    file=file,
                    value=", ".join(others),
                    remedy="exclude one of the two, or the same image may be in training and test",
                )
    return found


def _check_any_scan(suffix: str, path: str, *arguments: Any) -> Checked:
    """Check a scan; whatever error it raises is its own problem, and the others are checked."""
    try:
        return check_scan(suffix, path, *arguments)
    except Exception as error:
        return Checked((unexpected(error, path),))


def check_scans(rows: list[Row], cohort: Cohort, threads: int = 1, fit: Dti = DEFAULT_FIT) -> dict[str, Checked]:
    """Check every scan once.

    Parameters
    ----------
    rows : list of dict
        T1w and DWI rows of the manifest.
    cohort : Cohort
        Whether to read all voxels, and limits of size, see `check_scan`.
    threads : int
        Number of parallel processes.
    fit : Dti
        As in `check_scan`.

    Returns
    -------
    dict of str to Checked
        By path. A scan with a problem of its name is not opened.
    """
    problems = {row["path"] or "": error for row in rows if (error := name_problem(row))}
    problems = duplicated(rows) | problems
    named = [row for row in rows if row["path"] not in problems]
    columns = ("suffix", "path", "bval", "bvec", "mask")
    arguments: list[list[Any]] = [[row[column] for row in named] for column in columns]
    settings = (cohort.check_voxels, fit, cohort.max_volume_gb, cohort.max_series_gb)
    arguments += [[setting] * len(named) for setting in settings]
    if threads == 1:
        results = list(map(_check_any_scan, *arguments))
    else:
        with ProcessPoolExecutor(threads) as pool:
            results = list(pool.map(_check_any_scan, *arguments, chunksize=4))
    checked = {row["path"] or "": result for row, result in zip(named, results, strict=True)}
    return checked | {path: Checked((error,)) for path, error in problems.items()}
