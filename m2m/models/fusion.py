"""What orientations, and the mirrored person, give of one volume, joined to one.

Joined by a plain average, or weighted in each voxel by the inverse of each view's error variance.
The third way, a field fitted to all slices, is `m2m.field.field_fusion`.
"""

import importlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from m2m.models.uncertainty import SMALLEST, Prediction

# Neighbourhood in which views are compared, standard deviation in voxels: in one voxel alone, how
# far a view is from the others is mostly chance.
NEAR_VOXELS = 2.0


class View(NamedTuple):
    """A volume from the slices of one orientation.

    Attributes
    ----------
    plane : str
        The orientation.
    image : ndarray, shape (X, Y, Z, C)
        Scaled values.
    log_sd : ndarray, shape (X, Y, Z, C), or None
        Logarithm of the deviation that the network expects, where it does.
    """

    plane: str
    image: NDArray[np.float32]
    log_sd: NDArray[np.float32] | None


# From views, and where the source is not 0, to a prediction of shape (X, Y, Z, C).
Fuse = Callable[[Iterable[View], NDArray[np.bool_]], Prediction]


def average(views: Iterable[View], inside: NDArray[np.bool_]) -> Prediction:
    """Take the mean of views; the memory does not depend on their number.

    The candidates for the deviation of its error are ``views``, how far views differ, where there
    are several, and ``predicted``, the root mean square over them of what the network expects,
    where it does.
    """
    total, squares, variance, n = 0.0, 0.0, 0.0, 0
    for view in views:
        image = view.image.astype(np.float64)  # small differences of large squares follow
        total, squares, n = total + image, squares + image**2, n + 1
        variance = None if view.log_sd is None else variance + np.exp(2 * view.log_sd)
    sds = {}
    if n > 1:
        spread = np.maximum(squares / n - (total / n) ** 2, 0)
        sds["views"] = np.sqrt(spread * n / (n - 1)).astype(np.float32)
    if variance is not None:
        sds["predicted"] = np.sqrt(variance / n).astype(np.float32)
    return Prediction((total / n).astype(np.float32), sds)


def inverse_variance(views: Iterable[View], inside: NDArray[np.bool_]) -> Prediction:
    """Weigh views in each voxel by the inverse of their error variance: see `variances`.

    The candidates for the deviation are those of `average`.
    """
    views = list(views)
    mean = average(views, inside)
    weights = [1 / variance for variance in variances(views, mean.image)]
    weighted = sum(weight * view.image for weight, view in zip(weights, views, strict=True))
    return mean._replace(image=(weighted / sum(weights)).astype(np.float32))


def variances(views: Sequence[View], mean: NDArray) -> list[NDArray]:
    """Error variance of each view in each voxel, up to a factor that all share.

    What the network predicts, where it does; elsewhere the disagreement: the view's squared
    distance from the mean of all, averaged over the neighbourhood. Two views are as far from their
    mean as each other, so they count alike then.
    """
    if all(view.log_sd is not None for view in views):
        found = [np.exp(2 * view.log_sd) for view in views]
    else:
        near = (*[NEAR_VOXELS] * 3, 0)
        found = [ndimage.gaussian_filter((view.image - mean) ** 2, near) for view in views]
    return [np.maximum(variance, SMALLEST**2) for variance in found]


JOINED_BY = {"average": average, "inverse-variance": inverse_variance}
# Module and function of a room above this one, looked up only when a model asks for it.
FITTED = {"field": ("m2m.field.field_fusion", "by_field")}


def fusion_of(name: str, device: str) -> Fuse:
    """Function that joins a model's views, by the name that its section gives.

    Parameters
    ----------
    name : {"average", "inverse-variance", "field"}
    device : str
        That a field is fitted on.
    """
    if name in JOINED_BY:
        return JOINED_BY[name]
    module, function = FITTED[name]
    return partial(getattr(importlib.import_module(module), function), device=device)
