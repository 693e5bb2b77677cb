"""Slices of training people as batches: memory-mapped, drawn from the step's number alone.

A batch is a function of seed and step, so a stopped run that goes on draws what it would have
drawn. Files are opened when a slice is read and closed again: memory does not grow with the
cohort.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from m2m.diffusion.lowres import described, low_grid
from m2m.io.errors import DataError
from m2m.io.files import read_json
from m2m.io.modalities import MODALITIES
from m2m.io.volume import Volume
from m2m.structural.slices import PLANES, assemble, positions

Batch = dict[str, Any]


@dataclass(frozen=True)
class Subject:
    """One unit's slices on disk.

    Attributes
    ----------
    unit : str
    participant : str
        ``sub-01``.
    folder : Path
        Of the arrays.
    record : dict
        The content of ``<unit>_slices.json``.
    low : Path or None
        Folder of the arrays of the target at low resolution, where a task sees it.
    """

    unit: str
    participant: str
    folder: Path
    record: dict[str, Any]
    low: Path | None = None

    def open(self, plane: str) -> NDArray[np.float16]:
        """Map the array of an orientation, shape (n_slices, channels, height, width)."""
        return np.load(self.folder / f"{self.unit}_{plane}.npy", mmap_mode="r")

    def open_low(self, plane: str) -> NDArray[np.float16]:
        """Map the low resolution, enlarged to the grid, shape (n_slices, 1, height, width)."""
        return np.load(self.low / f"{self.unit}_{plane}.npy", mmap_mode="r")

    def low_volume(self) -> NDArray[np.float32]:
        """Put its axial slices together, shape (X, Y, Z)."""
        return assemble(self.open_low("axial")[:, 0].astype(np.float32), "axial")

    def places(self, modality: str) -> list[int]:
        """Indices of a modality's channels, or of the mask of this name."""
        return [self.record["channels"].index(name) for name in channels_of(modality)]

    def volume(self, modality: str) -> Volume:
        """Put a modality's axial slices together, shape (X, Y, Z), or (X, Y, Z, channels)."""
        stack = self.open("axial")[:, self.places(modality)].astype(np.float32)
        volumes = [assemble(channel, "axial") for channel in np.moveaxis(stack, 1, 0)]
        data = np.stack(volumes, axis=-1) if len(volumes) > 1 else volumes[0]
        return Volume(data, np.array(self.record["affine"]))

    def positions(self, plane: str, index: int) -> NDArray[np.float32]:
        """MNI152 mm of a slice's pixels, shape (3, H, W)."""
        to_mni = np.array(self.record["grid_to_mni"]) @ np.array(self.record["affine"])
        return positions(to_mni, self.record["shape"], plane, np.array([index]))[0]

    def mask(self) -> NDArray[np.bool_]:
        """Where the target was measured, shape (X, Y, Z)."""
        return self.volume("target_mask").data > 0.5


def channels_of(modality: str) -> tuple[str, ...]:
    """Names of a modality's channels; a mask is one channel of its own name."""
    return MODALITIES[modality].channels if modality in MODALITIES else (modality,)


def find_subjects(
    slices_dir: str | Path,
    parts: Mapping[str, str],
    source: str,
    target: str,
    low_dir: str | Path | None = None,
    ratio: int | None = None,
    labels_dir: str | Path | None = None,
) -> tuple[dict[str, list[Subject]], dict[str, int]]:
    """List the units that can be trained on and validated on.

    Parameters
    ----------
    slices_dir : path
        Holds ``<folder>/<unit>_slices.json`` and the arrays, at any depth.
    parts : mapping of str to str
        Participant to ``train``, ``validation`` or ``test``.
    source, target : str
        Modalities that both must be there.
    low_dir : path, optional
        Holds the slices of `m2m lower` in the same folders, which must be there, too.
    ratio : int, optional
        Of these.
    labels_dir : path, optional
        Holds the training part's slices with moved labels (`m2m correct-labels`), in the same
        folders; others are chosen on labels as they were measured.

    Returns
    -------
    dict
        Subjects of ``train`` and of ``validation``, sorted by unit.
    dict
        How many units of these parts are left out because their slices ``failed``, are
        ``excluded`` or have not both modalities (``incomplete``).

    Raises
    ------
    DataError
        The low resolution has another ratio; both grids are named.
    """
    needed = {*channels_of(source), *channels_of(target)}
    subjects: dict[str, list[Subject]] = {"train": [], "validation": []}
    skipped: Counter[str] = Counter(failed=0, excluded=0, incomplete=0)
    for path in sorted(Path(slices_dir).rglob("*_slices.json")):
        unit = path.name.removesuffix("_slices.json")
        participant = unit.split("_")[0]
        if (part := parts.get(participant)) not in subjects:
            continue
        record = read_json(path)
        if record["status"] == "failed":
            skipped["failed"] += 1
        elif record["excluded"]:
            skipped["excluded"] += 1
        elif not needed <= set(record["channels"]):
            skipped["incomplete"] += 1
        else:
            place, low = path.relative_to(slices_dir), None
            if labels_dir is not None and part == "train":
                path = Path(labels_dir) / place
                record = read_json(path)
            if low_dir is not None:
                low = Path(low_dir) / place
                found = read_json(low)
                if found["status"] == "failed":
                    skipped["incomplete"] += 1
                    continue
                require_ratio(low, found["ratio"], ratio, record)
                # One hash of both, since both are learned from.
                record["sha256"] += found["sha256"]
            subjects[part].append(
                Subject(unit, participant, path.parent, record, low and low.parent)
            )
    return subjects, dict(skipped)


