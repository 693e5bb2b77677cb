"""Overview of the method, drawn from a run: source, slices, model, synthetic and measured map of a test subject."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from numpy.typing import NDArray

from m2m.figures.panel import placing, source_style
from m2m.figures.study import Study, Subject
from m2m.figures.style import DOUBLE_MM, INK, MUTED, PALETTE, new_figure
from m2m.figures.views import AXIS, PLANES, SIDES, crop, cut, windows
from m2m.io.files import read_json
from m2m.io.modalities import MODALITIES

# Left edges and widths in mm: source, its slices, model, synthetic map, measured map.
SOURCE, SLICES, BOX = (2.0, 36.0), (46.0, 20.0), (74.0, 32.0)
SYNTHETIC, MEASURED = (114.0, 33.0), (149.0, 33.0)
HEIGHT_MM, TOP_MM, FOOT_MM = 84.0, 9.0, 12.0
FUSIONS = {
    "average": "averaged",
    "inverse-variance": "weighted by inverse variances",
    "field": "combined by a continuous field",
}


def draw_overview(study: Study, subject: Subject) -> tuple[Figure, list[dict[str, Any]]]:
    """Draw the way from a subject's source to the main model's map, next to the measured map.

    Parameters
    ----------
    study : Study
    subject : Subject
        With a map of the main model.

    Returns
    -------
    Figure
    list of dict
        One row per image: subject, plane, position, mean inside the mask in the slice.
    """
    record = record_of(study)
    planes = record.get("options", {}).get("planes", ())
    look = study.look
    rows: list[dict[str, Any]] = []
    figure = new_figure(DOUBLE_MM, HEIGHT_MM, layout=None)
    synthetic = subject.synthetic[study.models[0]]
    source = MODALITIES[study.task.source].title
    drawing = _Drawing(figure, subject, rows)
    drawing.add("source", subject.source, source_style(study, subject), "axial", *SOURCE)
    for i, plane in enumerate(planes):
        drawing.add("slices", subject.source, source_style(study, subject), plane, *SLICES, part=(i, len(planes)))
    drawing.add("synthetic", look.render(synthetic), look.style, "axial", *SYNTHETIC, values=synthetic.image)
    measured = subject.measured
    drawing.add("measured", look.render(measured), look.style, "axial", *MEASURED, values=measured.image)
    whole = figure.add_axes((0, 0, 1, 1))
    whole.set_axis_off()
    whole.set(xlim=(0, DOUBLE_MM), ylim=(HEIGHT_MM, 0))
    _box(whole, box_text(study, record))
    stops = [SOURCE, *([SLICES] if planes else []), BOX, SYNTHETIC]
    for (left, width), (end, _) in pairwise(stops):
        _arrow(whole, left + width + 1, end - 1)
    titles = {
        SOURCE: f"{source} of {subject.unit}",
        SYNTHETIC: f"synthetic {look.title}",
        MEASURED: f"measured {look.title}",
    }
    if planes:
        titles[SLICES] = "all slices of\n" + (
            "three orientations" if len(planes) == len(PLANES) else " and ".join(planes)
        )
    for (left, width), title in titles.items():
        whole.text(left + width / 2, TOP_MM - 2, title, ha="center", va="bottom", fontsize=7)
    ssim = f"brain SSIM {subject.ssim:.3f}: the {subject.rank} of the test participants"
    whole.text((SYNTHETIC[0] + sum(MEASURED)) / 2, HEIGHT_MM - FOOT_MM, ssim, ha="center", fontsize=6)
    whole.text(DOUBLE_MM / 2, HEIGHT_MM - 5, SIDES, ha="center", fontsize=5.5, color=MUTED)
    return figure, rows


class _Drawing:
    """Places images of one subject in a figure, and records the source data of each."""

    def __init__(self, figure: Figure, subject: Subject, rows: list[dict[str, Any]]):
        self.figure, self.subject, self.rows = figure, subject, rows
        (self.window,) = windows([subject.mask])
        self.place = placing(HEIGHT_MM)

    def add(
        self,
        shown: str,
        image: NDArray,
        style: Mapping[str, Any],
        plane: str,
        left: float,
        width: float,
        values: NDArray | None = None,
        part: tuple[int, int] = (0, 1),
    ) -> None:
        """Draw a slice through the brain's centre as large as its part of a column allows.

        Parameters
        ----------
        shown : str
            Name of the image in the source data.
        image : ndarray, shape (X, Y, Z) or (X, Y, Z, 3)
            Grey values or colours.
        style : mapping
            Arguments of imshow.
        plane : str
        left, width : float
            Of the column, in mm.
        values : ndarray, shape (X, Y, Z), optional
            Values for the source data; default: the image.
        part : tuple of int
            Index of the slice in its column, and number of slices there.
        """
        start, size, centre = self.window
        index = int(centre[AXIS[plane]])
        flat = cut(crop(image, start, size), plane, index - int(start[AXIS[plane]]))
        room = (HEIGHT_MM - TOP_MM - FOOT_MM - 4) / part[1] - 1.5
        tall, wide = flat.shape[:2]
        scale = min(width / wide, room / tall)
        middle = TOP_MM + (part[0] + 0.5) * (room + 1.5)
        x, y = left + (width - wide * scale) / 2, middle - tall * scale / 2
        axes = self.figure.add_axes(self.place(x, y, wide * scale, tall * scale))
        axes.imshow(flat, origin="lower", aspect="auto", interpolation="bilinear", **style)
        axes.set_axis_off()
        if part[1] == 1:
            for at, side in ((0.04, "L"), (0.96, "R")):
                axes.text(at, 0.03, side, transform=axes.transAxes, color="white", fontsize=6.5, ha="center")
        inside = cut(self.subject.mask, plane, index)
        masked = cut(image if values is None else values, plane, index)[inside]
        position = self.subject.affine[AXIS[plane], AXIS[plane]] * index
        position += self.subject.affine[AXIS[plane], 3]
        self.rows.append(
            {
                "unit": self.subject.unit,
                "shown": shown,
                "plane": plane,
                "position_mm": float(position),
                "mean": float(masked.mean()) if len(masked) else None,
            }
        )


def record_of(study: Study) -> dict[str, Any]:
    """Record of the main model; of a cascade that of its last step."""
    model = study.models[0]
    name = study.task.cascade[-1] if study.task.cascade else study.name
    return read_json(study.root / "models" / study.task.training_task(name, model) / model / "model.json")


def box_text(study: Study, record: Mapping[str, Any]) -> list[str]:
    """Texts of the model's box: name, inputs, number of parameters, number of training participants."""
    options, task = record.get("options", {}), study.task
    lines = [study.models[0]]
    if task.cascade:
        lines.append("of " + ",\nthen of ".join(task.cascade))
    context = options.get("network", {}).get("context")
    if context and context > 1:
        lines.append(f"{context} neighbouring slices")
    if task.low_res:
        lines.append(f"with {study.look.title}\nat 1/{task.low_res.factor} of the resolution")
    if record["parameters"]:
        lines.append(f"{record['parameters'] / 1e6:.2g} M parameters")
    lines.append(f"trained on {record['n_train']} participants")
    if options.get("planes"):
        mirrored = "views, also mirrored,\n" if options.get("mirror") else "views "
        lines.append(f"{mirrored}{FUSIONS[options.get('fusion', 'average')]}")
    return lines


