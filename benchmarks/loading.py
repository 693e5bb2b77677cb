"""Storage of slices at the published scale (256 x 256 x 256 voxels of 1.25 mm), and the loader of training.

One synthetic participant, the MNI152 template with noise, is written in each form: arrays of the whole grid, arrays of
the brain's box (what `m2m slices` writes), and arrays of the whole grid compressed slice by slice. All participants are
hard links to its files, so they are read from the memory of the system, not from the disk.

    python benchmarks/loading.py --out benchmarks/loading.md
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from training import PatchDiscriminator, StyleDiscriminator

from m2m.io.files import write_json
from m2m.models.building import build_network
from m2m.networks.feature_encoder import Vgg19Features
from m2m.options.families.macro2micro_2023 import Published2023
from m2m.structural.slices import PLANES, SliceArray, stack, write_slices
from m2m.structural.template import load_template
from m2m.train.dataset import SliceBatches, Subject

SPACING_MM = 1.25
UNIT = "sub-00000"
WORKERS = (1, 2, 4, 8)
# Passes through each network for one image of the published recipe. A pass backwards counts as one for the inputs and
# one for the weights. Discriminators: a real and a synthetic image (3 each), then the generator's term (2).
PASSES = {"generator": 3, "image discriminator": 8, "patch discriminator": 8, "features": 3}


@dataclass(frozen=True)
class Inflated:
    """What `SliceArray` offers, of slices that are decompressed one by one."""

    path: Path
    channels: int
    shape: tuple[int, int, int]

    def slice(self, index: int, channel: int) -> NDArray[np.float16]:
        """Read a slice of a channel."""
        n, *edges = self.shape
        ends = np.memmap(self.path, np.int64, "r", shape=(n * self.channels + 1,))
        start, stop = ends[index * self.channels + channel :][:2]
        with self.path.open("rb") as stream:
            stream.seek(int(start))
            return np.frombuffer(zlib.decompress(stream.read(int(stop - start))), np.float16).reshape(edges)

    def read(self, first: int, last: int, channels: Sequence[int]) -> NDArray[np.float32]:
        """As `SliceArray.read`."""
        found = np.zeros((last - first, len(channels), *self.shape[1:]), np.float32)
        for i in range(max(first, 0), min(last, self.shape[0])):
            for j, channel in enumerate(channels):
                found[i - first, j] = self.slice(i, channel)
        return found

    def filled(self, channel: int) -> NDArray[np.int32]:
        """As `SliceArray.filled`."""
        return np.array([i for i in range(self.shape[0]) if self.slice(i, channel).any()], np.int32)


@dataclass(frozen=True)
class Whole(Subject):
    """A participant with arrays of the whole grid."""

    def open(self, plane: str) -> SliceArray:
        """Memory-map the array of an orientation."""
        shape = tuple(self.record["shape"])
        box = slice(0, shape[0]), slice(0, shape[1]), slice(0, shape[2])
        return SliceArray(np.load(self.folder / f"{self.unit}_{plane}.npy", mmap_mode="r"), box, shape)


@dataclass(frozen=True)
class Compressed(Subject):
    """A participant with compressed slices."""

    def open(self, plane: str) -> SliceArray:
        """Name the file of an orientation."""
        path, channels = self.folder / f"{self.unit}_{plane}.npy", len(self.record["channels"])
        return cast(SliceArray, Inflated(path, channels, tuple(self.record["shape"])))


def write_whole(volumes: Mapping[str, NDArray], outputs: Mapping[str, Path]) -> dict[str, Any]:
    """Write arrays of the whole grid."""
    for plane, path in outputs.items():
        np.save(path, stack(volumes, plane))
    return {}


def write_compressed(volumes: Mapping[str, NDArray], outputs: Mapping[str, Path]) -> dict[str, Any]:
    """Write slices compressed at level 1, after a table of their ends."""
    for plane, path in outputs.items():
        images = stack(volumes, plane).reshape(-1, *next(iter(volumes.values())).shape[1:])
        parts = [zlib.compress(image.tobytes(), 1) for image in images]
        ends = 8 * (len(parts) + 1) + np.cumsum([0, *map(len, parts)])
        path.write_bytes(ends.astype(np.int64).tobytes() + b"".join(parts))
    return {}


FORMS: dict[str, tuple[type[Subject], Callable[..., dict[str, Any]]]] = {
    "whole grid, memory-mapped": (Whole, write_whole),
    "whole grid, zlib level 1 by slice": (Compressed, write_compressed),
    "brain's box, memory-mapped": (Subject, write_slices),
}


def volumes_of(size: int) -> dict[str, NDArray]:
    """Channels of a synthetic participant, shape (size, size, size), with the brain in the middle."""
    rng = np.random.default_rng(0)
    brain = load_template("brain", SPACING_MM).data > 0
    images = {name: load_template(name, SPACING_MM).data for name in ("t1", "wm")}
    noisy = [np.where(brain, 0.7 * data + rng.normal(0.1, 0.03, brain.shape), 0) for data in images.values()]
    before = [(size - n) // 2 for n in brain.shape]
    around = [(b, size - n - b) for b, n in zip(before, brain.shape, strict=True)]
    names = ("t1", "fa", "brain", "target_mask")
    return {name: np.pad(data, around) for name, data in zip(names, (*noisy, brain, brain), strict=True)}


def subjects_of(form: str, folder: Path, n: int) -> list[Subject]:
    """Participants of a form whose files are hard links to those of the first one."""
    record = json.loads((folder / "record.json").read_text())
    units = [f"sub-{i:05d}" for i in range(n)]
    for unit in units:
        for plane in PLANES:
            if not (link := folder / f"{unit}_{plane}.npy").exists():
                os.link(folder / f"{UNIT}_{plane}.npy", link)
    return [FORMS[form][0](unit, unit, folder, record) for unit in units]


def loader_of(subjects: Sequence[Subject]) -> SliceBatches:
    """Loader of the published recipe's batches, with the neighbours that config.paper.yaml reads."""
    return SliceBatches(subjects, "t1", "fa", context=5, planes=PLANES, batch_size=8, seed=1, jitter=0.05)


