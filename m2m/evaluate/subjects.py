"""Evaluation of one model's synthetic maps on the test subjects: which units, which networks, which tables."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from m2m.cohort.split import load_split, part_by_participant
from m2m.evaluate import regions as roi
from m2m.evaluate.metric_tables import TABLES, columns_of, printed
from m2m.evaluate.perceptual import perceptual_distance
from m2m.evaluate.units import Comparison, evaluate_unit
from m2m.io.errors import DataError
from m2m.io.files import read_json
from m2m.io.modalities import MODALITIES
from m2m.io.tables import read_table, write_table
from m2m.options import Evaluation, Task
from m2m.options.configured import Written, compared_by, read_config, split_of
from m2m.options.stage_flags import ModelName, NeededConfig, Root, TaskName


def test_units(
    units: Iterable[Mapping[str, str | None]],
    parts: Mapping[str, str],
    quality: Iterable[Mapping[str, str | None]],
) -> list[dict[str, str]]:
    """Select the units to evaluate: both scans usable, of a test participant, not failed, not excluded.

    Parameters
    ----------
    units, quality : iterable of mapping
        Rows of units.tsv and quality.tsv.
    parts : mapping of str to str
        Part of each participant (train, validation, test).

    Returns
    -------
    list of dict
        unit, folder, participant_id.
    """
    used = {row["unit"] for row in quality if row["state"] == "used"}
    return [
        {key: row[key] or "" for key in ("unit", "folder", "participant_id")}
        for row in units
        if row["state"] == "paired" and parts.get(row["participant_id"] or "") == "test" and row["unit"] in used
    ]


def refuse_leak(records: Iterable[Mapping[str, Any]], split_hash: str, tested: Collection[str]) -> None:
    """Refuse a network that was trained or validated on a test participant, or trained on another split.

    Parameters
    ----------
    records : iterable of mapping
        model.json of every network that made the maps: a cascade of tasks has two.
    split_hash : str
        Hash of the current split.
    tested : collection of str
        Test participants.

    Raises
    ------
    ValueError
        Names the participants, or the two hashes.
    """
    for record in records:
        name = f"model {record['model']} of task {record['task']}"
        known = {*record["train_participants"], *record["validation_participants"]}
        if both := sorted(known & set(tested)):
            raise ValueError(
                f"{name} was trained or validated on test participants {', '.join(both)}; train "
                "it again on the current split"
            )
        if record["split_hash"] != split_hash:
            raise ValueError(
                f"{name} was trained on split {record['split_hash']}, the current split is {split_hash}; train it again"
            )


def main(root: Root, task: TaskName, model: ModelName, config: NeededConfig) -> None:
    """Compare one model's synthetic volumes with the measured ones, on the test subjects."""
    written = read_config(config)
    section, cohort, tables = written.task(task), root / "cohort", root / "evaluate" / task / model
    split, split_record = split_of(root)
    # A cascade runs the models of its steps; some tasks run models that were trained for another task.
    training_tasks = (written.task(step).training_task(step, model) for step in section.cascade or (task,))
    evaluate_model(
        task,
        model,
        section.target,
        root,
        cohort / "units.tsv",
        split,
        split_record,
        cohort / "quality.tsv",
        [root / "models" / training_task / model / "model.json" for training_task in training_tasks],
        tables / "metrics.tsv",
        tables / "profile.tsv",
        tables / "rois.tsv",
        tables / "bundles.tsv",
        tables / "spectrum.tsv",
        tables / "uncertainty.tsv",
        compared_by(written.section("evaluation"), written.simulation, root),
        mean_model=mean_map_of(written, section),
        streamlines=MODALITIES[section.target].nature == "tensor",
    )


def mean_map_of(written: Written, task: Task) -> str | None:
    """Name the task's model that is the mean map of the training participants, if there is one."""
    return next((name for name in task.models if written.model(name).reference), None)


def evaluate_model(
    task: str,
    model: str,
    target: str,
    root: Path,
    units: Path,
    split: Path,
    split_record: Path,
    quality: Path,
    model_record: Sequence[Path],
    metrics: Path,
    profile: Path,
    rois: Path,
    bundles: Path,
    spectra: Path,
    uncertainty: Path,
    section: Evaluation,
    mean_model: str | None = None,
    streamlines: bool = False,
) -> None:
    """Compare one model's volumes with the measured ones, and write the tables.

    Parameters
    ----------
    task, model : str
    target : str
        Modality.
    root : Path
        Dataset of the results.
    units : Path
        TSV of the cohort.
    split, split_record : Path
        split.tsv and split.json.
    quality : Path
        quality.tsv.
    model_record : sequence of Path
        model.json of every network that made the maps.
    metrics, profile, rois, bundles, spectra, uncertainty : Path
        TSV files to write.
    section : Evaluation
    mean_model : str or None
        Model that is the training participants' mean map.
    streamlines : bool
        Whether synthetic streamlines are compared as well.
    """
    parts = part_by_participant(load_split(split, split_record))
    tested = test_units(read_table(units), parts, read_table(quality))
    held_out = {participant for participant, part in parts.items() if part == "test"}
    records = [read_json(path) for path in model_record]
    refuse_leak(records, read_json(split_record)["hash"], held_out)
    maps = root / "synthetic" / task
    comparison = Comparison(
        target,
        root,
        maps / model,
        section,
        roi.roi_source(section.rois, root),
        roi.roi_names(section.rois.labels),
        perceptual_distance(section.lpips_weights),
        maps / mean_model if mean_model not in (None, model) else None,
        streamlines,
    )
    done: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
    n_failed = 0
    for unit in tested:
        try:
            for name, rows in evaluate_unit(unit, comparison).items():
                done[name] += rows
        except DataError as error:
            print(f"left out: {unit['unit']}: {error}")
            done["metrics"].append({**unit, "problem": str(error)})
            n_failed += 1
    paths = (metrics, profile, rois, bundles, spectra, uncertainty)
    # Later stages require metrics.tsv, so it is written last: then all tables exist.
    for path, name in reversed([*zip(paths, TABLES, strict=True)]):
        write_table(path, printed(done[name]), columns_of(name))
    if not tested:
        print(f"{task} {model}: nothing to evaluate, no used test unit has both scans")
    else:
        print(f"{task} {model}: {len(tested) - n_failed} units evaluated, {n_failed} left out")
    if comparison.labels_of is None:
        what = "ROI concordance and bundles are" if streamlines else "ROI concordance is"
        print(f"{what} not computed: evaluation.rois.image is not set")
