"""Models against each other on the same test subjects, with intervals over subjects."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from m2m.evaluate import metrics as measures
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
from m2m.evaluate.statistics import (
    MIN_SUBJECTS,
    Estimate,
    bootstrap_mean,
    bootstrap_over_people,
    holm,
    paired_difference,
)
from m2m.io.files import read_json
from m2m.io.tables import write_table
from m2m.options import Evaluation
from m2m.options.configured import compared_by, read_config
from m2m.options.stage_flags import NeededConfig, Root, TaskName


def _individual_values(
    rois: pd.DataFrame, metrics: pd.DataFrame, models: Sequence[str], options: Evaluation
) -> tuple[pd.DataFrame, dict[str, Estimate]]:
    """Identification per person (rows like `by_participant`'s), correlation across people."""
    participants = dict(zip(metrics["unit"], metrics["participant_id"], strict=True))
    rows, across = [], {}
    for model in models:
        people, _, true, synthetic = individuality(rois[rois["model"] == model], participants)
        if len(people) < MIN_SUBJECTS or true.shape[1] < 2:
            continue
        hits = measures.identified(true, synthetic)
        rows += [
            {"model": model, "participant_id": person, "region": "rois",
             "metric": "identification", "value": float(hit)}
            for person, hit in zip(people, hits, strict=True)
        ]  # fmt: skip

        def mean_r(index: NDArray[np.intp], x: NDArray = true, y: NDArray = synthetic) -> NDArray:
            return np.nanmean(measures.correlation_across_people(x[index], y[index]))

        if np.isfinite(measures.correlation_across_people(true, synthetic)).any():
            across[model] = bootstrap_over_people(
                mean_r, len(people), options.bootstrap, options.seed
            )
    columns = ["model", "participant_id", "region", "metric", "value"]
    return pd.DataFrame(rows, columns=columns), across


def summarise(
    values: pd.DataFrame, across: Mapping[str, Estimate], options: Evaluation
) -> list[dict[str, Any]]:
    """Rows of the summary: mean over subjects with its interval."""
    rows = [
        dict(zip(("model", "region", "metric"), key, strict=True))
        | _columns(bootstrap_mean(group["value"], options.bootstrap, options.seed), "mean")
        for key, group in values.groupby(["model", "region", "metric"], sort=False)
    ]
    return rows + [
        {"model": model, "region": "rois", "metric": "correlation_across_people"}
        | _columns(estimate, "mean")
        for model, estimate in across.items()
    ]


def differences(
    values: pd.DataFrame, models: Sequence[str], options: Evaluation
) -> list[dict[str, Any]]:
    """Rows of the comparison: each model minus each one listed after it, on the same subjects.

    p is corrected over the baselines of one model, region and metric.
    """
    rows = []
    for (region, metric), group in values.groupby(["region", "metric"], sort=False):
        table = group.pivot(index="participant_id", columns="model", values="value")
        listed = [model for model in models if model in table.columns]
        for i, model in enumerate(listed):
            family = []
            for baseline in listed[i + 1 :]:
                a, b = table[model].to_numpy(), table[baseline].to_numpy()
                estimate = paired_difference(a, b, options.bootstrap, options.seed)
                family.append(
                    {"model": model, "baseline": baseline, "region": region, "metric": metric}
                    | _columns(estimate, "difference")
                    | {"p": _wilcoxon(a - b)}
                )
            corrected = holm([row["p"] for row in family])
            rows += [row | {"p_holm": float(p)} for row, p in zip(family, corrected, strict=True)]
    return rows


def _columns(estimate: Estimate, name: str) -> dict[str, Any]:
    return {
        name: estimate.value, "low": estimate.low, "high": estimate.high,
        "n_subjects": estimate.n_subjects,
    }  # fmt: skip


def _wilcoxon(difference: NDArray) -> float:
    """Two-sided p of the signed-rank test; NaN where it says nothing (too few, all equal)."""
    difference = difference[np.isfinite(difference)]
    if np.count_nonzero(difference) < 3:
        return float("nan")
    return float(stats.wilcoxon(difference).pvalue)


def compare(root: Root, task: TaskName, config: NeededConfig) -> None:
    """Compare models on the same test subjects, with bootstrap intervals over subjects."""
    written, folder = read_config(config), root / "evaluate" / task
    compare_models(
        task, root, written.models(task), root / "cohort" / "flow.json", folder / "summary.tsv",
        folder / "comparison.tsv",
        compared_by(written.section("evaluation"), written.phantom, root),
    )  # fmt: skip


def compare_models(
    task: str,
    root: Path,
    models: Sequence[str],
    flow: Path,
    summary: Path,
    comparison: Path,
    section: Evaluation,
) -> None:
    """Compare models, the main one first, and write summary and comparison."""
    table = load_tables(root, task, models, "metrics")
    identification, across = _individual_values(
        load_tables(root, task, models, "rois"), table, models, section
    )
    values = pd.concat([by_participant(table), identification], ignore_index=True)
    values = values.astype({"value": float})
    counts = {key: int(read_json(flow)[key]) for key in FLOW}
    # A problem of one region only costs that region's values, not the unit.
    failed = table[table["problem"].notna() & table["region"].isna()]

    def counted(row: dict[str, Any], *names: str) -> dict[str, Any]:
        lost = failed.loc[failed["model"].isin(names), "unit"].nunique()
        left = {"n_failed": counts["n_failed"] + lost, "n_used": counts["n_used"] - lost}
        return {"task": task} | row | counts | left

    means = [counted(row, row["model"]) for row in summarise(values, across, section)]
    pairs = [
        counted(row, row["model"], row["baseline"]) for row in differences(values, models, section)
    ]
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