def measure(form: str, folder: Path, batches: int, workers: Sequence[int]) -> tuple[float, float, list[float]]:
    """CPU ms to find a participant's slices, CPU ms of an image, and images per second by numbers of workers."""
    loader = loader_of(subjects_of(form, folder, 4))
    start = time.process_time()
    for subject in loader.subjects:
        for plane in PLANES:
            loader._usable_slices(subject, plane)  # cached: workers get it with their copy of the loader
    find_ms = 1e3 * (time.process_time() - start) / len(loader.subjects)
    images, start = batches * loader.batch_size, time.process_time()
    for _ in loader.steps(0, batches, 0):
        pass
    image_ms, rates = 1e3 * (time.process_time() - start) / images, []
    for number in workers:
        begun = time.perf_counter()
        for _ in loader.steps(0, batches, number):
            pass
        rates.append(images / (time.perf_counter() - begun))
    return find_ms, image_ms, rates


def peak_mb(form: str, folder: Path, n: int, batches: int) -> float:
    """Peak memory of a process that loads batches of n participants."""
    given = [sys.executable, __file__, "--form", form, "--folder", str(folder), "--subjects", str(n)]
    done = subprocess.run([*given, "--batches", str(batches)], check=True, capture_output=True, text=True)
    return float(done.stdout)


def published_flops(size: int) -> float:
    """Floating-point operations of training the published recipe on one image, by `PASSES`."""
    with torch.device("meta"):  # shapes alone: nothing is computed
        image, crops = torch.empty(1, 1, size, size), torch.empty(1, 8, 1, 128, 128)
        place = torch.empty(1, dtype=torch.long), torch.empty(1, 3, size, size)
        networks: dict[str, tuple[nn.Module, tuple[torch.Tensor, ...]]] = {
            "generator": (build_network(Published2023()), (image, *place)),
            "image discriminator": (StyleDiscriminator(), (image, image)),
            "patch discriminator": (PatchDiscriminator(105, 128), (crops, crops)),
            "features": (Vgg19Features(), (image,)),
        }
    total = 0.0
    for name, (network, given) in networks.items():
        with FlopCounterMode(display=False) as counter:
            network(*given)
        total += PASSES[name] * counter.get_total_flops()
    return total


