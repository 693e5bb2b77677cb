"""Quality versus computation time: seconds of the jobs that made the evaluated maps."""

import pandas as pd
import pytest

from m2m.figures.draw import timed_units
from m2m.figures.figure_records import TIMED as LIMIT
from m2m.figures.speed import draw_speed, speed_rows
from m2m.figures.study import Study
from m2m.options import Task

TIMES = "benchmarks/translate_volume/t1-fa_{0}/{1}/{1}_model-tensor_param-fa.tsv"
SECONDS = {"full": (4.0, 10.0, 6.0), "small": (2.0,), "lost": ()}
TIMED = {f"sub-{i}": f"sub-{i}" for i in range(4)}


@pytest.fixture
def study(tmp_path):
    table = pd.DataFrame(
        {
            "model": model,
            "region": region,
            "metric": metric,
            "mean": mean,
            "low": mean - 0.1,
            "high": mean + 0.1,
            "n_subjects": 8,
        }
        for model in SECONDS
        for region, metric, mean in (
            ("brain", "psnr", 24),
            ("brain", "ssim", 0.8),
            ("brain", "mae", 0.1),
            ("slice", "psnr", 28),
        )
    )
    folder = tmp_path / "evaluate/t1-fa"
    folder.mkdir(parents=True)
    table.to_csv(folder / "summary.tsv", sep="\t", index=False)
    for model, seconds in SECONDS.items():
        for i, value in enumerate(seconds):
            path = tmp_path / TIMES.format(model, f"sub-{i}")
            path.parent.mkdir(parents=True)
            path.write_text(f"s\th:m:s\tmax_rss\n{value}\t0:00:01\t90\n")
    # A participant whose translations are not timed.
    path = tmp_path / TIMES.format("full", "sub-9")
    path.parent.mkdir()
    path.write_text("s\n99\n")
    return Study(tmp_path, "t1-fa", Task(models=tuple(SECONDS)), pd.DataFrame(), {}, TIMED)


def test_a_model_is_drawn_at_the_median_time_of_its_jobs(study):
    assert [(r["model"], r["metric"], r["seconds"], r["n_timed"]) for r in speed_rows(study)] == [
        (model, metric, *times)
        for model, times in {"full": (6.0, 3), "small": (2.0, 1), "lost": (None, 0)}.items()
        for metric in ("psnr", "ssim")
    ]
    figure = draw_speed(speed_rows(study), study.models)
    for axes, mean in zip(figure.axes, (24, 0.8), strict=True):
        drawn = {c.get_label(): c.lines[0].get_xydata().tolist() for c in axes.containers}
        assert drawn == {"full": [[6, mean]], "small": [[2, mean]], "lost": []}


def test_no_number_of_other_data_stands_beside_the_models(study):
    for axes in draw_speed(speed_rows(study), study.models).axes:
        assert {text.get_text() for text in axes.texts} <= set("ab")
        assert sum(len(line.get_xdata()) for line in axes.lines if line.get_marker() not in ("None", "")) <= 3


def test_the_first_test_participants_with_both_scans_are_timed():
    def row(i, state="paired"):
        return {"unit": f"sub-{i}", "folder": f"f-{i}", "participant_id": f"p-{i}", "state": state}

    units = [row(0, "t1w-only"), row(1), *map(row, range(2, 50))]
    parts = {row["participant_id"]: "test" for row in units} | {"p-1": "train"}
    found = timed_units(units, parts)
    assert found == {f"sub-{i}": f"f-{i}" for i in range(2, 2 + LIMIT)}
