"""What the maps look like: the best, the median and the worst test subject.

With few models in three planes, each error beside its map, and the first model's predicted standard
deviation beside its error; with many in axial slices, each error below its map.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from m2m.figures.study import Person, Study
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
# Title, picture and its colours, and what is measured of it.
Column = tuple[str, NDArray | None, dict[str, Any], NDArray | None]


def draw_panel(study: Study, people: Sequence[Person]) -> tuple[Figure, list[dict[str, Any]]]:
    """Draw source, truth, each model's map and error, and an expected error; one block a person.

    Returns
    -------
    Figure
    list of dict
        One row per image of a map: subject, plane, position, mean of the compared image inside
        the mask (of an error: of its size) in the slice.
    """
    boxes = windows([person.mask for person in people])
    size = boxes[0][1]
    aspects = {
        "axial": size[1] / size[0],
        "coronal": size[2] / size[0],
        "sagittal": size[2] / size[1],
    }
    many = len(study.models) > FEW
    lines = [("axial", False), ("axial", True)] if many else [(plane, None) for plane in PLANES]
    errors = [] if many else ["error"]
    sds = {} if many else predicted_sds(study, people)
    titles = [MODALITIES[study.task.source].title, f"true {study.look.title}"]
    titles += [title for model in study.models for title in (model, *errors)]
    if sds:
        titles.insert(4, "predicted SD")
    left, foot, gap = 9.0, 20.0, 1.0
    top, right = (20.0, 9.0) if many else (6.5, 1.0)  # titles are turned where there are many
    side = (DOUBLE_MM - left - right - gap * (len(titles) - 1)) / len(titles)
    block = sum(aspects[plane] * side + gap for plane, _ in lines) - gap + 3
    height = top + block * len(people) + foot
    figure = new_figure(DOUBLE_MM, height, layout=None)
    place = placing(height)
    rows, y = [], top
    for person, (start, size, centre) in zip(people, boxes, strict=True):
        figure.text(
            4 / DOUBLE_MM, 1 - (y + (block - 3) / 2) / height,
            f"{person.rank}: {person.unit}\nSSIM {person.ssim:.3f}",
            rotation=90, ha="center", va="center", fontsize=7,
        )  # fmt: skip
        columns = _columns(study, person)
        if sds:
            columns.insert(4, _sd_column(study.models[0], sds, person))
        for plane, wanted in lines:
            tall, index = aspects[plane] * side, int(centre[AXIS[plane]])
            for column, (title, picture, style, measured) in placed(columns, wanted):
                axes = figure.add_axes(place(left + column * (side + gap), y, side, tall))
                axes.set_axis_off()
                if picture is None:
                    axes.text(0.5, 0.5, "no map", ha="center", va="center", color=MUTED)
                    continue
                image = cut(crop(picture, start, size), plane, index - int(start[AXIS[plane]]))
                axes.imshow(image, origin="lower", aspect="auto", interpolation="bilinear",
                            **style)  # fmt: skip
                rows.append(_row(person, plane, index, title, measured))
            y += tall + gap
        y += 3 - gap
    turned = {"rotation": 45, "ha": "left", "rotation_mode": "anchor"} if many else {"ha": "center"}
    for column, title in enumerate(titles):
        x = left + column * (side + gap) + side / (4 if many else 2)
        figure.text(x / DOUBLE_MM, 1 - (top - 2) / height, title, fontsize=7, **turned)
    draw_foot(study, figure, height, sd_style=sd_style(sds) if sds else None)
    return figure, rows


def predicted_sds(study: Study, people: Sequence[Person]) -> dict[str, NDArray]:
    """Standard deviations that the first model predicts, by unit; without those that lack one."""
    pairs = {person.unit: error_and_sd(study, person, study.models[0]) for person in people}
    return {unit: pair[1] for unit, pair in pairs.items() if pair is not None}


def sd_style(sds: Mapping[str, NDArray]) -> dict[str, Any]:
    """Colours of standard deviations, one scale for all people."""
    top = max(
        float(np.percentile(sd[sd > 0], 99)) if (sd > 0).any() else 0.0 for sd in sds.values()
    )
    return {"cmap": SD_COLOURS, "vmin": 0, "vmax": top or 1.0}


def _sd_column(model: str, sds: Mapping[str, NDArray], person: Person) -> Column:
    """Column of one person's standard deviations."""
    sd = sds.get(person.unit)
    return model + SD, sd, sd_style(sds), sd