def rows_of(size: int, n: int, batches: int, folder: Path) -> tuple[list[str], list[str]]:
    """Rows of the forms; and of the loader of the last one, that of training."""
    volumes, rows, further = volumes_of(size), [], []
    for number, (form, (_, write)) in enumerate(FORMS.items()):
        own, last = folder / str(number), number == len(FORMS) - 1
        own.mkdir()
        outputs, start = {plane: own / f"{UNIT}_{plane}.npy" for plane in PLANES}, time.process_time()
        found = write(volumes, outputs)
        seconds = time.process_time() - start
        about = {"channels": list(volumes), "shape": [size] * 3, "affine": np.diag([*[SPACING_MM] * 3, 1]).tolist()}
        write_json(own / "record.json", about | {"grid_to_mni": np.eye(4).tolist()} | found)
        size_mb = sum(path.stat().st_size for path in outputs.values()) / 1e6
        find_ms, image_ms, rates = measure(form, own, batches, WORKERS if last else ())
        rows.append(
            f"| {form} | {size_mb:.0f} | {seconds:.1f} | {find_ms:.0f} | {image_ms:.1f} | {1e3 / image_ms:.0f} |"
        )
        if last:
            further += [
                f"| images per second, {k} workers | {rate:.0f} |" for k, rate in zip(WORKERS, rates, strict=True)
            ]
            peaks = {k: peak_mb(form, own, k, batches) for k in (n // 10, n)}
            further += [f"| peak memory, {k} participants, MB | {peak:.0f} |" for k, peak in peaks.items()]
    return rows, further


def main() -> None:
    """Measure all forms, print and write the tables; with --form, print the peak memory of one loader."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subjects", type=int, default=1000)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batches", type=int, default=12)
    parser.add_argument("--tflops", type=float, default=989, help="of the GPU; default: an H200's dense bf16")
    parser.add_argument("--utilisation", type=float, default=0.3)
    parser.add_argument("--folder", type=Path, help="for the slices; default: a temporary one")
    parser.add_argument("--form", choices=FORMS)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.form:
        loader = loader_of(subjects_of(arguments.form, arguments.folder, arguments.subjects))
        for _ in loader.steps(0, arguments.batches, 0):
            pass
        # Not that of getrusage, which begins with the memory of the process that started this one.
        status = Path("/proc/self/status").read_text()
        print(int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6)
        return
    flops, n = published_flops(arguments.size), arguments.subjects
    needed = arguments.utilisation * arguments.tflops * 1e12 / flops
    with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
        rows, further = rows_of(arguments.size, n, arguments.batches, Path(temporary))
    lines = [
        f"`python benchmarks/loading.py`: a synthetic participant of {' x '.join([str(arguments.size)] * 3)} voxels of "
        f"{SPACING_MM} mm, channels t1, fa, brain and target_mask, three orientations, float16. Batches of 8 slices "
        "with 5 slices of the T1 each. One participant is on disk in each form, the others are hard links to it: all "
        f"is read from memory. {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.0f}: "
        "where the load exceeds the cores, CPU time compares the forms, and images per second do not.",
        "",
        "| form | MB a participant | CPU s to write | CPU ms to find a participant's usable slices, once | "
        "CPU ms an image | images per second of a whole core |",
        "|---|---|---|---|---|---|",
        *rows,
        "",
        f"The published recipe takes {flops / 1e12:.2f} TFLOP an image (forwards and backwards, counted by PyTorch). "
        f"A GPU of {arguments.tflops:g} TFLOPS (bf16, dense) at a utilisation of {arguments.utilisation:g} would train "
        f"on {needed:.0f} images per second: an estimate, no GPU was at hand.",
        "",
        f"| loader, {list(FORMS)[-1]} | |",
        "|---|---|",
        *further,
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
