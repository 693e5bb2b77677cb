"""Quality and status describe every unit, and omit no participant."""

from collections import Counter

import pytest
from cohort_tree import write_rows

from m2m.cohort import quality, split, status
from m2m.cohort.quality import count_flow, load_quality, used_units
from m2m.cohort.quality_numbers import LIMITED, limited_rows, limits_of
from m2m.io.bids import unit_path
from m2m.io.errors import DataError
from m2m.io.files import read_json, write_json
from m2m.io.tables import read_table, write_table
from m2m.options import Anat, Dti, Grid
from m2m.options.imaging_options import FitLimits

UNIT = ("unit", "folder", "participant_id", "session_id", "state", "reason")
STATES = {
    "sub-01": "paired",  # used
    "sub-02": "paired",  # dti failed, and grid after it
    "sub-03": "paired",  # grid excluded
    "sub-04": "paired",  # grid has not run
    "sub-05": "t1w-only",
    "sub-06": "dwi-only",  # dti failed
    "sub-07": "failed",
    "sub-08": "excluded",
    "sub-09_ses-1": "paired",  # used
}


def report(root, stage, unit, status="ok", **content):
    folder = unit.replace("_", "/")
    write_json(
        unit_path(root, f"{stage}-status", folder, unit),
        {"unit": unit, "stage": stage, "status": status} | content,
    )


def fail(root, stage, unit, problem):
    finding = {"unit": unit, "stage": stage, "problem": problem}
    report(root, stage, unit, "failed", finding=finding)


@pytest.fixture
def root(tmp_path):
    """Results of a cohort with one unit of every kind."""
    root = tmp_path / "results" / "ten participants"
    rows = [
        {
            "unit": unit,
            "folder": unit.replace("_", "/"),
            "participant_id": unit.split("_")[0],
            "session_id": unit.partition("_")[2] or None,
            "state": state,
            "reason": None if state == "paired" else f"{state} because",
        }
        for unit, state in STATES.items()
    ]
    write_table(root / "cohort/units.tsv", rows, UNIT)
    write_rows(root / "cohort/cohort_status.tsv", ("unit", "severity"), ("sub-07", "error"))
    split.main(root / "cohort/units.tsv", root / "cohort/split.tsv", root / "cohort/split.json")
    for unit in STATES:
        if unit in ("sub-02", "sub-06"):
            fail(root, "dti", unit, "mask is empty")
        elif STATES[unit] == "paired":
            report(root, "dti", unit, fa_mean=0.25, affine=[[1, 0], [0, 1]])
        if STATES[unit] in ("paired", "t1w-only"):
            report(root, "anat", unit, excluded=[], brain_volume_l=1.5)
    for unit, excluded in (
        ("sub-01", []),
        ("sub-03", ["coverage 0.2 < 0.5"]),
        ("sub-09_ses-1", []),
    ):
        report(root, "grid", unit, excluded=excluded, coverage=0.2, kept="headers")
    fail(root, "grid", "sub-02", "stage dti failed: mask is empty")
    return root


def gather(root):
    cohort = root / "cohort"
    quality.main(
        cohort / "units.tsv",
        cohort / "split.tsv",
        cohort / "split.json",
        root,
        cohort / "quality.tsv",
        cohort / "flow.json",
    )
    return load_quality(cohort / "quality.tsv"), read_json(cohort / "flow.json")


def test_every_unit_has_one_state_with_stage_and_reason(root):
    rows, _ = gather(root)
    assert {row["unit"]: (row["state"], row["stage"], row["reason"]) for row in rows} == {
        "sub-01": ("used", None, None),
        "sub-02": ("failed", "dti", "mask is empty"),
        "sub-03": ("excluded", "grid", "coverage 0.2 < 0.5"),
        "sub-04": ("incomplete", "grid", "not run"),
        "sub-05": ("incomplete", "validate", "t1w-only because"),
        "sub-06": ("failed", "dti", "mask is empty"),
        "sub-07": ("failed", "validate", "failed because"),
        "sub-08": ("excluded", "validate", "excluded because"),
        "sub-09_ses-1": ("used", None, None),
    }


