"""Agreement of a synthetic map with the measured one (the reference): voxels, structure, directions, ROIs.

Images are floats of a stated data range, and are set to zero outside the target mask first.

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
    """Mean of the reference map and of the synthetic map in one region of interest."""

    name: str
    reference: float
    synthetic: float
    n_voxels: int


def psnr(reference: NDArray, synthetic: NDArray, region: NDArray, data_range: float = 1.0) -> float:
    """Peak signal-to-noise ratio over a region, 10 log10(range^2 / mean squared error), in dB.

    Parameters
    ----------
    reference, synthetic : ndarray, shape (X, Y, Z)
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
    error = np.mean((reference[region].astype(np.float64) - synthetic[region]) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(data_range**2 / error))


def mean_absolute_error(reference: NDArray, synthetic: NDArray, region: NDArray) -> float:
    """Mean absolute difference over a region.

    Parameters
    ----------
    reference, synthetic : ndarray, shape (X, Y, Z)
    region : ndarray of bool, shape (X, Y, Z)

    Returns
    -------
    float
        In the images' unit; NaN where the region is empty.
    """
    error = np.abs(reference[region].astype(np.float64) - synthetic[region])
    return float(np.mean(error)) if region.any() else float("nan")


def mean_error(reference: NDArray, synthetic: NDArray, region: NDArray) -> float:
    """Mean of synthetic minus reference over a region: the systematic error.

    Parameters
    ----------
    reference, synthetic : ndarray, shape (X, Y, Z)
    region : ndarray of bool, shape (X, Y, Z)

    Returns
    -------
    float
        In the images' unit; NaN where the region is empty.
    """
    error = synthetic[region].astype(np.float64) - reference[region]
    return float(np.mean(error)) if region.any() else float("nan")


def pearson(x: ArrayLike, y: ArrayLike) -> float:
    """Pearson's correlation of two series; NaN where one of them does not vary."""
    x, y = np.asarray(x, np.float64).ravel(), np.asarray(y, np.float64).ravel()
    if x.size < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])


def concordance(reference: ArrayLike, synthetic: ArrayLike) -> float:
    """Lin's concordance correlation coefficient, 2 cov / (var + var + (difference of means)^2).

    Unlike Pearson's correlation it falls when values are shifted or scaled. NaN where there are
    fewer than two values or where neither series varies.
    """
    x, y = np.asarray(reference, np.float64), np.asarray(synthetic, np.float64)
    if x.size < 2:
        return float("nan")
    spread = x.var() + y.var() + (x.mean() - y.mean()) ** 2
    return float(2 * np.mean((x - x.mean()) * (y - y.mean())) / spread) if spread != 0 else float("nan")


def dice(reference: NDArray[np.bool_], synthetic: NDArray[np.bool_]) -> float:
    """Overlap of two sets of voxels, 2 common / (size + size), 0 to 1; NaN if both are empty."""
    size = int(reference.sum() + synthetic.sum())
    return float("nan") if size == 0 else 2 * int((reference & synthetic).sum()) / size


def sharpness_ratio(reference: NDArray, synthetic: NDArray, region: NDArray) -> float:
    """Mean gradient of the synthetic image over that of the reference: 1 is equal, below 1 blurred.

    Parameters
    ----------
    reference, synthetic : ndarray, shape (X, Y, Z)
        Isotropic voxels.
    region : ndarray of bool, shape (X, Y, Z)
        Gradients (central differences) are averaged over voxels whose six neighbours lie in it.

    Returns
    -------
    float
        NaN where the region has no such voxel or the reference image does not vary in it.
    """
    inside = ndimage.binary_erosion(region)
    if not inside.any():
        return float("nan")
    steepness = [
        np.sqrt(sum(part[inside].astype(np.float64) ** 2 for part in np.gradient(image))).mean()
        for image in (reference, synthetic)
    ]
    return float(steepness[1] / steepness[0]) if steepness[0] > 0 else float("nan")


def histogram_distance(reference: NDArray, synthetic: NDArray, region: NDArray) -> float:
    """Wasserstein distance of two images' values over a region, regardless of their positions.

    Parameters
    ----------
    reference, synthetic : ndarray, shape (X, Y, Z)
    region : ndarray of bool, shape (X, Y, Z)

    Returns
    -------
    float
        In the images' unit; NaN where the region is empty.
    """
    return float(stats.wasserstein_distance(reference[region], synthetic[region])) if region.any() else float("nan")


def median_angle_deg(reference: NDArray, synthetic: NDArray, region: NDArray) -> float:
    """Median angle between two fields of axes over a region, 0 to 90 degrees; 60 by chance.

    Parameters
    ----------
    reference, synthetic : ndarray, shape (X, Y, Z, 3)
        Unit vectors of arbitrary sign; a zero vector (nothing predicted) counts as 90 degrees.
    region : ndarray of bool, shape (X, Y, Z)

    Returns
    -------
    float
        Degrees; NaN where the region is empty.
    """
    if not region.any():
        return float("nan")
    cosine = np.abs((reference[region].astype(np.float64) * synthetic[region]).sum(axis=-1))
    return float(np.median(np.degrees(np.arccos(np.clip(cosine, 0, 1)))))


