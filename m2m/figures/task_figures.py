"""Figures of a task, and of all tasks of a study: drawn from tables and maps, or empty and why."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from m2m.cohort.split import part_by_participant
from m2m.evaluate.metric_tables import by_participant, load_tables
from m2m.figures.agreement import draw_agreement
from m2m.figures.bundle_scatter import draw_bundles
from m2m.figures.cohort_flow import cohort_steps, draw_cohort
from m2m.figures.forest import draw_forest
from m2m.figures.overview import draw_overview
from m2m.figures.panel import draw_panel
from m2m.figures.projections import draw_projections
from m2m.figures.ratio import draw_ratio, ratio_rows
from m2m.figures.results import draw_metrics, draw_profile, draw_rois
from m2m.figures.spectrum import draw_spectrum
from m2m.figures.speed import draw_speed, speed_rows
from m2m.figures.study import Study
from m2m.figures.style import Drawn, empty_figure
from m2m.figures.training_curves import draw_training, read_curves
from m2m.figures.uncertainty_maps import draw_uncertainty

NOBODY = "No test subject was evaluated: nothing to show."


@dataclass(frozen=True)
class Cohort:
    """What the figures of a whole study are drawn from.

    Attributes
    ----------
    root : Path
        The derivative dataset.
    studies : sequence of Study
        One a task.
    units, people, quality : rows of units.tsv, split.tsv and quality.tsv
    """

    root: Path
    studies: Sequence[Study]
    units: Sequence[Any]
    people: Sequence[Any]
    quality: Sequence[Any]


def flow_figure(cohort: Cohort) -> Drawn:
    """Cohort flow, with age and sex of the split."""
    everywhere = [
        {unit for unit, n in study.evaluated.groupby("unit")["model"].nunique().items()
         if n == len(study.models)}
        for study in cohort.studies
    ]  # fmt: skip
    evaluated = len(set.intersection(*everywhere))
    parts = part_by_participant(cohort.people)
    steps = cohort_steps(cohort.units, parts, cohort.quality, evaluated)
    return draw_cohort(steps, cohort.people), steps


def ratio_figure(cohort: Cohort) -> Drawn:
    """Quality against the ratio of resolutions, over all tasks of a study."""
    rows = ratio_rows(cohort.root, {study.name: study.task for study in cohort.studies})
    return (draw_ratio(rows), rows) if rows else (empty_figure(NOBODY), [])


def panel_figure(study: Study) -> Drawn:
    """Source, truth and each model's map, or words where nobody has one."""
    return draw_panel(study, study.people) if study.people else (empty_figure(NOBODY), [])


def projections_figure(study: Study) -> Drawn:
    """Projections of the maps, or words where nobody has one."""
    return draw_projections(study, study.people) if study.people else (empty_figure(NOBODY), [])


def metrics_figure(study: Study) -> Drawn:
    """Distribution of the metrics over subjects."""
    values = by_participant(study.evaluated)
    if values.empty:
        return empty_figure(NOBODY), []
    summary = pd.read_csv(study.root / "evaluate" / study.name / "summary.tsv", sep="\t")
    return draw_metrics(values, summary, study.models, study.target.nature)


def forest_figure(study: Study) -> Drawn:
    """The main model against each other one."""
    table = pd.read_csv(study.root / "evaluate" / study.name / "comparison.tsv", sep="\t")
    if table.empty:
        alone = len(study.models) == 1 and not study.evaluated.empty
        return empty_figure(f"{study.models[0]} stands alone." if alone else NOBODY), []
    return draw_forest(table, study.models, study.target.nature)


def overview_figure(study: Study) -> Drawn:
    """The method drawn from the median person, or where there is none, not from the best."""
    order = sorted(study.people, key=lambda person: ("median", "worst", "best").index(person.rank))
    shown = [person for person in order if study.models[0] in person.synthetic]
    return draw_overview(study, shown[0]) if shown else (empty_figure(NOBODY), [])


def profile_figure(study: Study) -> Drawn:
    """Quality from the centre of the brain to its periphery."""
    profile = load_tables(study.root, study.name, study.models, "profile")
    if profile.empty:
        return empty_figure(NOBODY), []
    return draw_profile(profile, study.models, study.options.band_resamples, study.options.seed)


def speed_figure(study: Study) -> Drawn:
    """Quality against seconds a volume."""
    if study.evaluated.empty:
        return empty_figure(NOBODY), []
    rows = speed_rows(study)
    return draw_speed(rows, study.models), rows


def spectrum_figure(study: Study) -> Drawn:
    """Power and coherence by spatial frequency."""
    table = load_tables(study.root, study.name, study.models, "spectrum")
    if table.empty:
        return empty_figure(NOBODY), []
    return draw_spectrum(table, study.models, study.options.band_resamples, study.options.seed)


def uncertainty_figure(study: Study) -> Drawn:
    """Standard deviations against the errors."""
    table = load_tables(study.root, study.name, study.models, "uncertainty")
    if table.empty:
        reason = "No map of standard deviations was compared with the errors."
        return empty_figure(reason if study.people else NOBODY), []
    return draw_uncertainty(study, table, study.people)


def agreement_figure(study: Study) -> Drawn:
    """Regions of interest: differences against means."""
    rois = load_tables(study.root, study.name, study.models, "rois")
    if rois.empty:
        return _no_regions(study)
    return draw_agreement(rois, study.models, study.look.regional)


def rois_figure(study: Study) -> Drawn:
    """Regions of interest: true against synthetic means."""
    rois = load_tables(study.root, study.name, study.models, "rois")
    if rois.empty:
        return _no_regions(study)
    participants = dict(zip(study.metrics["unit"], study.metrics["participant_id"], strict=True))
    return draw_rois(rois, participants, study.models, study.look.regional)


def _no_regions(study: Study) -> Drawn:
    """Say why there are no regional means."""
    reason = "No regions of interest: evaluation.rois.image is not set."
    return empty_figure(NOBODY if study.evaluated.empty else reason), []


def bundles_figure(study: Study) -> Drawn:
    """Streamlines by bundle: true against synthetic."""
    table = load_tables(study.root, study.name, study.models, "bundles")
    if table.empty:
        reason = "No synthetic streamlines were compared by bundle."
        return empty_figure(NOBODY if study.evaluated.empty else reason), []
    return draw_bundles(table, study.models)


def training_figure(study: Study) -> Drawn:
    """Training curves of every model that was trained in steps."""
    if study.task.chain:
        return empty_figure(f"Nothing is trained: {' and then '.join(study.task.chain)}."), []
    models = study.root / "models"
    rows = [
        row
        for model in study.models
        for row in read_curves(
            models / study.task.home(study.name, model) / model / "metrics.jsonl", model
        )
    ]
    if all(row["step"] is None for row in rows):
        return empty_figure("No model was trained in steps: no training curves."), rows
    return draw_training(rows), rows
