"""Two finished studies on one page: their tables side by side, and differences where both have task and metric."""

import json

import numpy as np
import pytest
from scipy import stats
from test_report import Page
from typer.testing import CliRunner

from m2m import cli
from m2m.evaluate.statistics import Estimate, independent_difference, student_mean
from m2m.io.errors import DataError
from m2m.io.files import write_json
from m2m.io.tables import write_table
from m2m.options import load_config
from m2m.report.studies_page import compare_studies

COUNTS = {"n_input": 9, "n_failed": 1, "n_excluded": 0, "n_incomplete": 0, "n_used": 8}
VALUES = {"north": [0.80, 0.82, 0.85, 0.83], "south": [0.71, 0.75, 0.72, 0.76, 0.74]}
CONFIG = json.loads(load_config("config.yaml").model_dump_json())


def summary(values, model="m2m", metric="ssim", **changed):
    found = student_mean(values)
    row = {"task": "t1-fa", "model": model, "region": "brain", "metric": metric, "mean": found.value}
    return row | {"low": found.low, "high": found.high, "n_subjects": found.n_subjects} | COUNTS | changed


def study(root, *rows, tasks=("t1-fa",), models=("m2m", "mean"), spacing_mm=3.0):
    kept = {name: CONFIG["tasks"][name] | {"models": list(models)} for name in tasks}
    anat = CONFIG["anat"] | {"spacing_mm": spacing_mm}
    write_json(root / "logs/config.json", CONFIG | {"tasks": kept, "anat": anat})
    write_json(root / "cohort/flow.json", COUNTS)
    for name in tasks:
        write_table(root / f"evaluate/{name}/summary.tsv", rows, list(rows[0]))
    return root


@pytest.fixture
def both(tmp_path):
    north = study(tmp_path / "north", summary(VALUES["north"]), summary([0.6, 0.61, 0.64], "mean"))
    south = study(tmp_path / "south", summary(VALUES["south"]), summary([0.5, 0.6], "mean"), spacing_mm=2.0)
    return north, south


def page_of(*roots):
    out = roots[0].parent / "studies.html"
    compare_studies(*roots, out)
    return Page(out.read_text(encoding="utf-8"))


def test_the_tables_stand_side_by_side_with_the_differences(both):
    head, row, *_ = page_of(*both).tables["summary-t1-fa"]
    names = ["north: m2m", "north: mean", "south: m2m", "south: mean"]
    assert head[3:] == [*names, "south − north: m2m", "south − north: mean"]
    found = stats.ttest_ind(VALUES["south"], VALUES["north"], equal_var=False)
    low, high = found.confidence_interval()
    difference = np.mean(VALUES["south"]) - np.mean(VALUES["north"])
    known = f"{difference:.3f}[{low:.3f}, {high:.3f}]".replace("-", "−")
    assert row[:2] == ["brain", "SSIM"] and row[3].startswith("0.825[") and row[5].startswith("0.736[")
    assert row[7] == known
    assert row[8].endswith("[interval n/a]")  # two participants


def test_the_options_that_differ_and_the_counts_are_listed(both):
    page = page_of(*both)
    assert page.tables["different-options"][1:] == [["anat.spacing_mm", "3.0", "2.0"]]
    assert page.tables["counts"][1:] == [
        ["north", "9", "1", "0", "0", "8", "4"],
        ["south", "9", "1", "0", "0", "8", "5"],
    ]


def test_a_rate_has_no_interval_of_its_difference(tmp_path):
    rows = [summary([1, 1, 0, 1], metric="identification", region="rois")]
    page = page_of(study(tmp_path / "a", *rows), study(tmp_path / "b", *rows))
    row = page.tables["summary-t1-fa"][1]
    assert row[7] == "0.00[interval n/a]"


def test_other_models_are_compared_by_the_first_and_other_tasks_stand_alone(tmp_path):
    a = study(tmp_path / "a/demo", summary(VALUES["north"], "pix2pix"), models=["pix2pix"])
    b = study(tmp_path / "b/demo", summary(VALUES["south"]), tasks=("t1-fa", "t1-tdi"))
    page = page_of(a, b)
    assert page.tables["summary-t1-fa"][0][-1] == "B, demo − A, demo: m2m − pix2pix"
    assert page.tables["summary-alone-1"][0][3:] == ["B, demo: m2m", "B, demo: mean"]


def test_a_study_that_is_not_finished_is_named_with_what_to_do(both, tmp_path):
    (both[1] / "evaluate/t1-fa/summary.tsv").unlink()
    with pytest.raises(DataError, match=r"not finished.*evaluate/t1-fa/summary.tsv.*snakemake.*to its end") as caught:
        compare_studies(*both, tmp_path / "out.html")
    assert str(both[1]) in str(caught.value)
    with pytest.raises(DataError, match=r"no folder of results.*logs/config.json"):
        compare_studies(both[0], tmp_path, tmp_path / "out.html")
    with pytest.raises(DataError, match="is given twice"):
        compare_studies(both[0], both[0], tmp_path / "out.html")
    assert not (tmp_path / "out.html").exists()


def test_the_command_takes_two_folders_or_a_root_and_its_configuration(both):
    out = both[0].parent / "a.html"
    found = CliRunner().invoke(cli.app, ["report", "--compare", *map(str, both), "--out", str(out)])
    assert found.exit_code == 0 and "1 tasks of both studies, 0 of one" in found.output and out.exists()
    assert CliRunner().invoke(cli.app, ["report"]).exit_code == 2


def test_equal_means_without_spread_differ_by_nothing():
    one = Estimate(0.5, 0.5, 0.5, 4)
    assert independent_difference(one, one) == Estimate(0.0, 0.0, 0.0, 8)
