"""Quality versus computation time: seconds of the translations that made the evaluated maps."""

import pandas as pd
import pytest

from m2m.figures.speed import draw_speed, speed_rows
from m2m.figures.study import Study
from m2m.io.files import write_json
from m2m.options import Task

STATUS = "synthetic/t1-fa/{0}/{1}/dwi/{1}_desc-synth_model-tensor_param-fa_status.json"
SECONDS = {"full": (4.0, 10.0, 6.0), "small": (2.0,), "lost": ()}
TESTED = {f"sub-{i}": f"sub-{i}" for i in range(4)}


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
            write_json(tmp_path / STATUS.format(model, f"sub-{i}"), {"status": "ok", "seconds": value})
    # One that failed, and one that is not in the test part.
    write_json(tmp_path / STATUS.format("full", "sub-3"), {"status": "failed"})
    write_json(tmp_path / STATUS.format("full", "sub-9"), {"status": "ok", "seconds": 99})
    return Study(tmp_path, "t1-fa", Task(models=tuple(SECONDS)), pd.DataFrame(), TESTED)


def test_a_model_is_drawn_at_the_median_time_of_its_translations(study):
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
