"""Real pairs: T1, measured map, and maps by methods with their differences, a row of panels for each participant."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from m2m.evaluate.metrics import pearson
from m2m.evaluate.real_pair import RealPair, compared_units, load_pair, methods_of
from m2m.figures.figure_records import of_scope
from m2m.figures.panel import placing
from m2m.figures.style import DOUBLE_MM, MUTED, Drawn, draw_all, empty_figure, new_figure
from m2m.figures.views import DIRECTIONS, LOOKS, Look, crop, cut, draw_scale, windows
from m2m.options.configured import figures_folder, read_config
from m2m.options.real_options import ATLAS_AFFINE, ATLAS_SYN, SECOND
from m2m.options.stage_flags import NeededConfig, Root

# Participants that fit on a page, and methods beside the measured map.
MOST_PAIRS, MOST_METHODS = 6, 2
LEFT_MM, TOP_MM, FOOT_MM, GAP_MM = 9.0, 6.5, 20.0, 1.0
TITLES = {ATLAS_SYN: "atlas, SyN", SECOND: "second measurement"}
LEFT = "The left of an image is the participant's left. r in the measured brain."
CASES = "Real participants, as case studies: their number gives no interval"


@dataclass(frozen=True)
class Pairs:
    """What the figure of real pairs is drawn from.

    Attributes
    ----------
    pairs : sequence of RealPair
    methods : sequence of str
        Those that are shown.
    target : str
        Modality that is compared.
    """

    pairs: Sequence[RealPair]
    methods: Sequence[str]
    target: str

    @property
    def look(self) -> Look:
        """Colours and scale of the images."""
        return LOOKS[self.target]

    @property
    def measured(self) -> str:
        """Title of the measured map."""
        return f"measured {self.look.title}"


class Image(NamedTuple):
    """One panel: title, values, what is shown of them, its colours, and whether it is a difference."""

    title: str
    values: NDArray
    shown: NDArray
    style: Mapping[str, Any]
    difference: bool = False


def shown_methods(methods: Sequence[str], pairs: Sequence[RealPair]) -> list[str]:
    """Methods that fit in a row: the first weights, the deformed atlas or others, and then a second measurement."""
    shown = [name for name in methods if name != ATLAS_AFFINE]
    if ATLAS_SYN in shown[1:]:
        shown = [shown[0], ATLAS_SYN]
    again = [SECOND] if any(pair.second is not None for pair in pairs) else []
    return [*shown, *again][:MOST_METHODS]


def columns_of(pair: RealPair, study: Pairs) -> list[Image | None]:
    """Panels of a participant, from left to right; None where it has no such map."""
    look, bright = study.look, float(np.percentile(pair.t1.data[pair.t1.data > 0], 99.5))
    images: list[Image | None] = [
        Image("T1", pair.t1.data, pair.t1.data, {"cmap": "gray", "vmin": 0, "vmax": bright}),
        Image(study.measured, pair.measured.image, look.render(pair.measured), look.style),
    ]
    maps = pair.maps | ({} if pair.second is None else {SECOND: pair.second})
    for name in study.methods:
        title = TITLES.get(name, name)
        if name not in maps:
            images += [None, None]
            continue
        images.append(Image(title, maps[name].image, look.render(maps[name]), look.style))
        error = maps[name].image - pair.measured.image
        images.append(Image(f"{title}: difference", error, error, look.error_style, True))
    return images


def draw_pairs(study: Pairs) -> Drawn:
    """Draw a row of panels for each participant."""
    if not study.pairs:
        return empty_figure("No pair to show."), []
    n_columns = 2 + 2 * len(study.methods)
    boxes = windows([pair.target for pair in study.pairs])
    size = boxes[0][1]
    side = (DOUBLE_MM - LEFT_MM - 1 - GAP_MM * (n_columns - 1)) / n_columns
    tall = side * float(size[1] / size[0])
    height = TOP_MM + (tall + 2 * GAP_MM) * len(study.pairs) + FOOT_MM
    figure, place, rows = new_figure(DOUBLE_MM, height, layout=None), placing(height), []
    titles = [
        "T1",
        study.measured,
        *(text for name in study.methods for text in (TITLES.get(name, name), "difference")),
    ]
    for column, title in enumerate(titles):
        x = LEFT_MM + column * (side + GAP_MM) + side / 2
        figure.text(x / DOUBLE_MM, 1 - (TOP_MM - 2) / height, title, fontsize=7, ha="center")
    for line, (pair, (start, box, centre)) in enumerate(zip(study.pairs, boxes, strict=True)):
        y = TOP_MM + line * (tall + 2 * GAP_MM)
        middle = 1 - (y + tall / 2) / height
        figure.text(4 / DOUBLE_MM, middle, pair.unit, rotation=90, ha="center", va="center", fontsize=7)
        k = int(centre[2])
        for column, image in enumerate(columns_of(pair, study)):
            x = LEFT_MM + column * (side + GAP_MM)
            axes = figure.add_axes(place(x, y, side, tall))
            axes.set_axis_off()
            if image is None:
                axes.text(0.5, 0.5, "none", ha="center", va="center", color=MUTED)
                continue
            part = cut(crop(image.shown, start, box), "axial", k - int(start[2]))
            axes.imshow(part, origin="lower", aspect="auto", interpolation="bilinear", **image.style)
            rows.append(_row(pair, image, k))
            if column >= 2 and not image.difference:
                text = f"r {pearson(pair.measured.image[pair.target], image.values[pair.target]):.2f}"
                axes.text(0.02, 0.01, text, transform=axes.transAxes, color="white", fontsize=6, va="bottom")
    look = study.look
    if look.style:
        draw_scale(figure.add_axes(place(30, height - 17, 45, 2)), look.style, look.scale)
    else:
        figure.text(30 / DOUBLE_MM, 13 / height, DIRECTIONS, fontsize=5.5, color=MUTED, va="bottom")
    draw_scale(figure.add_axes(place(105, height - 17, 45, 2)), look.error_style, f"map minus measured {look.scale}")
    figure.text(0.5, 4.2 / height, LEFT, fontsize=5.5, color=MUTED, ha="center", va="bottom")
    return figure, rows


def _row(pair: RealPair, image: Image, k: int) -> dict[str, Any]:
    """Source data of a panel: its mean in the slice, or of a difference the mean absolute value; r in the brain."""
    mask = pair.target[..., k]
    values = image.values[..., k][mask]
    found = float(np.abs(values).mean() if image.difference else values.mean())
    position = pair.t1.affine[2] @ [*(np.array(pair.target.shape[:2]) / 2), k, 1]
    about = {"unit": pair.unit, "position_mm": round(float(position), 2), "column": image.title}
    about["mean_absolute_error" if image.difference else "mean"] = round(found, 5)
    if not image.difference and image.values is not pair.measured.image:
        about["r"] = round(pearson(pair.measured.image[pair.target], image.values[pair.target]), 4)
    return about


def main(root: Root, config: NeededConfig) -> None:
    """Draw real pairs: T1, measured map, maps by weights and by the atlas, with their differences from the measured."""
    written = read_config(config)
    section = written.section("real")
    draw(root / section.folder, methods_of(section), section.target, Path(figures_folder(root, section.page)))


def draw(root: Path, methods: Sequence[str], target: str, out_dir: Path) -> None:
    """Draw the figure of real pairs.

    Parameters
    ----------
    root : Path
        Dataset of the pairs.
    methods : sequence of str
        In the order of the tables.
    target : str
        Modality that is compared.
    out_dir : Path
        Folder of the figures.
    """
    pairs = [load_pair(root, row, methods, target) for row in compared_units(root)[:MOST_PAIRS]]
    figures = of_scope("pairs")
    draw_all(figures, Pairs(pairs, shown_methods(methods, pairs), target), out_dir, CASES)
    print(f"wrote {', '.join(figures)} to {out_dir}, as .pdf, .svg, .png, .tsv")
