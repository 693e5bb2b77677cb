"""Figures of a task, and of all tasks of a study: drawn from tables and maps, or with a message."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from m2m.cohort.quality_numbers import limited_rows
from m2m.cohort.split import part_by_participant
from m2m.evaluate.metric_tables import by_participant, load_tables
from m2m.figures.agreement import draw_agreement
from m2m.figures.bundle_scatter import draw_bundles
from m2m.figures.cohort_flow import cohort_steps, draw_cohort
from m2m.figures.forest import draw_forest
from m2m.figures.overview import draw_overview
from m2m.figures.panel import draw_panel
from m2m.figures.projections import draw_projections
from m2m.figures.quality_distribution import draw_quality
from m2m.figures.ratio import draw_ratio, ratio_rows
from m2m.figures.results import draw_metrics, draw_profile, draw_rois
from m2m.figures.spectrum import draw_spectrum
from m2m.figures.speed import draw_speed, speed_rows
from m2m.figures.study import Study
from m2m.figures.style import Drawn, empty_figure
from m2m.figures.training_curves import draw_training, read_curves
from m2m.figures.uncertainty_maps import draw_uncertainty
from m2m.figures.visit_figure import draw_visits, visit_figure_rows
from m2m.options.section import Section

NO_TEST_SUBJECT = "No test participant was evaluated: nothing to show."


@dataclass(frozen=True)
class Cohort:
    """Inputs of the figures of a whole study.

    Attributes
    ----------
    root : Path
        The derivative dataset.
    studies : sequence of Study
        One per task.
    units, subjects, quality : rows of units.tsv, split.tsv and quality.tsv
    sections : mapping of str to Section
        Of the configuration, with the limits of quality numbers: dti, anat, grid.
    """

    root: Path
    studies: Sequence[Study]
    units: Sequence[Any]
    subjects: list[dict[str, str | None]]
    quality: Sequence[Any]
    sections: Mapping[str, Section]


def quality_figure(cohort: Cohort) -> Drawn:
    """Quality numbers over the cohort."""
    rows = limited_rows(cohort.quality, cohort.sections)
    return (draw_quality(rows), rows) if rows else (empty_figure("No participant has a quality number."), [])


def flow_figure(cohort: Cohort) -> Drawn:
    """Participant flow, with age and sex of the split."""
    complete = [
        {unit for unit, n in study.evaluated.groupby("unit")["model"].nunique().items() if n == len(study.models)}
        for study in cohort.studies
    ]
    evaluated = len(set.intersection(*complete))
    parts = part_by_participant(cohort.subjects)
    steps = cohort_steps(cohort.units, parts, cohort.quality, evaluated)
    return draw_cohort(steps, cohort.subjects), steps


def ratio_figure(cohort: Cohort) -> Drawn:
    """Quality versus the ratio of resolutions, over all tasks of a study."""
    rows = ratio_rows(cohort.root, {study.name: study.task for study in cohort.studies})
    return (draw_ratio(rows), rows) if rows else (empty_figure(NO_TEST_SUBJECT), [])


def visits_figure(cohort: Cohort) -> Drawn:
    """Change within participants, and ICC of each region, of each task."""
    rows = visit_figure_rows(cohort.root, [study.name for study in cohort.studies])
    if not rows:
        return empty_figure("No test participant has two visits with regional means: nothing to show."), []
    return draw_visits(rows, {study.name: study.look.regional for study in cohort.studies}), rows


def panel_figure(study: Study) -> Drawn:
    """Source, measured map and each model's map, or a message where no subject has one."""
    return draw_panel(study, study.subjects) if study.subjects else (empty_figure(NO_TEST_SUBJECT), [])


def projections_figure(study: Study) -> Drawn:
    """Projections of the maps, or a message where no subject has one."""
    return draw_projections(study, study.subjects) if study.subjects else (empty_figure(NO_TEST_SUBJECT), [])


