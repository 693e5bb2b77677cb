"""How near a synthetic map is to the true one: voxels, structure, directions, regions of interest.

Everything is computed on float images with a stated data range. Both images are set to zero
outside the target mask first, so voxels outside it cannot change a value.

References
----------
SSIM: Wang et al. (2004), IEEE TIP 13:600-612, https://doi.org/10.1109/TIP.2003.819861.
Concordance: Lin (1989), Biometrics 45:255-268, https://doi.org/10.2307/2532051.
Overlap: Dice (1945), Ecology 26:297-302, https://doi.org/10.2307/1932409.
Distance of tensors: Arsigny et al. (2006), MRM 56:411-421, https://doi.org/10.1002/mrm.20965.
Distance of histograms: Rubner et al. (2000), IJCV 40:99-121, https://doi.org/10.1023/A:1026543900054.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage, stats
from skimage.metrics import structural_similarity

from m2m.diffusion import tensors

SSIM_WINDOW = 11


@dataclass(frozen=True)
class Roi:
    """Mean of the true and of the synthetic map in one region of interest."""

    name: str
    true: float
    synthetic: float
    n_voxels: int


def psnr(true: NDArray, synthetic: NDArray, region: NDArray, data_range: float = 1.0) -> float:
    """Peak signal-to-noise ratio over a region, 10 log10(range^2 / mean squared error), in dB.

    Parameters
    ----------
    true, synthetic : ndarray, shape (X, Y, Z)
    region : ndarray of bool, shape (X, Y, Z)
    data_range : float
        Largest possible minus smallest possible value: 1 for FA.

    Returns
    -------
    float
        Infinite where the images agree exactly; NaN where the region is empty.
    """
    if not region.any():
        return float("nan")
    error = np.mean((true[region].astype(np.float64) - synthetic[region]) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(data_range**2 / error))


def mean_absolute_error(true: NDArray, synthetic: NDArray, region: NDArray) -> float:
    """Mean absolute difference over a region; NaN where the region is empty."""
    if not region.any():
        return float("nan")
    return float(np.mean(np.abs(true[region].astype(np.float64) - synthetic[region])))


def mean_error(true: NDArray, synthetic: NDArray, region: NDArray) -> float:
    """Mean of synthetic minus true over a region: what values drift by. NaN where it is empty."""
    if not region.any():
        return float("nan")
    return float(np.mean(synthetic[region].astype(np.float64) - true[region]))


def pearson(x: ArrayLike, y: ArrayLike) -> float:
    """Pearson's correlation of two series; NaN where one of them does not vary."""
    x, y = np.asarray(x, np.float64).ravel(), np.asarray(y, np.float64).ravel()
    if x.size < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])


def concordance(true: ArrayLike, synthetic: ArrayLike) -> float:
    """Lin's concordance correlation coefficient, 2 cov / (var + var + (difference of means)^2).

    Unlike Pearson's correlation it falls when values are shifted or scaled. NaN where there are
    fewer than two values or where neither series varies.
    """
    x, y = np.asarray(true, np.float64), np.asarray(synthetic, np.float64)
    if x.size < 2:
        return float("nan")
    spread = x.var() + y.var() + (x.mean() - y.mean()) ** 2
    if spread == 0:
        return float("nan")
    return float(2 * np.mean((x - x.mean()) * (y - y.mean())) / spread)


def dice(true: NDArray[np.bool_], synthetic: NDArray[np.bool_]) -> float:
    """Overlap of two sets of voxels, 2 |A and B| / (|A| + |B|), 0 to 1; NaN if both are empty."""
    size = int(true.sum() + synthetic.sum())
    return float("nan") if size == 0 else 2 * int((true & synthetic).sum()) / size


def sharpness_ratio(true: NDArray, synthetic: NDArray, region: NDArray) -> float:
    """Mean gradient of the synthetic over that of the true image: 1 is right, below is blurred.

    Parameters
    ----------
    true, synthetic : ndarray, shape (X, Y, Z)
        Isotropic voxels.
    region : ndarray of bool, shape (X, Y, Z)
        Gradients (central differences) are averaged over voxels whose six neighbours lie in it,
        so that the step at its edge does not count.

    Returns
    -------
    float
        NaN where the region has no such voxel or the true image does not vary in it.
    """
    inside = ndimage.binary_erosion(region)
    if not inside.any():
        return float("nan")
    steepness = [
        np.sqrt(sum(part[inside].astype(np.float64) ** 2 for part in np.gradient(image))).mean()
        for image in (true, synthetic)
    ]
    return float(steepness[1] / steepness[0]) if steepness[0] > 0 else float("nan")


