"""Thin a population-averaged tractogram to the named bundles that m2m ships.

    python benchmarks/thin_bundles.py HCP1065_bundles.npz --out m2m/weights/bundles/hcp1065_bundles.npz

The file holds ``points_mni_mm`` (points, 3), ``offsets`` (streamlines + 1,), ``bundle`` (streamlines,) and ``names``:
the bundles of HCP1065 (github.com/frankyeh/data-atlas, commit 0682f8f), every 2 mm. Every run gives the same result.
It prints how deep the bundles lie in the white matter of the template, as they are and shifted.

References
----------
Yeh (2022), Nat Commun 13:4933, https://doi.org/10.1038/s41467-022-32595-4 (the tractogram, CC BY-SA 4.0).
Garyfallidis et al. (2012), QuickBundles, Front Neurosci 6:175, https://doi.org/10.3389/fnins.2012.00175.
"""

import argparse
import re
from itertools import product
from pathlib import Path

import numpy as np
from dipy.segment.clustering import QuickBundles
from dipy.tracking.streamline import orient_by_streamline, set_number_of_points
from nibabel.affines import apply_affine
from numpy.typing import NDArray
from scipy import ndimage

from m2m.io.files import whole
from m2m.structural.template import load_template

# Points of each streamline, and streamlines of each bundle, at most.
N_POINTS, MOST = 40, 40
# Least number of streamlines of a bundle; nerves outside of the brain are left out.
FEWEST, LEFT_OUT = 6, "CranialNerve"
# Shorter fragments, as a part of the bundle's median length, do not run from end to end.
SHORTEST = 0.5
# Distance (mm) of streamlines of one cluster: far, so that the largest one is the course of the bundle.
CLUSTER_MM = 30.0
# Multiples of a mm, which float16 holds exactly and which compress well.
ROUNDED_MM = 0.25
# End of the bundle at position 0 and at position 1, by the axis along which both ends are farthest apart.
ENDS = ("left to right", "posterior to anterior", "inferior to superior")
SHIFTS_MM = (-3, -2, -1, 0, 1, 2, 3)


def streamlines_of(path: Path) -> dict[str, list[NDArray]]:
    """Streamlines of each bundle by its name, float32, MNI152 mm."""
    with np.load(path) as found:
        points = found["points_mni_mm"].astype(np.float32)
        each = np.split(points, found["offsets"][1:-1].astype(int))
        names = [str(name) for name in found["names"]]
        bundles: dict[str, list[NDArray]] = {name: [] for name in names}
        for index, streamline in zip(found["bundle"], each, strict=True):
            bundles[names[index]].append(streamline)
    return bundles


def oriented(streamlines: list[NDArray]) -> NDArray[np.float64]:
    """Whole streamlines of a bundle with `N_POINTS` points, all in one direction, (n, N_POINTS, 3)."""
    lengths = np.array([np.linalg.norm(np.diff(one, axis=0), axis=1).sum() for one in streamlines])
    whole_ones = [one for one, mm in zip(streamlines, lengths, strict=True) if mm >= SHORTEST * np.median(lengths)]
    points = set_number_of_points(whole_ones, nb_points=N_POINTS)
    clusters = QuickBundles(threshold=CLUSTER_MM).cluster(points)
    course = max(clusters, key=len).centroid
    for _ in range(3):  # the mean of all that follow it is a better course
        points = orient_by_streamline(points, course, n_points=N_POINTS)
        course = np.mean(points, axis=0).astype(np.float32)
    return np.stack(points).astype(np.float64)


def typical(points: NDArray) -> NDArray:
    """At most `MOST` streamlines of a bundle: evenly spaced in their order along what they differ in most."""
    if len(points) <= MOST:
        return points
    flat = (points - points.mean(axis=0)).reshape(len(points), -1)
    first = np.linalg.svd(flat, full_matrices=False)[2][0]
    order = np.argsort(flat @ first, kind="stable")
    return points[order[np.round(np.linspace(0, len(order) - 1, MOST)).astype(int)]]


def main_axis(name: str, spans: dict[str, NDArray]) -> int:
    """Axis along which the ends of a bundle are farthest apart; of one hemisphere's, the same for both sides."""
    side = re.fullmatch(r"(.*[a-z])([LR])(_\w+)?", name)
    if side is None:
        return int(np.abs(spans[name]).argmax())
    both = [np.abs(spans[f"{side[1]}{letter}{side[3] or ''}"][1:]) for letter in "LR"]
    return 1 + int(np.sum(both, axis=0).argmax())


def depth(points: NDArray) -> None:
    """Print the template's white matter along the bundles, as they are and shifted."""
    wm = load_template("wm")
    to_voxel = np.linalg.inv(wm.affine)
    values = {
        shift: ndimage.map_coordinates(wm.data, apply_affine(to_voxel, points.reshape(-1, 3) + shift).T, order=1)
        for shift in product(SHIFTS_MM, repeat=3)
    }
    here, best = values[0, 0, 0], max(values, key=lambda shift: values[shift].mean())
    print(f"probability of white matter along the bundles: {here.mean():.3f}, above .5 at {(here > 0.5).mean():.3f}")
    print(f"highest for a shift by {best} mm: {values[best].mean():.3f}")


def main() -> None:
    """Thin, orient, write, and print what was done."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tractogram", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    kept = {
        name: oriented(streamlines)
        for name, streamlines in streamlines_of(arguments.tractogram).items()
        if len(streamlines) >= FEWEST and not name.startswith(LEFT_OUT)
    }
    spans = {name: points[:, -1].mean(axis=0) - points[:, 0].mean(axis=0) for name, points in kept.items()}
    bundles, ends = {}, []
    for name, points in kept.items():
        axis = main_axis(name, spans)
        bundles[name] = typical(points if spans[name][axis] >= 0 else points[:, ::-1])
        ends.append(ENDS[axis])
        print(f"{name}: {len(bundles[name])} of {len(points)}, {ends[-1]}")
    together = np.concatenate([*bundles.values()])
    depth(together)
    with whole(arguments.out) as temporary:
        np.savez_compressed(
            temporary,
            points_mni_mm=(np.round(together / ROUNDED_MM) * ROUNDED_MM).astype(np.float16),
            bundle=np.repeat(np.arange(len(bundles)), [len(one) for one in bundles.values()]).astype(np.uint8),
            names=np.array([*bundles]),
            ends=np.array(ends),
        )
    print(f"{arguments.out}: {len(bundles)} bundles, {len(together)} streamlines, {arguments.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
