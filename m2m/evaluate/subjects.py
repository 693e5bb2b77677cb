"""One model's synthetic maps against the true ones, on the test subjects.

Whole-slice values stand beside the brain's and the white matter's for comparison with the
literature only: they are mostly background. Lin's concordance is over a person's ROI means.
`m2m.evaluate.maps` says which image of each modality is compared.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from m2m import metrics as measures
from m2m import volume
from m2m.bids import unit_path
from m2m.cohort.split import load_split, part_by_participant
from m2m.evaluate import regions as roi
from m2m.evaluate import streamlines as tracts
from m2m.evaluate.maps import compared, further_metrics
from m2m.evaluate.tables import (
    BUNDLE_COLUMNS,
    METRIC_COLUMNS,
    PROFILE_COLUMNS,
    ROI_COLUMNS,
    printed,
)
from m2m.modalities import MODALITIES
from m2m.options import Evaluation
from m2m.stage import DataError, parse_options, read_json, read_table, write_table


@dataclass(frozen=True)
class Comparison:
    """What is compared, and how.

    Attributes
    ----------
    target : {"fa", "tdi", "dti"}
    root, synthetic_root : Path
        Datasets of the true and of the synthetic maps.
    options : Evaluation
    labels_of : RoiSource or None
        Gives the regions of interest, where there are any.
    names : dict of int to str
        Of regions.
    streamlines : bool
        Whether synthetic streamlines are compared too.
    """

    target: str
    root: Path
    synthetic_root: Path
    options: Evaluation
    labels_of: roi.RoiSource | None
    names: dict[int, str]
    streamlines: bool = False


@dataclass
class Evaluated:
    """Rows of the four tables."""

    metrics: list[dict[str, Any]] = field(default_factory=list)
    profile: list[dict[str, Any]] = field(default_factory=list)
    rois: list[dict[str, Any]] = field(default_factory=list)
    bundles: list[dict[str, Any]] = field(default_factory=list)

    def add(self, other: "Evaluated") -> None:
        """Append another's rows."""
        self.metrics += other.metrics
        self.profile += other.profile
        self.rois += other.rois
        self.bundles += other.bundles


def test_units(
    units: Iterable[Mapping[str, str | None]],
    parts: Mapping[str, str],
    quality: Iterable[Mapping[str, str | None]],
) -> list[dict[str, str]]:
    """Units to evaluate: both scans usable, of a test participant, not failed, not excluded.

    Parameters
    ----------
    units, quality : rows of units.tsv and quality.tsv
    parts : mapping
        Participant to part (train, validation, test).
    """
    used = {row["unit"] for row in quality if row["state"] == "used"}
    return [
        {key: row[key] for key in ("unit", "folder", "participant_id")}
        for row in units
        if row["state"] == "paired"
        and parts.get(row["participant_id"]) == "test"
        and row["unit"] in used
    ]


def refuse_leak(
    records: Iterable[Mapping[str, Any]], split_hash: str, tested: Collection[str]
) -> None:
    """Refuse a network that has seen a test participant, or was trained on another split.

    Parameters
    ----------
    records : iterable of mapping
        model.json of every network behind the maps: a chain of tasks has two.
    split_hash : str
        Of the current split.
    tested : collection of str
        Participants.

    Raises
    ------
    ValueError
        Names the participants, or the two hashes.
    """
    for record in records:
        name = f"model {record['model']} of task {record['task']}"
        seen = {*record["train_participants"], *record["validation_participants"]}
        if both := sorted(seen & set(tested)):
            raise ValueError(
                f"{name} was trained or chosen with test participants {', '.join(both)}; train "
                "it again on the current split"
            )
        if record["split_hash"] != split_hash:
            raise ValueError(
                f"{name} was trained on split {record['split_hash']}, the current split is "
                f"{split_hash}; train it again"
            )


def evaluate_unit(unit: dict[str, str], how: Comparison) -> Evaluated:
    """Compare one unit's synthetic map, and streamlines, with the true ones.

    Raises
    ------
    DataError
        A map is missing, empty (its stage failed) or unreadable.
    """
    where = unit["folder"], unit["unit"]
    modality = MODALITIES[how.target]
    true = volume.load(unit_path(how.root, modality.kind, *where))
    synthetic = volume.load(unit_path(how.synthetic_root, modality.synthetic, *where))
    masks = {k: volume.load(unit_path(how.root, k, *where)) for k in ("target-mask", "wm")}
    for name, image in {"synthetic map": synthetic, **masks}.items():
        volume.require_same_grid(true, image, f"{unit['unit']}, true map and {name}")
    brain = masks["target-mask"].data > 0
    regions = {
        "slice": np.ones_like(brain),
        "brain": brain,
        "wm": brain & (masks["wm"].data > 0),
    }
    a, b = (compared(how.target, image.data) for image in (true, synthetic))
    values, similarity = measures.region_metrics(a.image, b.image, brain, regions)
    further = further_metrics(how.target, a, b, regions, how.options.density_threshold)
    for region, numbers in further.items():
        values[region] |= numbers
    spacing_mm = float(true.spacing_mm[2])
    profile = measures.slice_profile(a.image, b.image, brain, similarity, spacing_mm)
    rois: list[measures.Roi] = []
    bundles: list[dict[str, Any]] = []
    if how.labels_of is not None:
        labels = how.labels_of(unit, true)
        rois = measures.roi_means(
            a.regional, b.regional, labels, brain, how.names, how.options.min_roi_voxels
        )
        values["rois"] = roi.agreement(rois)
        if how.streamlines:
            bundles, values["bundles"] = evaluate_bundles(
                unit, volume.Volume(labels, true.affine), how
            )
    who = {"unit": unit["unit"]}
    return Evaluated(
        [
            {**who, "participant_id": unit["participant_id"], "region": region, **numbers}
            for region, numbers in values.items()
        ],
        [who | row for row in profile],
        [who | {"roi": one.name} | asdict(one) for one in rois],
        [who | row for row in bundles],
    )


