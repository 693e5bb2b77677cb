"""Whole maps at a glance: maximum-intensity projections, true beside synthetic, in three planes.

Colour FA is projected as the colour of the voxel with the largest FA along each ray; streamlines
by the mean direction of the steps that cross each pixel, brighter where there are more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from nibabel.streamlines import ArraySequence
from numpy.typing import NDArray

from m2m.evaluate.streamlines import synthetic_streamlines, true_streamlines
from m2m.figures.panel import draw_foot, placing
from m2m.figures.study import Person, Study
from m2m.figures.style import DOUBLE_MM, MUTED, new_figure
from m2m.figures.views import (
    DIRECTIONS,
    PLANES,
    SIDES,
    crop,
    draw_streamlines,
    project,
    project_colours,
    windows,
)
from m2m.io.errors import DataError

LEFT_MM, TOP_MM, GAP_MM = 9.0, 10.0, 1.0


@dataclass(frozen=True)
class Picture:
    """One projection: what is drawn, in which colours, and the number behind it."""

    column: str
    image: NDArray | None
    style: Mapping[str, Any]
    quantity: str = ""
    value: float | None = None


@dataclass(frozen=True)
class Row:
    """Projections of one person, by plane."""

    person: Person
    shown: str
    pictures: dict[str, list[Picture]]


def draw_projections(study: Study, people: Sequence[Person]) -> tuple[Figure, list[dict[str, Any]]]:
    """Draw projections of the main model's maps, and streamlines, beside the true ones.

    Returns
    -------
    Figure
    list of dict
        One row per picture: subject, plane, mean of the projection or number of streamlines.
    """
    boxes = windows([person.mask for person in people])
    rows = []
    for person, (start, size, _) in zip(people, boxes, strict=True):
        pictures = {plane: _maps(study, person, start, size, plane) for plane in PLANES}
        rows.append(Row(person, study.look.title, pictures))
        pair = _tractograms(study, person)
        if len(pair) > 1:
            pictures = {plane: _tracts(pair, person, start, size, plane) for plane in PLANES}
            rows.append(Row(person, "streamlines", pictures))
    return _draw(study, rows, boxes[0][1]), [
        {"rank": row.person.rank, "unit": row.person.unit, "shown": row.shown, "plane": plane,
         "column": one.column, "quantity": one.quantity, "value": one.value}
        for row in rows for plane, pictures in row.pictures.items() for one in pictures
        if one.image is not None
    ]  # fmt: skip


def _maps(study: Study, person: Person, start: NDArray, size: NDArray, plane: str) -> list[Picture]:
    """Projections of the true and the main model's map, and their difference (tensors: of FA)."""
    look, columns = study.look, {"true": person.true}
    columns[study.models[0]] = person.synthetic.get(study.models[0])
    pictures, flat = [], []
    for column, one in columns.items():
        if one is None:
            pictures.append(Picture(column, None, {}))
            continue
        image = crop(one.image, start, size)
        flat.append(project(image, plane))
        shown = flat[-1]
        if one.tensor is not None:
            shown = project_colours(crop(look.picture(one), start, size), image, plane)
        mean = float(flat[-1][_covered(person, start, size, plane)].mean())
        pictures.append(Picture(column, shown, look.style, f"mean {look.scale}", mean))
    difference = mean = None
    if len(flat) == 2:
        difference = flat[1] - flat[0]
        mean = float(difference[_covered(person, start, size, plane)].mean())
    what = f"mean {look.scale}"
    return [*pictures, Picture("difference", difference, look.error_style, what, mean)]


def _covered(person: Person, start: NDArray, size: NDArray, plane: str) -> NDArray[np.bool_]:
    """Pixels whose ray meets the mask."""
    return project(crop(person.mask, start, size), plane)


def _tractograms(study: Study, person: Person) -> dict[str, ArraySequence]:
    """Load the true and the main model's streamlines, in T1 world mm, where both are there."""
    if study.target.nature != "tensor":
        return {}
    model, where = study.models[0], (person.folder, person.unit)
    try:
        return {
            "true": true_streamlines(study.root, *where),
            model: synthetic_streamlines(study.synthetic_root(model), *where),
        }
    except DataError as error:
        print(f"projections: no streamlines of {person.unit}: {error}")
        return {}


