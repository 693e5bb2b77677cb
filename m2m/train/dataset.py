"""Slices of training participants as batches: memory-mapped, drawn by the step number.

A batch depends on seed and step only, so a resumed run draws the same batches as an uninterrupted
one. Files are opened when a slice is read and closed again: memory does not grow with the cohort.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from m2m.io.files import read_json
from m2m.io.masks import in_mask
from m2m.io.modalities import MODALITIES
from m2m.io.volume import Volume
from m2m.options.training_options import Augmentation
from m2m.structural.slices import PLANES, SliceArray, assemble, central, open_slices, positions, slices_at
from m2m.train.augmentation import NONE, Draw, augmented
from m2m.train.slice_checks import require_box, require_factor, require_grid_axes

Batch = dict[str, Any]


@dataclass(frozen=True)
class Subject:
    """Slices of one unit on disk.

    Attributes
    ----------
    unit : str
    participant : str
        ``sub-01``.
    folder : Path
        Folder of the arrays.
    record : dict
        Content of ``<unit>_slices.json``.
    low_res : Path or None
        Folder of the low-resolution target, for a task that has it as an input.
    deformed : callable or None
        Memory-maps the places of its voxels in the deformed template (`m2m.train.deformed_places`).
    """

    unit: str
    participant: str
    folder: Path
    record: dict[str, Any]
    low_res: Path | None = None
    deformed: Callable[[], NDArray[np.float32]] | None = None

    def open(self, plane: str) -> SliceArray:
        """Memory-map the array of an orientation."""
        return open_slices(self.folder / f"{self.unit}_{plane}.npy", plane, self.record["box"], self.record["shape"])

    def open_low_res(self, plane: str) -> SliceArray:
        """Memory-map the upsampled low-resolution map, one channel."""
        assert self.low_res is not None, "only for a task with a low resolution"
        where = self.record["low_res_box"], self.record["shape"]
        return open_slices(self.low_res / f"{self.unit}_{plane}.npy", plane, *where)

    def low_res_volume(self) -> NDArray[np.float32]:
        """Assemble the low-resolution map from axial slices, shape (X, Y, Z)."""
        array = self.open_low_res("axial")
        return assemble(array.read(0, array.shape[0], [0])[:, 0], "axial")

    def covered(self, plane: str) -> NDArray[np.int32]:
        """Find the slices with a voxel inside the target mask; the whole mask is read."""
        return self.open(plane).filled(self.places("target_mask")[0])

    def places(self, modality: str) -> list[int]:
        """Indices of the channels of a modality, or of the mask of this name."""
        return [self.record["channels"].index(name) for name in channels_of(modality)]

    def channel(self, name: str) -> NDArray[np.float32]:
        """Assemble one channel from axial slices, shape (X, Y, Z)."""
        array = self.open("axial")
        return assemble(array.read(0, array.shape[0], [self.record["channels"].index(name)])[:, 0], "axial")

    def volume(self, modality: str) -> Volume:
        """Assemble a modality from axial slices, shape (X, Y, Z), or (X, Y, Z, channels) along the grid's axes."""
        volumes = [self.channel(name) for name in channels_of(modality)]
        data = np.stack(volumes, axis=-1) if len(volumes) > 1 else volumes[0]
        return Volume(data, np.array(self.record["affine"]))

    def positions(self, plane: str, index: int) -> NDArray[np.float32]:
        """MNI152 coordinates of the pixels of a slice, shape (3, H, W), mm; or its part of `deformed`."""
        if self.deformed:
            return slices_at(self.deformed(), plane, np.array([index]))[0]
        to_mni = np.array(self.record["grid_to_mni"]) @ np.array(self.record["affine"])
        return positions(to_mni, self.record["shape"], plane, np.array([index]))[0]

    def mask(self) -> NDArray[np.bool_]:
        """Mask in which the target was measured, shape (X, Y, Z)."""
        return in_mask(self.volume("target_mask").data)


def channels_of(modality: str) -> tuple[str, ...]:
    """Names of the channels of a modality; a mask is one channel with its own name."""
    return MODALITIES[modality].channels if modality in MODALITIES else (modality,)


