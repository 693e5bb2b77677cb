"""Draw the figures of the registry, each with its source data."""

from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import typer

from m2m.cohort.split import load_split, part_by_participant
from m2m.evaluate.metric_tables import FLOW, load_tables
from m2m.evaluate.subjects import test_units
from m2m.figures.figure_records import of_page, of_target
from m2m.figures.study import Study
from m2m.figures.style import SIMULATED, draw_all
from m2m.figures.task_figures import Cohort
from m2m.io.files import read_json
from m2m.io.tables import read_table
from m2m.options import Anat, Dti, Grid, Task
from m2m.options.configured import Written, figures_folder, read_config, split_of
from m2m.options.section import Section
from m2m.options.stage_flags import NeededConfig, PageName, Root

DEFAULT_LIMITS: dict[str, Section] = {"dti": Dti(), "anat": Anat(), "grid": Grid()}


def draw_task(study: Study, out_dir: Path, note: str) -> str:
    """Draw and save the figures of one task; return a message."""
    draw_all(of_target(study.task.target), study, out_dir / study.name, note)
    return f"wrote the figures of {study.name} to {out_dir / study.name}"


def main(
    root: Root,
    page: PageName,
    config: NeededConfig,
    threads: Annotated[int, typer.Option(min=1, help="Number of tasks drawn in parallel.")] = 1,
) -> None:
    """Draw the figures of every task, each with its source data."""
    settings, folder = read_config(config), root / "cohort"
    tasks = settings.tasks(page)
    draw_page(
        root,
        tasks,
        folder / "units.tsv",
        *split_of(root),
        folder / "quality.tsv",
        folder / "flow.json",
        Path(figures_folder(root, page)),
        settings.simulated,
        threads,
        {name: settings.section(name) for name in ("dti", "anat", "grid")},
        {name: atlas_of(settings, task) for name, task in tasks.items()},
        settings.section("evaluation").visits,
    )


def atlas_of(written: Written, task: Task) -> str | None:
    """Name the task's model that is a map in template space, deformed to each T1, if there is one."""
    models = {name: written.model(name) for name in task.models}
    return next((name for name, model in models.items() if model.uses_deformation and not model.trained), None)


def draw_page(
    root: Path,
    tasks: Mapping[str, Task],
    units: Path,
    split: Path,
    split_record: Path,
    quality: Path,
    flow: Path,
    out_dir: Path,
    simulated: bool,
    threads: int = 1,
    sections: Mapping[str, Section] | None = None,
    atlases: Mapping[str, str | None] | None = None,
    visits: bool = False,
) -> None:
    """Draw the figures of these tasks.

    Parameters
    ----------
    root : Path
        The derivative dataset.
    tasks : mapping of str to Task
    units, split, split_record, quality, flow : Path
        units.tsv, split.tsv, split.json, quality.tsv and flow.json of the cohort.
    out_dir : Path
        Folder of the figures.
    simulated : bool
        Whether participants are simulated.
    threads : int
        Number of tasks drawn in parallel.
    sections : mapping of str to Section, optional
        dti, anat and grid of the configuration, with the limits of quality numbers; default: their defaults.
    atlases : mapping of str to (str or None), optional
        By task: its model of `atlas_of`.
    visits : bool
        Whether visits are compared.
    """
    subjects = load_split(split, split_record)
    parts = part_by_participant(subjects)
    unit_rows, quality_rows = read_table(units), read_table(quality)
    folders = {u["unit"]: u["folder"] for u in test_units(unit_rows, parts, quality_rows)}
    studies = [
        Study(
            root,
            name,
            task,
            load_tables(root, name, task.models, "metrics"),
            folders,
            (atlases or {}).get(name),
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
        # New processes: a forked one could inherit locks of the libraries' threads.
        with ProcessPoolExecutor(threads, mp_context=get_context("spawn")) as pool:
            for line in pool.map(draw, studies):
                print(line)
    # The page depends on the last of these figures, so it is drawn last: then all figures exist.
    uses_low_res = any(study.task.low_res for study in studies)
    cohort = Cohort(root, studies, unit_rows, subjects, quality_rows, sections or DEFAULT_LIMITS)
    draw_all(figures := of_page(uses_low_res, visits), cohort, out_dir, note)
    print(f"wrote {out_dir}/{list(figures)[-1]}.pdf, .svg, .png, .tsv")
