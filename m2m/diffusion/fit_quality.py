"""Judgement of a tensor fit: numbers that a sound series of an adult brain cannot have.

A gradient table of another order, or of another series, gives maps that look like a brain: FA is too low or
too high, and nothing fails. What the fit leaves over shows it.

References
----------
Veraart et al. (2016), NeuroImage 142:394, https://doi.org/10.1016/j.neuroimage.2016.08.016 (noise level);
Tax et al. (2022), NeuroImage 249:118830, https://doi.org/10.1016/j.neuroimage.2021.118830 (quality control)
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.diffusion.tensor_fit import LEAST_SIGNAL, TensorMaps
from m2m.io.bvalues import shells
from m2m.io.errors import DataError
from m2m.options.imaging_options import FitLimits

# Voxels that the numbers are computed from, and patches that the noise is estimated in.
N_VOXELS, N_PATCHES = 5000, 300
# Fewer voxels do not tell one order of the directions from another.
LEAST_VOXELS = 100
# Radius of a patch in voxels; a patch is used if the brain fills so much of it.
PATCH_RADIUS, PATCH_FILLED = 2, 0.8
# Elements of the tensor and the signal at b = 0; samples beyond these that show a misfit.
N_PARAMETERS, LEAST_FREE = 7, 3
# Shells whose b-values differ by less (s/mm2) need not differ visibly in signal.
SHELL_STEP_S_PER_MM2 = 300.0
# Part of the voxels, those whose signal varies most, that orders of the directions are compared in.
VARYING_PART = 0.25
# Random orders of the directions that the given one is compared with.
N_RANDOM = 5


@dataclass(frozen=True)
class FitQuality:
    """Numbers that a tensor fit is checked by; None where the series is too small to tell.

    Attributes
    ----------
    md_median_mm2_per_s : float
        Median of mean diffusivity.
    nonpositive_share : float
        Share of voxels with an eigenvalue that was not positive.
    b0_over_weighted : float
        Signal of the weakest b = 0 volume over that of the strongest volume of the highest shell (medians).
    attenuating_share : float
        Least share of voxels whose signal falls from one shell to the next one.
    residual_over_noise : float or None
        Median residual of the fit, over a noise level that does not depend on the gradients.
    order_share : float or None
        Share of anisotropic voxels in which the given order of directions fits better than a random one.
    other_order_share : float or None
        Share of anisotropic voxels in which the best shifted or reversed table fits better than the given one.
    other_order : str
        That table, in words.
    """

    md_median_mm2_per_s: float
    nonpositive_share: float
    b0_over_weighted: float
    attenuating_share: float
    residual_over_noise: float | None
    order_share: float | None
    other_order_share: float | None
    other_order: str = ""


def fit_quality(
    data: NDArray,
    bvals: NDArray,
    bvecs: NDArray,
    maps: TensorMaps,
    unmeasured: NDArray[np.bool_] | None = None,
) -> FitQuality:
    """Measure what a tensor fit is checked by.

    Parameters
    ----------
    data : ndarray, shape (X, Y, Z, N)
        Signal.
    bvals : ndarray, shape (N,)
        s/mm2; 0 of an unweighted volume.
    bvecs : ndarray, shape (N, 3)
        Unit vectors.
    maps : TensorMaps
        Fitted to this signal.
    unmeasured : ndarray of bool, shape (X, Y, Z, N), optional
        Voxels with such a sample are not used.

    Returns
    -------
    FitQuality
    """
    whole = maps.fitted if unmeasured is None else maps.fitted & ~unmeasured.any(axis=-1)
    whole = whole if whole.any() else maps.fitted
    signal = _evenly(data[whole].astype(np.float64), N_VOXELS)
    weighted = bvals > 0
    level = np.median(signal, axis=0)
    top = bvals > bvals.max() / 2
    free = len(bvals) - N_PARAMETERS
    noise = noise_level(data, whole) if free >= LEAST_FREE else None
    residual = _residual(signal, bvals, bvecs)
    comparable = free >= LEAST_FREE and len(signal) >= LEAST_VOXELS
    order, other, name = _orders(signal, bvals, bvecs) if comparable else (None, None, "")
    return FitQuality(
        md_median_mm2_per_s=float(np.median(maps.md[maps.fitted])),
        nonpositive_share=maps.n_nonpositive / int(maps.fitted.sum()),
        b0_over_weighted=float(level[~weighted].min() / max(level[top].max(), 1e-12)),
        attenuating_share=_attenuating(signal, bvals),
        residual_over_noise=float(np.median(residual) / np.sqrt(free) / noise) if noise else None,
        order_share=order,
        other_order_share=other,
        other_order=name,
    )


def _evenly(values: NDArray, n: int) -> NDArray:
    """At most n rows, evenly spaced."""
    return values[np.unique(np.linspace(0, len(values) - 1, min(n, len(values))).astype(int))]


def _residual(signal: NDArray, bvals: NDArray, bvecs: NDArray) -> NDArray[np.float64]:
    """Root of the sum of squares that a tensor, fitted to the log signal, leaves of signals, (V, N)."""
    x, y, z = np.where(bvals[:, None] > 0, bvecs, 0).T
    quadratic = [x * x, 2 * x * y, 2 * x * z, y * y, 2 * y * z, z * z]
    design = np.column_stack([*(-bvals * element for element in quadratic), np.ones(len(bvals))])
    least = LEAST_SIGNAL * max(float(np.median(signal)), 1e-12)
    logarithm = np.log(np.maximum(signal, least))
    fitted = np.exp(logarithm @ np.linalg.pinv(design).T @ design.T)
    return np.sqrt(((signal - fitted) ** 2).sum(axis=-1))


def _orders(signal: NDArray, bvals: NDArray, bvecs: NDArray) -> tuple[float, float, str]:
    """`order_share`, `other_order_share` and `other_order` of signals, (V, N).

    Voxels whose signal varies most within shells are used: in the others every order fits equally.
    """
    centred = np.zeros_like(signal)
    for volumes in shells(bvals, 0.0):
        centred[:, volumes] = signal[:, volumes] - signal[:, volumes].mean(axis=1, keepdims=True)
    variance = (centred[:, bvals > 0] ** 2).mean(axis=1)
    signal = signal[variance >= np.quantile(variance, 1 - VARYING_PART)]
    given = _residual(signal, bvals, bvecs)
    random = [(_residual(signal, *table) > given).mean() for table in _random_tables(bvals, bvecs)]
    tables = {name: table for name, table in _tables(bvals, bvecs) if not _same(table, (bvals, bvecs))}
    others = {name: _residual(signal, *table) for name, table in tables.items()}
    best = min(others, key=lambda name: float((others[name] ** 2).sum()))
    return float(np.median(random)), float((others[best] < given).mean()), best


def _same(one: tuple[NDArray, NDArray], other: tuple[NDArray, NDArray]) -> bool:
    """Whether two tables are equal."""
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def _random_tables(bvals: NDArray, bvecs: NDArray) -> Iterator[tuple[NDArray, NDArray]]:
    """Tables with the weighted volumes in random order."""
    rng = np.random.default_rng(0)
    weighted = np.flatnonzero(bvals > 0)
    for _ in range(N_RANDOM):
        order = np.arange(len(bvals))
        order[weighted] = rng.permutation(weighted)
        yield bvals[order], bvecs[order]


def _tables(bvals: NDArray, bvecs: NDArray) -> Iterator[tuple[str, tuple[NDArray, NDArray]]]:
    """Tables that conversion or sorting mistakes lead to, and what each means in words."""
    weighted, every = np.flatnonzero(bvals > 0), np.arange(len(bvals))
    for shift, where in ((1, "later"), (-1, "earlier")):
        order = every.copy()
        order[weighted] = np.roll(weighted, shift)
        yield f"the weighted volumes' rows are one place {where}", (bvals[order], bvecs[order])
        order = np.roll(every, shift)
        yield f"all rows are one place {where}", (bvals[order], bvecs[order])
    yield "the rows are in reverse order", (bvals[::-1], bvecs[::-1])
    order = np.r_[weighted, np.flatnonzero(bvals == 0)]
    yield "the b = 0 volumes are last", (bvals[order], bvecs[order])
    order = np.r_[np.flatnonzero(bvals == 0), weighted]
    yield "the b = 0 volumes are first", (bvals[order], bvecs[order])


def _attenuating(signal: NDArray, bvals: NDArray) -> float:
    """Least share of voxels whose mean signal falls from one shell to the next, b = 0 included."""
    means, last = [signal[:, bvals == 0].mean(axis=1)], 0.0
    for shell in shells(bvals, 0.0):
        if (b := float(bvals[shell].mean())) - last >= SHELL_STEP_S_PER_MM2 or last == 0:
            means.append(signal[:, shell].mean(axis=1))
            last = b
    return min(float((low < high).mean()) for high, low in pairwise(means))


def noise_level(data: NDArray, mask: NDArray[np.bool_]) -> float | None:
    """Noise of a series from its own redundancy: the median over patches of Marchenko-Pastur PCA.

    It does not depend on the gradient table.

    Parameters
    ----------
    data : ndarray, shape (X, Y, Z, N)
    mask : ndarray of bool, shape (X, Y, Z)

    Returns
    -------
    float or None
        Standard deviation, in the unit of the signal; None where no patch fits into the mask.
    """
    radius = PATCH_RADIUS
    while (2 * radius + 1) ** 3 < data.shape[-1]:
        radius += 1
    centres = np.argwhere(mask)
    inside = ((centres >= radius) & (centres < np.array(mask.shape) - radius)).all(axis=1)
    levels = []
    for centre in _evenly(centres[inside], N_PATCHES) if inside.any() else ():
        box = tuple(slice(c - radius, c + radius + 1) for c in centre)
        if mask[box].mean() >= PATCH_FILLED:
            levels.append(_patch_noise(data[box].reshape(-1, data.shape[-1])))
    return float(np.median(levels)) if levels and np.median(levels) > 0 else None


def _patch_noise(patch: NDArray) -> float:
    """Noise of a patch, shape (voxels, N): its smallest eigenvalues that noise alone can have."""
    centred = patch.astype(np.float64) - patch.mean(axis=0)
    evals = np.linalg.eigvalsh(centred.T @ centred / len(centred))
    for n in range(len(evals) - 1, 1, -1):
        variance = evals[:n].mean()
        if evals[n - 1] - evals[0] <= 4 * np.sqrt(n / len(centred)) * variance:
            return float(np.sqrt(max(variance, 0)))
    return float(np.sqrt(max(evals[0], 0)))


def require_plausible(quality: FitQuality, limits: FitLimits, file: Any = "") -> None:
    """Check the numbers of a fit against their limits.

    Parameters
    ----------
    quality : FitQuality
    limits : FitLimits
    file : path, optional
        Named in the finding.

    Raises
    ------
    DataError
        A number is beyond its limit; the finding names value, limit and remedy.
    """
    for problem, value, limit, remedy in _problems(quality, limits):
        raise DataError(problem, file=file, value=f"{value}; limit {limit}", remedy=f"{remedy}, or change the limit")


def _problems(found: FitQuality, limits: FitLimits) -> Iterator[tuple[str, str, str, str]]:
    """Problem, value, limit with its key, and remedy of each number beyond its limit, the clearest first."""
    table = "find the gradient table of this very series, or convert image and gradients from DICOM together"
    if found.other_order_share is not None and found.other_order_share > limits.max_other_order_share:
        yield (
            f"the volumes are in another order than the gradient table: the signal fits better if {found.other_order}",
            f"better in {found.other_order_share:.2f} of the voxels",
            f"{limits.max_other_order_share:g} (dti.limits.max_other_order_share)",
            table,
        )
    if found.b0_over_weighted < limits.min_b0_over_weighted:
        yield (
            "a volume that the table calls b = 0 has less signal than a weighted one",
            f"ratio {found.b0_over_weighted:.2f}",
            f"{limits.min_b0_over_weighted:g} (dti.limits.min_b0_over_weighted)",
            table,
        )
    if found.attenuating_share < limits.min_attenuating_share:
        yield (
            "the signal does not fall with b",
            f"it falls in {found.attenuating_share:.2f} of the voxels",
            f"{limits.min_attenuating_share:g} (dti.limits.min_attenuating_share)",
            f"check the b-values and that all volumes are of one series; {table}",
        )
    low, high = limits.md_median_mm2_per_s
    if not low <= found.md_median_mm2_per_s <= high:
        yield (
            "the median of mean diffusivity is not that of brain tissue (about 0.8e-3 mm2/s; free water 3e-3)",
            f"{found.md_median_mm2_per_s:.2e} mm2/s",
            f"{low:g} to {high:g} (dti.limits.md_median_mm2_per_s)",
            "check the unit and the scale of the b-values, and the brain mask",
        )
    if found.nonpositive_share > limits.max_nonpositive_share:
        yield (
            "too many tensors have an eigenvalue that is not positive and had to be raised",
            f"{found.nonpositive_share:.2f} of the voxels",
            f"{limits.max_nonpositive_share:g} (dti.limits.max_nonpositive_share)",
            table,
        )
    if found.residual_over_noise is not None and found.residual_over_noise > limits.max_residual_over_noise:
        yield (
            "the tensors do not explain the signal: their residual is far above the noise",
            f"{found.residual_over_noise:.1f} times the noise",
            f"{limits.max_residual_over_noise:g} (dti.limits.max_residual_over_noise)",
            f"look at the series for motion and artefacts, or correct it (preprocess.backend); {table}",
        )
    if found.order_share is not None and found.order_share < limits.min_order_share:
        yield (
            "the directions explain the signal no better than directions in random order",
            f"better in {found.order_share:.2f} of the voxels",
            f"{limits.min_order_share:g} (dti.limits.min_order_share)",
            table,
        )
