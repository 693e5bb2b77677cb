"""Draw the figures that have a record, each with its source data."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import TypeAdapter

from m2m.cohort.split import load_split, part_by_participant
from m2m.evaluate.subjects import test_units
from m2m.evaluate.tables import FLOW, load_tables
from m2m.figures.figure_records import TIMED, of_study, of_target
from m2m.figures.study import Study
from m2m.figures.style import SIMULATED, draw_all
from m2m.figures.task_figures import Cohort
from m2m.options import Report, Task
from m2m.stage import parse_options, read_json, read_table


def timed_units(units: Sequence[Mapping[str, Any]], parts: Mapping[str, str]) -> dict[str, str]:
    """Folder of each unit whose translations are timed: those that rules/tasks.smk asks for."""
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
    root: Annotated[Path, typer.Option(help="The derivative dataset, results/<dataset>.")],
    tasks: Annotated[str, typer.Option(help="Section tasks of the configuration, JSON.")],
    units: Annotated[Path, typer.Option(help="cohort/units.tsv")],
    split: Annotated[Path, typer.Option(help="cohort/split.tsv")],
    split_record: Annotated[Path, typer.Option(help="cohort/split.json")],
    quality: Annotated[Path, typer.Option(help="cohort/quality.tsv")],
    flow: Annotated[Path, typer.Option(help="cohort/flow.json")],
    out_dir: Annotated[Path, typer.Option(help="Folder to write to.")],
    simulated: Annotated[bool, typer.Option(help="Whether the people are simulated.")],
    options: Annotated[str, typer.Option(help="Section report of the configuration, JSON.")],
    threads: Annotated[int, typer.Option(min=1, help="Tasks drawn at a time.")] = 1,
) -> None:
    """Draw the figures of every task, each with its source data."""
    people = load_split(split, split_record)
    parts = part_by_participant(people)
    unit_rows, quality_rows = read_table(units), read_table(quality)
    folders = {u["unit"]: u["folder"] for u in test_units(unit_rows, parts, quality_rows)}
    section, timed = parse_options(Report, options), timed_units(unit_rows, parts)
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
        for name, task in TypeAdapter(dict[str, Task]).validate_json(tasks).items()
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
