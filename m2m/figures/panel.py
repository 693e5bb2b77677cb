"""Maps of the best, the median and the worst test subject.

Few models are shown in three planes, each error next to its map, and the first model's predicted
standard deviation next to its error; many models in axial slices, each error below its map.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from m2m.figures.study import Study, Subject
from m2m.figures.style import DOUBLE_MM, FEW, MUTED, new_figure
from m2m.figures.uncertainty_maps import error_and_sd
from m2m.figures.views import (
    AXIS,
    DIRECTIONS,
    LOOKS,
    PLANES,
    SIDES,
    crop,
    cut,
    draw_scale,
    windows,
)
from m2m.io.modalities import MODALITIES

ERROR, SD = " error", " SD"
SD_COLOURS = "inferno"
# Title, image and its style for imshow, and values for the source data.
Column = tuple[str, NDArray | None, dict[str, Any], NDArray | None]
# Left, bottom, width and height as shares of the figure.
Rect = tuple[float, float, float, float]


def draw_panel(study: Study, subjects: Sequence[Subject]) -> tuple[Figure, list[dict[str, Any]]]:
    """Draw source, measured map, each model's map and error, and the predicted error; one block per subject.

    Returns
    -------
    Figure
    list of dict
        One row per image of a map: subject, plane, position, mean of the evaluated image inside
        the mask (for an error: of its absolute value) in the slice.
    """
    boxes = windows([subject.mask for subject in subjects])
    size = boxes[0][1]
    aspects = {
        "axial": size[1] / size[0],
        "coronal": size[2] / size[0],
        "sagittal": size[2] / size[1],
    }
    many = len(study.models) > FEW
    lines = [("axial", False), ("axial", True)] if many else [(plane, None) for plane in PLANES]
    errors = [] if many else ["error"]
    sds = {} if many else predicted_sds(study, subjects)
    titles = [MODALITIES[study.task.source].title, f"measured {study.look.title}"]
    titles += [title for model in study.models for title in (model, *errors)]
    if sds:
        titles.insert(4, "predicted SD")
    left, foot, gap = 9.0, 20.0, 1.0
    top, right = (20.0, 9.0) if many else (6.5, 1.0)  # titles are rotated where there are many
    side = (DOUBLE_MM - left - right - gap * (len(titles) - 1)) / len(titles)
    block = sum(aspects[plane] * side + gap for plane, _ in lines) - gap + 3
    height = top + block * len(subjects) + foot
    figure = new_figure(DOUBLE_MM, height, layout=None)
    place = placing(height)
    rows, y = [], top
    for subject, (start, size, centre) in zip(subjects, boxes, strict=True):
        figure.text(
            4 / DOUBLE_MM,
            1 - (y + (block - 3) / 2) / height,
            f"{subject.rank}: {subject.unit}\nSSIM {subject.ssim:.3f}",
            rotation=90,
            ha="center",
            va="center",
            fontsize=7,
        )
        columns = _columns(study, subject)
        if sds:
            columns.insert(4, _sd_column(study.models[0], sds, subject))
        for plane, wanted in lines:
            tall, index = aspects[plane] * side, int(centre[AXIS[plane]])
            for column, (title, shown, style, values) in placed(columns, wanted):
                axes = figure.add_axes(place(left + column * (side + gap), y, side, tall))
                axes.set_axis_off()
                if shown is None:
                    axes.text(0.5, 0.5, "no map", ha="center", va="center", color=MUTED)
                    continue
                image = cut(crop(shown, start, size), plane, index - int(start[AXIS[plane]]))
                axes.imshow(image, origin="lower", aspect="auto", interpolation="bilinear", **style)
                rows.append(_row(subject, plane, index, title, values))
            y += tall + gap
        y += 3 - gap
    rotation: dict[str, Any] = {"rotation": 45, "ha": "left", "rotation_mode": "anchor"} if many else {"ha": "center"}
    for column, title in enumerate(titles):
        x = left + column * (side + gap) + side / (4 if many else 2)
        figure.text(x / DOUBLE_MM, 1 - (top - 2) / height, title, fontsize=7, **rotation)
    draw_foot(study, figure, height, sd_style=sd_style(sds) if sds else None)
    return figure, rows


def predicted_sds(study: Study, subjects: Sequence[Subject]) -> dict[str, NDArray]:
    """Standard deviations predicted by the first model, by unit; units without them are omitted."""
    pairs = {subject.unit: error_and_sd(study, subject, study.models[0]) for subject in subjects}
    return {unit: pair[1] for unit, pair in pairs.items() if pair is not None}


def sd_style(sds: Mapping[str, NDArray]) -> dict[str, Any]:
    """Colours of standard deviations, one scale for all subjects."""
    top = max(float(np.percentile(sd[sd > 0], 99)) if (sd > 0).any() else 0.0 for sd in sds.values())
    return {"cmap": SD_COLOURS, "vmin": 0, "vmax": top or 1.0}


def _sd_column(model: str, sds: Mapping[str, NDArray], subject: Subject) -> Column:
    """Column of one subject's standard deviations."""
    sd = sds.get(subject.unit)
    return model + SD, sd, sd_style(sds), sd


