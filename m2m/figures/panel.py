"""What the maps look like: the best, the median and the worst test subject, in three planes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from m2m.figures.style import DOUBLE_MM, MUTED, new_figure

FA_TOP, ERROR_TOP = 0.9, 0.3
PLANES = ("axial", "coronal", "sagittal")
COLUMNS = ("rank", "unit", "plane", "position_mm", "column", "mean_fa", "mean_absolute_error")


@dataclass(frozen=True)
class Person:
    """One test subject's images on one grid.

    Attributes
    ----------
    rank : str
        best, median or worst.
    unit : str
    ssim : float
        In the brain, of the model that the ranking is by.
    t1, true, mask : ndarray, shape (X, Y, Z)
        T1 in its own units, FA in 0..1, target mask.
    synthetic : dict of str to ndarray, shape (X, Y, Z)
        By model; a model without a map for this subject is absent.
    affine : ndarray, shape (4, 4)
    """

    rank: str
    unit: str
    ssim: float
    t1: NDArray
    true: NDArray
    mask: NDArray
    synthetic: dict[str, NDArray]
    affine: NDArray


def ranked(ssim: Mapping[str, float]) -> dict[str, str]:
    """Name the best, the median and the worst unit; one unit appears once."""
    order = sorted(ssim, key=lambda unit: (-ssim[unit], unit))
    if not order:
        return {}
    chosen = {"best": order[0], "worst": order[-1], "median": order[len(order) // 2]}
    taken, picked = set(), {}
    for rank in ("best", "worst", "median"):
        if chosen[rank] not in taken:
            picked[rank] = chosen[rank]
            taken.add(chosen[rank])
    return {rank: picked[rank] for rank in ("best", "median", "worst") if rank in picked}


def cut(image: NDArray, plane: str, index: int) -> NDArray:
    """One slice, rows from bottom to top; the subject's right, or front, is to the right."""
    axis = {"sagittal": 0, "coronal": 1, "axial": 2}[plane]
    return np.take(image, index, axis=axis).T


def draw_panel(
    people: Sequence[Person], models: Sequence[str]
) -> tuple[Figure, list[dict[str, Any]]]:
    """Draw T1, true FA, and each model's FA and its error, one block of three planes a person.

    Returns
    -------
    Figure
    list of dict
        One row per image of an FA map: subject, plane, position, mean FA and error in the slice.
    """
    boxes = [_box(person.mask) for person in people]
    size = np.max([high - low for low, high in boxes], axis=0)  # one size for everybody
    aspects = {
        "axial": size[1] / size[0],
        "coronal": size[2] / size[0],
        "sagittal": size[2] / size[1],
    }
    titles = ["T1", "true FA", *(t for model in models for t in (model, "error"))]
    left, top, foot, gap = 9.0, 6.5, 20.0, 1.0
    side = (DOUBLE_MM - left - 1 - gap * (len(titles) - 1)) / len(titles)
    block = sum(aspects.values()) * side + 2 * gap + 3
    height = top + block * len(people) + foot
    figure = new_figure(DOUBLE_MM, height, layout=None)

    def place(x: float, y: float, width: float, tall: float) -> list[float]:
        return [x / DOUBLE_MM, 1 - (y + tall) / height, width / DOUBLE_MM, tall / height]

    rows, y = [], top
    for person, (low, high) in zip(people, boxes, strict=True):
        centre = (low + high) // 2
        start = np.clip(centre - size // 2, 0, np.array(person.true.shape) - size)
        figure.text(
            2.2 / DOUBLE_MM, 1 - (y + (block - 3) / 2) / height,
            f"{person.rank}: {person.unit}, SSIM {person.ssim:.3f}",
            rotation=90, ha="center", va="center", fontsize=7,
        )  # fmt: skip
        for plane in PLANES:
            tall = aspects[plane] * side
            for column, (title, image, style) in enumerate(_columns(person, models)):
                axes = figure.add_axes(place(left + column * (side + gap), y, side, tall))
                axes.set_axis_off()
                axis = {"sagittal": 0, "coronal": 1, "axial": 2}[plane]
                if image is None:
                    axes.text(0.5, 0.5, "no map", ha="center", va="center", color=MUTED)
                    continue
                window = tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))
                index = int(centre[axis] - start[axis])
                axes.imshow(cut(image[window], plane, index), origin="lower", aspect="auto",
                            interpolation="bilinear", **style)  # fmt: skip
                rows.append(_row(person, plane, int(centre[axis]), axis, title, image))
            y += tall + gap
        y += 3 - gap
    for column, title in enumerate(titles):
        x = left + column * (side + gap) + side / 2
        figure.text(x / DOUBLE_MM, 1 - (top - 2) / height, title, ha="center", fontsize=7)
    _bars(figure, place, height)
    return figure, rows


