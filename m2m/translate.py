"""Translate a whole T1 volume with a trained model.

In the workflow the T1 is on the common grid already. A T1 on its own, of any orientation and
resolution, is brought there first, and the prediction is carried back to the T1's own voxels.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from numpy.typing import NDArray

from m2m import baselines
from m2m.model import load_model
from m2m.options import Anat
from m2m.slices import PLANES, normalise
from m2m.stage import DataError, read_json, recorded, require_ok
from m2m.volume import Volume, load, require_same_grid, resample_inside, save

Tensors = Mapping[str, NDArray]
Record = Mapping[str, Any]


class Person(NamedTuple):
    """A T1 on a model's grid.

    Attributes
    ----------
    t1 : Volume
    brain : Volume
        Boolean, on the same grid.
    to_mni : ndarray, shape (4, 4)
        World mm to MNI152 mm.
    """

    t1: Volume
    brain: Volume
    to_mni: NDArray[np.float64]

    def source(self, record: Record) -> NDArray[np.float32]:
        """T1 normalised as the model's training slices were, 0 outside the brain."""
        return normalise(self.t1.data, self.brain.data, record["t1_range_percent"])[0]


class Network(NamedTuple):
    """How a network is run; its result does not depend on it.

    Attributes
    ----------
    planes : tuple of str
        Orientations to average; empty: those it was trained on.
    batch_size : int
        Slices at a time.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``mps``.
    """

    planes: tuple[str, ...] = ()
    batch_size: int = 16
    device: str = "auto"


def predict(person: Person, tensors: Tensors, record: Record, network: Network) -> Volume:
    """Predict the target on the person's grid: 0 outside the brain, 0 to 1 inside.

    Networks and lines are unbounded. The clip to 0..1, the range that FA has by definition, is
    part of what each model is, and its validation has it too.

    Parameters
    ----------
    person : Person
    tensors, record : mapping
        Of `model.load_model`.
    network : Network
        How to run a network; the baselines have no use for it.
    """
    image = FAMILIES[record["family"]](person, tensors, record, network)
    inside = np.where(person.brain.data, image, 0).clip(0, 1)
    return Volume(inside.astype(np.float32), person.t1.affine)


def _by_network(
    person: Person, tensors: Tensors, record: Record, network: Network
) -> NDArray[np.float32]:
    """Orientations averaged."""
    # Torch takes longer to load than a baseline takes to compute.
    from m2m import inference

    return inference.translate_volume(
        inference.load_network(tensors, record["options"]), person.source(record),
        context=record["options"]["network"]["context"],
        planes=network.planes or record["options"]["planes"],
        batch_size=network.batch_size, device=inference.choose_device(network.device),
    )  # fmt: skip


def _by_mean_map(
    person: Person, tensors: Tensors, record: Record, network: Network
) -> NDArray[np.float32]:
    """The training cohort's mean, by the T1's affine registration to the template."""
    return baselines.predict_mean_map(tensors, person.t1.affine, person.t1.shape, person.to_mni)


def _by_line(
    person: Person, tensors: Tensors, record: Record, network: Network
) -> NDArray[np.float32]:
    """T1 on the target's scale."""
    return baselines.predict_line(tensors, person.source(record))


FAMILIES = {"macro2micro": _by_network, "mean": _by_mean_map, "t1": _by_line}


def predict_native(
    t1: Volume, mask: Volume | None, tensors: Tensors, record: Record, network: Network
) -> Volume:
    """Predict the target on a T1's own voxels, of any orientation and resolution.

    Parameters
    ----------
    t1 : Volume
    mask : Volume or None
        Brain mask on the T1's voxels; None: found from the T1.
    tensors, record, network
        As in `predict`.
    """
    # Registration to the template, which nothing else here needs.
    from m2m.anat import prepare

    grid = Anat(spacing_mm=record["spacing_mm"], shape=record["shape"])
    found = prepare(t1, mask, grid)
    person = Person(found.t1, found.brain, found.grid_to_mni)
    image = predict(person, tensors, record, network)
    return resample_inside(image, person.brain, t1.affine, t1.shape)[0]


def parse_planes(text: str) -> tuple[str, ...]:
    """Read a list such as ``axial,sagittal``; raise BadParameter at an unknown orientation."""
    planes = tuple(name for name in text.split(",") if name)
    if unknown := set(planes) - set(PLANES):
        raise typer.BadParameter(f"unknown: {', '.join(sorted(unknown))}; known: {PLANES}")
    return planes


def main(
    t1w: Annotated[Path, typer.Argument(help="T1-weighted volume, NIfTI.")],
    weights: Annotated[Path, typer.Option(help="model.safetensors of `m2m train`.")],
    out: Annotated[Path, typer.Option(help="Volume to write, .nii.gz.")],
    brain: Annotated[Path | None, typer.Option(help="Brain mask on the T1's voxels.")] = None,
    anat_status: Annotated[
        Path | None,
        typer.Option(help="Status of `m2m anat`: the T1 is on the common grid already."),
    ] = None,
    unit: Annotated[str, typer.Option(help="Name in the status file.")] = "",
    status: Annotated[Path | None, typer.Option(help="Status file to write, JSON.")] = None,
    record: Annotated[Path | None, typer.Option(help="Default: model.json by the weights.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Slices at a time.")] = 16,
    planes: Annotated[str, typer.Option(help="Orientations to average, e.g. axial,coronal.")] = "",
) -> None:
    """Translate a whole T1 volume; the result is on the T1's own voxels.

    Research only: no clinical use.
    """
    network = Network(parse_planes(planes), batch_size, device)
    tensors, about = load_model(weights, record or weights.with_name("model.json"))
    with recorded("translate", unit, status, [out]) if status else nullcontext({}) as numbers:
        image = predict_file(t1w, brain, anat_status, tensors, about, network)
        save(
            out, image, [path for path in (t1w, brain, weights) if path],
            Description=f"{about['target'].upper()} predicted from {about['source'].upper()}; "
            "research only, no clinical use",
            Task=about["task"], Model=about["model"], Family=about["family"],
            WeightsSHA256=about["weights"], Fingerprint=about["fingerprint"],
            TrainedOnSimulatedPeople=about["simulated"],
        )  # fmt: skip
        numbers |= {key: about[key] for key in ("task", "model", "weights")}


def predict_file(
    t1w: Path,
    brain: Path | None,
    anat_status: Path | None,
    tensors: Tensors,
    record: Record,
    network: Network,
) -> Volume:
    """Predict from files: a T1 on the common grid where `anat_status` is given, else a native one.

    Raises
    ------
    DataError
        A file is bad, an earlier stage failed, or the grid's spacing is not the model's.
    """
    if anat_status is None:
        mask = load(brain) if brain else None
        return predict_native(load(t1w), mask, tensors, record, network)
    require_ok(anat_status)
    if brain is None:
        raise DataError("a T1 on the common grid needs its brain mask", remedy="give --brain")
    t1, mask = load(t1w), load(brain)
    require_same_grid(t1, mask, str(brain))
    if not np.allclose(t1.spacing_mm, record["spacing_mm"], rtol=1e-3):
        raise DataError(
            f"the model was trained at {record['spacing_mm']} mm",
            file=t1w, value=f"{t1.spacing_mm.round(3)} mm",
            remedy="set anat.spacing_mm to the model's, or leave --anat-status out",
        )  # fmt: skip
    to_mni = np.array(read_json(anat_status)["grid_to_mni"])
    person = Person(t1, Volume(mask.data > 0, mask.affine), to_mni)
    return predict(person, tensors, record, network)
