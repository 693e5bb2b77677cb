"""Real pairs of T1 and DWI: networks that saw none of them, beside an atlas, the T1 and a second measurement.

Every pair of a BIDS dataset is prepared by m2m's own stages: T1 on a grid of 2 mm, tensor fit, registration.

    python benchmarks/real.py BIDS --map FA.nii.gz --weights MODEL.safetensors ... --out real.md --figure real.png

The map is a group average of FA near MNI152. Options and comparisons were chosen on some of these participants, so they
are case studies: a handful of participants gives no interval.
"""

import argparse
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m2m.cohort.index import COLUMNS, build_manifest, list_files
from m2m.cohort.validate import validate
from m2m.diffusion.dti import fit_unit
from m2m.evaluate.metrics import mean_error, region_metrics
from m2m.figures.style import new_figure
from m2m.io.files import read_json
from m2m.io.volume import Volume, load, resample, resample_inside
from m2m.models.record import load_model
from m2m.options import Anat, Cohort, Deformation, Dti, Grid
from m2m.structural.anat import Anatomy, prepare
from m2m.structural.coregistration import register_and_resample
from m2m.structural.deformation import deform
from m2m.structural.group_map import to_template
from m2m.translate.predict import Network, Subject, predict, unscaled

SPACING_MM, SHAPE = 2.0, (96, 120, 104)
MAPS = ("dwi-fa", "dwi-md", "dwi-ad", "dwi-rd", "dwi-v1", "dwi-tensor")
METRICS = ("pearson", "ssim", "psnr", "mae", "bias")
REGIONS = ("brain", "wm")


@dataclass(frozen=True)
class Pair:
    """A participant's T1 and measured FA on one grid.

    Attributes
    ----------
    t1_path : Path
        As acquired.
    anatomy : Anatomy
    fa : ndarray, shape (X, Y, Z)
        Measured, 0 outside `target`.
    target, wm : ndarray of bool, shape (X, Y, Z)
        Where it was measured; white matter of the T1 inside.
    second : ndarray, shape (X, Y, Z), or None
        FA of another series of the participant.
    """

    t1_path: Path
    anatomy: Anatomy
    fa: NDArray[np.float32]
    target: NDArray[np.bool_]
    wm: NDArray[np.bool_]
    second: NDArray[np.float32] | None


def measured(series: Mapping[str, str], anatomy: Anatomy) -> tuple[NDArray, NDArray]:
    """FA of a series on the grid of a T1, and where it was measured."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = {key: folder / f"{key}.nii.gz" for key in ("fa", "md", "ad", "rd", "v1", "tensor", "mask", "b0")}
        scans = (Path(series[key]) for key in ("dwi", "bval", "bvec"))
        fit_unit("sub-01", *scans, **files, status=folder / "dti.json", section=Dti())
        status = read_json(folder / "dti.json")
        if status["status"] != "ok":
            raise ValueError(f"{series['dwi']}: {status['finding']}")
        fa, mask = load(files["fa"]), load(files["mask"])
    options = Grid()
    images = (anatomy.t1, anatomy.brain, fa, mask)
    resampled = register_and_resample(*images, options.registration, options.doubtful_mi)
    return resampled.fa.data, resampled.target.data


def pairs_of(root: Path) -> dict[str, Pair]:
    """Prepare every unit of a dataset with both scans."""
    manifest = [dict.fromkeys(COLUMNS) | row for row in build_manifest(root, list_files(root))]
    units, _ = validate(manifest, Cohort(check_voxels=False), None)
    found = {}
    for unit in (row for row in units if row["state"] == "paired"):
        anatomy = prepare(load(unit["t1w"]), None, Anat(spacing_mm=SPACING_MM, shape=SHAPE))
        fa, target = measured(unit, anatomy)
        others = [
            {"dwi": row["path"], "bval": row["bval"], "bvec": row["bvec"]}
            for row in manifest
            if row["suffix"] == "dwi" and row["participant_id"] == unit["participant_id"] and row["path"] != unit["dwi"]
        ]
        second = None
        if others:
            again, covered = measured(others[0], anatomy)
            target, second = target & covered, again
        wm = target & anatomy.wm.data
        found[unit["unit"]] = Pair(Path(unit["t1w"]), anatomy, np.where(target, fa, 0), target, wm, second)
    return found


def by_network(weights: Path, pair: Pair) -> NDArray[np.float32]:
    """Translate a T1 as `m2m translate` does, on the grid of the model, and resample the map to the pair's grid."""
    tensors, record = load_model(weights, weights.with_name("model.json"))
    grid = Anat(spacing_mm=record["spacing_mm"], shape=record["shape"])
    anatomy = prepare(load(pair.t1_path), None, grid)
    subject = Subject(anatomy.t1, anatomy.brain, anatomy.grid_to_mni)
    image = unscaled(predict(subject, tensors, record, Network()).image, anatomy.brain.data, record)
    brain = pair.anatomy.brain
    return resample_inside(image, anatomy.brain, brain.affine, brain.shape)[0].data


def title_of(weights: Path) -> str:
    """Name of a model, with what it was trained on."""
    record = read_json(weights.with_name("model.json"))
    return f"{record['model']} of simulated participants" if record["simulated"] else str(record["model"])


def scaled_by_line(x: Mapping[str, NDArray], pairs: Mapping[str, Pair], name: str) -> NDArray[np.float64]:
    """Rescale an image of a participant by the least-squares line to FA of the other participants."""
    others = [pair for other, pair in pairs.items() if other != name]
    images = (x[other][pair.target] for other, pair in pairs.items() if other != name)
    slope, intercept = np.polyfit(np.concatenate([*images]), np.concatenate([one.fa[one.target] for one in others]), 1)
    return slope * x[name] + intercept


