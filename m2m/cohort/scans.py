"""Checks of the listed scans together: names, duplicates, then each scan by itself."""

from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path, PurePath

from m2m.cohort.checks import Checked, check_scan
from m2m.cohort.participants import Row
from m2m.io.errors import DataError
from m2m.io.files import file_digest


def name_problem(row: Row) -> DataError | None:
    """Whether a file's name contradicts its folders or has labels that BIDS does not allow."""
    path = PurePath(row["path"])
    person, session = row["participant_id"], row["session_id"]
    start = f"{person}_" + (f"{session}_" if session else "")
    folders = [part for part in path.parts[:-1] if part.startswith(("sub-", "ses-"))]
    expected = [person, *([session] if session else [])]
    labels = [label.partition("-")[2] for label in expected]
    if not all(label.isascii() and label.isalnum() for label in labels):
        problem, remedy = "label has other than letters and digits", "rename the files"
    elif not path.name.startswith(start) or folders[-len(expected) :] != expected:
        problem = "file and folder names disagree about the person or session"
        remedy = "find out whose scan it is, and rename it"
    else:
        return None
    return DataError(problem, file=path, value="/".join([*folders, path.name]), remedy=remedy)


def duplicated(rows: Iterable[Row]) -> dict[str, DataError]:
    """Find scans with all entities the same: which one is meant cannot be known; by path."""
    by_name: dict[tuple, list[str]] = defaultdict(list)
    for row in rows:
        name = PurePath(row["path"]).name.removesuffix(".gz").removesuffix(".nii")
        by_name[row["participant_id"], row["session_id"], name].append(row["path"])
    return {
        path: DataError(
            "duplicate subject: scans with the same entities",
            file=path,
            value=", ".join(paths),
            remedy="remove one of them, or tell them apart by run-",
        )
        for paths in by_name.values()
        if len(paths) > 1
        for path in paths
    }


def copies(rows: Iterable[Row]) -> dict[str, DataError]:
    """Find image files of different people with the same bytes; by path."""
    by_size: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        if Path(row["path"]).is_file():
            by_size[Path(row["path"]).stat().st_size].append(row)
    by_content: dict[str, list[Row]] = defaultdict(list)
    for size, same in by_size.items():
        if size and len({row["participant_id"] for row in same}) > 1:
            for row in same:
                by_content[file_digest(row["path"])].append(row)
    found = {}
    for same in by_content.values():
        for row in same:
            others = [r["path"] for r in same if r["participant_id"] != row["participant_id"]]
            if others:
                found[row["path"]] = DataError(
                    "duplicate subject: another participant has the same image",
                    file=row["path"],
                    value=", ".join(others),
                    remedy="exclude one of the two, or they may be trained and tested on",
                )
    return found


def check_scans(rows: list[Row], voxels: bool = True, threads: int = 1) -> dict[str, Checked]:
    """Check every scan once.

    Parameters
    ----------
    rows : list of dict
        T1w and DWI rows of the manifest.
    voxels : bool
        Whether to read all voxels, see `check_scan`.
    threads : int
        Processes that read side by side.

    Returns
    -------
    dict of str to Checked
        By path. A scan whose name is in doubt is not opened.
    """
    doubts = {row["path"]: error for row in rows if (error := name_problem(row))}
    doubts = duplicated(rows) | doubts
    certain = [row for row in rows if row["path"] not in doubts]
    columns = ("suffix", "path", "bval", "bvec", "mask")
    arguments = [*([row[column] for row in certain] for column in columns), [voxels] * len(certain)]
    if threads == 1:
        results = list(map(check_scan, *arguments))
    else:
        with ProcessPoolExecutor(threads) as pool:
            results = list(pool.map(check_scan, *arguments, chunksize=4))
    checked = {row["path"]: result for row, result in zip(certain, results, strict=True)}
    return checked | {path: Checked((error,)) for path, error in doubts.items()}
