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

from m2m.diffusion import tensors

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


def on_line(prediction: Prediction, calibration: Mapping[str, float] | None) -> Prediction:
    """Rescale a prediction by the line of `m2m calibrate`.

    Parameters
    ----------
    prediction : Prediction
    calibration : mapping or None
        ``intercept`` and ``slope``; of tensors, whose mean log diffusivity these scale, also ``anisotropy``, the factor
        of the rest. None: the prediction stays as it is.

    Returns
    -------
    Prediction
    """
    if calibration is None:
        return prediction
    intercept, slope = calibration["intercept"], calibration["slope"]
    sds = {name: slope * sd for name, sd in prediction.sds.items()}
    factor = calibration.get("anisotropy")
    if factor is None:
        return Prediction(intercept + slope * prediction.image, sds)
    mean, rest = tensors.isotropic_and_rest(prediction.image)
    return Prediction(tensors.of_parts(intercept + slope * mean, factor * rest), sds)


def mean_deviations(prediction: Prediction, inside: NDArray[np.bool_]) -> dict[str, float]:
    """Mean of each candidate inside a mask, before it is calibrated: how unsure a model is of a participant.

    Parameters
    ----------
    prediction : Prediction
    inside : ndarray of bool, shape (X, Y, Z)

    Returns
    -------
    dict of str to float
        ``mean_sd_<candidate>``, in scaled units.
    """
    return {f"mean_sd_{name}": float(np.maximum(sd[inside], SMALLEST).mean()) for name, sd in prediction.sds.items()}


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
