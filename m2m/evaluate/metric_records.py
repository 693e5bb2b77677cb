"""One record per metric: how it is computed, for which regions and targets, its texts, its place in figures.

Evaluation, comparison, figures, the report's tables and text, and the table in docs/data.md all read
`METRICS`; its order is that of the columns of metrics.tsv and of the rows of summary.tsv.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from m2m.evaluate import metrics as measures
from m2m.evaluate import pairs
from m2m.evaluate.pairs import Measure, Pair, of_images

# In the order of the report's tables.
REGIONS = {
    "brain": "brain",
    "wm": "white matter",
    "rois": "ROIs",
    "bundles": "bundles",
    "slice": "whole slices",
    "central": "central slices",
    "truth": "brain, against the simulated truth",
}


@dataclass(frozen=True)
class Panel:
    """A panel of a figure.

    Attributes
    ----------
    region : str
    place : int
        Position in the figure.
    natures : tuple of str
        Natures of the targets (`m2m.io.modalities`) that have the panel; empty: all.
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
        Name in tables.
    digits : int
        Digits after the decimal point, in tables.
    better : str
        higher, lower, or nearer to a number.
    regions : tuple of str
        Regions in which it is computed.
    description : str
        Text for docs/data.md.
    measure : callable or None
        Computes the value of a region (slice, brain, wm) of a `Pair`; NaN where it is undefined.
    source : str
        Where `measure` is None: function that computes it together with other values.
    unit : str
    natures : tuple of str
        Natures of the targets (`m2m.io.modalities`) that have it; empty: all.
    short : str
        Name in figures; `title` where empty.
    headlines : mapping of str to str
        Name by region, where it is one of the main results.
    leads : bool
        Whether it comes first in the report's tables.
    of_units : bool
        Whether it is computed over all participants together, so that it has no column in metrics.tsv.
    is_rate : bool
        Whether a participant's value is 1 or 0, so that the mean is a rate.
    panels, forest : tuple of Panel
        Panels of the figures `metrics` and `forest`.
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
    of_units: bool = False
    is_rate: bool = False
    panels: tuple[Panel, ...] = ()
    forest: tuple[Panel, ...] = ()

    @property
    def label(self) -> str:
        """Name in figures."""
        return self.short or self.title


_image = partial(
    Metric, regions=("slice", "central", "brain", "wm", "truth"), source="m2m.evaluate.metrics:region_metrics"
)
_spectrum = partial(Metric, regions=("brain",), source="m2m.evaluate.spectra:spectrum")
_uncertainty = partial(Metric, regions=("brain",), source="m2m.evaluate.uncertainty_scores:compare_uncertainty")
_rois = partial(Metric, regions=("rois",), source="m2m.evaluate.regions:agreement")
_bundles = partial(Metric, regions=("bundles",), source="m2m.evaluate.streamlines:agreement", natures=("tensor",))
# Natures of targets whose values form an image directly.
_MAPS = ("scalar", "density")

