"""Figures of the biological validation: phenotypes and measured or synthetic maps."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from m2m.cohort.participants import known_participants
from m2m.cohort.spellings import cell, number
from m2m.downstream.prediction import CHANCE, LINEAR, MAIN
from m2m.figures.figure_records import FIGURES, of_validation
from m2m.figures.style import (
    DOUBLE_MM,
    INK,
    MUTED,
    PALETTE,
    SIMULATED,
    Drawn,
    colours,
    draw_all,
    empty_figure,
    legend_above,
    letter,
    letters,
    marker,
    new_figure,
)
from m2m.io.files import read_json
from m2m.io.tables import read_table
from m2m.models.given_weights import given_in, targets_of
from m2m.options.configured import figures_folder, measured_of, read_config
from m2m.options.downstream_options import FA, NOISE_FREE, T1, compared_effects
from m2m.options.stage_flags import NeededConfig, Root

NAMES = {"r2": "R² (1 − squared error / that of the mean)", "auc": "area under the ROC curve"}
REGIONS = 12
# Lower scores are far worse than chance: an axis that included them would compress the others.
LOWEST = -0.5


@dataclass(frozen=True)
class Validation:
    """Tables of the biological validation.

    Attributes
    ----------
    folder : Path
        Folder of the tables.
    measured_of : mapping of str to (str or None)
        Measured image of each one that is made from the T1; None where there is none.
    kinds : dict of str to str
        Kind of each phenotype that was predicted: regression or classification.
    subjects : dict of str to dict
        Row of participants.tsv of each participant.
    """

    folder: Path
    measured_of: Mapping[str, str | None]
    kinds: dict[str, str]
    subjects: dict[str, dict[str, str | None]]

    def table(self, name: str) -> pd.DataFrame:
        """Read one table."""
        return pd.read_csv(self.folder / f"{name}.tsv", sep="\t", dtype={"fold": str, "site": str})

    @property
    def numbers(self) -> list[str]:
        """Numeric phenotypes."""
        return [name for name, kind in self.kinds.items() if kind == "regression"]

    @property
    def images(self) -> list[str]:
        """Measured images, then those made from the T1."""
        return list(dict.fromkeys([*filter(None, self.measured_of.values()), *self.measured_of]))


def grid_of(n: int, columns: int, height_mm: float) -> tuple[Figure, list[Axes]]:
    """Create a figure with n panels.

    Parameters
    ----------
    n : int
    columns : int
        Largest number of panels in a line.
    height_mm : float
        Height of a line.

    Returns
    -------
    Figure
    list of Axes
        The n panels.
    """
    columns = min(n, columns)
    lines = -(-n // columns)
    figure = new_figure(DOUBLE_MM, 10 + height_mm * lines)
    panels = list(figure.subplots(lines, columns, squeeze=False).flat)
    for axes in panels[n:]:
        axes.set_axis_off()
    return figure, panels[:n]


def dots_with_intervals(axes: Axes, rows: pd.DataFrame, y: NDArray, place: int, label: str = "") -> None:
    """Draw values of a table with their intervals, each at its height; marker and colour are those of a place."""
    axes.errorbar(
        rows["value"],
        y,
        xerr=[rows["value"] - rows["low"], rows["high"] - rows["value"]],
        linestyle="",
        marker=marker(place),
        markersize=3,
        elinewidth=0.8,
        color=PALETTE[place],
        label=label,
    )


def draw_scores(validation: Validation) -> Drawn:
    """Scores of each input for each phenotype, with intervals over participants and chance level."""
    table = validation.table("scores")
    table = table[table["metric"].isin(MAIN.values())]
    inputs = list(dict.fromkeys(table["input"]))
    predictors = list(dict.fromkeys(table["predictor"]))
    figure, panels = grid_of(len(validation.kinds), 2, 14 + 6 * len(inputs))
    for axes, mark, (target, kind) in zip(panels, letters(), validation.kinds.items(), strict=False):
        own = table[table["target"] == target]
        for i, predictor in enumerate(predictors):
            rows = own[own["predictor"] == predictor].set_index("input").reindex(inputs)
            y = np.arange(len(inputs)) + 0.22 * (i - (len(predictors) - 1) / 2)
            dots_with_intervals(axes, rows, y, i, predictor)
        axes.axvline(CHANCE[MAIN[kind]], color=MUTED, linewidth=0.8, linestyle="--")
        axes.set_xlim(left=max(LOWEST, axes.get_xlim()[0]))
        axes.set_yticks(np.arange(len(inputs)), inputs)
        axes.invert_yaxis()
        axes.set_xlabel(NAMES[MAIN[kind]])
        axes.set_title(f"{target}, {own['n_subjects'].max()} participants")
        letter(axes, mark)
    legend_above(figure, panels[0])
    return figure, table[list(FIGURES["scores"].columns)].to_dict("records")


def draw_regions(validation: Validation) -> Drawn:
    """Regional means versus a numeric phenotype: measured and synthetic, or synthetic and of the atlas."""
    if not validation.numbers:
        return empty_figure("No numeric phenotype was predicted."), []
    effects, features = validation.table("effects"), validation.table("features")
    features = features.groupby("participant_id").mean(numeric_only=True)
    pair = compared_effects(validation.measured_of)
    images = list(pair[0]) if pair else validation.images[:1]
    chosen = []
    for target in validation.numbers:
        own = effects[(effects["target"] == target) & (effects["image"] == images[0])]
        strongest = own.reindex(own["value"].abs().sort_values(ascending=False).index)
        chosen += [(target, region) for region in strongest["region"][:REGIONS]]
    if not chosen:
        return empty_figure("No regions of interest: evaluation.rois.image is not set."), []
    figure, panels = grid_of(len(chosen), 4, 34)
    rows: list[dict[str, Any]] = []
    for axes, (target, region) in zip(panels, chosen, strict=True):
        x = pd.Series({p: number(cell(row, target)) for p, row in validation.subjects.items()})
        x = x.reindex(features.index).astype(float)
        for i, image in enumerate(images):
            if f"{image}:{region}" not in features:
                continue
            y = features[f"{image}:{region}"]
            known = x.notna() & y.notna()
            axes.plot(
                x[known],
                y[known],
                linestyle="",
                marker=marker(i),
                markersize=1.8,
                alpha=0.6,
                markeredgewidth=0,
                color=PALETTE[i],
                label=image,
            )
            line = np.polyfit(x[known], y[known], 1)
            ends = np.array([x[known].min(), x[known].max()])
            axes.plot(ends, np.polyval(line, ends), color=PALETTE[i])
            rows += [
                {"target": target, "region": region, "image": image, "participant_id": p, "x": x[p], "y": y[p]}
                for p in features.index[known]
            ]
        axes.set_title("\n".join(wrap(region.replace("_", " "), 26)))
        axes.set_xlabel(target)
    legend_above(figure, panels[0])
    return figure, rows


def draw_effects(validation: Validation) -> Drawn:
    """Regional effects in one image versus another, each with its interval."""
    table = validation.table("effects")
    pairs = compared_effects(validation.measured_of)
    if NOISE_FREE in set(table["image"]):
        pairs.insert(0, (NOISE_FREE, FA))
    wanted = [(t, e, *pair) for t, e in table.groupby(["target", "effect"]).groups for pair in pairs]
    rows: list[dict[str, Any]] = []
    if not wanted:
        return empty_figure("No regions of interest: evaluation.rois.image is not set."), rows
    figure, panels = grid_of(len(wanted), max(len(pairs), 2), 52)
    for axes, mark, (target, effect, reference, image) in zip(panels, letters(), wanted, strict=False):
        own = table[(table["target"] == target) & (table["effect"] == effect)]
        by_image = {name: part.set_index("region") for name, part in own.groupby("image")}
        axes.set_xlabel(f"{reference}: {effect}")
        axes.set_ylabel(f"{image}: {effect}")
        axes.set_title(target)
        letter(axes, mark)
        if reference not in by_image or image not in by_image:
            continue
        both = by_image[reference].merge(by_image[image], left_index=True, right_index=True, suffixes=("", "_2"))
        axes.errorbar(
            both["value"],
            both["value_2"],
            xerr=[both["value"] - both["low"], both["high"] - both["value"]],
            yerr=[both["value_2"] - both["low_2"], both["high_2"] - both["value_2"]],
            linestyle="",
            marker="o",
            markersize=2.2,
            elinewidth=0.4,
            color=PALETTE[0],
        )
        axes.axline((0, 0), slope=1, color=MUTED, linewidth=0.8, linestyle="--")
        axes.axhline(0, color="#d0d0d0", linewidth=0.6, zorder=0)
        axes.axvline(0, color="#d0d0d0", linewidth=0.6, zorder=0)
        axes.locator_params(nbins=4)
        rows += [
            {
                "target": target,
                "effect": effect,
                "region": region,
                "reference": reference,
                "image": image,
                "reference_value": row["value"],
                "reference_low": row["low"],
                "reference_high": row["high"],
                "value": row["value_2"],
                "low": row["low_2"],
                "high": row["high_2"],
            }
            for region, row in both.iterrows()
        ]
    return figure, rows


def draw_calibration(validation: Validation) -> Drawn:
    """Mean actual versus mean predicted value of the linear predictor, in quintiles of participants."""
    table = validation.table("calibration")
    table = table[table["predictor"] == LINEAR]
    inputs = [name for name in (T1, *validation.images) if name in set(table["input"])]
    figure, panels = grid_of(len(validation.kinds), 3, 56)
    for axes, mark, (target, kind) in zip(panels, letters(), validation.kinds.items(), strict=False):
        for i, name in enumerate(inputs):
            own = table[(table["target"] == target) & (table["input"] == name)]
            spread = [own["actual"] - own["low"], own["high"] - own["actual"]]
            axes.errorbar(
                own["predicted"],
                own["actual"],
                yerr=[part.fillna(0).clip(0) for part in spread],
                marker=marker(i),
                markersize=3,
                elinewidth=0.5,
                color=PALETTE[i],
                label=name,
            )
        middle = table.loc[table["target"] == target, "predicted"].mean()
        axes.axline((middle, middle), slope=1, color=MUTED, linewidth=0.8, linestyle="--")
        axes.set_xlabel("predicted" if kind == "regression" else "predicted probability of the last class")
        axes.set_ylabel("actual" if kind == "regression" else "share of the last class")
        axes.set_title(target)
        letter(axes, mark)
    legend_above(figure, panels[0])
    return figure, table[list(FIGURES["calibration"].columns)].to_dict("records")


def draw_gaps(validation: Validation) -> Drawn:
    """Predicted minus actual value (for age: the brain-age gap) from measured and from synthetic maps."""
    agreement = validation.table("agreement")
    if agreement.empty:
        return empty_figure("No numeric phenotype was predicted."), []
    predictions = validation.table("predictions")
    numeric = predictions["target"].isin(validation.numbers)
    predictions = predictions[(predictions["predictor"] == LINEAR) & numeric]
    predictions = predictions.assign(gap=predictions["predicted"] - predictions["actual"].astype(float))
    figure, panels = grid_of(len(agreement), 3, 56)
    rows: list[dict[str, Any]] = []
    for axes, mark, pair in zip(panels, letters(), agreement.to_dict("records"), strict=False):
        own = predictions[predictions["target"] == pair["target"]]
        own = own.pivot(index="participant_id", columns="input", values="gap")
        x, y = own[pair["measured"]], own[pair["synthetic"]]
        axes.plot(x, y, linestyle="", marker="o", markersize=2.4, alpha=0.7, color=PALETTE[0])
        axes.axline((0, 0), slope=1, color=MUTED, linewidth=0.8, linestyle="--")
        axes.set_xlabel(f"{pair['target']}, gap from {pair['measured']}")
        axes.set_ylabel(f"gap from {pair['synthetic']}")
        axes.set_title(f"ICC {pair['icc']:.2f}, corrected {pair['icc_corrected']:.2f}")
        letter(axes, mark)
        rows += [{**pair, "participant_id": p, "measured_gap": x[p], "synthetic_gap": y[p]} for p in own.index]
    return figure, rows


def draw_embedding(validation: Validation) -> Drawn:
    """First two principal components of each image's features, by sex (colour) and site (marker)."""
    table = validation.table("embedding")
    about = [validation.subjects.get(p, {}) for p in table["participant_id"]]
    table = table.assign(**{c: [row.get(c) or "n/a" for row in about] for c in ("sex", "site")})
    images = list(dict.fromkeys(table["image"]))
    sites = list(dict.fromkeys(table["site"]))
    colour = colours(sorted(set(table["sex"])))
    figure, panels = grid_of(len(images), 4, 50)
    for axes, mark, image in zip(panels, letters(), images, strict=False):
        own = table[table["image"] == image]
        for (sex, site), part in own.groupby(["sex", "site"]):
            label = sex if len(sites) == 1 else f"{sex}, {site}"
            axes.plot(
                part["pc1"],
                part["pc2"],
                linestyle="",
                marker=marker(sites.index(site)),
                markersize=2.6,
                alpha=0.7,
                markeredgewidth=0,
                color=colour[sex],
                label=label,
            )
        axes.set_xlabel(f"PC 1 ({own['share1'].iloc[0]:.0%} of variance)")
        axes.set_ylabel(f"PC 2 ({own['share2'].iloc[0]:.0%})")
        axes.set_title(image, color=INK)
        letter(axes, mark)
    legend_above(figure, panels[0])
    return figure, table[list(FIGURES["embedding"].columns)].to_dict("records")


