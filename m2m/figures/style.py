"""Style of all figures, and saving them as PDF, SVG and PNG with their source data."""

import importlib
import re
import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text
from matplotlib.ticker import LogFormatterMathtext, LogFormatterSciNotation

from m2m.evaluate.metric_tables import printed
from m2m.figures.figure_records import FigureSpec
from m2m.io.files import whole
from m2m.io.tables import write_table

# A figure, and the rows of its source table.
Drawn = tuple[Figure, list[dict[str, Any]]]

MM = 1 / 25.4
# Widths of one and of two journal columns.
SINGLE_MM, DOUBLE_MM = 89.0, 183.0
# Formats of every figure; metadata with the date of creation are removed.
FORMATS = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {"Software": None}}
SIMULATED = "Simulated participants: the results test the software and are no evidence about real brains"
INK, MUTED = "#222222", "#6b6b6b"

# Okabe and Ito's palette, distinguishable with all common kinds of colour vision.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

SUPERSCRIPTS = str.maketrans("0123456789-−", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁻")

RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 7,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 6.5,
    # Fonts are embedded in a PDF; in an SVG, which cannot embed them, text is drawn as outlines. The salt
    # makes the identifiers inside an SVG the same in every run.
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "svg.fonttype": "path",
    "svg.hashsalt": "m2m",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.2,
    "legend.frameon": False,
    "axes.titlelocation": "left",
    # A dollar sign in a table's cell is a dollar sign: no text of ours is mathematics, see `_plain_powers`.
    "text.parse_math": False,
    "figure.dpi": 300,
    "savefig.dpi": 300,
}

# Figures with more models than this have a layout for many models.
FEW = 3
COLUMNS_OF_MODELS = 4


def colours(models: Sequence[str]) -> dict[str, str]:
    """Colour of each model, the same in every figure."""
    return {model: PALETTE[i % len(PALETTE)] for i, model in enumerate(models)}


def marker(index: int) -> str:
    """Marker of a model by its index; unique together with its colour for up to 49 models."""
    return MARKERS[(index + index // len(PALETTE)) % len(MARKERS)]


def dashes(index: int) -> str:
    """Line style of a model by its index; unique together with its colour for up to 28 models."""
    return ("-", "--", ":", "-.")[index % 4]


def legend_above(figure: FigureBase, axes: Axes) -> None:
    """Draw the legend of one panel above the whole figure, with up to five entries per line."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=min(max(len(labels), 1), 5))


def letters() -> Iterator[str]:
    """Letters of panels: a, b, c."""
    return iter(string.ascii_lowercase)


def new_figure(width_mm: float, height_mm: float, layout: Literal["constrained"] | None = "constrained") -> Figure:
    """Create a figure of a given size.

    Parameters
    ----------
    width_mm, height_mm : float
        Size on paper.
    layout : {"constrained"} or None
        None: axes are placed by hand.

    Returns
    -------
    Figure
    """
    return Figure(figsize=(width_mm * MM, height_mm * MM), layout=layout)


def letter(axes: Axes, label: str) -> None:
    """Write the letter of a panel above its upper left corner."""
    axes.annotate(
        label,
        (0, 1),
        xytext=(-4, 6),
        xycoords="axes fraction",
        textcoords="offset points",
        ha="right",
        va="bottom",
        fontweight="bold",
        fontsize=8.5,
        annotation_clip=False,
    )


def per_line(n_models: int) -> tuple[int, int]:
    """Numbers of columns and lines for one panel per model."""
    columns = n_models if n_models <= FEW else COLUMNS_OF_MODELS
    return columns, -(-n_models // columns)


def model_axes(figure: FigureBase, n_models: int, xlabel: str, ylabel: str) -> list[Axes]:
    """Create one panel per model, on the same scales, with labels at the left and bottom.

    Parameters
    ----------
    figure : FigureBase
    n_models : int
    xlabel, ylabel : str

    Returns
    -------
    list of Axes
        One per model.
    """
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
    return list(panels.flat[:n_models])


def empty_figure(message: str) -> Figure:
    """Create a figure with a message on why there is nothing to show."""
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
        Source data.
    columns : sequence of str
    stem : Path
        Path without extension.
    note : str
        Small print at the bottom: counts of the cohort, and whether participants are simulated.
    """
    width_mm, height_mm = figure.get_size_inches() / MM
    assert round(width_mm, 3) in (SINGLE_MM, DOUBLE_MM), f"{stem}: {width_mm:.1f} mm wide"
    if (layout := figure.get_layout_engine()) is not None:
        assert isinstance(layout, ConstrainedLayoutEngine)
        margin = 5 / height_mm
        layout.set(rect=(0, margin, 1, 1 - margin))
    figure.text(
        0.5, 1 / height_mm, note, ha="center", va="bottom", fontsize=5.5, color=MUTED, style="italic", wrap=True
    )
    _plain_powers(figure)
    _plain_wrapping(figure)
    # The layout is computed once, so that it is the same in every format.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for extension, metadata in FORMATS.items():
        with whole(stem.with_suffix(f".{extension}")) as path:
            figure.savefig(path, metadata=metadata)
            if extension == "svg":
                path.write_text(_clips_by_order(path.read_text("utf-8")), "utf-8")
    write_table(stem.with_suffix(".tsv"), rows, columns)


class _PlainLog(LogFormatterSciNotation):
    """Labels of a logarithmic axis as plain text: 10³ where matplotlib's own are mathtext."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        text = re.sub(r"\$|\\mathdefault", "", super().__call__(x, pos)).replace(r"\times", "×").replace("{", "", 1)
        return re.sub(r"\^\{(.+?)\}", lambda power: power[1].translate(SUPERSCRIPTS), text).replace("}", "")


def _plain_powers(figure: Figure) -> None:
    """Label the logarithmic axes of a figure without mathtext, which is off."""
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        formatters: tuple[Any, ...] = (axis.get_major_formatter(), axis.get_minor_formatter())
        for formatter in formatters:
            if isinstance(formatter, LogFormatterMathtext):
                formatter.__class__ = _PlainLog


def _plain_wrapping(figure: Figure) -> None:
    """Measure the lines of wrapped texts without mathtext, which matplotlib's wrapping parses all the same."""
    texts: Any = figure.findobj(Text)
    for text in texts:
        if text.get_wrap() and "$" in text.get_text():
            measure = text._get_rendered_text_width
            text._get_rendered_text_width = lambda line, measure=measure: measure(line.replace("$", "S"))


def _clips_by_order(svg: str) -> str:
    """Rename the clip paths of an SVG by their order.

    Matplotlib names them by their coordinates, whose last bits may differ between runs of a layout.
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
        Object of their scope, from which they are drawn.
    out_dir : Path
    note : str
        Small print.
    unmet : mapping of str to str, optional
        Message of a figure whose need is not met, by the need.
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
    """Context with the style of all figures."""
    return mpl.rc_context(RC)