METRICS: dict[str, Metric] = {
    "psnr": _image(
        "PSNR (dB)",
        2,
        "higher",
        unit="dB",
        description="peak signal-to-noise ratio",
        headlines={"brain": "brain PSNR (dB)"},
        panels=(Panel("brain", 2), Panel("wm", 6, _MAPS)),
        forest=(Panel("brain", 1),),
    ),
    "ssim": _image(
        "SSIM",
        3,
        "higher",
        leads=True,
        description="structural similarity of axial slices",
        headlines={"brain": "brain SSIM"},
        panels=(Panel("brain", 1), Panel("wm", 5, _MAPS)),
        forest=(Panel("brain", 2),),
    ),
    "mae": _image(
        "mean absolute error",
        4,
        "lower",
        short="MAE",
        description="mean absolute error",
        panels=(Panel("brain", 3), Panel("wm", 7, ("scalar",))),
        forest=(Panel("wm", 3, ("scalar",)),),
    ),
    "pearson": _image(
        "Pearson's r",
        3,
        "higher",
        description="Pearson's r over voxels",
        panels=(Panel("brain", 4, _MAPS),),
    ),
    "ms_ssim": Metric(
        "MS-SSIM", 3, "higher", ("slice",), "of the volume, if asked for", source="m2m.evaluate.multiscale:ms_ssim"
    ),
    "residual_r": Metric(
        "Pearson's r beyond the mean map",
        3,
        "higher",
        ("brain",),
        "Pearson's r of both maps minus the mean map of the training part, where the task has such a model",
        pairs.residual_r,
        short="r beyond the mean",
        panels=(Panel("brain", 16),),
    ),
    "lpips": Metric(
        "LPIPS", 4, "lower", ("brain",), "mean LPIPS of axial slices, where it can be computed", pairs.lpips
    ),
    "histogram_distance": Metric(
        "distance of histograms",
        4,
        "lower",
        ("wm",),
        "Wasserstein's distance of both maps' values",
        of_images(measures.histogram_distance),
        short="histograms",
        panels=(Panel("wm", 17),),
    ),
    "mean_error": Metric(
        "mean error (synthetic minus reference)",
        4,
        "nearer 0",
        ("wm",),
        "mean difference over voxels of the same image as mae: systematic over- or underestimation",
        of_images(measures.mean_error),
    ),
    "sharpness_ratio": Metric(
        "sharpness ratio",
        3,
        "nearer 1",
        ("brain",),
        "mean gradient of the synthetic map over that of the reference map",
        of_images(measures.sharpness_ratio),
        panels=(Panel("brain", 14),),
    ),
    "spectrum_error": _spectrum(
        "error of log power",
        3,
        "lower",
        description="mean absolute log10 of the ratio of power spectra above 0.02/mm",
    ),
    "high_coherence": _spectrum(
        "coherence of fine detail",
        3,
        "higher",
        short="coherence of detail",
        description="Fourier shell correlation, mean over the upper half of the frequencies",
        panels=(Panel("brain", 15),),
    ),
    "calibration_error": _uncertainty(
        "calibration error",
        3,
        "lower",
        description="mean distance of the calibration curve from the diagonal, where there is a "
        "map of standard deviations",
    ),
    "coverage_95": _uncertainty(
        "coverage of 95 % intervals",
        3,
        "nearer 0.95",
        description="share of errors inside the 95 % interval",
    ),
    "sd_error_r": _uncertainty(
        "Spearman's r of predicted and actual error",
        3,
        "higher",
        description="Spearman's r of standard deviations and errors",
    ),
    "retention_gain": _uncertainty(
        "retention gain",
        3,
        "higher",
        description="relative decrease of the mean error when the least certain voxels are left out, averaged over "
        "the shares of voxels kept",
    ),
    "concordance": _rois(
        "Lin's concordance",
        3,
        "higher",
        short="ROI concordance",
        description="Lin's concordance of a participant's regional means",
        headlines={"rois": "ROI concordance"},
        panels=(Panel("rois", 12),),
        forest=(Panel("rois", 6),),
    ),
    "bias": _rois(
        "bias (synthetic minus reference)",
        4,
        "nearer 0",
        description="mean difference of a participant's regional means",
    ),
    "dice": Metric(
        "Dice of tracts",
        3,
        "higher",
        ("brain",),
        "overlap of the voxels denser than evaluation.density_threshold",
        pairs.tract_dice,
        natures=("density",),
        headlines={"brain": "Dice of tracts"},
        panels=(Panel("brain", 8),),
        forest=(Panel("brain", 4),),
    ),
    "md_mae_um2_per_ms": Metric(
        "mean absolute error of MD (µm²/ms)",
        4,
        "lower",
        ("brain",),
        "mean absolute error of mean diffusivity",
        pairs.md_error,
        unit="µm²/ms",
        natures=("tensor",),
        short="MAE of MD (µm²/ms)",
        panels=(Panel("brain", 11),),
    ),
    "angle_deg": Metric(
        "angle between directions (°, median)",
        1,
        "lower",
        ("wm",),
        "median angle between principal directions where reference FA is above .2",
        pairs.direction_angle,
        unit="°",
        natures=("tensor",),
        short="angle (°)",
        headlines={"wm": "angle in white matter (°)"},
        panels=(Panel("wm", 9),),
        forest=(Panel("wm", 5),),
    ),
    "log_distance": Metric(
        "log-Euclidean distance",
        3,
        "lower",
        ("brain",),
        "mean log-Euclidean distance of tensors",
        pairs.tensor_distance,
        natures=("tensor",),
        short="log distance",
        panels=(Panel("brain", 10),),
    ),
    "length_concordance": _bundles(
        "Lin's concordance of lengths",
        3,
        "higher",
        description="Lin's concordance of bundles' mean lengths",
    ),
    "volume_concordance": _bundles(
        "Lin's concordance of volumes",
        3,
        "higher",
        description="Lin's concordance of bundles' volumes",
    ),
    "density_r": _bundles(
        "density r",
        3,
        "higher",
        description="Pearson's r of streamline counts over the voxels that either tractogram visits, mean of bundles",
        headlines={"bundles": "bundle density r"},
        panels=(Panel("bundles", 13),),
    ),
    "bundle_dice": _bundles(
        "Dice of bundles", 3, "higher", description="overlap of the voxels that streamlines visit, mean of bundles"
    ),
    "identification": Metric(
        "identification rate",
        2,
        "higher",
        ("rois",),
        "whether a participant's synthetic regional means are nearest to that participant's own reference ones "
        "(summary.tsv and comparison.tsv only)",
        source="m2m.evaluate.identification:identified",
        of_units=True,
        is_rate=True,
    ),
    "correlation_across_participants": Metric(
        "Pearson's r across participants, mean of ROIs",
        3,
        "higher",
        ("rois",),
        "Pearson's r over participants of each region's mean (summary.tsv only)",
        source="m2m.evaluate.identification:correlation_across_participants",
        of_units=True,
    ),
}


def has(natures: tuple[str, ...], nature: str) -> bool:
    """Whether a metric or panel applies to targets of this nature; with no natures listed it applies to all."""
    return not natures or nature in natures


def columns() -> list[str]:
    """List the metrics of one participant: columns of metrics.tsv."""
    return [name for name, metric in METRICS.items() if not metric.of_units]


def in_report() -> dict[str, Metric]:
    """Sort the metrics as in the report's tables."""
    return dict(sorted(METRICS.items(), key=lambda item: not item[1].leads))


def headlines() -> dict[tuple[str, str], str]:
    """Name of each main result, by region and metric."""
    return {(region, name): title for name, metric in in_report().items() for region, title in metric.headlines.items()}


def panels(figure: str, nature: str) -> list[tuple[str, str]]:
    """List region and metric of each panel of the figure `metrics` or `forest`, in order."""
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
        Nature of the target.

    Returns
    -------
    dict
        By region: value of each metric.
    """
    values: dict[str, dict[str, float]] = {region: {} for region in pair.regions}
    for name, metric in METRICS.items():
        if metric.measure is not None and has(metric.natures, nature):
            for region in metric.regions:
                values[region][name] = metric.measure(pair, region)
    return values
