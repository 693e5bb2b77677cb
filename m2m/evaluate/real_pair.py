"""A real pair as `m2m translate-pairs` wrote it: T1, measured FA, a second measurement, and FA by every method."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m2m.io.bids import files_of, pair_map
from m2m.io.errors import DataError
from m2m.io.files import read_json
from m2m.io.masks import in_mask
from m2m.io.tables import read_table
from m2m.io.volume import Volume, load, require_same_grid
from m2m.models.pretrained import compared_weights
from m2m.options import Real
from m2m.options.real_options import ATLAS_AFFINE, ATLAS_SYN, PAIRS, SECOND_FOLDER


@dataclass(frozen=True)
class RealPair:
    """Images of a participant on the common grid of the pairs.

    Attributes
    ----------
    unit : str
    t1 : Volume
        Brain-extracted, divided by its median in white matter.
    target, wm : ndarray of bool, shape (X, Y, Z)
        Where FA was measured, in every series that is compared; white matter of the T1 in it.
    fa : ndarray, shape (X, Y, Z)
        Measured, 0 outside `target`.
    second : ndarray, shape (X, Y, Z), or None
        FA of another series of the participant.
    maps : dict of str to ndarray, shape (X, Y, Z)
        FA by each method.
    """

    unit: str
    t1: Volume
    target: NDArray[np.bool_]
    wm: NDArray[np.bool_]
    fa: NDArray[np.float32]
    second: NDArray[np.float32] | None
    maps: dict[str, NDArray[np.float32]]


def methods_of(section: Real) -> list[str]:
    """Names of the methods, in the order of the tables: weights, then the atlas where there is a reference map."""
    return [*compared_weights(section.weights), *((ATLAS_AFFINE, ATLAS_SYN) if section.reference_map else ())]


def compared_units(root: Path) -> list[dict[str, str | None]]:
    """Rows of pairs.tsv of the participants that did not fail.

    Raises
    ------
    DataError
        There are no pairs, or every participant failed.
    """
    if not (root / PAIRS).is_file():
        raise DataError("there are no real pairs", file=root / PAIRS, remedy="run `m2m translate-pairs` first")
    rows = read_table(root / PAIRS)
    if found := [row for row in rows if not row["problem"]]:
        return found
    raise DataError("no pair can be compared", file=root / PAIRS, remedy="see the column `problem`")


def load_pair(root: Path, row: dict[str, str | None], methods: Sequence[str]) -> RealPair:
    """Load a participant of the pairs.

    Parameters
    ----------
    root : Path
        Dataset of the pairs.
    row : dict
        Of pairs.tsv.
    methods : sequence of str

    Returns
    -------
    RealPair

    Raises
    ------
    DataError
        A file is missing, or was made before on another grid.
    """
    unit = str(row["unit"])
    at = files_of(unit, root)
    t1, wm, target, fa = (load(at(kind)) for kind in ("t1w", "wm", "target-mask", "fa"))
    maps = {name: load(pair_map(root, unit, name)) for name in methods}
    for name, image in {"measured FA": fa, **maps}.items():
        require_same_grid(t1, image, f"{unit}, T1 and {name}")
    inside, second = in_mask(target.data), None
    again = files_of(unit, root / SECOND_FOLDER)
    if row["second_dwi"] and read_json(again("grid-status"))["status"] == "ok":
        second = load(again("fa")).data
        inside = inside & in_mask(load(again("target-mask")).data)
    white = in_mask(wm.data)
    level = float(np.median(t1.data[white])) if white.any() else 1.0
    return RealPair(
        unit,
        Volume(t1.data / level, t1.affine),
        inside,
        inside & white,
        np.where(inside, fa.data, 0),
        second,
        {name: np.where(inside, image.data, 0) for name, image in maps.items()},
    )
