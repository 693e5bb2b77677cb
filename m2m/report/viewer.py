"""What the page's viewer shows: maps of a few test people, small enough to stand in the page.

Maps are cut to the brain's box, of the brain only (no face leaves with the page), at most as fine
as `report.viewer_spacing_mm`, in 8 bits; streamlines are thinned. Numbers in the page's tables
are of the maps as they are.
"""

import base64
import gzip
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.streamlines import ArraySequence, TckFile, Tractogram
from numpy.typing import NDArray

from m2m.diffusion import density
from m2m.evaluate.measured_maps import compared
from m2m.evaluate.streamlines import true_streamlines
from m2m.io import volume
from m2m.io.bids import unit_path
from m2m.io.errors import DataError
from m2m.io.modalities import MODALITIES, of_nature
from m2m.io.tables import read_table
from m2m.io.volume import Volume
from m2m.options import Report, Task
from m2m.report.niivue import find_bundle
from m2m.report.words import Row

MARGIN_MM = 6.0
# Between points of streamlines in the page, and to what they are rounded.
POINTS_MM, ROUNDED_MM = 4.0, 0.25
# Of the largest size, the share that colours reach.
TOP_PERCENT = 99.5
# Colours of each map, NiiVue's or those of viewer.js: above zero, and below it where values are.
COLOURS = {
    "t1": ("gray", ""), "true": ("inferno", ""), "synthetic": ("inferno", ""),
    "sd": ("viridis", ""), "error": ("above", "below"),
}  # fmt: skip
# Of the largest error, the share from which an error is coloured.
SEEN = 0.02


def viewed_task(tasks: Mapping[str, Task]) -> str:
    """The task whose maps are shown: the first that predicts a scalar, or else the first."""
    scalar = of_nature("scalar")
    return next((n for n, task in tasks.items() if task.target in scalar), next(iter(tasks)))


def chosen_units(metrics: Sequence[Row], count: int) -> list[tuple[str, str]]:
    """Choose units by the model's brain SSIM, evenly from the best to the worst: unit, words."""
    ssim = {
        row["unit"] or "": float(row["ssim"])
        for row in metrics
        if row["region"] == "brain" and row["ssim"] is not None
    }
    order = sorted(ssim, key=lambda unit: (-ssim[unit], unit))
    if not order or not count:
        return []
    places = np.unique(np.linspace(0, len(order) - 1, count).round().astype(int))
    return [
        (order[i], f"{order[i]}, SSIM {ssim[order[i]]:.3f}")
        for i in places
    ]  # fmt: skip


def load_maps(root: Path, task: Task, name: str, folder: str, unit: str) -> dict[str, Volume]:
    """Load a person's T1, true and synthetic map, standard deviation (where one is) and error.

    Values are those that are compared (data range 1); T1 is 1 at its 99.5th percentile; all are 0
    outside the brain.

    Raises
    ------
    DataError
        A map cannot be read, or lies on another grid.
    """
    modality = MODALITIES[task.target]
    synthetic = root / "synthetic" / name / task.models[0]
    brain = volume.load(unit_path(root, "brain", folder, unit))
    paths = {
        "mask": unit_path(root, "target-mask", folder, unit),
        "t1": unit_path(root, "t1w", folder, unit),
        "true": unit_path(root, modality.kind, folder, unit),
        "synthetic": unit_path(synthetic, modality.synthetic, folder, unit),
        "sd": unit_path(synthetic, f"synthsd-{modality.kind}", folder, unit),
    }
    found = {key: volume.load(path) for key, path in paths.items() if Path(path).exists()}
    if lacking := {"mask", "t1", "true", "synthetic"} - set(found):
        raise DataError("is missing", file=paths[min(lacking)], remedy="make it again")
    for key, one in found.items():
        volume.require_same_grid(brain, one, key)
    covered, inside = found["mask"].data > 0, brain.data > 0
    t1 = found["t1"].data / np.percentile(found["t1"].data[inside], TOP_PERCENT)
    maps = {"t1": np.where(inside, t1, 0)}
    for key in ("true", "synthetic"):
        maps[key] = np.where(covered, compared(task.target, found[key].data).image, 0)
    if "sd" in found and found["sd"].data.ndim == 3:
        maps["sd"] = np.where(covered, found["sd"].data, 0)
    maps["error"] = maps["synthetic"] - maps["true"]
    points = nib.affines.apply_affine(brain.affine, np.argwhere(inside))
    return {
        key: volume.crop(Volume(data.astype(np.float32), brain.affine), points, MARGIN_MM)
        for key, data in maps.items()
    }


