"""Streamlines of a synthetic tensor field compared with those of the measured one, bundle by bundle.

A streamline belongs to the labelled region that holds most of its points, if that is at least half
of them. All streamlines are in T1 world mm, RAS+.
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
    """Streamlines of one region.

    Attributes
    ----------
    n : int
    length_mm : float
        Mean length; NaN without streamlines.
    volume_mm3 : float
        Volume of the visited voxels.
    count : ndarray of int, shape (X, Y, Z)
        Streamlines per voxel.
    """

    n: int
    length_mm: float
    volume_mm3: float
    count: NDArray[np.int32]


def reference_streamlines(root: Path, folder: str, unit: str) -> ArraySequence:
    """Load the streamlines of the measured tensor field and transform them from DWI to T1 world mm.

    Parameters
    ----------
    root : Path
        Dataset of the results.
    folder, unit : str
        Columns of units.tsv.

    Returns
    -------
    ArraySequence
        T1 world mm.

    Raises
    ------
    DataError
        The file is missing or empty (its stage failed).
    """
    streamlines = density.load_tractogram(unit_path(root, "tractogram", folder, unit))
    t1_to_dwi = np.array(read_json(unit_path(root, "grid-status", folder, unit))["t1_to_dwi"])
    return density.move(streamlines, np.linalg.inv(t1_to_dwi))


def synthetic_streamlines(synthetic_root: Path, folder: str, unit: str) -> ArraySequence:
    """Load the streamlines of the synthetic tensor field.

    Parameters
    ----------
    synthetic_root : Path
        Dataset of the model's synthetic maps.
    folder, unit : str
        Columns of units.tsv.

    Returns
    -------
    ArraySequence
        T1 world mm.

    Raises
    ------
    DataError
        The file is missing or empty (its stage failed).
    """
    return density.load_tractogram(unit_path(synthetic_root, "synth-tractogram", folder, unit))


def region_of(streamlines: ArraySequence, labels: Volume) -> NDArray[np.int64]:
    """Find the region that each streamline belongs to.

    Parameters
    ----------
    streamlines : ArraySequence
        World mm of the label image's space.
    labels : Volume
        Integers, 0 is background.

    Returns
    -------
    ndarray of int, shape (streamlines,)
        Label, 0 for none; the lower label where two regions hold half of the points each.
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


def name_of(label: int, names: Mapping[int, str]) -> str:
    """Name of a region."""
    return names.get(int(label), f"roi-{int(label)}")


def describe(streamlines: ArraySequence, grid: Volume) -> Bundle:
    """Count and measure streamlines on a grid in the same world space.

    The length of a streamline is the sum of the distances between successive points.
    """
    count = density.count_map(streamlines, grid.affine, grid.shape)
    steps = [np.linalg.norm(np.diff(points, axis=0), axis=1).sum() for points in streamlines]
    length_mm = float(np.mean(steps)) if steps else float("nan")
    volume_mm3 = float(np.count_nonzero(count) * np.prod(grid.spacing_mm))
    return Bundle(len(streamlines), length_mm, volume_mm3, count)


def density_r(reference: NDArray, synthetic: NDArray) -> float:
    """Pearson's r of two count maps over the voxels that are not 0 in both; 0 where one map is empty."""
    if not (reference.any() and synthetic.any()):
        return 0.0
    union = (reference > 0) | (synthetic > 0)
    return measures.pearson(reference[union], synthetic[union])


def compare_bundles(
    reference: ArraySequence,
    synthetic: ArraySequence,
    labels: Volume,
    names: Mapping[int, str],
    min_streamlines: int,
) -> list[dict[str, Any]]:
    """Compare two tractograms of one participant, region by region.

    Parameters
    ----------
    reference, synthetic : ArraySequence
        T1 world mm.
    labels : Volume
        Integers on the common grid, 0 is background.
    names : mapping of int to str
        A label without a name is called ``roi-<label>``.
    min_streamlines : int
        Regions with fewer reference streamlines are left out.

    Returns
    -------
    list of dict
        bundle, reference_n, synthetic_n, reference_length_mm, synthetic_length_mm, reference_volume_mm3,
        synthetic_volume_mm3, density_r, dice. A bundle without synthetic streamlines has volume,
        density_r and dice 0 and length NaN.
    """
    pair = {"reference": (reference, region_of(reference, labels))}
    pair["synthetic"] = (synthetic, region_of(synthetic, labels))
    rows = []
    for label in np.unique(labels.data[labels.data > 0]):
        if (pair["reference"][1] == label).sum() < min_streamlines:
            continue
        row: dict[str, Any] = {"bundle": name_of(label, names)}
        bundles = {
            kind: describe(streamlines[regions == label], labels) for kind, (streamlines, regions) in pair.items()
        }
        for key in ("n", "length_mm", "volume_mm3"):
            row |= {f"{kind}_{key}": getattr(bundle, key) for kind, bundle in bundles.items()}
        counts = bundles["reference"].count, bundles["synthetic"].count
        row["density_r"] = density_r(*counts)
        row["dice"] = measures.dice(*(count > 0 for count in counts))
        rows.append(row)
    return rows


def agreement(bundles: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Compute Lin's concordance of lengths and of volumes, mean density r and mean Dice of one participant's bundles.

    Lengths are compared over bundles that both tractograms have.
    """

    def concordance(key: str) -> float:
        pairs = np.array([[row[f"reference_{key}"], row[f"synthetic_{key}"]] for row in bundles])
        pairs = pairs.reshape(-1, 2)
        return measures.concordance(*pairs[np.isfinite(pairs).all(axis=1)].T)

    def mean(key: str) -> float:
        values = [row[key] for row in bundles if np.isfinite(row[key])]
        return float(np.mean(values)) if values else float("nan")

    return {
        "length_concordance": concordance("length_mm"),
        "volume_concordance": concordance("volume_mm3"),
        "density_r": mean("density_r"),
        "bundle_dice": mean("dice"),
    }
