"""Slices and projections of volumes in three planes, and the display of each modality.

In every image the subject's right (axial, coronal) or front (sagittal) is to the right.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Normalize
from nibabel.affines import apply_affine
from nibabel.streamlines import ArraySequence
from numpy.typing import NDArray

from m2m.evaluate.measured_maps import Compared
from m2m.io.modalities import MODALITIES, Display

PLANES = ("axial", "coronal", "sagittal")
AXIS = {"axial": 2, "coronal": 1, "sagittal": 0}
SIDES = "The left of an image is the participant's left (axial, coronal) or back (sagittal)."
DIRECTIONS = "Red: left to right; green: back to front; blue: up and down."
ERRORS = "RdBu_r"
PIXEL_MM = 1.0


@dataclass(frozen=True)
class Look(Display):
    """Display of the maps of one modality, as arguments of matplotlib."""

    def render(self, one: Compared) -> NDArray:
        """Grey values, shape (X, Y, Z), or colours 0 to 1, shape (X, Y, Z, 3), of a map."""
        if one.tensor is None:
            return one.image
        return np.clip(np.abs(one.tensor.v1) * one.image[..., None] / self.top, 0, 1)

    @property
    def style(self) -> dict[str, Any]:
        """Colours for imshow; empty for images that are colours already."""
        return {"cmap": self.cmap, "vmin": 0, "vmax": self.top} if self.cmap else {}

    @property
    def error_style(self) -> dict[str, Any]:
        """Colours of an error for imshow."""
        return {"cmap": ERRORS, "vmin": -self.error_top, "vmax": self.error_top}


LOOKS = {name: Look(**asdict(modality.display)) for name, modality in MODALITIES.items() if modality.display}


def cut(image: NDArray, plane: str, index: int) -> NDArray:
    """One slice, rows from bottom to top; the subject's right, or front, is to the right."""
    return upright(np.take(image, index, axis=AXIS[plane]))


def project(image: NDArray, plane: str) -> NDArray:
    """Maximum along the normal of a plane, oriented as `cut`."""
    return upright(image.max(axis=AXIS[plane]))


def project_colours(colours: NDArray, by: NDArray, plane: str) -> NDArray:
    """Colour of the voxel with the largest value along each ray.

    Parameters
    ----------
    colours : ndarray, shape (X, Y, Z, 3)
    by : ndarray, shape (X, Y, Z)
        Values that select the voxel.
    plane : str

    Returns
    -------
    ndarray, shape (H, W, 3)
    """
    axis = AXIS[plane]
    largest = np.expand_dims(by.argmax(axis=axis), (axis, 3))
    return upright(np.take_along_axis(colours, largest, axis=axis).squeeze(axis))


def upright(image: NDArray) -> NDArray:
    """Swap rows and columns; channels of colours stay last."""
    return np.swapaxes(image, 0, 1)


def windows(masks: Sequence[NDArray]) -> list[tuple[NDArray, NDArray, NDArray]]:
    """Boxes of equal size around every subject's mask, with a margin of two voxels where the grids allow.

    Parameters
    ----------
    masks : sequence of ndarray of bool, shape (X, Y, Z)

    Returns
    -------
    list of (start, size, centre)
        Voxel indices, shape (3,); the centre is the mask's, in the whole grid.
    """
    boxes = []
    for mask in masks:
        indices = np.argwhere(mask)
        low = np.maximum(indices.min(0) - 2, 0)
        boxes.append((low, np.minimum(indices.max(0) + 3, mask.shape)))
    size = np.max([high - low for low, high in boxes], axis=0)
    size = np.minimum(size, np.min([mask.shape for mask in masks], axis=0))
    found = []
    for (low, high), mask in zip(boxes, masks, strict=True):
        centre = (low + high) // 2
        start = np.clip(centre - size // 2, 0, np.array(mask.shape) - size)
        found.append((start, size, centre))
    return found


def crop(image: NDArray, start: NDArray, size: NDArray) -> NDArray:
    """Crop an image to a box: start and size in voxels."""
    return image[tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))]


def draw_streamlines(
    streamlines: ArraySequence, affine: NDArray, start: NDArray, size: NDArray, plane: str
) -> tuple[NDArray, NDArray]:
    """Project streamlines: number of steps that cross each pixel of 1 mm, and their mean direction.

    Parameters
    ----------
    streamlines : ArraySequence
        World mm.
    affine : ndarray, shape (4, 4)
        Of the grid of the box.
    start, size : ndarray, shape (3,)
        Box, in voxels.
    plane : str

    Returns
    -------
    colours : ndarray, shape (H, W, 3)
        Absolute mean direction along x, y, z, scaled to a maximum of 1; oriented as `cut`.
    count : ndarray, shape (H, W)
    """
    points = streamlines.get_data()
    ends = np.cumsum([len(line) for line in streamlines])[:-1] - 1
    steps = np.delete(np.diff(points, axis=0), ends, axis=0)
    middles = np.delete((points[1:] + points[:-1]) / 2, ends, axis=0)
    per_voxel = max(1, round(float(np.linalg.norm(affine[:3, 0]) / PIXEL_MM)))
    voxels = apply_affine(np.linalg.inv(affine), middles) - start + 0.5
    pixels, shape = np.floor(voxels * per_voxel).astype(int), size * per_voxel
    inside = np.all((pixels >= 0) & (pixels < shape), axis=1)
    across = [axis for axis in range(3) if axis != AXIS[plane]]
    flat = np.ravel_multi_index(tuple(pixels[inside][:, across].T), shape[across])
    n_pixels = int(np.prod(shape[across]))
    sums = [np.bincount(flat, np.abs(part), n_pixels) for part in steps[inside].T]
    count = np.bincount(flat, minlength=n_pixels).reshape(shape[across])
    colours = np.stack(sums, axis=-1).reshape(*shape[across], 3)
    largest = colours.max(axis=-1, keepdims=True)
    colours = np.divide(colours, largest, out=np.zeros_like(colours), where=largest > 0)
    return upright(colours), upright(count)


def draw_scale(axes: Axes, style: dict[str, Any], label: str) -> None:
    """Draw a horizontal colour scale.

    Parameters
    ----------
    axes : Axes
    style : dict
        cmap, vmin and vmax.
    label : str
    """
    mappable = ScalarMappable(Normalize(style["vmin"], style["vmax"]), style["cmap"])
    bar = Colorbar(axes, mappable, orientation="horizontal")
    bar.outline.set_linewidth(0.4)
    bar.set_label(label, labelpad=1)
    axes.tick_params(length=1.5, pad=1)
