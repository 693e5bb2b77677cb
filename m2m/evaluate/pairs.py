"""One participant's reference and synthetic map, and the metrics that compare them in a region.

Each function takes a `Pair` and the name of a region, as `m2m.evaluate.metric_records` expects, and
passes arrays to `m2m.evaluate.metrics`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m2m.diffusion.tensors import Measures
from m2m.evaluate import metrics as measures
from m2m.evaluate.measured_maps import Compared
from m2m.evaluate.perceptual import Perceptual

# Reference FA above which the principal direction is meaningful.
DIRECTED_FA = 0.2
UM2_PER_MS = 1e3  # 1 mm2/s in um2/ms


@dataclass(frozen=True)
class Pair:
    """The measured map (the reference) and the synthetic map of one participant, on one grid.

    Attributes
    ----------
    reference, synthetic : Compared
    regions : dict of str to ndarray of bool, shape (X, Y, Z)
        Regions slice, brain and wm.
    density_threshold : float
        Tract density above which a voxel counts as tract.
    mean : ndarray, shape (X, Y, Z), or None
        Image of the training participants' mean map; None without one, or where that is the
        evaluated model itself.
    perceptual : callable or None
        Computes LPIPS; None where it is not available.
    """

    reference: Compared
    synthetic: Compared
    regions: Mapping[str, NDArray[np.bool_]]
    density_threshold: float
    mean: NDArray | None = None
    perceptual: Perceptual | None = None


Measure = Callable[[Pair, str], float]


def of_images(function: Callable[[NDArray, NDArray, NDArray], float]) -> Measure:
    """Make a measure from a function of the reference image, the synthetic image and a region's voxels.

    Images have data range 1.
    """

    def measure(pair: Pair, region: str) -> float:
        return function(pair.reference.image, pair.synthetic.image, pair.regions[region])

    return measure


def residual_r(pair: Pair, region: str) -> float:
    """Pearson's r of both maps' differences from the mean map: what is specific to the participant."""
    if pair.mean is None:
        return float("nan")
    inside = pair.regions[region]
    residuals = ((one.image - pair.mean)[inside] for one in (pair.reference, pair.synthetic))
    return measures.pearson(*residuals)


def lpips(pair: Pair, region: str) -> float:
    """Mean LPIPS of axial slices."""
    if pair.perceptual is None or not pair.regions[region].any():
        return float("nan")
    return pair.perceptual(pair.reference.image, pair.synthetic.image, pair.regions[region])


def tract_dice(pair: Pair, region: str) -> float:
    """Overlap of the voxels that are denser than a threshold."""
    inside = pair.regions[region]
    tracts = [(one.values > pair.density_threshold) & inside for one in (pair.reference, pair.synthetic)]
    return measures.dice(*tracts)


def md_error(pair: Pair, region: str) -> float:
    """Mean absolute error of mean diffusivity, um2/ms, where the reference tensor was measured."""
    a, b = _tensors(pair)
    measured = _measured(pair, region)
    return UM2_PER_MS * measures.mean_absolute_error(a.md, b.md, measured)


def tensor_distance(pair: Pair, region: str) -> float:
    """Mean log-Euclidean distance, where the reference tensor was measured."""
    measured = _measured(pair, region)
    return measures.log_distance(pair.reference.values, pair.synthetic.values, measured)


def direction_angle(pair: Pair, region: str) -> float:
    """Median angle between principal directions where reference FA exceeds `DIRECTED_FA`, degrees."""
    directed = pair.regions[region] & (pair.reference.image > DIRECTED_FA)
    a, b = _tensors(pair)
    return measures.median_angle_deg(a.v1, b.v1, directed)


def _tensors(pair: Pair) -> tuple[Measures, Measures]:
    """Measures of both tensors of a pair of tensor maps."""
    a, b = pair.reference.tensor, pair.synthetic.tensor
    assert a is not None and b is not None, "metrics of tensors are computed for tensor maps only"
    return a, b


def _measured(pair: Pair, region: str) -> NDArray[np.bool_]:
    """Voxels of a region whose reference tensor is not 0."""
    return pair.regions[region] & np.any(pair.reference.values != 0, axis=-1)
