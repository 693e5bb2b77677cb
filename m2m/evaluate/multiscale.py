"""Multi-scale structural similarity of whole volumes, for comparison with the literature.

References
----------
Wang, Simoncelli, Bovik (2003), https://doi.org/10.1109/ACSSC.2003.1292216.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

# Exponents of the scales, fine to coarse, and the window: 11 voxels, sigma 1.5.
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
SIGMA, RADIUS = 1.5, 5


def ms_ssim(reference: NDArray, synthetic: NDArray, data_range: float = 1.0) -> float:
    """Multi-scale structural similarity with windows in 3D, over the whole volume with its background.

    Each scale has half the resolution of the one before. Where the coarsest ones are smaller than a window, they are
    left out and the exponents of the others are divided by their sum: 128 x 128 x 128 voxels have four of the five.

    Parameters
    ----------
    reference, synthetic : ndarray, shape (X, Y, Z)
    data_range : float
        1 for FA.

    Returns
    -------
    float
        0 to 1.

    Raises
    ------
    ValueError
        The volume is smaller than the window.
    """
    window, side = 2 * RADIUS + 1, min(reference.shape)
    weights = [weight for scale, weight in enumerate(WEIGHTS) if side >> scale >= window]
    if not weights:
        raise ValueError(f"MS-SSIM needs volumes of at least {window} voxels along each axis, got {reference.shape}")
    a, b = (image.astype(np.float32) for image in (reference, synthetic))
    similarity = 1.0
    for scale, weight in enumerate(weights):
        if scale:
            a, b = _halved(a), _halved(b)
        whole, structure = _mean_similarities(a, b, data_range)
        mean = whole if scale == len(weights) - 1 else structure
        similarity *= max(mean, 0.0) ** (weight / sum(weights))
    return similarity


def _halved(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average blocks of two voxels along each axis; an odd last voxel is left out."""
    x, y, z = (n // 2 for n in image.shape)
    return image[: 2 * x, : 2 * y, : 2 * z].reshape(x, 2, y, 2, z, 2).mean(axis=(1, 3, 5))


def _mean_similarities(a: NDArray[np.float32], b: NDArray[np.float32], data_range: float) -> tuple[float, float]:
    """Mean SSIM, and mean of its contrast and structure alone, over all windows inside the volume."""
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    inside = (slice(RADIUS, -RADIUS),) * 3

    def mean(image: NDArray) -> NDArray[np.float32]:
        return ndimage.gaussian_filter(image, SIGMA, radius=RADIUS)[inside]

    mean_a, mean_b = mean(a), mean(b)
    variances = mean(a * a) - mean_a**2 + mean(b * b) - mean_b**2
    structure = (2 * (mean(a * b) - mean_a * mean_b) + c2) / (variances + c2)
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return float((luminance * structure).mean(dtype=np.float64)), float(structure.mean(dtype=np.float64))
