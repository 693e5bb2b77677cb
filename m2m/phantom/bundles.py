"""Named white-matter bundles, defined as splines in MNI152 millimetres (RAS+).

A bundle is defined by guide curves through a few points each; strands are interpolated between
neighbouring guides, so that they fill a sheet or a fan. Curves of the left hemisphere are mirrored for the right.
The points were placed by eye on the MNI152 maps after the descriptions of the atlas below.

References
----------
Catani & Thiebaut de Schotten (2008), Cortex 44:1105-1132,
https://doi.org/10.1016/j.cortex.2008.05.004
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import make_interp_spline
from scipy.spatial import cKDTree

STRAND_SPACING_MM = 2.5
POINT_SPACING_MM = 1.5
REACH = 2.5  # in radii; the weight at this distance is 4 %
NEIGHBOURS = 4

Curve = tuple[tuple[float, float, float], ...]


@dataclass(frozen=True)
class Bundle:
    """A named bundle.

    Attributes
    ----------
    name : str
    fa : float
        Typical FA of a voxel that holds only this bundle, before differences between participants.
    radius_mm : float
        Standard deviation of the Gaussian profile around a strand.
    aging : float
        Effect of age, relative to that on the average bundle.
    guides : tuple of curves
        Points in mm; all guides of a bundle have the same number of points.
    """

    name: str
    fa: float
    radius_mm: float
    aging: float
    guides: tuple[Curve, ...]


def _across(curve: Curve) -> Curve:
    """Complete a curve that ends at the midline by its mirror image."""
    return curve + tuple((-x, y, z) for x, y, z in reversed(curve[:-1]))


def _mirror(bundle: Bundle) -> Bundle:
    """Mirror a bundle of the left hemisphere to the right."""
    guides = tuple(tuple((-x, y, z) for x, y, z in guide) for guide in bundle.guides)
    name = bundle.name.removesuffix("_left") + "_right"
    return Bundle(name, bundle.fa, bundle.radius_mm, bundle.aging, guides)


def _both(name: str, fa: float, radius_mm: float, aging: float, *guides: Curve) -> list[Bundle]:
    left = Bundle(f"{name}_left", fa, radius_mm, aging, guides)
    return [left, _mirror(left)]


def _commissure(name: str, fa: float, radius_mm: float, aging: float, *guides: Curve) -> Bundle:
    return Bundle(name, fa, radius_mm, aging, tuple(map(_across, guides)))


BUNDLES: tuple[Bundle, ...] = (
    _commissure(
        "corpus_callosum_genu",
        0.84,
        2.6,
        1.5,
        ((-18, 54, -8), (-14, 42, -2), (-7, 31, 2), (0, 27, 2)),
        ((-22, 58, 4), (-17, 46, 8), (-9, 34, 9), (0, 30, 9)),
        ((-24, 48, 24), (-18, 37, 21), (-9, 28, 18), (0, 25, 17)),
    ),
    _commissure(
        "corpus_callosum_body",
        0.82,
        2.4,
        1.0,
        ((-26, 30, 42), (-19, 23, 33), (-9, 20, 24), (0, 18, 20.5)),
        ((-26, 14, 54), (-20, 10, 38), (-10, 8, 28), (0, 6, 25)),
        ((-26, -6, 58), (-21, -6, 40), (-11, -6, 30), (0, -6, 26.5)),
        ((-26, -22, 60), (-21, -20, 40), (-11, -18, 30), (0, -17, 25.5)),
        ((-26, -42, 56), (-21, -36, 38), (-11, -29, 28), (0, -27, 22)),
    ),
    _commissure(
        "corpus_callosum_splenium",
        0.90,
        3.2,
        0.6,
        ((-21, -57, 40), (-20, -52, 32), (-13, -42, 24), (0, -36, 18)),
        ((-18, -82, 24), (-24, -62, 22), (-15, -46, 18), (0, -39, 14)),
        ((-12, -92, 4), (-24, -68, 12), (-16, -47, 13), (0, -38, 10)),
    ),
    *_both(
        "corticospinal_tract",
        0.76,
        2.8,
        0.5,
        (
            (-8, -30, 68),
            (-17, -25, 46),
            (-24, -21, 24),
            (-24, -19, 8),
            (-17, -18, -6),
            (-13, -19, -16),
            (-7, -25, -32),
            (-5, -38, -54),
        ),
        (
            (-34, -26, 60),
            (-28, -22, 42),
            (-25, -18, 24),
            (-23, -15, 8),
            (-16, -16, -6),
            (-11, -18, -16),
            (-6, -24, -32),
            (-4, -37, -54),
        ),
        (
            (-50, -8, 36),
            (-37, -11, 31),
            (-27, -14, 22),
            (-21, -11, 8),
            (-15, -14, -6),
            (-10, -17, -16),
            (-5, -23, -32),
            (-4, -36, -54),
        ),
    ),
    *_both(
        "cingulum",
        0.72,
        2.2,
        1.0,
        (
            (-7, 26, -8),
            (-8, 38, 6),
            (-8, 31, 22),
            (-9, 14, 33),
            (-9, -6, 38),
            (-9, -24, 38),
            (-10, -40, 32),
            (-13, -49, 20),
            (-18, -46, 6),
            (-23, -38, -6),
            (-25, -26, -15),
            (-24, -14, -22),
        ),
    ),
    *_both(
        "superior_longitudinal_fasciculus",
        0.70,
        3.0,
        1.2,
        ((-30, 34, 28), (-31, 14, 34), (-32, -8, 37), (-33, -28, 38), (-36, -46, 37), (-41, -60, 32)),
        ((-44, 14, 22), (-40, 6, 28), (-37, -10, 31), (-38, -28, 32), (-43, -42, 34), (-50, -50, 34)),
    ),
    *_both(
        "arcuate_fasciculus",
        0.70,
        2.8,
        1.2,
        (
            (-46, 22, 14),
            (-38, 8, 24),
            (-35, -10, 28),
            (-35, -28, 29),
            (-38, -43, 24),
            (-43, -48, 12),
            (-49, -38, -4),
            (-53, -20, -14),
        ),
    ),
    *_both(
        "inferior_fronto_occipital_fasciculus",
        0.72,
        2.6,
        1.2,
        (
            (-20, 54, 2),
            (-26, 36, 2),
            (-31, 18, -4),
            (-34, 2, -8),
            (-37, -16, -7),
            (-38, -34, -2),
            (-34, -54, 2),
            (-27, -74, 2),
            (-18, -94, 2),
        ),
    ),
    *_both(
        "inferior_longitudinal_fasciculus",
        0.68,
        2.8,
        1.0,
        (
            (-38, 6, -34),
            (-42, -8, -28),
            (-45, -24, -20),
            (-44, -40, -13),
            (-40, -56, -8),
            (-33, -74, -6),
            (-24, -92, -4),
        ),
    ),
    *_both(
        "uncinate_fasciculus",
        0.66,
        2.6,
        1.0,
        ((-14, 44, -14), (-20, 32, -11), (-28, 18, -9), (-34, 6, -14), (-36, 2, -22), (-35, 6, -32)),
    ),
    *_both(
        "fornix",
        0.70,
        1.6,
        1.5,
        (
            (-2, 2, -8),
            (-2.5, 2, 4),
            (-2.5, -6, 13),
            (-3.5, -18, 18),
            (-9, -31, 14),
            (-17, -37, 6),
            (-24, -35, -3),
            (-28, -26, -11),
            (-27, -14, -19),
        ),
    ),
    *_both(
        "anterior_thalamic_radiation",
        0.68,
        2.8,
        1.5,
        ((-9, -18, 10), (-12, -6, 9), (-17, 6, 7), (-22, 22, 7), (-25, 38, 10), (-24, 52, 12)),
        ((-9, -16, 4), (-12, -6, 3), (-17, 5, 1), (-21, 20, -1), (-22, 36, -2), (-22, 52, -4)),
    ),
    *_both(
        "optic_radiation",
        0.76,
        2.6,
        0.8,
        ((-22, -27, -3), (-32, -24, -7), (-38, -34, -4), (-37, -48, 2), (-31, -66, 2), (-22, -82, 0), (-10, -92, -4)),
        ((-22, -28, 0), (-29, -29, 3), (-34, -38, 8), (-33, -50, 12), (-28, -66, 13), (-20, -80, 12), (-10, -90, 10)),
    ),
    *_both(
        "middle_cerebellar_peduncle",
        0.76,
        3.0,
        0.7,
        ((-34, -68, -40), (-29, -56, -40), (-22, -42, -38), (-16, -31, -36), (-8, -23, -34), (0, -20, -33)),
        ((-22, -70, -36), (-22, -58, -37), (-19, -43, -36), (-14, -32, -32), (-7, -25, -29), (0, -22, -28)),
    ),
)

NAMES = tuple(bundle.name for bundle in BUNDLES)


def _spline(curve: NDArray) -> tuple[NDArray, NDArray]:
    """Points every `POINT_SPACING_MM` of a smooth curve, and its unit tangents."""
    chords = np.linalg.norm(np.diff(curve, axis=0), axis=1)
    # Centripetal parameter: no overshoot where guide points lie unevenly.
    knots = np.concatenate([[0.0], np.cumsum(np.sqrt(chords))])
    spline = make_interp_spline(knots, curve, k=3)
    at = np.linspace(0, knots[-1], int(chords.sum() / POINT_SPACING_MM) + 2)
    tangents = spline(at, nu=1)
    return spline(at), tangents / np.linalg.norm(tangents, axis=1, keepdims=True)


def strands(bundle: Bundle) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points and unit tangents, each shape (P, 3), of all strands of a bundle."""
    guides = np.array(bundle.guides, dtype=np.float64)
    curves = [guides[0]]
    for a, b in pairwise(guides):
        gap = np.linalg.norm(b - a, axis=1).max()
        n = max(1, round(gap / STRAND_SPACING_MM))
        curves += [a + (b - a) * i / n for i in range(1, n + 1)]
    points, tangents = zip(*map(_spline, curves), strict=True)
    return np.concatenate(points), np.concatenate(tangents)


def locate(bundle: Bundle, points: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Find the points that a bundle passes.

    Parameters
    ----------
    bundle : Bundle
    points : ndarray, shape (N, 3)
        In MNI mm.

    Returns
    -------
    inside : ndarray of int, shape (n,)
        Indices of the points within the bundle's reach.
    weight : ndarray, shape (n,)
        1 on a strand, falling as a Gaussian of the distance.
    direction : ndarray, shape (n, 3)
        Unit tangents.
    """
    curve, tangents = strands(bundle)
    reach = REACH * bundle.radius_mm
    low, high = curve.min(axis=0) - reach, curve.max(axis=0) + reach
    near = np.flatnonzero(((points >= low) & (points <= high)).all(axis=1))
    distance, index = cKDTree(curve).query(points[near], k=NEIGHBOURS, distance_upper_bound=reach)
    reached = np.isfinite(distance[:, 0])
    near, distance, index = near[reached], distance[reached], index[reached]
    weights = np.exp(-0.5 * (distance / bundle.radius_mm) ** 2)
    # The tree returns len(curve) for a missing neighbour; its weight is 0.
    found = np.minimum(index, len(curve) - 1)
    direction = np.einsum("nk,nkc->nc", weights, tangents[found])
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return near, weights[:, 0], direction