def require_ratio(low: Path, found: int, ratio: int | None, record: Mapping[str, Any]) -> None:
    """Refuse slices at another low resolution than the task's; both grids are named."""
    if found != ratio:
        on_grid = np.array(record["affine"]), record["shape"]
        made, asked = (described(*low_grid(*on_grid, r)) for r in (found, ratio or 1))
        raise DataError(
            f"slices at a low resolution of ratio {found}, {made}, where the task asks for a ratio "
            f"of {ratio}, {asked}",
            file=low, remedy="give --low-dir of the task's ratio",
        )  # fmt: skip


class SliceBatches(Dataset):
    """Batches of training slices by step.

    A batch holds slices of one orientation (nothing is padded), each of a subject drawn
    uniformly and, within the subject, of the slices that have any voxel to learn from.

    Augmentation is modest: half of the slices are mirrored left to right (a scalar map has no
    handedness; elements of a tensor that have, change sign); a T1's intensities, normalised to
    about 0..1, take a random gamma and scale. FA has a unit, so its values stay.

    Parameters
    ----------
    subjects : sequence of Subject
    source, target : str
        Modalities; the source has one channel.
    context : int
        Neighbouring slices of the source seen, an odd number; beyond the volume they are 0.
    planes : sequence of str
        Orientations.
    batch_size : int
        Of all processes together.
    seed : int
    flip : bool
        Whether half of the slices are mirrored.
    jitter : float
        Gamma and scale lie within ``exp(-jitter)`` and ``exp(jitter)``.
    central_share : float
        Share of the slices with any voxel to learn from that are drawn: the middle ones.
    beside : int
        As of `read_slice`.
    rank, world : int
        This process and their number: each takes every `world`-th slice of the same batch.

    Raises
    ------
    ValueError
        The batch cannot be divided by the number of processes.
    """

    def __init__(
        self,
        subjects: Sequence[Subject],
        source: str,
        target: str,
        *,
        context: int,
        planes: Sequence[str],
        batch_size: int,
        seed: int,
        flip: bool = True,
        jitter: float = 0.0,
        central_share: float = 1.0,
        beside: int = 0,
        rank: int = 0,
        world: int = 1,
    ):
        if batch_size % world:
            raise ValueError(f"batch_size {batch_size} is not a multiple of {world} devices")
        self.subjects, self.source, self.target = subjects, source, target
        self.context, self.planes, self.batch_size, self.seed = context, planes, batch_size, seed
        self.flip, self.jitter, self.rank, self.world = flip, jitter, rank, world
        self.central_share, self.beside = central_share, beside
        self._usable: dict[tuple[str, str], NDArray[np.int32]] = {}

    def __getitem__(self, step: int) -> Batch:
        """Give a step's batch: what `read_slice` gives, stacked, ``plane`` and ``unit``."""
        rng = np.random.default_rng((self.seed, step))
        plane = self.planes[rng.integers(len(self.planes))]
        chosen = rng.integers(len(self.subjects), size=self.batch_size)
        place, mirrored = rng.random((2, self.batch_size))
        gamma, scale = np.exp(self.jitter * rng.uniform(-1, 1, (2, self.batch_size)))
        samples, units = [], [self.subjects[i].unit for i in chosen]
        for i in range(self.rank, self.batch_size, self.world):
            subject = self.subjects[chosen[i]]
            usable = self._usable_slices(subject, plane)
            index = int(usable[int(place[i] * len(usable))])
            sample = read_slice(
                subject, plane, index, self.source, self.target, self.context, self.beside
            )
            if MODALITIES[self.source].nature == "weighted":
                sample["source"] = augment_intensity(sample["source"], gamma[i], scale[i])
            if self.flip and mirrored[i] < 0.5:
                sample = mirror(sample, plane, MODALITIES[self.target].mirror)
            samples.append(sample)
        return collate(samples, plane, units)

    def steps(self, start: int, stop: int, workers: int) -> Iterator[Batch]:
        """Batches of the steps from `start` to before `stop`, read ahead by `workers` processes."""
        loader = DataLoader(
            self, batch_size=None, sampler=range(start, stop), num_workers=workers,
            pin_memory=torch.cuda.is_available(),
        )  # fmt: skip
        return iter(loader)

    def _usable_slices(self, subject: Subject, plane: str) -> NDArray[np.int32]:
        """Slices with any voxel to learn from; remembered, since it reads the whole mask."""
        key = (subject.unit, plane)
        if key not in self._usable:
            mask = subject.open(plane)[:, subject.places("target_mask")[0]]
            usable = np.flatnonzero(mask.any(axis=(1, 2))).astype(np.int32)
            edge = int((1 - self.central_share) / 2 * len(usable))
            self._usable[key] = usable[edge : len(usable) - edge]
        return self._usable[key]


