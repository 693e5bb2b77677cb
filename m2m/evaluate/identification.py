"""What regional means say about the individual: whom they identify, and whether they rank participants alike.

References
----------
Finn et al. (2015), Functional connectome fingerprinting, Nat Neurosci 18:1664-1671,
https://doi.org/10.1038/nn.4135.
"""

import numpy as np
from numpy.typing import NDArray

# Correlations this near to each other are equal: they differ by rounding errors.
SAME_R = 1e-9


def identified(reference: NDArray, synthetic: NDArray) -> NDArray[np.float64]:
    """Whether each participant's synthetic ROI profile is nearest to the same participant's reference profile.

    Profiles are first expressed as deviations from the group's mean profile. The nearest profile has
    the highest Pearson's correlation over regions.

    Parameters
    ----------
    reference, synthetic : ndarray, shape (participants, regions)

    Returns
    -------
    ndarray, shape (participants,)
        1 or 0; of profiles that are equally near, the chance to draw the own one. So a synthetic
        map that is the same for all participants has the rate of chance, 1 / participants.
    """
    x, y = (_unit_series(m - np.mean(m, axis=0)) for m in (np.asarray(reference), np.asarray(synthetic)))
    r = y @ x.T  # (synthetic participant, reference participant)
    nearest = r >= r.max(axis=1, keepdims=True) - SAME_R
    return np.diagonal(nearest) / nearest.sum(axis=1)


def correlation_across_participants(reference: NDArray, synthetic: NDArray) -> NDArray[np.float64]:
    """Pearson's r over participants of each region's mean: whether both maps rank participants alike.

    Parameters
    ----------
    reference, synthetic : ndarray, shape (..., participants, regions)

    Returns
    -------
    ndarray, shape (..., regions)
        NaN for a region in which one of the series does not vary.
    """
    x, y = (_unit_series(np.moveaxis(np.asarray(m), -2, -1)) for m in (reference, synthetic))
    return np.where(x.any(-1) & y.any(-1), (x * y).sum(-1), np.nan)


def _unit_series(series: NDArray) -> NDArray[np.float64]:
    """Centre each series (last axis) and scale it to norm 1; 0 where it varies by rounding errors only."""
    centred = series - series.mean(axis=-1, keepdims=True)
    size = np.linalg.norm(centred, axis=-1, keepdims=True)
    return np.where(size > 1e-9, centred / np.maximum(size, 1e-9), 0)
