"""How far a label correction moved the targets that its model learned from.

Where people are simulated with a known distortion, also how much of it the correction undid.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from nibabel.affines import apply_affine
from numpy.typing import NDArray

from m2m.bids import unit_path
from m2m.cohort.split import load_split, part_by_participant
from m2m.dataset import Subject, find_subjects, whole_subject
from m2m.inference import load_correction
from m2m.model import load_model
from m2m.networks.correction import LabelCorrection, area_change, inverse, warp
from m2m.slices import extract, in_plane
from m2m.stage import read_json, write_table
from m2m.volume import Volume, load, resample

BATCH = 16
LEAST_PX = 0.2
COLUMNS = (
    "unit", "participant_id", "part", "plane", "rms_mm", "max_mm", "folded",
    "true_rms_mm", "left_rms_mm", "recovered",
)  # fmt: skip


@torch.inference_mode()
def found_in(
    subject: Subject, plane: str, source: str, target: str, correction: LabelCorrection
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Misalignments (N, 2, H, W) in pixels and target masks (N, H, W) of a person's slices."""
    for batch in whole_subject(subject, plane, source, target, 1, BATCH, correction.context):
        yield correction(batch["beside"], batch["plane"]), batch["mask"][:, 0] > 0.5


def misalignment(
    field: Volume, dwi_to_t1: NDArray, t1_to_dwi: NDArray, affine: NDArray, shape: tuple[int, ...]
) -> NDArray[np.float64]:
    """How far off lies what a map on the common grid shows: its place minus the voxel's.

    Parameters
    ----------
    field : Volume, shape (X, Y, Z, 3)
        Of the simulation, T1 world mm: see `m2m.phantom.stage`.
    dwi_to_t1 : ndarray, shape (4, 4)
        Where the simulation placed the DWI.
    t1_to_dwi : ndarray, shape (4, 4)
        Where the registration found it: what the two leave open is misalignment as well.
    affine, shape
        The common grid.

    Returns
    -------
    ndarray, shape (*shape, 3)
        mm along the grid's axes.
    """
    there = dwi_to_t1 @ t1_to_dwi
    points = apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1))
    off = apply_affine(there, points) - points + resample(field, affine, shape, there).data
    return off @ (affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0))


def measure(
    subject: Subject,
    plane: str,
    found: Iterator[tuple[torch.Tensor, torch.Tensor]],
    off_mm: NDArray | None = None,
) -> dict[str, Any]:
    """Size of a person's displacements in one orientation, and what they leave of the true ones.

    Parameters
    ----------
    subject : Subject
    plane : str
    found : iterator
        Of `found_in`.
    off_mm : ndarray, shape (X, Y, Z, 3), or None
        Of `misalignment`; only what lies in the plane counts, since a slice is moved in itself.

    Returns
    -------
    dict
        rms_mm, max_mm; folded, the share of pixels whose area turns over, or whose misalignment
        the displacement misses by `LEAST_PX` pixels; and with a truth
        true_rms_mm, left_rms_mm and recovered, 1 - (left / true)^2, None where there was next to
        nothing to recover: less than `LEAST_PX` pixels.
    """
    misalignment, mask = (torch.cat(parts) for parts in zip(*found, strict=True))
    displacement = inverse(misalignment)
    spacing_mm = subject.record["spacing_mm"]
    missed = (displacement + warp(misalignment, displacement)).norm(dim=1) > LEAST_PX
    folded = ((area_change(misalignment) <= 0) | missed[:, :-1, :-1]) & mask[:, :-1, :-1]
    moved_mm = spacing_mm * displacement.movedim(1, -1)[mask].norm(dim=1)  # (pixels,)
    values = {
        "rms_mm": float(moved_mm.square().mean().sqrt()),
        "max_mm": float(moved_mm.max()),
        "folded": float(folded.sum() / mask.sum()),
    }
    if off_mm is None:
        return values
    usable = subject.open(plane)[:, subject.places("target_mask")[0]].any(axis=(1, 2))
    true = np.stack([extract(part, plane)[usable] for part in in_plane(off_mm, plane)], axis=1)
    true = torch.from_numpy(true / spacing_mm).float()  # (n, 2, H, W) pixels
    left = displacement + warp(true, displacement)
    true_mm, left_mm = (
        spacing_mm * float(x.movedim(1, -1)[mask].square().sum(1).mean().sqrt())
        for x in (true, left)
    )
    recovered = 1 - (left_mm / true_mm) ** 2 if true_mm > LEAST_PX * spacing_mm else None
    return values | {"true_rms_mm": true_mm, "left_rms_mm": left_mm, "recovered": recovered}


def true_misalignment(subject: Subject, root: Path, truth: Path) -> NDArray[np.float64]:
    """`misalignment` of one simulated person, from the files of the results and of the truth."""
    where = subject.unit.replace("_", "/"), subject.unit
    path = Path(unit_path(truth, "truth-displacement", *where))
    sidecar = read_json(path.with_name(path.name.replace(".nii.gz", ".json")))
    status = read_json(unit_path(root, "grid-status", *where))
    matrices = (np.array(x) for x in (sidecar["DwiWorldToT1World"], status["t1_to_dwi"]))
    record = subject.record
    return misalignment(load(path), *matrices, np.array(record["affine"]), record["shape"])


def main(
    weights: Annotated[Path, typer.Option(help="model.safetensors of `m2m train`.")],
    slices_dir: Annotated[Path, typer.Option(help="Folder of everybody's slices.")],
    split: Annotated[Path, typer.Option(help="split.tsv")],
    split_record: Annotated[Path, typer.Option(help="split.json")],
    root: Annotated[Path, typer.Option(help="The derivative dataset, results/<dataset>.")],
    table: Annotated[Path, typer.Option(help="Table to write: a row per person and orientation.")],
    truth: Annotated[
        Path | None, typer.Option(help="Dataset of the truth, where the distortion is simulated.")
    ] = None,
) -> None:
    """Measure how far a model's label correction moved the targets it learned from."""
    tensors, record = load_model(weights, weights.with_name("model.json"))
    correction = load_correction(tensors, record)
    parts = part_by_participant(load_split(split, split_record))
    images = record["source"], record["target"]
    subjects, _ = find_subjects(slices_dir, parts, *images)
    rows = []
    for part, people in subjects.items():
        for subject in people:
            off_mm = true_misalignment(subject, root, truth) if truth else None
            who = {"unit": subject.unit, "participant_id": subject.participant, "part": part}
            for plane in record["options"]["planes"]:
                found = found_in(subject, plane, *images, correction)
                values = measure(subject, plane, found, off_mm)
                rows.append(
                    {**who, "plane": plane}
                    | {k: None if v is None else f"{v:.5g}" for k, v in values.items()}
                )
    write_table(table, rows, COLUMNS)
    print(f"{record['model']}: labels of {len({row['unit'] for row in rows})} units measured")
    if folded := sorted({row["unit"] for row in rows if float(row["folded"])}):
        print(f"Labels fold, raise correct_labels.smoothness: {', '.join(folded)}")
