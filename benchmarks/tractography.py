"""Time of whole-brain tracking and of mapping its density: DIPY and MRtrix3 on one real scan.

Each runs three times with the same number of seeds per voxel; benchmarks/tractography.md gets the
medians and the correlation of the density maps.

    python benchmarks/tractography.py                           # ../shared/data/bids/sub-DEC
    python benchmarks/tractography.py BIDS/sub-01 --threads 2 --runs 3
"""

import argparse
import contextlib
import io
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np

from m2m import options as sections
from m2m.diffusion import density, dti, dwi, mrtrix3
from m2m.diffusion.tractography.tracking import track
from m2m.diffusion.tractography.tracks import Field, Tractogram
from m2m.io.files import write_text
from m2m.io.volume import Volume

HERE = Path(__file__).resolve().parent
DEFAULT = HERE.parents[1] / "shared/data/bids/sub-DEC"
BACKENDS = {
    "DIPY, EuDX, tensor": {"backend": "dipy"},
    "DIPY, probabilistic, CSD": {
        "backend": "dipy",
        "dipy": {"model": "csd", "algorithm": "probabilistic"},
    },
    "MRtrix3, Tensor_Det": {"backend": "mrtrix3", "mrtrix3": {"algorithm": "Tensor_Det"}},
    "MRtrix3, iFOD2, CSD": {"backend": "mrtrix3"},
}


def load(subject: Path) -> Field:
    """Mask a scan and fit its tensors, with the defaults of the section dti."""
    image = sorted(subject.rglob("*_dwi.nii.gz"))[0]
    name = str(image).removesuffix(".nii.gz")
    series = dwi.load(image, f"{name}.bval", f"{name}.bvec")
    options = sections.Dti()
    b0, affine = dwi.mean_b0(series), series.volume.affine
    limits = options.b0_threshold_s_per_mm2, options.max_b_s_per_mm2, options.b_tolerance_s_per_mm2
    fitted = dwi.volumes_to_fit(series.bvals, series.bvecs, *limits)
    bvals = np.where(series.bvals > options.b0_threshold_s_per_mm2, series.bvals, 0.0)
    data = series.volume.data[..., fitted]
    weighted = Volume(data[..., bvals[fitted] > 0].mean(axis=-1), affine)
    brain = dti.find_mask(b0, weighted, options.mask, None)
    maps = dti.fit_tensor(data, bvals[fitted], series.bvecs[fitted], brain, options.fit)
    return Field(maps.tensor, brain, affine, dwi.Dwi(series.volume, bvals, series.bvecs), fitted)


def timed(function: Callable, runs: int) -> tuple[object, float]:
    """Run a function several times; return the last result and the median time in seconds."""
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            result = function()
        seconds.append(time.perf_counter() - start)
    return result, statistics.median(seconds)


def row(name: str, found: Tractogram, field: Field, seconds: float, runs: int) -> str:
    """Write one line of the table: tracking, then mapping by both backends.

    Parameters
    ----------
    name : str
    found : Tractogram
    field : Field
    seconds : float
        Time of tracking.
    runs : int

    Returns
    -------
    str
    """
    grid = (found.streamlines, field.affine, field.mask.shape)
    ours, dipy_s = timed(lambda: density.count_map(*grid), runs)
    theirs, tckmap_s = timed(lambda: density.count_by_tckmap(*grid), runs)
    r = np.corrcoef(ours[field.mask], theirs[field.mask])[0, 1]
    return (
        f"| {name} | {found.n_seeds} | {len(found.streamlines)} | {seconds:.1f} | {dipy_s:.2f} "
        f"| {tckmap_s:.2f} | {r:.4f} |"
    )


def correlations(counts: dict[str, np.ndarray], mask: np.ndarray) -> list[str]:
    """Write the table of r of log(1 + count) inside the mask, between all backends."""
    logs = np.array([np.log1p(count[mask]) for count in counts.values()])
    lines = [f"| r | {' | '.join(counts)} |", "|---" * (len(counts) + 1) + "|"]
    for name, values in zip(counts, np.corrcoef(logs), strict=True):
        lines.append(f"| {name} | {' | '.join(f'{value:.3f}' for value in values)} |")
    return lines


def machine(threads: int) -> str:
    """Describe machine and software."""
    dipy = f"DIPY {version('dipy')}, MRtrix3 {mrtrix3.version()}"
    return f"{os.cpu_count()} cores, threads: {threads}; Python {platform.python_version()}, {dipy}"


def main() -> None:
    """Track, map, compare, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("subject", type=Path, nargs="?", default=DEFAULT)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    field = load(given.subject)
    rows, counts = [], {}
    for name, chosen in BACKENDS.items():
        options = sections.Tractography.model_validate(chosen)
        found, seconds = timed(lambda o=options: track(field, o, given.threads), given.runs)
        rows.append(row(name, found, field, seconds, given.runs))
        counts[name] = density.count_map(found.streamlines, field.affine, field.mask.shape)
        print(rows[-1], flush=True)
    text = [
        "# Tractography: time, and agreement of the backends",
        "",
        f"`python benchmarks/tractography.py` on {given.subject.name}, "
        f"{'x'.join(map(str, field.mask.shape))} voxels of "
        f"{' x '.join(f'{mm:.2f}' for mm in field.series.volume.spacing_mm)} mm, "
        f"{len(field.series.bvals)} volumes; defaults of the section tractography.",
        f"{machine(given.threads)}. Seconds are medians of {given.runs}; DIPY uses all threads, "
        "tckgen one, so that runs are equal.",
        "",
        "| tracking | seeds | streamlines | track, s | map by DIPY, s | map by tckmap, s | r of the two maps |",
        "|---|---|---|---|---|---|---|",
        *rows,
        "",
        "Tracking includes the model's fit: CSD's response and distributions, not the tensors.",
        "",
        "Density maps of the backends, log(1 + streamlines per voxel) inside the brain:",
        "",
        *correlations(counts, field.mask),
        "",
    ]
    write_text(HERE / "tractography.md", "\n".join(text))


if __name__ == "__main__":
    main()
