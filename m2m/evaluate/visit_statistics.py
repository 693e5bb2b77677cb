"""Change within participants between two visits, and agreement of two visits of one day (test-retest).

References
----------
Shrout and Fleiss (1979), Psychol Bull 86:420-428, https://doi.org/10.1037/0033-2909.86.2.420: ICC(2,1), absolute
agreement of single measurements; a second scan is one of many that could have been.
Bland and Altman (1996), Measurement error proportional to the mean, BMJ 313:106,
https://doi.org/10.1136/bmj.313.7049.106: coefficient of variation within participants.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from m2m.evaluate.metrics import pearson
from m2m.evaluate.rates import rate
from m2m.evaluate.statistics import (
    Estimate,
    intraclass_correlation,
    jackknife_correlation,
    slope,
    student_mean,
)
from m2m.io.bids import participant_of

DAYS_PER_YEAR = 365.25
# Region of the mean over a participant's regions, and of what is computed over them.
ALL = "all regions"
MEASURED, TRUTH = "measured", "noise-free"
# Day and age of sessions, None where unknown.
Times = Mapping[str, tuple[date | None, float | None]]


class Visits(NamedTuple):
    """Two visits of a participant."""

    participant_id: str
    interval: str
    years: float | None
    first: str
    second: str


def years_between(first: tuple[date | None, float | None], second: tuple[date | None, float | None]) -> float | None:
    """Years from one session to another, by their days or else by the ages; None where neither is known."""
    if first[0] and second[0]:
        return (second[0] - first[0]).days / DAYS_PER_YEAR
    if first[1] is not None and second[1] is not None:
        return second[1] - first[1]
    return None


def pairs_of_visits(times: Times) -> list[Visits]:
    """Two visits of each participant of each interval, so that the participant stays the sample.

    Parameters
    ----------
    times : mapping of str to (date or None, float or None)
        By unit: day and age.

    Returns
    -------
    list of Visits
        Interval ``retest``: the first two that follow each other at 0 years; ``change``: the first and the last, if
        they are apart; ``unknown``: the first and the last by name, where the time of one is not known.
    """
    found = []
    by_participant: dict[str, list[str]] = {}
    for unit in sorted(times):
        by_participant.setdefault(participant_of(unit), []).append(unit)
    for participant, units in by_participant.items():
        since = {unit: years_between(times[units[0]], times[unit]) for unit in units}
        if len(units) < 2:
            continue
        if any(years is None for years in since.values()):
            found.append(Visits(participant, "unknown", None, units[0], units[-1]))
            continue
        when = {unit: years for unit, years in since.items() if years is not None}
        order = sorted(units, key=lambda unit: (when[unit], unit))
        for one, next_one in pairwise(order):
            if when[one] == when[next_one]:
                found.append(Visits(participant, "retest", 0.0, one, next_one))
                break
        if (years := when[order[-1]] - when[order[0]]) > 0:
            found.append(Visits(participant, "change", years, order[0], order[-1]))
    return found


def values_of_pairs(values: pd.DataFrame, pairs: Iterable[Visits]) -> pd.DataFrame:
    """Regional means of both visits of each pair.

    Parameters
    ----------
    values : DataFrame
        image, unit, roi, value.
    pairs : iterable of Visits

    Returns
    -------
    DataFrame
        image, the fields of `Visits`, roi, first_value, second_value: regions that both visits have, and `ALL`.
    """
    means = values.set_index(["unit", "image", "roi"])["value"]
    tables = []
    for pair in pairs:
        if not {pair.first, pair.second} <= set(means.index.get_level_values("unit")):
            continue
        both = pd.DataFrame({"first_value": means[pair.first], "second_value": means[pair.second]}).dropna()
        overall = both.groupby(level="image", sort=False).mean()
        overall.index = pd.MultiIndex.from_product([overall.index, [ALL]], names=["image", "roi"])
        tables.append(pd.concat([both, overall]).reset_index().assign(**pair._asdict()))
    columns = ["image", *Visits._fields, "roi", "first_value", "second_value"]
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)


def within_subject_variation(values: NDArray) -> Estimate:
    """Coefficient of variation within participants, by the root of the mean square.

    Parameters
    ----------
    values : ndarray, shape (participants, 2)
        Both measurements.

    Returns
    -------
    Estimate
        Standard deviation between repeated measurements relative to their mean.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        squared = student_mean(values.var(axis=1, ddof=1) / values.mean(axis=1) ** 2)
    low, high = (None if limit is None else float(np.sqrt(max(limit, 0))) for limit in (squared.low, squared.high))
    return Estimate(float(np.sqrt(squared.value)), low, high, squared.n_subjects)


