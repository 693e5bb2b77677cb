"""Quality against time: the jobs' own seconds, beside what others published."""

import pandas as pd
import pytest

from m2m.figures.draw import timed_units
from m2m.figures.figure_records import TIMED as MOST
from m2m.figures.speed import PUBLISHED, draw_speed, speed_rows
from m2m.figures.study import Study
from m2m.options import Report, Task

TIMES = "benchmarks/translate_volume/t1-fa_{0}/{1}/{1}_model-tensor_param-fa.tsv"
SECONDS = {"full": (4.0, 10.0, 6.0), "small": (2.0,), "lost": ()}
TIMED = {f"sub-{i}": f"sub-{i}" for i in range(4)}


@pytest.fixture
def study(tmp_path):
    table = pd.DataFrame(
        {"model": model, "region": region, "metric": metric, "mean": mean, "low": mean - 0.1,
         "high": mean + 0.1, "n_subjects": 8}
        for model in SECONDS
        for region, metric, mean in (
            ("slice", "psnr", 28), ("slice", "ssim", 0.9), ("slice", "mae", 0.1),
            ("brain", "psnr", 24),
        )
    )  # fmt: skip
    folder = tmp_path / "evaluate/t1-fa"
    folder.mkdir(parents=True)
    table.to_csv(folder / "summary.tsv", sep="\t", index=False)
    for model, seconds in SECONDS.items():
        for i, value in enumerate(seconds):
            path = tmp_path / TIMES.format(model, f"sub-{i}")
            path.parent.mkdir(parents=True)
            path.write_text(f"s\th:m:s\tmax_rss\n{value}\t0:00:01\t90\n")
    # Of somebody whose translations are not timed.
    path = tmp_path / TIMES.format("full", "sub-9")
    path.parent.mkdir()
    path.write_text("s\n99\n")
    return Study(
        tmp_path, "t1-fa", Task(models=tuple(SECONDS)), pd.DataFrame(), {}, Report(), TIMED
    )


def test_a_model_stands_at_the_median_of_its_jobs(study):
    measured = [row for row in speed_rows(study) if row["origin"] == "measured"]
    assert [(r["model"], r["metric"], r["seconds"], r["n_timed"]) for r in measured] == [
        (model, metric, *times)
        for model, times in {"full": (6.0, 3), "small": (2.0, 1), "lost": (None, 0)}.items()
        for metric in ("psnr", "ssim")
    ]
    figure = draw_speed(speed_rows(study), study.models)
    for axes, mean in zip(figure.axes, (28, 0.9), strict=True):
        drawn = {c.get_label(): c.lines[0].get_xydata().tolist() for c in axes.containers}
        assert drawn == {"full": [[6, mean]], "small": [[2, mean]], "lost": []}


def test_what_was_published_is_marked_so_and_has_its_source(study):
    published = [row for row in speed_rows(study) if row["origin"] == "published"]
    assert len(published) == 2 * len(PUBLISHED) + 1 and all(row["reference"] for row in published)
    for axes in draw_speed(speed_rows(study), study.models).axes:
        words = [text.get_text() for text in axes.texts if text.get_text() not in "ab"]
        assert len(words) == len(PUBLISHED) + 1 and all("published" in text for text in words)


def test_the_first_test_people_with_both_scans_are_timed():
    def row(i, state="paired"):
        return {"unit": f"sub-{i}", "folder": f"f-{i}", "participant_id": f"p-{i}", "state": state}

    units = [row(0, "t1w-only"), row(1), *map(row, range(2, 50))]
    parts = {row["participant_id"]: "test" for row in units} | {"p-1": "train"}
    found = timed_units(units, parts)
    assert found == {f"sub-{i}": f"f-{i}" for i in range(2, 2 + MOST)}