def _tracts(
    pair: Mapping[str, ArraySequence], person: Person, start: NDArray, size: NDArray, plane: str
) -> list[Picture]:
    """Direction-coded projections of streamlines, on one scale of brightness; the difference."""
    drawn = {
        column: draw_streamlines(streamlines, person.affine, start, size, plane)
        for column, streamlines in pair.items()
    }
    count = drawn["true"][1]
    full = float(np.percentile(count[count > 0], 99)) if count.any() else 1.0
    bright = {
        column: np.minimum(np.log1p(count) / np.log1p(full), 1)
        for column, (_, count) in drawn.items()
    }
    true, synthetic = bright.values()
    n_true, n_synthetic = (len(streamlines) for streamlines in pair.values())
    return [
        *(
            Picture(column, colours * bright[column][..., None], {}, "streamlines",
                    len(pair[column]))
            for column, (colours, _) in drawn.items()
        ),
        Picture("difference", synthetic - true, {"cmap": "RdBu_r", "vmin": -1, "vmax": 1},
                "streamlines", n_synthetic - n_true),
    ]  # fmt: skip


def _draw(study: Study, rows: Sequence[Row], size: NDArray) -> Figure:
    """Place the pictures: a row per person and kind, true and synthetic of each plane together."""
    wide = {"axial": size[0], "coronal": size[0], "sagittal": size[1]}
    tall = {"axial": size[1], "coronal": size[2], "sagittal": size[2]}
    columns = [(plane, i) for plane in PLANES for i in range(len(rows[0].pictures[plane]))]
    space = DOUBLE_MM - LEFT_MM - 1 - GAP_MM * (len(columns) - 1) - 2 * GAP_MM
    per_voxel = space / sum(wide[plane] for plane, _ in columns)
    row_mm = max(tall.values()) * per_voxel + GAP_MM
    has_scale = study.target.nature != "tensor"
    foot = 20.0 if has_scale else 11.0
    height = TOP_MM + row_mm * len(rows) + foot
    figure, place = new_figure(DOUBLE_MM, height, layout=None), placing(height)
    for k, row in enumerate(rows):
        y, x = TOP_MM + k * row_mm, LEFT_MM
        figure.text(
            3.2 / DOUBLE_MM, 1 - (y + row_mm / 2) / height,
            f"{row.person.rank}: {row.person.unit}\n{row.shown}",
            rotation=90, ha="center", va="center", fontsize=6,
        )  # fmt: skip
        for plane, i in columns:
            one = row.pictures[plane][i]
            width, high = wide[plane] * per_voxel, tall[plane] * per_voxel
            axes = figure.add_axes(place(x, y + (row_mm - GAP_MM - high) / 2, width, high))
            axes.set_axis_off()
            if k == 0:
                figure.text((x + width / 2) / DOUBLE_MM, 1 - (TOP_MM - 1.5) / height,
                            one.column, ha="center", fontsize=6)  # fmt: skip
                if i == 0:
                    figure.text(x / DOUBLE_MM, 1 - (TOP_MM - 5) / height, plane,
                                fontsize=7, fontweight="bold")  # fmt: skip
            if one.image is None:
                axes.text(0.5, 0.5, "no map", ha="center", va="center", color=MUTED)
            else:
                axes.imshow(one.image, origin="lower", aspect="auto", **one.style)
            last = i == len(row.pictures[plane]) - 1
            x += width + GAP_MM + (GAP_MM if last else 0)
    if has_scale:
        draw_foot(study, figure, height, "difference of projections")
    else:
        words = (
            f"{DIRECTIONS} {SIDES}\nDifference, synthetic minus true: FA within "
            f"±{study.look.error_style['vmax']:g}; streamlines by their logarithm. Red is more."
        )
        figure.text(0.5, 4.2 / height, words, fontsize=5.5, color=MUTED,
                    ha="center", va="bottom")  # fmt: skip
    return figure