def find_subjects(
    slices_dir: str | Path,
    parts: Mapping[str, str],
    source: str,
    target: str,
    low_res_dir: str | Path | None = None,
    factor: int | None = None,
    labels_dir: str | Path | None = None,
) -> tuple[dict[str, list[Subject]], dict[str, int]]:
    """List the units that can be used for training and validation.

    Parameters
    ----------
    slices_dir : path
        Holds ``<folder>/<unit>_slices.json`` and the arrays, at any depth.
    parts : mapping of str to str
        Participant to ``train``, ``validation`` or ``test``.
    source, target : str
        Modalities; a unit needs both.
    low_res_dir : path, optional
        Holds the slices of `m2m simulate-low-res` in the same folders; a unit needs them too.
    factor : int, optional
        Downsampling factor of these slices.
    labels_dir : path, optional
        Holds slices of the training part with corrected labels (`m2m apply-label-correction`), in the same folders.

    Returns
    -------
    dict
        Subjects of ``train`` and of ``validation``, sorted by unit.
    dict
        Number of units left out: their slices ``failed``, are ``excluded``, or lack a modality (``incomplete``).

    Raises
    ------
    DataError
        As of `require_factor` and `require_grid_axes`.
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
            relative, low_res = path.relative_to(slices_dir), None
            if labels_dir is not None and part == "train":
                path = Path(labels_dir) / relative
                record = read_json(path)
            require_grid_axes(path, record, target)
            require_box(path, record)
            if low_res_dir is not None:
                low_res = Path(low_res_dir) / relative
                low_res_record = read_json(low_res)
                if low_res_record["status"] == "failed":
                    skipped["incomplete"] += 1
                    continue
                require_factor(low_res, low_res_record["factor"], factor, record)
                require_box(low_res, low_res_record)
                # One hash of both, since both are training data.
                record["sha256"] += low_res_record["sha256"]
                record["low_res_box"] = low_res_record["box"]
            subjects[part].append(Subject(unit, participant, path.parent, record, low_res and low_res.parent))
    return subjects, dict(skipped)


class SliceBatches(Dataset):
    """Batches of training slices by step.

    All slices of a batch have the same orientation (no padding). For each, a subject is drawn uniformly, and then one
    of the subject's slices that have a voxel inside the target mask, or a stack of consecutive ones for a network of
    volumes. For augmentation see `augmented`.

    Parameters
    ----------
    subjects : sequence of Subject
    source, target : str
        Modalities; the source has one channel.
    context : int
        Number of source slices, odd; outside the volume they are 0.
    planes : sequence of str
        Orientations.
    batch_size : int
        Slices, or stacks, for all processes together.
    seed : int
    stack : int or None
        Slices of a stack; None: single slices.
    flip : bool
        Mirror half of the slices.
    jitter : float
        Gamma and scale lie between ``exp(-jitter)`` and ``exp(jitter)``.
    augment : Augmentation
        Simulated differences between scans.
    central_share : float
        Fraction of the usable slices that are drawn: the central ones.
    correction_context : int
        As in `read_slice`.
    rank, world : int
        Number of this process and of all: each takes every `world`-th slice of the same batch.

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
        stack: int | None = None,
        flip: bool = True,
        jitter: float = 0.0,
        augment: Augmentation = NONE,
        central_share: float = 1.0,
        correction_context: int = 0,
        rank: int = 0,
        world: int = 1,
    ):
        if batch_size % world:
            raise ValueError(f"batch_size {batch_size} is not a multiple of {world} devices")
        self.subjects, self.source, self.target = subjects, source, target
        self.context, self.planes, self.batch_size, self.seed, self.stack = context, planes, batch_size, seed, stack
        self.flip, self.jitter, self.augment, self.rank, self.world = flip, jitter, augment, rank, world
        self.central_share, self.correction_context = central_share, correction_context
        self._usable: dict[tuple[str, str], NDArray[np.int32]] = {}

    def __getitem__(self, step: int) -> Batch:
        """Batch of a step: the output of `read_slice`, stacked, with ``plane`` and ``unit``."""
        rng = np.random.default_rng((self.seed, step))
        plane = self.planes[int(rng.integers(len(self.planes)))]
        chosen = rng.integers(len(self.subjects), size=self.batch_size)
        position, flip_draw = rng.random((2, self.batch_size))
        gamma, scale = np.exp(self.jitter * rng.uniform(-1, 1, (2, self.batch_size)))
        samples: list[dict[str, NDArray]] = []
        units = [self.subjects[i].unit for i in chosen]
        weighted, factors = MODALITIES[self.source].nature == "weighted", MODALITIES[self.target].mirror
        for i in range(self.rank, self.batch_size, self.world):
            subject = self.subjects[chosen[i]]
            what = self.source, self.target, self.context, self.correction_context
            stack = [read_slice(subject, plane, j, *what) for j in self._indices(subject, plane, position[i])]
            draws = gamma[i], scale[i], self.flip and flip_draw[i] < 0.5, np.random.default_rng((self.seed, step, i))
            samples += augmented(stack, plane, Draw(*draws), self.augment, weighted, factors)
        return collate(samples, plane, units)

    def steps(self, start: int, stop: int, workers: int) -> Iterator[Batch]:
        """Batches of the steps `start` to `stop` - 1, loaded by `workers` processes.

        Parameters
        ----------
        start, stop : int
        workers : int
            0: loaded by this process.

        Returns
        -------
        iterator of dict
        """
        loader = DataLoader(
            self, batch_size=None, sampler=range(start, stop), num_workers=workers, pin_memory=torch.cuda.is_available()
        )
        return iter(loader)

    def _indices(self, subject: Subject, plane: str, position: float) -> range:
        """Slices at a position, 0 to below 1: one, or a stack."""
        usable, n = self._usable_slices(subject, plane), self.stack or 1
        too_many = n - len(usable)
        first = usable[0] - too_many // 2 if too_many > 0 else usable[int(position * (1 - too_many))]
        return range(int(first), int(first) + n)

    def _usable_slices(self, subject: Subject, plane: str) -> NDArray[np.int32]:
        """Slices that are drawn from, cached."""
        key = (subject.unit, plane)
        if key not in self._usable:
            self._usable[key] = central(subject.covered(plane), self.central_share)
        return self._usable[key]


