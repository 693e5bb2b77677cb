"""Held-out slices of true maps: the continuous field beside interpolation; fusions of others.

The comparison is the stage `compare-fields`. With --fusion, a model's slices of three
orientations are joined in three ways, and the volumes compared with the true one. People are those
of the validation part, where choices are made, unless others are named.

    python benchmarks/field.py results/demo sub-0009 sub-0019 --out benchmarks/field.md
    python benchmarks/field.py results/demo sub-0009 --every 4 --corrupt
    python benchmarks/field.py results/demo --fusion t1-tdi/macro2micro
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
from m2m.options import SliceField, Trained, section_of
from m2m.translate.predict import Person

FUSIONS = ("average", "inverse-variance", "field")
# Of a corrupted slice: noise in scaled units, shift in voxels.
NOISE_SD, SHIFT = 0.3, (4, 3)


def corrupted(slices: list[Slice], how: str) -> tuple[list[Slice], int]:
    """Spoil the brightest slice."""
    worst = int(np.argmax([one.image.sum() for one in slices]))
    image = slices[worst].image
    if how == "noise":
        noise = np.random.default_rng(1).normal(0, NOISE_SD, image.shape)
        image = (image + noise).astype(np.float32)
    else:
        image = np.roll(image, SHIFT, (0, 1))
    return [s._replace(image=image) if k == worst else s for k, s in enumerate(slices)], worst


def cases_of(
    root: Path, people: list[str], modality: str, every: list[int]
) -> Iterator[tuple[str, Case]]:
    """Every person, spacing and number of orientations."""
    for person in people:
        about = MODALITIES[modality]
        raw = load(bids.unit_path(root, about.kind, person, person))
        brain = load(bids.unit_path(root, "target-mask", person, person))
        scaled = Volume(about.scale(raw.data), raw.affine)
        yield from ((person, case) for case in cases(scaled, brain, every))


def compare(person: str, case: Case, options: SliceField) -> list[str]:
    """Rows of the table of one case."""
    rows = []
    for row in compare_case(case, options):
        method = ", ".join(filter(None, (row["method"], row["plane"])))
        numbers = "{psnr:.2f} | {ssim:.3f} | {pearson:.3f} | {seconds:.1f}".format(**row)
        rows.append(f"| {person} | {row['every']} | {row['n_planes']} | {method} | {numbers} |")
        print(rows[-1], flush=True)
    return rows


def spoil(person: str, case: Case, options: SliceField) -> list[str]:
    """Rows on one corrupted slice: the field's loss, and the deviation it learned."""
    slices = case.slices
    clean = score(case, fitted_field(case, slices, options)[0]).psnr
    rows = []
    for how in ("noise", "shift"):
        spoilt, worst = corrupted(slices, how)
        image, fitted = fitted_field(case, spoilt, options)
        learned = f"{fitted.sds[worst]:.3f} | {np.median(fitted.sds):.3f}"
        found = score(case, image).psnr
        rows.append(
            f"| {person} | {case.every} | {len(case.planes)} | {how} | {clean:.2f} "
            f"| {found:.2f} | {learned} |"
        )
        print(rows[-1], flush=True)
    return rows


class Synthetic(NamedTuple):
    """What a model's orientations give in the brain, and the true map inside its mask, scaled."""

    views: list[View]
    brain: NDArray[np.bool_]
    true: NDArray
    inside: NDArray[np.bool_]
    limits: tuple[float, float]
    options: Trained


def translated(model: Path, root: Path, person: str) -> Synthetic:
    """Translate a person's slices of all orientations, without joining them."""
    tensors, record = load_model(model / "model.safetensors", model / "model.json")
    if record.get("low") or record["target"] == "dti":
        raise SystemExit(f"{model}: fusions are compared for FA or density, from one image")

    def path(kind):
        return bids.unit_path(root, kind, person, person)

    about = MODALITIES[record["target"]]
    source, true = load(path(MODALITIES[record["source"]].kind)), load(path(about.kind))
    brain, to_mni = load(path("brain")), np.array(read_json(path("anat-status"))["grid_to_mni"])
    scaled = Person(source, Volume(brain.data > 0, brain.affine), to_mni).source(record)
    options = section_of(record)
    views: list[View] = []

    def keep(found, inside):
        views.extend(found)
        return average(views, inside)

    inference.translate_volume(
        load_network(tensors, record), scaled, to_mni @ source.affine, batch_size=4,
        fuse=keep, **inference.views_of(options, record["target"]),
    )  # fmt: skip
    inside = load(path("target-mask")).data > 0
    true = np.where(inside, about.scale(true.data), 0)
    return Synthetic(views, scaled != 0, true, inside, about.limits, options)


def compare_fusions(root: Path, people: list[str], named: str) -> list[str]:
    """Rows of the fusions of a model's slices (`named`: TASK/MODEL), and their means."""
    rows, scores = [], {fusion: [] for fusion in FUSIONS}
    for person in people:
        made = translated(root / "models" / named, root, person)
        true, inside = made.true, made.inside
        for fusion in FUSIONS:
            begun = time.perf_counter()
            fuse = fusion_of(fusion, "cpu")
            image = fuse(made.views, made.brain).image[..., 0].clip(*made.limits)
            seconds = time.perf_counter() - begun
            image = np.where(inside & made.brain, image, 0)
            found = (
                psnr(true, image, inside),
                ssim_map(true, image)[inside].mean(),
                pearson(true[inside], image[inside]),
            )
            scores[fusion].append(found)
            numbers = "{:.2f} | {:.4f} | {:.4f}".format(*found)
            rows.append(f"| {person} | {named} | {fusion} | {numbers} | {seconds:.1f} |")
            print(rows[-1], flush=True)
    for fusion, found in scores.items():
        numbers = "{:.2f} | {:.4f} | {:.4f}".format(*np.mean(found, axis=0))
        rows.append(f"| mean of {len(people)} | {named} | {fusion} | {numbers} | |")
        print(rows[-1])
    return rows


def validation_people(root: Path) -> list[str]:
    """People that choices are made on."""
    parts = part_by_participant(load_split(root / "cohort/split.tsv", root / "cohort/split.json"))
    return [person for person, part in parts.items() if part == "validation"]


HEADS = {
    "compare": "| person | every | orientations | method | PSNR, dB | SSIM | r | s |",
    "spoil": "| person | every | orientations | spoilt by | PSNR | spoilt | its sd | median |",
    "fuse": "| person | model | fusion | PSNR, dB | SSIM | r | s |",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path, help="results/<dataset>")
    parser.add_argument("people", nargs="*", help="units; default: the validation part")
    parser.add_argument("--modality", choices=("tdi", "fa"), default="tdi")
    parser.add_argument("--every", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--corrupt", action="store_true", help="spoil one slice instead")
    parser.add_argument("--fusion", metavar="TASK/MODEL", help="join this model's slices instead")
    parser.add_argument("--options", default="{}", help="JSON of the section `field`")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    options = SliceField.model_validate_json(given.options)
    people = given.people or validation_people(given.root)
    mode = "fuse" if given.fusion else "spoil" if given.corrupt else "compare"
    rows = [HEADS[mode], "|---" * (HEADS[mode].count("|") - 1) + "|"]
    if given.fusion:
        rows += compare_fusions(given.root, people, given.fusion)
    else:
        rows_of = spoil if given.corrupt else compare
        for person, case in cases_of(given.root, people, given.modality, given.every):
            rows += rows_of(person, case, options)
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
