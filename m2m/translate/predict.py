"""A whole volume on the common grid, translated with a trained model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from m2m.diffusion.lowres import enlarge
from m2m.io.errors import DataError
from m2m.io.files import read_json
from m2m.io.modalities import MODALITIES
from m2m.io.unit_status import require_ok
from m2m.io.volume import Volume, load, require_same_grid, save
from m2m.models.fusion import fusion_of
from m2m.models.implementation import implementation
from m2m.models.seen import Seen
from m2m.models.uncertainty import Prediction, deviation
from m2m.options import Trained, section_of
from m2m.structural.slices import normalise

LOW_FA = (-0.2, 1.2)  # values of a low-resolution FA map: beyond 0 and 1 it may ring
Tensors = Mapping[str, NDArray]
Record = Mapping[str, Any]


class Person(NamedTuple):
    """The source image on a model's grid.

    Attributes
    ----------
    image : Volume
        T1, or FA.
    brain : Volume
        Boolean, on the same grid.
    to_mni : ndarray, shape (4, 4)
        World mm to MNI152 mm.
    low : Volume or None
        The target at low resolution, enlarged to the same grid, for a model that sees it.
    """

    image: Volume
    brain: Volume
    to_mni: NDArray[np.float64]
    low: Volume | None = None

    def source(self, record: Record) -> NDArray[np.float32]:
        """Scale the image as the model's training slices were, 0 outside the brain."""
        source = MODALITIES[record["source"]]
        if source.nature == "weighted":
            return normalise(self.image.data, self.brain.data, record["t1_range_percent"])[0]
        return np.where(self.brain.data, source.scale(self.image.data), 0)

    def seen(self, record: Record) -> Seen:
        """What a model that is no network may look at."""
        return Seen(
            affine=self.image.affine,
            shape=self.image.shape,
            to_mni=self.to_mni,
            source=lambda: self.source(record),
            low=lambda: self.low.data,
        )


class Network(NamedTuple):
    """How a network is run; its result does not depend on it.

    Attributes
    ----------
    planes : tuple of str
        Orientations to join; empty: those it was trained on.
    batch_size : int
        Slices at a time.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``mps``.
    """

    planes: tuple[str, ...] = ()
    batch_size: int = 4
    device: str = "auto"


class Translated(NamedTuple):
    """A prediction in scaled units, 0 outside the brain.

    Attributes
    ----------
    image, sd : Volume
        The image, and the standard deviation of its error; of the same shape.
    """

    image: Volume
    sd: Volume


def predict(person: Person, tensors: Tensors, record: Record, network: Network) -> Translated:
    """Predict the scaled target on the person's grid, 0 outside the brain.

    Networks and lines are unbounded. The clip to the target's limits (0..1 for FA, 0 and more for
    a density) is part of what each model is, and its validation has it too.

    Parameters
    ----------
    person : Person
    tensors, record : mapping
        Of `model.load_model`.
    network : Network
        How to run a network; the baselines have no use for it.

    Returns
    -------
    Translated
        Shape (X, Y, Z), or (X, Y, Z, 6) for tensors. `unscaled` turns the image into the target's
        unit.
    """
    options = section_of(record)
    if options.trained:
        predicted = _by_network(options, person, tensors, record, network)
    else:
        predicted = implementation(options).predict(tensors, person.seen(record))
    limits = MODALITIES[record["target"]].limits
    maps = predicted.image.clip(*limits), deviation(predicted, record["uncertainty"])
    inside = _like(person.brain.data, predicted.image)
    affine = person.image.affine
    return Translated(*(Volume(np.where(inside, m, 0).astype(np.float32), affine) for m in maps))


def unscaled(image: Volume, inside: NDArray, record: Record) -> Volume:
    """Turn a scaled prediction into the target's unit, 0 outside a mask (X, Y, Z)."""
    data = np.zeros_like(image.data)
    data[inside] = MODALITIES[record["target"]].unscale(image.data[inside])
    return Volume(data, image.affine)


def _like(mask: NDArray, image: NDArray) -> NDArray:
    """A mask (X, Y, Z) that goes with an image of one or of several channels."""
    return mask.reshape(*mask.shape, *[1] * (image.ndim - 3))


def _by_network(
    options: Trained, person: Person, tensors: Tensors, record: Record, network: Network
) -> Prediction:
    """Orientations, and the mirrored person, joined as the model's `fusion` says."""
    # Torch takes longer to load than a baseline takes to compute.
    from m2m.models import inference
    from m2m.models.building import load_network

    views = inference.views_of(options, record["target"])
    if network.planes:
        views["planes"] = network.planes
    device = inference.choose_device(network.device)
    return inference.translate_volume(
        load_network(tensors, record), person.source(record),
        person.to_mni @ person.image.affine,
        batch_size=network.batch_size, device=device, fuse=fusion_of(options.fusion, device),
        low=None if person.low is None else person.low.data, **views,
    )  # fmt: skip


