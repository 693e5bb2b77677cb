"""Comparison of one unit's synthetic map with the measured one (the reference).

Whole-slice values are reported next to those of the brain and of the white matter for comparison
with the literature only: they are mostly background. Lin's concordance is over a participant's ROI
means. `m2m.evaluate.measured_maps` defines which image of each modality is compared.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.evaluate import metrics as measures
from m2m.evaluate import regions as roi
from m2m.evaluate import streamlines as tracts
from m2m.evaluate.measured_maps import compared
from m2m.evaluate.metric_records import measured
from m2m.evaluate.multiscale import ms_ssim
from m2m.evaluate.pairs import Pair
from m2m.evaluate.perceptual import Perceptual
from m2m.evaluate.spectra import spectrum
from m2m.evaluate.uncertainty_scores import compare_uncertainty
from m2m.io import volume
from m2m.io.bids import unit_path
from m2m.io.errors import DataError
from m2m.io.masks import in_mask
from m2m.io.modalities import MODALITIES
from m2m.options import Evaluation
from m2m.structural.slices import central


@dataclass(frozen=True)
class Comparison:
    """Inputs and options of the evaluation of one model.

    Attributes
    ----------
    target : str
        Modality.
    root, synthetic_root : Path
        Datasets of the measured and of the synthetic maps.
    options : Evaluation
    labels_of : RoiSource or None
        Loads the label image of the regions of interest; None without one.
    names : dict of int to str
        Names of regions by label.
    perceptual : callable or None
        Computes LPIPS; None where it is not available.
    mean_root : Path or None
        Dataset of the mean map's volumes; None without one, or where the model is the mean map itself.
    streamlines : bool
        Whether synthetic streamlines are compared as well.
    """

    target: str
    root: Path
    synthetic_root: Path
    options: Evaluation
    labels_of: roi.RoiSource | None
    names: dict[int, str]
    perceptual: Perceptual | None = None
    mean_root: Path | None = None
    streamlines: bool = False


def evaluate_unit(unit: dict[str, str], comparison: Comparison) -> dict[str, list[dict[str, Any]]]:
    """Compare one unit's synthetic map, and streamlines, with the measured ones.

    Parameters
    ----------
    unit : dict
        unit, folder, participant_id.
    comparison : Comparison

    Returns
    -------
    dict
        Rows of each of `TABLES`.

    Raises
    ------
    DataError
        A map is missing, empty (its stage failed) or unreadable.
    """
    where, options = (unit["folder"], unit["unit"]), comparison.options
    modality = MODALITIES[comparison.target]
    reference = volume.load(unit_path(comparison.root, modality.kind, *where))
    synthetic = volume.load(unit_path(comparison.synthetic_root, modality.synthetic, *where))
    masks = {k: volume.load(unit_path(comparison.root, k, *where)) for k in ("target-mask", "wm")}
    for name, image in {"synthetic map": synthetic, **masks}.items():
        volume.require_same_grid(reference, image, f"{unit['unit']}, measured map and {name}")
    brain = in_mask(masks["target-mask"].data)
    regions = {
        "slice": np.ones_like(brain),
        "brain": brain,
        "wm": brain & in_mask(masks["wm"].data),
    }
    if options.central_share < 1:
        regions["central"] = central_slices(brain, options.central_share)
    a, b = (compared(comparison.target, image.data) for image in (reference, synthetic))
    values, similarity = measures.region_metrics(a.image, b.image, brain, regions)
    pair = Pair(
        a,
        b,
        regions,
        options.density_threshold,
        mean_image(unit, comparison) if brain.any() else None,
        comparison.perceptual,
    )
    for region, numbers in measured(pair, modality.nature).items():
        values[region] |= numbers
    if options.ms_ssim:
        values["slice"]["ms_ssim"] = ms_ssim(np.where(brain, a.image, 0), np.where(brain, b.image, 0))
    if options.truth is not None and modality.truth:
        values["truth"] = against_truth(unit, synthetic, brain, comparison)
    curves = []
    if brain.any():
        fine = spectrum(a.image, b.image, brain, reference.spacing_mm)
        curves = fine.rows()
        values["brain"] |= fine.metrics()
    uncertainty_values, uncertainty = evaluate_uncertainty(unit, reference, synthetic, brain, comparison)
    values["brain"] |= uncertainty_values
    spacing_mm = float(reference.spacing_mm[2])
    profile = measures.slice_profile(a.image, b.image, brain, similarity, spacing_mm)
    rois: list[measures.Roi] = []
    bundles: list[dict[str, Any]] = []
    if comparison.labels_of is not None:
        labels = comparison.labels_of(unit, reference)
        rois = measures.roi_means(a.regional, b.regional, labels, brain, comparison.names, options.min_roi_voxels)
        values["rois"] = roi.agreement(rois)
        if comparison.streamlines:
            bundles, values["bundles"] = evaluate_bundles(unit, volume.Volume(labels, reference.affine), comparison)
    subject = {"participant_id": unit["participant_id"]}
    tables: dict[str, Sequence[Mapping[str, Any]]] = {
        "metrics": [subject | {"region": region} | numbers for region, numbers in values.items()],
        "profile": profile,
        "rois": [_roi_row(one) for one in rois],
        "bundles": bundles,
        "spectrum": curves,
        "uncertainty": uncertainty,
    }
    return {name: [{"unit": unit["unit"], **row} for row in rows] for name, rows in tables.items()}


def central_slices(brain: NDArray[np.bool_], share: float) -> NDArray[np.bool_]:
    """Whole axial slices in the centre of the brain.

    Parameters
    ----------
    brain : ndarray of bool, shape (X, Y, Z)
    share : float
        Fraction of the slices that meet the brain.

    Returns
    -------
    ndarray of bool, shape (X, Y, Z)
    """
    region = np.zeros_like(brain)
    region[..., central(np.flatnonzero(brain.any(axis=(0, 1))), share)] = True
    return region


def _roi_row(one: measures.Roi) -> dict[str, Any]:
    """Row of rois.tsv."""
    return {"roi": one.name, "reference": one.reference, "synthetic": one.synthetic, "n_voxels": one.n_voxels}


def against_truth(
    unit: dict[str, str], synthetic: volume.Volume, brain: NDArray, comparison: Comparison
) -> dict[str, float]:
    """Compare with the ground truth of a simulated participant: its map before noise and distortion.

    Parameters
    ----------
    unit : dict
        unit, folder, participant_id.
    synthetic : Volume
    brain : ndarray of bool, shape (X, Y, Z)
        Region of the metrics.
    comparison : Comparison
        Its options name the dataset of the ground truth.

    Returns
    -------
    dict
        Metrics of the region ``truth``.
    """
    assert comparison.options.truth is not None, "called only where there is a ground truth"
    kind = MODALITIES[comparison.target].truth
    truth = volume.load(unit_path(comparison.options.truth, kind, unit["folder"], unit["unit"]))
    on_grid = volume.resample(truth, synthetic.affine, synthetic.shape).data
    a, b = (compared(comparison.target, data).image for data in (on_grid, synthetic.data))
    values, _ = measures.region_metrics(a, b, brain, {"truth": brain})
    return values["truth"]


def mean_image(unit: dict[str, str], comparison: Comparison) -> NDArray | None:
    """Load the image of the mean map, shape (X, Y, Z); where it is missing, print so and return None."""
    if comparison.mean_root is None:
        return None
    kind = MODALITIES[comparison.target].synthetic
    try:
        mean = volume.load(unit_path(comparison.mean_root, kind, unit["folder"], unit["unit"]))
    except DataError as error:
        print(f"residual_r left out: {unit['unit']}: {error}")
        return None
    return compared(comparison.target, mean.data).image


def evaluate_uncertainty(
    unit: dict[str, str],
    reference: volume.Volume,
    synthetic: volume.Volume,
    brain: NDArray,
    comparison: Comparison,
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Compare the map of standard deviations with the errors; where it is missing, only print so.

    Parameters
    ----------
    unit : dict
        unit, folder, participant_id.
    reference, synthetic : Volume
    brain : ndarray of bool, shape (X, Y, Z)
    comparison : Comparison

    Returns
    -------
    dict
        Values of the region ``brain``.
    list of dict
        Rows of uncertainty.tsv.
    """
    modality = MODALITIES[comparison.target]
    path = unit_path(comparison.synthetic_root, f"synthsd-{modality.kind}", unit["folder"], unit["unit"])
    try:
        sd = volume.load(path)
    except DataError as error:
        print(f"uncertainty left out: {unit['unit']}: {error}")
        return {}, []
    volume.require_same_grid(reference, sd, f"{unit['unit']}, measured map and standard deviation")
    measured = brain if reference.data.ndim == 3 else brain & np.any(reference.data != 0, axis=-1)
    if not measured.any():
        return {}, []
    a, b = (modality.scale(image.data[measured]) for image in (reference, synthetic))
    return compare_uncertainty((a - b).ravel(), sd.data[measured].ravel())


def evaluate_bundles(
    unit: dict[str, str], labels: volume.Volume, comparison: Comparison
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Compare one unit's streamlines; unusable ones are a problem of the bundles, not of the map.

    Parameters
    ----------
    unit : dict
        unit, folder, participant_id.
    labels : Volume
        Labels of the regions on the common grid.
    comparison : Comparison

    Returns
    -------
    list of dict
        Rows of bundles.tsv.
    dict
        Values of the region ``bundles``, or its ``problem``.
    """
    where = unit["folder"], unit["unit"]
    try:
        rows = tracts.compare_bundles(
            tracts.reference_streamlines(comparison.root, *where),
            tracts.synthetic_streamlines(comparison.synthetic_root, *where),
            labels,
            comparison.names,
            comparison.options.min_bundle_streamlines,
        )
        if not rows:
            least = comparison.options.min_bundle_streamlines
            raise DataError(f"no region has {least} streamlines of the measured tensors")
    except DataError as error:
        print(f"bundles left out: {unit['unit']}: {error}")
        return [], {"problem": str(error)}
    return rows, tracts.agreement(rows)