def test_the_flow_counts_every_participant(root):
    rows, flow = gather(root)
    assert flow["n_input"] == len(STATES) == 9
    counts = {k: flow[k] for k in ("n_failed", "n_excluded", "n_incomplete", "n_used")}
    assert counts == {"n_failed": 3, "n_excluded": 2, "n_incomplete": 2, "n_used": 2}
    assert sum(counts.values()) == flow["n_input"]
    assert flow["reasons"]["failed"] == {"dti: mask is empty": 2, "validate: failed because": 1}
    counted = sum(sum(reasons.values()) for reasons in flow["reasons"].values())
    assert counted == flow["n_input"] - flow["n_used"]
    parts = Counter(row["part"] for row in rows)
    assert sum(count_flow(r for r in rows if r["part"] == p)["n_input"] for p in parts) == 9


def test_numbers_keep_their_value_and_are_named_by_stage(root):
    rows, _ = gather(root)
    first = rows[0]
    assert (first["dti_fa_mean"], first["anat_brain_volume_l"]) == (0.25, 1.5)
    assert (first["grid_coverage"], first["grid_kept"]) == (0.2, "headers")
    assert rows[3]["grid_coverage"] is None
    assert not any("affine" in column or "status" in column for column in first)


def test_only_paired_units_have_a_part_and_used_ones_are_found_by_it(root):
    rows, _ = gather(root)
    assert {row["unit"] for row in rows if row["part"]} == {unit for unit, state in STATES.items() if state == "paired"}
    assert used_units(rows) == ["sub-01", "sub-09_ses-1"]
    found = [unit for part in split.PARTS for unit in used_units(rows, part)]
    assert sorted(found) == ["sub-01", "sub-09_ses-1"]


def test_a_status_of_a_scan_no_longer_used_is_not_read(root):
    fail(root, "dti", "sub-05", "left over")
    rows, _ = gather(root)
    assert rows[4]["state"] == "incomplete"


def test_a_failed_deformation_is_a_failure_and_one_that_was_not_asked_for_is_none(root):
    report(root, "deform", "sub-01", kept="affine", folded_share=0.1, reasons=["folded"])
    fail(root, "deform", "sub-09_ses-1", "no template")
    report(root, "deform", "sub-06")
    by_unit = {row["unit"]: row for row in gather(root)[0]}
    assert by_unit["sub-01"]["state"] == "used" and by_unit["sub-01"]["deform_kept"] == "affine"
    one = by_unit["sub-09_ses-1"]
    assert (one["state"], one["stage"], one["reason"]) == ("failed", "deform", "no template")
    assert "deform" not in quality.read_statuses(root, {"unit": "sub-06", "folder": "sub-06", "state": "dwi-only"})


def test_an_edited_split_is_refused(root):
    table = root / "cohort/split.tsv"
    table.write_text(table.read_text().replace("test", "train"))
    with pytest.raises(DataError, match="changed since it was made"):
        gather(root)


def test_status_prints_every_participants_state_and_counts(root, capsys, monkeypatch):
    monkeypatch.chdir(root.parents[1])
    status.main()
    text = capsys.readouterr().out
    lines = {line.split()[0]: line for line in text.splitlines() if line.startswith("sub-")}
    assert list(lines) == list(STATES)
    assert "excluded    grid: coverage 0.2 < 0.5" in lines["sub-03"]
    assert "waiting     grid has not run" in lines["sub-04"]
    assert "failed      dti: mask is empty" in lines["sub-06"]
    assert "9 units: 2 used, 1 waiting, 1 incomplete, 3 failed, 2 excluded" in text
    assert "2  dti: mask is empty" in text


