"""Checks of a diffusion series' gradients: b-values and b-vectors in FSL's layout.

References
----------
Six directions are the least that determine a tensor: Basser, Mattiello & LeBihan (1994),
Biophys J 66:259, https://doi.org/10.1016/S0006-3495(94)80775-1.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m2m.io.errors import DataError, unreadable

# DIPY's convention (`gradient_table(b0_threshold=50)`): b-values up to here are unweighted.
B0_MAX_S_PER_MM2 = 50.0
# Above what any scanner does: the value is in other units (s/m2).
B_MAX_S_PER_MM2 = 100_000.0
# A written unit vector of two decimals is within this of length 1.
UNIT_TOLERANCE = 0.02
# Directions closer than this (or than this to the opposite) are one direction.
SAME_DIRECTION_DEGREES = 1.0


def _read_numbers(path: str | Path | None, kind: str, image: str | Path) -> NDArray:
    """Read a table of numbers, shape (rows, columns)."""
    if path is None:
        raise DataError(
            f"{kind} is missing",
            file=image,
            remedy=f"put the .{kind} file beside the image, or higher up by BIDS inheritance",
        )
    try:
        with Path(path).open(encoding="utf-8") as stream:
            rows = [line.split() for line in stream if line.strip()]
        if len({len(row) for row in rows}) > 1:
            raise ValueError(f"its rows have {[len(row) for row in rows]} values")
        return np.array(rows, dtype=float)
    except (OSError, ValueError) as error:
        raise unreadable(
            error, f"{kind} cannot be read", path, "write plain rows of numbers"
        ) from error


def _require_rows(table: NDArray, rows: int, n: int | None, kind: str, path: str | Path) -> None:
    """Raise unless a gradient table has its rows, and one column for each of n volumes."""
    if table.ndim != 2 or table.size == 0:
        raise DataError(f"{kind} is empty", file=path, remedy="convert from DICOM again")
    if table.shape[0] != rows and table.shape[1] == rows:
        raise DataError(
            f"{kind} has rows and columns swapped",
            file=path,
            value=f"{table.shape[0]} rows of {table.shape[1]}",
            remedy=f"transpose the file: BIDS asks for {rows} row(s), one column per volume",
        )
    if table.shape[0] != rows or (n is not None and table.shape[1] != n):
        expected = f"{rows} row(s) of {n if n is not None else 'one value per volume'}"
        raise DataError(
            f"{kind} is of other length than the image",
            file=path,
            value=f"{table.shape[0]} rows of {table.shape[1]}, expected {expected}",
            remedy="find the gradient table of this very series",
        )


def check_gradients(
    bval: str | Path | None,
    bvec: str | Path | None,
    image: str | Path,
    n_volumes: int | None,
) -> tuple[int, list[DataError]]:
    """Check b-values and b-vectors in FSL's layout.

    Parameters
    ----------
    bval : path or None
        One row of b-values in s/mm2.
    bvec : path or None
        Three rows, one column per volume; b-vectors of unit length along the image's axes.
    image : path
        Named where a file is missing.
    n_volumes : int or None
        Volumes of the image; None where unknown.

    Returns
    -------
    n_directions : int
        Distinct directions among the weighted volumes, opposite ones counted once.
    problems : list of DataError
    """
    problems: list[DataError] = []
    tables = []
    for path, kind, rows in ((bval, "bval", 1), (bvec, "bvec", 3)):
        try:
            table = _read_numbers(path, kind, image)
            _require_rows(table, rows, n_volumes, kind, path or "")
            tables.append(table)
        except DataError as error:
            problems.append(error)
    if problems:
        return 0, problems
    bvals, bvecs = tables[0][0], tables[1].T
    if len(bvals) != len(bvecs):
        value = f"{len(bvals)} b-values, {len(bvecs)} b-vectors"
        remedy = "find the two files of this very series"
        return 0, [
            DataError("bval and bvec differ in length", file=bvec, value=value, remedy=remedy)
        ]
    problems += _bval_problems(bvals, bval)
    if not problems:
        problems += _bvec_problems(bvals, bvecs, bvec)
    if problems:
        return 0, problems
    directions = distinct_directions(bvecs[bvals > B0_MAX_S_PER_MM2])
    return len(directions), list(_direction_problems(directions, bvec))


def _bval_problems(bvals: NDArray, path: str | Path) -> Iterator[DataError]:
    """What is wrong with b-values, shape (volumes,)."""
    low, high = bvals.min(), bvals.max()
    if not np.isfinite(bvals).all() or low < 0:
        yield DataError(
            "b-values are negative or not numbers",
            file=path,
            value=volumes_text(~np.isfinite(bvals) | (bvals < 0), "volume"),
            remedy="correct the file, or convert from DICOM again",
        )
        return
    if high <= B0_MAX_S_PER_MM2 or high > B_MAX_S_PER_MM2:
        yield DataError(
            "b-values are not plausible in s/mm2",
            file=path,
            value=f"largest {high:g}",
            remedy="write s/mm2 (1 ms/um2 is 1000); a series without weighting is no DWI",
        )
    elif low > B0_MAX_S_PER_MM2:
        yield DataError(
            f"no b0: no volume with b <= {B0_MAX_S_PER_MM2:g} s/mm2",
            file=path,
            value=f"smallest {low:g}",
            remedy="merge the b0 images into the series",
        )


def _bvec_problems(bvals: NDArray, bvecs: NDArray, path: str | Path) -> Iterator[DataError]:
    """What is wrong with b-vectors, shape (volumes, 3)."""
    unknown = ~np.isfinite(bvecs).all(axis=1)
    if unknown.any():
        yield DataError(
            "b-vectors hold NaN or infinity",
            file=path,
            value=volumes_text(unknown, "volume"),
            remedy="write 0 0 0 for b0 volumes; find the direction of the others",
        )
        return
    lengths = np.linalg.norm(bvecs, axis=1)
    wrong = (bvals > B0_MAX_S_PER_MM2) & (np.abs(lengths - 1) > UNIT_TOLERANCE)
    if wrong.any():
        example = int(np.flatnonzero(wrong)[0])
        yield DataError(
            "b-vectors are not of unit length",
            file=path,
            value=f"{volumes_text(wrong, 'volume')}; length {lengths[example]:.3g} "
            f"at b = {bvals[example]:g}",
            remedy="a zero vector at high b is a trace image: remove the volume; where lengths "
            "carry the b-value, scale bval and normalise bvec",
        )


def distinct_directions(vectors: NDArray) -> NDArray:
    """Keep one of each direction; a vector and its opposite are one.

    Parameters
    ----------
    vectors : ndarray, shape (N, 3)
        Unit vectors.

    Returns
    -------
    ndarray, shape (M, 3)
    """
    same = np.cos(np.deg2rad(SAME_DIRECTION_DEGREES))
    kept = np.empty((0, 3))
    for vector in vectors / np.linalg.norm(vectors, axis=1, keepdims=True):
        if not (np.abs(kept @ vector) > same).any():
            kept = np.vstack([kept, vector])
    return kept


def _direction_problems(directions: NDArray, path: str | Path) -> Iterator[DataError]:
    """Whether directions, shape (M, 3), determine a tensor."""
    x, y, z = directions.T
    rank = np.linalg.matrix_rank(np.stack([x * x, y * y, z * z, x * y, x * z, y * z]), tol=1e-2)
    if len(directions) < 6:
        yield DataError(
            "fewer than six directions",
            file=path,
            value=f"{len(directions)} distinct directions",
            remedy="a tensor needs six: use another series of this person",
        )
    elif rank < 6:
        yield DataError(
            "directions do not determine a tensor",
            file=path,
            value=f"{len(directions)} directions, {rank} of 6 tensor elements determined",
            remedy="they lie in a plane or on a cone: use another series of this person",
        )


def volumes_text(which: NDArray | Sequence[bool], noun: str) -> str:
    """Name the positions that are true, counted from 0: ``volumes 3, 7 (2 of 34)``."""
    positions = np.flatnonzero(which)
    named = ", ".join(str(p) for p in positions[:8]) + (", ..." if len(positions) > 8 else "")
    return f"{noun}s {named} ({len(positions)} of {len(which)})"