def limits(people: Sequence[Mapping[str, Volume]]) -> dict[str, tuple[float, float]]:
    """Values that each layer's colours begin and end with, the same for all people.

    Errors and standard deviations share one scale.
    """

    def top(key: str) -> float:
        sizes = [np.abs(maps[key].data[maps[key].data != 0]) for maps in people if key in maps]
        values = np.concatenate(sizes) if sizes else np.zeros(0)
        return float(np.percentile(values, TOP_PERCENT)) if len(values) else 1.0

    true, error = round(top("true"), 2) or 1.0, round(top("error"), 2) or 0.01
    ends = {"t1": (0.0, 1.0), "true": (0.0, true), "synthetic": (0.0, true)}
    if any("sd" in maps for maps in people):
        ends["sd"] = (0.0, error)
    return ends | {"error": (-error, error)}


def packed(data: bytes) -> str:
    """Bytes as text, compressed, the same each time."""
    return base64.b64encode(gzip.compress(data, 9, mtime=0)).decode()


def eight_bits(image: Volume, low: float, high: float) -> bytes:
    """A NIfTI file of 8 bits whose values reach from `low` to `high`; 0 stays 0 to 1e-6.

    Beyond, values are cut off. `low` is 0 or -`high`.
    """
    slope = (high - low) / 254
    steps = np.clip(np.rint((image.data - low) / slope), 0, 255).astype(np.uint8)
    nifti = nib.Nifti1Image(steps, image.affine)
    nifti.header.set_slope_inter(slope, low)
    nifti.header.set_xyzt_units("mm")
    return nifti.to_bytes()


def thinned(streamlines: ArraySequence, count: int) -> bytes:
    """A .tck file of at most `count` streamlines, evenly chosen, with fewer points.

    Both ends of each stay. Points are rounded, so that they compress.
    """
    chosen = np.unique(np.linspace(0, len(streamlines) - 1, count).round().astype(int))
    lines = []
    for line in (streamlines[int(i)] for i in chosen):
        length = np.linalg.norm(np.diff(line, axis=0), axis=1).sum()
        n = min(len(line), max(2, int(np.ceil(length / POINTS_MM)) + 1))
        kept = np.unique(np.linspace(0, len(line) - 1, n).round().astype(int))
        lines.append((np.round(line[kept] / ROUNDED_MM) * ROUNDED_MM).astype(np.float32))
    buffer = io.BytesIO()
    TckFile(Tractogram(ArraySequence(lines), affine_to_rasmm=np.eye(4))).save(buffer)
    return buffer.getvalue()


def load_streamlines(
    root: Path, tasks: Mapping[str, Task], folder: str, unit: str
) -> dict[str, ArraySequence]:
    """A person's streamlines in T1 world mm: measured, of synthetic tensors, of either's field.

    Those whose file is there; an empty one, which a stage that failed leaves, is left out.
    """
    places = {"measured": (root, "tractogram")}
    tensors = of_nature("tensor")
    drawn = next((name for name, task in tasks.items() if task.target in tensors), None)
    if drawn is not None:
        model = tasks[drawn].models[0]
        home = root / "synthetic" / drawn / model
        places[f"synthetic ({drawn}, {model})"] = (home, "synth-tractogram")
    of_fields = {
        f"{name}, of its field": (home, "field-tractogram") for name, (home, _) in places.items()
    }
    found = {}
    for name, (home, kind) in (places | of_fields).items():
        path = unit_path(home, kind, folder, unit)
        if not Path(path).exists():
            continue
        try:
            found[name] = (
                true_streamlines(root, folder, unit) if kind == "tractogram"
                else density.load_tractogram(path)
            )  # fmt: skip
        except DataError as error:
            print(f"viewer: no {name} streamlines of {unit}: {error}")
    return found