def test_status_lists_missing_models(root):
    for name in ("models/t1-fa/a/training", "models/t1-fa/b/training", "evaluate/t1-fa/c"):
        (root / name).mkdir(parents=True)
    (root / "models/t1-fa/c").mkdir()
    for name in ("models/t1-fa/b/model.json", "models/t1-fa/c/model.json", "evaluate/t1-fa/c/metrics.tsv"):
        (root / name).touch()
    lines = status.describe_results(root).splitlines()
    assert "trained: t1-fa/b, t1-fa/c" in lines and "evaluated: t1-fa/c" in lines
    assert "begun, not yet trained: t1-fa/a" in lines
    assert "trained, not yet evaluated: t1-fa/b" in lines
    assert "  waiting        1  grid has not run" in lines


def test_status_names_translated_units_by_model(root):
    path = root / "synthetic/t1-fa/mean"
    done = unit_path(path, "synth-fa", "sub-09/ses-1", "sub-09_ses-1")
    empty = unit_path(path, "synth-fa", "sub-05", "sub-05")
    for name, content in ((done, b"map"), (empty, b"")):
        file = root / name
        file.parent.mkdir(parents=True)
        file.write_bytes(content)
    units = {row["unit"]: row for row in read_table(root / "cohort/units.tsv")}
    assert status.describe_unit(units["sub-09_ses-1"], {}, root)["translated"] == "mean"
    assert status.describe_unit(units["sub-05"], {}, root)["translated"] == "-"


def test_status_works_from_the_first_stage_on(root, tmp_path):
    for name in ("split.json", "split.tsv"):
        (root / "cohort" / name).unlink()
    assert "9 units" in status.describe_results(root)
    (root / "cohort/units.tsv").unlink()
    assert "not yet listed" in status.describe_results(root)
    (root / "cohort/manifest.tsv").touch()
    assert "listed, not yet validated" in status.describe_results(root)


def test_of_a_large_cohort_only_failures_are_printed(root, monkeypatch):
    monkeypatch.setattr(status, "MOST_LISTED", 5)
    text = status.describe_results(root)
    assert "sub-02" in text
    assert "sub-01" not in text
    assert "(4 more units without failure; --all prints them)" in text
    assert "sub-01" in status.describe_results(root, list_all=True)


def test_status_requires_a_dataset_where_there_are_several(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results/other/cohort").mkdir(parents=True)
    with pytest.raises(DataError, match=r"more than one.*other, .*ten participants.*--results"):
        status.main()
    with pytest.raises(DataError, match="no results here"):
        status.main(tmp_path)


def test_every_number_with_a_limit_has_its_limits_in_the_configuration():
    sections = {"dti": Dti(), "anat": Anat(), "grid": Grid()}
    limits = {column: limits_of(number, sections) for column, number in LIMITED.items()}
    assert limits["dti_md_median_mm2_per_s"] == (0.3e-3, 1.4e-3)
    assert limits["dti_order_share"] == (0.7, None)
    assert limits["grid_shift_mm"] == (None, 30)
    assert all(low is not None or high is not None for low, high in limits.values())
    known = {f"dti.limits.{name}" for name in FitLimits.model_fields}
    assert known <= {number.option for number in LIMITED.values()}


def test_the_numbers_of_failed_units_are_in_the_distribution_too():
    quality = [
        {"unit": "sub-01", "state": "used", "grid_coverage": "0.9", "dti_order_share": None},
        {"unit": "sub-02", "state": "failed", "grid_coverage": None, "dti_order_share": "0.5"},
    ]
    rows = limited_rows(quality, {"dti": Dti(), "anat": Anat(), "grid": Grid()})
    assert [(row["unit"], row["number"], row["value"], row["low"]) for row in rows] == [
        ("sub-02", "dti_order_share", 0.5, 0.7),
        ("sub-01", "grid_coverage", 0.9, 0.5),
    ]
