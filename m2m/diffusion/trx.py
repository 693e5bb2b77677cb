"""TRX files: streamlines and, by name, the groups that they belong to, such as bundles.

A TRX file is a zip archive, without compression, of plain arrays and a header; points are world mm, RAS+. The arrays
are read and written here, since trx-python opens a file for writing to read it, which fails where it is read-only, and
stores the times of its temporary files, so that the same streamlines give other bytes each time.

References
----------
The TRX specification, version 1, https://tee-ar-ex.github.io; BIDS extension proposal 46 (draft), which asks for it,
https://github.com/bids-standard/bids-specification/pull/2333.
"""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from nibabel.streamlines import ArraySequence
from numpy.typing import ArrayLike, NDArray

from m2m.io.files import whole

# Permissions of the files in the archive, once they are unpacked.
_MODE = 0o644 << 16


def write_trx(
    path: str | Path,
    streamlines: ArraySequence,
    affine: NDArray,
    shape: tuple[int, ...],
    groups: Mapping[str, ArrayLike] | None = None,
) -> None:
    """Write a TRX file; it is complete or does not exist, and the same streamlines give the same bytes.

    Parameters
    ----------
    path : path
    streamlines : ArraySequence
        World mm, RAS+.
    affine : ndarray, shape (4, 4)
        Of the image that they were tracked in.
    shape : tuple of int
        Of that image.
    groups : mapping of str to array_like, optional
        Indices of the streamlines of each group.

    Raises
    ------
    ValueError
        The name of a group has a dot or a slash, which separate the parts of a name in the archive.
    """
    points = streamlines.get_data().reshape(-1, 3)
    ends = np.cumsum([0, *map(len, streamlines)])
    header = {
        "VOXEL_TO_RASMM": np.asarray(affine, float).tolist(),
        "DIMENSIONS": list(map(int, shape[:3])),
        "NB_VERTICES": len(points),
        "NB_STREAMLINES": len(streamlines),
    }
    files = {"header.json": json.dumps(header).encode()}
    files["positions.3.float32"] = points.astype("<f4").tobytes()
    files["offsets.uint64"] = ends.astype("<u8").tobytes()
    for name, members in (groups or {}).items():
        if set("./") & set(name):
            raise ValueError(f"the name of a group of streamlines has no dot and no slash, {name!r} does")
        files[f"groups/{name}.uint32"] = np.asarray(members).astype("<u4").tobytes()
    with whole(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, content in files.items():
            about = zipfile.ZipInfo(name)
            about.external_attr = _MODE
            archive.writestr(about, content)


def read_trx(path: str | Path) -> ArraySequence:
    """Read the streamlines of a TRX file: points in world mm, RAS+, shape (N, 3) each.

    Raises
    ------
    ValueError
        It is no such archive, an array is missing or damaged, or their sizes disagree.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.partition(".")[0]: name for name in archive.namelist() if "/" not in name}
            found = {key: archive.read(names[key]) for key in ("header", "positions", "offsets")}
    except (zipfile.BadZipFile, KeyError, NotImplementedError) as error:
        raise ValueError(f"no TRX file: {error}") from error
    types = {key: np.dtype(names[key].rpartition(".")[2]).newbyteorder("<") for key in ("positions", "offsets")}
    points = np.frombuffer(found["positions"], types["positions"]).reshape(-1, 3)
    ends = np.frombuffer(found["offsets"], types["offsets"]).astype(np.int64)
    header = json.loads(found["header"])
    expected = [header.get(key) for key in ("NB_STREAMLINES", "NB_VERTICES")]
    if [len(ends) - 1, len(points)] != expected or ends[0] != 0 or ends[-1] != len(points) or (np.diff(ends) < 0).any():
        raise ValueError(f"its header has {expected} streamlines and points, its arrays {[len(ends) - 1, len(points)]}")
    streamlines = ArraySequence()
    # As nibabel's own readers fill it: a list of views would be built and copied again.
    streamlines._data = points.astype(np.float32)
    streamlines._offsets, streamlines._lengths = ends[:-1], np.diff(ends)
    return streamlines
