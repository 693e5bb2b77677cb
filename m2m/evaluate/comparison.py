"""Comparison of models on the same test subjects, with intervals over subjects."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from m2m.evaluate.identification import correlation_across_participants, identified
from m2m.evaluate.metric_records import METRICS
from m2m.evaluate.metric_tables import (
    COMPARISON_COLUMNS,
    FLOW,
    SUMMARY_COLUMNS,
    by_participant,
    individuality,
    load_tables,
    number,
    printed,
)
from m2m.evaluate.rates import mcnemar_p, rate, rate_difference
from m2m.evaluate.statistics import (
    MIN_SUBJECTS,
    Estimate,
    holm,
    jackknife_correlation,
    paired_difference,
    paired_p,
    student_mean,
)
from m2m.io.files import read_json
from m2m.io.tables import write_table
from m2m.options.configured import read_config
from m2m.options.stage_flags import NeededConfig, Root, TaskName


def _individual_values(rois: pd.DataFrame, models: Sequence[str]) -> tuple[pd.DataFrame, dict[str, Estimate]]:
    """Compute identification per participant (rows as of `by_participant`) and correlation across participants."""
    rows, across = [], {}
    for model in models:
        subjects, _, reference, synthetic = individuality(rois[rois["model"] == model])
        if len(subjects) < MIN_SUBJECTS or reference.shape[1] < 2:
            continue
        hits = identified(reference, synthetic)
        rows += [
            {
                "model": model,
                "participant_id": subject,
                "region": "rois",
                "metric": "identification",
                "value": float(hit),
            }
            for subject, hit in zip(subjects, hits, strict=True)
        ]

        def mean_r(index: NDArray[np.intp], x: NDArray = reference, y: NDArray = synthetic) -> float:
            return float(np.nanmean(correlation_across_participants(x[index], y[index])))

        if np.isfinite(correlation_across_participants(reference, synthetic)).any():
            across[model] = jackknife_correlation(mean_r, len(subjects))
    columns = ["model", "participant_id", "region", "metric", "value"]
    return pd.DataFrame(rows, columns=columns), across


def summarise(values: pd.DataFrame, across: Mapping[str, Estimate]) -> list[dict[str, Any]]:
    """Compute the rows of the summary: mean over subjects with its interval.

    Parameters
    ----------
    values : DataFrame
        Columns model, participant_id, region, metric, value.
    across : mapping of str to Estimate
        Correlation across participants of each model.

    Returns
    -------
    list of dict
    """
    rows = [
        dict(zip(("model", "region", "metric"), key, strict=True))
        | _columns((rate if METRICS[key[2]].is_rate else student_mean)(group["value"]), "mean")
        for key, group in values.groupby(["model", "region", "metric"], sort=False)
    ]
    return rows + [
        {"model": model, "region": "rois", "metric": "correlation_across_participants"} | _columns(estimate, "mean")
        for model, estimate in across.items()
    ]


def differences(values: pd.DataFrame, models: Sequence[str]) -> list[dict[str, Any]]:
    """Compute the rows of the comparison: each model minus each later one, on the same subjects.

    Parameters
    ----------
    values : DataFrame
        Columns model, participant_id, region, metric, value.
    models : sequence of str
        Order of the models; each is compared with those after it.

    Returns
    -------
    list of dict
        p_holm is corrected over the baselines of one model, region and metric.
    """
    rows = []
    for (region, metric), group in values.groupby(["region", "metric"], sort=False):
        is_rate = METRICS[metric].is_rate
        estimated, tested = (rate_difference, mcnemar_p) if is_rate else (paired_difference, paired_p)
        table = group.pivot(index="participant_id", columns="model", values="value")
        listed = [model for model in models if model in table.columns]
        for i, model in enumerate(listed):
            family = []
            for baseline in listed[i + 1 :]:
                a, b = table[model].to_numpy(), table[baseline].to_numpy()
                family.append(
                    {"model": model, "baseline": baseline, "region": region, "metric": metric}
                    | _columns(estimated(a, b), "difference")
                    | {"p": tested(a, b)}
                )
            corrected = holm([row["p"] for row in family])
            rows += [row | {"p_holm": float(p)} for row, p in zip(family, corrected, strict=True)]
    return rows


def _columns(estimate: Estimate, name: str) -> dict[str, Any]:
    return {name: estimate.value, "low": estimate.low, "high": estimate.high, "n_subjects": estimate.n_subjects}


def compare(root: Root, task: TaskName, config: NeededConfig) -> None:
    """Compare models on the same test subjects, with intervals over subjects."""
    written, folder = read_config(config), root / "evaluate" / task
    compare_models(
        task,
        root,
        written.models(task),
        root / "cohort" / "flow.json",
        folder / "summary.tsv",
        folder / "comparison.tsv",
    )


def compare_models(
    task: str,
    root: Path,
    models: Sequence[str],
    flow: Path,
    summary: Path,
    comparison: Path,
) -> None:
    """Compare models and write summary and comparison.

    Parameters
    ----------
    task : str
    root : Path
        Dataset of the results.
    models : sequence of str
        Models, the main one first.
    flow : Path
        JSON with the numbers of units at each step of selection.
    summary, comparison : Path
        TSV files to write.
    """
    table = load_tables(root, task, models, "metrics")
    identification, across = _individual_values(load_tables(root, task, models, "rois"), models)
    values = pd.concat([by_participant(table), identification], ignore_index=True)
    values = values.astype({"value": float})
    counts = {key: int(read_json(flow)[key]) for key in FLOW}
    # A problem in one region removes that region's values only, not the unit.
    failed = table[table["problem"].notna() & table["region"].isna()]

    def counted(row: dict[str, Any], *names: str) -> dict[str, Any]:
        lost = failed.loc[failed["model"].isin(names), "unit"].nunique()
        left = {"n_failed": counts["n_failed"] + lost, "n_used": counts["n_used"] - lost}
        return {"task": task} | row | counts | left

    means = [counted(row, row["model"]) for row in summarise(values, across)]
    pairs = [counted(row, row["model"], row["baseline"]) for row in differences(values, models)]
    write_table(summary, printed(means), SUMMARY_COLUMNS)
    write_table(comparison, printed(pairs), COMPARISON_COLUMNS)
    if not means:
        print(f"{task}: nothing to evaluate, no used test unit has both scans")
    elif max(row["n_subjects"] for row in means) < 3:
        print(f"{task}: fewer than 3 test subjects, so intervals are n/a")
    for row in pairs:
        if row["region"] == "brain" and row["metric"] == "ssim":
            print(
                f"brain SSIM, {row['model']} minus {row['baseline']}: {row['difference']:+.4f} "
                f"[{number(row['low']) or 'n/a'}, {number(row['high']) or 'n/a'}], "
                f"{row['n_subjects']} subjects"
            )
