"""Which dataset a file belongs to: BIDS URIs of sources, links between datasets, and outputs that must stay inside.

References
----------
BIDS URIs and DatasetLinks: BIDS 1.10, common principles, "BIDS URI".
"""

import os
from pathlib import Path
from urllib.parse import quote

from m2m.io.errors import DataError
from m2m.io.quoting import dataset_of

# Names of the linked datasets in a BIDS URI: the scans, and the results that a dataset of synthetic maps is part of.
RAW, RESULTS = "raw", "results"
# Datasets inside the results, and the number of folders from their root up to that of the results.
INNER = {"synthetic": 3, "low_res": 2, "truth": 1, "rawdata": 1, "second_measurement": 1}


def _absolute(path: str | Path) -> Path:
    """Path without ``..``; links are not followed, since a dataset may consist of links."""
    return Path(os.path.abspath(path))  # noqa: PTH100  (Path.absolute keeps ..)


def results_of(root: Path) -> Path | None:
    """Root of the results that a dataset such as ``synthetic/<task>/<model>`` is part of; None for any other."""
    for name, steps in INNER.items():
        parts = root.parts[-steps:]
        if len(parts) == steps and parts[0] == name:
            return root.parents[steps - 1]
    return None


def uri(path: str | Path, sidecar: str | Path) -> str:
    """Name a file as a JSON sidecar does: by BIDS URI, or by its name alone; no path of this machine.

    Parameters
    ----------
    path : path
        The file to name.
    sidecar : path
        A file of the dataset, below a participant's folder. A file elsewhere is in no dataset.

    Returns
    -------
    str
        ``bids::`` and the path below the sidecar's dataset, ``bids:results:`` and the path below the results
        which this dataset is part of, ``bids:raw:`` and the path of a participant's file of another dataset,
        or the name of any other file. `links` says where these datasets are.
    """
    file, root = _absolute(path), dataset_of(sidecar)
    if root is None:
        return file.name
    for name, dataset in (("", root), (RESULTS, results_of(root)), (RAW, dataset_of(file))):
        if dataset and file.is_relative_to(dataset):
            return f"bids:{name}:{quote(os.fsencode(file.relative_to(dataset).as_posix()))}"
    return file.name


def links(root: str | Path, source: str) -> dict[str, str]:
    """Datasets that the URIs of a derivative dataset name, for ``DatasetLinks``.

    Parameters
    ----------
    root : path
        The derivative dataset.
    source : str
        Folder of the raw dataset, or its URL.

    Returns
    -------
    dict of str to str
        Relative paths as URLs, by name.
    """
    here = _absolute(root)
    found = {RAW: source if "://" in source else _relative(_absolute(source), here)}
    if results := results_of(here):
        found[RESULTS] = _relative(results, here)
    return found


def _relative(folder: Path, start: Path) -> str:
    """Relative URL of a folder."""
    return quote(Path(os.path.relpath(folder, start)).as_posix())


def require_inside(root: str | Path, *outputs: str | Path) -> None:
    """Check that files to be written lie below a folder, where links of the folders between lead elsewhere too.

    Parameters
    ----------
    root : path
    *outputs : paths
        They need not exist. A link in the place of a file itself is replaced, not followed.

    Raises
    ------
    DataError
        One lies outside.
    """
    top = Path(root).resolve()
    for path in map(Path, outputs):
        if not path.parent.resolve().is_relative_to(top):
            raise DataError(
                f"would be written outside of {root}",
                file=path,
                value=path.parent.resolve(),
                remedy="remove the link, or give another folder of results",
            )


def require_in_dataset(*outputs: str | Path) -> None:
    """Raise DataError where a participant's file would be written outside of its own dataset; see `require_inside`."""
    for path in outputs:
        if root := dataset_of(path):
            require_inside(root, path)
