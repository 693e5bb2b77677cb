"""Checks of a diffusion series' gradients: b-values and b-vectors in FSL's layout.

References
----------
Six directions are the least that determine a tensor: Basser, Mattiello & LeBihan (1994),
Biophys J 66:259, https://doi.org/10.1016/S0006-3495(94)80775-1.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m2m.io.bvalues import UNIT_TOLERANCE, WORLD_TABLE, distinct_directions, shell_values, tensor_rank, volumes_of_fit
from m2m.io.errors import DataError, unreadable
from m2m.io.files import require_regular
from m2m.io.tables import read_numbers
from m2m.options import Dti

# Above any scanner's b-value: the value has another unit (s/m2).
B_MAX_S_PER_MM2 = 100_000.0
# Volumes up to here may be meant as b0 where nothing is lower: 7 T scanners write 60 to 100.
FARTHEST_B0_S_PER_MM2 = 200.0
# A volume without direction with this part of the signal of b0 is one: at b = 700, tissue has half of it.
BRIGHT_AS_B0 = 0.8
Brightness = Callable[[NDArray[np.bool_]], NDArray[np.float64]]
DEFAULT_FIT = Dti()
# Tables of numbers for thousands of volumes are smaller.
MOST_BYTES = 10e6


def _read_numbers(path: str | Path | None, kind: str, image: str | Path) -> NDArray:
    """Read a table of numbers, shape (rows, columns)."""
    if path is None:
        raise DataError(
            f"{kind} is missing",
            file=image,
            remedy=f"put the .{kind} file next to the image, or in a parent folder (BIDS inheritance)",
        )
    require_regular(path, kind, MOST_BYTES)
    try:
        return np.array(read_numbers(path), dtype=float)
    except (OSError, ValueError) as error:
        raise unreadable(error, f"{kind} cannot be read", path, "write plain rows of numbers") from error


def _require_rows(table: NDArray, rows: int, n: int | None, kind: str, path: str | Path) -> None:
    """Raise DataError unless a gradient table has the given rows, and one column for each of n volumes."""
    if table.ndim != 2 or table.size == 0:
        raise DataError(f"{kind} is empty", file=path, remedy="convert from DICOM again")
    if table.shape[0] != rows and table.shape[1] == rows:
        raise DataError(
            f"{kind} has rows and columns swapped",
            file=path,
            value=f"{table.shape[0]} rows of {table.shape[1]}",
            remedy=f"transpose the file: BIDS requires {rows} row(s), one column per volume",
        )
    if table.shape[0] != rows or (n is not None and table.shape[1] != n):
        expected = f"{rows} row(s) of {n if n is not None else 'one value per volume'}"
        raise DataError(
            f"{kind} is of other length than the image",
            file=path,
            value=f"{table.shape[0]} rows of {table.shape[1]}, expected {expected}",
            remedy="find the gradient table of this very series",
        )


@dataclass(frozen=True)
class Table:
    """A gradient table as it was read: b-values (N,) in s/mm2, and b-vectors (N, 3)."""

    bvals: NDArray[np.float64]
    bvecs: NDArray[np.float64]


def read_gradient_table(
    bval: str | Path | None, bvec: str | Path | None, image: str | Path, n_volumes: int | None
) -> tuple[Table | None, list[DataError]]:
    """Read b-values and b-vectors in FSL's layout, or MRtrix3's table (``.b``) as either.

    Parameters
    ----------
    bval : path or None
        One row of b-values in s/mm2.
    bvec : path or None
        Three rows, one column per volume.
    image : path
        Named in the problem where a file is missing.
    n_volumes : int or None
        Volumes of the image; None where unknown.

    Returns
    -------
    table : Table or None
        None where there are problems.
    problems : list of DataError
    """
    problems: list[DataError] = []
    tables = []
    for path, kind, rows in ((bval, "bval", slice(3, 4)), (bvec, "bvec", slice(0, 3))):
        try:
            table = _read_numbers(path, kind, image)
            if Path(path or "").suffix == WORLD_TABLE:
                _require_rows(table.T, 4, n_volumes, "gradient table", path or "")
                table = table.T[rows]
            _require_rows(table, len(range(4)[rows]), n_volumes, kind, path or "")
            tables.append(table)
        except DataError as error:
            problems.append(error)
    if problems:
        return None, problems[:1] if bval == bvec else problems
    bvals, bvecs = tables[0][0], tables[1].T
    if len(bvals) != len(bvecs):
        value = f"{len(bvals)} b-values, {len(bvecs)} b-vectors"
        remedy = "find the two files of this very series"
        return None, [DataError("bval and bvec differ in length", file=bvec or "", value=value, remedy=remedy)]
    return Table(bvals, bvecs), []


def check_gradients(
    bval: str | Path | None,
    bvec: str | Path | None,
    image: str | Path,
    n_volumes: int | None,
    fit: Dti = DEFAULT_FIT,
    brightness: Brightness | None = None,
) -> tuple[int, list[DataError]]:
    """Check b-values and b-vectors.

    Parameters
    ----------
    bval, bvec, image, n_volumes
        As in `read_gradient_table`.
    fit : Dti
        Whose b-value of an unweighted volume, and whose choice of shells count.
    brightness : function, optional
        From volumes, ndarray of bool (N,), to their mean signal.

    Returns
    -------
    n_directions : int
        Distinct directions that the tensor fit uses; opposite directions count once.
    problems : list of DataError
    """
    table, problems = read_gradient_table(bval, bvec, image, n_volumes)
    if table is None:
        return 0, problems
    bvals, bvecs, b0_threshold = table.bvals, table.bvecs, fit.b0_threshold_s_per_mm2
    problems += _bval_problems(bvals, bval or "", b0_threshold)
    if not problems:
        problems += _bvec_problems(bvals, bvecs, bvec or "", b0_threshold, brightness)
    if problems:
        return 0, problems
    directions = distinct_directions(bvecs[bvals > b0_threshold])
    problems += _direction_problems(directions, bvec or "")
    return (0 if problems else n_fitted(table, fit)), problems


def n_fitted(table: Table, fit: Dti) -> int:
    """Distinct directions that a tensor fit uses of a table; 0 where they determine no tensor."""
    used = _fitted(table, fit)
    return 0 if used is None else len(distinct_directions(table.bvecs[used]))


def within_limit(table: Table, fit: Dti) -> bool:
    """Whether a tensor fit uses no shell above its limit, which it does where the others determine no tensor."""
    used, values = _fitted(table, fit), shell_values(table.bvals, fit.b0_threshold_s_per_mm2)
    return used is not None and bool(values[used].max() <= fit.max_b_s_per_mm2 + fit.b_tolerance_s_per_mm2)


def _fitted(table: Table, fit: Dti) -> NDArray[np.bool_] | None:
    """Weighted volumes that a tensor fit uses."""
    b0_threshold = fit.b0_threshold_s_per_mm2
    used = volumes_of_fit(table.bvals, table.bvecs, b0_threshold, fit.max_b_s_per_mm2, fit.b_tolerance_s_per_mm2)
    return None if used is None else used & (table.bvals > b0_threshold)


def _bval_problems(bvals: NDArray, path: str | Path, b0_threshold: float) -> Iterator[DataError]:
    """Problems of b-values, shape (volumes,)."""
    low, high = bvals.min(), bvals.max()
    if not np.isfinite(bvals).all() or low < 0:
        yield DataError(
            "b-values are negative or not numbers",
            file=path,
            value=volumes_text(~np.isfinite(bvals) | (bvals < 0), "volume"),
            remedy="correct the file, or convert from DICOM again",
        )
        return
    if high <= b0_threshold or high > B_MAX_S_PER_MM2:
        yield DataError(
            "b-values are not plausible in s/mm2",
            file=path,
            value=f"largest {high:g}",
            remedy="write s/mm2 (1 ms/um2 is 1000); a series without diffusion weighting is not a DWI",
        )
    elif low > b0_threshold:
        near = f"if volumes of b = {low:g} are meant as b0, set dti.b0_threshold_s_per_mm2 above it; else "
        yield DataError(
            f"no b0: no volume with b <= {b0_threshold:g} s/mm2",
            file=path,
            value=f"smallest {low:g}",
            remedy=near * bool(low <= FARTHEST_B0_S_PER_MM2) + "merge the b0 images into the series",
        )


def _bvec_problems(
    bvals: NDArray, bvecs: NDArray, path: str | Path, b0_threshold: float, brightness: Brightness | None
) -> Iterator[DataError]:
    """Problems of b-vectors, shape (volumes, 3)."""
    unknown = ~np.isfinite(bvecs).all(axis=1)
    if unknown.any():
        yield DataError(
            "b-vectors have NaN or infinity",
            file=path,
            value=volumes_text(unknown, "volume"),
            remedy="write 0 0 0 for b0 volumes; find the direction of the others",
        )
        return
    lengths = np.linalg.norm(bvecs, axis=1)
    weighted = bvals > b0_threshold
    without = weighted & (lengths == 0)
    wrong = weighted & ~without & (np.abs(lengths - 1) > UNIT_TOLERANCE)
    if without.any():
        yield _no_direction(without, bvals, path, b0_threshold, brightness)
    if wrong.any():
        example = int(np.flatnonzero(wrong)[0])
        yield DataError(
            "b-vectors are not of unit length",
            file=path,
            value=f"{volumes_text(wrong, 'volume')}; length {lengths[example]:.3g} at b = {bvals[example]:g}",
            remedy="normalise bvec; where lengths encode the b-value, scale bval by their square, too",
        )


def _no_direction(
    without: NDArray, bvals: NDArray, path: str | Path, b0_threshold: float, brightness: Brightness | None
) -> DataError:
    """Weighted volumes with a zero vector: by their brightness b0 images or trace images."""
    value = f"{volumes_text(without, 'volume')}; b = {bvals[without][0]:g}"
    trace = "they are trace images, or means: remove them from image, bval and bvec"
    unweighted = "they are b0 images: write 0 for them in bval"
    b0, found = bvals <= b0_threshold, None
    if brightness is not None and b0.any():
        found = brightness(without).mean() / max(float(brightness(b0).mean()), 1e-9)
        value += f"; {100 * found:.0f} % of the brightness of b0"
    if found is None:
        remedy = f"where they are as bright as b0, {unweighted}; where they are darker, {trace}"
    else:
        remedy = unweighted if found > BRIGHT_AS_B0 else trace
    return DataError("weighted volumes have no direction (zero b-vector)", file=path, value=value, remedy=remedy)


def _direction_problems(directions: NDArray, path: str | Path) -> Iterator[DataError]:
    """Whether directions, shape (M, 3), determine a tensor."""
    rank = tensor_rank(directions)
    if len(directions) < 6:
        yield DataError(
            "fewer than six directions",
            file=path,
            value=f"{len(directions)} distinct directions",
            remedy="a tensor needs six: use another series of this participant",
        )
    elif rank < 6:
        yield DataError(
            "directions do not determine a tensor",
            file=path,
            value=f"{len(directions)} directions, {rank} of 6 tensor elements determined",
            remedy="they lie in a plane or on a cone: use another series of this participant",
        )


def volumes_text(which: NDArray | Sequence[bool], noun: str) -> str:
    """List the positions that are true, counted from 0: ``volumes 3, 7 (2 of 34)``."""
    positions = np.flatnonzero(which)
    named = ", ".join(str(p) for p in positions[:8]) + (", ..." if len(positions) > 8 else "")
    return f"{noun}s {named} ({len(positions)} of {len(which)})"
