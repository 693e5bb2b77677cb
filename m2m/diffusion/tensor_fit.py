"""Tensor fit with DIPY, of the samples that were measured.

References
----------
Basser et al. (1994), J Magn Reson B 103:247, https://doi.org/10.1006/jmrb.1994.1037;
Chung et al. (2006), NeuroImage 33:531, https://doi.org/10.1016/j.neuroimage.2006.07.001;
Garyfallidis et al. (2014), Front Neuroinform 8:8, https://doi.org/10.3389/fninf.2014.00008
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from dipy.core.gradients import gradient_table
from dipy.reconst.dti import (
    TensorModel,
    axial_diffusivity,
    fractional_anisotropy,
    mean_diffusivity,
    radial_diffusivity,
)
from numpy.typing import NDArray

from m2m.diffusion.tensors import from_matrix
from m2m.diffusion.unmeasured import mean_of_measured
from m2m.io.bvalues import determine_tensor
from m2m.io.errors import DataError

# Lowest signal, relative to b = 0: a lower one is below any scanner's noise.
LEAST_SIGNAL = 1e-3
# Least part of a voxel's weighted samples that must have been measured: of fewer, FA is mostly noise.
LEAST_MEASURED = 0.5


@dataclass(frozen=True)
class TensorMaps:
    """Results of a tensor fit; 0 where nothing was fitted.

    Attributes
    ----------
    fa : ndarray, shape (X, Y, Z)
        0 to 1.
    md, ad, rd : ndarray, shape (X, Y, Z)
        mm2/s.
    v1 : ndarray, shape (X, Y, Z, 3)
        Unit vectors, in the axes of the b-vectors.
    tensor : ndarray, shape (X, Y, Z, 6)
        Dxx, Dxy, Dxz, Dyy, Dyz, Dzz in the axes of the b-vectors, mm2/s.
    fitted : ndarray of bool, shape (X, Y, Z)
        Voxels of the mask that were fitted.
    n_without_signal : int
        Voxels of the mask that were not fitted: no signal at b = 0, none with weighting, or too few
        measured samples.
    n_partly_measured : int
        Fitted voxels with a sample that was not measured, and is left out.
    n_raised : int
        Fitted voxels with a measured signal below `LEAST_SIGNAL` of b = 0, which was raised to this value.
    n_nonpositive : int
        Fitted voxels with an eigenvalue that was not positive and was raised to `lowest`.
    lowest : float
        Smallest eigenvalue of a fitted tensor, mm2/s: positive, close to 0.
    """

    fa: NDArray
    md: NDArray
    ad: NDArray
    rd: NDArray
    v1: NDArray
    tensor: NDArray
    fitted: NDArray[np.bool_]
    n_without_signal: int
    n_partly_measured: int
    n_raised: int
    n_nonpositive: int
    lowest: float


def fit_tensor(
    data: NDArray,
    bvals: NDArray,
    bvecs: NDArray,
    mask: NDArray[np.bool_],
    method: str = "WLS",
    unmeasured: NDArray[np.bool_] | None = None,
) -> TensorMaps:
    """Fit a tensor in each voxel of a mask, with DIPY.

    Parameters
    ----------
    data : ndarray, shape (X, Y, Z, N)
        Signal.
    bvals : ndarray, shape (N,)
        s/mm2.
    bvecs : ndarray, shape (N, 3)
        Unit vectors; zero where b = 0.
    mask : ndarray of bool, shape (X, Y, Z)
    method : str
        OLS (of the log-signal); WLS, weighted by OLS' squared prediction; NLLS (of the signal);
        RESTORE, NLLS without outliers, the noise level of each voxel taken from its residuals.
    unmeasured : ndarray of bool, shape (X, Y, Z, N), optional
        Samples that are left out of the fit.

    Returns
    -------
    TensorMaps

    Raises
    ------
    DataError
        No voxel of the mask has a signal.

    References
    ----------
    Chang et al. (2005), MRM 53:1088, https://doi.org/10.1002/mrm.20426 (RESTORE);
    Chang et al. (2012), MRM 68:1654, https://doi.org/10.1002/mrm.24173 (its noise level)
    """
    weighted = (bvals > 0) & (np.linalg.norm(bvecs, axis=1) > 0)
    kept = np.ones(data.shape, bool) if unmeasured is None else ~unmeasured
    b0 = mean_of_measured(data[..., ~weighted], ~kept[..., ~weighted])
    with_signal = mean_of_measured(data[..., weighted], ~kept[..., weighted]) > 0
    fitted = mask & (b0 > 0) & with_signal
    fitted[fitted] = _determined(kept[fitted], weighted, bvecs)
    if not fitted.any():
        raise DataError(
            "has no signal in any voxel of the brain mask",
            value=f"{int(mask.sum())} voxels in the mask",
            remedy="check the mask and the series",
        )
    bvals = np.where(weighted, bvals, 0)
    least = LEAST_SIGNAL * float(np.median(b0[fitted]))
    signal, kept = data[fitted].astype(np.float64), kept[fitted]
    evals, evecs, lowest = _eigen(signal, kept, bvals, bvecs, method, least)
    return _maps(
        fitted,
        evals,
        evecs,
        n_without_signal=int((mask & ~fitted).sum()),
        n_partly_measured=int((~kept).any(axis=-1).sum()),
        n_raised=int((kept & (signal < least)).any(axis=-1).sum()),
        n_nonpositive=int((evals[..., 2] <= lowest * (1 + 1e-9)).sum()),
        lowest=float(lowest.min()),
    )


def _determined(kept: NDArray[np.bool_], weighted: NDArray[np.bool_], bvecs: NDArray) -> NDArray[np.bool_]:
    """Whether the measured samples of each voxel, shape (V, N), determine a tensor, and are at least half."""
    enough: NDArray[np.bool_] = np.all(kept, axis=-1)
    partly = np.flatnonzero(~enough)
    for voxels, samples in _patterns(kept[partly]):
        chosen = samples & weighted
        half = chosen.sum() >= LEAST_MEASURED * weighted.sum()
        enough[partly[voxels]] = half and determine_tensor(bvecs[chosen])
    return enough


def _patterns(kept: NDArray[np.bool_]) -> Iterator[tuple[NDArray[np.intp], NDArray[np.bool_]]]:
    """Voxels with the same measured samples, and these samples, of shape (V, N)."""
    whole = kept.all(axis=-1)
    if whole.any():
        yield np.flatnonzero(whole), np.ones(kept.shape[1], bool)
    partly = np.flatnonzero(~whole)
    patterns, which = np.unique(kept[partly], axis=0, return_inverse=True)
    for number, samples in enumerate(patterns):
        yield partly[which.ravel() == number], samples


def _eigen(
    signal: NDArray, kept: NDArray[np.bool_], bvals: NDArray, bvecs: NDArray, method: str, least: float
) -> tuple[NDArray, NDArray, NDArray]:
    """Eigenvalues, shape (V, 3), eigenvectors, (V, 3, 3), and their lower limit, (V,), of signals, (V, N)."""
    evals, evecs, lowest = np.zeros((len(signal), 3)), np.zeros((len(signal), 3, 3)), np.zeros(len(signal))
    for voxels, samples in _patterns(kept):
        gtab = gradient_table(bvals[samples], bvecs=bvecs[samples], b0_threshold=0)
        model = TensorModel(gtab, fit_method=method, min_signal=least)
        fit = model.fit(signal[voxels][:, samples])
        evals[voxels], evecs[voxels] = fit.evals, fit.evecs
        # DIPY's lower limit of eigenvalues: a millionth of the largest measurable attenuation.
        lowest[voxels] = 1e-6 / -float(model.design_matrix.min())
    return evals, evecs, lowest


def _maps(fitted: NDArray[np.bool_], evals: NDArray, evecs: NDArray, **counts: Any) -> TensorMaps:
    """Maps of the fitted voxels' eigenvalues and eigenvectors, 0 elsewhere."""

    def image(values: NDArray) -> NDArray[np.float32]:
        out = np.zeros((*fitted.shape, *values.shape[1:]), dtype=np.float32)
        out[fitted] = values
        return out

    tensor = np.einsum("vij,vj,vkj->vik", evecs, evals, evecs)
    return TensorMaps(
        fa=image(fractional_anisotropy(evals)),
        md=image(mean_diffusivity(evals)),
        ad=image(axial_diffusivity(evals)),
        rd=image(radial_diffusivity(evals)),
        v1=image(evecs[..., 0]),
        tensor=image(from_matrix(tensor)),
        fitted=fitted,
        **counts,
    )
