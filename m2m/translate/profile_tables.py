"""Tables of the profiles along bundles: columns with their descriptions, means of each bundle, agreement."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.io.modalities import MODALITIES

MEASURED = ("measured", "second_measured")
MAPS = ("synthetic", "atlas", *MEASURED)
# Fewer positions have no correlation to speak of.
LEAST_FOR_R = 5

_OF_PROFILES = {
    "bundle": "Name in HCP1065 (Yeh 2022)",
    "position": "Part of the way from the first end to the second, 0 to 1; ends: see the table of means",
    "synthetic": "Weighted mean of the synthetic map over the bundle's streamlines; n/a: too few points in the brain",
    "low": "Lower end of the interval of 95 %, for errors of one bundle that all have one sign (conservative)",
    "high": "Upper end of the interval",
    "atlas": "The same of the reference map in template space; n/a: the model has none, and none was given",
    "measured": "The same of the measured map; n/a: none was given, or it does not cover the position",
    "second_measured": "The same of the second measurement",
    "n_points": "Streamlines with a point in the brain here",
}
_OF_MEANS = {
    "bundle": _OF_PROFILES["bundle"],
    "ends": "Which end is at position 0, and which at position 1",
    "n_streamlines": "Streamlines of the bundle",
    "n_positions": "Positions at which all given maps have a value; all further columns are over these",
    "synthetic": "Mean of the profile of the synthetic map",
    "low": "Lower end of its interval, as of the profile",
    "high": "Upper end of its interval",
    "atlas": "Mean of the atlas's profile",
    "measured": "Mean of the measured map's profile",
    "second_measured": "Mean of the second measurement's profile",
    "added": "What the T1 adds to the atlas: mean absolute difference of synthetic and atlas",
    "added_over_interval": "The same, by the mean of half the interval",
    "error_synthetic": "Mean absolute difference of synthetic and measured",
    "error_atlas": "Mean absolute difference of atlas and measured",
    "error_second_measured": "Mean absolute difference of both measurements: the ceiling of agreement",
    "r_synthetic": f"Pearson's r of both profiles, synthetic and measured; n/a below {LEAST_FOR_R} positions",
    "r_atlas": "Pearson's r of atlas and measured",
    "r_second_measured": "Pearson's r of both measurements",
}
# Of the bundles, and so of what is made from their streamlines.
LICENCE = "CC BY-SA 4.0: Yeh (2022), https://doi.org/10.1038/s41467-022-32595-4"
PROFILE_COLUMNS, MEAN_COLUMNS = tuple(_OF_PROFILES), tuple(_OF_MEANS)
# Columns that have the unit of the target.
_IN_UNIT = {*MAPS, "low", "high", "added", *(f"error_{name}" for name in MAPS)}


def described(columns: Sequence[str], record: Mapping[str, Any]) -> dict[str, Any]:
    """Describe the columns of a table for its sidecar, as BIDS does, and the model.

    Parameters
    ----------
    columns : sequence of str
        `PROFILE_COLUMNS` or `MEAN_COLUMNS`.
    record : mapping
        Of the model.

    Returns
    -------
    dict
    """
    texts = _OF_PROFILES if tuple(columns) == PROFILE_COLUMNS else _OF_MEANS
    target = MODALITIES[record["target"]]
    described = {
        name: {"Description": texts[name]} | ({"Quantity": target.title} if name in _IN_UNIT else {})
        for name in columns
    }
    return described | {
        "Map": target.description,
        "Model": record["model"],
        "WeightsSHA256": record["weights"],
        "TrainedOnSimulatedParticipants": record["simulated"],
        "BundlesLicense": LICENCE,
    }


def mean_row(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means and differences of one bundle's profiles.

    Parameters
    ----------
    rows : sequence of mapping
        `PROFILE_COLUMNS` of one bundle.

    Returns
    -------
    dict
        `MEAN_COLUMNS` without ends and n_streamlines; None where a map is missing.
    """
    found = _common(rows)
    n = len(found["synthetic"])
    row: dict[str, Any] = {"bundle": rows[0]["bundle"], "n_positions": n}
    if n == 0:
        return row
    row |= {name: float(values.mean()) for name, values in found.items()}
    if "atlas" in found:
        row["added"] = float(np.abs(found["synthetic"] - found["atlas"]).mean())
        half = float((found["high"] - found["low"]).mean()) / 2
        row["added_over_interval"] = row["added"] / half if half > 0 else None
    for name in _compared(found):
        row[f"error_{name}"] = float(np.abs(found[name] - found["measured"]).mean())
        row[f"r_{name}"] = _pearson(found[name], found["measured"])
    return {key: round(value, 6) if isinstance(value, float) else value for key, value in row.items()}


def agreement(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Agreement with the measured map over all bundles.

    Parameters
    ----------
    rows : sequence of mapping
        `PROFILE_COLUMNS` of all bundles.

    Returns
    -------
    dict
        By map: Pearson's ``r`` and mean absolute error ``mae`` over all positions of all bundles, ``r_of_means`` over
        the bundles' means. Empty without a measured map.
    """
    found = _common(rows)
    by_bundle = [mean_row([*own]) for _, own in groupby(rows, key=lambda row: row["bundle"])]
    means = [row for row in by_bundle if "measured" in row]
    return {
        name: {
            "r": _pearson(found[name], found["measured"]),
            "mae": round(float(np.abs(found[name] - found["measured"]).mean()), 6),
            "r_of_means": _pearson(*(np.array([row[key] for row in means]) for key in (name, "measured"))),
            "n_positions": len(found["measured"]),
            "n_bundles": len(means),
        }
        for name in _compared(found)
        if len(found["measured"])
    }


def _compared(found: Mapping[str, NDArray]) -> list[str]:
    """Maps that are compared with the measured one."""
    return [name for name in MAPS if name in found and name != "measured"] if "measured" in found else []


def _common(rows: Sequence[Mapping[str, Any]]) -> dict[str, NDArray[np.float64]]:
    """Columns of the maps that were given, at the positions where all of them have a value."""
    names = [name for name in (*MAPS, "low", "high") if name in rows[0]]
    values = np.array([[np.nan if row[name] is None else row[name] for name in names] for row in rows], np.float64)
    return dict(zip(names, values[np.isfinite(values).all(axis=1)].T, strict=True))


def _pearson(x: NDArray, y: NDArray) -> float | None:
    """Pearson's r; None of too few or of equal values."""
    if len(x) < LEAST_FOR_R or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return round(float(np.corrcoef(x, y)[0, 1]), 6)
