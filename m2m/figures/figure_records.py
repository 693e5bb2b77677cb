"""Registry of all figures: name, title, caption, drawing function and place in the page.

Rules, drawing and pages use `FIGURES`; its order is that of the pages. This module imports neither
matplotlib nor pandas nor numpy, because the workflow imports it whenever it is parsed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from m2m.io.modalities import MODALITIES
from m2m.options.downstream_options import compared_effects

# Sections of pages that a figure may be in: of a task, of a study, of other pages.
SECTIONS = ("maps", "metrics", "uncertainty", "training", "result", "cohort", "quality", "figures")


@dataclass(frozen=True)
class FigureSpec:
    """One figure, as PDF, SVG and PNG with its source data as TSV.

    Attributes
    ----------
    title, caption : str
        In the page.
    draw : str
        "module:function": takes the object of its scope and returns a Figure and the rows of its
        source table.
    columns : tuple of str
        Of the source table.
    scope : {"task", "page", "downstream", "fields", "pairs"}
        Object that it is drawn from: `m2m.figures.study.Study`, `m2m.figures.task_figures.Cohort`,
        `m2m.figures.downstream_figures.Validation`, `m2m.figures.field_views.Shown`,
        `m2m.figures.pair_panels.Pairs`.
    section : str
        Of the page, one of `SECTIONS`.
    natures : tuple of str
        Natures of targets that have it; empty: all.
    targets : tuple of str
        Targets that have it; empty: all.
    needs : {"", "low_res", "phenotypes", "visits"}
        low_res: drawn only if a task has a low-resolution input. phenotypes: contains a message if
        no phenotype could be predicted. visits: drawn only if visits are compared.
    rounded : bool
        Whether the numbers of its table are rounded to six significant digits.
    compares : {"", "measured", "pair", "sites"}
        measured: drawn only if a measured image is compared with one made from the T1. pair: also if there is no
        measured image, but the atlas. sites: drawn only if features are harmonised over sites.
    """

    title: str
    caption: str
    draw: str
    columns: tuple[str, ...]
    scope: Literal["task", "page", "downstream", "fields", "pairs"] = "task"
    section: str = "figures"
    natures: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    needs: Literal["", "low_res", "phenotypes", "visits"] = ""
    rounded: bool = True
    compares: Literal["", "measured", "pair", "sites"] = ""


_TASK = "m2m.figures.task_figures:"
_DOWNSTREAM: dict[str, Any] = {"scope": "downstream", "needs": "phenotypes"}
_DRAW = "m2m.figures.downstream_figures:draw_"

FIGURES: dict[str, FigureSpec] = {
    "overview": FigureSpec(
        "Overview of the method",
        "Drawn from this run: the source image of a test participant, its slices, the first "
        "model, and its synthetic map next to the measured map.",
        _TASK + "overview_figure",
        ("unit", "shown", "plane", "position_mm", "mean"),
        section="maps",
    ),
    "panel": FigureSpec(
        "Maps",
        "Source image, measured map, and the map of each model with its error, for the test participants with the "
        "best, the median and the worst SSIM of the first model: in three planes, with the "
        "standard deviation predicted by the first model, or, for more than three models, in "
        "axial slices only.",
        _TASK + "panel_figure",
        ("rank", "unit", "plane", "position_mm", "column", "mean", "mean_absolute_error"),
        section="maps",
    ),
    "projections": FigureSpec(
        "Maximum-intensity projections",
        "Projections of the measured map and the first model's map, for the same participants: the "
        "maximum along each ray; for directions, the colour where FA is largest; for streamlines, "
        "if available, their mean direction in each pixel, brighter where there are "
        "more streamlines.",
        _TASK + "projections_figure",
        ("rank", "unit", "shown", "plane", "column", "quantity", "value"),
        section="maps",
        natures=("density", "tensor"),
    ),
    "metrics": FigureSpec(
        "Metrics of every test participant",
        "Each dot is one test participant, grey lines connect the same participant; black: mean and 95 % "
        "interval over participants. Coherence of detail, r beyond the mean and the distance of "
        "histograms are defined above.",
        _TASK + "metrics_figure",
        ("model", "participant_id", "region", "metric", "value"),
        section="metrics",
    ),
    "forest": FigureSpec(
        "First model compared with each other model",
        "Paired differences on the same test participants with 95 % intervals; values to the right "
        "are better. A dot is filled if its p, corrected for the number of models, is at most .05; a difference far "
        "beyond all others is written as a number at the edge. In an ablation: the effect of each change to the full "
        "model.",
        _TASK + "forest_figure",
        ("model", "baseline", "region", "metric", "difference", "low", "high", "p_holm", "n_subjects"),
        section="metrics",
    ),
    "profile": FigureSpec(
        "Quality by slice position",
        "Quality of each axial slice inside the brain by its distance from the brain's centre; "
        "bands are 95 % intervals over participants, whose sessions are averaged.",
        _TASK + "profile_figure",
        ("model", "offset_mm", "metric", "mean", "low", "high", "n_subjects"),
        section="metrics",
    ),
    "spectrum": FigureSpec(
        "Sharpness and accuracy of detail",
        "Left: power of the maps by spatial frequency, from coarse to fine detail (0.1/mm corresponds to "
        "structures of 5 mm). Middle: power relative to the measured map; below 1 a "
        "map is blurred. Right: agreement with the measured map, 1 being perfect. A map with a "
        "power ratio near 1 but low coherence is sharp without being accurate. Bands are 95 % "
        "intervals over participants, whose sessions are averaged.",
        _TASK + "spectrum_figure",
        ("model", "frequency_per_mm", "quantity", "mean", "low", "high", "n_subjects"),
        section="metrics",
    ),
    "rois": FigureSpec(
        "Regions of interest",
        "Mean of each region in the synthetic versus the measured map, for every test participant; and, per region, "
        "the correlation of measured and synthetic means across participants.",
        _TASK + "rois_figure",
        ("model", "participant_id", "roi", "reference", "synthetic", "n_voxels"),
        section="metrics",
    ),
    "agreement": FigureSpec(
        "Agreement of regional means",
        "Bland-Altman plot: synthetic minus measured mean of each region versus the mean of "
        "the two, for every test participant. Black: bias; dashed: 95 % limits of agreement, "
        "given in brackets, pooled over participants and regions. A downward trend means that high "
        "values are underestimated or low values overestimated.",
        _TASK + "agreement_figure",
        ("model", "participant_id", "roi", "mean", "difference", "bias", "low", "high"),
        section="metrics",
    ),
    "speed": FigureSpec(
        "Quality versus computation time",
        "Metrics in the brain, with 95 % intervals, versus the median time of the translations of this run that made "
        "these maps: all views of a volume, mirrored ones where the model has them, reading and writing.",
        _TASK + "speed_figure",
        ("model", "metric", "seconds", "mean", "low", "high", "n_subjects", "n_timed"),
        section="metrics",
        targets=("fa",),
    ),
    "bundles": FigureSpec(
        "Streamlines by bundle",
        "Length and volume of each bundle, synthetic versus measured, for every test participant; and "
        "the correlation of measured and synthetic streamline counts over the voxels that either "
        "visits.",
        _TASK + "bundles_figure",
        (
            "model",
            "participant_id",
            "bundle",
            "reference_n",
            "synthetic_n",
            "reference_length_mm",
            "synthetic_length_mm",
            "reference_volume_mm3",
            "synthetic_volume_mm3",
            "density_r",
            "dice",
        ),
        section="metrics",
        natures=("tensor",),
    ),
    "bundle_profiles": FigureSpec(
        "Profiles along bundles",
        "Measured map of the median test participant, the first model's map with its 95 % interval, and the atlas, "
        "along bundles of HCP1065 (Yeh 2022, CC BY-SA 4.0), which are deformed to the T1 as the atlas is. The interval "
        "is conservative: as if all errors of a bundle had one sign. Bottom: mean error of each along each bundle.",
        "m2m.figures.profile_figure:bundle_profiles_figure",
        ("unit", "bundle", "position", "measured", "synthetic", "low", "high", "atlas"),
        section="maps",
        targets=("fa", "md"),
    ),
    "uncertainty": FigureSpec(
        "Predicted uncertainty and error",
        "Left: share of voxels whose error is inside intervals of a nominal probability; below "
        "the diagonal a model is overconfident. Right: mean error of the remaining voxels "
        "when the least certain are left out; steeper is better, and the oracle "
        "leaves out the largest errors. Bottom: error and predicted standard deviation "
        "of the first model, on one scale, for the median test participant.",
        _TASK + "uncertainty_figure",
        ("model", "unit", "curve", "x", "y", "n_subjects"),
        section="uncertainty",
    ),
    "training": FigureSpec(
        "Training curves",
        "Terms of the loss, validation metric and gradient norms of every network, by training step.",
        _TASK + "training_figure",
        ("model", "split", "step", "name", "value"),
        section="training",
    ),
    "ratio": FigureSpec(
        "Quality versus resolution",
        "Means over test participants with 95 % intervals, by the resolution of the map that is used "
        "with the T1; at the right, models with the T1 as their only input.",
        _TASK + "ratio_figure",
        ("task", "ratio", "model", "region", "metric", "mean", "low", "high", "n_subjects"),
        scope="page",
        section="result",
        needs="low_res",
    ),
    "visits": FigureSpec(
        "Two visits of each participant",
        "A line for each task. Left: change of the mean over all regions between two visits of a test participant, in "
        "each map and, if simulated, the noise-free one, versus the measured change; dashed: equal changes. Right: "
        "ICC(2,1) of the two visits of each region; of visits of one day where there are any, otherwise of visits "
        "years apart, whose ICC also falls with what has changed. Intervals are in visits.tsv.",
        _TASK + "visits_figure",
        ("task", "panel", "interval", "image", "participant_id", "roi", "measured_change", "change", "icc"),
        scope="page",
        section="result",
        needs="visits",
    ),
    "quality": FigureSpec(
        "Quality numbers and their limits",
        "Every number that a scan is checked by, for each participant and session that has it; dashed: limits in the "
        "configuration, beyond which a scan fails or is excluded with a finding. What each number and limit means is "
        "in the documentation of the methods.",
        _TASK + "quality_figure",
        ("unit", "state", "number", "value", "low", "high"),
        scope="page",
        section="quality",
    ),
    "flow": FigureSpec(
        "Participant flow",
        "Flow of participants from the dataset to the test set, with the numbers and reasons of exclusion; where "
        "known, age and sex of each part of the split.",
        _TASK + "flow_figure",
        ("step", "detail", "n"),
        scope="page",
        section="cohort",
    ),
    "scores": FigureSpec(
        "Prediction of phenotypes from each input",
        "Out-of-fold predictions, with 95 % intervals that include the variation due to the choice of "
        "training participants; dashed: chance level. t1+fa: features of both "
        "images.",
        _DRAW + "scores",
        ("target", "input", "predictor", "metric", "value", "low", "high", "chance"),
        **_DOWNSTREAM,
    ),
    "regions": FigureSpec(
        "Regional means by phenotype",
        "Regions with the strongest slopes in the first of two images, which is the measured one where there is one: "
        "mean of each participant, with least-squares lines.",
        _DRAW + "regions",
        ("target", "region", "image", "participant_id", "x", "y"),
        **_DOWNSTREAM,
    ),
    "effects": FigureSpec(
        "Regional effects in two images",
        "Slopes (numeric phenotypes) or Hedges' g (classes) of every region with 95 % intervals; dashed: "
        "equal effects. Effects in a map that is the same for all participants are on the horizontal "
        "line.",
        _DRAW + "effects",
        (
            "target",
            "effect",
            "region",
            "reference",
            "image",
            "reference_value",
            "reference_low",
            "reference_high",
            "value",
            "low",
            "high",
        ),
        compares="pair",
        **_DOWNSTREAM,
    ),
    "calibration": FigureSpec(
        "Calibration",
        "Participants in quintiles of the linear predictor's value: mean predicted and mean actual value, with the "
        "latter's 95 % interval (exact for shares). Dashed: perfect calibration.",
        _DRAW + "calibration",
        ("target", "input", "predictor", "bin", "predicted", "actual", "low", "high", "n_subjects"),
        **_DOWNSTREAM,
    ),
    "gaps": FigureSpec(
        "Prediction gaps from measured and from synthetic maps",
        "Predicted minus actual value, linear predictor; for age this is the brain-age gap. ICC: "
        "absolute agreement. Both predictors are biased towards the mean, which by itself makes gaps agree.",
        _DRAW + "gaps",
        ("target", "measured", "synthetic", "participant_id", "measured_gap", "synthetic_gap", "icc", "icc_corrected"),
        compares="measured",
        **_DOWNSTREAM,
    ),
    "embedding": FigureSpec(
        "Principal components of each image's features",
        "First two principal components, by sex (colour) and site (marker): variation between participants "
        "before any phenotype is predicted.",
        _DRAW + "embedding",
        ("image", "participant_id", "sex", "site", "pc1", "pc2", "share1", "share2"),
        scope="downstream",
    ),
    "harmonisation": FigureSpec(
        "What harmonisation did",
        "Top: mean over regions of each participant's features, in standard deviations before harmonisation; each "
        "participant's are harmonised as the other folds say, bars are means of sites. Bottom: scores of the linear "
        "predictor among all participants and among those of each site, with 95 % intervals where there are enough "
        "folds; dashed: chance level.",
        "m2m.figures.site_figures:draw_harmonisation",
        ("target", "input", "site", "participant_id", "before", "after", "harmonise", "value", "low", "high"),
        compares="sites",
        **_DOWNSTREAM,
    ),
    "held_out": FigureSpec(
        "Held-out slices",
        "One in every few slices of a measured map is kept; the values predicted between them are compared with "
        "the map, in log-scaled density over the voxels outside the kept slices. Lines: means over "
        "participants; dots: participants. Of splines along one of three orientations the one with the best PSNR "
        "is shown, which favours them because it cannot be known in advance.",
        "m2m.figures.field_views:held_out_figure",
        ("every", "n_planes", "method", "participant_id", "psnr", "ssim", "pearson", "seconds", "n_voxels"),
        scope="fields",
        rounded=False,
    ),
    "fields": FigureSpec(
        "Views of continuous fields",
        "Emission and absorption along parallel rays; colours show direction: red left to right, "
        "green back to front, blue up and down.",
        "m2m.figures.field_views:fields_figure",
        ("unit", "of", "view", "azimuth_deg", "elevation_deg", "image", "problem"),
        scope="fields",
        rounded=False,
    ),
    "pairs": FigureSpec(
        "Real pairs",
        "T1 and measured map of real participants, map of the first weights and of the atlas, deformed to the T1, and "
        "their differences from the measured one, in the axial slice through the middle of what was measured; r in the "
        "brain. No network was trained on these participants.",
        "m2m.figures.pair_panels:draw_pairs",
        ("unit", "position_mm", "column", "mean", "mean_absolute_error", "r"),
        scope="pairs",
    ),
}


def of_scope(scope: str) -> dict[str, FigureSpec]:
    """Figures of a scope, by name."""
    return {name: spec for name, spec in FIGURES.items() if spec.scope == scope}


def of_validation(measured_of: Mapping[str, str | None], harmonised: bool = False) -> dict[str, FigureSpec]:
    """Figures of the biological validation, by name.

    Parameters
    ----------
    measured_of : mapping of str to (str or None)
        Measured image of each one that is made from the T1; None where there is none.
    harmonised : bool
        Whether features are harmonised over sites.
    """
    there = {"": True, "measured": any(measured_of.values()), "pair": bool(compared_effects(measured_of))}
    there["sites"] = harmonised
    return {name: spec for name, spec in of_scope("downstream").items() if there[spec.compares]}


def of_target(target: str) -> dict[str, FigureSpec]:
    """Figures of a task with this target, by name."""
    nature = MODALITIES[target].nature
    return {
        name: spec
        for name, spec in of_scope("task").items()
        if (not spec.natures or nature in spec.natures) and (not spec.targets or target in spec.targets)
    }


def of_page(uses_low_res: bool, visits: bool = False) -> dict[str, FigureSpec]:
    """Figures of a study, by name, with or without those that need a low-resolution input or compared visits."""
    there = {"": True, "low_res": uses_low_res, "visits": visits}
    return {name: spec for name, spec in of_scope("page").items() if there[spec.needs]}


def paths_of_page(targets: Mapping[str, str], uses_low_res: bool, visits: bool = False) -> list[str]:
    """Paths of all figures below a study's folder: its own figures, and those of each task."""
    of_tasks = [f"{task}/{name}" for task, target in targets.items() for name in of_target(target)]
    return [*of_page(uses_low_res, visits), *of_tasks]
