"""The overview of the method and the forest plot show the values of their inputs."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba

from m2m.evaluate.measured_maps import compared
from m2m.evaluate.metric_records import panels
from m2m.figures.forest import draw_forest
from m2m.figures.overview import box_text, draw_overview
from m2m.figures.study import Study, Subject
from m2m.figures.task_figures import overview_figure
from m2m.io.files import write_json
from m2m.options import Task

SHAPE, SPACING_MM, CORNER_MM = (12, 14, 10), 4.0, -20.0
MODELS = ("full", "a-off", "b-off", "c-off")
NETWORK = {"planes": ["axial", "coronal", "sagittal"], "mirror": True, "network": {"context": 5}}


def subject(rank="median", models=("full",)):
    """Source and measured map increase to the subject's right; the first model's map is 0.1 higher."""
    source = np.broadcast_to(np.linspace(0, 1, SHAPE[0])[:, None, None], SHAPE).copy()
    mask = np.zeros(SHAPE, bool)
    mask[2:-2, 2:-2, 2:-2] = True
    affine = np.diag([SPACING_MM] * 3 + [1.0])
    affine[:3, 3] = CORNER_MM
    measured = np.where(mask, source, 0)
    synthetic = {model: compared("fa", np.where(mask, source + 0.1, 0)) for model in models}
    return Subject(rank, f"sub-{rank}", rank, 0.9, source, compared("fa", measured), mask, synthetic, affine)


def study(folder, options=NETWORK, task=None):
    task = task or Task(models=MODELS)
    training_task = task.cascade[-1] if task.cascade else "t1-fa"
    record = {"options": options, "parameters": 612_345, "n_train": 13}
    write_json(folder / "models" / training_task / "full/model.json", record)
    return Study(folder, "t1-fa", task, pd.DataFrame(), {})


def test_the_overview_shows_source_slices_synthetic_and_measured_map(tmp_path):
    figure, rows = draw_overview(study(tmp_path), subject())
    shown = [(row["shown"], row["plane"]) for row in rows]
    assert shown == [
        ("source", "axial"),
        ("slices", "axial"),
        ("slices", "coronal"),
        ("slices", "sagittal"),
        ("synthetic", "axial"),
        ("measured", "axial"),
    ]
    by = dict(zip(shown, rows, strict=True))
    assert by["synthetic", "axial"]["mean"] == pytest.approx(by["measured", "axial"]["mean"] + 0.1)
    assert by["slices", "sagittal"]["position_mm"] == CORNER_MM + SPACING_MM * (SHAPE[0] // 2)
    assert {row["unit"] for row in rows} == {"sub-median"}
    # The subject's right is to the right of every axial image.
    images = [axes.get_images()[0].get_array() for axes in figure.axes if axes.get_images()]
    assert len(images) == 6
    for i in (0, 1, 4, 5):
        assert (np.diff(images[i][len(images[i]) // 2]) >= -1e-6)[3:-4].all()


def test_the_box_describes_the_model_of_the_record(tmp_path):
    text = " ".join(box_text(one := study(tmp_path), {"options": NETWORK, "parameters": 612_345, "n_train": 13}))
    for part in (
        "full",
        "5 neighbouring",
        "0.61 M parameters",
        "13 participants",
        "mirrored",
        "averaged",
    ):
        assert part in text
    plain = box_text(one, {"parameters": 0, "n_train": 13})
    assert plain == ["full", "trained on 13 participants"]


def test_a_cascade_names_its_steps_and_a_baseline_has_no_slices(tmp_path):
    task = Task(target="fa", cascade=("first", "last"), models=("full",))
    one = study(tmp_path, task=task)
    assert "of first,\nthen of last" in box_text(one, {"parameters": 0, "n_train": 3})
    _, rows = draw_overview(study(tmp_path / "b", options={}), subject())
    assert [row["shown"] for row in rows] == ["source", "synthetic", "measured"]


def test_the_overview_shows_the_median_and_the_best_only_if_there_is_no_other(tmp_path, monkeypatch):
    def rows_of(given):
        monkeypatch.setattr("m2m.figures.study.load_participants", lambda _: given)
        return overview_figure(study(tmp_path))[1]

    subjects = [subject("best"), subject("median"), subject("worst")]
    for given, unit in ((subjects, "sub-median"), ([subjects[0], subjects[2]], "sub-worst")):
        assert {row["unit"] for row in rows_of(given)} == {unit}
    without = [subject("median", models=()), subject("worst")]
    assert rows_of(without)[0]["unit"] == "sub-worst"
    assert rows_of([]) == []


def table():
    """a-off is worse by PSNR, b-off not significantly different, c-off better; MAE has opposite signs."""
    rows = [
        {
            "model": "full",
            "baseline": other,
            "region": region,
            "metric": metric,
            "difference": sign * middle,
            "low": sign * middle - 0.1,
            "high": sign * middle + 0.1,
            "p_holm": 0.02,
            "n_subjects": 8,
        }
        for region, metric, sign in (("brain", "psnr", 1), ("wm", "mae", -1), ("wm", "psnr", 1))
        for other, middle in zip(MODELS[1:], (0.5, 0.05, -0.4), strict=True)
    ]
    rows.append(rows[0] | {"model": "a-off", "baseline": "b-off"})
    return pd.DataFrame(rows)


def dots(axes):
    """Position of each dot, and whether it is filled."""
    return {
        (float(x), float(y)): to_rgba(line.get_markerfacecolor()) != (1, 1, 1, 1)
        for line in axes.lines
        if line.get_marker() == "o"
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
    }


def test_the_forest_shows_the_first_model_minus_each_other_and_fills_significant_differences():
    figure, rows = draw_forest(table(), MODELS, "scalar")
    psnr, ssim, *_ = figure.axes
    assert dots(psnr) == {(0.5, 0): True, (0.05, 1): False, (-0.4, 2): True}
    uncorrected, _ = draw_forest(table().assign(p_holm=0.06), MODELS, "scalar")
    assert not any(dots(uncorrected.axes[0]).values())  # intervals without 0, and p above .05 after correction
    assert [t.get_text() for t in psnr.get_yticklabels()] == list(MODELS[1:])
    assert psnr.get_ylim()[0] > psnr.get_ylim()[1]  # the first at the top
    assert {(row["region"], row["metric"]) for row in rows} == {("brain", "psnr"), ("wm", "mae")}
    assert all(row["model"] == "full" for row in rows) and len(rows) == 6
    assert "not computed" in {text.get_text() for text in ssim.texts}


def test_better_is_to_the_right_in_every_panel():
    for nature in ("scalar", "density", "tensor"):
        figure, _ = draw_forest(table(), MODELS, nature)
        for axes, (_, metric) in zip(figure.axes, panels("forest", nature), strict=True):
            left, right = axes.get_xlim()
            assert (left > right) == (metric in ("mae", "angle_deg"))


def test_a_difference_far_beyond_all_others_is_a_number_at_the_edge():
    others = [f"m{i}" for i in range(8)]
    rows = [
        {
            "model": "full",
            "baseline": other,
            "region": "brain",
            "metric": "psnr",
            "difference": 9.0 if i == 7 else 0.1 * i,
            "low": 8.0 if i == 7 else 0.1 * i - 0.1,
            "high": 10.0 if i == 7 else 0.1 * i + 0.1,
            "p_holm": 0.02,
            "n_subjects": 8,
        }
        for i, other in enumerate(others)
    ]
    figure, shown = draw_forest(pd.DataFrame(rows), ["full", *others], "scalar")
    psnr = figure.axes[0]
    assert max(psnr.get_xlim()) < 2.5 and 9.0 not in {x for x, _ in dots(psnr)}
    (text,) = psnr.texts[:1]
    assert text.get_text() == "+9" and text.get_position()[1] == 7
    assert shown[7]["difference"] == 9.0