def extent_mm(image: Volume) -> list[tuple[float, float]]:
    """Smallest and largest coordinate of voxel centres along x, y and z."""
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in image.shape])).reshape(3, -1).T
    world: NDArray = nib.affines.apply_affine(image.affine, corners)
    return [(float(a), float(b)) for a, b in zip(world.min(0), world.max(0), strict=True)]


def in_page(
    maps: Mapping[str, Volume],
    ends: Mapping[str, tuple[float, float]],
    streamlines: Mapping[str, ArraySequence],
    section: Report,
) -> dict[str, Any]:
    """One person as the page holds them: extent (mm), maps and streamlines as texts."""
    coarse = maps["t1"].spacing_mm.min() < section.viewer_spacing_mm - 1e-3
    own = {
        key: volume.coarsen(image, section.viewer_spacing_mm) if coarse else image
        for key, image in maps.items()
    }
    count = section.viewer_streamlines
    return {
        "extent": extent_mm(own["t1"]),
        "maps": {key: packed(eight_bits(image, *ends[key])) for key, image in own.items()},
        "streamlines": {name: packed(thinned(one, count)) for name, one in streamlines.items()},
    }


def layers(title: str, ends: Mapping[str, tuple[float, float]]) -> list[dict[str, Any]]:
    """Maps to choose from: key, title, colours, and the values that these begin and end with."""
    titles = {
        "t1": "T1", "true": f"true {title}", "synthetic": f"synthetic {title}",
        "sd": "uncertainty (SD)", "error": "error",
    }  # fmt: skip
    return [
        {
            "key": key, "title": titles[key], "colours": COLOURS[key][0], "below": COLOURS[key][1],
            "low": SEEN * high if COLOURS[key][1] else low, "high": high,
        }
        for key, (low, high) in ends.items()
    ]  # fmt: skip


def viewer(
    root: Path, tasks: Mapping[str, Task], units: Mapping[str, str], section: Report
) -> dict[str, Any] | None:
    """Gather what the viewer's part of the page needs; None where there is nobody to show.

    Parameters
    ----------
    root : Path
        The derivative dataset.
    tasks : mapping
        Of the page, by name.
    units : mapping
        Folder of each unit.
    section : Report

    Returns
    -------
    dict or None
        name and model; bundle (NiiVue, None where it is not installed); data for the script:
        people, layers, module.
    """
    name = viewed_task(tasks)
    task = tasks[name]
    metrics = read_table(root / "evaluate" / name / task.models[0] / "metrics.tsv")
    shown = {"name": name, "model": task.models[0]}
    maps, words = {}, dict(chosen_units(metrics, section.viewer_subjects))
    for unit in words:
        try:
            maps[unit] = load_maps(root, task, name, units[unit], unit)
        except DataError as error:
            print(f"viewer: {unit} is left out: {error}")
    if not maps:
        return None
    bundle = find_bundle(section.viewer_bundle)
    if bundle is None:
        return shown | {"bundle": None}
    ends = limits(list(maps.values()))
    people = [
        {"words": words[unit]}
        | in_page(own, ends, load_streamlines(root, tasks, units[unit], unit), section)
        for unit, own in maps.items()
    ]
    data = {
        "people": people, "layers": layers(MODALITIES[task.target].title, ends),
        "module": packed(bundle.module.encode()),
    }  # fmt: skip
    return shown | {"bundle": bundle, "data": data}
