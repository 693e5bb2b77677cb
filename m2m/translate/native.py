"""Translate any T1: any orientation and resolution, with or without skull.

It is checked as by `m2m validate`, conformed as by `m2m anat` and translated as in the workflow.
Then the prediction is resampled to the voxels of the T1.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.affines import apply_affine, from_matvec
from numpy.typing import NDArray
from PIL import Image

from m2m.cohort.checks import check_scan
from m2m.evaluate.measured_maps import compared
from m2m.io.errors import DataError
from m2m.io.files import whole
from m2m.io.modalities import MODALITIES
from m2m.io.overwriting import require_apart, sidecar_of
from m2m.io.qc import CYAN, Panel, draw, grey
from m2m.io.volume import Volume, blur_to, crop, load, resample, resample_inside
from m2m.models.pretrained import weights_of
from m2m.models.record import load_model
from m2m.models.uncertainty import Prediction, mean_deviations
from m2m.models.validation_range import Outside, outside
from m2m.options import Anat
from m2m.structural.anat import Anatomy, prepare
from m2m.structural.t1_numbers import t1_numbers
from m2m.translate.bundle_profiles import compared_maps, write_profiles
from m2m.translate.displacements import deformed_template, displacement_of
from m2m.translate.outputs import Outputs, ProfileInputs, default_outputs, map_named_after, profile_outputs
from m2m.translate.predict import (
    Network,
    Record,
    Subject,
    Tensors,
    Translated,
    save_maps,
    translated,
    unbounded,
    unscaled,
)
from m2m.translate.t1_checks import contrast, require_t1

# White level of standard deviations in the QC figure, relative to that of errors in figures.
WHITE_SD = 2 / 3
# Voxels of a T1 that a prediction is resampled to at once.
SLAB_VOXELS = 2**21


def require_model_of_t1(record: Record) -> None:
    """Raise DataError if a model has another input than a T1."""
    if record.get("low_res"):
        raise DataError(
            "the model needs a low-resolution map as well as the T1",
            remedy="give --low-res, and the T1 on the common grid with --anat-status and --brain",
        )
    if (source := MODALITIES[record["source"]]).nature != "weighted":
        raise DataError(
            f"the model translates {source.title}, not a T1",
            remedy="give a map on the common grid with --anat-status and --brain",
        )


def to_native_voxels(
    prediction: Translated, brain: Volume, affine: NDArray, shape: tuple[int, int, int], record: Record
) -> Translated:
    """Resample a scaled prediction to the voxels of a T1, and convert it to the target's unit.

    Voxels around the brain are resampled slab by slab, so that memory beyond the result does not grow with the T1.

    Parameters
    ----------
    prediction : Translated
        In scaled units, on the model's grid.
    brain : Volume
        Mask on the same grid.
    affine : ndarray, shape (4, 4)
    shape : (int, int, int)
        Of the T1.
    record : mapping
        Of the model.

    Returns
    -------
    Translated
        The image in the target's unit; its standard deviation in scaled units.
    """
    native = Translated(*(Volume(np.zeros((*shape, *m.data.shape[3:]), np.float32), affine) for m in prediction))
    channels = [m.data.reshape(*m.shape, -1) for m in prediction]
    both = Volume(np.concatenate(channels, axis=-1), brain.affine)
    points = apply_affine(brain.affine, np.argwhere(brain.data))
    around = Translated(*(crop(m, points, 2 * float(brain.spacing_mm.max())) for m in native))  # views of `native`
    n_slices, *across = around.image.shape
    step = max(1, SLAB_VOXELS // int(np.prod(across)))
    for first in range(0, n_slices, step):
        slab = slice(first, min(first + step, n_slices))
        image, sd = (m.data[slab] for m in around)
        place = around.image.affine @ from_matvec(np.eye(3), (first, 0, 0))
        found, inside = resample_inside(both, brain, place, image.shape[:3])
        values, deviations = np.split(found.data, [channels[0].shape[-1]], axis=-1)
        scaled = Volume(values.reshape(image.shape), place)
        image[...] = unscaled(scaled, inside.data, record).data
        sd[...] = deviations.reshape(sd.shape)
    return native


def numbers_of(subject: Subject, predicted: Prediction, record: Record, network: Network) -> dict[str, float]:
    """Numbers that are compared with the ranges of the model's participants.

    Parameters
    ----------
    subject : Subject
        With a T1.
    predicted : Prediction
        Of `m2m.translate.predict.unbounded`.
    record : mapping
        Of the model.
    network : Network
        With other orientations than the model's, its uncertainty is not compared.

    Returns
    -------
    dict of str to float
    """
    source = Volume(subject.source(record), subject.image.affine)
    numbers = t1_numbers(source, subject.brain.data, subject.to_mni, subject.displacement)
    return numbers if network.planes else numbers | mean_deviations(predicted, subject.brain.data)


def qc_figure(
    t1: Volume, prediction: Translated, anatomy: Anatomy, record: Record, unusual: Sequence[Outside] = ()
) -> Image.Image:
    """QC figure on the model's grid: T1, prediction and standard deviation, with the brain's outline.

    Tensors are shown by their principal direction in colour and FA, and the mean deviation of their elements. The
    caption is what the model was trained on, where its record states it.

    Parameters
    ----------
    t1 : Volume
        The T1 as given.
    prediction : Translated
        In scaled units, on the model's grid.
    anatomy : Anatomy
        Of the T1.
    record : mapping
        Of the model.
    unusual : sequence of Outside
        What lies outside of the model's validation range, written below it.

    Returns
    -------
    Image
    """
    brain, conformed = anatomy.brain.data, anatomy.t1
    spacing_mm = float(conformed.spacing_mm[0])
    # What is drawn, with the widths of the drawing's rim and of the blur around it.
    drawn = crop(t1, apply_affine(conformed.affine, np.argwhere(brain)), 6 * spacing_mm)
    head = resample(blur_to(drawn, spacing_mm), conformed.affine, conformed.shape).data
    outline, target = [(brain, CYAN)], MODALITIES[record["target"]]
    assert target.display is not None, "every target is displayed"
    image = compared(record["target"], unscaled(prediction.image, brain, record).data)
    white_sd = target.display.error_top * WHITE_SD
    colours = image.image if image.tensor is None else np.abs(image.tensor.v1) * image.image[..., None]
    sd = prediction.sd.data.reshape(*brain.shape, -1).mean(-1)
    panels = [
        Panel("T1 with the outline of the brain mask", grey(head, brain), outline),
        Panel(f"synthetic {target.title}", np.clip(colours / target.display.top, 0, 1), outline),
        Panel(f"standard deviation of its error, white at {white_sd:.2g}", np.clip(sd / white_sd, 0, 1), outline),
    ]
    warnings = [f"{one.problem}: {one.numbers}" for one in unusual]
    caption = record.get("trained_on") or ""
    return draw(panels, brain, spacing_mm, caption=caption, warnings=warnings)


def translate_t1(
    path: Path,
    mask_path: Path | None,
    tensors: Tensors,
    record: Record,
    network: Network,
    outputs: Outputs,
    sources: list[Path],
    step: Callable[[str], None] = lambda name: None,
    profiles: ProfileInputs | None = None,
) -> dict[str, Any]:
    """Translate one T1 from its file; write map, standard deviation and QC figure.

    Parameters
    ----------
    path : Path
        T1, NIfTI.
    mask_path : Path or None
        Brain mask on the voxels of the T1; None: computed from the T1.
    tensors, record : mapping
        Of `m2m.models.record.load_model`.
    network : Network
        How the network is run.
    outputs : Outputs
    sources : list of Path
        For the sidecars.
    step : callable
        Called with the name of each step when it starts.
    profiles : ProfileInputs or None
        Profiles along named bundles are written, too, and compared with these maps.

    Returns
    -------
    dict
        Processing details and ``OutsideValidationRange``, as in the sidecar.

    Raises
    ------
    DataError
        The model does not start from a T1, the image is not a T1 of a whole brain, or no brain is
        found; or as of `m2m.translate.bundle_profiles.compared_maps`
        and `write_profiles`.
    """
    require_model_of_t1(record)
    compared = None if profiles is None else compared_maps(tensors, record, profiles)
    step("reading")
    checked = check_scan("T1w", path, mask=mask_path)
    for problem in (*checked.problems, *checked.mask_problems):
        raise problem
    t1 = load(path)
    mask = load(mask_path) if mask_path else None
    step("brain extraction")
    grid = Anat(spacing_mm=record["spacing_mm"], shape=record["shape"])
    try:
        anatomy = prepare(t1, mask, grid)
        numbers = contrast(t1, anatomy)
        require_t1(numbers, anatomy.excluded)
    except DataError as error:
        error.file = error.file or str(path)
        raise
    on_grid = anatomy.t1, anatomy.brain, anatomy.grid_to_mni
    deformed = None
    if profiles is not None:
        step("deformation")
        deformed = deformed_template(*on_grid, record)
    step("translating")
    displacement = deformed.forward if deformed else displacement_of(*on_grid, record)
    subject = Subject(*on_grid, displacement=displacement)
    predicted = unbounded(subject, tensors, record, network)
    prediction = translated(predicted, subject, record)
    measures = numbers_of(subject, predicted, record, network)
    unusual = outside(measures, record.get("validation_range", {}))
    step("resampling")
    details = numbers | {
        "BrainMask": "supplied" if mask else "template and intensity",
        "BrainVolumeLitres": round(anatomy.brain_volume_l, 4),
        "GridSpacingMm": record["spacing_mm"],
        "GridShape": list(record["shape"]),
        "GridToMNI152": anatomy.grid_to_mni.round(6).tolist(),
        "MutualInformation": round(anatomy.mi_registered, 4),
        "Compared": {name: round(value, 4) for name, value in measures.items()},
    }
    flags: dict[str, Any] = (
        {"OutsideValidationRange": [one.entry() for one in unusual]} if "validation_range" in record else {}
    )
    with whole(outputs.figure) as temporary:
        qc_figure(t1, prediction, anatomy, record, unusual).save(temporary, optimize=True)
    affine, shape = t1.affine, t1.shape
    del t1, mask  # so that a T1 of .5 mm takes no more memory now than its maps
    native = to_native_voxels(prediction, anatomy.brain, affine, shape, record)
    save_maps(native, outputs.image, outputs.sd, sources, record, Conformed=details, **flags)
    if profiles is not None and deformed is not None and compared is not None:
        step("bundles")
        files = [*sources, *profiles.files]
        write_profiles(subject, deformed, prediction, record, compared, profile_outputs(outputs.image), files)
    return details | flags


def translate_file(
    source: str | Path,
    weights: str | Path | None = None,
    out: str | Path | None = None,
    brain: str | Path | None = None,
    device: str = "auto",
    batch_size: int = 4,
) -> dict[str, Any]:
    """Translate one T1 from its file, as `m2m translate` does; for Python and for exported models.

    Parameters
    ----------
    source : path
        T1, NIfTI.
    weights : path or str, optional
        model.safetensors, with model.json in the same folder, or the name of installed weights; None: those of
        `m2m.models.pretrained.DEFAULT`.
    out : path, optional
        Map to write; None: named after the T1 in the current folder (`m2m.translate.outputs.map_named_after`).
    brain : path, optional
        Brain mask on the voxels of the T1; None: computed from the T1.
    device : {"auto", "cpu", "cuda", "mps"}
    batch_size : int
        Slices per batch.

    Returns
    -------
    dict
        As of `translate_t1`.

    Raises
    ------
    DataError
        As of `translate_t1`; an output is an input, or would lie in the dataset of the T1 without being named;
        or no such weights are installed.
    """
    source, weights_path = Path(source), weights_of(weights)
    mask, record_path = Path(brain) if brain else None, weights_path.with_name("model.json")
    tensors, record = load_model(weights_path, record_path)
    network = Network(batch_size=batch_size, device=device, weights=weights_path)
    sources = [path for path in (source, mask, weights_path) if path]
    outputs = default_outputs(Path(out) if out else map_named_after(source, record["target"]))
    images = [*sources, record_path]
    require_apart([*outputs, *map(sidecar_of, outputs[:2])], [*images, *map(sidecar_of, images)])
    return translate_t1(source, mask, tensors, record, network, outputs, sources)
