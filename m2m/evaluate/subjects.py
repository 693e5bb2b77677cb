"""One model's synthetic maps against the true ones, on the test subjects.

Whole-slice values stand beside the brain's and the white matter's for comparison with the
literature only: they are mostly background. Lin's concordance is over a person's ROI means.
`m2m.evaluate.measured_maps` says which image of each modality is compared.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.cohort.split import load_split, part_by_participant
from m2m.evaluate import metrics as measures
from m2m.evaluate import regions as roi
from m2m.evaluate import streamlines as tracts
from m2m.evaluate.measured_maps import compared
from m2m.evaluate.metric_records import measured
from m2m.evaluate.metric_tables import TABLES, columns_of, printed
from m2m.evaluate.pairs import Pair
from m2m.evaluate.perceptual import Perceptual, perceptual_distance
from m2m.evaluate.spectra import spectrum
from m2m.evaluate.uncertainty_scores import compare_uncertainty
from m2m.io import volume
from m2m.io.bids import unit_path
from m2m.io.errors import DataError
from m2m.io.files import read_json
from m2m.io.modalities import MODALITIES
from m2m.io.tables import read_table, write_table
from m2m.options import Evaluation, Task
from m2m.options.configured import Written, compared_by, read_config, split_of
from m2m.options.stage_flags import ModelName, NeededConfig, Root, TaskName


@dataclass(frozen=True)
class Comparison:
    """What is compared, and how.

    Attributes
    ----------
    target : str
        Modality.
    root, synthetic_root : Path
        Datasets of the true and of the synthetic maps.
    options : Evaluation
    labels_of : RoiSource or None
        Gives the regions of interest, where there are any.
    names : dict of int to str
        Of regions.
    perceptual : callable or None
        Gives LPIPS, where it can be computed.
    mean_root : Path or None
        Dataset of the mean map's volumes, where the model is not the mean map itself.
    streamlines : bool
        Whether synthetic streamlines are compared too.
    """

    target: str
    root: Path
    synthetic_root: Path
    options: Evaluation
    labels_of: roi.RoiSource | None
    names: dict[int, str]
    perceptual: Perceptual | None = None
    mean_root: Path | None = None
    streamlines: bool = False


def test_units(
    units: Iterable[Mapping[str, str | None]],
    parts: Mapping[str, str],
    quality: Iterable[Mapping[str, str | None]],
) -> list[dict[str, str]]:
    """Units to evaluate: both scans usable, of a test participant, not failed, not excluded.

    Parameters
    ----------
    units, quality : rows of units.tsv and quality.tsv
    parts : mapping
        Participant to part (train, validation, test).
    """
    used = {row["unit"] for row in quality if row["state"] == "used"}
    return [
        {key: row[key] for key in ("unit", "folder", "participant_id")}
        for row in units
        if row["state"] == "paired"
        and parts.get(row["participant_id"]) == "test"
        and row["unit"] in used
    ]


def refuse_leak(
    records: Iterable[Mapping[str, Any]], split_hash: str, tested: Collection[str]
) -> None:
    """Refuse a network that has seen a test participant, or was trained on another split.

    Parameters
    ----------
    records : iterable of mapping
        model.json of every network behind the maps: a chain of tasks has two.
    split_hash : str
        Of the current split.
    tested : collection of str
        Participants.

    Raises
    ------
    ValueError
        Names the participants, or the two hashes.
    """
    for record in records:
        name = f"model {record['model']} of task {record['task']}"
        seen = {*record["train_participants"], *record["validation_participants"]}
        if both := sorted(seen & set(tested)):
            raise ValueError(
                f"{name} was trained or chosen with test participants {', '.join(both)}; train "
                "it again on the current split"
            )
        if record["split_hash"] != split_hash:
            raise ValueError(
                f"{name} was trained on split {record['split_hash']}, the current split is "
                f"{split_hash}; train it again"
            )


def evaluate_unit(unit: dict[str, str], how: Comparison) -> dict[str, list[dict[str, Any]]]:
    """Compare one unit's synthetic map, and streamlines, with the true ones.

    Returns
    -------
    dict
        Rows of each of `TABLES`.

    Raises
    ------
    DataError
        A map is missing, empty (its stage failed) or unreadable.
    """
    where = unit["folder"], unit["unit"]
    modality = MODALITIES[how.target]
    true = volume.load(unit_path(how.root, modality.kind, *where))
    synthetic = volume.load(unit_path(how.synthetic_root, modality.synthetic, *where))
    masks = {k: volume.load(unit_path(how.root, k, *where)) for k in ("target-mask", "wm")}
    for name, image in {"synthetic map": synthetic, **masks}.items():
        volume.require_same_grid(true, image, f"{unit['unit']}, true map and {name}")
    brain = masks["target-mask"].data > 0
    regions = {
        "slice": np.ones_like(brain),
        "brain": brain,
        "wm": brain & (masks["wm"].data > 0),
    }
    a, b = (compared(how.target, image.data) for image in (true, synthetic))
    values, similarity = measures.region_metrics(a.image, b.image, brain, regions)
    pair = Pair(
        a, b, regions, how.options.density_threshold,
        mean_image(unit, how) if brain.any() else None, how.perceptual,
    )  # fmt: skip
    for region, numbers in measured(pair, modality.nature).items():
        values[region] |= numbers
    if how.options.truth is not None and modality.truth:
        values["truth"] = against_truth(unit, synthetic, brain, how)
    curves = []
    if brain.any():
        fine = spectrum(a.image, b.image, brain, true.spacing_mm)
        curves = fine.rows()
        values["brain"] |= fine.metrics()
    known, uncertainty = evaluate_uncertainty(unit, true, synthetic, brain, how)
    values["brain"] |= known
    spacing_mm = float(true.spacing_mm[2])
    profile = measures.slice_profile(a.image, b.image, brain, similarity, spacing_mm)
    rois: list[measures.Roi] = []
    bundles: list[dict[str, Any]] = []
    if how.labels_of is not None:
        labels = how.labels_of(unit, true)
        rois = measures.roi_means(
            a.regional, b.regional, labels, brain, how.names, how.options.min_roi_voxels
        )
        values["rois"] = roi.agreement(rois)
        if how.streamlines:
            bundles, values["bundles"] = evaluate_bundles(
                unit, volume.Volume(labels, true.affine), how
            )
    person = {"participant_id": unit["participant_id"]}
    tables = {
        "metrics": [person | {"region": region} | numbers for region, numbers in values.items()],
        "profile": profile,
        "rois": [{"roi": one.name} | asdict(one) for one in rois],
        "bundles": bundles,
        "spectrum": curves,
        "uncertainty": uncertainty,
    }
    who = {"unit": unit["unit"]}
    return {name: [who | row for row in rows] for name, rows in tables.items()}


def against_truth(
    unit: dict[str, str], synthetic: volume.Volume, brain: NDArray, how: Comparison
) -> dict[str, float]:
    """Metrics of the brain against a simulated person's map before noise and distortion."""
    kind = MODALITIES[how.target].truth
    truth = volume.load(unit_path(how.options.truth, kind, unit["folder"], unit["unit"]))
    on_grid = volume.resample(truth, synthetic.affine, synthetic.shape).data
    a, b = (compared(how.target, data).image for data in (on_grid, synthetic.data))
    values, _ = measures.region_metrics(a, b, brain, {"truth": brain})
    return values["truth"]


