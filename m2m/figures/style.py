"""How every figure looks and how it is saved: PDF, SVG, PNG and the numbers behind it."""

import importlib
import re
import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase

from m2m.evaluate.metric_tables import printed
from m2m.figures.figure_records import FigureSpec
from m2m.io.files import whole
from m2m.io.tables import write_table

# A figure, and the rows of its source table.
Drawn = tuple[Figure, list[dict[str, Any]]]

MM = 1 / 25.4
# Widths of one and of two columns of a journal.
SINGLE_MM, DOUBLE_MM = 89.0, 183.0
# Formats of every figure, with what would say when it was made left out.
FORMATS = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {"Software": None}}
SIMULATED = "Simulated people: shows that the machinery works, says nothing about brains"
INK, MUTED = "#222222", "#6b6b6b"

# Okabe and Ito's palette, told apart by readers with any common colour vision.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

RC = {
    "font.family": "DejaVu Sans", "font.size": 7, "axes.titlesize": 7.5, "axes.labelsize": 7,
    "xtick.labelsize": 6.5, "ytick.labelsize": 6.5, "legend.fontsize": 6.5,
    # Letters are embedded in a PDF, and drawn as outlines in an SVG, which can embed none; the salt
    # makes the names inside an SVG the same in every run.
    "pdf.fonttype": 42, "ps.fonttype": 42, "svg.fonttype": "path", "svg.hashsalt": "m2m",
    "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.6,
    "axes.edgecolor": INK, "axes.labelcolor": INK, "text.color": INK,
    "xtick.color": INK, "ytick.color": INK, "xtick.major.width": 0.6, "ytick.major.width": 0.6,
    "xtick.major.size": 2.5, "ytick.major.size": 2.5, "lines.linewidth": 1.2,
    "legend.frameon": False, "axes.titlelocation": "left", "figure.dpi": 300, "savefig.dpi": 300,
}  # fmt: skip

# With more models than these a figure is arranged for many.
FEW = 3
COLUMNS_OF_MODELS = 4


def colours(models: Sequence[str]) -> dict[str, str]:
    """Colour of each model, the same in every figure."""
    return {model: PALETTE[i % len(PALETTE)] for i, model in enumerate(models)}


def marker(index: int) -> str:
    """Marker of a model by its place; with its colour it is no other of 49 models'."""
    return MARKERS[(index + index // len(PALETTE)) % len(MARKERS)]


def dashes(index: int) -> str:
    """Line style of a model by its place; with its colour it is no other of 28 models'."""
    return ("-", "--", ":", "-.")[index % 4]


def legend_above(figure: FigureBase, axes: Axes) -> None:
    """Write what the lines of one panel are above a whole figure, five to a line."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=min(max(len(labels), 1), 5))


def letters() -> Iterator[str]:
    """Names of panels: a, b, c."""
    return iter(string.ascii_lowercase)


def new_figure(width_mm: float, height_mm: float, layout: str | None = "constrained") -> Figure:
    """Start a figure of a given size on paper."""
    return Figure(figsize=(width_mm * MM, height_mm * MM), layout=layout)


def letter(axes: Axes, label: str) -> None:
    """Mark a panel with its letter, above its upper left corner."""
    axes.annotate(
        label, (0, 1), xytext=(-4, 6), xycoords="axes fraction", textcoords="offset points",
        ha="right", va="bottom", fontweight="bold", fontsize=8.5, annotation_clip=False,
    )  # fmt: skip


def per_line(n_models: int) -> tuple[int, int]:
    """Columns and lines of one panel a model."""
    columns = n_models if n_models <= FEW else COLUMNS_OF_MODELS
    return columns, -(-n_models // columns)


def model_axes(figure: FigureBase, n_models: int, xlabel: str, ylabel: str) -> Sequence[Axes]:
    """Make one panel a model, on the same scales, with labels at the left and below."""
    columns, lines = per_line(n_models)
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    for axes in panels.flat[n_models:]:
        axes.set_axis_off()
    for column in panels.T:
        lowest = [axes for axes in column if axes.axison][-1]
        lowest.tick_params(labelbottom=True)
        lowest.set_xlabel(xlabel)
    for axes in panels[:, 0]:
        axes.set_ylabel(ylabel)
    return panels.flat[:n_models]


def empty_figure(message: str) -> Figure:
    """Draw a figure that says in words why there is nothing to show."""
    figure = new_figure(SINGLE_MM, 30)
    axes = figure.subplots()
    axes.set_axis_off()
    axes.text(0.5, 0.5, message, ha="center", va="center", color=MUTED, wrap=True)
    return figure


def save(
    figure: Figure,
    rows: Iterable[Mapping[str, Any]],
    columns: Sequence[str],
    stem: Path,
    note: str,
) -> None:
    """Write ``stem``.pdf, .svg, .png and .tsv.

    Parameters
    ----------
    figure : Figure
        One or two columns wide.
    rows : iterable of mapping
        The numbers drawn.
    columns : sequence of str
    stem : Path
        Folder and name without extension.
    note : str
        Small print at the foot: the cohort's counts, and that people are simulated.
    """
    width_mm, height_mm = figure.get_size_inches() / MM
    assert round(width_mm, 3) in (SINGLE_MM, DOUBLE_MM), f"{stem}: {width_mm:.1f} mm wide"
    if (layout := figure.get_layout_engine()) is not None:
        margin = 5 / height_mm
        layout.set(rect=(0, margin, 1, 1 - margin))
    figure.text(
        0.5, 1 / height_mm, note, ha="center", va="bottom", fontsize=5.5, color=MUTED,
        style="italic", wrap=True,
    )  # fmt: skip
    # Placed once: the same in every format.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for extension, metadata in FORMATS.items():
        with whole(stem.with_suffix(f".{extension}")) as path:
            figure.savefig(path, metadata=metadata)
            if extension == "svg":
                path.write_text(_clips_by_order(path.read_text("utf-8")), "utf-8")
    write_table(stem.with_suffix(".tsv"), rows, columns)


def _clips_by_order(svg: str) -> str:
    """An SVG whose clip paths are named by order.

    Matplotlib names them by their coordinates, of which a layout does not settle the last bits.
    """
    names: dict[str, str] = {}

    def by_order(name: re.Match[str]) -> str:
        return names.setdefault(name[0], f"clip{len(names)}")

    return re.sub(r'(?<=[#"])p[0-9a-f]{10}(?=[)"])', by_order, svg)


def draw_all(
    figures: Mapping[str, FigureSpec],
    of: Any,
    out_dir: Path,
    note: str,
    unmet: Mapping[str, str] | None = None,
) -> None:
    """Draw figures and save them, in their order.

    Parameters
    ----------
    figures : mapping of str to FigureSpec
    of : object
        What the figures of their scope are drawn from.
    out_dir : Path
    note : str
        Small print.
    unmet : mapping of str to str, optional
        What a figure says that needs what is not there, by its need.
    """
    with paper_style():
        for name, spec in figures.items():
            if unmet and spec.needs in unmet:
                figure, rows = empty_figure(unmet[spec.needs]), []
            else:
                module, function = spec.draw.split(":")
                figure, rows = getattr(importlib.import_module(module), function)(of)
            numbers = printed(rows) if spec.rounded else rows
            save(figure, numbers, spec.columns, out_dir / name, note)


def paper_style() -> Any:
    """Context in which figures are drawn."""
    return mpl.rc_context(RC)