def main(
    root: Root,
    participants: Annotated[Path, typer.Option(help="participants.tsv")],
    config: NeededConfig,
) -> None:
    """Draw the figures of the biological validation, each with its source data."""
    settings = read_config(config)
    measured = measured_of(settings.section("downstream"), settings.task, targets_of(given_in(settings)))
    out_dir = Path(figures_folder(root, "downstream"))
    draw_validation(root / "downstream", participants, measured, out_dir, settings.simulated)


def draw_validation(
    folder: Path, participants: Path, measured: Mapping[str, str | None], out_dir: Path, simulated: bool
) -> None:
    """Draw the figures of the biological validation from the tables in a folder.

    Parameters
    ----------
    folder : Path
        Folder of the tables.
    participants : Path
        participants.tsv.
    measured : mapping of str to (str or None)
        Measured image of each one that is made from the T1; None where there is none.
    out_dir : Path
        Folder of the figures.
    simulated : bool
        Whether participants are simulated.
    """
    record = read_json(folder / "downstream.json")
    kinds = {t: k for t, k in record["options"]["targets"].items() if t not in record["refused"]}
    subjects = known_participants(participants, read_table(folder / "features.tsv"))
    validation = Validation(folder, measured, kinds, subjects)
    note = f"{record['n_subjects']} participants, {record['options']['folds']} folds"
    draw_all(
        figures := of_validation(measured, "harmonised" in record),
        validation,
        out_dir,
        f"{SIMULATED}.  {note}" if simulated else note,
        {} if kinds else {"phenotypes": "No phenotype could be predicted."},
    )
    print(f"wrote {', '.join(figures)} to {out_dir}")
