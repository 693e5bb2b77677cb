"""Train a model on a task: a network, or a baseline that needs none.

A run that was stopped goes on where it was; a run with nothing left to do writes its outputs
again.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import TypeAdapter

import m2m
from m2m.cohort.split import load_split, part_by_participant
from m2m.io.bids import low_root
from m2m.io.errors import DataError
from m2m.io.files import digest, file_digest, read_json, write_text
from m2m.io.modalities import MODALITIES
from m2m.io.versions import VERSIONS
from m2m.models.building import load_synthesis
from m2m.models.given import Synthesis
from m2m.models.record import METRIC, load_model, save_model
from m2m.options import Family, Model, Task
from m2m.options.configured import fitted_model, fitted_task, read_config, require_one, split_of
from m2m.options.section import parse_options
from m2m.options.stage_flags import ConfigFile, ModelName, Root, TaskName
from m2m.train.checkpoint import Checkpoints
from m2m.train.closed_form import fit_at_once
from m2m.train.dataset import find_subjects
from m2m.train.encoder import load_encoder
from m2m.train.history import METRICS, json_lines
from m2m.train.judge import Subjects
from m2m.train.launch import make_fabric
from m2m.train.loop import fit_network


def main(
    root: Root,
    task: TaskName,
    model: ModelName,
    config: ConfigFile = None,
    task_options: Annotated[
        str | None, typer.Option(help="JSON of a task, as in the section `tasks`.")
    ] = None,
    options: Annotated[
        str | None, typer.Option(help="JSON of a model, as in the section `models`.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to. Default: <root>/models/<task>/<model>.")
    ] = None,
    encoder: Annotated[
        Path | None, typer.Option(help="Weights of `m2m encoder`, for perceptual.network self.")
    ] = None,
    low_dir: Annotated[
        Path | None, typer.Option(help="Folder of `m2m lower`'s slices, for a task with low.")
    ] = None,
    labels_dir: Annotated[
        Path | None, typer.Option(help="Folder of `m2m correct-labels`, for labels_from.")
    ] = None,
    first: Annotated[
        Path | None, typer.Option(help="Weights of the synthesis that a super-resolution refines.")
    ] = None,
    simulated: Annotated[
        bool | None, typer.Option(help="Whether the people are simulated: say so.")
    ] = None,
) -> None:
    """Train a model on the training part, choose its weights on the validation part.

    With --config the files that only some models need are those of the workflow; with --options
    they are named. Exit status 143: stopped by SIGTERM with the state saved; the same command
    goes on.
    """
    require_one(config, options, needed=False)
    if config is None:
        task_chosen = parse_options(Task, task_options or "{}")
        chosen = TypeAdapter(Model).validate_json(options or "{}")
    else:
        written = read_config(config)
        section = written.task(task)
        chosen = fitted_model(written.model(model), section, model)
        task_chosen = Task.model_validate(fitted_task(section))
        encoder, low_dir, labels_dir, first = needs(root, task, model, task_chosen, chosen)
        simulated = written.simulated if simulated is None else simulated
    folder = out or root / "models" / task / model
    fit_model(
        task, model, root / "slices", *split_of(root, task_chosen.fold), folder / "training",
        folder / "model.safetensors", folder / "model.json", folder / "model_card.md",
        folder / "metrics.jsonl", task_chosen, chosen, encoder, low_dir, labels_dir, first,
        bool(simulated),
    )  # fmt: skip


def needs(
    root: Path, task: str, model: str, task_chosen: Task, chosen: Any
) -> tuple[Path | None, Path | None, Path | None, Path | None]:
    """Files that only some models need: encoder, low resolution, moved labels, first stage."""
    encoder = low_dir = labels_dir = first = None
    if chosen.features.network == "self":
        encoder = root / "encoders" / task_chosen.target / "encoder.safetensors"
    if low := task_chosen.low_of(model):
        low_dir = low_root(root, low.kind) / "slices"
    if chosen.labels_of:
        labels_dir = root / "labels" / task / chosen.labels_of
    if chosen.starts_from:
        first = root / "models" / task_chosen.low.after / chosen.starts_from / "model.safetensors"
    return encoder, low_dir, labels_dir, first


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
    low_dir: Path | None = None,
    labels_dir: Path | None = None,
    first: Path | None = None,
    simulated: bool = False,
) -> None:
    """Fit one model and write its weights, record, card and course."""
    if task_chosen.chain:
        raise typer.BadParameter(f"{task} is a chain of {task_chosen.chain}: train these instead")
    if bool(task_chosen.low) != bool(low_dir):
        raise typer.BadParameter("--low-dir is for a task with low, and such a task needs it")
    parts = part_by_participant(load_split(split, split_record))
    images = task_chosen.source, task_chosen.target
    ratio = task_chosen.low.ratio if task_chosen.low else None
    if bool(chosen.labels_of) != bool(labels_dir):
        raise typer.BadParameter("--labels-dir is for a model with labels_from, which needs it")
    subjects, skipped = find_subjects(slices_dir, parts, *images, low_dir, ratio, labels_dir)
    grid = common_grid(subjects, slices_dir, skipped)
    about = {
        "task": task, "model": model, "family": chosen.family,
        "options": chosen.model_dump(mode="json"),
        "source": task_chosen.source, "target": task_chosen.target, **grid,
        **{f"n_{part}": len(people(subjects, part)) for part in subjects},
        **{f"{part}_participants": people(subjects, part) for part in subjects},
        "skipped": skipped,
        "split_hash": read_json(split_record)["hash"],
        "data_hash": digest({s.unit: s.record["sha256"] for p in subjects.values() for s in p}),
        "code_version": m2m.__version__,
    }  # fmt: skip
    if task_chosen.low:
        about["low"] = {"ratio": ratio, "of": task_chosen.low.of}
    synthesis = None
    if chosen.starts_from:
        synthesis, about["first"] = first_stage(first, about)
    perceptual = chosen.features
    sees = encoder if perceptual.network == "self" else perceptual.weights
    about |= {"encoder": file_digest(sees) if sees else None}
    checkpoints = Checkpoints(training_dir, configuration(about, chosen))
    if chosen.trained:
        channels = len(MODALITIES[task_chosen.target].channels)
        eyes = load_encoder(perceptual, channels, encoder)
        fabric = make_fabric(chosen.training)
        fabric.launch()
        fit = fit_network(fabric, subjects, task_chosen, chosen, checkpoints, eyes, synthesis)
        if not fabric.is_global_zero:
            return
        write_text(metrics, (checkpoints.folder / METRICS).read_text(encoding="utf-8"))
    else:
        fit = fit_at_once(subjects, task_chosen, chosen)
        value = fit.validation["value"] if fit.validation else None
        write_text(metrics, json_lines([{"step": None, "split": "validation", METRIC: value}]))
    about |= {"fingerprint": checkpoints.fingerprint}
    save_model(fit, about, weights, record, card, simulated)
    print(f"{model}: {fit.validation or 'no validation subject'}, weights of step {fit.best_step}")


def people(subjects: Subjects, part: str) -> list[str]:
    """Participants of a part."""
    return sorted({subject.participant for subject in subjects[part]})


def common_grid(subjects: Subjects, slices_dir: Path, skipped: Mapping[str, int]) -> dict[str, Any]:
    """Spacing, shape and normalisation that all subjects share.

    Raises
    ------
    DataError
        Nobody is left for training, or a subject's grid differs.
    """
    if not subjects["train"]:
        raise DataError(
            "no training subject has usable slices",
            file=slices_dir, value=f"left out: {dict(skipped)}",
            remedy="see quality.tsv for what failed or was excluded, and split.tsv for the parts",
        )  # fmt: skip
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
    """Load the synthesis that a super-resolution refines, and what the record keeps of it.

    Raises
    ------
    DataError
        It was trained on other people or another grid, from or to another image.
    """
    if weights is None:
        raise typer.BadParameter("a super-resolution needs --first, the weights of its synthesis")
    tensors, record = load_model(weights, weights.with_name("model.json"))
    for key in ("source", "target", "spacing_mm", "shape", "t1_range_percent", "split_hash"):
        if record[key] != about[key]:
            raise DataError(
                f"the synthesis and its super-resolution differ in {key}",
                file=weights, value=f"{record[key]}, not {about[key]}",
                remedy="train the synthesis again, on the same people and slices",
            )  # fmt: skip
    keys = ("task", "model", "family", "options", "source", "target", "fingerprint", "weights")
    kept = {key: record[key] for key in keys}
    return load_synthesis(tensors, record, about["low"]["ratio"]), kept


def configuration(about: Mapping[str, Any], options: Family) -> dict:
    """All that decides the weights, for the fingerprint; how it is computed does not."""
    without = {
        "training": {"workers", "threads"}, "perceptual": {"weights"}, "fusion": True,
        "correct_labels": {"smooth_mm"},
    }  # fmt: skip
    keys = ("source", "target", "data_hash", "split_hash", "code_version", "encoder")
    further = {"low", "first"} & about.keys()
    return {
        **{key: about[key] for key in (*keys, *sorted(further))},
        "options": options.model_dump(mode="json", exclude=without),
        "stage_version": VERSIONS["train"],
    }