def source_style(study: Study, subject: Subject) -> dict[str, Any]:
    """Colours of a subject's source."""
    if study.task.source in LOOKS:
        return LOOKS[study.task.source].style
    bright = float(np.percentile(subject.source[subject.mask], 99.5))
    return {"cmap": "gray", "vmin": 0, "vmax": bright}


def placed(columns: Sequence[Column], errors: bool | None) -> list[tuple[int, Column]]:
    """Position of each image in its line: all in one line, or maps and errors in separate lines."""
    if errors is None:
        return list(enumerate(columns))
    chosen = (one for one in columns if one[0].endswith(ERROR) == errors)
    return list(enumerate(chosen, start=2 if errors else 0))


def placing(height_mm: float) -> Callable[[float, float, float, float], Rect]:
    """Function that converts x and y (mm from the upper left corner), width and height to a rectangle."""

    def place(x: float, y: float, width: float, tall: float) -> Rect:
        return x / DOUBLE_MM, 1 - (y + tall) / height_mm, width / DOUBLE_MM, tall / height_mm

    return place


def _columns(study: Study, subject: Subject) -> list[Column]:
    """Title, image, style and values of each column."""
    look = study.look
    columns: list[Column] = [
        (study.task.source, subject.source, source_style(study, subject), None),
        ("measured", look.render(subject.measured), look.style, subject.measured.image),
    ]
    for model in study.models:
        one = subject.synthetic.get(model)
        if one is None:
            columns += [(model, None, {}, None), (model + ERROR, None, {}, None)]
            continue
        error = one.image - subject.measured.image
        columns.append((model, look.render(one), look.style, one.image))
        columns.append((model + ERROR, error, look.error_style, error))
    return columns


def _row(subject: Subject, plane: str, index: int, title: str, image: NDArray | None) -> dict[str, Any]:
    """Source data of one image: mean inside the mask, or for an error mean absolute value."""
    axis = AXIS[plane]
    mask = np.take(subject.mask, index, axis=axis)
    row: dict[str, Any] = {"mean": None, "mean_absolute_error": None}
    if image is not None and mask.any():
        values = np.take(image, index, axis=axis)[mask]
        if title.endswith(ERROR):
            row["mean_absolute_error"] = round(float(np.abs(values).mean()), 5)
        else:
            row["mean"] = round(float(values.mean()), 5)
    voxel = np.zeros(3)
    voxel[axis] = index
    position = (subject.affine[:3, :3] @ voxel + subject.affine[:3, 3])[axis]
    about = {"rank": subject.rank, "unit": subject.unit, "plane": plane, "column": title}
    return about | {"position_mm": round(float(position), 2)} | row


def draw_foot(
    study: Study, figure: Figure, height_mm: float, what: str = "error", sd_style: dict[str, Any] | None = None
) -> None:
    """Draw the colour scales and the notes on orientation and colours.

    Parameters
    ----------
    study : Study
    figure : Figure
    height_mm : float
        Height of the figure.
    what : str
        Quantity of the error scale.
    sd_style : dict, optional
        Colours of standard deviations.
    """
    look, place = study.look, placing(height_mm)
    left, middle = (10, 74) if sd_style else (30, 105)
    if look.style:
        draw_scale(figure.add_axes(place(left, height_mm - 17, 45, 2)), look.style, look.scale)
    else:
        x = (left + 22.5) / DOUBLE_MM
        figure.text(x, 14 / height_mm, DIRECTIONS, ha="center", fontsize=6)
    draw_scale(
        figure.add_axes(place(middle, height_mm - 17, 45, 2)),
        look.error_style,
        f"{what}: synthetic minus measured {look.scale}",
    )
    if sd_style:
        draw_scale(figure.add_axes(place(131, height_mm - 17, 45, 2)), sd_style, f"SD of {look.scaled}")
    figure.text(0.5, 4.2 / height_mm, SIDES, fontsize=5.5, color=MUTED, ha="center", va="bottom")
