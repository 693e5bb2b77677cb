"""Streamlines of the page's viewer by the bundles that they belong to: the regions of the evaluation."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from nibabel.streamlines import ArraySequence

from m2m.evaluate.regions import roi_names, roi_source
from m2m.evaluate.streamlines import name_of, region_of
from m2m.io.errors import DataError
from m2m.io.volume import Volume
from m2m.options import Rois

# Streamlines that lie mostly in no region.
UNNAMED = "in no region"


class Regions(NamedTuple):
    """Labelled regions of a participant, on a grid in T1 space, and their names."""

    labels: Volume
    names: Mapping[int, str]


def region_source(rois: Rois, root: Path) -> Callable[[str, str, Volume], Regions | None]:
    """Make the function that loads the regions of a unit on a grid; it returns None where there are none.

    Parameters
    ----------
    rois : Rois
        Of the evaluation.
    root : Path
        The derivative dataset.

    Returns
    -------
    callable
        Of folder, unit and grid.
    """
    labels_of, names = roi_source(rois, root), roi_names(rois.labels)

    def load_regions(folder: str, unit: str, grid: Volume) -> Regions | None:
        if labels_of is None:
            return None
        try:
            return Regions(Volume(labels_of({"folder": folder, "unit": unit}, grid), grid.affine), names)
        except DataError as error:
            print(f"viewer: no bundles of {unit}: {error}")
            return None

    return load_regions


def by_bundle(streamlines: ArraySequence, count: int, regions: Regions | None) -> dict[str, ArraySequence]:
    """Choose at most `count` streamlines evenly; divide them by the region that each lies mostly in.

    Parameters
    ----------
    streamlines : ArraySequence
        T1 world mm.
    count : int
    regions : Regions or None
        Without regions all streamlines are `UNNAMED`.

    Returns
    -------
    dict of str to ArraySequence
        Bundles by name, in alphabetical order, then `UNNAMED`; none is empty.
    """
    chosen = streamlines[np.unique(np.linspace(0, len(streamlines) - 1, count).round().astype(int))]
    labels = region_of(chosen, regions.labels) if regions else np.zeros(len(chosen), int)
    names = regions.names if regions else {}
    found = {name_of(label, names): chosen[labels == label] for label in np.unique(labels[labels > 0])}
    rest = chosen[labels == 0]
    return dict(sorted(found.items())) | ({UNNAMED: rest} if len(rest) else {})
