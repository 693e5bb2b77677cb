"""Figure of what harmonisation did: features by site, and scores by site, before and after."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from m2m.downstream.features import BIN
from m2m.downstream.prediction import CHANCE, MAIN
from m2m.figures.downstream_figures import LOWEST, NAMES, Validation, dots_with_intervals, grid_of
from m2m.figures.figure_records import FIGURES
from m2m.figures.style import INK, MUTED, PALETTE, Drawn, empty_figure, legend_above, letter, letters, marker
from m2m.options.downstream_options import T1

HOW = {"none": "before", "combat": "harmonised"}
# Distance of "before" and "harmonised" of one site, on an axis of sites.
APART = 0.36
# Names of more sites are written upwards.
MANY = 6


def regional_means(validation: Validation) -> pd.DataFrame:
    """Mean over regions of each participant's standardised features, before and after harmonisation.

    Parameters
    ----------
    validation : Validation

    Returns
    -------
    DataFrame
        Columns input, site, participant_id, before, after. Both are in units of the standard deviation before.
    """
    after = validation.table("harmonised").set_index("participant_id")
    before = validation.table("features").groupby("participant_id").mean(numeric_only=True).loc[after.index]
    found = []
    for image in (T1, *validation.images):
        own = [c for c in after if c.startswith(f"{image}:") and not c.startswith(f"{image}:{BIN}")]
        own = [c for c in own if before[c].std() > 0]
        if not own:
            continue
        standard = {
            name: ((table[own] - before[own].mean()) / before[own].std()).mean(axis=1)
            for name, table in (("before", before), ("after", after))
        }
        found.append(pd.DataFrame({"input": image, "site": after["site"], **standard}).reset_index())
    return pd.concat(found) if found else pd.DataFrame()


def _draw_features(axes: Axes, own: pd.DataFrame, sites: list[str]) -> None:
    """Participants of each site, before and after, with the means of the site."""
    for i, (column, label) in enumerate((("before", HOW["none"]), ("after", HOW["combat"]))):
        groups = [own.loc[own["site"] == site, column].to_numpy() for site in sites]
        for place, values in enumerate(groups):
            x = place + APART * (i - 0.5) + np.linspace(-0.1, 0.1, len(values))
            once = label if place == 0 else None
            axes.plot(x, np.sort(values), linestyle="", marker=marker(i), markersize=2, color=PALETTE[i], label=once)
            axes.plot(x[[0, -1]], [values.mean()] * 2, color=INK)
    axes.axhline(0, color=MUTED, linewidth=0.8, linestyle="--")
    axes.set_xticks(np.arange(len(sites)), sites, rotation=90 if len(sites) > MANY else 0)
    axes.set_ylabel("mean over regions (SD before)")


def _draw_scores(axes: Axes, own: pd.DataFrame, places: list[tuple[str, str]], metric: str) -> None:
    """Score of each site from each input, before and after."""
    for i, how in enumerate(HOW):
        rows = own[own["harmonise"] == how].set_index(["input", "site"]).reindex(places)
        y = np.arange(len(places)) + APART * (i - 0.5)
        dots_with_intervals(axes, rows, y, i)
    axes.axvline(CHANCE[metric], color=MUTED, linewidth=0.8, linestyle="--")
    axes.set_xlim(left=max(LOWEST, axes.get_xlim()[0]))
    axes.set_yticks(np.arange(len(places)), [f"{name}, {site}" for name, site in places])
    axes.invert_yaxis()
    axes.set_xlabel(NAMES[metric])


def draw_harmonisation(validation: Validation) -> Drawn:
    """Regional means by site, and scores of the linear predictor by site, before and after harmonisation."""
    means, scores = regional_means(validation), validation.table("sites")
    if means.empty:
        return empty_figure("No regions of interest: evaluation.rois.image is not set."), []
    images, sites = list(dict.fromkeys(means["input"])), sorted(set(means["site"]))
    scores = scores[scores["metric"].isin(MAIN.values()) & scores["input"].isin(images)]
    places = list(dict.fromkeys(zip(scores["input"], scores["site"], strict=True)))
    figure, panels = grid_of(len(images) + len(validation.kinds), 2, max(50, 14 + 4 * len(places)))
    for axes, mark in zip(panels, letters(), strict=False):
        letter(axes, mark)
    for axes, image in zip(panels, images, strict=False):
        _draw_features(axes, means[means["input"] == image], sites)
        axes.set_title(image)
    for axes, (target, kind) in zip(panels[len(images) :], validation.kinds.items(), strict=True):
        _draw_scores(axes, scores[scores["target"] == target], places, MAIN[kind])
        axes.set_title(target)
    legend_above(figure, panels[0])
    columns = [c for c in FIGURES["harmonisation"].columns if c in scores]
    return figure, [*means.to_dict("records"), *scores[columns].to_dict("records")]
