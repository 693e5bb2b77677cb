"""Predict a whole volume on the common grid with a trained model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from m2m.diffusion.lowres import enlarge
from m2m.io.errors import DataError
from m2m.io.files import read_json
from m2m.io.masks import in_mask
from m2m.io.modalities import MODALITIES
from m2m.io.unit_status import require_ok
from m2m.io.volume import Volume, load, require_same_grid, save
from m2m.models.engines import EngineName, engine_of
from m2m.models.fusion import fusion_of, with_atlas
from m2m.models.implementation import implementation
from m2m.models.inference import translate_volume, views_of
from m2m.models.reference_map import deformed_map
from m2m.models.subject_images import SubjectImages
from m2m.models.uncertainty import Prediction, deviation, on_line
from m2m.options import Trained, section_of
from m2m.structural.displacement import template_places
from m2m.structural.slices import GRID_AXES, normalise
from m2m.translate.displacements import displacement_of

LOW_RES_FA = (-0.2, 1.2)  # range of a low-resolution FA map: ringing may exceed 0 and 1
Tensors = Mapping[str, NDArray]
Record = Mapping[str, Any]


class Subject(NamedTuple):
    """Source image of one subject on the grid of a model.

    Attributes
    ----------
    image : Volume
        T1, or FA.
    brain : Volume
        Boolean, on the same grid.
    to_mni : ndarray, shape (4, 4)
        World mm to MNI152 mm.
    low_res : Volume or None
        Low-resolution target, upsampled to the same grid, for a model with this input.
    displacement : ndarray, shape (X, Y, Z, 3), or None
        From the T1 to the template, for a model that uses it (`m2m.translate.displacements`).
    """

    image: Volume
    brain: Volume
    to_mni: NDArray[np.float64]
    low_res: Volume | None = None
    displacement: NDArray[np.floating] | None = None

    def source(self, record: Record) -> NDArray[np.float32]:
        """Scale the image like the model's training slices, 0 outside the brain."""
        source = MODALITIES[record["source"]]
        if source.nature == "weighted":
            return normalise(self.image.data, self.brain.data, record["t1_range_percent"])[0]
        return np.where(self.brain.data, source.scale(self.image.data), 0)

    def subject_images(self, record: Record) -> SubjectImages:
        """What a model that is no network may look at."""
        return SubjectImages(
            affine=self.image.affine,
            shape=self.image.shape,
            to_mni=self.to_mni,
            source=lambda: self.source(record),
            low_res=self._low_res_data,
            displacement=self.displacement_data,
        )

    def _low_res_data(self) -> NDArray[np.float32]:
        assert self.low_res is not None, "only a model with a low resolution asks for it"
        return self.low_res.data

    def displacement_data(self) -> NDArray[np.floating]:
        """Displacements, for a model that uses them."""
        assert self.displacement is not None, "only a model that uses the deformation asks for it"
        return self.displacement


class Network(NamedTuple):
    """How a network is run.

    Attributes
    ----------
    planes : tuple of str
        Orientations to combine; empty: those it was trained on.
    batch_size : int
        Slices per batch.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``mps``.
    engine : EngineName
    weights : Path or None
        ``model.safetensors``, beside which the network's graph lies; None: it is run by PyTorch.
    """

    planes: tuple[str, ...] = ()
    batch_size: int = 4
    device: str = "auto"
    engine: EngineName = EngineName.AUTO
    weights: Path | None = None


class Translated(NamedTuple):
    """A prediction in scaled units, 0 outside the brain.

    Attributes
    ----------
    image, sd : Volume
        The image, and the standard deviation of its error, of the same shape.
    """

    image: Volume
    sd: Volume


def predict(subject: Subject, tensors: Tensors, record: Record, network: Network) -> Translated:
    """Predict the scaled target on the subject's grid, 0 outside the brain.

    Networks and linear models are unbounded. Clipping to the limits of the target is part of every model; validation
    applies it too. Models predict tensors along the axes of the grid; here they are rotated to world axes.

    Parameters
    ----------
    subject : Subject
    tensors, record : mapping
        Of `m2m.models.record.load_model`.
    network : Network
        How a network is run; baselines do not use it.

    Returns
    -------
    Translated
        Shape (X, Y, Z), or (X, Y, Z, 6) for tensors, along world axes; `unscaled` converts it to the target's unit.

    Raises
    ------
    DataError
        As in `require_grid_axes`.
    """
    return translated(unbounded(subject, tensors, record, network), subject, record)


