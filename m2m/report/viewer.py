"""Data of the page's viewer: maps of a few test participants, small enough to be part of the page.

Maps are cropped to the brain's bounding box and masked (no face is in the page), at
`report.viewer_spacing_mm` or coarser, with 8 bits; streamlines are subsampled. The numbers in the
page's tables are computed from the original maps.
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
from m2m.evaluate.streamlines import reference_streamlines
from m2m.io import volume
from m2m.io.bids import unit_path
from m2m.io.errors import DataError
from m2m.io.masks import in_mask
from m2m.io.modalities import MODALITIES, of_nature
from m2m.io.tables import read_table
from m2m.io.volume import Volume
from m2m.options import Report, Rois, Task
from m2m.report.named_streamlines import Regions, by_bundle, region_source
from m2m.report.niivue import find_bundle
from m2m.report.summary_text import Row

MARGIN_MM = 6.0
# Distance between points of streamlines in the page, and step to which coordinates are rounded.
POINTS_MM, ROUNDED_MM = 4.0, 0.25
# Percentile of the values at which colours end.
TOP_PERCENT = 99.5
# Colour maps (of NiiVue or viewer.js) of each map, for positive and for negative values.
COLOURS = {
    "t1": ("gray", ""),
    "measured": ("inferno", ""),
    "synthetic": ("inferno", ""),
    "sd": ("viridis", ""),
    "error": ("above", "below"),
}
# Errors below this share of the largest error are not coloured.
VISIBLE = 0.02


def viewed_task(tasks: Mapping[str, Task]) -> str:
    """Name of the task whose maps are shown: the first that predicts a scalar, or else the first."""
    scalar = of_nature("scalar")
    return next((n for n, task in tasks.items() if task.target in scalar), next(iter(tasks)))


def chosen_units(metrics: Sequence[Row], count: int) -> list[tuple[str, str]]:
    """Choose units evenly from the best to the worst brain SSIM; return each unit and its label."""
    ssim = {
        row["unit"] or "": float(row["ssim"]) for row in metrics if row["region"] == "brain" and row["ssim"] is not None
    }
    order = sorted(ssim, key=lambda unit: (-ssim[unit], unit))
    if not order or not count:
        return []
    ranks = np.unique(np.linspace(0, len(order) - 1, count).round().astype(int))
    return [(order[i], f"{order[i]}, SSIM {ssim[order[i]]:.3f}") for i in ranks]


def load_maps(root: Path, task: Task, name: str, folder: str, unit: str) -> dict[str, Volume]:
    """Load a subject's T1, measured and synthetic map, standard deviation (if any) and error.

    Values are those that are evaluated (data range 1); T1 is 1 at its 99.5th percentile; all are 0
    outside the brain.

    Parameters
    ----------
    root : Path
        The derivative dataset.
    task : Task
    name : str
        Name of the task.
    folder, unit : str

    Returns
    -------
    dict of str to Volume

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
        "measured": unit_path(root, modality.kind, folder, unit),
        "synthetic": unit_path(synthetic, modality.synthetic, folder, unit),
        "sd": unit_path(synthetic, f"synthsd-{modality.kind}", folder, unit),
    }
    found = {key: volume.load(path) for key, path in paths.items() if Path(path).exists()}
    if lacking := {"mask", "t1", "measured", "synthetic"} - set(found):
        raise DataError("is missing", file=paths[min(lacking)], remedy="create it again")
    for key, one in found.items():
        volume.require_same_grid(brain, one, key)
    covered, inside = in_mask(found["mask"].data), in_mask(brain.data)
    t1 = found["t1"].data / np.percentile(found["t1"].data[inside], TOP_PERCENT)
    maps = {"t1": np.where(inside, t1, 0)}
    for key in ("measured", "synthetic"):
        maps[key] = np.where(covered, compared(task.target, found[key].data).image, 0)
    if "sd" in found and found["sd"].data.ndim == 3:
        maps["sd"] = np.where(covered, found["sd"].data, 0)
    maps["error"] = maps["synthetic"] - maps["measured"]
    points = nib.affines.apply_affine(brain.affine, np.argwhere(inside))
    return {
        key: volume.crop(Volume(data.astype(np.float32), brain.affine), points, MARGIN_MM) for key, data in maps.items()
    }


