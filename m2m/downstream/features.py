"""Features of a participant's images: regional means and histograms."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.cohort.folds import load_folds
from m2m.downstream.maps import Source, UnitImages, require_unseen, sources_of, units_with_t1, used_units
from m2m.evaluate.metric_tables import printed
from m2m.evaluate.metrics import roi_means
from m2m.evaluate.regions import RoiSource, roi_names, roi_source
from m2m.io.errors import DataError
from m2m.io.tables import read_table, write_table
from m2m.options import Evaluation, Slices
from m2m.options.configured import compared_by, read_config
from m2m.options.stage_flags import NeededConfig, Root

BINS = 16
BIN = "bin"
# Range of scaled values: the T1's percentiles map to 0 and 1; density and FA lie between 0 and 1.
LIMITS = (0.0, 1.0)
COVARIATE = "brain_volume_ml"


def describe(
    image: NDArray,
    inside: NDArray[np.bool_],
    labels: NDArray | None,
    names: Mapping[int, str],
    min_voxels: int,
) -> dict[str, float]:
    """Compute the mean of each region and the share of the mask's voxels in each bin of values.

    Parameters
    ----------
    image : ndarray, shape (X, Y, Z)
        Scaled values; those beyond `LIMITS` count in the outermost bins.
    inside : ndarray of bool, shape (X, Y, Z)
    labels : ndarray of int, shape (X, Y, Z), or None
        Regions; 0 is background.
    names : mapping of int to str
        Names of regions by label.
    min_voxels : int
        A region with fewer voxels inside is left out.

    Returns
    -------
    dict
        Value by feature: region, or `BIN` with two digits.
    """
    found: dict[str, float] = {}
    if labels is not None:
        rois = roi_means(image, image, labels, inside, names, min_voxels)
        found = {roi.name: roi.reference for roi in rois}
    counts, _ = np.histogram(np.clip(image[inside], *LIMITS), BINS, LIMITS)
    shares = counts / max(1, counts.sum())
    return found | {f"{BIN}{i:02d}": float(share) for i, share in enumerate(shares, 1)}


def describe_unit(
    images_of_unit: UnitImages,
    unit: Mapping[str, str],
    sources: Mapping[str, Source],
    labels_of: RoiSource | None,
    names: Mapping[int, str],
    min_voxels: int,
) -> dict[str, Any]:
    """Compute all features of one unit.

    Parameters
    ----------
    images_of_unit : UnitImages
    unit : mapping
        Row of units.tsv.
    sources : mapping of str to Source
        Source of each image.
    labels_of : RoiSource or None
        Loads the label image; None without regions.
    names : mapping of int to str
        Names of regions by label.
    min_voxels : int
        Regions with fewer voxels are left out.

    Returns
    -------
    dict
        Row of features.tsv: features are named ``image:feature``.
    """
    labels = None if labels_of is None else labels_of(dict(unit), images_of_unit.brain)
    row: dict[str, Any] = {
        "unit": unit["unit"],
        "participant_id": unit["participant_id"],
        "fold": images_of_unit.fold,
        COVARIATE: images_of_unit.brain_ml,
    }
    for name, source in sources.items():
        described = describe(*images_of_unit.image(name, source), labels, names, min_voxels)
        row |= {f"{name}:{feature}": value for feature, value in described.items()}
    return row


def rows(
    units: Iterable[Mapping[str, str]],
    fold_of: Mapping[str, str],
    root: Path,
    sources: Mapping[str, Source],
    options: Evaluation,
    t1_range_percent: tuple[float, float],
) -> Iterator[dict[str, Any]]:
    """Yield the features of each unit; a unit whose maps failed is left out and its name printed.

    Parameters
    ----------
    units : iterable of mapping
        Rows of units.tsv.
    fold_of : mapping of str to str
        Fold of each participant.
    root : Path
        Dataset of the results.
    sources : mapping of str to Source
        Source of each image.
    options : Evaluation
        Gives the regions of interest.
    t1_range_percent : (float, float)
        Option of the section `slices`.

    Yields
    ------
    dict
        Row of features.tsv.
    """
    labels_of, names = roi_source(options.rois, root), roi_names(options.rois.labels)
    for unit in units:
        try:
            images_of_unit = UnitImages(root, unit, fold_of[unit["participant_id"]], t1_range_percent)
            yield describe_unit(images_of_unit, unit, sources, labels_of, names, options.min_roi_voxels)
        except DataError as error:
            print(f"{unit['unit']}: left out, {error}")


def main(root: Root, config: NeededConfig) -> None:
    """Compute features of every participant's measured and synthetic maps."""
    written, cohort = read_config(config), root / "cohort"
    without_dwi = written.section("downstream").without_dwi
    describe_participants(
        root,
        cohort / "units.tsv",
        None if without_dwi else cohort / "quality.tsv",
        cohort / "folds.tsv",
        cohort / "folds.json",
        sources_of(written, root),
        root / "downstream" / "features.tsv",
        compared_by(written.section("evaluation"), written.simulation, root),
        written.section("slices"),
    )


def describe_participants(
    root: Path,
    units: Path,
    quality: Path | None,
    folds: Path,
    folds_record: Path,
    images: Mapping[str, Source],
    table: Path,
    section: Evaluation,
    slices: Slices,
) -> None:
    """Write the features of all used units, one row per unit.

    Parameters
    ----------
    root : Path
        Dataset of the results.
    units : Path
        units.tsv of the cohort.
    quality : Path or None
        quality.tsv of the cohort; None where a T1 is all that is needed of a participant.
    folds, folds_record : Path
        folds.tsv and folds.json of the cohort.
    images : mapping of str to Source
        Source of each image.
    table : Path
        TSV to write.
    section : Evaluation
        Gives the regions of interest.
    slices : Slices

    Raises
    ------
    DataError
        No participant has all maps.
    """
    fold_of = load_folds(folds, folds_record)
    require_unseen(images, fold_of)
    every = read_table(units)
    wanted = used_units(every, read_table(quality)) if quality else units_with_t1(every, root)
    limits = slices.t1_range_percent
    found = list(rows(wanted, fold_of, root, images, section, limits))
    if not found:
        raise DataError(
            "no participant has all maps",
            file=units,
            value=f"{len(wanted)} units with usable scans",
            remedy="see the log, and `m2m status`, for what failed or was excluded",
        )
    columns = list(dict.fromkeys(column for row in found for column in row))
    write_table(table, printed(found), columns)
    print(f"{len(found)} of {len(wanted)} units described, {len(columns)} columns")