def read_slice(
    subject: Subject,
    plane: str,
    index: int,
    source: str,
    target: str,
    context: int,
    correction_context: int = 0,
) -> dict[str, NDArray[np.float32]]:
    """Read one slice with its neighbours.

    Parameters
    ----------
    subject : Subject
    plane : str
        Orientation.
    index : int
        Of the slice; beyond the volume everything is 0.
    source, target : str
        Modalities.
    context : int
        Number of source slices, odd; outside the volume they are 0.
    correction_context : int
        Number of slices of source and target for a label correction, odd; 0: without.

    Returns
    -------
    dict
        ``source`` (context, H, W), ``position`` (3 or 12, H, W), ``target`` (channels, H, W), ``mask`` and ``brain``
        (1, H, W); ``low_res`` (1, H, W) where there is one; ``correction_input`` (correction_context, channels + 1,
        H, W): the masked target, then the source.
    """
    array = subject.open(plane)
    window = array.read(index - context // 2, index + context // 2 + 1, subject.places(source))[:, 0]
    slices = {"target": target, "mask": "target_mask", "brain": "brain"}
    sample = {"source": window, "position": subject.positions(plane, index)} | {
        key: array.read(index, index + 1, subject.places(name))[0] for key, name in slices.items()
    }
    if subject.low_res is not None:
        sample["low_res"] = subject.open_low_res(plane).read(index, index + 1, [0])[0]
    if correction_context:
        first, names = index - correction_context // 2, ("target_mask", target, source)
        mask, label, image = (array.read(first, first + correction_context, subject.places(name)) for name in names)
        sample["correction_input"] = np.concatenate([mask * label, image], 1)
    return sample


def collate(samples: Sequence[Mapping[str, NDArray]], plane: str, units: Sequence[str]) -> dict[str, Any]:
    """Stack slices of one orientation; a low-resolution map becomes the source's last channel.

    Parameters
    ----------
    samples : sequence of mapping
        Of `read_slice`.
    plane : str
        Orientation.
    units : sequence of str

    Returns
    -------
    dict
        Tensors, ``plane`` (N,) and ``unit``.
    """
    batch: Batch = {key: torch.from_numpy(np.stack([sample[key] for sample in samples])) for key in samples[0]}
    if "low_res" in batch:
        batch["source"] = torch.cat([batch["source"], batch.pop("low_res")], 1)
    return batch | {"plane": torch.full((len(samples),), PLANES.index(plane)), "unit": list(units)}


def whole_subject(
    subject: Subject,
    plane: str,
    source: str,
    target: str,
    context: int,
    batch_size: int | None,
    correction_context: int = 0,
) -> Iterator[Batch]:
    """All slices of a subject with a voxel inside the target mask, in order, in batches.

    Parameters
    ----------
    subject : Subject
    plane, source, target, context, correction_context
        As in `read_slice`.
    batch_size : int or None
        None: all slices together.

    Yields
    ------
    dict
        As of `collate`.
    """
    indices = subject.covered(plane)
    n = batch_size or len(indices)
    for start in range(0, len(indices), n):
        chosen = indices[start : start + n]
        samples = [read_slice(subject, plane, int(i), source, target, context, correction_context) for i in chosen]
        yield collate(samples, plane, [subject.unit] * len(samples))
