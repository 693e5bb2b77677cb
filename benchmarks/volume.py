"""Seconds and peak memory of translating a whole T1 to FA: 182 x 218 x 182 voxels of 1 mm.

The T1 is the MNI152 template. `m2m translate` runs as in the workflow: three orientations, in a
separate process, with random weights of config.yaml's m2m.

    python benchmarks/volume.py --out benchmarks/volume.md
"""

import argparse
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from m2m.io.files import write_json
from m2m.io.volume import Volume, resample, save
from m2m.models.building import build_network
from m2m.models.record import Fit, save_model
from m2m.networks.slice_inputs import TemplateMap
from m2m.options import load_config
from m2m.structural.template import load_template

ROOT = Path(__file__).resolve().parents[1]
SHAPE = (182, 218, 182)
AFFINE = np.array([[1.0, 0, 0, -90], [0, 1, 0, -126], [0, 0, 1, -72], [0, 0, 0, 1]])


def shape_at(spacing_mm: float) -> tuple[int, int, int]:
    """Shape of the T1 with voxels of this size."""
    x, y, z = (int(n / spacing_mm) for n in SHAPE)
    return x, y, z


def lay_out(folder: Path, name: str, spacing_mm: float) -> list[str]:
    """Write T1, brain mask, status and model; return the command that translates the T1."""
    affine, shape = AFFINE @ np.diag([*[spacing_mm] * 3, 1]), shape_at(spacing_mm)
    brain = resample(load_template("brain", 1.0), affine, shape)
    t1 = resample(load_template("t1", 1.0), affine, shape)
    save(folder / "t1.nii.gz", t1)
    save(folder / "brain.nii.gz", Volume(brain.data > 0.5, affine), dtype=np.uint8)
    status = {"unit": "sub-1", "stage": "anat", "status": "ok", "excluded": []}
    write_json(folder / "anat.json", status | {"grid_to_mni": np.eye(4).tolist()})
    model = load_config(ROOT / "config.yaml").models[name]
    torch.manual_seed(0)
    mean = load_template("wm", 1.0)  # any map of the template's size
    to_voxel = torch.from_numpy(np.linalg.inv(mean.affine)).float()
    network = build_network(model, 1, TemplateMap(torch.from_numpy(mean.data)[None], to_voxel))
    tensors = {key: value.numpy() for key, value in network.state_dict().items()}
    uncertainty = {
        "method": "predicted",
        "factors": {"predicted": 1.0, "constant": 0.1},
        "nll": {},
        "part": "validation",
        "n_subjects": 1,
    }
    record = {
        "task": "t1-fa",
        "model": name,
        "family": model.family,
        "source": "t1",
        "target": "fa",
        "options": model.model_dump(mode="json"),
        "spacing_mm": spacing_mm,
        "shape": list(shape),
        "t1_range_percent": [1, 99],
        "n_train": 0,
        "n_validation": 0,
        "split_hash": "none",
        "data_hash": "none",
        "code_version": "benchmark",
        "fingerprint": "benchmark",
    }
    paths = [folder / file for file in ("model.safetensors", "model.json", "card.md")]
    save_model(Fit(tensors, None, uncertainty), record, *paths)
    return [
        str(Path(sys.executable).with_name("m2m")),
        "translate",
        str(folder / "t1.nii.gz"),
        "--brain",
        str(folder / "brain.nii.gz"),
        "--anat-status",
        str(folder / "anat.json"),
        "--weights",
        str(paths[0]),
        "--out",
        str(folder / "fa.nii.gz"),
        "--out-sd",
        str(folder / "sd.nii.gz"),
    ]


def main() -> None:
    """Translate several times, print and write medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--spacing-mm", type=float, default=1.0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    spacing_mm = arguments.spacing_mm
    lines = [
        f"`python benchmarks/volume.py`: {' x '.join(map(str, shape_at(spacing_mm)))} voxels of {spacing_mm:g} mm, "
        f"three orientations, reading and writing of files included; median of {arguments.rounds}. "
        f"PyTorch {torch.__version__}, {platform.machine()}, {torch.get_num_threads()} threads, "
        + (torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU."),
        "",
        "| model | seconds | peak memory, GB |",
        "|---|---|---|",
    ]
    for name in ("m2m", "macro2micro-2023"):
        with tempfile.TemporaryDirectory() as temporary:
            command, times = lay_out(Path(temporary), name, spacing_mm), []
            for _ in range(arguments.rounds):
                start = time.perf_counter()
                subprocess.run(command, check=True)
                times.append(time.perf_counter() - start)
        # Largest of all child processes so far: exact for the first model, an upper bound for the second.
        peak_gb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9
        lines.append(f"| {name} | {statistics.median(times):.1f} | {peak_gb:.2f} |")
    text = "\n".join(lines) + "\n"
    print(text)
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