def mean_image(unit: dict[str, str], how: Comparison) -> NDArray | None:
    """Image of the mean map, shape (X, Y, Z); None, and said, where there is none."""
    if how.mean_root is None:
        return None
    kind = MODALITIES[how.target].synthetic
    try:
        mean = volume.load(unit_path(how.mean_root, kind, unit["folder"], unit["unit"]))
    except DataError as error:
        print(f"residual_r left out: {unit['unit']}: {error}")
        return None
    return compared(how.target, mean.data).image


def evaluate_uncertainty(
    unit: dict[str, str],
    true: volume.Volume,
    synthetic: volume.Volume,
    brain: NDArray,
    how: Comparison,
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Compare the map of standard deviations with the errors; without it, only say so.

    Returns
    -------
    values of the region ``brain``; rows of uncertainty.tsv
    """
    modality = MODALITIES[how.target]
    path = unit_path(how.synthetic_root, f"synthsd-{modality.kind}", unit["folder"], unit["unit"])
    try:
        sd = volume.load(path)
    except DataError as error:
        print(f"uncertainty left out: {unit['unit']}: {error}")
        return {}, []
    volume.require_same_grid(true, sd, f"{unit['unit']}, true map and standard deviation")
    measured = brain if true.data.ndim == 3 else brain & np.any(true.data != 0, axis=-1)
    if not measured.any():
        return {}, []
    a, b = (modality.scale(image.data[measured]) for image in (true, synthetic))
    return compare_uncertainty((a - b).ravel(), sd.data[measured].ravel())


def evaluate_bundles(
    unit: dict[str, str], labels: volume.Volume, how: Comparison
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Compare one unit's streamlines; bad ones are a problem of the bundles, not of the map.

    Returns
    -------
    rows of bundles.tsv; values of the region ``bundles``, or its ``problem``
    """
    where = unit["folder"], unit["unit"]
    try:
        rows = tracts.compare_bundles(
            tracts.true_streamlines(how.root, *where),
            tracts.synthetic_streamlines(how.synthetic_root, *where),
            labels, how.names, how.options.min_bundle_streamlines,
        )  # fmt: skip
        if not rows:
            least = how.options.min_bundle_streamlines
            raise DataError(f"no region has {least} true streamlines")
    except DataError as error:
        print(f"bundles left out: {unit['unit']}: {error}")
        return [], {"problem": str(error)}
    return rows, tracts.agreement(rows)


def main(root: Root, task: TaskName, model: ModelName, config: NeededConfig) -> None:
    """Compare one model's synthetic volumes with the truth, on the test subjects."""
    written = read_config(config)
    section, cohort = written.task(task), root / "cohort"
    # A chain runs the models of its links; some tasks run models of others.
    homes = (written.task(link).home(link, model) for link in section.chain or (task,))
    names = ("metrics", "profile", "rois", "bundles", "spectrum", "uncertainty")
    evaluate_model(
        task, model, section.target, root, cohort / "units.tsv", *split_of(root),
        cohort / "quality.tsv", [root / "models" / home / model / "model.json" for home in homes],
        *(root / "evaluate" / task / model / f"{name}.tsv" for name in names),
        compared_by(written.section("evaluation"), written.phantom, root),
        mean_model=mean_map_of(written, section),
        streamlines=MODALITIES[section.target].nature == "tensor",
    )  # fmt: skip


def mean_map_of(written: Written, task: Task) -> str | None:
    """The task's model that is the training people's mean map, if there is one."""
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
    """Compare one model's volumes with the truth, and write the tables."""
    parts = part_by_participant(load_split(split, split_record))
    tested = test_units(read_table(units), parts, read_table(quality))
    held_out = {participant for participant, part in parts.items() if part == "test"}
    records = [read_json(path) for path in model_record]
    refuse_leak(records, read_json(split_record)["hash"], held_out)
    maps = root / "synthetic" / task
    how = Comparison(
        target, root, maps / model, section,
        roi.roi_source(section.rois, root), roi.roi_names(section.rois.labels),
        perceptual_distance(section.lpips_weights),
        maps / mean_model if mean_model not in (None, model) else None, streamlines,
    )  # fmt: skip
    done: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
    n_failed = 0
    for unit in tested:
        try:
            for name, rows in evaluate_unit(unit, how).items():
                done[name] += rows
        except DataError as error:
            print(f"left out: {unit['unit']}: {error}")
            done["metrics"].append({**unit, "problem": str(error)})
            n_failed += 1
    paths = (metrics, profile, rois, bundles, spectra, uncertainty)
    # The first, which every later stage asks for, comes last: then all of them are there.
    for path, name in reversed([*zip(paths, TABLES, strict=True)]):
        write_table(path, printed(done[name]), columns_of(name))
    if not tested:
        print(f"{task} {model}: nothing to evaluate, no used test unit has both scans")
    else:
        print(f"{task} {model}: {len(tested) - n_failed} units evaluated, {n_failed} left out")
    if how.labels_of is None:
        what = "ROI concordance and bundles are" if streamlines else "ROI concordance is"
        print(f"{what} not computed: evaluation.rois.image is not set")
