"""Views of continuous fields of measured and of synthetic maps."""

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

NO_TEST_SUBJECT = "No participant to show."
FROM = {0: "behind", 90: "the right", 180: "the front", 270: "the left"}
Row = dict[str, Any]


def view_name(azimuth_deg: float, elevation_deg: float) -> str:
    """Description of the direction of a view."""
    if abs(elevation_deg) == 90:
        return "from above" if elevation_deg > 0 else "from below"
    angle = azimuth_deg % 360
    side = FROM[int(angle)] if angle in FROM else f"{azimuth_deg:g}°"
    height = "up" if elevation_deg > 0 else "down"
    return f"from {side}" + (f", {abs(elevation_deg):g}° {height}" if elevation_deg else "")


def field_rows(roots: Sequence[Path], units: Sequence[str], options: Render) -> list[Row]:
    """One row per view; a field that could not be rendered has one row with the reason.

    Parameters
    ----------
    roots : sequence of Path
        Dataset folders of the maps: measured first, then synthetic.
    units : sequence of str
    options : Render

    Returns
    -------
    list of dict
    """
    rows = []
    for unit in units:
        for root in roots:
            folder = unit_folder(unit)
            status = read_json(unit_path(root, "render-status", folder, unit))
            path = unit_path(root, "field-stills", folder, unit)
            of = "measured" if root == roots[0] else f"{root.parent.name}, {root.name}"
            about = {"unit": unit, "of": of, "image": path}
            if status["status"] != "ok":
                rows.append(about | {"problem": status["finding"]["problem"]})
                continue
            rows += [
                about | {"view": view_name(*view), "azimuth_deg": view[0], "elevation_deg": view[1]}
                for view in options.stills
            ]
    return rows


def draw_fields(rows: Sequence[Row], n_views: int) -> Figure:
    """Draw the fields of each participant below one another, one view per column.

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
        axes[0].text(
            -0.03, 0.5, f"{unit}\n{of}", transform=axes[0].transAxes, rotation=90, ha="right", va="center", fontsize=6
        )
    return figure


def _draw_line(panels: Sequence[Axes], views: Sequence[Row]) -> None:
    """Show the views of one field, cut from their image file, or the reason why there are none."""
    for axes in panels:
        axes.set_axis_off()
    if problem := views[0].get("problem"):
        message = panels[0].text(0, 0.5, f"no field: {problem}", transform=panels[0].transAxes)
        message.set(color=MUTED, in_layout=False)  # may be as long as the row
        return
    with Image.open(views[0]["image"]) as image:
        pixels = np.asarray(image.convert("RGB"))
    for axes, view, part in zip(panels, views, np.split(pixels, len(views), axis=1), strict=True):
        axes.imshow(part)
        axes.set_title(view["view"], loc="center")


@dataclass(frozen=True)
class Shown:
    """Inputs of the figures of fields.

    Attributes
    ----------
    roots : sequence of Path
        Dataset folders of the maps: measured first, then synthetic.
    units : sequence of str
        Units whose fields are shown.
    options : Render
    tables : sequence of Path
        Tables of `m2m compare-fields`.
    """

    roots: Sequence[Path]
    units: Sequence[str]
    options: Render
    tables: Sequence[Path]


def fields_figure(shown: Shown) -> Drawn:
    """Views of fields, or a message where there is no participant."""
    rows = field_rows(shown.roots, shown.units, shown.options)
    n_views = len(shown.options.stills)
    return draw_fields(rows, n_views) if rows else empty_figure(NO_TEST_SUBJECT), rows


def held_out_figure(shown: Shown) -> Drawn:
    """Fields compared with interpolation, or a message where no participant was compared."""
    rows = held_out_rows(shown.tables)
    return draw_held_out(rows) if rows else empty_figure(NO_TEST_SUBJECT), rows


def main(
    root: Root,
    of: Annotated[list[Path], typer.Option(help="Dataset folders of the maps: measured first, then synthetic.")],
    config: NeededConfig,
    unit: Annotated[list[str] | None, typer.Option(help="Unit whose fields are shown; repeat for more.")] = None,
) -> None:
    """Draw rendered fields, measured above synthetic, and their comparison with interpolation."""
    settings, units = read_config(config), unit or []
    tables = [files_of(name, root)("held-out") for name in units]
    section, folder = settings.section("render"), Path(figures_folder(root, "report"))
    draw(of, folder, settings.simulated, units, section, tables)


def draw(
    of: Sequence[Path],
    out_dir: Path,
    simulated: bool,
    units: Sequence[str],
    section: Render,
    tables: Sequence[Path] = (),
) -> None:
    """Draw the fields of these units, and their comparison with interpolation.

    Parameters
    ----------
    of : sequence of Path
        Dataset folders of the maps: measured first, then synthetic.
    out_dir : Path
        Folder of the figures.
    simulated : bool
        Whether participants are simulated.
    units : sequence of str
    section : Render
    tables : sequence of Path
        Tables of `m2m compare-fields`.
    """
    figures = of_scope("fields")
    shown = Shown(of, units, section, tables)
    draw_all(figures, shown, out_dir, SIMULATED if simulated else "")
    print(f"wrote {' and '.join(figures)} to {out_dir}, each as .pdf, .svg, .png, .tsv")
