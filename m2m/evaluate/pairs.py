"""One person's true and synthetic map, and what metrics ask of them: a value of a region.

Each function here takes a `Pair` and the name of a region, as `m2m.evaluate.metric_records` wants
them, and hands arrays to `m2m.evaluate.metrics`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m2m.evaluate import metrics as measures
from m2m.evaluate.measured_maps import Compared
from m2m.evaluate.perceptual import Perceptual

# True FA above which a direction means something.
DIRECTED_FA = 0.2
UM2_PER_MS = 1e3  # of 1 mm2/s


@dataclass(frozen=True)
class Pair:
    """A true and a synthetic map of one person on one grid.

    Attributes
    ----------
    true, synthetic : Compared
    regions : dict of str to ndarray of bool, shape (X, Y, Z)
        slice, brain and wm.
    density_threshold : float
        Tract density above which a voxel counts as tract.
    mean : ndarray, shape (X, Y, Z), or None
        Image of the training people's mean map, where there is one that is another model.
    perceptual : callable or None
        Gives LPIPS, where it can be computed.
    """

    true: Compared
    synthetic: Compared
    regions: Mapping[str, NDArray[np.bool_]]
    density_threshold: float
    mean: NDArray | None = None
    perceptual: Perceptual | None = None


Measure = Callable[[Pair, str], float]


def of_images(function: Callable[[NDArray, NDArray, NDArray], float]) -> Measure:
    """Take a function of a true image, a synthetic one (data range 1) and a region's voxels."""

    def measure(pair: Pair, region: str) -> float:
        return function(pair.true.image, pair.synthetic.image, pair.regions[region])

    return measure


def residual_r(pair: Pair, region: str) -> float:
    """Pearson's r of both maps' differences from the mean map: what is known of the person."""
    if pair.mean is None:
        return float("nan")
    inside = pair.regions[region]
    residuals = ((one.image - pair.mean)[inside] for one in (pair.true, pair.synthetic))
    return measures.pearson(*residuals)


def lpips(pair: Pair, region: str) -> float:
    """Mean LPIPS of axial slices."""
    if pair.perceptual is None or not pair.regions[region].any():
        return float("nan")
    return pair.perceptual(pair.true.image, pair.synthetic.image, pair.regions[region])


def tract_dice(pair: Pair, region: str) -> float:
    """Overlap of the voxels that are denser than a threshold."""
    inside = pair.regions[region]
    tracts = [(one.values > pair.density_threshold) & inside for one in (pair.true, pair.synthetic)]
    return measures.dice(*tracts)


def md_error(pair: Pair, region: str) -> float:
    """Mean absolute error of mean diffusivity, um2/ms, where the true tensor was measured."""
    a, b = pair.true.tensor, pair.synthetic.tensor
    measured = _measured(pair, region)
    return UM2_PER_MS * measures.mean_absolute_error(a.md, b.md, measured)


def tensor_distance(pair: Pair, region: str) -> float:
    """Mean log-Euclidean distance, where the true tensor was measured."""
    measured = _measured(pair, region)
    return measures.log_distance(pair.true.values, pair.synthetic.values, measured)


def direction_angle(pair: Pair, region: str) -> float:
    """Median angle between principal directions where true FA exceeds `DIRECTED_FA`, degrees."""
    directed = pair.regions[region] & (pair.true.image > DIRECTED_FA)
    return measures.median_angle_deg(pair.true.tensor.v1, pair.synthetic.tensor.v1, directed)


def _measured(pair: Pair, region: str) -> NDArray[np.bool_]:
    """Voxels of a region whose true tensor is not 0."""
    return pair.regions[region] & np.any(pair.true.values != 0, axis=-1)
