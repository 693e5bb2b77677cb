"""The figure of quality against resolution shows each model where it was fitted."""

import pytest

from m2m.evaluate.metric_tables import SUMMARY_COLUMNS
from m2m.figures.ratio import COLUMNS, draw_ratio, ratio_rows
from m2m.io.tables import write_table
from m2m.options import Task

LOW = {"synthesis_task": "cms", "baselines": ["fgdl-cms"], "source": "map"}
TASKS = {
    "t1-lr4-fa": Task(low_res=LOW | {"factor": 4}, models=("fgdl-sr", "fgdl-cms")),
    "t1-lr2-fa": Task(low_res=LOW | {"factor": 2}, models=("fgdl-sr", "fgdl-cms")),
    "cms": Task(models=("fgdl-cms",)),
}
PSNR = {("t1-lr2-fa", "fgdl-sr"): 30.0, ("t1-lr4-fa", "fgdl-sr"): 28.0, ("cms", "fgdl-cms"): 25.0}


@pytest.fixture
def rows(tmp_path):
    for name, task in TASKS.items():
        table = [
            {
                "task": name,
                "model": model,
                "region": region,
                "metric": "psnr",
                "mean": PSNR.get((name, model), 25.0),
                "low": 24.0,
                "high": 31.0,
                "n_subjects": 8,
            }
            for model in task.models
            for region in ("brain", "wm")
        ]
        (tmp_path / "evaluate" / name).mkdir(parents=True)
        write_table(tmp_path / "evaluate" / name / "summary.tsv", table, SUMMARY_COLUMNS)
    return ratio_rows(tmp_path, TASKS)


def test_each_model_appears_once_where_it_was_fitted(rows):
    found = {(row["task"], row["model"]): (row["ratio"], row["mean"]) for row in rows}
    assert found == {
        ("t1-lr2-fa", "fgdl-sr"): (2, 30.0),
        ("t1-lr4-fa", "fgdl-sr"): (4, 28.0),
        ("cms", "fgdl-cms"): (None, 25.0),
    }
    assert set(rows[0]) == set(COLUMNS)


def test_ratios_are_in_order_with_the_t1_alone_at_the_end(rows):
    axes = draw_ratio(rows).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1/2", "1/4", "T1 alone"]
    lines = {c.get_label(): c.lines[0] for c in axes.containers}
    assert lines["fgdl-sr"].get_xdata().tolist() == [0, 1]
    assert lines["fgdl-sr"].get_ydata().tolist() == [30.0, 28.0]
    assert lines["fgdl-cms"].get_xdata().tolist() == [2]


def test_models_of_the_t1_alone_are_side_by_side(rows):
    twins = [row | {"model": "twin"} for row in rows if row["model"] == "fgdl-cms"]
    lines = {c.get_label(): c.lines[0] for c in draw_ratio(rows + twins).axes[0].containers}
    places = [lines[model].get_xdata().item() for model in ("fgdl-cms", "twin")]
    assert places == pytest.approx([1.95, 2.05])
