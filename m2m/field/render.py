"""Volume rendering of density and colour: emission and absorption along parallel rays, as in NeRF.

The colour of a pixel is the emitted light along its ray that is not absorbed in front of it. The
rendering is differentiable.

References
----------
Max (1995), optical models, IEEE TVCG 1:99, https://doi.org/10.1109/2945.468400;
Mildenhall et al. (2020), NeRF, https://doi.org/10.1007/978-3-030-58452-8_24.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Camera(NamedTuple):
    """Pose of a camera with parallel rays.

    Attributes
    ----------
    azimuth_deg : float
        0: from behind, with right on the right; 90: from the participant's right; 180: from the front.
    elevation_deg : float
        90: from above, with the front at the top.
    width_mm : float
        Of the square image.
    pixels : int
        Along each side.
    """

    azimuth_deg: float
    elevation_deg: float
    width_mm: float
    pixels: int

    @property
    def axes(self) -> NDArray[np.float64]:
        """Unit vectors to the right, up and into the image, as rows; world axes."""
        a, e = math.radians(self.azimuth_deg), math.radians(self.elevation_deg)
        right = np.array([math.cos(a), math.sin(a), 0])
        level = np.array([-math.sin(a), math.cos(a), 0])
        above = np.array([0.0, 0, 1])
        up = math.sin(e) * level + math.cos(e) * above
        return np.stack([right, up, math.cos(e) * level - math.sin(e) * above])

    def rays(self, centre_mm: NDArray, length_mm: float) -> tuple[Tensor, Tensor]:
        """Start points of the rays, row by row, and their direction.

        Parameters
        ----------
        centre_mm : ndarray, shape (3,)
            Point in the middle of the image, world mm.
        length_mm : float
            Of the rays; the centre is half way.

        Returns
        -------
        starts : Tensor, shape (pixels^2, 3)
            World mm.
        direction : Tensor, shape (3,)
        """
        right, up, into = self.axes
        across = (np.arange(self.pixels) + 0.5) / self.pixels * self.width_mm - self.width_mm / 2
        plane = across[None, :, None] * right - across[:, None, None] * up  # rows run down
        plane = plane + centre_mm - into * length_mm / 2
        starts = torch.tensor(plane.reshape(-1, 3), dtype=torch.float32)
        return starts, torch.tensor(into, dtype=torch.float32)


class View(NamedTuple):
    """Rendered values of P rays.

    Attributes
    ----------
    colour : Tensor, shape (P, 3)
        0 to 1, on black.
    depth : Tensor, shape (P,)
        Optical depth: extinction integrated along the ray.
    """

    colour: Tensor
    depth: Tensor

    @property
    def opacity(self) -> Tensor:
        """Fraction of the light from behind that is absorbed, shape (P,)."""
        return 1 - (-self.depth).exp()


def integrate(
    medium: Callable[[Tensor], tuple[Tensor, Tensor]],
    starts: Tensor,
    direction: Tensor,
    length_mm: float,
    step_mm: float,
    at_once: int = 1,
) -> View:
    """Integrate emission and absorption along rays, from front to back.

    A step with extinction s per mm emits its colour times 1 - exp(-s step_mm), and transmits the
    fraction exp(-s step_mm) of the light from behind.

    Parameters
    ----------
    medium : callable
        From points (P, 3) in world mm to extinction per mm (P,) and colour (P, 3).
    starts : Tensor, shape (P, 3)
        World mm.
    direction : Tensor, shape (3,) or (P, 3)
        Unit vectors.
    length_mm, step_mm : float
        Of the rays, and of a step along them.
    at_once : int
        Number of steps per call of the medium.

    Returns
    -------
    View
    """
    depth = torch.zeros(len(starts), device=starts.device)
    colour = torch.zeros_like(starts)
    along = step_mm * (torch.arange(math.ceil(length_mm / step_mm), device=starts.device) + 0.5)
    for steps in along.split(at_once):
        points = starts[:, None] + steps[:, None] * direction.unsqueeze(-2)  # (P, K, 3)
        values = medium(points.flatten(0, 1))
        extinction, emitted = (x.unflatten(0, points.shape[:2]) for x in values)
        absorbed = extinction * step_mm  # (P, K)
        beyond = depth[:, None] + absorbed.cumsum(1)
        share = (absorbed - beyond).exp() - (-beyond).exp()
        colour = colour + (share[..., None] * emitted).sum(1)
        depth = beyond[:, -1]
    return View(colour, depth)