def translated(predicted: Prediction, subject: Subject, record: Record) -> Translated:
    """Calibrate what `unbounded` predicts, clip it, rotate it to world axes, and set it 0 outside the brain."""
    predicted = on_line(predicted, record.get("calibration"))
    target, affine = MODALITIES[record["target"]], subject.image.affine
    image = target.to_world_axes(predicted.image.clip(*target.limits), affine)
    maps = image, target.deviations_to_world_axes(deviation(predicted, record["uncertainty"]), affine)
    inside = _like(subject.brain.data, predicted.image)
    return Translated(*(Volume(np.where(inside, m, 0).astype(np.float32), affine) for m in maps))


def unbounded(subject: Subject, tensors: Tensors, record: Record, network: Network) -> Prediction:
    """Predict as the model was trained to, neither calibrated on pairs nor clipped; parameters as of `predict`."""
    require_grid_axes(record)
    options = section_of(record)
    if isinstance(options, Trained):
        return _by_network(options, subject, tensors, record, network)
    return implementation(options).predict(tensors, subject.subject_images(record))


def require_grid_axes(record: Record) -> None:
    """Raise DataError if a model was trained on tensors along world axes, as by earlier versions."""
    if MODALITIES[record["target"]].directed and record.get("axes") != GRID_AXES:
        raise DataError(
            f"the model {record['model']} was trained by an earlier version of m2m, on tensors along world axes; "
            "for an oblique T1 its directions would be wrong",
            remedy="train it again: `m2m slices`, then `m2m train`",
        )


def unscaled(image: Volume, inside: NDArray, record: Record) -> Volume:
    """Convert a scaled prediction to the target's unit, 0 outside a mask.

    Parameters
    ----------
    image : Volume
        Scaled units.
    inside : ndarray of bool, shape (X, Y, Z)
    record : mapping
        Of the model.

    Returns
    -------
    Volume
    """
    data = np.zeros_like(image.data)
    data[inside] = MODALITIES[record["target"]].unscale(image.data[inside])
    return Volume(data, image.affine)


def _like(mask: NDArray, image: NDArray) -> NDArray:
    """Reshape a mask (X, Y, Z) for broadcasting with an image of one or several channels."""
    return mask.reshape(*mask.shape, *[1] * (image.ndim - 3))


def _by_network(options: Trained, subject: Subject, tensors: Tensors, record: Record, network: Network) -> Prediction:
    """Predict by a network: orientations, and the mirrored image, combined by the model's `fusion`."""
    views = views_of(options, record["target"])
    if network.planes:
        views["planes"] = network.planes
    grid, directed = (subject.image.affine, subject.to_mni), MODALITIES[record["target"]].directed
    if options.window.deformed:
        views["places"] = template_places(subject.displacement_data(), *grid, directed)
    prediction = translate_volume(
        engine_of(tensors, record, network.weights, network.engine, network.device),
        subject.source(record),
        subject.to_mni @ subject.image.affine,
        batch_size=network.batch_size,
        fuse=fusion_of(options.fusion, network.device),
        low_res=None if subject.low_res is None else subject.low_res.data,
        **views,
    )
    if not options.atlas_share:
        return prediction
    atlas = deformed_map(tensors, *grid, subject.displacement_data())
    return with_atlas(prediction, atlas, options.atlas_share)


def predict_file(
    source: Path,
    brain: Path | None,
    anat_status: Path,
    tensors: Tensors,
    record: Record,
    network: Network,
    low_res: Path | None = None,
    deformation: Path | None = None,
) -> Translated:
    """Predict from files on the common grid.

    Parameters
    ----------
    source : Path
        T1 or map.
    brain : Path or None
        Brain mask; needed.
    anat_status : Path
        Status of `m2m anat`.
    tensors, record : mapping
        Of `m2m.models.record.load_model`.
    network : Network
        How the network is run.
    low_res : Path or None
        Low-resolution map, for a model with this input.
    deformation : Path or None
        Displacements of `m2m deform`, for a model that uses them; None: computed, from a T1.

    Returns
    -------
    Translated
        The image in the target's unit; its standard deviation in scaled units.

    Raises
    ------
    DataError
        A file cannot be used, an earlier stage failed, the spacing is not that of the model, a map exceeds its
        limits, or the low-resolution map is missing, does not fit the grid or is not an input of the model.
    """
    require_ok(anat_status)
    if brain is None:
        raise DataError("a volume on the common grid needs its brain mask", remedy="give --brain")
    image, mask = load(source), load(brain)
    require_same_grid(image, mask, str(brain))
    if not np.allclose(image.spacing_mm, record["spacing_mm"], rtol=1e-3):
        raise DataError(
            f"the model was trained at {record['spacing_mm']} mm",
            file=source,
            value=f"{image.spacing_mm.round(3)} mm",
            remedy="set anat.spacing_mm to that of the model, or omit --anat-status",
        )
    require_within_limits(image, source, record)
    if low_res and not record.get("low_res"):
        raise DataError("a low-resolution map is not an input of the model", file=low_res, remedy="omit --low-res")
    to_mni = np.array(read_json(anat_status)["grid_to_mni"])
    inside = Volume(in_mask(mask.data), mask.affine)
    upsampled = load_low_res(low_res, inside, record["low_res"]["factor"]) if record.get("low_res") else None
    displacement = displacement_of(image, inside, to_mni, record, deformation)
    subject = Subject(image, inside, to_mni, upsampled, displacement)
    image, sd = predict(subject, tensors, record, network)
    return Translated(unscaled(image, subject.brain.data, record), sd)


