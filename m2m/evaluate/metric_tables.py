"""Tables of the evaluation: columns, number format, reading."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from m2m.evaluate import metric_records
from m2m.io.bids import participant_of

FLOW = ("n_input", "n_failed", "n_excluded", "n_incomplete", "n_used")
PROFILE_COLUMNS = ("unit", "offset_mm", "ssim", "psnr", "mae", "n_voxels")
ROI_COLUMNS = ("unit", "roi", "reference", "synthetic", "n_voxels")
BUNDLE_COLUMNS = (
    "unit",
    "bundle",
    "reference_n",
    "synthetic_n",
    "reference_length_mm",
    "synthetic_length_mm",
    "reference_volume_mm3",
    "synthetic_volume_mm3",
    "density_r",
    "dice",
)
SPECTRUM_COLUMNS = ("unit", "frequency_per_mm", "reference_power", "synthetic_power", "coherence")
UNCERTAINTY_COLUMNS = ("unit", "curve", "x", "y")
_COLUMNS = {
    "profile": PROFILE_COLUMNS,
    "rois": ROI_COLUMNS,
    "bundles": BUNDLE_COLUMNS,
    "spectrum": SPECTRUM_COLUMNS,
    "uncertainty": UNCERTAINTY_COLUMNS,
}
# Tables of one model.
TABLES = ("metrics", *_COLUMNS)
SUMMARY_COLUMNS = ("task", "model", "region", "metric", "mean", "low", "high", "n_subjects", *FLOW)
COMPARISON_COLUMNS = (
    "task",
    "model",
    "baseline",
    "region",
    "metric",
    "difference",
    "low",
    "high",
    "p",
    "p_holm",
    "n_subjects",
    *FLOW,
)


_TEXT_COLUMNS = ("unit", "participant_id", "roi", "bundle", "curve", "problem")


def columns_of(table: str) -> Sequence[str]:
    """List the columns of one of `TABLES`; metrics.tsv has one for each metric in `METRICS`."""
    if table != "metrics":
        return _COLUMNS[table]
    return ("unit", "participant_id", "region", *metric_records.columns(), "n_voxels", "problem")


def printed(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Round numbers to six significant digits; undefined values become n/a."""
    return [{key: number(value) for key, value in row.items()} for row in rows]


def number(value: object) -> object:
    """Print a number to six significant digits; NaN becomes None, which tables show as n/a."""
    if not isinstance(value, float):
        return value
    return None if np.isnan(value) else f"{value:.6g}"


def load_tables(root: Path, task: str, models: Sequence[str], name: str) -> pd.DataFrame:
    """Read one of the tables of several models.

    Parameters
    ----------
    root : Path
        Dataset of the results.
    task : str
    models : sequence of str
    name : str
        One of `TABLES`.

    Returns
    -------
    DataFrame
        All rows, with the column ``model`` added.
    """
    tables = [
        pd.read_csv(
            root / "evaluate" / task / model / f"{name}.tsv",
            sep="\t",
            dtype=dict.fromkeys(_TEXT_COLUMNS, str),
        ).assign(model=model)
        for model in models
    ]
    filled = [table for table in tables if not table.empty]
    return pd.concat(filled or tables[:1], ignore_index=True)


def over_sessions(table: pd.DataFrame, keys: Sequence[str], columns: Sequence[str]) -> pd.DataFrame:
    """Average the sessions of each participant, so that the participant is the sample, in whatever is computed next.

    Parameters
    ----------
    table : DataFrame
        One row per unit and combination of `keys`; names units in ``unit``, or participants in ``participant_id``.
    keys : sequence of str
        Columns that tell rows of one unit apart, such as ``model`` and ``roi``.
    columns : sequence of str
        Numbers to average, as they are: logarithms must be taken before. NaN is left out.

    Returns
    -------
    DataFrame
        participant_id, keys and columns: one row per participant and combination, in the order of the table.
    """
    if "participant_id" not in table:
        table = table.assign(participant_id=table["unit"].map(participant_of))
    return table.groupby(["participant_id", *keys], sort=False, as_index=False, dropna=False)[list(columns)].mean()


def by_participant(metrics: pd.DataFrame) -> pd.DataFrame:
    """Average the sessions of each participant (`over_sessions`); long format.

    Returns
    -------
    DataFrame
        Columns model, participant_id, region, metric, value.
    """
    long = metrics.melt(["model", "participant_id", "region"], metric_records.columns(), "metric", "value").dropna(
        subset=["region", "value"]
    )
    return over_sessions(long, ["model", "region", "metric"], ["value"])


def individuality(rois: pd.DataFrame) -> tuple[list[str], list[str], NDArray, NDArray]:
    """Arrange the ROI means of one model as matrices over participants.

    Parameters
    ----------
    rois : DataFrame
        One model's rois.tsv, or its rows of `over_sessions`.

    Returns
    -------
    subjects, names : list of str
        Participants and regions, in the order of the rows and columns.
    reference, synthetic : ndarray, shape (participants, regions)
        Only regions that every participant has.
    """
    values = ["reference", "synthetic"]
    mean = over_sessions(rois, ["roi"], values).pivot_table(
        index="participant_id", columns="roi", values=values, sort=False
    )
    if mean.empty:
        return [], [], np.empty((0, 0)), np.empty((0, 0))
    names = list(mean["reference"].dropna(axis=1).columns)
    reference, synthetic = (mean[kind][names].to_numpy() for kind in ("reference", "synthetic"))
    return list(mean.index), names, reference, synthetic
