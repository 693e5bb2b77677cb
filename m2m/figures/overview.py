"""The method at a glance, drawn from the run: one test person's source, network, map and truth."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from numpy.typing import NDArray

from m2m.figures.panel import placing, source_style
from m2m.figures.study import Person, Study
from m2m.figures.style import DOUBLE_MM, INK, MUTED, PALETTE, new_figure
from m2m.figures.views import AXIS, PLANES, SIDES, crop, cut, windows
from m2m.io.files import read_json
from m2m.io.modalities import MODALITIES

# Left edges and widths in mm: source, its slices, network, synthetic map, true map.
SOURCE, SLICES, BOX = (2.0, 36.0), (46.0, 20.0), (74.0, 32.0)
MADE, TRUE = (114.0, 33.0), (149.0, 33.0)
HEIGHT_MM, TOP_MM, FOOT_MM = 84.0, 9.0, 12.0
JOINED = {
    "average": "averaged", "inverse-variance": "weighted by inverse variances",
    "field": "joined by a continuous field",
}  # fmt: skip


def draw_overview(study: Study, person: Person) -> tuple[Figure, list[dict[str, Any]]]:
    """Draw the way from a person's source to the main model's map, beside the truth.

    Parameters
    ----------
    study : Study
    person : Person
        With a map of the main model.

    Returns
    -------
    Figure
    list of dict
        One row per picture: subject, plane, position, mean inside the mask in the slice.
    """
    record = record_of(study)
    planes = record.get("options", {}).get("planes", ())
    look, rows = study.look, []
    figure = new_figure(DOUBLE_MM, HEIGHT_MM, layout=None)
    made = person.synthetic[study.models[0]]
    source = MODALITIES[study.task.source].title
    drawing = _Drawing(figure, person, rows)
    drawing.picture("source", person.source, source_style(study, person), "axial", *SOURCE)
    for i, plane in enumerate(planes):
        drawing.picture("slices", person.source, source_style(study, person), plane, *SLICES,
                        part=(i, len(planes)))  # fmt: skip
    drawing.picture(
        "synthetic", look.picture(made), look.style, "axial", *MADE, measured=made.image
    )
    drawing.picture("true", look.picture(person.true), look.style, "axial", *TRUE,
                    measured=person.true.image)  # fmt: skip
    whole = figure.add_axes([0, 0, 1, 1])
    whole.set_axis_off()
    whole.set(xlim=(0, DOUBLE_MM), ylim=(HEIGHT_MM, 0))
    _box(whole, box_words(study, record))
    stops = [SOURCE, *([SLICES] if planes else []), BOX, MADE]
    for (left, width), (end, _) in pairwise(stops):
        _arrow(whole, left + width + 1, end - 1)
    heads = {SOURCE: f"{source} of {person.unit}", MADE: f"synthetic {look.title}",
             TRUE: f"true {look.title}"}  # fmt: skip
    if planes:
        heads[SLICES] = "every slice of\n" + (
            "three orientations" if len(planes) == len(PLANES) else " and ".join(planes)
        )
    for (left, width), words in heads.items():
        whole.text(left + width / 2, TOP_MM - 2, words, ha="center", va="bottom", fontsize=7)
    ssim = f"SSIM of the brain {person.ssim:.3f}: the {person.rank} of the test people"
    whole.text((MADE[0] + sum(TRUE)) / 2, HEIGHT_MM - FOOT_MM, ssim, ha="center", fontsize=6)
    whole.text(DOUBLE_MM / 2, HEIGHT_MM - 5, SIDES, ha="center", fontsize=5.5, color=MUTED)
    return figure, rows


class _Drawing:
    """Places pictures of one person in a figure, and notes what each shows."""

    def __init__(self, figure: Figure, person: Person, rows: list[dict[str, Any]]):
        self.figure, self.person, self.rows = figure, person, rows
        (self.window,) = windows([person.mask])
        self.place = placing(HEIGHT_MM)

    def picture(
        self, shown: str, image: NDArray, style: Mapping[str, Any], plane: str, left: float,
        width: float, measured: NDArray | None = None, part: tuple[int, int] = (0, 1),
    ) -> None:  # fmt: skip
        """Draw a slice through the brain's middle as large as fits into its part of a column."""
        start, size, centre = self.window
        index = int(centre[AXIS[plane]])
        flat = cut(crop(image, start, size), plane, index - int(start[AXIS[plane]]))
        room = (HEIGHT_MM - TOP_MM - FOOT_MM - 4) / part[1] - 1.5
        tall, wide = flat.shape[:2]
        scale = min(width / wide, room / tall)
        middle = TOP_MM + (part[0] + 0.5) * (room + 1.5)
        x, y = left + (width - wide * scale) / 2, middle - tall * scale / 2
        axes = self.figure.add_axes(self.place(x, y, wide * scale, tall * scale))
        axes.imshow(flat, origin="lower", aspect="auto", interpolation="bilinear",
                    **style)  # fmt: skip
        axes.set_axis_off()
        if part[1] == 1:
            for at, side in ((0.04, "L"), (0.96, "R")):
                axes.text(at, 0.03, side, transform=axes.transAxes, color="white", fontsize=6.5,
                          ha="center")  # fmt: skip
        inside = cut(self.person.mask, plane, index)
        values = cut(image if measured is None else measured, plane, index)[inside]
        position = self.person.affine[AXIS[plane], AXIS[plane]] * index
        position += self.person.affine[AXIS[plane], 3]
        self.rows.append(
            {"unit": self.person.unit, "shown": shown, "plane": plane,
             "position_mm": float(position), "mean": float(values.mean()) if len(values) else None}
        )  # fmt: skip