def limits(subjects: Sequence[Mapping[str, Volume]]) -> dict[str, tuple[float, float]]:
    """Values at which each layer's colours start and end, the same for all subjects.

    Errors and standard deviations share one scale.
    """

    def top(key: str) -> float:
        sizes = [np.abs(maps[key].data[maps[key].data != 0]) for maps in subjects if key in maps]
        values = np.concatenate(sizes) if sizes else np.zeros(0)
        return float(np.percentile(values, TOP_PERCENT)) if len(values) else 1.0

    measured, error = round(top("measured"), 2) or 1.0, round(top("error"), 2) or 0.01
    ends = {"t1": (0.0, 1.0), "measured": (0.0, measured), "synthetic": (0.0, measured)}
    if any("sd" in maps for maps in subjects):
        ends["sd"] = (0.0, error)
    return ends | {"error": (-error, error)}


def packed(data: bytes) -> str:
    """Compress bytes to text, with the same result each time."""
    return base64.b64encode(gzip.compress(data, 9, mtime=0)).decode()


def eight_bits(image: Volume, low: float, high: float) -> bytes:
    """NIfTI file with 8 bits per voxel; 0 stays 0 to 1e-6.

    Parameters
    ----------
    image : Volume
    low, high : float
        Range of the values; values outside are clipped. `low` is 0 or -`high`.

    Returns
    -------
    bytes
    """
    slope = (high - low) / 254
    steps = np.clip(np.rint((image.data - low) / slope), 0, 255).astype(np.uint8)
    nifti = nib.Nifti1Image(steps, image.affine)
    nifti.header.set_slope_inter(slope, low)
    nifti.header.set_xyzt_units("mm")
    return nifti.to_bytes()


def thinned(streamlines: ArraySequence) -> bytes:
    """A .tck file of streamlines with fewer points.

    Both ends of each streamline are kept. Coordinates are rounded, so that the file compresses well.
    """
    lines = []
    for line in streamlines:
        length = np.linalg.norm(np.diff(line, axis=0), axis=1).sum()
        n = min(len(line), max(2, int(np.ceil(length / POINTS_MM)) + 1))
        kept = np.unique(np.linspace(0, len(line) - 1, n).round().astype(int))
        lines.append((np.round(line[kept] / ROUNDED_MM) * ROUNDED_MM).astype(np.float32))
    buffer = io.BytesIO()
    TckFile(Tractogram(ArraySequence(lines), affine_to_rasmm=np.eye(4))).save(buffer)
    return buffer.getvalue()


def load_streamlines(root: Path, tasks: Mapping[str, Task], folder: str, unit: str) -> dict[str, ArraySequence]:
    """Load a subject's streamlines: measured, of synthetic tensors, and of the continuous field of each.

    A missing file is skipped; so is an empty one, which a failed stage leaves.

    Parameters
    ----------
    root : Path
        The derivative dataset.
    tasks : mapping of str to Task
    folder, unit : str

    Returns
    -------
    dict of str to ArraySequence
        In T1 world mm.
    """
    sources = {"measured": (root, "tractogram")}
    tensors = of_nature("tensor")
    tensor_task = next((name for name, task in tasks.items() if task.target in tensors), None)
    if tensor_task is not None:
        model = tasks[tensor_task].models[0]
        dataset = root / "synthetic" / tensor_task / model
        sources[f"synthetic ({tensor_task}, {model})"] = (dataset, "synth-tractogram")
    of_fields = {f"{name}, continuous field": (dataset, "field-tractogram") for name, (dataset, _) in sources.items()}
    found = {}
    for name, (dataset, kind) in (sources | of_fields).items():
        path = unit_path(dataset, kind, folder, unit)
        if not density.tractogram_file(path).exists():
            continue
        try:
            found[name] = (
                reference_streamlines(root, folder, unit) if kind == "tractogram" else density.load_tractogram(path)
            )
        except DataError as error:
            print(f"viewer: no {name} streamlines of {unit}: {error}")
    return found


