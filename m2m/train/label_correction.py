"""Measure the label correction of a model, and apply it to the training targets."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.cohort.split import load_split, part_by_participant
from m2m.io.files import write_json
from m2m.io.tables import write_table
from m2m.models.building import load_correction
from m2m.models.record import load_model
from m2m.networks.correction import LabelCorrection
from m2m.options import section_of
from m2m.options.configured import read_config, split_of
from m2m.options.stage_flags import ModelName, NeededConfig, Root, TaskName
from m2m.structural.slices import PLANES, write_slices
from m2m.train.dataset import channels_of, find_subjects
from m2m.train.misalignment import (
    applied_misalignment,
    inverse_displacement,
    joint_misalignment,
    measure,
    measure_joint,
    predict_misalignments,
    warp_volume,
)

FOLDED = 1e-3  # fraction of folded pixels above which a unit is reported
JOINT = "volume"  # row of a participant's joint field, next to those of the orientations
COLUMNS = (
    "unit",
    "participant_id",
    "part",
    "plane",
    "rms_mm",
    "max_mm",
    "folded",
    "applied_rms_mm",
    "residual_rms_mm",
    "recovered",
)


def correction_of(weights: Path) -> tuple[LabelCorrection, dict[str, Any], float]:
    """Load the label correction of a model, the model's record, and the smoothing of joint fields in mm."""
    tensors, record = load_model(weights, weights.with_name("model.json"))
    correction = load_correction(tensors, record)
    options = section_of(record).correction
    assert options is not None, "load_correction has refused a model without one"
    return correction, record, options.smooth_mm


def main(root: Root, task: TaskName, model: ModelName, config: NeededConfig) -> None:
    """Measure the displacements by which a model's label correction shifts its training targets."""
    written = read_config(config)
    known = written.simulation is not None and written.simulation.distortion_mm
    measure_model(
        root / "models" / task / model / "model.safetensors",
        root / "slices",
        *split_of(root, written.task(task).fold),
        root,
        root / "evaluate" / task / model / "labels.tsv",
        root / "truth" if known else None,
    )


def measure_model(
    weights: Path,
    slices_dir: Path,
    split: Path,
    split_record: Path,
    root: Path,
    table: Path,
    truth: Path | None = None,
) -> None:
    """Measure the label correction of one model: a row per unit and orientation.

    Parameters
    ----------
    weights : Path
        Of the model.
    slices_dir : Path
        Output of `m2m slices`.
    split, split_record : Path
        Table of the parts, and its record.
    root : Path
        Folder of the results.
    table : Path
        To write.
    truth : Path or None
        Folder of the ground truth of simulated participants.
    """
    correction, record, smooth_mm = correction_of(weights)
    parts = part_by_participant(load_split(split, split_record))
    images, planes = (record["source"], record["target"]), record["options"]["planes"]
    subjects, _ = find_subjects(slices_dir, parts, *images)
    rows = []
    for part, subjects_of_part in subjects.items():
        for subject in subjects_of_part:
            applied_mm = applied_misalignment(subject, root, truth) if truth else None
            names = {"unit": subject.unit, "participant_id": subject.participant, "part": part}
            joint = joint_misalignment(subject, *images, planes, correction, smooth_mm)
            measured = {
                plane: measure(subject, plane, predict_misalignments(subject, plane, *images, correction), applied_mm)
                for plane in planes
            } | {JOINT: measure_joint(subject, joint, applied_mm)}
            for plane, values in measured.items():
                rows.append(
                    {**names, "plane": plane} | {k: None if v is None else f"{v:.5g}" for k, v in values.items()}
                )
    write_table(table, rows, COLUMNS)
    print(f"{record['model']}: labels of {len({row['unit'] for row in rows})} units measured")
    if folded := sorted({row["unit"] for row in rows if float(row["folded"]) > FOLDED}):
        print(f"The label correction folds; raise correct_labels.smoothness: {', '.join(folded)}")


def correct(root: Root, task: TaskName, model: ModelName, config: NeededConfig) -> None:
    """Write the training slices with labels corrected by each participant's joint field.

    Targets are resampled to the corrected position. The new target mask holds the voxels that were
    measured before and after the correction. All orientations are cut from the corrected volume.
    """
    correct_slices(
        root / "models" / task / model / "model.safetensors",
        root / "slices",
        *split_of(root, read_config(config).task(task).fold),
        root / "labels" / task / model,
    )


def correct_slices(weights: Path, slices_dir: Path, split: Path, split_record: Path, out: Path) -> None:
    """Write slices with labels corrected by a model, in the same folder structure.

    Parameters
    ----------
    weights : Path
        Of the model.
    slices_dir : Path
        Output of `m2m slices`.
    split, split_record : Path
        Table of the parts, and its record.
    out : Path
        Folder to write to.
    """
    correction, record, smooth_mm = correction_of(weights)
    parts = part_by_participant(load_split(split, split_record))
    images, planes = (record["source"], record["target"]), record["options"]["planes"]
    subjects = find_subjects(slices_dir, parts, *images)[0]["train"]
    for subject in subjects:
        joint = joint_misalignment(subject, *images, planes, correction, smooth_mm)
        displacement, inside = inverse_displacement(joint), subject.mask()
        known = inside & (warp_volume(inside.astype(float), displacement) > 0.5)
        target = subject.volume(record["target"]).data.reshape(*inside.shape, -1)
        target = target * inside[..., None]  # (X, Y, Z, channels)
        volumes: dict[str, NDArray] = {name: subject.channel(name) for name in subject.record["channels"]}
        names = channels_of(record["target"])
        volumes |= {n: warp_volume(c, displacement) for n, c in zip(names, np.moveaxis(target, -1, 0), strict=True)}
        volumes |= {"target_mask": known}
        folder = out / subject.folder.relative_to(slices_dir)
        found = write_slices(volumes, {plane: folder / f"{subject.unit}_{plane}.npy" for plane in PLANES})
        write_json(folder / f"{subject.unit}_slices.json", subject.record | found | {"labels_from": record["model"]})
    print(f"{record['model']}: labels of {len(subjects)} units corrected")
