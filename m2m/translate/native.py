"""A T1 of its own: any orientation and resolution, with skull or without.

It is checked as by `m2m validate`, conformed as by `m2m anat` and translated as in the workflow;
then the prediction is carried back to the T1's own voxels.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from m2m.cohort.checks import check_scan
from m2m.io.errors import DataError
from m2m.io.files import whole
from m2m.io.modalities import MODALITIES
from m2m.io.qc import CYAN, Panel, draw, grey
from m2m.io.volume import Volume, blur_to, load, resample, resample_inside
from m2m.models.record import load_model
from m2m.options import Anat
from m2m.structural.anat import Anatomy, prepare
from m2m.translate.predict import (
    Network,
    Person,
    Record,
    Tensors,
    Translated,
    predict,
    save_maps,
    unscaled,
)
from m2m.translate.t1_checks import contrast, require_t1

# What the picture shows as white, in scaled units: of the image, of its standard deviation.
WHITE, WHITE_SD = 0.8, 0.2


class Outputs(NamedTuple):
    """Files of one T1."""

    image: Path
    sd: Path
    picture: Path


def outputs_beside(out: Path) -> Outputs:
    """Name the standard deviations and the picture after the map: FA_sd.nii.gz, FA.png."""
    name = out.name.removesuffix(".gz").removesuffix(".nii")
    extension = out.name[len(name) :]
    return Outputs(out, out.with_name(f"{name}_sd{extension}"), out.with_name(f"{name}.png"))


def require_model_of_t1(record: Record) -> None:
    """Raise DataError where a model does not start from a T1 alone."""
    if record.get("low"):
        raise DataError(
            "the model sees a low-resolution map beside the T1",
            remedy="give --low, and the T1 on the common grid with --anat-status and --brain",
        )
    if (source := MODALITIES[record["source"]]).nature != "weighted":
        raise DataError(
            f"the model translates {source.title}, not a T1",
            remedy="give a map on the common grid with --anat-status and --brain",
        )


def carry_back(found: Translated, brain: Volume, t1: Volume, record: Record) -> Translated:
    """Resample a scaled prediction onto a T1's own voxels; the image gets the target's unit."""
    carried = [resample_inside(part, brain, t1.affine, t1.shape) for part in found]
    (image, inside), (sd, _) = carried
    return Translated(unscaled(image, inside.data, record), sd)


def picture(t1: Volume, found: Translated, anatomy: Anatomy, record: Record) -> Image.Image:
    """Quality picture on the model's grid: whole T1, prediction and its deviation, the brain's rim.

    Of several channels their mean magnitude is shown.
    """
    brain, there = anatomy.brain.data, anatomy.t1
    head = resample(blur_to(t1, float(there.spacing_mm[0])), there.affine, there.shape).data
    image, sd = (np.abs(m.data.reshape(*m.shape, -1)).mean(-1) for m in found)
    rim = [(brain, CYAN)]
    title = MODALITIES[record["target"]].title
    panels = [
        Panel("T1, outline of the brain as found", grey(head, brain), rim),
        Panel(f"synthetic {title}", np.clip(image / WHITE, 0, 1), rim),
        Panel("standard deviation of its error, white at 0.2", np.clip(sd / WHITE_SD, 0, 1), rim),
    ]
    return draw(panels, brain, float(there.spacing_mm[0]))


def translate_t1(
    path: Path,
    mask_path: Path | None,
    tensors: Tensors,
    record: Record,
    network: Network,
    outputs: Outputs,
    sources: list[Path],
    step: Callable[[str], None] = lambda name: None,
) -> dict[str, Any]:
    """Translate one T1 from its file; write the map, its deviations and the picture.

    Parameters
    ----------
    path : Path
    mask_path : Path or None
        Brain mask on the T1's voxels; None: found from the T1.
    tensors, record : mapping
        Of `model.load_model`.
    network : Network
    outputs : Outputs
    sources : list of Path
        For the sidecars.
    step : callable
        Told what is begun.

    Returns
    -------
    dict
        What was done, as in the sidecar.

    Raises
    ------
    DataError
        The model or the image is not what this is for, or no brain is found.
    """
    require_model_of_t1(record)
    step("reading")
    checked = check_scan("T1w", path, mask=mask_path)
    for problem in (*checked.problems, *checked.mask_problems):
        raise problem
    t1 = load(path)
    mask = load(mask_path) if mask_path else None
    step("finding the brain")
    grid = Anat(spacing_mm=record["spacing_mm"], shape=record["shape"])
    try:
        anatomy = prepare(t1, mask, grid)
        numbers = contrast(t1, anatomy)
        require_t1(numbers, anatomy.excluded)
    except DataError as error:
        error.file = error.file or str(path)
        raise
    step("translating")
    person = Person(anatomy.t1, anatomy.brain, anatomy.grid_to_mni)
    found = predict(person, tensors, record, network)
    step("carrying back")
    done = numbers | {
        "BrainMask": "supplied" if mask else "template and intensity",
        "BrainVolumeLitres": round(anatomy.brain_volume_l, 4),
        "GridSpacingMm": record["spacing_mm"], "GridShape": list(record["shape"]),
        "GridToMNI152": anatomy.grid_to_mni.round(6).tolist(),
        "MutualInformation": round(anatomy.mi_registered, 4),
    }  # fmt: skip
    own = carry_back(found, anatomy.brain, t1, record)
    save_maps(own, outputs.image, outputs.sd, sources, record, Conformed=done)
    with whole(outputs.picture) as temporary:
        picture(t1, found, anatomy, record).save(temporary, optimize=True)
    return done


def translate_file(
    source: str | Path,
    weights: str | Path,
    out: str | Path,
    brain: str | Path | None = None,
    device: str = "auto",
    batch_size: int = 4,
) -> dict[str, Any]:
    """Translate one T1 from its file, as `m2m translate` does; for Python and for exported models.

    Parameters
    ----------
    source, weights, out : path
        The T1, model.safetensors beside its model.json, the map to write.
    brain : path, optional
    device : str
    batch_size : int

    Returns
    -------
    dict
        As of `translate_t1`.
    """
    source, weights, out = Path(source), Path(weights), Path(out)
    mask = Path(brain) if brain else None
    tensors, record = load_model(weights, weights.with_name("model.json"))
    network = Network(batch_size=batch_size, device=device)
    sources = [path for path in (source, mask, weights) if path]
    return translate_t1(source, mask, tensors, record, network, outputs_beside(out), sources)