def log_distance(reference: NDArray, synthetic: NDArray, region: NDArray) -> float:
    """Mean log-Euclidean distance of two tensor fields over a region: Frobenius norm of log A - log B.

    Parameters
    ----------
    reference, synthetic : ndarray, shape (X, Y, Z, 6)
        mm2/s, elements as in `m2m.diffusion.tensors`.
    region : ndarray of bool, shape (X, Y, Z)

    Returns
    -------
    float
        No unit; NaN where the region is empty.
    """
    if not region.any():
        return float("nan")
    difference = tensors.logarithm(reference[region]) - tensors.logarithm(synthetic[region])
    return float(np.linalg.norm(tensors.to_matrix(difference), axis=(-2, -1)).mean())


def ssim_map(reference: NDArray, synthetic: NDArray, data_range: float = 1.0) -> NDArray[np.float64]:
    """Local structural similarity of each axial slice (Gaussian window, sigma 1.5 voxels).

    Parameters
    ----------
    reference, synthetic : ndarray, shape (X, Y, Z)
        Axial slices lie along the last axis.
    data_range : float

    Returns
    -------
    ndarray, shape (X, Y, Z)
        -1 to 1 at each voxel; its mean over a region is that region's SSIM.

    Raises
    ------
    ValueError
        A slice is smaller than the window.
    """
    x, y = reference.shape[:2]
    if min(x, y) < SSIM_WINDOW:
        raise ValueError(f"SSIM needs slices of at least {SSIM_WINDOW} x {SSIM_WINDOW} voxels, got {x} x {y}")
    similarity = np.empty(reference.shape, dtype=np.float64)
    for k in range(reference.shape[2]):
        if not (reference[..., k].any() or synthetic[..., k].any()):
            similarity[..., k] = 1  # two empty slices are equal; skipping them halves the time
            continue
        _, similarity[..., k] = structural_similarity(
            reference[..., k].astype(np.float64),
            synthetic[..., k].astype(np.float64),
            data_range=data_range,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            full=True,
        )
    return similarity


def region_metrics(
    reference: NDArray,
    synthetic: NDArray,
    target_mask: NDArray,
    regions: Mapping[str, NDArray],
    data_range: float = 1.0,
) -> tuple[dict[str, dict[str, float]], NDArray[np.float64]]:
    """PSNR, SSIM, mean absolute error and Pearson's r of each region.

    Parameters
    ----------
    reference, synthetic : ndarray, shape (X, Y, Z)
    target_mask : ndarray of bool, shape (X, Y, Z)
        Where the reference map was measured; both images count as zero outside it.
    regions : mapping of str to ndarray of bool, shape (X, Y, Z)
    data_range : float

    Returns
    -------
    dict
        By region: psnr (dB), ssim, mae, pearson, n_voxels.
    ndarray, shape (X, Y, Z)
        The SSIM map.
    """
    reference, synthetic = (np.where(target_mask, image, 0) for image in (reference, synthetic))
    similarity = ssim_map(reference, synthetic, data_range)
    values = {
        name: {
            "psnr": psnr(reference, synthetic, region, data_range),
            "ssim": float(similarity[region].mean()) if region.any() else float("nan"),
            "mae": mean_absolute_error(reference, synthetic, region),
            "pearson": pearson(reference[region], synthetic[region]),
            "n_voxels": int(region.sum()),
        }
        for name, region in regions.items()
    }
    return values, similarity


def slice_profile(
    reference: NDArray,
    synthetic: NDArray,
    target_mask: NDArray,
    similarity: NDArray,
    spacing_mm: float,
    min_share: float = 0.05,
) -> list[dict[str, float]]:
    """Quality of each axial slice inside the target mask, by its distance from the centre.

    Parameters
    ----------
    reference, synthetic, similarity : ndarray, shape (X, Y, Z)
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
    reference, synthetic = (np.where(target_mask, image, 0) for image in (reference, synthetic))
    rows = []
    for k in np.flatnonzero(counts >= min_share * counts.max()):
        mask = target_mask[..., k]
        rows.append(
            {
                "offset_mm": float((k - centre) * spacing_mm),
                "ssim": float(similarity[..., k][mask].mean()),
                "psnr": psnr(reference[..., k], synthetic[..., k], mask),
                "mae": mean_absolute_error(reference[..., k], synthetic[..., k], mask),
                "n_voxels": int(counts[k]),
            }
        )
    return rows


def roi_means(
    reference: NDArray,
    synthetic: NDArray,
    labels: NDArray,
    target_mask: NDArray,
    names: Mapping[int, str],
    min_voxels: int,
) -> list[Roi]:
    """Mean of both maps in each labelled region, inside the target mask.

    Parameters
    ----------
    reference, synthetic : ndarray, shape (X, Y, Z)
    labels : ndarray of int, shape (X, Y, Z)
        0 is background.
    target_mask : ndarray of bool, shape (X, Y, Z)
    names : mapping of int to str
        A label without a name is called ``roi-<label>``.
    min_voxels : int
        Regions with fewer voxels inside the mask are left out.

    Returns
    -------
    list of Roi
    """
    inside = np.where(target_mask, labels, 0)
    rows = []
    for label in np.unique(inside[inside > 0]):
        region = inside == label
        if (n_voxels := int(region.sum())) < min_voxels:
            continue
        a, b = (float(image[region].mean(dtype=np.float64)) for image in (reference, synthetic))
        rows.append(Roi(names.get(int(label), f"roi-{int(label)}"), a, b, n_voxels))
    return rows
