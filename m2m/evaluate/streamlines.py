"""Streamlines of a synthetic tensor field against those of the scan, bundle by bundle.

A streamline belongs to the labelled region in which most of its points lie, if at least half of
them do. All streamlines are in T1 world mm, RAS+.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.affines import apply_affine
from nibabel.streamlines import ArraySequence
from numpy.typing import NDArray

from m2m.diffusion import density
from m2m.evaluate import metrics as measures
from m2m.io.bids import unit_path
from m2m.io.files import read_json
from m2m.io.volume import Volume


@dataclass(frozen=True)
class Bundle:
    """The streamlines of one region.

    Attributes
    ----------
    n : int
    length_mm : float
        Mean; NaN where there is no streamline.
    volume_mm3 : float
        Of the voxels that they visit.
    count : ndarray of int, shape (X, Y, Z)
        Streamlines per voxel.
    """

    n: int
    length_mm: float
    volume_mm3: float
    count: NDArray[np.int32]


def true_streamlines(root: Path, folder: str, unit: str) -> ArraySequence:
    """Load the scan's streamlines and move them from DWI to T1 world mm.

    Raises
    ------
    DataError
        They are missing or empty (their stage failed).
    """
    streamlines = density.load_tractogram(unit_path(root, "tractogram", folder, unit))
    t1_to_dwi = np.array(read_json(unit_path(root, "grid-status", folder, unit))["t1_to_dwi"])
    return density.move(streamlines, np.linalg.inv(t1_to_dwi))


def synthetic_streamlines(synthetic_root: Path, folder: str, unit: str) -> ArraySequence:
    """Load the streamlines of the synthetic tensor field, in T1 world mm.

    Raises
    ------
    DataError
        They are missing or empty (their stage failed).
    """
    return density.load_tractogram(unit_path(synthetic_root, "synth-tractogram", folder, unit))


def region_of(streamlines: ArraySequence, labels: Volume) -> NDArray[np.int64]:
    """Find the region that each streamline belongs to.

    Parameters
    ----------
    streamlines : ArraySequence
        World mm of the label image.
    labels : Volume
        Integers, 0 is background.

    Returns
    -------
    ndarray of int, shape (streamlines,)
        0 for none; of two regions with half of the points each, the lower label.
    """
    points = apply_affine(np.linalg.inv(labels.affine), streamlines.get_data())
    voxels = np.rint(points).astype(int)
    inside = np.all((voxels >= 0) & (voxels < labels.shape), axis=1)
    label = np.zeros(len(voxels), np.int64)
    label[inside] = labels.data[tuple(voxels[inside].T)]
    lengths = np.array([len(points) for points in streamlines], dtype=np.int64)
    owner = np.repeat(np.arange(len(lengths)), lengths)
    top = int(labels.data.max()) + 1
    pairs, n_points = np.unique(owner * top + label, return_counts=True)
    owner, label = np.divmod(pairs, top)
    most = (label > 0) & (2 * n_points >= lengths[owner])
    regions = np.zeros(len(lengths), np.int64)
    regions[owner[most][::-1]] = label[most][::-1]
    return regions


def describe(streamlines: ArraySequence, grid: Volume) -> Bundle:
    """Count and measure streamlines on a grid of the same world.

    A length is the sum of the steps between points.
    """
    count = density.count_map(streamlines, grid.affine, grid.shape)
    steps = [np.linalg.norm(np.diff(points, axis=0), axis=1).sum() for points in streamlines]
    length_mm = float(np.mean(steps)) if steps else float("nan")
    volume_mm3 = float(np.count_nonzero(count) * np.prod(grid.spacing_mm))
    return Bundle(len(streamlines), length_mm, volume_mm3, count)


def density_r(true: NDArray, synthetic: NDArray) -> float:
    """Pearson's r of two count maps over the voxels that either visits; 0 where one is empty."""
    if not (true.any() and synthetic.any()):
        return 0.0
    union = (true > 0) | (synthetic > 0)
    return measures.pearson(true[union], synthetic[union])


def compare_bundles(
    true: ArraySequence,
    synthetic: ArraySequence,
    labels: Volume,
    names: Mapping[int, str],
    min_streamlines: int,
) -> list[dict[str, Any]]:
    """Compare two tractograms of one person, region by region.

    Parameters
    ----------
    true, synthetic : ArraySequence
        T1 world mm.
    labels : Volume
        Integers on the common grid, 0 is background.
    names : mapping of int to str
        A label without a name is called ``roi-<label>``.
    min_streamlines : int
        Regions with fewer true streamlines are left out.

    Returns
    -------
    list of dict
        bundle, true_n, synthetic_n, true_length_mm, synthetic_length_mm, true_volume_mm3,
        synthetic_volume_mm3, density_r. A bundle that the synthesis lacks has volume and
        density_r 0 and no length.
    """
    pair = {"true": (true, region_of(true, labels))}
    pair["synthetic"] = (synthetic, region_of(synthetic, labels))
    rows = []
    for label in np.unique(labels.data[labels.data > 0]):
        if (pair["true"][1] == label).sum() < min_streamlines:
            continue
        row: dict[str, Any] = {"bundle": names.get(int(label), f"roi-{int(label)}")}
        bundles = {
            kind: describe(streamlines[regions == label], labels)
            for kind, (streamlines, regions) in pair.items()
        }
        for key in ("n", "length_mm", "volume_mm3"):
            row |= {f"{kind}_{key}": getattr(bundle, key) for kind, bundle in bundles.items()}
        row["density_r"] = density_r(bundles["true"].count, bundles["synthetic"].count)
        rows.append(row)
    return rows


def agreement(bundles: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Agreement of one person's bundles: Lin's concordance of lengths and volumes, mean density r.

    Lengths are those of bundles that both tractograms have.
    """

    def concordance(key: str) -> float:
        pairs = np.array([[row[f"true_{key}"], row[f"synthetic_{key}"]] for row in bundles])
        pairs = pairs.reshape(-1, 2)
        return measures.concordance(*pairs[np.isfinite(pairs).all(axis=1)].T)

    values = [row["density_r"] for row in bundles if np.isfinite(row["density_r"])]
    return {
        "length_concordance": concordance("length_mm"),
        "volume_concordance": concordance("volume_mm3"),
        "density_r": float(np.mean(values)) if values else float("nan"),
    }