def agreement_of_visits(values: NDArray) -> dict[str, Estimate]:
    """Compare the visits of one region in one image.

    Parameters
    ----------
    values : ndarray, shape (participants, 2)
        First and second visit.

    Returns
    -------
    dict of str to Estimate
        change (second minus first), absolute_difference, icc and within_cv. Between visits that are years apart,
        the ICC and the variation contain the change.
    """
    difference = values[:, 1] - values[:, 0]
    n = len(values)
    no_icc = Estimate(float("nan"), None, None, n)
    return {
        "change": student_mean(difference),
        "absolute_difference": student_mean(np.abs(difference)),
        "icc": jackknife_correlation(lambda index: intraclass_correlation(values[index]), n) if n > 1 else no_icc,
        "within_cv": within_subject_variation(values),
    }


def agreement_of_changes(reference: NDArray, other: NDArray) -> dict[str, Estimate]:
    """Compare changes within participants in an image with those in another.

    Parameters
    ----------
    reference, other : ndarray, shape (participants,)
        Second minus first visit.

    Returns
    -------
    dict of str to Estimate
        r, slope (of other on reference, which noise in the reference lowers) and sign (share of participants whose
        changes have one sign; half a hit where one is 0).
    """
    signs = np.sign(reference) * np.sign(other)
    return {
        "change_r": jackknife_correlation(lambda index: pearson(reference[index], other[index]), len(reference)),
        "change_slope": slope(reference, other),
        "change_sign": rate((signs + 1) / 2),
    }


def visit_rows(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Compute the rows of visits.tsv.

    Parameters
    ----------
    table : DataFrame
        Of `values_of_pairs`.

    Yields
    ------
    dict
        interval, image, against (image whose change is the reference; None for values of one image), roi, metric,
        value, low, high, n_subjects.
    """
    for (interval, image, roi), own in table.groupby(["interval", "image", "roi"], sort=False):
        where = {"interval": interval, "image": image, "roi": roi}
        pair = own[["first_value", "second_value"]].to_numpy(np.float64)
        yield from _rows(where | {"against": None}, agreement_of_visits(pair))
        for reference in (MEASURED, TRUTH):
            of = table[(table["image"] == reference) & (table["interval"] == interval) & (table["roi"] == roi)]
            if image in (reference, TRUTH) or of.empty:
                continue
            both = own.merge(of, on="participant_id", suffixes=("", "_of"))
            changes = (both[f"second_value{end}"] - both[f"first_value{end}"] for end in ("_of", ""))
            x, y = (change.to_numpy(np.float64) for change in changes)
            yield from _rows(where | {"against": reference}, agreement_of_changes(x, y))
    yield from _of_profiles(table)


def _of_profiles(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """How near a participant's two profiles of regional means are: mean absolute difference, and r over regions."""
    regions = table[table["roi"] != ALL]
    for (interval, image), own in regions.groupby(["interval", "image"], sort=False):
        profiles = [one for _, one in own.groupby("participant_id")]
        near = {
            "profile_difference": [(one["second_value"] - one["first_value"]).abs().mean() for one in profiles],
            "profile_r": [pearson(one["first_value"], one["second_value"]) for one in profiles],
        }
        where = {"interval": interval, "image": image, "against": None, "roi": ALL}
        yield from _rows(where, {metric: student_mean(values) for metric, values in near.items()})


def _rows(where: Mapping[str, Any], found: Mapping[str, Estimate]) -> Iterator[dict[str, Any]]:
    for metric, one in found.items():
        yield {
            **where,
            "metric": metric,
            "value": one.value,
            "low": one.low,
            "high": one.high,
            "n_subjects": one.n_subjects,
        }