def record_of(study: Study) -> dict[str, Any]:
    """Record of the main model; of a chain that of its last link."""
    model = study.models[0]
    name = study.task.chain[-1] if study.task.chain else study.name
    return read_json(study.root / "models" / study.task.home(name, model) / model / "model.json")


def box_words(study: Study, record: Mapping[str, Any]) -> list[str]:
    """Say what is in the box: the model, what it sees, how large it is, whom it learned from."""
    options, task = record.get("options", {}), study.task
    lines = [study.models[0]]
    if task.chain:
        lines.append("of " + ",\nthen of ".join(task.chain))
    context = options.get("network", {}).get("context")
    if context and context > 1:
        lines.append(f"{context} neighbouring slices")
    if task.low:
        lines.append(f"beside {study.look.title}\nat 1/{task.low.ratio} of the resolution")
    if record["parameters"]:
        lines.append(f"{record['parameters'] / 1e6:.2g} M parameters")
    lines.append(f"fitted on {record['n_train']} people")
    if options.get("planes"):
        mirrored = "views, also mirrored,\n" if options.get("mirror") else "views "
        lines.append(f"{mirrored}{JOINED[options.get('fusion', 'average')]}")
    return lines


def _box(axes: Axes, lines: list[str]) -> None:
    """Draw the network's box with its words, the first bold."""
    left, width = BOX
    middle = (TOP_MM + HEIGHT_MM - FOOT_MM) / 2
    tall = 12 + 3.6 * sum(line.count("\n") + 1 for line in lines)
    axes.add_patch(
        FancyBboxPatch((left, middle - tall / 2), width, tall, linewidth=1, facecolor="#f5f5f5",
                       edgecolor=PALETTE[0], boxstyle="round,pad=0,rounding_size=2")
    )  # fmt: skip
    x, y = left + width / 2, middle - tall / 2 + 4
    axes.text(x, y, lines[0], ha="center", va="top", fontweight="bold", fontsize=7.5)
    axes.text(x, y + 6, "\n".join(lines[1:]), ha="center", va="top", fontsize=6.2, linespacing=1.6)


def _arrow(axes: Axes, start: float, end: float) -> None:
    """Draw an arrow to the right, half way down."""
    y = (TOP_MM + HEIGHT_MM - FOOT_MM) / 2
    axes.add_patch(
        FancyArrowPatch((start, y), (end, y), arrowstyle="-|>", mutation_scale=8, linewidth=1,
                        color=INK, shrinkA=0, shrinkB=0)
    )  # fmt: skip
