"""Visits of test participants: change within participants, and test-retest, of measured and of synthetic maps."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from m2m.cohort.participants import visit_times
from m2m.evaluate.measured_maps import compared
from m2m.evaluate.metric_tables import FLOW, load_tables, printed
from m2m.evaluate.metrics import roi_means
from m2m.evaluate.regions import roi_names, roi_source
from m2m.evaluate.visit_statistics import (
    MEASURED,
    TRUTH,
    Times,
    Visits,
    pairs_of_visits,
    values_of_pairs,
    visit_rows,
)
from m2m.io import volume
from m2m.io.bids import participant_of, unit_folder, unit_path
from m2m.io.errors import DataError
from m2m.io.files import read_json
from m2m.io.masks import in_mask
from m2m.io.modalities import MODALITIES
from m2m.io.tables import write_table
from m2m.options import Evaluation
from m2m.options.configured import compared_by, read_config
from m2m.options.stage_flags import NeededConfig, Root, TaskName

VISIT_COLUMNS = (
    "task",
    "interval",
    "image",
    "against",
    "roi",
    "metric",
    "value",
    "low",
    "high",
    "n_subjects",
    *FLOW,
)
PAIR_COLUMNS = ("image", *Visits._fields, "roi", "first_value", "second_value")


def main(
    root: Root,
    task: TaskName,
    config: NeededConfig,
    bids_dir: Annotated[Path, typer.Option(help="Raw dataset, with the sessions.tsv of participants.")],
) -> None:
    """Compare the visits of each test participant."""
    written, folder = read_config(config), root / "evaluate" / task
    compare_visits(
        task,
        written.task(task).target,
        root,
        written.models(task),
        bids_dir,
        compared_by(written.section("evaluation"), written.simulation, root),
        root / "truth" if written.simulated else None,
        folder / "visits.tsv",
        folder / "visit_pairs.tsv",
    )


def times_of_units(units: Sequence[str], bids_dir: Path) -> Times:
    """Day and age of each unit, from the sessions.tsv of its participant."""
    found: dict[str, tuple[date | None, float | None]] = {}
    for participant in dict.fromkeys(map(participant_of, units)):
        table = bids_dir / participant / f"{participant}_sessions.tsv"
        times = visit_times(table) if table.is_file() else {}
        own = [unit for unit in units if participant_of(unit) == participant]
        found |= {unit: times.get(unit.partition("_")[2], (None, None)) for unit in own}
    return found


def true_means(units: Sequence[str], target: str, root: Path, truth: Path, section: Evaluation) -> list[dict[str, Any]]:
    """Regional means of the noise-free maps of simulated participants, as of rois.tsv.

    Returns
    -------
    list of dict
        unit, roi, value; none where the target has no noise-free map.
    """
    labels_of, kind = roi_source(section.rois, root), MODALITIES[target].truth
    if labels_of is None or not kind:
        return []
    names, rows = roi_names(section.rois.labels), []
    for unit in units:
        where = unit_folder(unit), unit
        mask = volume.load(unit_path(root, "target-mask", *where))
        free = volume.resample(volume.load(unit_path(truth, kind, *where)), mask.affine, mask.shape).data
        labels = labels_of({"unit": unit, "folder": where[0]}, mask)
        image = compared(target, free).regional
        means = roi_means(image, image, labels, in_mask(mask.data), names, section.min_roi_voxels)
        rows += [{"unit": unit, "roi": one.name, "value": one.reference} for one in means]
    return rows


def compare_visits(
    task: str,
    target: str,
    root: Path,
    models: Sequence[str],
    bids_dir: Path,
    section: Evaluation,
    truth: Path | None,
    visits: Path,
    pairs: Path,
) -> None:
    """Compare the visits of each participant and write the tables.

    Parameters
    ----------
    task, target : str
    root : Path
        Dataset of the results.
    models : sequence of str
    bids_dir : Path
        Raw dataset.
    section : Evaluation
    truth : Path or None
        Dataset of the ground truth of simulated participants.
    visits, pairs : Path
        TSV files to write: statistics, and the regional means of each participant's two visits.
    """
    rois = load_tables(root, task, models, "rois")
    measured = rois.drop_duplicates(["unit", "roi"]).assign(image=MEASURED, value=lambda one: one["reference"])
    synthetic = rois.assign(image=rois["model"], value=rois["synthetic"])
    chosen = pairs_of_visits(times_of_units(sorted(set(rois["unit"])), bids_dir))
    units = sorted({unit for pair in chosen for unit in (pair.first, pair.second)})
    try:
        free = true_means(units, target, root, truth, section) if truth else []
    except DataError as error:
        print(f"noise-free maps left out: {error}")
        free = []
    columns = ["image", "unit", "roi", "value"]
    tables = [table[columns] for table in (measured, synthetic) if not table.empty]
    tables += [pd.DataFrame(free).assign(image=TRUTH)[columns]] if free else []
    values = pd.concat(tables) if tables else pd.DataFrame(columns=columns)
    found = values_of_pairs(values, chosen)
    counts = {key: int(read_json(root / "cohort" / "flow.json")[key]) for key in FLOW}
    write_table(pairs, printed(found.to_dict("records")), PAIR_COLUMNS)
    write_table(visits, printed({"task": task, **row, **counts} for row in visit_rows(found)), VISIT_COLUMNS)
    print(f"{task}: {found['participant_id'].nunique()} test participants with two visits")
