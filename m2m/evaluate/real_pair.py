"""A real pair as `m2m translate-pairs` wrote it: T1, measured map, a second measurement, and a map by every method."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m2m.evaluate.measured_maps import Compared, compared
from m2m.io.bids import files_of, pair_map
from m2m.io.errors import DataError
from m2m.io.files import read_json
from m2m.io.masks import in_mask
from m2m.io.modalities import MODALITIES
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
        Where the map was measured, in every series that is compared; white matter of the T1 in it.
    measured : Compared
        Map of the participant, 0 outside `target`.
    second : Compared or None
        That of another series of the participant.
    maps : dict of str to Compared
        That by each method.
    """

    unit: str
    t1: Volume
    target: NDArray[np.bool_]
    wm: NDArray[np.bool_]
    measured: Compared
    second: Compared | None
    maps: dict[str, Compared]


def methods_of(section: Real) -> list[str]:
    """Names of the methods, in the order of the tables: weights, then the atlas where there is a reference map."""
    atlas = (ATLAS_AFFINE, ATLAS_SYN) if section.reference_map else ()
    return [*compared_weights(section.weights, section.target), *atlas]


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


def load_pair(root: Path, row: dict[str, str | None], methods: Sequence[str], target: str) -> RealPair:
    """Load a participant of the pairs.

    Parameters
    ----------
    root : Path
        Dataset of the pairs.
    row : dict
        Of pairs.tsv.
    methods : sequence of str
    target : str
        Modality that is compared.

    Returns
    -------
    RealPair

    Raises
    ------
    DataError
        A file is missing, or was made before on another grid.
    """
    unit, modality = str(row["unit"]), MODALITIES[target]
    at, again = files_of(unit, root), files_of(unit, root / SECOND_FOLDER)
    t1, wm, mask, measured = (load(at(kind)) for kind in ("t1w", "wm", "target-mask", modality.kind))
    maps = {name: load(pair_map(root, unit, name, modality.kind)) for name in methods}
    for name, image in {f"measured {modality.title}": measured, **maps}.items():
        require_same_grid(t1, image, f"{unit}, T1 and {name}")
    inside, second = in_mask(mask.data), None
    if row["second_dwi"] and read_json(again("grid-status"))["status"] == "ok":
        second = load(again(modality.kind))
        inside = inside & in_mask(load(again("target-mask")).data)

    def within(image: Volume) -> Compared:
        outside = ~inside.reshape(*inside.shape, *[1] * (image.data.ndim - 3))
        return compared(target, np.where(outside, 0, image.data))

    white = in_mask(wm.data)
    level = float(np.median(t1.data[white])) if white.any() else 1.0
    return RealPair(
        unit,
        Volume(t1.data / level, t1.affine),
        inside,
        inside & white,
        within(measured),
        None if second is None else within(second),
        {name: within(image) for name, image in maps.items()},
    )
