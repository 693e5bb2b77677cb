"""Harmonise features over sites by ComBat: fitted to some participants, applied to these and to others.

A feature of a participant of site s is taken as a + z'b + g_s + d_s e: mean, effects of preserved columns z, shift and
spread of the site, and the rest. Shift and spread are removed, after they were drawn towards those of the site's other
features (empirical Bayes). The phenotype that is predicted takes no part in it.

References
----------
Johnson, Li, Rabinovic (2007), Biostatistics 8:118-127, https://doi.org/10.1093/biostatistics/kxj037.
Fortin et al. (2018), NeuroImage 167:104-120, https://doi.org/10.1016/j.neuroimage.2017.11.024.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m2m.io.errors import DataError

# Least number of a site's participants by which its shift and spread are estimated.
MIN_OF_SITE = 3
# A feature that varies less within sites, relative to its size, is constant.
CONSTANT = 1e-9
TOLERANCE, MAX_STEPS = 1e-8, 1000


@dataclass(frozen=True)
class Combat:
    """What was fitted to some participants.

    Attributes
    ----------
    mean, scale : ndarray, shape (features,)
        Mean over sites, and standard deviation within sites, where the preserved columns are 0.
    slopes : ndarray, shape (columns, features)
        Effects of the preserved columns.
    shift, spread : dict of str to ndarray, shape (features,)
        Of each site that was fitted: its deviation in units of `scale`, and its own scale relative to it.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    slopes: NDArray[np.float64]
    shift: dict[str, NDArray[np.float64]]
    spread: dict[str, NDArray[np.float64]]

    def apply(self, x: NDArray, sites: NDArray[np.str_], preserved: NDArray) -> NDArray[np.float64]:
        """Harmonise participants; those of a site that was not fitted stay as they are.

        Parameters
        ----------
        x : ndarray, shape (participants, features)
        sites : ndarray of str, shape (participants,)
        preserved : ndarray, shape (participants, columns)

        Returns
        -------
        ndarray, shape (participants, features)
        """
        harmonised = np.array(x, np.float64)
        for site in self.shift:
            own = sites == site
            expected = self.mean + preserved[own] @ self.slopes
            standard = (harmonised[own] - expected) / self.scale
            harmonised[own] = expected + self.scale * (standard - self.shift[site]) / self.spread[site]
        return harmonised


def fitted_sites(sites: NDArray[np.str_]) -> list[str]:
    """Sites with enough participants, of which there must be two: else there is nothing to harmonise."""
    names, counts = np.unique(sites, return_counts=True)
    found = names[counts >= MIN_OF_SITE].tolist()
    return found if len(found) > 1 else []


def fit_combat(x: NDArray, sites: NDArray[np.str_], preserved: NDArray) -> Combat:
    """Fit shift and spread of each site.

    Parameters
    ----------
    x : ndarray, shape (participants, features)
    sites : ndarray of str, shape (participants,)
        Those of `fitted_sites` are fitted; participants of others take no part.
    preserved : ndarray, shape (participants, columns)
        Columns whose effects on features stay, such as age.

    Returns
    -------
    Combat
        Constant features have neither shift nor spread.

    Raises
    ------
    DataError
        A preserved column does not vary within sites, so that its effect is not known apart from theirs.
    """
    names = fitted_sites(sites)
    nothing = np.zeros(x.shape[1]), np.ones(x.shape[1]), np.zeros((preserved.shape[1], x.shape[1]))
    if not names:
        return Combat(*nothing, {}, {})
    inside = np.isin(sites, names)
    x, z, of_site = x[inside].astype(np.float64), preserved[inside], sites[inside][:, None] == names
    varies = z.std(axis=0) > 0
    design = np.hstack([of_site, (z - z.mean(axis=0))[:, varies]])
    if np.linalg.matrix_rank(design / np.linalg.norm(design, axis=0)) < design.shape[1]:
        raise DataError(
            "a preserved column cannot be separated from the sites, or from another one",
            value=", ".join(names),
            remedy="take a column of downstream.preserve away that is the same within each site",
        )
    effects = np.linalg.lstsq(design, x, rcond=None)[0]
    mean, scale, slopes = nothing
    slopes[varies] = effects[len(names) :]
    mean = of_site.mean(axis=0) @ effects[: len(names)] - z.mean(axis=0) @ slopes
    deviation = np.sqrt(((x - design @ effects) ** 2).mean(axis=0))
    known = deviation > CONSTANT * np.abs(x).max(axis=0)
    scale[known] = deviation[known]
    standard = (x - mean - z @ slopes) / scale
    shift = {name: np.zeros(x.shape[1]) for name in names}
    spread = {name: np.ones(x.shape[1]) for name in names}
    for name, own in zip(names, of_site.T, strict=True):
        shift[name][known], variance = shrunken(standard[own][:, known])
        spread[name][known] = np.sqrt(variance)
    return Combat(mean, scale, slopes, shift, spread)


def shrunken(standard: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shift and variance of a site's standardised features, by the parametric empirical Bayes of Johnson et al.

    Parameters
    ----------
    standard : ndarray, shape (participants, features)

    Returns
    -------
    shift, variance : ndarray, shape (features,)
        Modes of their posteriors, given each other.
    """
    n, ddof = len(standard), int(standard.shape[1] > 1)
    own_shift, own_variance = standard.mean(axis=0), standard.var(axis=0, ddof=1)
    # Priors over features: normal of the shifts, inverse gamma of the variances (by their mean and variance).
    centre, width = own_shift.mean(), own_shift.var(ddof=ddof)
    m, s2 = own_variance.mean(), own_variance.var(ddof=ddof)
    shift, variance = own_shift, own_variance
    for _ in range(MAX_STEPS):
        before = shift, variance
        shift = (n * width * own_shift + variance * centre) / (n * width + variance)
        squares = ((standard - shift) ** 2).sum(axis=0)
        variance = (squares / 2 * s2 + m * s2 + m**3) / (n / 2 * s2 + s2 + m**2)
        if np.allclose(before, (shift, variance), TOLERANCE, TOLERANCE):
            break
    return shift, variance