def source_style(study: Study, person: Person) -> dict[str, Any]:
    """Colours of a person's source."""
    if study.task.source in LOOKS:
        return LOOKS[study.task.source].style
    bright = float(np.percentile(person.source[person.mask], 99.5))
    return {"cmap": "gray", "vmin": 0, "vmax": bright}


def placed(columns: Sequence[Column], errors: bool | None) -> list[tuple[int, Column]]:
    """Place of each picture in its line: all in one, or maps and errors in lines of their own."""
    if errors is None:
        return list(enumerate(columns))
    chosen = (one for one in columns if one[0].endswith(ERROR) == errors)
    return list(enumerate(chosen, start=2 if errors else 0))


def placing(height_mm: float) -> Callable[[float, float, float, float], list[float]]:
    """Function that places axes: mm from the upper left corner, width and height in mm."""

    def place(x: float, y: float, width: float, tall: float) -> list[float]:
        return [x / DOUBLE_MM, 1 - (y + tall) / height_mm, width / DOUBLE_MM, tall / height_mm]

    return place


def _columns(study: Study, person: Person) -> list[Column]:
    """Title, picture and its colours, and what is measured of it, of each column."""
    look = study.look
    columns = [
        (study.task.source, person.source, source_style(study, person), None),
        ("true", look.picture(person.true), look.style, person.true.image),
    ]
    for model in study.models:
        one = person.synthetic.get(model)
        if one is None:
            columns += [(model, None, {}, None), (model + ERROR, None, {}, None)]
            continue
        error = one.image - person.true.image
        columns.append((model, look.picture(one), look.style, one.image))
        columns.append((model + ERROR, error, look.error_style, error))
    return columns


def _row(
    person: Person, plane: str, index: int, title: str, measured: NDArray | None
) -> dict[str, Any]:
    """Numbers of one picture: the slice's mean inside the mask, and of an error its mean size."""
    axis = AXIS[plane]
    mask = np.take(person.mask, index, axis=axis)
    row: dict[str, Any] = {"mean": None, "mean_absolute_error": None}
    if measured is not None and mask.any():
        values = np.take(measured, index, axis=axis)[mask]
        if title.endswith(ERROR):
            row["mean_absolute_error"] = round(float(np.abs(values).mean()), 5)
        else:
            row["mean"] = round(float(values.mean()), 5)
    voxel = np.zeros(3)
    voxel[axis] = index
    position = (person.affine[:3, :3] @ voxel + person.affine[:3, 3])[axis]
    about = {"rank": person.rank, "unit": person.unit, "plane": plane, "column": title}
    return about | {"position_mm": round(float(position), 2)} | row


def draw_foot(
    study: Study, figure: Figure, height_mm: float, what: str = "error",
    sd_style: dict[str, Any] | None = None,
) -> None:  # fmt: skip
    """Draw the colour scales and say which side is which, and what colours mean."""
    look, place = study.look, placing(height_mm)
    left, middle = (10, 74) if sd_style else (30, 105)
    if look.style:
        draw_scale(
            figure.add_axes(place(left, height_mm - 17, 45, 2)), look.style, look.scale
        )  # fmt: skip
    else:
        x = (left + 22.5) / DOUBLE_MM
        figure.text(x, 14 / height_mm, DIRECTIONS, ha="center", fontsize=6)
    draw_scale(
        figure.add_axes(place(middle, height_mm - 17, 45, 2)), look.error_style,
        f"{what}: synthetic minus true {look.scale}",
    )  # fmt: skip
    if sd_style:
        draw_scale(
            figure.add_axes(place(131, height_mm - 17, 45, 2)), sd_style, f"SD of {look.scaled}"
        )  # fmt: skip
    figure.text(
        0.5, 4.2 / height_mm, SIDES, fontsize=5.5, color=MUTED, ha="center", va="bottom"
    )  # fmt: skip