def predict_file(
    source: Path,
    brain: Path | None,
    anat_status: Path,
    tensors: Tensors,
    record: Record,
    network: Network,
    low: Path | None = None,
) -> Translated:
    """Predict from files on the common grid; the image is in the target's unit.

    Raises
    ------
    DataError
        A file is bad, an earlier stage failed, the grid's spacing is not the model's, a map
        leaves its limits, or the low-resolution map is missing, does not fit the grid or is not
        asked for.
    """
    require_ok(anat_status)
    if brain is None:
        raise DataError("a volume on the common grid needs its brain mask", remedy="give --brain")
    image, mask = load(source), load(brain)
    require_same_grid(image, mask, str(brain))
    if not np.allclose(image.spacing_mm, record["spacing_mm"], rtol=1e-3):
        raise DataError(
            f"the model was trained at {record['spacing_mm']} mm",
            file=source, value=f"{image.spacing_mm.round(3)} mm",
            remedy="set anat.spacing_mm to the model's, or leave --anat-status out",
        )  # fmt: skip
    require_within_limits(image, source, record)
    if low and not record.get("low"):
        raise DataError("the model sees no low-resolution map", file=low, remedy="leave --low out")
    to_mni = np.array(read_json(anat_status)["grid_to_mni"])
    inside = Volume(mask.data > 0, mask.affine)
    beside = load_low(low, inside, record["low"]["ratio"]) if record.get("low") else None
    person = Person(image, inside, to_mni, beside)
    image, sd = predict(person, tensors, record, network)
    return Translated(unscaled(image, person.brain.data, record), sd)


def require_within_limits(image: Volume, path: Path, record: Record) -> None:
    """Raise DataError where a source with limits of its own, as FA has, leaves them."""
    source = MODALITIES[record["source"]]
    low, high = source.limits
    scaled = source.scale(image.data)
    if source.nature == "scalar" and not low <= scaled.min() <= scaled.max() <= high:
        raise DataError(
            f"is no {source.title} map: values leave {low:g} to {high:g}", file=path,
            value=f"{image.data.min():g} to {image.data.max():g}",
            remedy=f"give {source.title} itself",
        )  # fmt: skip


def load_low(path: Path | None, brain: Volume, ratio: int) -> Volume:
    """Load a low-resolution map and enlarge it to the brain's grid, 0 outside.

    Raises
    ------
    DataError
        There is none, it is not FA, or it does not fit the grid: see `lowres.enlarge`.
    """
    if path is None:
        raise DataError(
            "the model sees a low-resolution map beside the T1",
            remedy=f"give --low, a map with voxels of {ratio} times the grid's",
        )
    low = load(path)
    if not (LOW_FA[0] <= low.data.min() <= low.data.max() <= LOW_FA[1]):
        raise DataError(
            "is no FA map at low resolution", file=path,
            value=f"{low.data.min():g} to {low.data.max():g}", remedy="give FA itself, 0 to 1",
        )  # fmt: skip
    try:
        grid = enlarge(low, brain, ratio)
    except DataError as error:
        raise DataError(error.problem, file=path, value=error.value, remedy=error.remedy) from None
    return Volume(np.where(brain.data, grid.data, 0), grid.affine)


def save_maps(
    found: Translated,
    out: Path,
    out_sd: Path | None,
    sources: Sequence[Path],
    record: Record,
    task: str = "",
    **further: object,
) -> None:
    """Write a prediction in its unit, and its standard deviations where they have a path.

    Both sidecars name the model, its hash and the sources.

    Parameters
    ----------
    found : Translated
        The image in the target's unit.
    out, out_sd : Path
    sources : sequence of Path
    record : mapping
    task : str
        Default: the task the model was trained for.
    **further
        Further keys of both sidecars.
    """
    start, target = (MODALITIES[record[key]] for key in ("source", "target"))
    origin = f"predicted from {start.title}, research only, no clinical use"
    about = {
        "Task": task or record["task"], "Model": record["model"], "Family": record["family"],
        "WeightsSHA256": record["weights"], "Fingerprint": record["fingerprint"],
        "TrainedOnSimulatedPeople": record["simulated"], **further,
    }  # fmt: skip
    save(out, found.image, sources, Description=f"{target.description}; {origin}", **about)
    if out_sd:
        title = f"Standard deviation of the error, in scaled units, of: {target.description}"
        save(
            out_sd, found.sd, sources, Description=f"{title}; {origin}",
            Uncertainty=record["uncertainty"], **about,
        )  # fmt: skip