def _box(mask: NDArray) -> tuple[NDArray, NDArray]:
    """Corners of the mask's bounding box, two voxels wider where the grid allows."""
    indices = np.argwhere(mask)
    low = np.maximum(indices.min(0) - 2, 0)
    return low, np.minimum(indices.max(0) + 3, mask.shape)


def _columns(
    person: Person, models: Sequence[str]
) -> list[tuple[str, NDArray | None, dict[str, Any]]]:
    """Title, image and colours of each column."""
    fa = {"cmap": "gray", "vmin": 0, "vmax": FA_TOP}
    error = {"cmap": "RdBu_r", "vmin": -ERROR_TOP, "vmax": ERROR_TOP}
    inside = person.t1[person.mask]
    t1 = {"cmap": "gray", "vmin": 0, "vmax": float(np.percentile(inside, 99.5))}
    true = np.where(person.mask, person.true, 0)
    columns = [("t1", person.t1, t1), ("true", true, fa)]
    for model in models:
        image = person.synthetic.get(model)
        if image is not None:
            image = np.where(person.mask, image, 0)
        columns.append((model, image, fa))
        columns.append((f"{model} error", None if image is None else image - true, error))
    return columns


def _row(
    person: Person, plane: str, index: int, axis: int, title: str, image: NDArray
) -> dict[str, Any]:
    """Numbers of one image: the slice's mean inside the mask, and of an error its mean size."""
    mask = np.take(person.mask, index, axis=axis)
    values = np.take(image, index, axis=axis)[mask]
    voxel = np.zeros(3)
    voxel[axis] = index
    position = (person.affine[:3, :3] @ voxel + person.affine[:3, 3])[axis]
    is_error, is_fa = title.endswith("error"), not title.endswith("error") and title != "t1"
    return {
        "rank": person.rank, "unit": person.unit, "plane": plane,
        "position_mm": round(float(position), 2), "column": title,
        "mean_fa": round(float(values.mean()), 5) if is_fa and values.size else None,
        "mean_absolute_error":
            round(float(np.abs(values).mean()), 5) if is_error and values.size else None,
    }  # fmt: skip


def _bars(figure: Figure, place: Any, height: float) -> None:
    """Draw the two colour scales and say which side is which."""
    for x, cmap, low, high, label in (
        (30, "gray", 0, FA_TOP, "FA"),
        (105, "RdBu_r", -ERROR_TOP, ERROR_TOP, "error: synthetic minus true FA"),
    ):
        axes = figure.add_axes(place(x, height - 17, 45, 2))
        scale = ScalarMappable(Normalize(low, high), cmap)
        bar = Colorbar(axes, scale, orientation="horizontal")
        bar.outline.set_linewidth(0.4)
        bar.set_label(label, labelpad=1)
        axes.tick_params(length=1.5, pad=1)
    figure.text(
        0.5, 4.2 / height,
        "Left of a picture is the subject's left (axial, coronal) or back (sagittal).",
        fontsize=5.5, color=MUTED, ha="center", va="bottom",
    )  # fmt: skip
