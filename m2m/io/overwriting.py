"""Outputs are never inputs: calls that would write over a scan or into its dataset are found before they write.

Links are resolved, so that two names of one file or folder are one.
"""

import os
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path

from m2m.io.errors import DataError
from m2m.io.files import READ

# The one folder of a BIDS dataset that the standard gives to what programs derive from it.
DERIVATIVES = "derivatives"


def sidecar_of(image: Path) -> Path:
    """The JSON file beside an image."""
    stem = next((image.name[: -len(end)] for end in READ if image.name.lower().endswith(end)), image.stem)
    return image.with_name(f"{stem}.json")


def require_apart(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Check that no output is an input, or a second output.

    Parameters
    ----------
    outputs, inputs : iterable of Path
        Of files that need not exist.

    Raises
    ------
    DataError
        Two of them are one file, by whatever names.
    """
    outputs = list(outputs)
    given = {identity: path for path in inputs for identity in _identities(path)}
    for path in outputs:
        for identity in _identities(path):
            if identity in given:
                raise DataError(
                    "the output is an input, which would be overwritten",
                    file=path,
                    value=f"input {given[identity]}",
                    remedy="give the output another name",
                )
    for one, other in combinations(outputs, 2):
        if set(_identities(one)) & set(_identities(other)):
            raise DataError(
                "two outputs are one file", file=one, value=str(other), remedy="give each output a name of its own"
            )


def _identities(path: Path) -> list[object]:
    """What is equal for two names of one file: the path without links and, of a file that exists, its number."""
    found: list[object] = [os.path.realpath(path)]  # unlike Path.resolve, it ends at links in a circle
    if path.exists():
        about = path.stat()
        found.append((about.st_dev, about.st_ino))
    return found


def require_outside(out: Path, dataset: Path) -> None:
    """Check that a folder of results and the dataset that they are made from do not lie in each other.

    Parameters
    ----------
    out : Path
        Folder of results. Below ``derivatives/`` of the dataset it is outside the raw data.
    dataset : Path
        BIDS dataset.

    Raises
    ------
    DataError
        One lies in the other, or they are one folder, by whatever names.
    """
    results, raw = (Path(os.path.realpath(path)) for path in (out, dataset))
    relation = ""
    if results == raw or (results.exists() and raw.exists() and results.samefile(raw)):
        relation = "are the dataset's own folder"
    elif results.is_relative_to(raw) and results.relative_to(raw).parts[0] != DERIVATIVES:
        relation = "lie inside the dataset"
    elif raw.is_relative_to(results):
        relation = "hold the dataset"
    if relation:
        raise DataError(
            f"the results would {relation}: raw data must not be written to",
            file=out,
            value=f"dataset {dataset}",
            remedy=f"choose another folder for the results, outside the dataset or below its {DERIVATIVES}/",
        )
