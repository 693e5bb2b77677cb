"""Every metric once: how it is computed, of what, how it is written, where it stands.

Evaluation, comparison, figures, the report's tables and words, and the table in docs/data.md go
through `METRICS`; its order is that of the columns of metrics.tsv and of the rows of summary.tsv.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from m2m.evaluate import metrics as measures
from m2m.evaluate import pairs
from m2m.evaluate.pairs import Measure, Pair, of_images

# In the order of the report's tables.
REGIONS = {
    "brain": "brain", "wm": "white matter", "rois": "ROIs", "bundles": "bundles",
    "slice": "whole slices", "truth": "brain, against the simulated truth",
}  # fmt: skip


@dataclass(frozen=True)
class Panel:
    """A panel of a figure.

    Attributes
    ----------
    region : str
    place : int
        Panels stand in this order.
    natures : tuple of str
        Of targets (`m2m.io.modalities`) that have the panel; empty: every one.
    """

    region: str
    place: int
    natures: tuple[str, ...] = ()


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes
    ----------
    title : str
        In tables.
    digits : int
        After the point, in tables.
    better : str
        higher, lower, or nearer to a number.
    regions : tuple of str
        Where it is computed.
    description : str
        For docs/data.md.
    measure : callable or None
        Gives the value of a region (slice, brain, wm) of a `Pair`; NaN where it has none.
    source : str
        Where `measure` is None: what computes it together with other numbers.
    unit : str
    natures : tuple of str
        Of targets (`m2m.io.modalities`) that have it; empty: every one.
    short : str
        In figures; `title` where empty.
    headlines : mapping of str to str
        Region to name, where it is one of the main results.
    leads : bool
        Whether the report's tables begin with it.
    of_people : bool
        Whether it is of all people together, so that it has no column in metrics.tsv.
    panels, forest : tuple of Panel
        Of the figures `metrics` and `forest`.
    """

    title: str
    digits: int
    better: str
    regions: tuple[str, ...]
    description: str
    measure: Measure | None = None
    source: str = ""
    unit: str = ""
    natures: tuple[str, ...] = ()
    short: str = ""
    headlines: Mapping[str, str] = field(default_factory=dict)
    leads: bool = False
    of_people: bool = False
    panels: tuple[Panel, ...] = ()
    forest: tuple[Panel, ...] = ()

    @property
    def label(self) -> str:
        """Its name in figures."""
        return self.short or self.title


_IMAGE = {
    "regions": ("slice", "brain", "wm", "truth"),
    "source": "m2m.evaluate.metrics:region_metrics",
}
_SPECTRUM = {"regions": ("brain",), "source": "m2m.evaluate.spectra:spectrum"}
_TRUST = {"regions": ("brain",), "source": "m2m.evaluate.uncertainty_scores:compare_uncertainty"}
_ROIS = {"regions": ("rois",), "source": "m2m.evaluate.regions:agreement"}
_BUNDLES = {
    "regions": ("bundles",), "source": "m2m.evaluate.streamlines:agreement",
    "natures": ("tensor",),
}  # fmt: skip
# Natures of targets that are images by themselves.
_MAPS = ("scalar", "density")