def evaluate_bundles(
    unit: dict[str, str], labels: volume.Volume, how: Comparison
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Compare one unit's streamlines; bad ones are a problem of the bundles, not of the map.

    Returns
    -------
    rows of bundles.tsv; values of the region ``bundles``, or its ``problem``
    """
    where = unit["folder"], unit["unit"]
    try:
        rows = tracts.compare_bundles(
            tracts.true_streamlines(how.root, *where),
            tracts.synthetic_streamlines(how.synthetic_root, *where),
            labels, how.names, how.options.min_bundle_streamlines,
        )  # fmt: skip
        if not rows:
            least = how.options.min_bundle_streamlines
            raise DataError(f"no region has {least} true streamlines")
    except DataError as error:
        print(f"bundles left out: {unit['unit']}: {error}")
        return [], {"problem": str(error)}
    return rows, tracts.agreement(rows)


def main(
    task: Annotated[str, typer.Option(help="Name of the task, e.g. t1-fa.")],
    model: Annotated[str, typer.Option(help="Name of the model.")],
    target: Annotated[str, typer.Option(help="What the task predicts: fa, tdi or dti.")],
    root: Annotated[Path, typer.Option(help="The derivative dataset, results/<dataset>.")],
    units: Annotated[Path, typer.Option(help="cohort/units.tsv")],
    split: Annotated[Path, typer.Option(help="cohort/split.tsv")],
    split_record: Annotated[Path, typer.Option(help="cohort/split.json")],
    quality: Annotated[Path, typer.Option(help="cohort/quality.tsv")],
    model_record: Annotated[
        list[Path], typer.Option(help="models/<task>/<model>/model.json; a chain has two.")
    ],
    metrics: Annotated[Path, typer.Option(help="Table to write: one row per unit and region.")],
    profile: Annotated[Path, typer.Option(help="Table to write: one row per unit and slice.")],
    rois: Annotated[Path, typer.Option(help="Table to write: one row per unit and region.")],
    bundles: Annotated[Path, typer.Option(help="Table to write: one row per unit and bundle.")],
    options: Annotated[str, typer.Option(help="Section evaluation of the configuration, JSON.")],
    streamlines: Annotated[
        bool, typer.Option(help="Whether synthetic streamlines are compared too.")
    ] = False,
) -> None:
    """Compare one model's synthetic volumes with the truth, on the test subjects."""
    section = parse_options(Evaluation, options)
    parts = part_by_participant(load_split(split, split_record))
    tested = test_units(read_table(units), parts, read_table(quality))
    held_out = {participant for participant, part in parts.items() if part == "test"}
    records = [read_json(path) for path in model_record]
    refuse_leak(records, read_json(split_record)["hash"], held_out)
    how = Comparison(
        target, root, root / "synthetic" / task / model, section,
        roi.roi_source(section.rois, root), roi.roi_names(section.rois.labels), streamlines,
    )  # fmt: skip
    done, n_failed = Evaluated(), 0
    for unit in tested:
        try:
            done.add(evaluate_unit(unit, how))
        except DataError as error:
            print(f"left out: {unit['unit']}: {error}")
            done.metrics.append({**unit, "problem": str(error)})
            n_failed += 1
    write_table(metrics, printed(done.metrics), METRIC_COLUMNS)
    write_table(profile, printed(done.profile), PROFILE_COLUMNS)
    write_table(rois, printed(done.rois), ROI_COLUMNS)
    write_table(bundles, printed(done.bundles), BUNDLE_COLUMNS)
    if not tested:
        print(f"{task} {model}: nothing to evaluate, no used test unit has both scans")
    else:
        print(f"{task} {model}: {len(tested) - n_failed} units evaluated, {n_failed} left out")
    if how.labels_of is None:
        what = "ROI concordance and bundles are" if streamlines else "ROI concordance is"
        print(f"{what} not computed: evaluation.rois.image is not set")
