"""Views of anything that has a density and a colour: emission and absorption along rays.

The picture's value at a pixel is what comes through from every place along its ray, as in NeRF's
volume rendering with parallel rays. All of it can be differentiated.

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
    """Where a picture is taken from, far away: its rays are parallel.

    Attributes
    ----------
    azimuth_deg : float
        0: from behind, right is right; 90: from the person's right; 180: from the front.
    elevation_deg : float
        90: from above, front at the top.
    width_mm : float
        Of the square picture.
    pixels : int
        Along each side.
    """

    azimuth_deg: float
    elevation_deg: float
    width_mm: float
    pixels: int

    @property
    def axes(self) -> NDArray[np.float64]:
        """Unit vectors to the picture's right, up and into it, as rows; world axes."""
        a, e = math.radians(self.azimuth_deg), math.radians(self.elevation_deg)
        right = np.array([math.cos(a), math.sin(a), 0])
        level = np.array([-math.sin(a), math.cos(a), 0])
        above = np.array([0.0, 0, 1])
        up = math.sin(e) * level + math.cos(e) * above
        return np.stack([right, up, math.cos(e) * level - math.sin(e) * above])

    def rays(self, centre_mm: NDArray, length_mm: float) -> tuple[Tensor, Tensor]:
        """Where rays about a centre begin, shape (pixels^2, 3), row by row, and their direction."""
        right, up, into = self.axes
        across = (np.arange(self.pixels) + 0.5) / self.pixels * self.width_mm - self.width_mm / 2
        starts = across[None, :, None] * right - across[:, None, None] * up  # rows run down
        starts = starts + centre_mm - into * length_mm / 2
        starts = torch.tensor(starts.reshape(-1, 3), dtype=torch.float32)
        return starts, torch.tensor(into, dtype=torch.float32)


class View(NamedTuple):
    """What rays P see.

    Attributes
    ----------
    colour : Tensor, shape (P, 3)
        0 to 1, on black.
    depth : Tensor, shape (P,)
        Optical depth: extinction summed along the ray.
    """

    colour: Tensor
    depth: Tensor

    @property
    def opacity(self) -> Tensor:
        """Share of the light from behind that is lost, shape (P,)."""
        return 1 - (-self.depth).exp()


def integrate(
    medium: Callable[[Tensor], tuple[Tensor, Tensor]],
    starts: Tensor,
    direction: Tensor,
    length_mm: float,
    step_mm: float,
    at_once: int = 1,
) -> View:
    """Sum emission and absorption along rays, from front to back.

    Each step of extinction s per mm emits its colour times 1 - exp(-s step_mm), and lets
    exp(-s step_mm) of what lies behind it through.

    Parameters
    ----------
    medium : callable
        From points (P, 3) in world mm to extinction per mm (P,) and colour (P, 3).
    starts : Tensor, shape (P, 3)
    direction : Tensor, shape (3,) or (P, 3)
    length_mm, step_mm : float
        Of the rays, and between the places where the medium is looked at.
    at_once : int
        Steps of all rays that the medium is asked for together.
    """
    depth = torch.zeros(len(starts), device=starts.device)
    colour = torch.zeros_like(starts)
    along = step_mm * (torch.arange(math.ceil(length_mm / step_mm), device=starts.device) + 0.5)
    for steps in along.split(at_once):
        points = starts[:, None] + steps[:, None] * direction.unsqueeze(-2)  # (P, K, 3)
        found = medium(points.flatten(0, 1))
        extinction, emitted = (x.unflatten(0, points.shape[:2]) for x in found)
        absorbed = extinction * step_mm  # (P, K)
        beyond = depth[:, None] + absorbed.cumsum(1)
        share = (absorbed - beyond).exp() - (-beyond).exp()
        colour = colour + (share[..., None] * emitted).sum(1)
        depth = beyond[:, -1]
    return View(colour, depth)
