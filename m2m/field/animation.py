"""Fit a field to pictures taken from known places: NeRF's own setting, for tract density.

A picture shows what parallel rays see: the density summed along each (a projection of the
density), or colours by emission and absorption. Nothing else is known of the inside.

References
----------
Mildenhall et al. (2020), NeRF, https://doi.org/10.1007/978-3-030-58452-8_24.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from m2m.field.fit import descend, network_of
from m2m.field.network import FieldNetwork
from m2m.field.render import Camera, View, integrate
from m2m.field.slice_samples import Box
from m2m.io.errors import DataError
from m2m.options import SliceField


class Picture(NamedTuple):
    """A square picture, and where it was taken from.

    Attributes
    ----------
    image : ndarray, shape (pixels, pixels, 1) or (pixels, pixels, 3)
        Line integrals of the scaled density, mm; or colours, 0 to 1, on black.
    camera : Camera
    centre_mm : ndarray, shape (3,)
        World mm of what is in its middle.
    """

    image: NDArray[np.float32]
    camera: Camera
    centre_mm: NDArray[np.float64]


class Rays(NamedTuple):
    """Pixels of all pictures whose ray passes through a box.

    Attributes
    ----------
    starts : ndarray, shape (R, 3)
        Where the ray enters the box, world mm.
    into : ndarray, shape (R, 3)
        Its direction, of length 1.
    values : ndarray, shape (R, C)
    length_mm : float
        Of the longest way through the box.
    """

    starts: NDArray[np.float32]
    into: NDArray[np.float32]
    values: NDArray[np.float32]
    length_mm: float


def crossing(starts: NDArray, into: NDArray, box: Box) -> tuple[NDArray, NDArray]:
    """Where rays enter and leave a box, mm along them, shape (R,); entering last: they miss it."""
    into = np.where(np.abs(into) < 1e-9, 1e-9, into)
    faces = np.stack([(corner - starts) / into for corner in box])  # (2, R, 3)
    return faces.min(0).max(-1), faces.max(0).min(-1)


def gather_rays(pictures: Sequence[Picture], box: Box) -> Rays:
    """Collect the rays through a box.

    Raises
    ------
    DataError
        Fewer than two pictures; one holds NaN or infinity, is not of its camera's size, has
        another number of channels or no ray through the box; or all are black.
    """
    if len(pictures) < 2:
        raise DataError(
            "a field needs two pictures at least", value=len(pictures),
            remedy="take pictures from more sides",
        )  # fmt: skip
    parts, longest = [], 0.0
    for number, (image, camera, centre_mm) in enumerate(pictures):
        if not np.isfinite(image).all():
            raise DataError(
                f"picture {number} holds NaN or infinity",
                value=int((~np.isfinite(image)).sum()), remedy="repair the picture",
            )  # fmt: skip
        shape = (camera.pixels, camera.pixels, pictures[0].image.shape[-1])
        if image.shape != shape or shape[-1] not in (1, 3):
            raise DataError(
                f"picture {number} has not its camera's size, and 1 or 3 channels like the first",
                value=f"{image.shape}, not {shape}", remedy="give pictures of one kind",
            )  # fmt: skip
        starts, into = (x.numpy().astype(np.float64) for x in camera.rays(np.array(centre_mm), 0))
        near, far = crossing(starts, into, box)
        through = far > near
        if not through.any():
            raise DataError(
                f"picture {number} shows nothing of the box {box}",
                value=f"centre {np.round(centre_mm, 1).tolist()} mm",
                remedy="check its camera and centre",
            )  # fmt: skip
        starts = starts[through] + near[through, None] * into
        values = image[through.reshape(shape[:2])]
        parts.append((starts, np.broadcast_to(into, starts.shape), values))
        longest = max(longest, float((far - near).max()))
    starts, into, values = (
        np.concatenate(part).astype(np.float32) for part in zip(*parts, strict=True)
    )
    if not values.any():
        raise DataError("every picture is black inside the box", remedy="look at the pictures")
    return Rays(starts, into, values, longest)


def seen(
    network: FieldNetwork, starts: Tensor, into: Tensor, length_mm: float, step_mm: float
) -> View:
    """What rays (R, 3) see of a field of density, and of colours where it has them."""

    def medium(points_mm: Tensor) -> tuple[Tensor, Tensor]:
        place = (points_mm - network.low_mm) / network.size_mm
        inside = ((place >= 0) & (place <= 1)).all(-1)
        values = network(points_mm) * inside[:, None]
        colour = values[:, 1:] if values.shape[-1] > 1 else torch.ones_like(points_mm)
        return values[:, 0], colour

    at_once = math.ceil(length_mm / step_mm)
    return integrate(medium, starts, into, length_mm, step_mm, at_once)


def fit_pictures(
    pictures: Sequence[Picture],
    box: Box,
    options: SliceField,
    device: str = "cpu",
    quiet: bool = False,
) -> FieldNetwork:
    """Fit a field to pictures.

    Rays are looked at every finest spacing, from another place of the first step each time.

    Parameters
    ----------
    pictures : sequence of Picture
    box : Box
        Where the field is defined, and all that is in the pictures lies.
    options : SliceField
        Its batch is of points along rays.
    device : str
    quiet : bool
        Without a progress bar.

    Returns
    -------
    FieldNetwork
        Of the scaled density; of pictures in colours, of the extinction per mm and three colours.

    Raises
    ------
    DataError
        As `gather_rays`; or the fit diverged.
    """
    torch.manual_seed(options.seed)
    rays = gather_rays(pictures, box)
    starts, into, values = (torch.from_numpy(x).to(device) for x in rays[:3])
    colours = values.shape[-1] == 3
    pixel_mm = min(one.camera.width_mm / one.camera.pixels for one in pictures)
    network = network_of(box, options, pixel_mm, 4 if colours else 1, positive=True).to(device)
    step_mm = min(options.spacings) * pixel_mm
    count = max(1, round(options.batch_size * step_mm / rays.length_mm))

    def misfit() -> Tensor:
        chosen = torch.randint(len(starts), (count,), device=device)
        shift = (torch.rand(count, 1, device=device) - 0.5) * step_mm
        begun = starts[chosen] + shift * into[chosen]
        view = seen(network, begun, into[chosen], rays.length_mm + step_mm, step_mm)
        if colours:
            return (view.colour - values[chosen]).square().mean()
        # As large as the error of the density, were it independent in all points of a ray.
        error = (view.depth[:, None] - values[chosen]) / math.sqrt(step_mm * rays.length_mm)
        return error.square().mean()

    descend(network, misfit, options, pixel_mm, quiet=quiet)
    return network
