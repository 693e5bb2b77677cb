"""The workflow's translation: one participant's image on the common grid, by one task's model."""

from pathlib import Path

from m2m.io import bids
from m2m.io.bids import files_of, low_root, unit_of
from m2m.io.modalities import MODALITIES
from m2m.io.unit_status import recorded, require_ok
from m2m.models.record import load_model
from m2m.options import Task
from m2m.options.configured import Written, read_config
from m2m.options.stage_flags import ModelName, NeededConfig, Root, Session, Subject, TaskName
from m2m.translate.predict import Network, predict_file, save_maps


def synthetic_files(root: Path, task: str, model: str, unit: str, target: str) -> list[Path]:
    """Map, standard deviation and status of what a model makes of a unit."""
    at = files_of(unit, root / "synthetic" / task / model)
    measure = bids.measure(MODALITIES[target].kind)
    kinds = ("synth", "synthsd", "synth-status")
    return [Path(str(at(kind)).format(measure=measure)) for kind in kinds]


def source_of(
    root: Path, task: Task, model: str, unit: str, written: Written
) -> tuple[Path, list[Path], Path | None]:
    """What a task translates: the image, the statuses of what made it, the low-resolution map.

    The T1's status is that of anat, which a translation reads anyway.
    """
    at = files_of(unit, root)
    if task.chain:
        first = task.chain[0]
        target = written.task(first).target
        image, _, status = synthetic_files(root, first, model, unit, target)
        return image, [status], None
    low = task.low_of(model)
    image = at(MODALITIES[task.source].kind)
    carried = MODALITIES[task.source].nature != "weighted"
    made = [at("grid-status")] if carried and not low else []
    return image, made, files_of(unit, low_root(root, low.kind))("low-fa") if low else None


def main(
    root: Root,
    subject: Subject,
    task: TaskName,
    model: ModelName,
    config: NeededConfig,
    session: Session = None,
) -> None:
    """Translate one participant's image on the common grid, as the workflow does."""
    unit, written = unit_of(subject, session), read_config(config)
    section = written.task(task)
    last = section.chain[-1] if section.chain else task
    home = written.task(last).home(last, model)
    weights = root / "models" / home / model / "model.safetensors"
    source, require, low = source_of(root, section, model, unit, written)
    out, out_sd, status = synthetic_files(root, task, model, unit, section.target)
    at = files_of(unit, root)
    translate_unit(
        unit, task, source, at("brain"), at("anat-status"), weights, low, require, out, out_sd,
        status,
    )  # fmt: skip


def translate_unit(
    unit: str,
    task: str,
    source: Path,
    brain: Path,
    anat_status: Path,
    weights: Path,
    low: Path | None,
    require: list[Path],
    out: Path,
    out_sd: Path,
    status: Path,
) -> None:
    """Translate one unit's image; bad data end in its status, with empty maps."""
    network = Network()
    tensors, about = load_model(weights, weights.with_name("model.json"))
    sources = [path for path in (source, brain, low, weights) if path]
    with recorded("translate", unit, status, [out, out_sd]) as numbers:
        require_ok(*require)
        found = predict_file(source, brain, anat_status, tensors, about, network, low)
        save_maps(found, out, out_sd, sources, about, task)
        numbers |= {"task": task} | {key: about[key] for key in ("model", "weights")}