def histogram_distance(true: NDArray, synthetic: NDArray, region: NDArray) -> float:
    """Wasserstein distance of two images' values over a region, wherever the values lie in it.

    In the images' unit: how far a value must move on average. NaN where the region is empty.
    """
    if not region.any():
        return float("nan")
    return float(stats.wasserstein_distance(true[region], synthetic[region]))


def median_angle_deg(true: NDArray, synthetic: NDArray, region: NDArray) -> float:
    """Median angle between two fields of axes over a region, 0 to 90 degrees; 60 by chance.

    Parameters
    ----------
    true, synthetic : ndarray, shape (X, Y, Z, 3)
        Unit vectors, their signs without meaning. A vector of 0, where nothing was predicted,
        is at a right angle to everything.
    region : ndarray of bool, shape (X, Y, Z)
        NaN where it is empty.
    """
    if not region.any():
        return float("nan")
    cosine = np.abs((true[region].astype(np.float64) * synthetic[region]).sum(axis=-1))
    return float(np.median(np.degrees(np.arccos(np.clip(cosine, 0, 1)))))


def log_distance(true: NDArray, synthetic: NDArray, region: NDArray) -> float:
    """Mean log-Euclidean distance of two tensor fields over a region: |log A - log B|, Frobenius.

    Parameters
    ----------
    true, synthetic : ndarray, shape (X, Y, Z, 6)
        mm2/s, elements as in `m2m.diffusion.tensors`; the distance has no unit.
    region : ndarray of bool, shape (X, Y, Z)
        NaN where it is empty.
    """
    if not region.any():
        return float("nan")
    difference = tensors.logarithm(true[region]) - tensors.logarithm(synthetic[region])
    return float(np.linalg.norm(tensors.to_matrix(difference), axis=(-2, -1)).mean())


def ssim_map(true: NDArray, synthetic: NDArray, data_range: float = 1.0) -> NDArray[np.float64]:
    """Local structural similarity of each axial slice (Gaussian window, sigma 1.5 voxels).

    Parameters
    ----------
    true, synthetic : ndarray, shape (X, Y, Z)
        Axial slices lie along the last axis.
    data_range : float

    Returns
    -------
    ndarray, shape (X, Y, Z)
        -1..1 at each voxel; averaged over a region it is that region's SSIM.

    Raises
    ------
    ValueError
        A slice is smaller than the window.
    """
    if min(true.shape[:2]) < SSIM_WINDOW:
        raise ValueError(
            f"SSIM needs slices of at least {SSIM_WINDOW} x {SSIM_WINDOW} voxels, got "
            f"{true.shape[0]} x {true.shape[1]}"
        )
    similarity = np.empty(true.shape, dtype=np.float64)
    for k in range(true.shape[2]):
        if not (true[..., k].any() or synthetic[..., k].any()):
            similarity[..., k] = 1  # two empty slices agree; skipping them saves half the time
            continue
        _, similarity[..., k] = structural_similarity(
            true[..., k].astype(np.float64), synthetic[..., k].astype(np.float64),
            data_range=data_range, gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False, full=True,
        )  # fmt: skip
    return similarity


def region_metrics(
    true: NDArray,
    synthetic: NDArray,
    target_mask: NDArray,
    regions: Mapping[str, NDArray],
    data_range: float = 1.0,
) -> tuple[dict[str, dict[str, float]], NDArray[np.float64]]:
    """PSNR, SSIM, mean absolute error and Pearson's r of each region.

    Parameters
    ----------
    true, synthetic : ndarray, shape (X, Y, Z)
    target_mask : ndarray of bool, shape (X, Y, Z)
        Where the true map was measured; both images count as zero outside it.
    regions : mapping of str to ndarray of bool, shape (X, Y, Z)
    data_range : float

    Returns
    -------
    dict
        By region: psnr (dB), ssim, mae, pearson, n_voxels.
    ndarray, shape (X, Y, Z)
        The SSIM map.
    """
    true, synthetic = (np.where(target_mask, image, 0) for image in (true, synthetic))
    similarity = ssim_map(true, synthetic, data_range)
    values = {
        name: {
            "psnr": psnr(true, synthetic, region, data_range),
            "ssim": float(similarity[region].mean()) if region.any() else float("nan"),
            "mae": mean_absolute_error(true, synthetic, region),
            "pearson": pearson(true[region], synthetic[region]),
            "n_voxels": int(region.sum()),
        }
        for name, region in regions.items()
    }
    return values, similarity


