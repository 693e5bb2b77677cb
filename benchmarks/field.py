"""Held-out slices of measured maps: the continuous field compared with interpolation; fusion of orientations.

The comparison is the stage `compare-fields`. With --fusion, a model's slices of three orientations
are fused in three ways, and the volumes compared with the measured map. Participants are those of the
validation part, on which options are chosen, unless others are named.

    python benchmarks/field.py results/demo sub-0009 sub-0019 --out benchmarks/field.md
    python benchmarks/field.py results/demo sub-0009 --every 4 --corrupt
    python benchmarks/field.py results/demo --fusion t1-tdi/m2m
"""

import argparse
import os
import platform
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from m2m.cohort.split import load_split, part_by_participant
from m2m.evaluate.compare_fields import cases, compare_case
from m2m.evaluate.held_out import Case, fitted_field, score
from m2m.evaluate.metrics import pearson, psnr, ssim_map
from m2m.field.slice_samples import Slice
from m2m.io import bids
from m2m.io.files import read_json, write_text
from m2m.io.modalities import MODALITIES
from m2m.io.volume import Volume, load
from m2m.models import inference
from m2m.models.building import load_network
from m2m.models.fusion import View, average, fusion_of
from m2m.models.record import load_model
from m2m.models.torch_engine import torch_engine
from m2m.options import SliceField, Trained, section_of
from m2m.translate.predict import Subject

FUSIONS = ("average", "inverse-variance", "field")
# Corruption of a slice: noise in scaled units, shift in voxels.
NOISE_SD, SHIFT = 0.3, (4, 3)


def corrupted(slices: list[Slice], how: str) -> tuple[list[Slice], int]:
    """Corrupt the brightest slice by noise or by a shift; return all slices and its index."""
    worst = int(np.argmax([one.image.sum() for one in slices]))
    image = slices[worst].image
    if how == "noise":
        noise = np.random.default_rng(1).normal(0, NOISE_SD, image.shape)
        image = (image + noise).astype(np.float32)
    else:
        image = np.roll(image, SHIFT, (0, 1))
    return [s._replace(image=image) if k == worst else s for k, s in enumerate(slices)], worst


def cases_of(root: Path, subjects: list[str], modality: str, every: list[int]) -> Iterator[tuple[str, Case]]:
    """Yield a case for every participant, spacing and number of orientations.

    Parameters
    ----------
    root : Path
        Dataset of the results.
    subjects : list of str
    modality : str
    every : list of int
        Spacings of the kept slices.

    Yields
    ------
    (str, Case)
    """
    for subject in subjects:
        about = MODALITIES[modality]
        raw = load(bids.unit_path(root, about.kind, subject, subject))
        brain = load(bids.unit_path(root, "target-mask", subject, subject))
        scaled = Volume(about.scale(raw.data), raw.affine)
        yield from ((subject, case) for case in cases(scaled, brain, every))


def compare(subject: str, case: Case, options: SliceField) -> list[str]:
    """Compute the rows of the table of one case.

    Parameters
    ----------
    subject : str
    case : Case
    options : SliceField

    Returns
    -------
    list of str
    """
    rows = []
    for row in compare_case(case, options):
        method = ", ".join(filter(None, (row["method"], row["plane"])))
        numbers = "{psnr:.2f} | {ssim:.3f} | {pearson:.3f} | {seconds:.1f}".format(**row)
        rows.append(f"| {subject} | {row['every']} | {row['n_planes']} | {method} | {numbers} |")
        print(rows[-1], flush=True)
    return rows


def corrupt(subject: str, case: Case, options: SliceField) -> list[str]:
    """Compute the rows on one corrupted slice: PSNR with and without it, and the learned deviations.

    Parameters
    ----------
    subject : str
    case : Case
    options : SliceField

    Returns
    -------
    list of str
    """
    slices = case.slices
    clean = score(case, fitted_field(case, slices, options)[0]).psnr
    rows = []
    for how in ("noise", "shift"):
        corrupted_slices, worst = corrupted(slices, how)
        image, fitted = fitted_field(case, corrupted_slices, options)
        learned = f"{fitted.sds[worst]:.3f} | {np.median(fitted.sds):.3f}"
        found = score(case, image).psnr
        rows.append(
            f"| {subject} | {case.every} | {len(case.planes)} | {how} | {clean:.2f} | {found:.2f} | {learned} |"
        )
        print(rows[-1], flush=True)
    return rows


class Synthetic(NamedTuple):
    """A model's predictions of all orientations in the brain, and the measured map in its mask, scaled."""

    views: list[View]
    brain: NDArray[np.bool_]
    reference: NDArray
    inside: NDArray[np.bool_]
    limits: tuple[float, float]
    options: Trained