METRICS: dict[str, Metric] = {
    "psnr": Metric(
        "PSNR (dB)", 2, "higher", **_IMAGE, unit="dB",
        description="peak signal-to-noise ratio",
        headlines={"brain": "brain PSNR (dB)"},
        panels=(Panel("brain", 2), Panel("wm", 6, _MAPS)), forest=(Panel("brain", 1),),
    ),
    "ssim": Metric(
        "SSIM", 3, "higher", **_IMAGE, leads=True,
        description="structural similarity of axial slices",
        headlines={"brain": "brain SSIM"},
        panels=(Panel("brain", 1), Panel("wm", 5, _MAPS)), forest=(Panel("brain", 2),),
    ),
    "mae": Metric(
        "mean absolute error", 4, "lower", **_IMAGE, short="MAE",
        description="mean absolute error",
        panels=(Panel("brain", 3), Panel("wm", 7, ("scalar",))),
        forest=(Panel("wm", 3, ("scalar",)),),
    ),
    "pearson": Metric(
        "Pearson's r", 3, "higher", **_IMAGE,
        description="Pearson's r over voxels",
        panels=(Panel("brain", 4, _MAPS),),
    ),
    "residual_r": Metric(
        "Pearson's r beyond the mean map", 3, "higher", ("brain",),
        "Pearson's r of both maps minus the training people's mean map, where the task has one "
        "that is another model",
        pairs.residual_r, short="r beyond the mean", panels=(Panel("brain", 16),),
    ),
    "lpips": Metric(
        "LPIPS", 4, "lower", ("brain",),
        "mean LPIPS of axial slices, where it can be computed",
        pairs.lpips,
    ),
    "histogram_distance": Metric(
        "distance of histograms", 4, "lower", ("wm",),
        "Wasserstein's distance of both maps' values",
        of_images(measures.histogram_distance), short="histograms", panels=(Panel("wm", 17),),
    ),
    "mean_error": Metric(
        "mean error (synthetic minus true)", 4, "nearer 0", ("wm",),
        "mean difference over voxels, of what mae is of: whether a model drifts",
        of_images(measures.mean_error),
    ),
    "sharpness_ratio": Metric(
        "sharpness ratio", 3, "nearer 1", ("brain",),
        "mean gradient of the synthetic over that of the true map",
        of_images(measures.sharpness_ratio), panels=(Panel("brain", 14),),
    ),
    "spectrum_error": Metric(
        "error of log power", 3, "lower", **_SPECTRUM,
        description="mean size of log10 of the ratio of power spectra above 0.02/mm",
    ),
    "high_coherence": Metric(
        "coherence of fine detail", 3, "higher", **_SPECTRUM, short="coherence of detail",
        description="Fourier shell correlation, mean over the upper half of the frequencies",
        panels=(Panel("brain", 15),),
    ),
    "calibration_error": Metric(
        "calibration error", 3, "lower", **_TRUST,
        description="mean distance of the calibration curve from the diagonal, where there is a "
        "map of standard deviations",
    ),
    "coverage_95": Metric(
        "coverage of 95 % intervals", 3, "nearer 0.95", **_TRUST,
        description="share of errors inside the 95 % interval",
    ),
    "sd_error_r": Metric(
        "Spearman's r of predicted and true error", 3, "higher", **_TRUST,
        description="Spearman's r of standard deviations and errors",
    ),
    "retention_gain": Metric(
        "retention gain", 3, "higher", **_TRUST,
        description="how much lower the error is, averaged over the shares of voxels kept, than "
        "without leaving any out",
    ),
    "concordance": Metric(
        "Lin's concordance", 3, "higher", **_ROIS, short="ROI concordance",
        description="Lin's concordance of a person's regional means",
        headlines={"rois": "ROI concordance"},
        panels=(Panel("rois", 12),), forest=(Panel("rois", 6),),
    ),
    "bias": Metric(
        "bias (synthetic minus true)", 4, "nearer 0", **_ROIS,
        description="mean difference of a person's regional means",
    ),
    "dice": Metric(
        "Dice of tracts", 3, "higher", ("brain",),
        "overlap of the voxels denser than evaluation.density_threshold",
        pairs.tract_dice, natures=("density",),
        headlines={"brain": "Dice of tracts"},
        panels=(Panel("brain", 8),), forest=(Panel("brain", 4),),
    ),
    "md_mae_um2_per_ms": Metric(
        "mean absolute error of MD (µm²/ms)", 4, "lower", ("brain",),
        "mean absolute error of mean diffusivity",
        pairs.md_error, unit="µm²/ms", natures=("tensor",), short="MAE of MD (µm²/ms)",
        panels=(Panel("brain", 11),),
    ),
    "angle_deg": Metric(
        "angle between directions (°, median)", 1, "lower", ("wm",),
        "median angle between principal directions where true FA is above .2",
        pairs.direction_angle, unit="°", natures=("tensor",), short="angle (°)",
        headlines={"wm": "angle in white matter (°)"},
        panels=(Panel("wm", 9),), forest=(Panel("wm", 5),),
    ),
    "log_distance": Metric(
        "log-Euclidean distance", 3, "lower", ("brain",),
        "mean log-Euclidean distance of tensors",
        pairs.tensor_distance, natures=("tensor",), short="log distance",
        panels=(Panel("brain", 10),),
    ),
    "length_concordance": Metric(
        "Lin's concordance of lengths", 3, "higher", **_BUNDLES,
        description="Lin's concordance of bundles' mean lengths",
    ),
    "volume_concordance": Metric(
        "Lin's concordance of volumes", 3, "higher", **_BUNDLES,
        description="Lin's concordance of bundles' volumes",
    ),
    "density_r": Metric(
        "density r", 3, "higher", **_BUNDLES,
        description="Pearson's r of streamline counts over the voxels that either visits, mean of "
        "bundles",
        headlines={"bundles": "bundle density r"}, panels=(Panel("bundles", 13),),
    ),
    "identification": Metric(
        "identification rate", 2, "higher", ("rois",),
        "whether a person's synthetic regional means are nearest to that person's own true ones "
        "(summary.tsv and comparison.tsv only)",
        source="m2m.evaluate.metrics:identified", of_people=True,
    ),
    "correlation_across_people": Metric(
        "Pearson's r across people, mean of ROIs", 3, "higher", ("rois",),
        "Pearson's r over people of each region's mean (summary.tsv only)",
        source="m2m.evaluate.metrics:correlation_across_people", of_people=True,
    ),
}  # fmt: skip


def has(natures: tuple[str, ...], nature: str) -> bool:
    """Whether something is of targets of this nature; without any natures it is of all."""
    return not natures or nature in natures


def columns() -> list[str]:
    """Metrics of one person: columns of metrics.tsv."""
    return [name for name, metric in METRICS.items() if not metric.of_people]


def in_report() -> dict[str, Metric]:
    """Metrics in the order of the report's tables."""
    return dict(sorted(METRICS.items(), key=lambda item: not item[1].leads))


def headlines() -> dict[tuple[str, str], str]:
    """Name of each main result, by region and metric."""
    return {
        (region, name): title
        for name, metric in in_report().items()
        for region, title in metric.headlines.items()
    }


def panels(figure: str, nature: str) -> list[tuple[str, str]]:
    """Region and metric of each panel of the figure `metrics` or `forest`, in order."""
    found = [
        (panel.place, panel.region, name)
        for name, metric in METRICS.items()
        for panel in (metric.forest if figure == "forest" else metric.panels)
        if has(metric.natures, nature) and has(panel.natures, nature)
    ]
    return [(region, name) for _, region, name in sorted(found)]


def measured(pair: Pair, nature: str) -> dict[str, dict[str, float]]:
    """Compute every metric that has a function of its own, by region.

    Parameters
    ----------
    pair : Pair
    nature : str
        Of the target.
    """
    values: dict[str, dict[str, float]] = {region: {} for region in pair.regions}
    for name, metric in METRICS.items():
        if metric.measure is not None and has(metric.natures, nature):
            for region in metric.regions:
                values[region][name] = metric.measure(pair, region)
    return values