def _box(axes: Axes, lines: list[str]) -> None:
    """Draw the model's box with its texts, the first one bold."""
    left, width = BOX
    middle = (TOP_MM + HEIGHT_MM - FOOT_MM) / 2
    tall = 12 + 3.6 * sum(line.count("\n") + 1 for line in lines)
    axes.add_patch(
        FancyBboxPatch(
            (left, middle - tall / 2),
            width,
            tall,
            linewidth=1,
            facecolor="#f5f5f5",
            edgecolor=PALETTE[0],
            boxstyle="round,pad=0,rounding_size=2",
        )
    )
    x, y = left + width / 2, middle - tall / 2 + 4
    axes.text(x, y, lines[0], ha="center", va="top", fontweight="bold", fontsize=7.5)
    axes.text(x, y + 6, "\n".join(lines[1:]), ha="center", va="top", fontsize=6.2, linespacing=1.6)


def _arrow(axes: Axes, start: float, end: float) -> None:
    """Draw an arrow to the right at half height."""
    y = (TOP_MM + HEIGHT_MM - FOOT_MM) / 2
    axes.add_patch(
        FancyArrowPatch(
            (start, y), (end, y), arrowstyle="-|>", mutation_scale=8, linewidth=1, color=INK, shrinkA=0, shrinkB=0
        )
    )
