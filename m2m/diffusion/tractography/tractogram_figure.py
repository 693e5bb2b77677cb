"""QC figure of a tractogram: its density, coloured by direction, in three views."""

import numpy as np
from nibabel.streamlines import ArraySequence
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

VOXEL_MM = 2.0
SLAB_MM = 12.0
PIXELS_PER_VOXEL = 2
_TITLE = 14


def draw(streamlines: ArraySequence) -> Image.Image:
    """Draw the whole tractogram, and below it slabs through its middle.

    The views are axial, coronal and sagittal; red is left-right, green front-back, blue up-down.
    The figure's left is the participant's left; its top is anterior or superior.

    Parameters
    ----------
    streamlines : ArraySequence
        World mm, RAS+.

    Returns
    -------
    PIL.Image.Image
    """
    density = coloured_density(streamlines)
    half = round(SLAB_MM / VOXEL_MM / 2)
    rows = {
        f"{len(streamlines)} streamlines": [density.mean(axis=axis) for axis in (2, 1, 0)],
        f"middle {SLAB_MM:g} mm": [_slab(density, axis, half) for axis in (2, 1, 0)],
    }
    canvas = Image.fromarray(np.vstack([_row(views) for views in rows.values()]))
    pen = ImageDraw.Draw(canvas)
    for number, title in enumerate(rows):
        pen.text((3, number * canvas.height // len(rows) + 1), title, fill=(255, 255, 255))
    return canvas


def coloured_density(streamlines: ArraySequence) -> NDArray[np.float64]:
    """Length of streamlines along x, y and z in each voxel of a grid around them.

    Returns
    -------
    ndarray, shape (X, Y, Z, 3)
        mm, RAS+, voxels of `VOXEL_MM`.
    """
    steps = np.concatenate([np.diff(points, axis=0) for points in streamlines])
    middles = np.concatenate([(points[1:] + points[:-1]) / 2 for points in streamlines])
    # Percentiles, since a few stray streamlines would make everything else small.
    low, high = np.percentile(middles, [0.1, 99.9], axis=0) + np.array([[-4.0], [4.0]])
    inside = ((middles >= low) & (middles < high)).all(axis=1)
    voxels = ((middles[inside] - low) / VOXEL_MM).astype(int)
    shape = tuple(((high - low) / VOXEL_MM).astype(int) + 1)
    flat, n = np.ravel_multi_index(voxels.T, shape), int(np.prod(shape))
    along = [np.bincount(flat, np.abs(steps[inside, axis]), n) for axis in range(3)]
    return np.stack(along, axis=-1).reshape(*shape, 3).astype(np.float64, copy=False)


def _slab(density: NDArray, axis: int, half: int) -> NDArray:
    """Mean over the voxels around the middle of an axis, shape (H, W, 3)."""
    middle = density.shape[axis] // 2
    return np.take(density, range(max(middle - half, 0), middle + half), axis, mode="clip").mean(axis=axis)


def _row(views: list[NDArray]) -> NDArray[np.uint8]:
    """Row of views, shape (W, H, 3) each, with space for a title above."""
    height = max(view.shape[1] for view in views)
    tiles = []
    for view in views:
        bright = np.percentile(view.max(axis=-1), 99.5)
        image = np.sqrt(np.clip(view / max(bright, 1e-12), 0, 1)) * 255
        image = np.flip(np.swapaxes(image, 0, 1), 0)
        image = np.pad(image, ((height - image.shape[0], 0), (2, 2), (0, 0)))
        tiles.append(ndimage.zoom(image, (PIXELS_PER_VOXEL, PIXELS_PER_VOXEL, 1), order=1))
    row = np.hstack(tiles).clip(0, 255).astype(np.uint8)
    return np.pad(row, ((_TITLE, 0), (0, 0), (0, 0)))
