"""The paper's figures: PDF, SVG and PNG, each with the numbers behind it as TSV.

Every figure is always written; one with nothing to show says so in words. The cohort's flow lies
in the folder of figures, the others in a folder per task.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from matplotlib.figure import Figure

from m2m.cohort.split import load_split, part_by_participant
from m2m.configured import figures_folder, read_config, split_of
from m2m.evaluate.subjects import test_units
from m2m.evaluate.tables import FLOW, by_participant, load_tables, printed
from m2m.figures import (
    agreement,
    bundles,
    cohort,
    forest,
    overview,
    panel,
    projections,
    ratio,
    results,
    spectrum,
    speed,
    training,
    uncertainty,
)
from m2m.figures.study import Person, Study, load_people
from m2m.figures.style import SIMULATED, empty_figure, paper_style, save
from m2m.options import Report, Task
from m2m.stage import read_json, read_table
from m2m.stage_flags import NeededConfig, Root, StudyName

NOBODY = "No test subject was evaluated: nothing to show."
METRIC_COLUMNS = ("model", "participant_id", "region", "metric", "value")
Drawn = tuple[Figure, list[dict[str, Any]]]


def flow_figure(
    studies: Sequence[Study], units: Sequence[Any], people: Sequence[Any], quality: Sequence[Any]
) -> Drawn:
    """Cohort flow, with age and sex of the split."""
    everywhere = [
        {unit for unit, n in study.evaluated.groupby("unit")["model"].nunique().items()
         if n == len(study.models)}
        for study in studies
    ]  # fmt: skip
    evaluated = len(set.intersection(*everywhere))
    steps = cohort.cohort_steps(units, part_by_participant(people), quality, evaluated)
    return cohort.draw_cohort(steps, people), steps


def ratio_figure(root: Path, tasks: Mapping[str, Task]) -> Drawn:
    """Quality against the ratio of resolutions, over all tasks of a study."""
    rows = ratio.ratio_rows(root, tasks)
    return (ratio.draw_ratio(rows), rows) if rows else (empty_figure(NOBODY), [])


def of_people(
    draw: Callable[[Study, Sequence[Person]], Drawn], study: StudyName, people: Sequence[Person]
) -> Drawn:
    """A figure of maps, or words where nobody has one."""
    return draw(study, people) if people else (empty_figure(NOBODY), [])


def metrics_figure(study: Study) -> Drawn:
    """Distribution of the metrics over subjects."""
    values = by_participant(study.evaluated)
    if values.empty:
        return empty_figure(NOBODY), []
    summary = pd.read_csv(study.root / "evaluation" / study.name / "summary.tsv", sep="\t")
    return results.draw_metrics(values, summary, study.models, study.task.target)


def forest_figure(study: Study) -> Drawn:
    """The main model against each other one."""
    table = pd.read_csv(study.root / "evaluation" / study.name / "comparison.tsv", sep="\t")
    if table.empty:
        alone = len(study.models) == 1 and not study.evaluated.empty
        return empty_figure(f"{study.models[0]} stands alone." if alone else NOBODY), []
    return forest.draw_forest(table, study.models, study.task.target)


def overview_figure(study: StudyName, people: Sequence[Person]) -> Drawn:
    """The method drawn from the median person, or where there is none, not from the best."""
    order = sorted(people, key=lambda person: ("median", "worst", "best").index(person.rank))
    shown = [person for person in order if study.models[0] in person.synthetic]
    return overview.draw_overview(study, shown[0]) if shown else (empty_figure(NOBODY), [])


def profile_figure(study: Study) -> Drawn:
    """Quality from the centre of the brain to its periphery."""
    profile = load_tables(study.root, study.name, study.models, "profile")
    if profile.empty:
        return empty_figure(NOBODY), []
    return results.draw_profile(
        profile, study.models, study.options.band_resamples, study.options.seed
    )


def speed_figure(study: Study) -> Drawn:
    """Quality against seconds a volume."""
    if study.evaluated.empty:
        return empty_figure(NOBODY), []
    rows = speed.speed_rows(study)
    return speed.draw_speed(rows, study.models), rows


def spectrum_figure(study: Study) -> Drawn:
    """Power and coherence by spatial frequency."""
    table = load_tables(study.root, study.name, study.models, "spectrum")
    if table.empty:
        return empty_figure(NOBODY), []
    return spectrum.draw_spectrum(
        table, study.models, study.options.band_resamples, study.options.seed
    )


def uncertainty_figure(study: StudyName, people: Sequence[Person]) -> Drawn:
    """Standard deviations against the errors."""
    table = load_tables(study.root, study.name, study.models, "uncertainty")
    if table.empty:
        reason = "No map of standard deviations was compared with the errors."
        return empty_figure(reason if people else NOBODY), []
    return uncertainty.draw_uncertainty(study, table, people)


def of_rois(draw: Callable[[Study, pd.DataFrame], Drawn], study: Study) -> Drawn:
    """A figure of regional means, or words where there are none."""
    rois = load_tables(study.root, study.name, study.models, "rois")
    if rois.empty:
        reason = "No regions of interest: evaluation.rois.image is not set."
        return empty_figure(NOBODY if study.evaluated.empty else reason), []
    return draw(study, rois)


def agreement_figure(study: StudyName, rois: pd.DataFrame) -> Drawn:
    """Regions of interest: differences against means."""
    return agreement.draw_agreement(rois, study.models, study.look.regional)


def rois_figure(study: StudyName, rois: pd.DataFrame) -> Drawn:
    """Regions of interest: true against synthetic means."""
    participants = dict(zip(study.metrics["unit"], study.metrics["participant_id"], strict=True))
    return results.draw_rois(rois, participants, study.models, study.look.regional)


def bundles_figure(study: Study) -> Drawn:
    """Streamlines by bundle: true against synthetic."""
    table = load_tables(study.root, study.name, study.models, "bundles")
    if table.empty:
        reason = "No synthetic streamlines were compared by bundle."
        return empty_figure(NOBODY if study.evaluated.empty else reason), []
    return bundles.draw_bundles(table, study.models)


def training_figure(study: Study) -> Drawn:
    """Training curves of every model that was trained in steps."""
    if study.task.chain:
        return empty_figure(f"Nothing is trained: {' and then '.join(study.task.chain)}."), []
    models = study.root / "models"
    rows = [
        row
        for model in study.models
        for row in training.read_curves(
            models / study.task.home(study.name, model) / model / "metrics.jsonl", model
        )
    ]
    if all(row["step"] is None for row in rows):
        return empty_figure("No model was trained in steps: no training curves."), rows
    return training.draw_training(rows), rows


def task_figures(study: Study) -> dict[str, tuple[Callable[[], Drawn], Sequence[str]]]:
    """The figures of one task: how each is drawn, and the columns of its numbers."""
    people, target = load_people(study), study.task.target
    figures = {
        "overview": (partial(overview_figure, study, people), overview.COLUMNS),
        "panel": (partial(of_people, panel.draw_panel, study, people), panel.COLUMNS),
        "metrics": (partial(metrics_figure, study), METRIC_COLUMNS),
        "forest": (partial(forest_figure, study), forest.COLUMNS),
        "profile": (partial(profile_figure, study), results.PROFILE_COLUMNS),
        "rois": (partial(of_rois, rois_figure, study), results.ROI_COLUMNS),
        "agreement": (partial(of_rois, agreement_figure, study), agreement.COLUMNS),
        "spectrum": (partial(spectrum_figure, study), spectrum.COLUMNS),
        "uncertainty": (partial(uncertainty_figure, study, people), uncertainty.COLUMNS),
        "training": (partial(training_figure, study), training.COLUMNS),
    }
    if target == "fa":
        figures["speed"] = (partial(speed_figure, study), speed.COLUMNS)
    if target in ("tdi", "dti"):
        draw = partial(of_people, projections.draw_projections, study, people)
        figures["projections"] = (draw, projections.COLUMNS)
    if target == "dti":
        figures["bundles"] = (partial(bundles_figure, study), bundles.COLUMNS)
    return figures


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
    studies = [
        Study(root, name, task, load_tables(root, name, task.models, "metrics"), folders, section)
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
    # The flow, which the page asks for, comes last: then all figures are there.
    with paper_style():
        if any(study.task.low for study in studies):
            figure, rows = ratio_figure(root, {study.name: study.task for study in studies})
            save(figure, printed(rows), ratio.COLUMNS, out_dir / "ratio", note)
        figure, rows = flow_figure(studies, unit_rows, people, quality_rows)
        save(figure, printed(rows), cohort.COLUMNS, out_dir / "flow", note)
    print(f"wrote {out_dir}/flow.pdf, .svg, .png, .tsv")


def draw_task(study: StudyName, out_dir: Path, note: str) -> str:
    """Draw and save the figures of one task; say so."""
    with paper_style():
        for name, (draw, columns) in task_figures(study).items():
            figure, rows = draw()
            save(figure, printed(rows), columns, out_dir / study.name / name, note)
    return f"wrote the figures of {study.name} to {out_dir / study.name}"
