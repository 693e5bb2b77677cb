"""Numbers that describe a person's images: regional means and histograms."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.cohort.folds import load_folds
from m2m.downstream.maps import Head, Source, require_unseen, sources_of, used_units
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
# Scaled values: of T1 its percentiles are 0 and 1; density and FA lie between 0 and 1.
LIMITS = (0.0, 1.0)
COVARIATE = "brain_volume_ml"


def describe(
    image: NDArray,
    inside: NDArray[np.bool_],
    labels: NDArray | None,
    names: Mapping[int, str],
    min_voxels: int,
) -> dict[str, float]:
    """Mean of each region, and the share of the mask's voxels in each bin of values.

    Parameters
    ----------
    image : ndarray, shape (X, Y, Z)
        Scaled values; beyond `LIMITS` they count to the outermost bins.
    inside : ndarray of bool, shape (X, Y, Z)
    labels : ndarray of int, shape (X, Y, Z), or None
        Regions; 0 is background.
    names : mapping of int to str
    min_voxels : int
        A region with fewer voxels inside is left out.
    """
    found: dict[str, float] = {}
    if labels is not None:
        rois = roi_means(image, image, labels, inside, names, min_voxels)
        found = {roi.name: roi.true for roi in rois}
    counts, _ = np.histogram(np.clip(image[inside], *LIMITS), BINS, LIMITS)
    shares = counts / max(1, counts.sum())
    return found | {f"{BIN}{i:02d}": float(share) for i, share in enumerate(shares, 1)}


def describe_unit(
    head: Head,
    unit: Mapping[str, str],
    sources: Mapping[str, Source],
    labels_of: RoiSource | None,
    names: Mapping[int, str],
    min_voxels: int,
) -> dict[str, Any]:
    """All features of one unit, named ``image:feature``, and the brain's volume."""
    labels = None if labels_of is None else labels_of(dict(unit), head.brain)
    row: dict[str, Any] = {
        "unit": unit["unit"], "participant_id": unit["participant_id"], "fold": head.fold,
        COVARIATE: head.brain_ml,
    }  # fmt: skip
    for name, source in sources.items():
        described = describe(*head.image(name, source), labels, names, min_voxels)
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
    """Features of each unit; one whose maps failed is left out, and named."""
    labels_of, names = roi_source(options.rois, root), roi_names(options.rois.labels)
    for unit in units:
        try:
            head = Head(root, unit, fold_of[unit["participant_id"]], t1_range_percent)
            yield describe_unit(head, unit, sources, labels_of, names, options.min_roi_voxels)
        except DataError as error:
            print(f"{unit['unit']}: left out, {error}")


def main(root: Root, config: NeededConfig) -> None:
    """Describe everybody's measured and cross-fitted synthetic maps by numbers."""
    written, cohort = read_config(config), root / "cohort"
    describe_people(
        root, cohort / "units.tsv", cohort / "quality.tsv", cohort / "folds.tsv",
        cohort / "folds.json", sources_of(written, root), root / "downstream" / "features.tsv",
        compared_by(written.section("evaluation"), written.phantom, root),
        written.section("slices"),
    )  # fmt: skip


def describe_people(
    root: Path,
    units: Path,
    quality: Path,
    folds: Path,
    folds_record: Path,
    images: Mapping[str, Source],
    table: Path,
    section: Evaluation,
    slices: Slices,
) -> None:
    """Describe people by their images, one row per unit."""
    fold_of = load_folds(folds, folds_record)
    require_unseen(images, fold_of)
    wanted = used_units(read_table(units), read_table(quality))
    limits = slices.t1_range_percent
    found = list(rows(wanted, fold_of, root, images, section, limits))
    if not found:
        raise DataError(
            "nobody has all maps", file=units, value=f"{len(wanted)} units with both scans",
            remedy="see quality.tsv and the log for what failed or was excluded",
        )  # fmt: skip
    columns = list(dict.fromkeys(column for row in found for column in row))
    write_table(table, printed(found), columns)
    print(f"{len(found)} of {len(wanted)} units described by {len(columns)} columns")
