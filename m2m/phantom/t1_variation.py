"""Variation of real T1s: tone, receive bias, thick slices, edges of the brain, cut fields of view."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.interpolate import PchipInterpolator

from m2m.options import T1Variation
from m2m.phantom import signal

# Intensities, relative to white matter, between which the slopes of the tone's curve are drawn.
KNOTS = np.linspace(0, 1.5, 7)
# Standard deviation (mm) of the Gaussian that smooths the displacement of the brain's edge.
EDGE_SIGMA_MM = 6.0
# Range of intensities, relative to white matter, of what brain extraction leaves outside the brain.
RESIDUE = (0.15, 0.6)
# Standard deviation of a box, by its width.
BOX_SD = 12**-0.5


def vary(
    t1: NDArray, spacing_mm: float, options: T1Variation, rng: np.random.Generator, snr: float
) -> NDArray[np.float32]:
    """Change a T1 as other scanners, sequences and brain extractions would have.

    Parameters
    ----------
    t1 : ndarray, shape (X, Y, Z)
        Relative to white matter; 0 outside the brain.
    spacing_mm : float
    options : T1Variation
    rng : numpy.random.Generator
        All draws are made whatever the options are, in one order.
    snr : float
        Signal-to-noise ratio of white matter.

    Returns
    -------
    ndarray, shape (X, Y, Z)
    """
    tone_seed, edge_seed, bias_seed, noise_seed = rng.integers(2**32, size=4)
    thick, axis, cut, end = rng.uniform(size=2), rng.integers(3), rng.uniform(size=2), rng.integers(2)
    t1 = tone(t1, options.tone, np.random.default_rng(tone_seed))
    t1 = move_edge(t1, spacing_mm, options.edge_mm, np.random.default_rng(edge_seed))
    if options.thick_mm and thick[0] < options.thick_share:
        sigma = BOX_SD * thick[1] * options.thick_mm / spacing_mm
        t1 = ndimage.gaussian_filter1d(t1, sigma, axis=int(axis))
    if cut[0] < options.cut_share:
        t1 = cut_end(t1, round(cut[1] * options.cut_mm / spacing_mm), bool(end))
    shape = (t1.shape[0], t1.shape[1], t1.shape[2])
    t1 = t1 * signal.bias_field(np.random.default_rng(bias_seed), shape, options.bias)
    return signal.add_rician_noise(t1, 1 / snr, np.random.default_rng(noise_seed))


def tone(t1: NDArray, size: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Apply a random monotone curve to intensities; 0 stays 0, and white matter 1.

    Parameters
    ----------
    t1 : ndarray
        Relative to white matter.
    size : float
        Standard deviation of the logarithms of its slopes.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray
        Of the image's shape.
    """
    slopes = np.exp(size * rng.standard_normal(len(KNOTS) - 1))
    curve = PchipInterpolator(KNOTS, np.concatenate([[0], np.cumsum(slopes)]))
    fine = np.linspace(KNOTS[0], KNOTS[-1], 256)
    return np.interp(t1, fine, curve(fine) / curve(1.0)).astype(np.float32)


def move_edge(t1: NDArray, spacing_mm: float, size_mm: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Cut tissue off or leave some outside the brain, as imperfect brain extraction does.

    Parameters
    ----------
    t1 : ndarray, shape (X, Y, Z)
        0 outside the brain.
    spacing_mm : float
    size_mm : float
        Largest displacement of the edge.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray, shape (X, Y, Z)
    """
    if not size_mm:
        return t1
    inside = ndimage.binary_fill_holes(t1 > 0.02)
    depth_mm = spacing_mm * (ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(~inside))
    field = ndimage.gaussian_filter(rng.standard_normal(t1.shape, dtype=np.float32), EDGE_SIGMA_MM / spacing_mm)
    shift_mm = size_mm * np.clip(field / (2 * field.std()), -1, 1)
    residue = rng.uniform(*RESIDUE) * rng.uniform(0.5, 1.5, t1.shape).astype(np.float32)
    left = np.where(inside, t1, residue)
    return np.where(depth_mm > shift_mm, left, 0).astype(np.float32)


def cut_end(t1: NDArray, n_slices: int, top: bool) -> NDArray[np.float32]:
    """Set the brain's first slices along the last axis to 0, from below or from above."""
    cut = t1.copy()
    filled = np.flatnonzero((t1 > 0.02).any(axis=(0, 1)))
    if filled.size and n_slices:
        low, high = filled[0], filled[-1] + 1
        cut[..., slice(high - n_slices, None) if top else slice(low + n_slices)] = 0
    return cut