def slice_profile(
    true: NDArray,
    synthetic: NDArray,
    target_mask: NDArray,
    similarity: NDArray,
    spacing_mm: float,
    min_share: float = 0.05,
) -> list[dict[str, float]]:
    """Quality of each axial slice inside the target mask, by its distance from the centre.

    Parameters
    ----------
    true, synthetic, similarity : ndarray, shape (X, Y, Z)
    target_mask : ndarray of bool, shape (X, Y, Z)
    spacing_mm : float
        Distance between axial slices.
    min_share : float
        Slices with less mask than this share of the largest slice's are left out.

    Returns
    -------
    list of dict
        offset_mm (from the slice nearest the mask's centre of mass, up positive), ssim, psnr,
        mae, n_voxels; from bottom to top.
    """
    counts = target_mask.sum((0, 1))
    if not counts.any():
        return []
    centre = round(float(np.average(np.arange(counts.size), weights=counts)))
    true, synthetic = (np.where(target_mask, image, 0) for image in (true, synthetic))
    rows = []
    for k in np.flatnonzero(counts >= min_share * counts.max()):
        mask = target_mask[..., k]
        rows.append(
            {
                "offset_mm": float((k - centre) * spacing_mm),
                "ssim": float(similarity[..., k][mask].mean()),
                "psnr": psnr(true[..., k], synthetic[..., k], mask),
                "mae": mean_absolute_error(true[..., k], synthetic[..., k], mask),
                "n_voxels": int(counts[k]),
            }
        )
    return rows


def roi_means(
    true: NDArray,
    synthetic: NDArray,
    labels: NDArray,
    target_mask: NDArray,
    names: Mapping[int, str],
    min_voxels: int,
) -> list[Roi]:
    """Mean of both maps in each labelled region, inside the target mask.

    Parameters
    ----------
    true, synthetic : ndarray, shape (X, Y, Z)
    labels : ndarray of int, shape (X, Y, Z)
        0 is background.
    target_mask : ndarray of bool, shape (X, Y, Z)
    names : mapping of int to str
        Label without a name is called ``roi-<label>``.
    min_voxels : int
        Regions with fewer voxels inside the mask are left out.
    """
    inside = np.where(target_mask, labels, 0)
    rows = []
    for label in np.unique(inside[inside > 0]):
        region = inside == label
        if (n_voxels := int(region.sum())) < min_voxels:
            continue
        means = (float(image[region].mean(dtype=np.float64)) for image in (true, synthetic))
        rows.append(Roi(names.get(int(label), f"roi-{int(label)}"), *means, n_voxels))
    return rows


def identified(true: NDArray, synthetic: NDArray) -> NDArray[np.bool_]:
    """Whether each person's synthetic ROI profile is nearest to that person's own true profile.

    Profiles are first expressed as deviations from the group's mean profile, since what all
    people share tells nobody apart; nearness is Pearson's correlation over regions.

    Parameters
    ----------
    true, synthetic : ndarray, shape (people, regions)

    Returns
    -------
    ndarray of bool, shape (people,)
        By chance one in ``people`` is true.
    """
    x, y = (_unit_series(m - np.mean(m, axis=0)) for m in (np.asarray(true), np.asarray(synthetic)))
    r = y @ x.T  # (synthetic person, true person)
    return y.any(axis=1) & (r.argmax(axis=1) == np.arange(len(r)))


def correlation_across_people(true: NDArray, synthetic: NDArray) -> NDArray[np.float64]:
    """Pearson's r over people of each region's mean: does the map know who is high, who is low.

    Parameters
    ----------
    true, synthetic : ndarray, shape (..., people, regions)

    Returns
    -------
    ndarray, shape (..., regions)
        NaN for a region in which one of the series does not vary.
    """
    x, y = (_unit_series(np.moveaxis(np.asarray(m), -2, -1)) for m in (true, synthetic))
    return np.where(x.any(-1) & y.any(-1), (x * y).sum(-1), np.nan)


def _unit_series(series: NDArray) -> NDArray[np.float64]:
    """Centre each series (last axis) and scale it to length 1; 0 if it varies by rounding only."""
    centred = series - series.mean(axis=-1, keepdims=True)
    size = np.linalg.norm(centred, axis=-1, keepdims=True)
    return np.where(size > 1e-9, centred / np.maximum(size, 1e-9), 0)