def extent_mm(image: Volume) -> list[tuple[float, float]]:
    """Smallest and largest coordinate of voxel centres (mm) along x, y and z."""
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in image.shape])).reshape(3, -1).T
    world: NDArray = nib.affines.apply_affine(image.affine, corners)
    return [(float(a), float(b)) for a, b in zip(world.min(0), world.max(0), strict=True)]


def in_page(
    maps: Mapping[str, Volume],
    ends: Mapping[str, tuple[float, float]],
    streamlines: Mapping[str, ArraySequence],
    section: Report,
    regions: Regions | None = None,
) -> dict[str, Any]:
    """Data of one subject in the page.

    Parameters
    ----------
    maps : mapping of str to Volume
    ends : mapping of str to tuple of float
        Range of the values of each map.
    streamlines : mapping of str to ArraySequence
        In T1 world mm.
    section : Report
    regions : Regions, optional
        That name the streamlines' bundles.

    Returns
    -------
    dict
        extent (mm), maps and, for each tractogram, its bundles by name (compressed files as texts).
    """
    coarse = maps["t1"].spacing_mm.min() < section.viewer_spacing_mm - 1e-3
    own = {key: volume.coarsen(image, section.viewer_spacing_mm) if coarse else image for key, image in maps.items()}
    count = section.viewer_streamlines
    return {
        "extent": extent_mm(own["t1"]),
        "maps": {key: packed(eight_bits(image, *ends[key])) for key, image in own.items()},
        "streamlines": {
            name: {bundle: packed(thinned(lines)) for bundle, lines in by_bundle(one, count, regions).items()}
            for name, one in streamlines.items()
        },
    }


def layers(title: str, ends: Mapping[str, tuple[float, float]]) -> list[dict[str, Any]]:
    """Maps of the viewer's menu: key, title, colours, and the values at which these start and end."""
    titles = {
        "t1": "T1",
        "measured": f"measured {title}",
        "synthetic": f"synthetic {title}",
        "sd": "uncertainty (SD)",
        "error": "error",
    }
    return [
        {
            "key": key,
            "title": titles[key],
            "colours": COLOURS[key][0],
            "below": COLOURS[key][1],
            "low": VISIBLE * high if COLOURS[key][1] else low,
            "high": high,
        }
        for key, (low, high) in ends.items()
    ]


def viewer(
    root: Path, tasks: Mapping[str, Task], units: Mapping[str, str], section: Report, rois: Rois | None = None
) -> dict[str, Any] | None:
    """Collect the data of the viewer; None where there is no subject to show.

    Parameters
    ----------
    root : Path
        The derivative dataset.
    tasks : mapping
        Tasks of the page, by name.
    units : mapping
        Folder of each unit.
    section : Report
    rois : Rois, optional
        Of the evaluation: they name bundles.

    Returns
    -------
    dict or None
        name and model; bundle (NiiVue; None where it is not installed); data for the script:
        subjects, layers, module.
    """
    name = viewed_task(tasks)
    task = tasks[name]
    metrics = read_table(root / "evaluate" / name / task.models[0] / "metrics.tsv")
    shown = {"name": name, "model": task.models[0]}
    maps, labels = {}, dict(chosen_units(metrics, section.viewer_subjects))
    for unit in labels:
        try:
            maps[unit] = load_maps(root, task, name, units[unit], unit)
        except DataError as error:
            print(f"viewer: {unit} is skipped: {error}")
    if not maps:
        return None
    bundle = find_bundle(section.viewer_bundle)
    if bundle is None:
        return shown | {"bundle": None}
    ends = limits(list(maps.values()))
    regions_of = region_source(rois or Rois(), root)
    subjects = []
    for unit, own in maps.items():
        lines = load_streamlines(root, tasks, units[unit], unit)
        regions = regions_of(units[unit], unit, own["t1"]) if lines else None
        subjects.append({"label": labels[unit]} | in_page(own, ends, lines, section, regions))
    data = {
        "subjects": subjects,
        "layers": layers(MODALITIES[task.target].title, ends),
        "module": packed(bundle.module.encode()),
    }
    return shown | {"bundle": bundle, "data": data}
