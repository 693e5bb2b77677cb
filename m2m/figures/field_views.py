"""Views of continuous fields: of people's measured maps, and of their synthetic ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from m2m.figures.figure_records import of_scope
from m2m.figures.held_out_panels import draw_held_out, held_out_rows
from m2m.figures.style import (
    DOUBLE_MM,
    MUTED,
    SIMULATED,
    Drawn,
    draw_all,
    empty_figure,
    new_figure,
)
from m2m.io.bids import files_of, unit_folder, unit_path
from m2m.io.files import read_json
from m2m.options import Render
from m2m.options.configured import figures_folder, read_config
from m2m.options.stage_flags import NeededConfig, Root

NOBODY = "Nobody to show."
FROM = {0: "behind", 90: "the right", 180: "the front", 270: "the left"}
Row = dict[str, Any]


def view_name(azimuth_deg: float, elevation_deg: float) -> str:
    """Where a view is taken from, in words."""
    if abs(elevation_deg) == 90:
        return "from above" if elevation_deg > 0 else "from below"
    side = FROM.get(azimuth_deg % 360, f"{azimuth_deg:g}°")
    height = "up" if elevation_deg > 0 else "down"
    return f"from {side}" + (f", {abs(elevation_deg):g}° {height}" if elevation_deg else "")


def field_rows(roots: Sequence[Path], units: Sequence[str], options: Render) -> list[Row]:
    """One row a view; a field that could not be rendered has one row that says why."""
    rows = []
    for unit in units:
        for root in roots:
            folder = unit_folder(unit)
            status = read_json(unit_path(root, "render-status", folder, unit))
            path = unit_path(root, "field-stills", folder, unit)
            of = "measured" if root == roots[0] else f"{root.parent.name}, {root.name}"
            about = {"unit": unit, "of": of, "picture": path}
            if status["status"] != "ok":
                rows.append(about | {"problem": status["finding"]["problem"]})
                continue
            rows += [
                about | {"view": view_name(*view), "azimuth_deg": view[0], "elevation_deg": view[1]}
                for view in options.stills
            ]
    return rows


def draw_fields(rows: Sequence[Row], n_views: int) -> Figure:
    """Draw each person's fields below one another, a view a column.

    Parameters
    ----------
    rows : rows of `field_rows`, at least one
    n_views : int
    """
    lines: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        lines.setdefault((row["unit"], row["of"]), []).append(row)
    side_mm = (DOUBLE_MM - 8) / n_views
    figure = new_figure(DOUBLE_MM, side_mm * len(lines) + 12)
    panels = figure.subplots(len(lines), n_views, squeeze=False)
    for axes, ((unit, of), views) in zip(panels, lines.items(), strict=True):
        _draw_line(axes, views)
        axes[0].text(-0.03, 0.5, f"{unit}\n{of}", transform=axes[0].transAxes, rotation=90,
                     ha="right", va="center", fontsize=6)  # fmt: skip
    return figure


def _draw_line(panels: Sequence[Axes], views: Sequence[Row]) -> None:
    """Cut the views of one field out of their picture, or say why there are none."""
    for axes in panels:
        axes.set_axis_off()
    if problem := views[0].get("problem"):
        words = panels[0].text(0, 0.5, f"no field: {problem}", transform=panels[0].transAxes)
        words.set(color=MUTED, in_layout=False)  # it may be as long as the line
        return
    with Image.open(views[0]["picture"]) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    for axes, view, part in zip(panels, views, np.split(pixels, len(views), axis=1), strict=True):
        axes.imshow(part)
        axes.set_title(view["view"], loc="center")


@dataclass(frozen=True)
class Shown:
    """What the figures of fields are drawn from.

    Attributes
    ----------
    roots : sequence of Path
        Where maps lie: measured, then synthetic ones.
    units : sequence of str
        Whose fields are shown.
    options : Render
    tables : sequence of Path
        Of `m2m compare-fields`.
    """

    roots: Sequence[Path]
    units: Sequence[str]
    options: Render
    tables: Sequence[Path]


def fields_figure(shown: Shown) -> Drawn:
    """Views of fields, or words where there is nobody."""
    rows = field_rows(shown.roots, shown.units, shown.options)
    n_views = len(shown.options.stills)
    return draw_fields(rows, n_views) if rows else empty_figure(NOBODY), rows


def held_out_figure(shown: Shown) -> Drawn:
    """Fields beside interpolation, or words where nobody was compared."""
    rows = held_out_rows(shown.tables)
    return draw_held_out(rows) if rows else empty_figure(NOBODY), rows


def main(
    root: Root,
    of: Annotated[list[Path], typer.Option(help="Where maps lie: measured, then synthetic ones.")],
    config: NeededConfig,
    unit: Annotated[list[str] | None, typer.Option(help="Whose fields are shown; repeat.")] = None,
) -> None:
    """Draw the rendered fields of people, measured above synthetic; and fields beside others."""
    written, shown = read_config(config), unit or []
    tables = [files_of(name, root)("held-out") for name in shown]
    section, folder = written.section("render"), Path(figures_folder(root, "report"))
    draw(of, folder, written.simulated, shown, section, tables)


def draw(
    of: Sequence[Path],
    out_dir: Path,
    simulated: bool,
    units: Sequence[str],
    section: Render,
    tables: Sequence[Path] = (),
) -> None:
    """Draw the fields of these units, and what the tables say of fields beside others."""
    figures = of_scope("fields")
    shown = Shown(of, units, section, tables)
    draw_all(figures, shown, out_dir, SIMULATED if simulated else "")
    print(f"wrote {' and '.join(figures)} to {out_dir}, each as .pdf, .svg, .png, .tsv")
