"""QC figures: slices of three orientations, with outlines, as one small PNG."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from textwrap import wrap

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

RED, YELLOW, CYAN, WHITE = (1.0, 0.25, 0.2), (1.0, 0.85, 0.1), (0.2, 0.9, 1.0), (1.0, 1.0, 1.0)
_GAP = 2
_TITLE = 14
# Height of a line of the caption and, at most, mean width of its characters.
_LINE, _CHARACTER = 16, 7


@dataclass(frozen=True)
class Panel:
    """One row of a QC figure.

    Attributes
    ----------
    title : str
    image : ndarray, shape (X, Y, Z) or (X, Y, Z, 3)
        Grey or colour, black at 0 and white at 1, RAS+.
    outlines : list of (ndarray of bool with shape (X, Y, Z), colour)
    """

    title: str
    image: NDArray
    outlines: list[tuple[NDArray, tuple[float, float, float]]] = field(default_factory=list)


def draw(
    panels: Sequence[Panel],
    around: NDArray,
    spacing_mm: float,
    fractions: Sequence[float] = (0.3, 0.5, 0.7),
    pixels_per_mm: float = 0.7,
    caption: str = "",
    warnings: Sequence[str] = (),
) -> Image.Image:
    """Draw one row per panel: axial, coronal and sagittal slices through an object.

    Parameters
    ----------
    panels : sequence of Panel
        On one isotropic RAS+ grid.
    around : ndarray of bool, shape (X, Y, Z)
        The object: slices are chosen from, and cropped to, its bounding box.
    spacing_mm : float
        Voxel size of the grid.
    fractions : sequence of float
        Positions of the slices between the object's two ends, 0 to 1.
    pixels_per_mm : float
    caption : str
        Below the rows, in as many lines as it needs.
    warnings : sequence of str
        Above the caption, in yellow.

    Returns
    -------
    PIL.Image.Image
        With a palette of 256 colours. Left is the participant's left, up is superior or anterior.
    """
    zoom = spacing_mm * pixels_per_mm
    box = ndimage.find_objects(np.asarray(around, dtype=np.int8))[0]
    box = tuple(slice(max(s.start - 2, 0), s.stop + 2) for s in box)
    rows = []
    for panel in panels:
        tiles = [
            _tile(panel, box, axis, round(s.start + f * (s.stop - s.start - 1)), zoom)
            for axis, s in reversed(list(enumerate(box)))
            for f in fractions
        ]
        height = max(t.shape[0] for t in tiles)
        rows.append(np.hstack([_framed(t, height) for t in tiles]))
    drawn = np.vstack([_titled(row) for row in rows])
    texts = [*((text, YELLOW) for text in warnings), (caption, WHITE)]
    lines = [(line, colour) for text, colour in texts for line in wrap(text, drawn.shape[1] // _CHARACTER)]
    canvas = Image.fromarray((np.pad(drawn, ((0, _LINE * len(lines)), (0, 0), (0, 0))) * 255).astype(np.uint8))
    pen = ImageDraw.Draw(canvas)
    for number, (panel, row) in enumerate(zip(panels, rows, strict=True)):
        pen.text((3, number * (row.shape[0] + _TITLE) + 1), panel.title, fill=(255, 255, 255))
    for number, (line, colour) in enumerate(lines):
        place = (3, drawn.shape[0] + number * _LINE)
        shade = tuple(round(255 * part) for part in colour)
        pen.text(place, line, fill=shade, font=ImageFont.load_default(12))
    return canvas.quantize(256, dither=Image.Dither.NONE)


def grey(image: NDArray, mask: NDArray) -> NDArray[np.float64]:
    """Scale to 0..1 between 0 and the 99.5th percentile inside a mask, for display only."""
    values = image[mask]
    return np.clip(image / max(float(np.percentile(values, 99.5)), 1e-12), 0, 1)


def _slice(volume: NDArray, box: tuple[slice, ...], axis: int, index: int) -> NDArray:
    """Slice perpendicular to an axis, as rows from top and columns from left."""
    across = tuple(index if a == axis else s for a, s in enumerate(box))
    return np.flip(np.swapaxes(volume[across], 0, 1), 0)


def _zoomed(image: NDArray, zoom: float) -> NDArray:
    """Enlarge a (H, W) slice linearly."""
    size = (round(image.shape[1] * zoom), round(image.shape[0] * zoom))
    small = Image.fromarray(np.ascontiguousarray(image, dtype=np.float32))
    return np.asarray(small.resize(size, Image.Resampling.BILINEAR))


def _tile(panel: Panel, box: tuple[slice, ...], axis: int, index: int, zoom: float) -> NDArray:
    """One slice of a panel with its outlines, shape (H, W, 3)."""
    image = _slice(panel.image, box, axis, index)
    channels = [image] * 3 if image.ndim == 2 else np.moveaxis(image, -1, 0)
    tile = np.stack([_zoomed(c, zoom) for c in channels], axis=-1)
    for mask, colour in panel.outlines:
        inside = _zoomed(_slice(mask, box, axis, index), zoom) > 0.5
        tile[inside & ~ndimage.binary_erosion(inside, border_value=1)] = colour
    return np.clip(tile, 0, 1)


def _framed(tile: NDArray, height: int) -> NDArray:
    """Centre a tile in the row's height, with a gap on both sides."""
    missing = height - tile.shape[0]
    pad = ((missing // 2, missing - missing // 2), (_GAP, _GAP), (0, 0))
    return np.pad(tile, pad)


def _titled(row: NDArray) -> NDArray:
    """Leave room for a title above a row."""
    return np.pad(row, ((_TITLE, 0), (0, 0), (0, 0)))
