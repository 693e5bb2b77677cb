"""One model's synthetic maps against the true ones, on the test subjects.

Whole-slice values stand beside the brain's and the white matter's for comparison with the
literature only: they are mostly background. Lin's concordance is over a person's ROI means.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from m2m import metrics as measures
from m2m import volume
from m2m.bids import unit_path
from m2m.cohort.split import load_split, part_by_participant
from m2m.evaluate.tables import METRIC_COLUMNS, PROFILE_COLUMNS, ROI_COLUMNS, printed
from m2m.options import Evaluation, Rois
from m2m.stage import DataError, parse_options, read_json, read_table, write_table

# Gives the label image of a unit on the unit's grid.
RoiSource = Callable[[dict[str, str], volume.Volume], NDArray[np.int32]]


@dataclass(frozen=True)
class Evaluated:
    """What one unit adds to the three tables."""

    metrics: list[dict[str, Any]]
    profile: list[dict[str, Any]]
    rois: list[dict[str, Any]]


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


def refuse_leak(record: Mapping[str, Any], split_hash: str, tested: Collection[str]) -> None:
    """Refuse a model that has seen a test participant, or was trained on another split.

    Raises
    ------
    ValueError
        Names the participants, or the two hashes.
    """
    seen = {*record["train_participants"], *record["validation_participants"]}
    if both := sorted(seen & set(tested)):
        raise ValueError(
            f"model {record['model']} was trained or chosen with test participants "
            f"{', '.join(both)}; train it again on the current split"
        )
    if record["split_hash"] != split_hash:
        raise ValueError(
            f"model {record['model']} was trained on split {record['split_hash']}, the current "
            f"split is {split_hash}; train it again"
        )


def roi_source(options: Rois, root: Path) -> RoiSource | None:
    """Find the label image that goes with each unit: one for everybody, or one for each."""
    if options.image is None:
        return None
    pattern = options.image
    shared = None if "{" in pattern else volume.load(pattern, np.int32)

    def labels_of(unit: dict[str, str], grid: volume.Volume) -> NDArray[np.int32]:
        folder, name = unit["folder"], unit["unit"]
        labels = shared or volume.load(pattern.format(folder=folder, unit=name), np.int32)
        world = None
        if options.space == "MNI152":
            world = np.array(read_json(unit_path(root, "anat-status", folder, name))["grid_to_mni"])
        return volume.resample(labels, grid.affine, grid.shape, world, order=0).data

    return labels_of


def roi_names(path: Path | None) -> dict[int, str]:
    """Names by label, from a TSV with the columns index and name."""
    if path is None:
        return {}
    return {int(row["index"]): str(row["name"]) for row in read_table(path)}


def evaluate_unit(
    unit: dict[str, str],
    root: Path,
    synthetic_root: Path,
    labels_of: RoiSource | None,
    names: Mapping[int, str],
    min_roi_voxels: int,
) -> Evaluated:
    """Compare one unit's synthetic map with its true one.

    Raises
    ------
    DataError
        A map is missing, empty (its stage failed) or unreadable.
    """
    where = unit["folder"], unit["unit"]
    true = volume.load(unit_path(root, "fa", *where))
    synthetic = volume.load(unit_path(synthetic_root, "synth-fa", *where))
    masks = {k: volume.load(unit_path(root, k, *where)) for k in ("target-mask", "wm")}
    for name, image in {"synthetic map": synthetic, **masks}.items():
        volume.require_same_grid(true, image, f"{unit['unit']}, true map and {name}")
    brain = masks["target-mask"].data > 0
    regions = {
        "slice": np.ones_like(brain),
        "brain": brain,
        "wm": brain & (masks["wm"].data > 0),
    }
    values, similarity = measures.region_metrics(true.data, synthetic.data, brain, regions)
    profile = measures.slice_profile(
        true.data, synthetic.data, brain, similarity, float(true.spacing_mm[2])
    )
    rois: list[measures.Roi] = []
    if labels_of is not None:
        labels = labels_of(unit, true)
        rois = measures.roi_means(true.data, synthetic.data, labels, brain, names, min_roi_voxels)
        values["rois"] = agreement(rois)
    who = {"unit": unit["unit"]}
    return Evaluated(
        [
            {**who, "participant_id": unit["participant_id"], "region": region, **numbers}
            for region, numbers in values.items()
        ],
        [who | row for row in profile],
        [who | {"roi": roi.name} | asdict(roi) for roi in rois],
    )


def agreement(rois: Sequence[measures.Roi]) -> dict[str, float]:
    """Lin's concordance, and the mean difference, of one person's ROI means."""
    true, synthetic = ([getattr(roi, kind) for roi in rois] for kind in ("true", "synthetic"))
    return {
        "concordance": measures.concordance(true, synthetic),
        "bias": float(np.subtract(synthetic, true).mean()) if rois else float("nan"),
        "n_voxels": sum(roi.n_voxels for roi in rois),
    }


def main(
    task: Annotated[str, typer.Option(help="Name of the task, e.g. t1-fa.")],
    model: Annotated[str, typer.Option(help="Name of the model.")],
    root: Annotated[Path, typer.Option(help="The derivative dataset, results/<dataset>.")],
    units: Annotated[Path, typer.Option(help="cohort/units.tsv")],
    split: Annotated[Path, typer.Option(help="cohort/split.tsv")],
    split_record: Annotated[Path, typer.Option(help="cohort/split.json")],
    quality: Annotated[Path, typer.Option(help="cohort/quality.tsv")],
    model_record: Annotated[Path, typer.Option(help="models/<task>/<model>/model.json")],
    metrics: Annotated[Path, typer.Option(help="Table to write: one row per unit and region.")],
    profile: Annotated[Path, typer.Option(help="Table to write: one row per unit and slice.")],
    rois: Annotated[Path, typer.Option(help="Table to write: one row per unit and region.")],
    options: Annotated[str, typer.Option(help="Section evaluation of the configuration, JSON.")],
) -> None:
    """Compare one model's synthetic volumes with the truth, on the test subjects."""
    section = parse_options(Evaluation, options)
    parts = part_by_participant(load_split(split, split_record))
    tested = test_units(read_table(units), parts, read_table(quality))
    held_out = {participant for participant, part in parts.items() if part == "test"}
    refuse_leak(read_json(model_record), read_json(split_record)["hash"], held_out)
    labels_of = roi_source(section.rois, root)
    names = roi_names(section.rois.labels)
    synthetic_root = root / "synthetic" / task / model
    rows, profiles, regions = [], [], []
    for unit in tested:
        try:
            done = evaluate_unit(
                unit, root, synthetic_root, labels_of, names, section.min_roi_voxels
            )
        except DataError as error:
            print(f"left out: {unit['unit']}: {error}")
            rows.append({**unit, "problem": str(error)})
            continue
        rows += done.metrics
        profiles += done.profile
        regions += done.rois
    write_table(metrics, printed(rows), METRIC_COLUMNS)
    write_table(profile, printed(profiles), PROFILE_COLUMNS)
    write_table(rois, printed(regions), ROI_COLUMNS)
    failed = sum("problem" in row for row in rows)
    if not tested:
        print(f"{task} {model}: nothing to evaluate, no used test unit has both scans")
    else:
        print(f"{task} {model}: {len(tested) - failed} units evaluated, {failed} left out")
    if labels_of is None:
        print("ROI concordance is not computed: evaluation.rois.image is not set")
