"""Translation in the workflow: one participant's image on the common grid, by a model of a task."""

import functools
import time
from pathlib import Path
from typing import Any

from m2m.io import bids
from m2m.io.bids import files_of, low_res_root, unit_of
from m2m.io.modalities import MODALITIES
from m2m.io.unit_status import recorded, require_ok
from m2m.models.given_weights import Given, given_in
from m2m.models.record import load_model
from m2m.options import Deformation, Task
from m2m.options.configured import Written, read_config
from m2m.options.downstream_options import GIVEN
from m2m.options.stage_flags import ModelName, NeededConfig, Root, Session, Subject, TaskName
from m2m.translate.predict import Network, predict_file, save_maps


def synthetic_files(root: Path, task: str, model: str, unit: str, target: str) -> list[Path]:
    """Output files of a model for a unit: map, standard deviation and status.

    Parameters
    ----------
    root : Path
        Folder of the results.
    task, model, unit : str
        Names.
    target : str
        Modality.

    Returns
    -------
    list of Path
    """
    at = files_of(unit, root / "synthetic" / task / model)
    measure = bids.measure(MODALITIES[target].kind)
    kinds = ("synth", "synthsd", "synth-status")
    return [Path(str(at(kind)).format(measure=measure)) for kind in kinds]


def source_of(root: Path, task: Task, model: str, unit: str, written: Written) -> tuple[Path, list[Path], Path | None]:
    """Input files of a task's translation.

    The status of a T1 is that of anat, which a translation always reads.

    Parameters
    ----------
    root : Path
        Folder of the results.
    task : Task
    model, unit : str
        Names.
    written : Written
        Content of the configuration file.

    Returns
    -------
    image : Path
        Source image.
    statuses : list of Path
        Of the stages that wrote it.
    low_res : Path or None
        Low-resolution map.
    """
    at = files_of(unit, root)
    if task.cascade:
        first = task.cascade[0]
        target = written.task(first).target
        image, _, status = synthetic_files(root, first, model, unit, target)
        return image, [status], None
    low_res = task.low_res_of(model)
    image = at(MODALITIES[task.source].kind)
    resampled = MODALITIES[task.source].nature != "weighted"
    statuses = [at("grid-status")] if resampled and not low_res else []
    return image, statuses, files_of(unit, low_res_root(root, low_res.kind))("low-res-fa") if low_res else None


def main(
    root: Root,
    subject: Subject,
    task: TaskName,
    model: ModelName,
    config: NeededConfig,
    session: Session = None,
) -> None:
    """Translate one participant's image on the common grid, as the workflow does.

    In the place of a task, `downstream` stands for the weights of `downstream.weights`, each named as a model.
    """
    unit, written = unit_of(subject, session), read_config(config)
    if task == GIVEN and model in (given := given_in(written)):
        translate_given(unit, root, model, given[model], written.section("deformation"))
        return
    section = written.task(task)
    last = section.cascade[-1] if section.cascade else task
    training_task = written.task(last).training_task(last, model)
    weights = root / "models" / training_task / model / "model.safetensors"
    source, require, low_res = source_of(root, section, model, unit, written)
    out, out_sd, status = synthetic_files(root, task, model, unit, section.target)
    at, deformation = files_of(unit, root), None
    if written.model(model).uses_deformation:
        deformation = at("deformation")
        require = [*require, at("deform-status")]
    inputs = source, at("brain"), at("anat-status"), weights, low_res, require
    translate_unit(unit, task, *inputs, out, out_sd, status, deformation)


def translate_given(unit: str, root: Path, name: str, given: Given, deformation: Deformation) -> None:
    """Translate one unit's T1 by given weights; what deforms the template does so by the options of its record.

    Where these are the study's own, the deformation of the stage `deform` is used.

    Parameters
    ----------
    unit : str
        Name.
    root : Path
        Folder of the results.
    name : str
        Of the maps.
    given : Given
    deformation : Deformation
        Section of the study.
    """
    at = files_of(unit, root)
    out, out_sd, status = synthetic_files(root, GIVEN, name, unit, given.record["target"])
    inputs = at("t1w"), at("brain"), at("anat-status"), given.path
    field, require = (at("deformation"), [at("deform-status")]) if given.takes(deformation) else (None, [])
    translate_unit(unit, GIVEN, *inputs, None, require, out, out_sd, status, field)


@functools.lru_cache(maxsize=1)
def _model(weights: Path, modified: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Load a model, once for all units of a call."""
    return load_model(weights, weights.with_name("model.json"))


def translate_unit(
    unit: str,
    task: str,
    source: Path,
    brain: Path,
    anat_status: Path,
    weights: Path,
    low_res: Path | None,
    require: list[Path],
    out: Path,
    out_sd: Path,
    status: Path,
    deformation: Path | None = None,
) -> None:
    """Translate one unit's image; errors in the data are recorded in its status, with empty maps.

    Parameters
    ----------
    unit, task : str
        Names.
    source, brain : Path
        Source image and brain mask on the common grid.
    anat_status : Path
        Status of `m2m anat`.
    weights : Path
        Of the model.
    low_res : Path or None
        Low-resolution map, for a model with this input.
    require : list of Path
        Statuses of the stages that wrote the source.
    out, out_sd, status : Path
        Map, standard deviation and status to write.
    deformation : Path or None
        Displacements of `m2m deform`, for a model that uses them.
    """
    network = Network(weights=weights)
    tensors, about = _model(weights, weights.stat().st_mtime_ns)
    sources = [path for path in (source, brain, low_res, deformation, weights) if path]
    inputs = [*sources, weights.with_name("model.json"), anat_status, *require]
    with recorded("translate", unit, status, [out, out_sd], inputs) as numbers:
        start = time.perf_counter()
        require_ok(*require)
        prediction = predict_file(source, brain, anat_status, tensors, about, network, low_res, deformation)
        save_maps(prediction, out, out_sd, sources, about, task)
        numbers |= {"task": task} | {key: about[key] for key in ("model", "weights")}
        numbers["seconds"] = round(time.perf_counter() - start, 3)
