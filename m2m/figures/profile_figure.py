"""Profiles of one T1 along its main bundles, and what the T1 adds to the atlas in each of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray

from m2m.figures.study import Study
from m2m.figures.style import DOUBLE_MM, INK, MUTED, PALETTE, Drawn, empty_figure, new_figure, paper_style
from m2m.io.bids import files_of
from m2m.io.files import read_json, whole
from m2m.io.volume import Volume, load
from m2m.structural.named_bundles import load_bundles, to_t1_space
from m2m.translate.bundle_profiles import all_points, profile_all

Rows = Sequence[Mapping[str, Any]]

# Titles of the bundles that are drawn, by their names in HCP1065; {} is the side.
PAIRS = {
    "ProjectionBrainstem_CorticospinalTract{}": "corticospinal",
    "Association_ArcuateFasciculus{}": "arcuate",
    "Association_SuperiorLongitudinalFasciculus{}_2": "sup. longitudinal II",
    "Association_InferiorFrontoOccipitalFasciculus{}": "inf. fronto-occipital",
    "Association_InferiorLongitudinalFasciculus{}": "inf. longitudinal",
    "Association_UncinateFasciculus{}": "uncinate",
    "Association_Cingulum{}_FrontalParietal": "cingulum",
    "Association_FrontalAslantTract{}": "frontal aslant",
    "ProjectionBasalGanglia_ThalamicRadiation{}_Anterior": "ant. thalamic radiation",
    "ProjectionBasalGanglia_OpticRadiation{}": "optic radiation",
}
MAIN = {
    name.format(letter): f"{title}, {side}"
    for name, title in PAIRS.items()
    for letter, side in (("L", "left"), ("R", "right"))
} | {
    "Commissure_CorpusCallosum_ForcepsMinor": "callosum, forceps minor",
    "Commissure_CorpusCallosum_Body": "callosum, body",
    "Commissure_CorpusCallosum_Tapetum": "callosum, tapetum",
    "Commissure_CorpusCallosum_ForcepsMajor": "callosum, forceps major",
}
COLUMNS = 4
HEIGHT_MM, DPI = 235.0, 200
NOTE_CHARACTERS = 150
# Colour, line style and marker of each map.
STYLES = {
    "synthetic": (PALETTE[0], "-", "o"),
    "atlas": (PALETTE[1], "--", "s"),
    "measured": (INK, "-", "^"),
    "second_measured": (MUTED, ":", "D"),
}
LABELS = {"second_measured": "second measurement"}


def draw_profiles(rows: Rows, means: Rows, title: str, simulated: bool, out: Path) -> None:
    """Draw `profiles_figure` as a PNG with its small print.

    Parameters
    ----------
    rows, means, title
        As `profiles_figure` takes them.
    simulated : bool
        Whether the model was trained on simulated participants.
    out : Path
        PNG to write.
    """
    with paper_style():
        figure = profiles_figure(rows, means, title)
        _write_notes(figure, simulated)
        with whole(out) as temporary:
            figure.savefig(temporary, dpi=DPI, metadata={"Software": None})


def profiles_figure(rows: Rows, means: Rows, title: str) -> Figure:
    """Draw the profiles of the main bundles and, below them, synthetic and atlas compared by bundle.

    Parameters
    ----------
    rows, means : sequence of mapping
        Columns `PROFILE_COLUMNS` and `MEAN_COLUMNS` of `m2m.translate.profile_tables`.
    title : str
        Quantity of the map.

    Returns
    -------
    Figure
    """
    figure = new_figure(DOUBLE_MM, HEIGHT_MM)
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=(2.1, 1))[:, 0]
    _draw_multiples(above, rows, {row["bundle"]: row["ends"] for row in means}, title)
    _draw_comparison(below, [row for row in means if row["bundle"] in MAIN], title)
    return figure


def bundle_profiles_figure(study: Study) -> Drawn:
    """Profiles of a typical test participant's measured and synthetic map, with those of the task's atlas."""
    main, atlas = study.models[0], study.atlas
    if atlas is None or atlas == main:
        return empty_figure("No model of this task is an atlas, deformed to each T1, beside the first one."), []
    subject = study.typical(main, atlas)
    if subject is None:
        return empty_figure("No test participant has a map of the first model and of the atlas."), []
    sd = study.deviations(subject, main)
    if sd is None:
        return empty_figure(f"{main} predicts no standard deviations: its profiles have no interval."), []
    at, inside = files_of(subject.unit, study.root), subject.mask
    values = {
        "synthetic": subject.synthetic[main].values,
        "sd": study.target.unscale(sd),
        "atlas": subject.synthetic[atlas].values,
        "measured": subject.measured.values,
    }
    maps = {name: Volume(np.where(inside, data, 0).astype(np.float32), subject.affine) for name, data in values.items()}
    to_mni = np.array(read_json(at("anat-status"))["grid_to_mni"])
    bundles = load_bundles()
    in_t1 = to_t1_space(all_points(bundles), to_mni, load(at("inverse-deformation")))
    rows, means = profile_all(bundles, in_t1, inside, maps)
    shown = [{"unit": subject.unit} | {**row} for row in rows if row["bundle"] in MAIN]
    return profiles_figure(rows, means, study.target.title), shown


def _draw_multiples(figure: SubFigure, rows: Rows, ends: Mapping[str, str], title: str) -> None:
    """One panel for each main bundle, on one scale."""
    panels = figure.subplots(-(-len(MAIN) // COLUMNS), COLUMNS, sharex=True, sharey=True)
    shown = [row for row in rows if row["bundle"] in MAIN]
    values = _column(shown, *STYLES, "low", "high")
    values = values[np.isfinite(values)]
    top = 1.05 * float(values.max()) if values.size else 1.0
    for axes, (name, label) in zip(panels.flat, MAIN.items(), strict=True):
        own = [row for row in shown if row["bundle"] == name]
        _draw_profile(axes, own)
        axes.set(xlim=(0, 1), ylim=(0, top), xticks=(0, 0.5, 1))
        axes.set_title(label)
        axes.set_xlabel(ends.get(name, "").replace(" to ", " → "), labelpad=1, fontsize=6)
    for axes in panels[:, 0]:
        axes.set_ylabel(title)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=5)


def _draw_profile(axes: Axes, rows: Rows) -> None:
    """Profiles of one bundle: each map that was given, the interval of the synthetic one."""
    position = _column(rows, "position")
    axes.fill_between(
        position,
        _column(rows, "low"),
        _column(rows, "high"),
        color=PALETTE[0],
        alpha=0.18,
        linewidth=0,
        label="its interval, 95 %",
    )
    for name, (colour, dashes, _) in STYLES.items():
        if rows and name in rows[0]:
            label = LABELS.get(name, name)
            axes.plot(position, _column(rows, name), color=colour, linestyle=dashes, linewidth=1, label=label)


def _draw_comparison(figure: SubFigure, means: Rows, title: str) -> None:
    """Error of synthetic, atlas and second measurement by bundle; without a measured map, what the T1 adds."""
    axes = figure.subplots()
    order = [next((row for row in means if row["bundle"] == name), {}) for name in MAIN]
    y = np.arange(len(order))
    kinds = [name for name in STYLES if any(row.get(f"error_{name}") is not None for row in order)]
    if kinds:
        ends = np.stack([_column(order, f"error_{name}") for name in ("synthetic", "atlas") if name in kinds])
        axes.hlines(y, ends.min(axis=0), ends.max(axis=0), color="#cccccc", linewidth=1.5, zorder=1)
        for name in kinds:
            colour, _, marker = STYLES[name]
            label = LABELS.get(name, name)
            axes.plot(_column(order, f"error_{name}"), y, marker, color=colour, markersize=3.5, label=label)
        axes.set_xlabel(f"mean |{title} − measured {title}|")
    else:
        half = (_column(order, "high") - _column(order, "low")) / 2
        axes.barh(y, half, color=PALETTE[0], alpha=0.18, height=0.7, label="half of the interval")
        axes.plot(_column(order, "added"), y, "o", color=PALETTE[0], markersize=3.5, label="|synthetic − atlas|")
        axes.set_xlabel(f"mean |synthetic {title} − atlas|")
    axes.set_yticks(y, [*MAIN.values()], fontsize=5.5)
    axes.set(ylim=(len(order) - 0.4, -0.6), xlim=(0, None))
    axes.grid(axis="y", color="#eeeeee", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.set_title("What the T1 adds to the atlas")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=3)


def _write_notes(figure: Figure, simulated: bool) -> None:
    """Small print: what a synthetic map is, and whose bundles these are."""
    note = (
        "Synthetic: computed from the T1, not measured. Interval: as if all errors of a bundle had one sign, which is "
        "conservative. Bundles: HCP1065, Yeh 2022, CC BY-SA 4.0."
    )
    if simulated:
        note += " The model was trained on simulated participants: no evidence about real brains."
    figure.supxlabel(fill(note, NOTE_CHARACTERS), fontsize=5.5, color=MUTED, x=0.01, ha="left")


def _column(rows: Rows, *names: str) -> NDArray[np.float64]:
    """Columns of a table one after the other, NaN where a value is missing."""
    return np.array([np.nan if (value := row.get(name)) is None else value for name in names for row in rows], float)
