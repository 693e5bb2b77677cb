"""Change within participants and test-retest figures, against numbers that are known."""

from datetime import date

import numpy as np
import pandas as pd
import pytest

from m2m.cohort.participants import visit_times
from m2m.evaluate.metric_tables import FLOW
from m2m.evaluate.visit_statistics import (
    ALL,
    MEASURED,
    Visits,
    agreement_of_changes,
    agreement_of_visits,
    pairs_of_visits,
    values_of_pairs,
    visit_rows,
    within_subject_variation,
)
from m2m.evaluate.visits import PAIR_COLUMNS, VISIT_COLUMNS, compare_visits
from m2m.figures.visit_figure import draw_visits, visit_figure_rows
from m2m.io.files import write_json
from m2m.io.tables import read_table, write_table
from m2m.options import Evaluation


def test_the_variation_within_participants_is_that_by_hand():
    # Standard deviations of the pairs: sqrt(2) and 2 sqrt(2); relative to the means 10 and 20 each .1414.
    found = within_subject_variation(np.array([[9.0, 11.0], [18.0, 22.0]]))
    assert found.value == pytest.approx(np.sqrt(0.02)) and (found.low, found.n_subjects) == (None, 2)
    assert within_subject_variation(np.full((4, 2), 0.5)).value == 0


def test_agreement_of_changes_and_of_visits_by_hand():
    x = np.array([0.01, 0.02, 0.03, -0.01, 0.0])
    found = agreement_of_changes(x, x / 2)
    assert (found["change_r"].value, found["change_slope"].value) == pytest.approx((1, 0.5))
    # Four of one sign, and one that is undecided.
    assert found["change_sign"].value == pytest.approx(0.9)
    constant = agreement_of_changes(x, np.zeros(5))
    assert np.isnan(constant["change_r"].value) and constant["change_slope"].value == 0
    visits = agreement_of_visits(np.array([[1.0, 2.0], [2.0, 4.0], [3.0, 3.0], [4.0, 7.0]]))
    assert visits["change"].value == visits["absolute_difference"].value == pytest.approx(1.5)
    # Mean squares: rows 11/2, columns 9/2, error 5/6.
    assert visits["icc"].value == pytest.approx((11 / 2 - 5 / 6) / (11 / 2 + 5 / 6 + (9 / 2 - 5 / 6) / 2))
    assert np.isnan(agreement_of_visits(np.full((4, 2), 0.5))["icc"].value)


def test_pairs_are_one_of_each_kind_by_dates_or_else_by_ages():
    times = {
        "sub-01_ses-a": (date(2020, 1, 1), None),
        "sub-01_ses-b": (date(2020, 1, 1), None),
        "sub-01_ses-c": (date(2022, 1, 1), None),
        "sub-02_ses-1": (None, 32.5),
        "sub-02_ses-2": (None, 30.0),
        "sub-03_ses-1": (None, None),
        "sub-03_ses-2": (None, 40.0),
        "sub-04": (None, 50.0),
    }
    retest, change, later, unknown = pairs_of_visits(times)
    assert retest == ("sub-01", "retest", 0, "sub-01_ses-a", "sub-01_ses-b")
    assert (change.interval, change.first, change.second) == ("change", "sub-01_ses-a", "sub-01_ses-c")
    assert change.years == pytest.approx(731 / 365.25)
    assert later == ("sub-02", "change", 2.5, "sub-02_ses-2", "sub-02_ses-1")
    assert unknown == ("sub-03", "unknown", None, "sub-03_ses-1", "sub-03_ses-2")


def values(change_of):
    """Regional means of two regions, of participants with two visits; change_of: from number to change of an image."""
    rows = [
        {"image": image, "unit": f"sub-0{n}_ses-{s}", "roi": roi, "value": 0.4 + 0.01 * n + 0.1 * r + (s - 1) * of(n)}
        for image, of in change_of.items()
        for n in range(6)
        for s in (1, 2)
        for r, roi in enumerate(("cc", "cst"))
    ]
    return pd.DataFrame(rows)


