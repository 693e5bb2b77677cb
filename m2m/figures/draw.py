"""Draw the figures that have a record, each with its source data."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import typer

from m2m.cohort.split import load_split, part_by_participant
from m2m.evaluate.metric_tables import FLOW, load_tables
from m2m.evaluate.subjects import test_units
from m2m.figures.figure_records import TIMED, of_study, of_target
from m2m.figures.study import Study
from m2m.figures.style import SIMULATED, draw_all
from m2m.figures.task_figures import Cohort
from m2m.io.files import read_json
from m2m.io.tables import read_table
from m2m.options import Report, Task
from m2m.options.configured import figures_folder, read_config, split_of
from m2m.options.stage_flags import NeededConfig, Root, StudyName


def timed_units(units: Sequence[Mapping[str, Any]], parts: Mapping[str, str]) -> dict[str, str]:
    """Folder of each unit whose translations are timed: those that the rule asks for."""
    tested = [
        row
        for row in units
        if row["state"] == "paired" and parts.get(row["participant_id"]) == "test"
    ]
    return {row["unit"]: row["folder"] for row in tested[:TIMED]}


def draw_task(study: Study, out_dir: Path, note: str) -> str:
    """Draw and save the figures of one task; say so."""
    draw_all(of_target(study.task.target), study, out_dir / study.name, note)
    return f"wrote the figures of {study.name} to {out_dir / study.name}"


def main(
    root: Root,
    study: StudyName,
    config: NeededConfig,
    threads: Annotated[int, typer.Option(min=1, help="Tasks drawn at a time.")] = 1,
) -> None:
    """Draw the figures of every task, each with its source data."""
    written, folder = read_config(config), root / "cohort"
    draw_study(
        root, written.tasks(study), folder / "units.tsv", *split_of(root), folder / "quality.tsv",
        folder / "flow.json", Path(figures_folder(root, study)), written.simulated,
        written.section("report"), threads,
    )  # fmt: skip


def draw_study(
    root: Path,
    tasks: Mapping[str, Task],
    units: Path,
    split: Path,
    split_record: Path,
    quality: Path,
    flow: Path,
    out_dir: Path,
    simulated: bool,
    section: Report,
    threads: int = 1,
) -> None:
    """Draw the figures of these tasks, so many at a time."""
    people = load_split(split, split_record)
    parts = part_by_participant(people)
    unit_rows, quality_rows = read_table(units), read_table(quality)
    folders = {u["unit"]: u["folder"] for u in test_units(unit_rows, parts, quality_rows)}
    timed = timed_units(unit_rows, parts)
    studies = [
        Study(
            root,
            name,
            task,
            load_tables(root, name, task.models, "metrics"),
            folders,
            section,
            timed,
        )
        for name, task in tasks.items()
    ]
    counts = read_json(flow)
    note = ", ".join(f"{key} {counts[key]}" for key in FLOW)
    note = f"{SIMULATED}.  {note}" if simulated else note
    draw = partial(draw_task, out_dir=out_dir, note=note)
    if threads == 1:
        for study in studies:
            print(draw(study))
    else:
        # Fresh processes: none inherits what the libraries' threads hold.
        with ProcessPoolExecutor(threads, mp_context=get_context("spawn")) as pool:
            for line in pool.map(draw, studies):
                print(line)
    # The last of these, which the page asks for, comes last: then all figures are there.
    sees_low = any(study.task.low for study in studies)
    cohort = Cohort(root, studies, unit_rows, people, quality_rows)
    draw_all(figures := of_study(sees_low), cohort, out_dir, note)
    print(f"wrote {out_dir}/{list(figures)[-1]}.pdf, .svg, .png, .tsv")
