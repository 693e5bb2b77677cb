"""Figures: always written, with the numbers behind them, and honest about who was simulated."""

import numpy as np
import pytest
import report_tree as tree
from matplotlib.colors import to_rgb
from PIL import Image

from m2m.figures import cohort, panel, style, training
from m2m.figures import main as figures
from m2m.options import Report
from m2m.stage import read_table, write_text

NAMES = ("flow", "panel", "metrics", "profile", "rois", "training")


def draw(root, simulated=True, models=tree.MODELS):
    folder = root / "cohort"
    figures(
        root, tree.TASK, list(models), folder / "units.tsv", folder / "split.tsv",
        folder / "split.json", folder / "quality.tsv", folder / "flow.json", root / "figures",
        simulated, Report(band_resamples=50).model_dump_json(),
    )  # fmt: skip
    return root / "figures"


@pytest.fixture(scope="module", autouse=True)
def coarse():
    """Few pixels: these tests read numbers, people look at the pictures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(style.RC, "savefig.dpi", 50)
        yield


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    root = tree.run_evaluation(tree.build(tmp_path_factory.mktemp("results") / "ds"))
    return draw(root)


@pytest.mark.parametrize("name", NAMES)
def test_each_figure_is_a_pdf_a_png_and_its_numbers(drawn, name):
    pdf = (drawn / f"{name}.pdf").read_bytes()
    assert pdf.startswith(b"%PDF") and pdf.rstrip().endswith(b"%%EOF")
    # TrueType fonts, embedded: Type 3 fonts are refused by journals.
    assert b"/FontFile2" in pdf and b"/Type3" not in pdf
    with Image.open(drawn / f"{name}.png") as picture:
        pixels = np.asarray(picture.convert("L"))
        assert pixels.shape[1] in (round(style.DOUBLE_MM / 25.4 * 50), 360)
    assert pixels.std() > 5
    assert read_table(drawn / f"{name}.tsv")


def test_no_two_models_share_a_colour_and_all_can_be_told_apart_in_grey():
    used = list(style.colours(["macro2micro", "mean", "t1"]).values())
    assert len(set(used)) == 3
    grey = [np.dot(to_rgb(colour), (0.299, 0.587, 0.114)) for colour in used]
    assert min(abs(a - b) for i, a in enumerate(grey) for b in grey[:i]) > 0.05


def test_the_metrics_drawn_are_the_metrics_measured(drawn):
    measured = read_table(drawn.parent / "evaluation/t1-fa/mean/metrics.tsv")
    expected = {r["participant_id"]: float(r["ssim"]) for r in measured if r["region"] == "brain"}
    shown = {
        r["participant_id"]: float(r["value"])
        for r in read_table(drawn / "metrics.tsv")
        if (r["model"], r["region"], r["metric"]) == ("mean", "brain", "ssim")
    }
    assert shown == expected


def test_the_profile_is_the_mean_over_units(drawn):
    rows = read_table(drawn.parent / "evaluation/t1-fa/t1/profile.tsv")
    expected = np.mean([float(r["mae"]) for r in rows if float(r["offset_mm"]) == 0])
    (shown,) = [
        r for r in read_table(drawn / "profile.tsv")
        if (r["model"], r["metric"]) == ("t1", "mae") and float(r["offset_mm"]) == 0
    ]  # fmt: skip
    assert float(shown["mean"]) == pytest.approx(expected, rel=1e-4)
    assert float(shown["low"]) <= float(shown["mean"]) <= float(shown["high"])
    assert shown["n_units"] == "6"


def test_the_panel_shows_the_best_the_median_and_the_worst_by_the_first_model(drawn):
    rows = read_table(drawn.parent / "evaluation/t1-fa/macro2micro/metrics.tsv")
    ssim = {r["unit"]: float(r["ssim"]) for r in rows if r["region"] == "brain"}
    shown = {r["rank"]: r["unit"] for r in read_table(drawn / "panel.tsv")}
    assert ssim[shown["best"]] == max(ssim.values())
    assert ssim[shown["worst"]] == min(ssim.values())
    assert ssim[shown["worst"]] < ssim[shown["median"]] < ssim[shown["best"]]


def test_ranking_never_shows_one_unit_twice():
    assert panel.ranked({}) == {}
    assert panel.ranked({"a": 0.9}) == {"best": "a"}
    assert panel.ranked({"a": 0.9, "b": 0.8}) == {"best": "a", "worst": "b"}


def test_a_slice_is_shown_with_the_front_up_and_the_right_to_the_right():
    image = np.zeros((4, 5, 6))
    image[3, 4, 2] = 1
    axial = panel.cut(image, "axial", 2)
    assert axial.shape == (5, 4)
    assert axial[-1, -1] == 1  # drawn with the origin at the lower left


def test_the_flow_counts_everybody_once(drawn):
    rows = read_table(drawn / "flow.tsv")
    n = {row["detail"]: int(row["n"]) for row in rows}
    steps = {row["step"]: int(row["n"]) for row in rows}
    left = sum(int(r["n"]) for r in rows if r["step"] == "left")
    assert (steps["input"], steps["paired"], steps["used"]) == (13, 12, 12)
    assert steps["input"] - left == steps["paired"]
    assert (n["train"], n["validation"], n["test"], steps["evaluated"]) == (5, 1, 6, 6)


def test_failed_and_excluded_units_leave_the_flow_between_paired_and_used():
    units = [{"unit": str(i), "participant_id": str(i), "state": "paired"} for i in range(5)]
    states = ("used", "used", "failed", "excluded", "incomplete")
    quality = [{"unit": str(i), "state": state} for i, state in enumerate(states)]
    steps = cohort.cohort_steps(units, dict.fromkeys("01234", "test"), quality, 2)
    assert [r["n"] for r in steps if r["step"] == "lost"] == [1, 1, 1]
    assert [r["n"] for r in steps if r["step"] == "part"] == [0, 0, 2]


def test_every_step_of_training_is_drawn(drawn):
    rows = read_table(drawn / "training.tsv")
    names = {row["name"] for row in rows}
    assert names == {"image", "low", "grad_norm/generator", "brain_mae"}
    assert {row["model"] for row in rows if row["step"] is None} == {"mean", "t1"}
    assert sum(row["name"] == "image" for row in rows) == 20


def test_nested_training_records_become_one_name_each(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 3, "split": "train", "grad_norm": {"generator": 2.0}, "ok": true}\n')
    (row,) = training.read_curves(path, "m")
    assert (row["name"], row["value"], row["step"]) == ("grad_norm/generator", 2.0, 3)


@pytest.fixture
def empty_study(tmp_path):
    """Nobody to test, nothing trained in steps."""
    root = tree.build(tmp_path / "ds", {"sub-01": "train", "sub-02": "validation"})
    write_text(root / "models" / tree.TASK / "macro2micro/metrics.jsonl", "")
    return tree.run_evaluation(root)


def test_simulated_people_are_named_on_every_figure_and_real_ones_are_not(empty_study, monkeypatch):
    notes = []
    monkeypatch.setattr("m2m.figures.save", lambda *arguments: notes.append(arguments[-1]))
    draw(empty_study, simulated=True)
    assert len(notes) == len(NAMES)
    assert all("says nothing about brains" in note and "n_used 2" in note for note in notes)
    notes.clear()
    draw(empty_study, simulated=False)
    assert all(note.startswith("n_input 3") for note in notes)


def test_nobody_to_test_gives_every_figure_in_words(empty_study):
    folder = draw(empty_study, simulated=False)
    for name in NAMES:
        assert all((folder / f"{name}.{ending}").stat().st_size for ending in ("pdf", "png", "tsv"))
    assert read_table(folder / "panel.tsv") == []
    assert (folder / "panel.tsv").read_text().startswith("rank\tunit")
