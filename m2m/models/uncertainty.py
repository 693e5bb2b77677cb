"""Expected error of a prediction: a standard deviation for every voxel.

A model has candidate maps of its standard deviation, each up to a factor. The candidate and its
factor are chosen on participants outside the training part, by the likelihood of their errors
under a normal distribution.

References
----------
Laves et al. (2020), scaling predicted deviations, PMLR 121:393-412.
Gneiting and Raftery (2007), proper scores, https://doi.org/10.1198/016214506000001437.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

# Candidate that every model has: the same value everywhere.
CONSTANT = "constant"
# Lower limit of a candidate, in scaled units (1 is the range of FA).
SMALLEST = 0.01


class Prediction(NamedTuple):
    """Prediction of a volume; each array is (X, Y, Z), or (X, Y, Z, C) for several channels.

    Attributes
    ----------
    image : ndarray
        In scaled units, not clipped; tensors along the axes of the grid.
    sds : dict of str to ndarray
        Candidates for the standard deviation of the error, each up to a factor.
    """

    image: NDArray[np.float32]
    sds: dict[str, NDArray[np.float32]]


def calibrate(subjects: Iterable[tuple[NDArray, Mapping[str, NDArray]]]) -> dict[str, Any]:
    """Choose a candidate and its factor.

    Parameters
    ----------
    subjects : iterable of (ndarray (n,), mapping of str to ndarray (n,))
        Errors in the voxels of one participant, and the candidates in the same voxels.

    Returns
    -------
    dict
        ``method``: the candidate with the lowest mean negative log-likelihood, after scaling;
        ``factors``: factor of each candidate, so that it matches squared errors on average;
        ``nll``: mean negative log-likelihood of each.

    Raises
    ------
    ValueError
        No participant was given.
    """
    sums: dict[str, NDArray] = {}
    n = 0
    for error, candidates in subjects:
        n += error.size
        for name, sd in {CONSTANT: np.ones_like(error), **candidates}.items():
            sd = np.maximum(sd, SMALLEST).astype(np.float64)
            row = np.array([np.sum((error / sd) ** 2), np.sum(np.log(sd))])
            sums[name] = sums.get(name, 0) + row
    if not n:
        raise ValueError("no participant was given to calibrate on")
    factors = {name: float(np.sqrt(max(squares / n, 1e-12))) for name, (squares, _) in sums.items()}
    nll = {
        name: float(logarithms / n + np.log(factors[name]) + 0.5 * np.log(2 * np.pi) + 0.5)
        for name, (_, logarithms) in sums.items()
    }
    method = min(nll, key=lambda name: nll[name])
    return {"method": method, "factors": factors, "nll": nll}


def mean_candidates(prediction: Prediction, inside: NDArray[np.bool_]) -> dict[str, float]:
    """Mean of each candidate inside a mask, shape (X, Y, Z), before it is scaled."""
    return {name: float(np.maximum(sd[inside], SMALLEST).mean()) for name, sd in prediction.sds.items()}


def mean_deviation(means: Mapping[str, float], calibration: Mapping[str, Any]) -> float | None:
    """Mean standard deviation of a prediction, by the candidate that says how sure the model is of this participant.

    Parameters
    ----------
    means : mapping of str to float
        Of `mean_candidates`.
    calibration : mapping
        From `calibrate`. Where it chose the constant candidate, which is the same for everybody, the best other one counts.

    Returns
    -------
    float or None
        In scaled units; None if the prediction has no such candidate.
    """
    varying = sorted(calibration["factors"].keys() - {CONSTANT}, key=lambda name: calibration["nll"].get(name, np.inf))
    if not varying or varying[0] not in means:
        return None
    return calibration["factors"][varying[0]] * means[varying[0]]


def deviation(prediction: Prediction, calibration: Mapping[str, Any]) -> NDArray[np.float32]:
    """Calibrated standard deviation of the error in every voxel, in scaled units.

    Parameters
    ----------
    prediction : Prediction
    calibration : mapping
        From `calibrate`. The constant candidate is used if the prediction lacks the chosen one
        (for example, the deviation over orientations, when only one was translated).

    Returns
    -------
    ndarray, shape of the image
    """
    method = calibration["method"]
    if method not in prediction.sds:
        method = CONSTANT
    sd = prediction.sds.get(method, np.ones_like(prediction.image))
    return (calibration["factors"][method] * np.maximum(sd, SMALLEST)).astype(np.float32)
