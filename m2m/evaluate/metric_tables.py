"""The tables of the evaluation: their columns, how numbers are written, how they are read."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from m2m.evaluate import metric_records

FLOW = ("n_input", "n_failed", "n_excluded", "n_incomplete", "n_used")
PROFILE_COLUMNS = ("unit", "offset_mm", "ssim", "psnr", "mae", "n_voxels")
ROI_COLUMNS = ("unit", "roi", "true", "synthetic", "n_voxels")
BUNDLE_COLUMNS = (
    "unit", "bundle", "true_n", "synthetic_n", "true_length_mm", "synthetic_length_mm",
    "true_volume_mm3", "synthetic_volume_mm3", "density_r",
)  # fmt: skip
SPECTRUM_COLUMNS = (
    "unit", "frequency_per_mm", "true_power", "synthetic_power", "coherence",
)  # fmt: skip
UNCERTAINTY_COLUMNS = ("unit", "curve", "x", "y")
_COLUMNS = {
    "profile": PROFILE_COLUMNS, "rois": ROI_COLUMNS, "bundles": BUNDLE_COLUMNS,
    "spectrum": SPECTRUM_COLUMNS, "uncertainty": UNCERTAINTY_COLUMNS,
}  # fmt: skip
# Of one model.
TABLES = ("metrics", *_COLUMNS)
SUMMARY_COLUMNS = ("task", "model", "region", "metric", "mean", "low", "high", "n_subjects", *FLOW)
COMPARISON_COLUMNS = (
    "task", "model", "baseline", "region", "metric", "difference", "low", "high", "p",
    "p_holm", "n_subjects", *FLOW,
)  # fmt: skip


_WORDS = ("unit", "participant_id", "roi", "bundle", "curve", "problem")


def columns_of(table: str) -> Sequence[str]:
    """Columns of one of `TABLES`; those of metrics.tsv are the metrics that have a record."""
    if table != "metrics":
        return _COLUMNS[table]
    return ("unit", "participant_id", "region", *metric_records.columns(), "n_voxels", "problem")


def printed(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Round numbers to six significant digits; what is not defined becomes n/a."""
    return [{key: number(value) for key, value in row.items()} for row in rows]


def number(value: object) -> object:
    """Print a number to six significant digits; NaN becomes None, which tables show as n/a."""
    if not isinstance(value, float):
        return value
    return None if np.isnan(value) else f"{value:.6g}"


def load_tables(root: Path, task: str, models: Sequence[str], name: str) -> pd.DataFrame:
    """Read one of evaluate's tables for several models, with the column ``model``."""
    tables = [
        pd.read_csv(
            root / "evaluate" / task / model / f"{name}.tsv", sep="\t",
            dtype=dict.fromkeys(_WORDS, str),
        ).assign(model=model)
        for model in models
    ]  # fmt: skip
    filled = [table for table in tables if not table.empty]
    return pd.concat(filled or tables[:1], ignore_index=True)


def by_participant(metrics: pd.DataFrame) -> pd.DataFrame:
    """Long table of values, a participant's sessions averaged: the subject is the sample.

    Returns
    -------
    DataFrame
        Columns model, participant_id, region, metric, value.
    """
    long = metrics.melt(
        ["model", "participant_id", "region"], metric_records.columns(), "metric", "value"
    ).dropna(subset=["region", "value"])
    keys = ["model", "participant_id", "region", "metric"]
    return long.groupby(keys, sort=False, as_index=False)["value"].mean()


def individuality(
    rois: pd.DataFrame, participants: Mapping[str, str]
) -> tuple[list[str], list[str], NDArray, NDArray]:
    """ROI means of one model as matrices over people.

    Parameters
    ----------
    rois : DataFrame
        One model's rois.tsv.
    participants : mapping
        Unit to participant.

    Returns
    -------
    people, names : list of str
    true, synthetic : ndarray, shape (people, regions)
        Only regions that everybody has.
    """
    mean = rois.assign(person=rois["unit"].map(participants)).pivot_table(
        index="person", columns="roi", values=["true", "synthetic"], sort=False
    )
    if mean.empty:
        return [], [], np.empty((0, 0)), np.empty((0, 0))
    names = list(mean["true"].dropna(axis=1).columns)
    true, synthetic = (mean[kind][names].to_numpy() for kind in ("true", "synthetic"))
    return list(mean.index), names, true, synthetic
