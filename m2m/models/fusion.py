"""Fusion of the views of a volume: predictions from each orientation, and from the mirrored volume.

Views are averaged, or weighted in each voxel by the inverse of their error variance. The third
way, a field fitted to all slices, is in `m2m.field.field_fusion`.
"""

import importlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from m2m.models.uncertainty import SMALLEST, Prediction

# Neighbourhood in which views are compared, standard deviation in voxels: in a single voxel, the
# difference between views is mostly noise.
NEAR_VOXELS = 2.0


class View(NamedTuple):
    """A volume predicted from the slices of one orientation.

    Attributes
    ----------
    plane : str
        Orientation.
    image : ndarray, shape (X, Y, Z, C)
        Scaled values.
    log_sd : ndarray, shape (X, Y, Z, C), or None
        Logarithm of the standard deviation that the network predicts; None if it predicts none.
    sample_sd : ndarray, shape (X, Y, Z, C), or None
        Standard deviation over samples of a network that draws several; None for others.
    """

    plane: str
    image: NDArray[np.float32]
    log_sd: NDArray[np.float32] | None
    sample_sd: NDArray[np.float32] | None = None


# From views, and the mask where the source is not 0, to a prediction of shape (X, Y, Z, C).
Fuse = Callable[[Iterable[View], NDArray[np.bool_]], Prediction]


def average(views: Iterable[View], inside: NDArray[np.bool_]) -> Prediction:
    """Average views; the memory needed does not depend on their number.

    There are three candidates for the standard deviation of the error: ``views``, the standard
    deviation over views, if there are several; ``predicted`` and ``samples``, the root mean square over
    views of the network's standard deviations, if it predicts them or draws samples.
    """
    total, squares, n = np.zeros(()), np.zeros(()), 0
    variances: dict[str, NDArray[np.floating]] = {}
    for view in views:
        image = view.image.astype(np.float64)  # differences of large squares lose precision
        total, squares, n = total + image, squares + image**2, n + 1
        # Single precision, as these deviations have.
        if view.log_sd is not None:
            variances["predicted"] = variances.get("predicted", np.float32(0)) + np.exp(2 * view.log_sd)
        if view.sample_sd is not None:
            variances["samples"] = variances.get("samples", np.float32(0)) + view.sample_sd**2
    sds = {}
    if n > 1:
        spread = np.maximum(squares / n - (total / n) ** 2, 0)
        sds["views"] = np.sqrt(spread * n / (n - 1)).astype(np.float32)
    sds |= {name: np.sqrt(variance / n).astype(np.float32) for name, variance in variances.items()}
    return Prediction((total / n).astype(np.float32), sds)


def inverse_variance(views: Iterable[View], inside: NDArray[np.bool_]) -> Prediction:
    """Average views, weighted in each voxel by the inverse of their error variance (`variances`).

    The candidates for the standard deviation are those of `average`.
    """
    views = list(views)
    mean = average(views, inside)
    weights = [1 / variance for variance in variances(views, mean.image)]
    weighted = np.asarray(sum(weight * view.image for weight, view in zip(weights, views, strict=True)))
    return mean._replace(image=(weighted / sum(weights)).astype(np.float32))


def variances(views: Sequence[View], mean: NDArray) -> list[NDArray]:
    """Error variance of each view in each voxel, up to a common factor.

    It is the variance that the network predicts, if it does. Otherwise it is the squared
    difference between the view and the mean of all views, averaged over a neighbourhood. Two views
    differ equally from their mean, so their weights are then equal.
    """
    log_sds = [view.log_sd for view in views if view.log_sd is not None]
    if len(log_sds) == len(views):
        found = [np.exp(2 * log_sd) for log_sd in log_sds]
    else:
        sigma = (*[NEAR_VOXELS] * 3, 0)
        found = [ndimage.gaussian_filter((view.image - mean) ** 2, sigma) for view in views]
    return [np.maximum(variance, SMALLEST**2) for variance in found]


def with_atlas(prediction: Prediction, atlas: NDArray[np.float32], share: float) -> Prediction:
    """Average a network's map with the deformed mean map, by fixed weights.

    Their errors differ in origin: the network's are those of T1's contrast, the other's those of registration.

    Parameters
    ----------
    prediction : Prediction
        Of the network.
    atlas : ndarray, shape of its image
        Scaled.
    share : float
        Weight of `atlas`; the network's map has the rest.

    Returns
    -------
    Prediction
        With one candidate more for the standard deviation of the error, ``difference``: how far both maps differ,
        root mean square over a neighbourhood.
    """
    spread = np.sqrt(ndimage.gaussian_filter((prediction.image - atlas) ** 2, NEAR_VOXELS))
    image = (1 - share) * prediction.image + share * atlas
    return Prediction(image.astype(np.float32), prediction.sds | {"difference": spread.astype(np.float32)})


AVERAGES = {"average": average, "inverse-variance": inverse_variance}
# Module and function of a package that depends on this one; imported only when a model needs it.
FIELDS = {"field": ("m2m.field.field_fusion", "by_field")}


def fusion_of(name: str, device: str) -> Fuse:
    """Find the function that fuses the views of a model, by its name in the configuration.

    Parameters
    ----------
    name : {"average", "inverse-variance", "field"}
    device : str
        Device on which a field is fitted; ``auto``: the best of this machine.

    Returns
    -------
    callable
    """
    if name in AVERAGES:
        return AVERAGES[name]
    module, function = FIELDS[name]
    return partial(getattr(importlib.import_module(module), function), device=device)
