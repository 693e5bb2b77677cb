"""Train a model on a task: a network, or a baseline without a network.

A stopped run continues from its last checkpoint. A finished run only writes its outputs again.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import TypeAdapter

import m2m
from m2m.cohort.split import load_split, part_by_participant
from m2m.io.bids import low_res_root
from m2m.io.errors import DataError
from m2m.io.files import digest, file_digest, read_json, write_text
from m2m.io.modalities import MODALITIES
from m2m.io.versions import VERSIONS
from m2m.models.building import load_synthesis
from m2m.models.onnx_graph import write_graph
from m2m.models.prerequisites import Synthesis
from m2m.models.record import METRIC, load_model, save_model
from m2m.models.record_schema import without_folders
from m2m.options import Family, Model, Task
from m2m.options.configured import fitted_model, fitted_task, read_config, require_one, split_of
from m2m.options.section import parse_options
from m2m.options.stage_flags import ConfigFile, ModelName, Root, TaskName
from m2m.structural.slices import GRID_AXES
from m2m.train.checkpoint import Checkpoints
from m2m.train.closed_form import fit_at_once, with_deformation
from m2m.train.dataset import find_subjects
from m2m.train.encoder import load_encoder
from m2m.train.fine_tuning import start_of
from m2m.train.history import METRICS, json_lines
from m2m.train.launch import make_fabric
from m2m.train.loop import fit_network
from m2m.train.validation import Subjects


def main(
    root: Root,
    task: TaskName,
    model: ModelName,
    config: ConfigFile = None,
    task_options: Annotated[str | None, typer.Option(help="JSON of a task, as in the section `tasks`.")] = None,
    options: Annotated[str | None, typer.Option(help="JSON of a model, as in the section `models`.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write to. Default: <root>/models/<task>/<model>.")] = None,
    encoder: Annotated[Path | None, typer.Option(help="Weights of `m2m encoder`: perceptual.network self.")] = None,
    low_res_dir: Annotated[
        Path | None, typer.Option(help="Slices of `m2m simulate-low-res`, for a task with low_res.")
    ] = None,
    labels_dir: Annotated[
        Path | None, typer.Option(help="Folder of `m2m apply-label-correction`, for a model with labels_from.")
    ] = None,
    synthesis_weights: Annotated[
        Path | None, typer.Option(help="Weights of the synthesis model that a super-resolution model starts from.")
    ] = None,
    simulated: Annotated[bool | None, typer.Option(help="Record that the participants are simulated.")] = None,
) -> None:
    """Train a model on the training part, and choose its weights on the validation part.

    With --config, the files that only some models need are those of the workflow. With --options,
    they are given by their own options. Exit status 143: stopped by SIGTERM with the state saved;
    the same command continues.
    """
    require_one(config, options, needed=False)
    by_hand = {
        "--task-options": task_options,
        "--encoder": encoder,
        "--low-res-dir": low_res_dir,
        "--labels-dir": labels_dir,
        "--synthesis-weights": synthesis_weights,
        "--simulated": simulated,
    }
    if config is None:
        task_chosen = parse_options(Task, task_options or "{}")
        chosen = TypeAdapter(Model).validate_json(options or "{}")
    else:
        if given := [name for name, value in by_hand.items() if value is not None]:
            raise typer.BadParameter(f"--config already defines {', '.join(given)}: give one of the two")
        written = read_config(config)
        section = written.task(task)
        chosen = fitted_model(written.model(model), section, model)
        task_chosen = Task.model_validate(fitted_task(section))
        encoder, low_res_dir, labels_dir, synthesis_weights = needs(root, task, model, task_chosen, chosen)
        simulated = written.simulated
    folder = out or root / "models" / task / model
    fit_model(
        task,
        model,
        root / "slices",
        *split_of(root, task_chosen.fold),
        folder / "training",
        folder / "model.safetensors",
        folder / "model.json",
        folder / "model_card.md",
        folder / "metrics.jsonl",
        task_chosen,
        chosen,
        encoder,
        low_res_dir,
        labels_dir,
        synthesis_weights,
        bool(simulated),
    )


def needs(
    root: Path, task: str, model: str, task_chosen: Task, chosen: Any
) -> tuple[Path | None, Path | None, Path | None, Path | None]:
    """Locate the files that only some models need.

    Parameters
    ----------
    root : Path
        Folder of the results.
    task, model : str
        Names.
    task_chosen : Task
    chosen : Family
        Options of the model.

    Returns
    -------
    encoder, low_res_dir, labels_dir, synthesis_weights : Path or None
        Encoder weights, low-resolution slices, slices with corrected labels, and weights of the
        synthesis model; None where the model does not need them.
    """
    encoder = low_res_dir = labels_dir = synthesis_weights = None
    if chosen.features.network == "self":
        encoder = root / "encoders" / task_chosen.target / "encoder.safetensors"
    if low_res := task_chosen.low_res_of(model):
        low_res_dir = low_res_root(root, low_res.kind) / "slices"
    if chosen.labels_of:
        labels_dir = root / "labels" / task / chosen.labels_of
    if chosen.starts_from:
        assert task_chosen.low_res, "the options are checked: only a task with low_res has such models"
        synthesis_weights = (
            root / "models" / task_chosen.low_res.synthesis_task / chosen.starts_from / "model.safetensors"
        )
    return encoder, low_res_dir, labels_dir, synthesis_weights


def fit_model(
    task: str,
    model: str,
    slices_dir: Path,
    split: Path,
    split_record: Path,
    training_dir: Path,
    weights: Path,
    record: Path,
    card: Path,
    metrics: Path,
    task_chosen: Task,
    chosen: Any,
    encoder: Path | None = None,
    low_res_dir: Path | None = None,
    labels_dir: Path | None = None,
    synthesis_weights: Path | None = None,
    simulated: bool = False,
) -> None:
    """Fit one model, and write its weights, record, model card and training log.

    Parameters
    ----------
    task, model : str
        Names.
    slices_dir : Path
        Output of `m2m slices`.
    split, split_record : Path
        Table of the parts, and its record.
    training_dir : Path
        For checkpoints and logs.
    weights, record, card, metrics : Path
        Files to write.
    task_chosen : Task
    chosen : Family
        Options of the model.
    encoder : Path or None
        Weights of the feature encoder.
    low_res_dir : Path or None
        Low-resolution slices.
    labels_dir : Path or None
        Slices with corrected labels.
    synthesis_weights : Path or None
        Weights of the synthesis model that a super-resolution model starts from.
    simulated : bool
        Whether the participants are simulated.

    Raises
    ------
    BadParameter
        The task is a cascade, or a folder is missing or not needed.
    DataError
        The slices cannot be used: see `common_grid` and `first_stage`.
    """
    if task_chosen.cascade:
        raise typer.BadParameter(f"{task} is a cascade of {task_chosen.cascade}: train these tasks instead")
    if bool(task_chosen.low_res) != bool(low_res_dir):
        raise typer.BadParameter("--low-res-dir is for a task with low_res, and such a task needs it")
    parts = part_by_participant(load_split(split, split_record))
    images = task_chosen.source, task_chosen.target
    factor = task_chosen.low_res.factor if task_chosen.low_res else None
    if bool(chosen.labels_of) != bool(labels_dir):
        raise typer.BadParameter("--labels-dir is for a model with labels_from, which needs it")
    subjects, skipped = find_subjects(slices_dir, parts, *images, low_res_dir, factor, labels_dir)
    deformation = None
    if chosen.uses_deformation:
        subjects, skipped, deformation = with_deformation(subjects, skipped, slices_dir.parent)
    grid = common_grid(subjects, slices_dir, skipped)
    about: dict[str, Any] = {
        "task": task,
        "model": model,
        "family": chosen.family,
        "options": without_folders(chosen.model_dump()),
        "source": task_chosen.source,
        "target": task_chosen.target,
        **grid,
        **{f"n_{part}": len(participants_of(subjects, part)) for part in subjects},
        **{f"{part}_participants": participants_of(subjects, part) for part in subjects},
        "skipped": skipped,
        "split_hash": read_json(split_record)["hash"],
        "data_hash": digest({s.unit: s.record["sha256"] for p in subjects.values() for s in p}),
        "axes": GRID_AXES,
        "code_version": m2m.__version__,
        **({"deformation": deformation} if deformation else {}),
    }
    if task_chosen.low_res:
        about["low_res"] = {"factor": factor, "source": task_chosen.low_res.source}
    synthesis = None
    if chosen.starts_from:
        synthesis, about["first"] = first_stage(synthesis_weights, about)
    start = start_of(chosen, about, synthesis) if chosen.trained else None
    if start:
        about["started_from"] = start.entry
    perceptual = chosen.features
    encoder_weights = encoder if perceptual.network == "self" else perceptual.weights
    about |= {"encoder": file_digest(encoder_weights) if encoder_weights else None}
    checkpoints = Checkpoints(training_dir, configuration(about, chosen))
    if chosen.trained:
        channels = len(MODALITIES[task_chosen.target].channels)
        feature_encoder = load_encoder(perceptual, channels, encoder)
        fabric = make_fabric(chosen.training)
        fabric.launch()
        prerequisites = feature_encoder, synthesis, start, slices_dir.parent
        fit = fit_network(fabric, subjects, task_chosen, chosen, checkpoints, *prerequisites)
        if not fabric.is_global_zero:
            return
        write_text(metrics, (checkpoints.folder / METRICS).read_text(encoding="utf-8"))
    else:
        fit = fit_at_once(subjects, task_chosen, chosen, slices_dir.parent)
        value = fit.validation["value"] if fit.validation else None
        write_text(metrics, json_lines([{"step": None, "split": "validation", METRIC: value}]))
    save_model(fit, about | {"fingerprint": checkpoints.fingerprint}, weights, record, card, simulated)
    _write_graph(weights, record)
    print(f"{model}: {fit.validation or 'no validation subject'}, weights of step {fit.best_step}")


def _write_graph(weights: Path, record: Path) -> None:
    """Write the network for ONNX Runtime, where it can run it: the model is whole without."""
    try:
        write_graph(weights, record)
    except DataError as error:
        typer.echo(f"warning: PyTorch will be needed to translate by this model: {error}", err=True)


def participants_of(subjects: Subjects, part: str) -> list[str]:
    """List the participants of a part."""
    return sorted({subject.participant for subject in subjects[part]})


def common_grid(subjects: Subjects, slices_dir: Path, skipped: Mapping[str, int]) -> dict[str, Any]:
    """Check that all subjects share one grid.

    Parameters
    ----------
    subjects : mapping
        Subjects by part.
    slices_dir : Path
        Named in the error.
    skipped : mapping
        Number of units left out, by reason; named in the error.

    Returns
    -------
    dict
        ``spacing_mm``, ``shape`` and ``t1_range_percent``.

    Raises
    ------
    DataError
        There is no training subject, or the grid of a subject differs.
    """
    if not subjects["train"]:
        raise DataError(
            "no training subject has usable slices",
            file=slices_dir,
            value=f"left out: {dict(skipped)}",
            remedy="see quality.tsv for what failed or was excluded, and split.tsv for the parts",
        )
    first, *others = [subject for part in subjects.values() for subject in part]
    grid = {key: first.record[key] for key in ("spacing_mm", "shape", "t1_range_percent")}
    for subject in others:
        for key, value in grid.items():
            if subject.record[key] != value:
                raise DataError(
                    f"{subject.unit} and {first.unit} differ in {key}",
                    file=subject.folder / f"{subject.unit}_slices.json",
                    value=f"{subject.record[key]}, not {value}",
                    remedy="make all slices with the same sections anat and slices",
                )
    return grid


def first_stage(weights: Path | None, about: Mapping[str, Any]) -> tuple[Synthesis, dict[str, Any]]:
    """Load the synthesis model that a super-resolution model starts from.

    Returns
    -------
    Synthesis
    dict
        Its entry in the record of the super-resolution model.

    Raises
    ------
    BadParameter
        No weights are given.
    DataError
        It was trained on other participants, on another grid, or with another source or target.
    """
    if weights is None:
        raise typer.BadParameter(
            "a super-resolution model needs --synthesis-weights, the weights of its synthesis model"
        )
    tensors, record = load_model(weights, weights.with_name("model.json"))
    for key in ("source", "target", "spacing_mm", "shape", "t1_range_percent", "split_hash"):
        if record[key] != about[key]:
            raise DataError(
                f"the synthesis model and the super-resolution model differ in {key}",
                file=weights,
                value=f"{record[key]}, not {about[key]}",
                remedy="train the synthesis model again, on the same participants and slices",
            )
    keys = ("task", "model", "family", "options", "source", "target", "fingerprint", "weights")
    kept = {key: record[key] for key in keys}
    return load_synthesis(tensors, record, about["low_res"]["factor"]), kept


def configuration(about: Mapping[str, Any], options: Family) -> dict:
    """Collect what determines the weights, for the fingerprint; options of the hardware do not."""
    without: dict[str, Any] = {
        "training": {"workers", "threads", "start_from"},
        "perceptual": {"weights"},
        "fusion": True,
        "atlas_share": True,
        "prior_map": True,  # its content counts, as that of other files
        "map": True,
        "correct_labels": {"smooth_mm"},
    }
    keys = ("source", "target", "data_hash", "split_hash", "code_version", "encoder")
    further = {"low_res", "first"} & about.keys()
    start = about.get("started_from")
    return {
        **{key: about[key] for key in (*keys, *sorted(further))},
        **({"started_from": start["weights"]} if start else {}),
        **({"given_map": file_digest(options.given_map)} if options.given_map else {}),
        "options": options.model_dump(mode="json", exclude=without),
        "stage_version": VERSIONS["train"],
    }