def translated(model: Path, root: Path, subject: str) -> Synthetic:
    """Translate a participant's slices of all orientations, without fusing them.

    Parameters
    ----------
    model : Path
        Folder of the model.
    root : Path
        Dataset of the results.
    subject : str

    Returns
    -------
    Synthetic
    """
    tensors, record = load_model(model / "model.safetensors", model / "model.json")
    if record.get("low_res") or record["target"] == "dti":
        raise SystemExit(f"{model}: fusions are compared for FA or density, from one image")

    def path(kind):
        return bids.unit_path(root, kind, subject, subject)

    about = MODALITIES[record["target"]]
    source, reference = load(path(MODALITIES[record["source"]].kind)), load(path(about.kind))
    brain, to_mni = load(path("brain")), np.array(read_json(path("anat-status"))["grid_to_mni"])
    scaled = Subject(source, Volume(brain.data > 0, brain.affine), to_mni).source(record)
    options = section_of(record)
    views: list[View] = []

    def keep(found, inside):
        views.extend(found)
        return average(views, inside)

    inference.translate_volume(
        torch_engine(load_network(tensors, record)),
        scaled,
        to_mni @ source.affine,
        batch_size=4,
        fuse=keep,
        **inference.views_of(options, record["target"]),
    )
    inside = load(path("target-mask")).data > 0
    reference = np.where(inside, about.scale(reference.data), 0)
    return Synthetic(views, scaled != 0, reference, inside, about.limits, options)


def compare_fusions(root: Path, subjects: list[str], named: str) -> list[str]:
    """Compute the rows of the fusions of a model's slices, and their means.

    Parameters
    ----------
    root : Path
        Dataset of the results.
    subjects : list of str
    named : str
        TASK/MODEL.

    Returns
    -------
    list of str
    """
    rows, scores = [], {fusion: [] for fusion in FUSIONS}
    for subject in subjects:
        synthetic = translated(root / "models" / named, root, subject)
        reference, inside = synthetic.reference, synthetic.inside
        for fusion in FUSIONS:
            start = time.perf_counter()
            fuse = fusion_of(fusion, "cpu")
            image = fuse(synthetic.views, synthetic.brain).image[..., 0].clip(*synthetic.limits)
            seconds = time.perf_counter() - start
            image = np.where(inside & synthetic.brain, image, 0)
            found = (
                psnr(reference, image, inside),
                ssim_map(reference, image)[inside].mean(),
                pearson(reference[inside], image[inside]),
            )
            scores[fusion].append(found)
            numbers = "{:.2f} | {:.4f} | {:.4f}".format(*found)
            rows.append(f"| {subject} | {named} | {fusion} | {numbers} | {seconds:.1f} |")
            print(rows[-1], flush=True)
    for fusion, found in scores.items():
        numbers = "{:.2f} | {:.4f} | {:.4f}".format(*np.mean(found, axis=0))
        rows.append(f"| mean of {len(subjects)} | {named} | {fusion} | {numbers} | |")
        print(rows[-1])
    return rows


def validation_participants(root: Path) -> list[str]:
    """List the participants of the validation part."""
    parts = part_by_participant(load_split(root / "cohort/split.tsv", root / "cohort/split.json"))
    return [subject for subject, part in parts.items() if part == "validation"]


HEADS = {
    "compare": "| participant | every | orientations | method | PSNR, dB | SSIM | r | s |",
    "corrupt": "| participant | every | orientations | corrupted by | PSNR | corrupted | its sd | median |",
    "fuse": "| participant | model | fusion | PSNR, dB | SSIM | r | s |",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path, help="results/<dataset>")
    parser.add_argument("subjects", nargs="*", help="units; default: the validation part")
    parser.add_argument("--modality", choices=("tdi", "fa"), default="tdi")
    parser.add_argument("--every", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--corrupt", action="store_true", help="corrupt one slice instead")
    parser.add_argument("--fusion", metavar="TASK/MODEL", help="join this model's slices instead")
    parser.add_argument("--options", default="{}", help="JSON of the section `field`")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    options = SliceField.model_validate_json(given.options)
    subjects = given.subjects or validation_participants(given.root)
    mode = "fuse" if given.fusion else "corrupt" if given.corrupt else "compare"
    rows = [HEADS[mode], "|---" * (HEADS[mode].count("|") - 1) + "|"]
    if given.fusion:
        rows += compare_fusions(given.root, subjects, given.fusion)
    else:
        rows_of = corrupt if given.corrupt else compare
        for subject, case in cases_of(given.root, subjects, given.modality, given.every):
            rows += rows_of(subject, case, options)
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    rows += [
        "",
        f"{given.fusion or given.modality}; {os.cpu_count()} cores, {torch.get_num_threads()} "
        f"threads, load {os.getloadavg()[1]:.1f}, peak memory {peak_gb:.2f} GB; "
        f"PyTorch {torch.__version__}, {platform.machine()}.",
    ]
    print(rows[-1])
    if given.out:
        write_text(given.out, "\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
