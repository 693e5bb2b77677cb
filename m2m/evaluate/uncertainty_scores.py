"""Predicted standard deviations compared with the actual errors: whether uncertainty shows where a map is wrong.

Both are in scaled values (`m2m.io.modalities`), one for each voxel and channel.

References
----------
Calibration: Kuleshov et al. (2018), ICML, arXiv:1807.00263. Error retention: Malinin et al.
(2021), arXiv:2107.07455.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from m2m.evaluate.metrics import pearson

NOMINAL = np.arange(1, 20) / 20
KEPT = np.arange(1, 21) / 20


def calibration(error: NDArray, sd: NDArray) -> NDArray[np.float64]:
    """Share of errors inside the central Gaussian interval of each `NOMINAL` probability.

    Parameters
    ----------
    error, sd : ndarray, shape (n,)
        Absolute errors and their standard deviations. An interval of width 0 contains an error of 0 only.

    Returns
    -------
    ndarray, shape (len(NOMINAL),)
        Shares, 0 to 1.
    """
    in_sd = np.divide(error, sd, out=np.where(error > 0, np.inf, 0), where=sd > 0)
    reach = stats.norm.ppf((1 + NOMINAL) / 2)
    return np.searchsorted(np.sort(in_sd), reach, side="right") / error.size


def retention(error: NDArray, sd: NDArray) -> NDArray[np.float64]:
    """Mean error of the most certain share of voxels, for each share in `KEPT`.

    Parameters
    ----------
    error, sd : ndarray, shape (n,)
        Absolute errors, and the standard deviations by which voxels are ordered. Voxels with equal
        `sd` each count with their mean error.

    Returns
    -------
    ndarray, shape (len(KEPT),)
        Mean absolute errors.
    """
    _, level, n = np.unique(sd, return_inverse=True, return_counts=True)
    sums = np.bincount(level, error)
    kept = KEPT * error.size
    total = np.interp(kept, np.append(0, n.cumsum()), np.append(0, sums.cumsum()))
    return total / kept


def compare_uncertainty(error: NDArray, sd: NDArray) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Compare errors with the standard deviations that were predicted for them.

    Parameters
    ----------
    error : ndarray, shape (n,)
        Reference minus synthetic; not empty.
    sd : ndarray, shape (n,)
        0 and above.

    Returns
    -------
    dict
        calibration_error (mean absolute nominal - observed), coverage_95 (share of errors inside the 95 %
        interval), sd_error_r (Spearman's r of sd and error), retention_gain (1 - mean of the
        retention curve over the mean error: 0 where sd has no information).
    list of dict
        curve (calibration, retention; oracle: retention ordered by the errors themselves), x, y.
    """
    error, sd = np.abs(error).astype(np.float64), sd.astype(np.float64)
    observed = calibration(error, sd)
    curves = {
        "calibration": (NOMINAL, observed),
        "retention": (KEPT, retention(error, sd)),
        "oracle": (KEPT, retention(error, error)),
    }
    mean = error.mean()
    gain = 1 - curves["retention"][1].mean() / mean if mean > 0 else float("nan")
    values = {
        "calibration_error": float(np.abs(NOMINAL - observed).mean()),
        "coverage_95": float(observed[-1]),
        "sd_error_r": pearson(stats.rankdata(sd), stats.rankdata(error)),
        "retention_gain": float(gain),
    }
    rows = [
        {"curve": name, "x": float(a), "y": float(b)}
        for name, (x, y) in curves.items()
        for a, b in zip(x, y, strict=True)
    ]
    return values, rows