def test_rows_compare_each_image_with_the_measured_one_over_participants():
    table = values({MEASURED: lambda n: -0.01 * n, "m2m": lambda n: -0.005 * n})
    pairs = [Visits(f"sub-0{n}", "change", 2.0, f"sub-0{n}_ses-1", f"sub-0{n}_ses-2") for n in range(6)]
    found = {(row["image"], row["roi"], row["metric"]): row for row in visit_rows(values_of_pairs(table, pairs))}
    assert {roi for _, roi, _ in found} == {"cc", "cst", ALL}
    slope, r = (found["m2m", ALL, f"change_{name}"] for name in ("slope", "r"))
    assert (slope["value"], r["value"], slope["n_subjects"], slope["against"]) == pytest.approx((0.5, 1, 6, MEASURED))
    assert found[MEASURED, "cc", "change"]["value"] == pytest.approx(-0.025)
    assert found["m2m", ALL, "profile_difference"]["value"] == pytest.approx(0.0125)
    assert found["m2m", ALL, "profile_r"]["value"] == pytest.approx(1)
    assert (MEASURED, ALL, "change_r") not in found


def test_days_and_ages_of_visits_are_read_from_sessions_tsv(tmp_path):
    rows = [
        {"session_id": "ses-1", "acq_time": "2020-02-03T10:00:00", "age": 30},
        {"session_id": "2", "acq_time": None, "age": 999},
    ]
    write_table(tmp_path / "sessions.tsv", rows, tuple(rows[0]))
    found = visit_times(tmp_path / "sessions.tsv")
    assert found == {"ses-1": (date(2020, 2, 3), 30), "ses-2": (None, None)}


@pytest.mark.parametrize("sessions", [1, 2])
def test_the_stage_writes_both_tables_and_empty_ones_without_repeats(tmp_path, sessions):
    folder, bids = tmp_path / "evaluate/t1-fa", tmp_path / "bids"
    write_json(tmp_path / "cohort/flow.json", dict.fromkeys(FLOW, 8))
    rois = [
        {"unit": f"sub-0{n}_ses-{s}", "roi": roi, "reference": 0.3 + n / 50 + s / 99, "synthetic": 0.31 + n / 60}
        for n in range(4)
        for s in range(1, sessions + 1)
        for roi in ("cc", "cst")
    ]
    write_table(folder / "m2m/rois.tsv", rois, tuple(rois[0]))
    for n in range(4):
        ages = [{"session_id": "ses-1", "age": 30}, {"session_id": "ses-2", "age": 30}]
        write_table(bids / f"sub-0{n}/sub-0{n}_sessions.tsv", ages, tuple(ages[0]))
    paths = folder / "visits.tsv", folder / "visit_pairs.tsv"
    compare_visits("t1-fa", "fa", tmp_path, ["m2m"], bids, Evaluation(), None, *paths)
    rows, pairs = map(read_table, paths)
    if sessions == 1:
        assert rows == pairs == []
        return
    assert len(pairs) == 4 * 2 * 3 and {pair["interval"] for pair in pairs} == {"retest"}
    (cv,) = [row for row in rows if (row["image"], row["roi"], row["metric"]) == ("m2m", "cc", "within_cv")]
    assert (cv["value"], cv["n_subjects"], cv["n_used"]) == ("0", "4", "8")


def test_the_figure_shows_changes_of_visits_years_apart_and_icc_of_visits_of_one_day(tmp_path):
    table = values({MEASURED: lambda n: -0.01 * n, "m2m": lambda n: -0.005 * n})
    both = [
        Visits(f"sub-0{n}", interval, years, f"sub-0{n}_ses-1", f"sub-0{n}_ses-2")
        for interval, years in (("change", 2.0), ("retest", 0.0))
        for n in range(6)
    ]
    pairs = values_of_pairs(table, both)
    folder = tmp_path / "evaluate/t1-fa"
    write_table(folder / "visit_pairs.tsv", pairs.to_dict("records"), PAIR_COLUMNS)
    write_table(folder / "visits.tsv", [{"task": "t1-fa", **row} for row in visit_rows(pairs)], VISIT_COLUMNS)
    rows = visit_figure_rows(tmp_path, ["t1-fa"])
    shown = {(row["panel"], row["interval"], row["image"]) for row in rows}
    assert shown == {("change", "change", "m2m"), ("icc", "retest", "m2m"), ("icc", "retest", MEASURED)}
    left, right = draw_visits(rows, {"t1-fa": "FA"}).axes
    (dots,) = [line for line in left.lines if line.get_linestyle() == "None" and len(line.get_xdata())]
    np.testing.assert_allclose(dots.get_ydata(), dots.get_xdata() / 2, atol=1e-12)
    assert len(dots.get_xdata()) == 6
    assert [label.get_text() for label in right.get_yticklabels()] == ["cc", "cst"]