def read_slice(
    subject: Subject,
    plane: str,
    index: int,
    source: str,
    target: str,
    context: int,
    beside: int = 0,
) -> dict[str, NDArray[np.float32]]:
    """Read one slice with its neighbours.

    Parameters
    ----------
    subject : Subject
    plane : str
    index : int
    source, target : str
    context : int
        Slices of the source, an odd number; beyond the volume they are 0.
    beside : int
        Slices of both that a label correction sees, an odd number; 0: there is none.

    Returns
    -------
    dict
        ``source`` (context, H, W), ``position`` (3, H, W) in MNI152 mm, ``target``
        (channels, H, W), ``mask`` and ``brain`` (1, H, W); ``low`` (1, H, W) where there is one;
        ``beside`` (beside, channels + 1, H, W), the target inside its mask and the source.
    """
    array = subject.open(plane)
    window = _window(array, subject.places(source), index, context)[:, 0]
    slices = {"target": target, "mask": "target_mask", "brain": "brain"}
    sample = {"source": window, "position": subject.positions(plane, index)} | {
        key: array[index, subject.places(name)].astype(np.float32) for key, name in slices.items()
    }
    if subject.low is not None:
        sample["low"] = subject.open_low(plane)[index].astype(np.float32)
    if beside:
        mask, seen, near = (
            _window(array, subject.places(name), index, beside)
            for name in ("target_mask", target, source)
        )
        sample["beside"] = np.concatenate([mask * seen, near], 1)
    return sample


def _window(array: NDArray, places: list[int], index: int, n: int) -> NDArray[np.float32]:
    """Channels of the slices around one, (n, channels, H, W); beyond the volume they are 0."""
    first, last = index - n // 2, index + n // 2 + 1
    window = np.zeros((n, len(places), *array.shape[2:]), dtype=np.float32)
    inside = slice(max(first, 0), min(last, len(array)))
    window[inside.start - first : inside.stop - first] = array[inside, places]
    return window


def augment_intensity(source: NDArray, gamma: float, scale: float) -> NDArray[np.float32]:
    """Return ``scale * sign(x) |x|^gamma``; 0 stays 0."""
    return (scale * np.sign(source) * np.abs(source) ** gamma).astype(np.float32)


def mirror(
    sample: Mapping[str, NDArray], plane: str, factors: Sequence[int] = (1,)
) -> dict[str, NDArray]:
    """Give the slice that the person mirrored left to right would have.

    Columns of axial and coronal slices run from left to right; sagittal slices are stacked in that
    direction, so that their neighbours change sides.

    Parameters
    ----------
    sample : mapping
        Of `read_slice`.
    plane : str
    factors : sequence of int
        Of the target's channels: -1 for an element that changes sign in a mirror.
    """
    signs = np.asarray(factors, np.float32)[:, None, None]
    place = sample["position"] * np.array([-1, 1, 1], np.float32)[:, None, None]
    sample = {**sample, "target": sample["target"] * signs, "position": place}
    if "beside" in sample:  # the source stands behind the target's channels
        sample["beside"] = sample["beside"] * np.concatenate([signs, np.ones_like(signs[:1])])
    if plane == "sagittal":
        return sample | {k: sample[k][::-1] for k in ("source", "beside") if k in sample}
    return {key: np.flip(image, -1) for key, image in sample.items()}


def collate(
    samples: Sequence[Mapping[str, NDArray]], plane: str, units: Sequence[str]
) -> dict[str, Any]:
    """Stack slices of one orientation; a low resolution becomes the source's last channel."""
    batch: Batch = {
        key: torch.from_numpy(np.stack([sample[key] for sample in samples])) for key in samples[0]
    }
    if "low" in batch:
        batch["source"] = torch.cat([batch["source"], batch.pop("low")], 1)
    number = PLANES.index(plane)
    return batch | {"plane": torch.full((len(samples),), number), "unit": list(units)}


def whole_subject(
    subject: Subject,
    plane: str,
    source: str,
    target: str,
    context: int,
    batch_size: int,
    beside: int = 0,
) -> Iterator[Batch]:
    """All slices of a subject that have any voxel to judge, in order, in batches."""
    mask = subject.open(plane)[:, subject.places("target_mask")[0]]
    indices = np.flatnonzero(mask.any(axis=(1, 2)))
    for start in range(0, len(indices), batch_size):
        chosen = indices[start : start + batch_size]
        samples = [
            read_slice(subject, plane, int(i), source, target, context, beside) for i in chosen
        ]
        yield collate(samples, plane, [subject.unit] * len(samples))
