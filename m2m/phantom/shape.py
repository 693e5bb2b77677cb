"""Shapes of participants: smooth invertible deformations of the MNI152 anatomy.

A participant's shape is the flow of a stationary velocity field, so it is invertible whatever its
size. Images are pulled back: each point of the participant's (affinely normalised) brain is mapped
to the MNI152 point of the same tissue.

References
----------
Arsigny et al. (2006), MICCAI, LNCS 4190:924-931, https://doi.org/10.1007/11866565_113
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from m2m.phantom.anatomy import sample

# Standard deviation (mm) of the Gaussian and share of the variance: lobes, bundles, folds.
SCALES = ((24.0, 0.50), (12.0, 0.30), (7.0, 0.20))
SQUARINGS = 6


@dataclass(frozen=True)
class Shape:
    """A pull-back deformation: displacements on a coarse grid.

    Attributes
    ----------
    displacement : ndarray, shape (3, X, Y, Z)
        In mm: the tissue at point x is that of point x + displacement(x).
    affine : ndarray, shape (4, 4)
        Voxel indices of the grid to mm.
    """

    displacement: NDArray[np.float32]
    affine: NDArray[np.float64]

    def pull(self, points: NDArray) -> NDArray[np.float32]:
        """Map points, shape (N, 3), to the points of the same tissue."""
        shift_mm = sample(self.displacement, self.affine, points, mode="nearest")
        return np.asarray(points, dtype=np.float32) + shift_mm

    def jacobian(self) -> NDArray[np.float32]:
        """Derivative of `pull` on the grid, shape (3, 3, X, Y, Z): [i, j] = d pulled_i / d x_j."""
        spacing = np.diag(self.affine)[:3]
        gradient = [np.stack(np.gradient(u, *spacing)) for u in self.displacement]
        return np.stack(gradient) + np.eye(3, dtype=np.float32)[:, :, None, None, None]


def random_velocity(
    rng: np.random.Generator, shape: tuple[int, ...], spacing_mm: float, size_mm: float
) -> NDArray[np.float32]:
    """Draw a smooth vector field of several scales.

    Parameters
    ----------
    rng : numpy.random.Generator
    shape : (int, int, int)
    spacing_mm : float
        Of the grid.
    size_mm : float
        Root mean square length of the vectors.

    Returns
    -------
    ndarray, shape (3, X, Y, Z)
        In mm.
    """
    field = np.zeros((3, *shape), dtype=np.float32)
    for sigma_mm, share in SCALES:
        sigma = sigma_mm / spacing_mm
        noise = rng.standard_normal((3, *shape), dtype=np.float32)
        smooth = ndimage.gaussian_filter(noise, (0, sigma, sigma, sigma), mode="wrap")
        # Standard deviation of white noise of deviation 1 after this Gaussian.
        smooth_sd = (2 * np.sqrt(np.pi) * sigma) ** -1.5
        field += smooth * (size_mm * np.sqrt(share / 3) / smooth_sd)
    return field


def growth_velocity(
    region: NDArray[np.bool_], spacing_mm: float, log_growth: float, reach_mm: float = 6.0
) -> NDArray[np.float32]:
    """Velocity whose pull-back scales a region's volume by exp(log_growth), to first order.

    Parameters
    ----------
    region : ndarray of bool or of fractions, shape (X, Y, Z)
    spacing_mm : float
        Of the grid.
    log_growth : float
    reach_mm : float
        Standard deviation of the Gaussian that extends the growth around the region.

    Returns
    -------
    ndarray, shape (3, X, Y, Z)
        In mm: towards the region where it grows, since images are pulled back.
    """
    region = region.astype(np.float32)
    height = ndimage.gaussian_filter(region, reach_mm / spacing_mm)
    slope = np.stack(np.gradient(height, spacing_mm))
    divergence = sum(np.gradient(slope[i], spacing_mm, axis=i) for i in range(3))
    # The volume's rate of change under a flow v is the mean of div v inside; here v = -slope.
    rate = -(divergence * region).sum() / region.sum()
    return slope * np.float32(log_growth / rate)


def flow(velocity: NDArray, affine: NDArray) -> Shape:
    """Exponential of a velocity field by scaling and squaring.

    Parameters
    ----------
    velocity : ndarray, shape (3, X, Y, Z)
        In mm per unit time; integrated over one unit.
    affine : ndarray, shape (4, 4)
        Diagonal and translation: voxel indices to mm.
    """
    spacing = np.diag(affine)[:3].astype(np.float32)[:, None, None, None]
    grid = np.indices(velocity.shape[1:], dtype=np.float32)
    step = (velocity / 2**SQUARINGS).astype(np.float32)
    for _ in range(SQUARINGS):
        shifted = grid + step / spacing
        step = step + np.stack([ndimage.map_coordinates(u, shifted, order=1, mode="nearest") for u in step])
    return Shape(step, affine)