def predictions(pairs: Mapping[str, Pair], template: Volume, weights: list[Path]) -> dict[str, dict[str, NDArray]]:
    """Maps of every participant by every method."""
    affine, syn, t1 = {}, {}, {}
    for name, pair in pairs.items():
        grid = (pair.anatomy.t1.affine, pair.anatomy.t1.shape, pair.anatomy.grid_to_mni, 1)
        found = deform(pair.anatomy.t1, pair.anatomy.brain, pair.anatomy.grid_to_mni, Deformation())
        affine[name], syn[name] = (resample(template, *grid, field).data for field in (None, found.forward))
        level = np.median(pair.anatomy.t1.data[pair.anatomy.wm.data])
        t1[name] = pair.anatomy.t1.data / level
    every = {title_of(path): {name: by_network(path, pair) for name, pair in pairs.items()} for path in weights}
    every |= {"atlas, affine": affine, "atlas, SyN": syn}
    for title, images in {**every, "T1": t1}.items():
        every[f"{title}, line"] = {name: scaled_by_line(images, pairs, name) for name in pairs}
    every["constant"] = {name: np.full(SHAPE, mean_of_others(pairs, name)) for name in pairs}
    every["second measurement"] = {name: pair.second for name, pair in pairs.items() if pair.second is not None}
    return every


def mean_of_others(pairs: Mapping[str, Pair], name: str) -> float:
    """Mean FA of the other participants."""
    return float(np.mean([pair.fa[pair.target].mean() for other, pair in pairs.items() if other != name]))


def numbers(pair: Pair, image: NDArray) -> dict[str, dict[str, float]]:
    """Metrics of one map in the measured brain and in white matter."""
    regions = dict(zip(REGIONS, (pair.target, pair.wm), strict=True))
    values, _ = region_metrics(pair.fa, image, pair.target, regions)
    for name, region in regions.items():
        values[name]["bias"] = mean_error(pair.fa, image, region)
    return values


def tables(pairs: Mapping[str, Pair], every: Mapping[str, Mapping[str, NDArray]]) -> list[str]:
    """A table for each participant, in Markdown: the brain, and white matter in brackets."""
    lines = []
    for name, pair in pairs.items():
        lines += ["", f"## {name}", "", "| map | r | SSIM | PSNR, dB | MAE | bias |", "|---|---|---|---|---|---|"]
        for title, images in every.items():
            if name in images:
                found = numbers(pair, images[name])
                cells = (_cell(metric, *(found[region][metric] for region in REGIONS)) for metric in METRICS)
                lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return lines


def _cell(metric: str, brain: float, wm: float) -> str:
    """``.672 (.640)``; a constant has no correlation."""
    if np.isnan(brain):
        return "-"
    found = (f"{value:.2f}" if metric == "psnr" else f"{value:.3f}".replace("0.", ".", 1) for value in (brain, wm))
    return "{} ({})".format(*found)


def draw(pairs: Mapping[str, Pair], shown: Mapping[str, Mapping[str, NDArray]], out: Path) -> None:
    """Draw each participant in an axial slice: T1, measured FA, and each map with its difference."""
    figure = new_figure(178, 34 * len(pairs) + 6)
    rows = figure.subplots(len(pairs), 2 + 2 * len(shown), squeeze=False)
    for row, (axes, (name, pair)) in enumerate(zip(rows, pairs.items(), strict=True)):
        k = round(np.argwhere(pair.target)[:, 2].mean())
        t1 = pair.anatomy.t1.data / np.percentile(pair.anatomy.t1.data[pair.anatomy.brain.data], 99)
        images = [("T1", t1, "gray", (0, 1)), ("measured FA", pair.fa, "gray", (0, 0.8))]
        for title, maps in shown.items():
            image = np.where(pair.target, maps[name], 0)
            images += [(title, image, "gray", (0, 0.8)), ("difference", image - pair.fa, "RdBu_r", (-0.3, 0.3))]
        for one, (title, image, colours, limits) in zip(axes, images, strict=True):
            one.imshow(image[:, :, k].T, cmap=colours, vmin=limits[0], vmax=limits[1], origin="lower")
            one.set(xticks=[], yticks=[])
            if row == 0:
                one.set_title(title)
        axes[0].set_ylabel(name)
    figure.savefig(out, dpi=200)


def main() -> None:
    """Prepare, translate, compare; print and write the table and the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bids", type=Path)
    parser.add_argument("--map", type=Path, required=True)
    parser.add_argument("--weights", type=Path, nargs="*", default=[])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    pairs = pairs_of(arguments.bids)
    every = predictions(pairs, to_template(load(arguments.map)), arguments.weights)
    lines = [
        f"`python benchmarks/real.py`: measured FA of {len(pairs)} participants on a grid of {SPACING_MM:g} mm, and "
        "maps of it from their T1s. The brain where FA was measured; white matter in brackets. *line*: scaled by the "
        "least-squares line fitted to the other participants. *second measurement*: FA of another series of the "
        "participant, registered to the T1 by itself. Case studies: options were chosen on these participants.",
    ]
    text = "\n".join(lines + tables(pairs, every)) + "\n"
    print(text)
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")
    if arguments.figure:
        chosen = ["atlas, SyN", *(title_of(path) for path in arguments.weights[:1])]
        draw(pairs, {title: every[title] for title in chosen}, arguments.figure)


if __name__ == "__main__":
    main()
