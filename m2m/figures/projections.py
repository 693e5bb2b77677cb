"""Maximum-intensity projections of measured and synthetic maps, in three planes.

Colour-coded FA is projected as the colour of the voxel with the largest FA along each ray;
streamlines as the mean direction of the steps that cross each pixel, brighter where there are more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from nibabel.streamlines import ArraySequence
from numpy.typing import NDArray

from m2m.evaluate.measured_maps import Compared
from m2m.evaluate.streamlines import reference_streamlines, synthetic_streamlines
from m2m.figures.panel import draw_foot, placing
from m2m.figures.study import Study, Subject
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
class Projection:
    """One projection: image, style for imshow, and its number in the source data."""

    column: str
    image: NDArray | None
    style: Mapping[str, Any]
    quantity: str = ""
    value: float | None = None


@dataclass(frozen=True)
class Row:
    """Projections of one subject, by plane."""

    subject: Subject
    shown: str
    projections: dict[str, list[Projection]]


def draw_projections(study: Study, subjects: Sequence[Subject]) -> tuple[Figure, list[dict[str, Any]]]:
    """Draw projections of measured maps, the main model's maps, and streamlines of both.

    Returns
    -------
    Figure
    list of dict
        One row per projection: subject, plane, mean of the projection or number of streamlines.
    """
    boxes = windows([subject.mask for subject in subjects])
    rows = []
    for subject, (start, size, _) in zip(subjects, boxes, strict=True):
        projections = {plane: _maps(study, subject, start, size, plane) for plane in PLANES}
        rows.append(Row(subject, study.look.title, projections))
        pair = _tractograms(study, subject)
        if len(pair) > 1:
            projections = {plane: _tracts(pair, subject, start, size, plane) for plane in PLANES}
            rows.append(Row(subject, "streamlines", projections))
    return _draw(study, rows, boxes[0][1]), [
        {
            "rank": row.subject.rank,
            "unit": row.subject.unit,
            "shown": row.shown,
            "plane": plane,
            "column": one.column,
            "quantity": one.quantity,
            "value": one.value,
        }
        for row in rows
        for plane, projections in row.projections.items()
        for one in projections
        if one.image is not None
    ]


def _maps(study: Study, subject: Subject, start: NDArray, size: NDArray, plane: str) -> list[Projection]:
    """Projections of the measured and the main model's map, and their difference (tensors: of FA)."""
    look = study.look
    columns: dict[str, Compared | None] = {"measured": subject.measured}
    columns[study.models[0]] = subject.synthetic.get(study.models[0])
    projections, flat = [], []
    for column, one in columns.items():
        if one is None:
            projections.append(Projection(column, None, {}))
            continue
        image = crop(one.image, start, size)
        flat.append(project(image, plane))
        shown = flat[-1]
        if one.tensor is not None:
            shown = project_colours(crop(look.render(one), start, size), image, plane)
        mean = float(flat[-1][_covered(subject, start, size, plane)].mean())
        projections.append(Projection(column, shown, look.style, f"mean {look.scale}", mean))
    difference: NDArray | None = None
    mean_difference: float | None = None
    if len(flat) == 2:
        difference = flat[1] - flat[0]
        mean_difference = float(difference[_covered(subject, start, size, plane)].mean())
    quantity = f"mean {look.scale}"
    return [*projections, Projection("difference", difference, look.error_style, quantity, mean_difference)]


def _covered(subject: Subject, start: NDArray, size: NDArray, plane: str) -> NDArray[np.bool_]:
    """Pixels whose ray crosses the mask."""
    return project(crop(subject.mask, start, size), plane)


def _tractograms(study: Study, subject: Subject) -> dict[str, ArraySequence]:
    """Load measured and the main model's streamlines, in T1 world mm; empty unless both exist."""
    if study.target.nature != "tensor":
        return {}
    model, unit = study.models[0], (subject.folder, subject.unit)
    try:
        return {
            "measured": reference_streamlines(study.root, *unit),
            model: synthetic_streamlines(study.synthetic_root(model), *unit),
        }
    except DataError as error:
        print(f"projections: no streamlines of {subject.unit}: {error}")
        return {}


def _tracts(
    pair: Mapping[str, ArraySequence], subject: Subject, start: NDArray, size: NDArray, plane: str
) -> list[Projection]:
    """Direction-coded projections of streamlines, on one scale of brightness, and their difference."""
    drawn = {
        column: draw_streamlines(streamlines, subject.affine, start, size, plane)
        for column, streamlines in pair.items()
    }
    count = drawn["measured"][1]
    full = float(np.percentile(count[count > 0], 99)) if count.any() else 1.0
    bright = {column: np.minimum(np.log1p(count) / np.log1p(full), 1) for column, (_, count) in drawn.items()}
    measured, synthetic = bright.values()
    n_measured, n_synthetic = (len(streamlines) for streamlines in pair.values())
    return [
        *(
            Projection(column, colours * bright[column][..., None], {}, "streamlines", len(pair[column]))
            for column, (colours, _) in drawn.items()
        ),
        Projection(
            "difference",
            synthetic - measured,
            {"cmap": "RdBu_r", "vmin": -1, "vmax": 1},
            "streamlines",
            n_synthetic - n_measured,
        ),
    ]


def _draw(study: Study, rows: Sequence[Row], size: NDArray) -> Figure:
    """Place the projections: one row per subject and kind, measured and synthetic of each plane together."""
    wide = {"axial": size[0], "coronal": size[0], "sagittal": size[1]}
    tall = {"axial": size[1], "coronal": size[2], "sagittal": size[2]}
    columns = [(plane, i) for plane in PLANES for i in range(len(rows[0].projections[plane]))]
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
            3.2 / DOUBLE_MM,
            1 - (y + row_mm / 2) / height,
            f"{row.subject.rank}: {row.subject.unit}\n{row.shown}",
            rotation=90,
            ha="center",
            va="center",
            fontsize=6,
        )
        for plane, i in columns:
            one = row.projections[plane][i]
            width, high = wide[plane] * per_voxel, tall[plane] * per_voxel
            axes = figure.add_axes(place(x, y + (row_mm - GAP_MM - high) / 2, width, high))
            axes.set_axis_off()
            if k == 0:
                figure.text(
                    (x + width / 2) / DOUBLE_MM, 1 - (TOP_MM - 1.5) / height, one.column, ha="center", fontsize=6
                )
                if i == 0:
                    figure.text(x / DOUBLE_MM, 1 - (TOP_MM - 5) / height, plane, fontsize=7, fontweight="bold")
            if one.image is None:
                axes.text(0.5, 0.5, "no map", ha="center", va="center", color=MUTED)
            else:
                axes.imshow(one.image, origin="lower", aspect="auto", **one.style)
            last = i == len(row.projections[plane]) - 1
            x += width + GAP_MM + (GAP_MM if last else 0)
    if has_scale:
        draw_foot(study, figure, height, "difference of projections")
    else:
        note = (
            f"{DIRECTIONS} {SIDES}\nDifference, synthetic minus measured: FA within "
            f"±{study.look.error_style['vmax']:g}; streamlines on a logarithmic scale. Red: synthetic is higher."
        )
        figure.text(0.5, 4.2 / height, note, fontsize=5.5, color=MUTED, ha="center", va="bottom")
    return figure
