"""The paper's figures: PDF and PNG, each with the numbers behind it as TSV.

Every figure is always written; one with nothing to show says so in words.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from matplotlib.figure import Figure

from m2m import volume
from m2m.bids import unit_path
from m2m.cohort.split import load_split, part_by_participant
from m2m.evaluate.subjects import test_units
from m2m.evaluate.tables import FLOW, by_participant, load_tables, printed
from m2m.figures import cohort, panel, results, training
from m2m.figures.style import SIMULATED, empty_figure, paper_style, save
from m2m.options import Report
from m2m.stage import DataError, parse_options, read_json, read_table

NOBODY = "No test subject was evaluated: nothing to show."
METRIC_COLUMNS = ("model", "participant_id", "region", "metric", "value")
Drawn = tuple[Figure, list[dict[str, Any]]]


@dataclass(frozen=True)
class Study:
    """What the figures are drawn from.

    Attributes
    ----------
    root : Path
        The derivative dataset.
    task : str
    models : tuple of str
        The main model first.
    metrics : DataFrame
        metrics.tsv of all models; units that could not be evaluated carry a ``problem``.
    options : Report
    """

    root: Path
    task: str
    models: tuple[str, ...]
    metrics: pd.DataFrame
    options: Report

    @property
    def evaluated(self) -> pd.DataFrame:
        """Rows of `metrics` that hold values."""
        return self.metrics[self.metrics["problem"].isna()]


def load_people(study: Study, folders: dict[str, str]) -> list[panel.Person]:
    """Load the images of the best, median and worst test unit by the main model's brain SSIM.

    Parameters
    ----------
    study : Study
    folders : dict
        Unit to folder.
    """
    rows = study.evaluated
    chosen = rows[(rows["model"] == study.models[0]) & (rows["region"] == "brain")]
    ssim = dict(zip(chosen["unit"], chosen["ssim"].astype(float), strict=True))
    people = []
    for rank, unit in panel.ranked(ssim).items():
        where = folders[unit], unit
        true = volume.load(unit_path(study.root, "fa", *where))
        synthetic = {}
        for model in study.models:
            folder = study.root / "synthetic" / study.task / model
            try:
                synthetic[model] = volume.load(unit_path(folder, "synth-fa", *where)).data
            except DataError as error:
                print(f"panel: no map of {model} for {unit}: {error}")
        people.append(
            panel.Person(
                rank, unit, ssim[unit], volume.load(unit_path(study.root, "t1w", *where)).data,
                true.data, volume.load(unit_path(study.root, "target-mask", *where)).data > 0,
                synthetic, true.affine,
            )
        )  # fmt: skip
    return people


def flow_figure(
    study: Study, units: Sequence[Any], people: Sequence[Any], quality: Sequence[Any]
) -> Drawn:
    """Cohort flow, with age and sex of the split."""
    by_unit = study.evaluated.groupby("unit")["model"].nunique()
    everywhere = int((by_unit == len(study.models)).sum())
    steps = cohort.cohort_steps(units, part_by_participant(people), quality, everywhere)
    return cohort.draw_cohort(steps, people), steps


def panel_figure(study: Study, folders: dict[str, str]) -> Drawn:
    """T1, true and synthetic FA, and the error, of three test subjects."""
    people = load_people(study, folders)
    return panel.draw_panel(people, study.models) if people else (empty_figure(NOBODY), [])


def metrics_figure(study: Study) -> Drawn:
    """Distribution of the metrics over subjects."""
    values = by_participant(study.evaluated)
    if values.empty:
        return empty_figure(NOBODY), []
    summary = pd.read_csv(study.root / "evaluation" / study.task / "summary.tsv", sep="\t")
    return results.draw_metrics(values, summary, study.models)


def profile_figure(study: Study) -> Drawn:
    """Quality from the centre of the brain to its periphery."""
    profile = load_tables(study.root, study.task, study.models, "profile")
    if profile.empty:
        return empty_figure(NOBODY), []
    return results.draw_profile(
        profile, study.models, study.options.band_resamples, study.options.seed
    )


def rois_figure(study: Study) -> Drawn:
    """Regions of interest: true against synthetic means."""
    rois = load_tables(study.root, study.task, study.models, "rois")
    if rois.empty:
        reason = "No regions of interest: evaluation.rois.image is not set."
        return empty_figure(NOBODY if study.evaluated.empty else reason), []
    participants = dict(zip(study.metrics["unit"], study.metrics["participant_id"], strict=True))
    return results.draw_rois(rois, participants, study.models)


def training_figure(study: Study) -> Drawn:
    """Training curves of every model that was trained in steps."""
    folder = study.root / "models" / study.task
    rows = [
        row
        for model in study.models
        for row in training.read_curves(folder / model / "metrics.jsonl", model)
    ]
    if all(row["step"] is None for row in rows):
        return empty_figure("No model was trained in steps: no training curves."), rows
    return training.draw_training(rows), rows


def main(
    root: Annotated[Path, typer.Option(help="The derivative dataset, results/<dataset>.")],
    task: Annotated[str, typer.Option(help="Name of the task.")],
    models: Annotated[list[str], typer.Option(help="A model; repeat, the main model first.")],
    units: Annotated[Path, typer.Option(help="cohort/units.tsv")],
    split: Annotated[Path, typer.Option(help="cohort/split.tsv")],
    split_record: Annotated[Path, typer.Option(help="cohort/split.json")],
    quality: Annotated[Path, typer.Option(help="cohort/quality.tsv")],
    flow: Annotated[Path, typer.Option(help="cohort/flow.json")],
    out_dir: Annotated[Path, typer.Option(help="Folder to write to.")],
    simulated: Annotated[bool, typer.Option(help="Whether the people are simulated.")],
    options: Annotated[str, typer.Option(help="Section report of the configuration, JSON.")],
) -> None:
    """Draw the figures of one task, each with its source data."""
    people = load_split(split, split_record)
    parts = part_by_participant(people)
    unit_rows, quality_rows = read_table(units), read_table(quality)
    study = Study(
        root, task, tuple(models), load_tables(root, task, models, "metrics"),
        parse_options(Report, options),
    )  # fmt: skip
    folders = {u["unit"]: u["folder"] for u in test_units(unit_rows, parts, quality_rows)}
    draw = {
        "flow": (lambda: flow_figure(study, unit_rows, people, quality_rows), cohort.COLUMNS),
        "panel": (lambda: panel_figure(study, folders), panel.COLUMNS),
        "metrics": (lambda: metrics_figure(study), METRIC_COLUMNS),
        "profile": (lambda: profile_figure(study), results.PROFILE_COLUMNS),
        "rois": (lambda: rois_figure(study), results.ROI_COLUMNS),
        "training": (lambda: training_figure(study), training.COLUMNS),
    }
    counts = read_json(flow)
    note = ", ".join(f"{key} {counts[key]}" for key in FLOW)
    note = f"{SIMULATED}.  {note}" if simulated else note
    with paper_style():
        for name, (figure_of, columns) in draw.items():
            figure, rows = figure_of()
            save(figure, printed(rows), columns, out_dir / name, note)
            print(f"wrote {out_dir / name}.pdf, .png, .tsv")
