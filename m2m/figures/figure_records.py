"""Every figure once: what it is called, what it says, who draws it, where it stands.

Rules, drawing and pages go through `FIGURES`; its order is that of the pages. Free of matplotlib,
pandas and numpy, since the workflow reads it whenever it is parsed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from m2m.io.modalities import MODALITIES

# Test people at most whose translations are timed: for each Snakemake looks for a file.
TIMED = 30
# Where a figure may stand in its page: of a task, of a study, of other pages.
SECTIONS = ("maps", "metrics", "uncertainty", "training", "result", "cohort", "figures")


@dataclass(frozen=True)
class FigureSpec:
    """One figure, as PDF, SVG and PNG with the numbers behind it as TSV.

    Attributes
    ----------
    title, caption : str
        In the page.
    draw : str
        "module:function": takes what the figures of its scope are drawn from, and gives a Figure
        and the rows of its source table.
    columns : tuple of str
        Of that table.
    form : {"PNG", "JPEG"}
        In the page: PNG for lines and letters, JPEG for images.
    scope : {"task", "study", "downstream", "fields"}
        What it is of: `m2m.figures.study.Study`, `m2m.figures.task_figures.Cohort`,
        `m2m.figures.downstream_figures.Validation`, `m2m.figures.field_views.Shown`.
    section : str
        Of the page, one of `SECTIONS`.
    natures : tuple of str
        Of targets that have it; empty: every one.
    targets : tuple of str
        The only ones that have it, where it is about these alone; empty: every one.
    needs : {"", "low", "phenotypes"}
        Without a task that sees a low resolution it is not made; without a phenotype that could be
        predicted it is in words.
    rounded : bool
        Whether the numbers of its table have six significant digits, not all.
    timed : bool
        Whether it shows the seconds of translations of `TIMED` test people, which Snakemake takes.
    """

    title: str
    caption: str
    draw: str
    columns: tuple[str, ...]
    form: Literal["PNG", "JPEG"] = "PNG"
    scope: Literal["task", "study", "downstream", "fields"] = "task"
    section: str = "figures"
    natures: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    needs: Literal["", "low", "phenotypes"] = ""
    rounded: bool = True
    timed: bool = False


_TASK = "m2m.figures.task_figures:"
_DOWNSTREAM = {"scope": "downstream", "needs": "phenotypes"}
_DRAW = "m2m.figures.downstream_figures:draw_"

FIGURES: dict[str, FigureSpec] = {
    "overview": FigureSpec(
        "The way from source to map",
        "Drawn from this run: a test person's source, the slices that are cut from it, the first "
        "model, and its map beside the true one.",
        _TASK + "overview_figure",
        ("unit", "shown", "plane", "position_mm", "mean"),
        form="JPEG", section="maps",
    ),
    "panel": FigureSpec(
        "The maps",
        "Source, truth, and each model's map with its error, for the test subjects with the "
        "best, the median and the worst SSIM of the first model: in three planes, with the "
        "standard deviation that the first model predicts, or, of more than three models, in "
        "axial slices.",
        _TASK + "panel_figure",
        ("rank", "unit", "plane", "position_mm", "column", "mean", "mean_absolute_error"),
        form="JPEG", section="maps",
    ),
    "projections": FigureSpec(
        "The whole map at a glance",
        "Projections of the first model's map beside the true one, for the same subjects: the "
        "maximum along each ray; of directions, the colour where FA is largest; of streamlines, "
        "where they were drawn, the mean direction of those that cross, brighter where there are "
        "more.",
        _TASK + "projections_figure",
        ("rank", "unit", "shown", "plane", "column", "quantity", "value"),
        form="JPEG", section="maps", natures=("density", "tensor"),
    ),
    "metrics": FigureSpec(
        "Every test subject under every model",
        "Each dot is one test subject, grey lines join the same subject; black: mean and 95 % "
        "bootstrap interval over subjects. Coherence of detail, r beyond the mean and histograms "
        "(their distance) are explained above.",
        _TASK + "metrics_figure",
        ("model", "participant_id", "region", "metric", "value"),
        section="metrics",
    ),
    "forest": FigureSpec(
        "The first model against each other one",
        "Paired differences on the same test subjects with 95 % bootstrap intervals, better to "
        "the right; a dot is filled where its interval leaves 0 out, one far beyond all others "
        "is a number at the edge. Of an ablation: what each change of the full model costs.",
        _TASK + "forest_figure",
        ("model", "baseline", "region", "metric", "difference", "low", "high", "n_subjects"),
        section="metrics",
    ),
    "profile": FigureSpec(
        "From the centre of the brain to its edge",
        "Quality of each axial slice inside the brain by its height above the brain's centre; "
        "bands are 95 % bootstrap intervals.",
        _TASK + "profile_figure",
        ("model", "offset_mm", "metric", "mean", "low", "high", "n_units"),
        section="metrics",
    ),
    "spectrum": FigureSpec(
        "Whether it is sharp because it is true",
        "Left: how much structure of each size the maps hold, coarse to fine (1/mm: 0.1 is "
        "detail of 5 mm and its gap). Middle: the same, of what the true map holds; below 1 a "
        "map is blurred. Right: how much of it agrees with the truth, 1 being all. A map with "
        "power near 1 and low coherence is sharp, but invented. Bands are 95 % bootstrap "
        "intervals.",
        _TASK + "spectrum_figure",
        ("model", "frequency_per_mm", "quantity", "mean", "low", "high", "n_units"),
        section="metrics",
    ),
    "rois": FigureSpec(
        "Regions of interest",
        "Mean of each region, synthetic against true, for every test subject; and, per region, "
        "the correlation of true and synthetic means across subjects.",
        _TASK + "rois_figure",
        ("model", "unit", "roi", "true", "synthetic", "n_voxels"),
        section="metrics",
    ),
    "agreement": FigureSpec(
        "How far a region's mean may be off",
        "Bland and Altman's plot: synthetic minus true mean of each region against the mean of "
        "the two, for every test subject. Black: bias; dashed: the limits between which 95 % of "
        "differences lie, in brackets, pooled over subjects and regions. A fall to the right "
        "says that high values are made too low, or low ones too high.",
        _TASK + "agreement_figure",
        ("model", "unit", "roi", "mean", "difference", "bias", "low", "high"),
        section="metrics",
    ),
    "speed": FigureSpec(
        "Quality against time",
        "Whole slices as others report them, against the median seconds in which this run's jobs "
        "made a volume, the program's start included; 95 % bootstrap intervals. Open marks: "
        "published figures of the same task, of other people and on other grids, which compare "
        "with nothing here but each other; none states a time, so they stand at the edge.",
        _TASK + "speed_figure",
        ("model", "metric", "origin", "seconds", "mean", "low", "high", "n_subjects",
         "n_timed", "reference"),
        section="metrics", targets=("fa",), timed=True,
    ),
    "bundles": FigureSpec(
        "Streamlines by bundle",
        "Length and volume of each bundle, synthetic against true, for every test subject; and "
        "the correlation of true and synthetic streamline counts over the voxels that either "
        "visits.",
        _TASK + "bundles_figure",
        ("model", "unit", "bundle", "true_n", "synthetic_n", "true_length_mm",
         "synthetic_length_mm", "true_volume_mm3", "synthetic_volume_mm3",
         "density_r"),
        section="metrics", natures=("tensor",),
    ),
    "uncertainty": FigureSpec(
        "Whether it knows where it is wrong",
        "Left: share of voxels whose error lies inside intervals of a nominal probability; below "
        "the diagonal a model is too sure of itself. Right: mean error of the voxels that are "
        "kept when the least certain are left out; the steeper, the better, and the oracle "
        "leaves out the largest errors themselves. Below: error and predicted standard deviation "
        "of the first model, on one scale, for the median test subject.",
        _TASK + "uncertainty_figure",
        ("model", "unit", "curve", "x", "y", "n_units"),
        form="JPEG", section="uncertainty",
    ),
    "training": FigureSpec(
        "Training",
        "Terms of the loss, the validation metric and the gradients of every network, by step.",
        _TASK + "training_figure",
        ("model", "split", "step", "name", "value"),
        section="training",
    ),
    "ratio": FigureSpec(
        "Quality against resolution",
        "Means of the test subjects with 95 % bootstrap intervals, by how coarse the map beside "
        "the T1 is; at the end models that see the T1 alone.",
        _TASK + "ratio_figure",
        ("task", "ratio", "model", "region", "metric", "mean", "low", "high", "n_subjects"),
        scope="study", section="result", needs="low",
    ),
    "flow": FigureSpec(
        "Who took part",
        "Flow of the cohort from the dataset to the test subjects, who left it and why; where "
        "they are known, age and sex of each part of the split.",
        _TASK + "flow_figure",
        ("step", "detail", "n"),
        scope="study", section="cohort",
    ),
    "scores": FigureSpec(
        "What predicts whom",
        "Out-of-fold predictions from each input, with 95 % intervals that know that other "
        "people would have made other predictors; dashed: chance. t1+fa: features of both "
        "images.",
        _DRAW + "scores",
        ("target", "input", "predictor", "metric", "value", "low", "high", "chance"),
        **_DOWNSTREAM,
    ),
    "regions": FigureSpec(
        "Regional means by phenotype",
        "Regions with the strongest slopes of the measured map: each person's measured and "
        "synthetic mean, with least-squares lines.",
        _DRAW + "regions",
        ("target", "region", "image", "participant_id", "x", "y"),
        **_DOWNSTREAM,
    ),
    "effects": FigureSpec(
        "Effects on regions, one image against the other",
        "Slopes (numbers) or Hedges' g (classes) of every region with 95 % intervals; dashed: "
        "equal effects. A synthetic map that knows the mean person only lies on the horizontal "
        "line.",
        _DRAW + "effects",
        ("target", "effect", "region", "reference", "image", "reference_value",
         "reference_low", "reference_high", "value", "low", "high"),
        **_DOWNSTREAM,
    ),
    "calibration": FigureSpec(
        "Calibration",
        "Fifths of the people by what the linear predictor said: mean of what it said, and of "
        "what is so. Dashed: equal.",
        _DRAW + "calibration",
        ("target", "input", "predictor", "bin", "said", "true", "n_people"),
        **_DOWNSTREAM,
    ),
    "gaps": FigureSpec(
        "Gap of each person by measured and by synthetic maps",
        "Predicted minus true value, linear predictor; of age this is the brain-age gap. ICC: "
        "absolute agreement. Both predictors shrink to the mean, which alone makes gaps agree.",
        _DRAW + "gaps",
        ("target", "measured", "synthetic", "participant_id", "measured_gap",
         "synthetic_gap", "icc", "icc_corrected"),
        **_DOWNSTREAM,
    ),
    "embedding": FigureSpec(
        "People in the space of each image's features",
        "First two principal components, by sex (colour) and site (form): what divides people "
        "before any phenotype is asked for.",
        _DRAW + "embedding",
        ("image", "participant_id", "sex", "site", "pc1", "pc2", "share1", "share2"),
        scope="downstream",
    ),
    "held_out": FigureSpec(
        "Slices that were left out",
        "One slice of so many is kept of a measured map, and what lies between is compared with "
        "the map, in log-scaled density over the voxels on no kept slice. Lines: means over "
        "people, who are the dots. Of splines along one orientation the best by PSNR is shown "
        "where there are three, which nobody could have chosen beforehand.",
        "m2m.figures.field_views:held_out_figure",
        ("every", "n_planes", "method", "unit", "psnr", "ssim", "pearson", "seconds", "n_voxels"),
        scope="fields", rounded=False,
    ),
    "fields": FigureSpec(
        "Views of fields",
        "Emission and absorption along parallel rays; colour is direction: red left to right, "
        "green back to front, blue up and down.",
        "m2m.figures.field_views:fields_figure",
        ("unit", "of", "view", "azimuth_deg", "elevation_deg", "picture", "problem"),
        scope="fields", rounded=False,
    ),
}  # fmt: skip


def of_scope(scope: str) -> dict[str, FigureSpec]:
    """Figures of a scope, by name."""
    return {name: spec for name, spec in FIGURES.items() if spec.scope == scope}


def of_target(target: str) -> dict[str, FigureSpec]:
    """Figures of a task, by what it predicts."""
    nature = MODALITIES[target].nature
    return {
        name: spec
        for name, spec in of_scope("task").items()
        if (not spec.natures or nature in spec.natures)
        and (not spec.targets or target in spec.targets)
    }


def is_timed(target: str) -> bool:
    """Whether a figure of a task shows the seconds of its translations."""
    return any(spec.timed for spec in of_target(target).values())


def of_study(sees_low: bool) -> dict[str, FigureSpec]:
    """Figures of a study, whether or not one of its tasks sees a low resolution."""
    return {
        name: spec for name, spec in of_scope("study").items() if sees_low or spec.needs != "low"
    }


def paths_of_study(targets: Mapping[str, str], sees_low: bool) -> list[str]:
    """Every figure of a study below its folder: those of its own, and of each task."""
    of_tasks = [f"{task}/{name}" for task, target in targets.items() for name in of_target(target)]
    return [*of_study(sees_low), *of_tasks]
