"""How far off a prediction is expected to be: a standard deviation for every voxel.

A model offers candidates that say where its error is large, each up to a factor. Which of them is
used, and its factor, is decided on people who were not trained on, by the likelihood of their
errors under a normal distribution.

References
----------
Laves et al. (2020), scaling predicted deviations, PMLR 121:393-412.
Gneiting and Raftery (2007), proper scores, https://doi.org/10.1198/016214506000001437.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

# The candidate that every model has: the same everywhere.
CONSTANT = "constant"
# No candidate is taken to be surer than this, in scaled units (1 is the range of FA).
SMALLEST = 0.01


class Prediction(NamedTuple):
    """What a model says of a volume; each (X, Y, Z), or (X, Y, Z, C) of several channels.

    Attributes
    ----------
    image : ndarray
        In scaled units, as the model gives it: not clipped.
    sds : dict of str to ndarray
        Candidates for the standard deviation of the image's error, each up to a factor.
    """

    image: NDArray[np.float32]
    sds: dict[str, NDArray[np.float32]]


def calibrate(people: Iterable[tuple[NDArray, Mapping[str, NDArray]]]) -> dict[str, Any]:
    """Choose a candidate and its factor.

    Parameters
    ----------
    people : iterable of (ndarray (n,), mapping of str to ndarray (n,))
        Errors in the voxels of one person, and the candidates there.

    Returns
    -------
    dict
        ``method``: the candidate with the lowest mean negative log-likelihood, after scaling;
        ``factors``: what to multiply each by, so that squared errors are as expected on average;
        ``nll``: of each.

    Raises
    ------
    ValueError
        Nobody was given.
    """
    sums: dict[str, NDArray] = {}
    n = 0
    for error, candidates in people:
        n += error.size
        for name, sd in {CONSTANT: np.ones_like(error), **candidates}.items():
            sd = np.maximum(sd, SMALLEST).astype(np.float64)
            row = np.array([np.sum((error / sd) ** 2), np.sum(np.log(sd))])
            sums[name] = sums.get(name, 0) + row
    if not n:
        raise ValueError("nobody was given to calibrate on")
    factors = {name: float(np.sqrt(max(squares / n, 1e-12))) for name, (squares, _) in sums.items()}
    nll = {
        name: float(logarithms / n + np.log(factors[name]) + 0.5 * np.log(2 * np.pi) + 0.5)
        for name, (_, logarithms) in sums.items()
    }
    method = min(nll, key=lambda name: nll[name])
    return {"method": method, "factors": factors, "nll": nll}


def deviation(prediction: Prediction, calibration: Mapping[str, Any]) -> NDArray[np.float32]:
    """Standard deviation of the error in every voxel, of the image's shape, in scaled units.

    Parameters
    ----------
    prediction : Prediction
    calibration : mapping
        Of `calibrate`. Where the prediction lacks the chosen candidate (one orientation was
        translated, and their disagreement was chosen), the constant one stands in.
    """
    method = calibration["method"]
    if method not in prediction.sds:
        method = CONSTANT
    sd = prediction.sds.get(method, np.ones_like(prediction.image))
    return (calibration["factors"][method] * np.maximum(sd, SMALLEST)).astype(np.float32)