def metrics_figure(study: Study) -> Drawn:
    """Metrics of every test subject."""
    values = by_participant(study.evaluated)
    if values.empty:
        return empty_figure(NO_TEST_SUBJECT), []
    summary = pd.read_csv(study.root / "evaluate" / study.name / "summary.tsv", sep="\t")
    return draw_metrics(values, summary, study.models, study.target.nature)


def forest_figure(study: Study) -> Drawn:
    """The main model compared with each other model."""
    table = pd.read_csv(study.root / "evaluate" / study.name / "comparison.tsv", sep="\t")
    if table.empty:
        alone = len(study.models) == 1 and not study.evaluated.empty
        return empty_figure(
            f"{study.models[0]} is the only model: nothing to compare." if alone else NO_TEST_SUBJECT
        ), []
    return draw_forest(table, study.models, study.target.nature)


def overview_figure(study: Study) -> Drawn:
    """Overview drawn from a typical subject."""
    shown = study.typical(study.models[0])
    return draw_overview(study, shown) if shown else (empty_figure(NO_TEST_SUBJECT), [])


def profile_figure(study: Study) -> Drawn:
    """Quality by slice position."""
    profile = load_tables(study.root, study.name, study.models, "profile")
    if profile.empty:
        return empty_figure(NO_TEST_SUBJECT), []
    return draw_profile(profile, study.models)


def speed_figure(study: Study) -> Drawn:
    """Quality versus seconds per volume."""
    if study.evaluated.empty:
        return empty_figure(NO_TEST_SUBJECT), []
    rows = speed_rows(study)
    return draw_speed(rows, study.models), rows


def spectrum_figure(study: Study) -> Drawn:
    """Power and coherence by spatial frequency."""
    table = load_tables(study.root, study.name, study.models, "spectrum")
    if table.empty:
        return empty_figure(NO_TEST_SUBJECT), []
    return draw_spectrum(table, study.models)


def uncertainty_figure(study: Study) -> Drawn:
    """Predicted standard deviations and errors."""
    table = load_tables(study.root, study.name, study.models, "uncertainty")
    if table.empty:
        reason = "No map of standard deviations was compared with the errors."
        return empty_figure(reason if study.subjects else NO_TEST_SUBJECT), []
    return draw_uncertainty(study, table, study.subjects)


def agreement_figure(study: Study) -> Drawn:
    """Regions of interest: differences versus means."""
    rois = load_tables(study.root, study.name, study.models, "rois")
    if rois.empty:
        return _no_regions(study)
    return draw_agreement(rois, study.models, study.look.regional)


def rois_figure(study: Study) -> Drawn:
    """Regions of interest: synthetic versus measured means."""
    rois = load_tables(study.root, study.name, study.models, "rois")
    if rois.empty:
        return _no_regions(study)
    return draw_rois(rois, study.models, study.look.regional)


def _no_regions(study: Study) -> Drawn:
    """Message on why there are no regional means."""
    reason = "No regions of interest: evaluation.rois.image is not set."
    return empty_figure(NO_TEST_SUBJECT if study.evaluated.empty else reason), []


def bundles_figure(study: Study) -> Drawn:
    """Streamlines by bundle: synthetic versus measured."""
    table = load_tables(study.root, study.name, study.models, "bundles")
    if table.empty:
        reason = "No synthetic streamlines were compared by bundle."
        return empty_figure(NO_TEST_SUBJECT if study.evaluated.empty else reason), []
    return draw_bundles(table, study.models)


def training_figure(study: Study) -> Drawn:
    """Training curves of every model that was trained in steps."""
    if study.task.cascade:
        return empty_figure(f"Nothing is trained: {' and then '.join(study.task.cascade)}."), []
    models = study.root / "models"
    rows = [
        row
        for model in study.models
        for row in read_curves(models / study.task.training_task(study.name, model) / model / "metrics.jsonl", model)
    ]
    if all(row["step"] is None for row in rows):
        return empty_figure("No model was trained in steps: no training curves."), rows
    return draw_training(rows), rows