def require_within_limits(image: Volume, path: Path, record: Record) -> None:
    """Raise DataError if a quantitative source exceeds its limits, e.g. 0 and 1 for FA.

    Parameters
    ----------
    image : Volume
        In its unit.
    path : Path
        For the message.
    record : mapping
        Of the model.
    """
    source = MODALITIES[record["source"]]
    low, high = source.limits
    scaled = source.scale(image.data)
    if source.nature == "scalar" and not low <= scaled.min() <= scaled.max() <= high:
        raise DataError(
            f"is not a {source.title} map: values are not in {low:g} to {high:g}",
            file=path,
            value=f"{image.data.min():g} to {image.data.max():g}",
            remedy=f"give an unscaled {source.title} map",
        )


def load_low_res(path: Path | None, brain: Volume, factor: int) -> Volume:
    """Load a low-resolution map and upsample it to the grid of the brain mask, 0 outside the brain.

    Parameters
    ----------
    path : Path or None
    brain : Volume
        Mask on the common grid.
    factor : int
        Downsampling factor.

    Returns
    -------
    Volume

    Raises
    ------
    DataError
        No map is given, it is not FA, or it does not fit the grid: see `lowres.enlarge`.
    """
    if path is None:
        raise DataError(
            "the model needs a low-resolution map as well as the T1",
            remedy=f"give --low-res, a map with voxels of {factor} times the grid's",
        )
    low_res = load(path)
    if not (LOW_RES_FA[0] <= low_res.data.min() <= low_res.data.max() <= LOW_RES_FA[1]):
        raise DataError(
            "is not an FA map at low resolution",
            file=path,
            value=f"{low_res.data.min():g} to {low_res.data.max():g}",
            remedy="give an unscaled FA map, 0 to 1",
        )
    try:
        grid = enlarge(low_res, brain, factor)
    except DataError as error:
        raise DataError(error.problem, file=path, value=error.value, remedy=error.remedy) from None
    return Volume(np.where(brain.data, grid.data, 0), grid.affine)


def save_maps(
    prediction: Translated,
    out: Path,
    out_sd: Path | None,
    sources: Sequence[Path],
    record: Record,
    task: str = "",
    **further: object,
) -> None:
    """Write a predicted map, and its standard deviation if it has a path.

    Both sidecars name the model, its hash and the sources.

    Parameters
    ----------
    prediction : Translated
        The image in the target's unit.
    out : Path
        Map to write.
    out_sd : Path or None
        Standard deviation to write.
    sources : sequence of Path
        For the sidecars.
    record : mapping
        Of the model.
    task : str
        Default: the task that the model was trained for.
    **further
        Further keys of both sidecars.
    """
    source, target = (MODALITIES[record[key]] for key in ("source", "target"))
    origin = f"predicted from {source.title}, research only, no clinical use"
    about = target.sidecar(Network=record["model"]) | {
        "Description": f"{target.description}; {origin}",
        "Task": task or record["task"],
        "Family": record["family"],
        "WeightsSHA256": record["weights"],
        "Fingerprint": record["fingerprint"],
        "TrainedOnSimulatedParticipants": record["simulated"],
        **({"TrainedOn": record["trained_on"]} if record.get("trained_on") else {}),
        **further,
    }
    save(out, prediction.image, sources, **about)
    if out_sd:
        about["Description"] = f"Standard deviation of the error, in scaled units, of: {about['Description']}"
        save(out_sd, prediction.sd, sources, **about | {"Units": "1", "Uncertainty": record["uncertainty"]})
