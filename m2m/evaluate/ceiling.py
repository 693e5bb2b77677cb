"""What a map without error would reach against a noisy measurement, from two measurements of a participant.

Two measurements ``t + e1`` and ``t + e2`` of the same map ``t``, with independent errors of equal variance that do not
depend on ``t``, correlate by the reliability, var(t) / (var(t) + var(e)). The map ``t`` itself correlates with either
by the square root of it (correction for attenuation), and the variance of its error is half that of their difference.
Errors that both measurements share, such as a distortion, are not in it: it is an upper limit. What differs between
them beside noise, such as distortions of opposite sign, is in it as if it were noise.

References
----------
Spearman (1904), Am J Psychol 15:72-101, https://doi.org/10.2307/1412159 (attenuation);
Bland and Altman (1996), BMJ 313:744, https://doi.org/10.1136/bmj.313.7059.744 (error of measurement).
"""

import math

import numpy as np
from numpy.typing import NDArray

from m2m.evaluate.metrics import pearson


def expected_of_perfect(
    first: NDArray, second: NDArray, region: NDArray[np.bool_], data_range: float = 1.0
) -> dict[str, float]:
    """Expected r and PSNR of a map without error against one measurement, from two.

    Parameters
    ----------
    first, second : ndarray, shape (X, Y, Z)
        Measurements on one grid.
    region : ndarray of bool, shape (X, Y, Z)
    data_range : float
        Largest possible minus smallest possible value: 1 for FA.

    Returns
    -------
    dict
        ``pearson``, the square root of the correlation of both; ``psnr`` (dB), 10 log10(range^2 / var(e)), infinite
        where both agree. NaN where they are not positively correlated, and where the region has fewer than two voxels.
    """
    reliability = pearson(first[region], second[region])
    if not reliability > 0:
        return {"pearson": float("nan"), "psnr": float("nan")}
    error = float(np.var(first[region].astype(np.float64) - second[region])) / 2
    psnr = math.inf if error == 0 else 10 * math.log10(data_range**2 / error)
    return {"pearson": math.sqrt(reliability), "psnr": psnr}
