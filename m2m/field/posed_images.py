"""Fit a field to images with known cameras, as in NeRF, for tract density.

The rays of a camera are parallel. A pixel is the line integral of the density along its ray (a
projection of the density), or a colour by emission and absorption. No other data are used.

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


class PosedImage(NamedTuple):
    """A square image and the pose of its camera.

    Attributes
    ----------
    image : ndarray, shape (pixels, pixels, 1) or (pixels, pixels, 3)
        Line integrals of the scaled density, mm; or colours, 0 to 1, on black.
    camera : Camera
    centre_mm : ndarray, shape (3,)
        Point in the middle of the image, world mm.
    """

    image: NDArray[np.float32]
    camera: Camera
    centre_mm: NDArray[np.float64]


class Rays(NamedTuple):
    """Pixels of all images whose ray passes through a box.

    Attributes
    ----------
    starts : ndarray, shape (R, 3)
        Point where the ray enters the box, world mm.
    into : ndarray, shape (R, 3)
        Direction of the ray, unit vector.
    values : ndarray, shape (R, C)
        Pixel values.
    length_mm : float
        Of the longest ray inside the box.
    """

    starts: NDArray[np.float32]
    into: NDArray[np.float32]
    values: NDArray[np.float32]
    length_mm: float


def crossing(starts: NDArray, into: NDArray, box: Box) -> tuple[NDArray, NDArray]:
    """Intersect rays with a box.

    Parameters
    ----------
    starts : ndarray, shape (R, 3)
        World mm.
    into : ndarray, shape (3,) or (R, 3)
        Directions, unit vectors.
    box : Box

    Returns
    -------
    near, far : ndarray, shape (R,)
        Entry and exit, mm along the ray; near > far: the ray misses the box.
    """
    into = np.where(np.abs(into) < 1e-9, 1e-9, into)
    faces = np.stack([(corner - starts) / into for corner in box])  # (2, R, 3)
    return faces.min(0).max(-1), faces.max(0).min(-1)


def gather_rays(images: Sequence[PosedImage], box: Box) -> Rays:
    """Collect the rays through a box.

    Raises
    ------
    DataError
        Fewer than two images; one holds NaN or infinity, has not the size of its camera, has
        another number of channels or no ray through the box; or all are black.
    """
    if len(images) < 2:
        raise DataError(
            "a field needs at least two images", value=len(images), remedy="give images from more directions"
        )
    parts, longest = [], 0.0
    for number, (image, camera, centre_mm) in enumerate(images):
        if not np.isfinite(image).all():
            raise DataError(
                f"image {number} holds NaN or infinity",
                value=int((~np.isfinite(image)).sum()),
                remedy="repair the image",
            )
        shape = (camera.pixels, camera.pixels, images[0].image.shape[-1])
        if image.shape != shape or shape[-1] not in (1, 3):
            raise DataError(
                f"image {number} has not the size of its camera, or not the 1 or 3 channels of the first image",
                value=f"{image.shape}, not {shape}",
                remedy="give images of one kind",
            )
        origins, direction = (x.numpy().astype(np.float64) for x in camera.rays(np.array(centre_mm), 0))
        near, far = crossing(origins, direction, box)
        through = far > near
        if not through.any():
            raise DataError(
                f"image {number} has no ray through the box {box}",
                value=f"centre {np.round(centre_mm, 1).tolist()} mm",
                remedy="check its camera and centre",
            )
        entries = origins[through] + near[through, None] * direction
        pixels = image[through.reshape(shape[:2])]
        parts.append((entries, np.broadcast_to(direction, entries.shape), pixels))
        longest = max(longest, float((far - near).max()))
    starts, into, values = (np.concatenate(part).astype(np.float32) for part in zip(*parts, strict=True))
    if not values.any():
        raise DataError("every image is black inside the box", remedy="check the images")
    return Rays(starts, into, values, longest)


def render_rays(network: FieldNetwork, starts: Tensor, into: Tensor, length_mm: float, step_mm: float) -> View:
    """Render rays through a field of density, with colours if it has them.

    Parameters
    ----------
    network : FieldNetwork
    starts : Tensor, shape (R, 3)
        World mm.
    into : Tensor, shape (3,) or (R, 3)
        Directions, unit vectors.
    length_mm, step_mm : float
        Of the rays, and of a step along them.

    Returns
    -------
    View
    """

    def medium(points_mm: Tensor) -> tuple[Tensor, Tensor]:
        place = (points_mm - network.low_mm) / network.size_mm
        inside = ((place >= 0) & (place <= 1)).all(-1)
        values = network(points_mm) * inside[:, None]
        colour = values[:, 1:] if values.shape[-1] > 1 else torch.ones_like(points_mm)
        return values[:, 0], colour

    at_once = math.ceil(length_mm / step_mm)
    return integrate(medium, starts, into, length_mm, step_mm, at_once)


def fit_images(
    images: Sequence[PosedImage],
    box: Box,
    options: SliceField,
    device: str = "cpu",
    quiet: bool = False,
) -> FieldNetwork:
    """Fit a field to images with known cameras.

    Rays are sampled at steps of the finest grid spacing, with a random offset in each iteration.

    Parameters
    ----------
    images : sequence of PosedImage
    box : Box
        Domain of the field; it contains everything in the images.
    options : SliceField
        Its batch size counts points along rays.
    device : str
    quiet : bool
        No progress bar.

    Returns
    -------
    FieldNetwork
        Of the scaled density; for colour images, of the extinction per mm and three colours.

    Raises
    ------
    DataError
        As in `gather_rays`; or the fit diverged.
    """
    torch.manual_seed(options.seed)
    rays = gather_rays(images, box)
    starts, into, values = (torch.from_numpy(x).to(device) for x in rays[:3])
    colours = values.shape[-1] == 3
    pixel_mm = min(one.camera.width_mm / one.camera.pixels for one in images)
    network = network_of(box, options, pixel_mm, 4 if colours else 1, positive=True).to(device)
    step_mm = min(options.spacings) * pixel_mm
    count = max(1, round(options.batch_size * step_mm / rays.length_mm))

    def misfit() -> Tensor:
        chosen = torch.randint(len(starts), (count,), device=device)
        shift = (torch.rand(count, 1, device=device) - 0.5) * step_mm
        origins = starts[chosen] + shift * into[chosen]
        view = render_rays(network, origins, into[chosen], rays.length_mm + step_mm, step_mm)
        if colours:
            return (view.colour - values[chosen]).square().mean()
        # Scaled to the error of the density, if errors along a ray were independent.
        error = (view.depth[:, None] - values[chosen]) / math.sqrt(step_mm * rays.length_mm)
        return error.square().mean()

    descend(network, misfit, options, pixel_mm, quiet=quiet)
    return network
